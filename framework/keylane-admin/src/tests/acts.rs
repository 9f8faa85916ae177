//! Acts on keys and records: who may order them, and how they are passed on.

use super::*;
use crate::acts::{Key, Place};

async fn order(shared: &Arc<Shared>, path: &str, body: &str) -> Answer {
    let request = request("POST", path).header("Authorization", format!("Bearer {TOKEN}"));
    ask(shared, request.body(Body::from(body.to_owned())).unwrap()).await
}

#[tokio::test]
async fn an_act_is_passed_on_with_who_and_why_and_its_answer_says_what_happens() {
    let subscription = troubled("a");
    let shared = shared([&subscription], Some(TOKEN));
    let by_hash =
        r#"{"key_hash": "1f60e652ab9e07d6", "topic": "tasks", "by": "ann", "why": "INC-7"}"#;
    let paused = order(&shared, "/v1/subscriptions/a/keys/pause", by_hash).await;
    assert_eq!(paused.status, StatusCode::OK, "{}", paused.text);
    let paused = paused.json();
    assert_eq!(
        (&paused["action"], &paused["key_hash"], &paused["result"]),
        (
            &"pause_key".into(),
            &"1f60e652ab9e07d6".into(),
            &"paused".into()
        )
    );
    let by_key = r#"{"key": "vehicle-4711", "by": "ann", "why": "INC-7"}"#;
    let retried = order(&shared, "/v1/subscriptions/a/keys/retry-now", by_key).await;
    assert_eq!(retried.json()["result"], "not_pending");
    let path = "/v1/subscriptions/a/partitions/tasks/0/records/41/dead-letter-now";
    let given_up = order(&shared, path, r#"{"by": "ann", "why": "INC-7"}"#).await;
    assert_eq!(given_up.json()["result"], "after_its_attempt");
    let held = "/v1/subscriptions/a/release-held";
    let released = order(&shared, held, r#"{"by": "ann", "why": "INC-7"}"#).await;
    assert_eq!(
        (&released.json()["result"], &released.json()["dry_run"]),
        (&"released".into(), &false.into())
    );
    let note = || OperatorNote::new("ann", "INC-7");
    let hash = KeyHash::of(b"vehicle-4711");
    let topic = Some("tasks".to_owned());
    let place = Place {
        topic: "tasks".to_owned(),
        partition: 0,
        offset: 41,
    };
    assert_eq!(
        subscription.asked().acts,
        [
            (Act::PauseKey(Key { topic, hash }), note()),
            (Act::RetryNow(Key { topic: None, hash }), note()),
            (Act::DeadLetterNow(place), note()),
            (Act::ReleaseHeld, note()),
        ]
    );
}

#[tokio::test]
async fn a_body_without_a_key_or_without_who_and_why_is_refused() {
    let subscription = troubled("a");
    let shared = shared([&subscription], Some(TOKEN));
    let keys = "/v1/subscriptions/a/keys/pause";
    let record = "/v1/subscriptions/a/partitions/tasks/0/records/41/skip";
    for (path, body) in [
        (keys, ""),
        (keys, "pause"),
        (keys, r#"{"by": "ann", "why": "INC-7"}"#),
        (keys, r#"{"key_hash": "1f60", "by": "ann", "why": "INC-7"}"#),
        (
            keys,
            r#"{"key": "a", "key_hash": "1f60e652ab9e07d6", "by": "ann", "why": "INC-7"}"#,
        ),
        (keys, r#"{"key": "a", "by": "ann"}"#),
        (keys, r#"{"key": "a", "by": "ann", "why": " "}"#),
        (keys, r#"{"kye": "a", "by": "ann", "why": "INC-7"}"#),
        (record, r#"{"by": "ann"}"#),
        (record, r#"{"by": "ann", "why": "INC-7", "dry_run": "yes"}"#),
        ("/v1/subscriptions/a/release-held", ""),
        ("/v1/subscriptions/a/release-held", r#"{"by": "ann"}"#),
    ] {
        let answer = order(&shared, path, body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        assert_eq!(answer.json()["code"], "bad_body", "{body}");
    }
    let place = "/v1/subscriptions/a/partitions/tasks/0/records/first/skip";
    let answer = order(&shared, place, r#"{"by": "ann", "why": "INC-7"}"#).await;
    assert_eq!(answer.json()["code"], "bad_path");
    assert_eq!(subscription.asked().acts, []);
}

#[tokio::test]
async fn an_act_that_is_done_in_part_says_in_how_many_partitions() {
    let shared = shared([&troubled("a")], Some(TOKEN));
    let body = r#"{"key": "full", "by": "ann", "why": "INC-7"}"#;
    let answer = order(&shared, "/v1/subscriptions/a/keys/pause", body).await;
    let problem = answer.json();
    assert_eq!(
        (answer.status, &problem["code"]),
        (StatusCode::CONFLICT, &"too_many".into())
    );
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.contains("in 1 partitions") && detail.contains("done in 7 others"),
        "{detail}"
    );
}

#[tokio::test]
async fn an_act_without_an_answer_is_not_reported_as_done() {
    let shared = shared([&troubled("a")], Some(TOKEN));
    let path = "/v1/subscriptions/a/partitions/tasks/0/records/503/skip";
    let answer = order(&shared, path, r#"{"by": "ann", "why": "INC-7"}"#).await;
    assert_eq!(
        (answer.status, &answer.json()["code"]),
        (StatusCode::SERVICE_UNAVAILABLE, &"no_answer".into())
    );
}

#[tokio::test]
async fn a_dry_run_says_what_an_act_would_find_and_asks_for_none() {
    let subscription = troubled("a");
    let shared = shared([&subscription], Some(TOKEN));
    let key = r#"{"key": "vehicle-4711", "by": "ann", "why": "INC-7", "dry_run": true}"#;
    let record = r#"{"by": "ann", "why": "INC-7", "dry_run": true}"#;
    let records = "partitions/tasks/0/records/41";
    for (path, body, result, of_key) in [
        ("keys/pause", key, "paused", 4),
        ("keys/resume", key, "resumed", 4),
        ("keys/retry-now", key, "retried", 4),
        (&format!("{records}/skip"), record, "after_its_attempt", 4),
        (
            &format!("{records}/dead-letter-now"),
            record,
            "after_its_attempt",
            4,
        ),
        ("release-held", record, "released", 0),
    ] {
        let path = format!("/v1/subscriptions/a/{path}");
        let answer = order(&shared, &path, body).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        let answer = answer.json();
        assert_eq!(
            (&answer["dry_run"], &answer["result"]),
            (&true.into(), &result.into()),
            "{path}"
        );
        assert_eq!(
            answer["of_key"]["pending"].as_u64().unwrap_or_default(),
            of_key,
            "{path}"
        );
        let text = answer["text"].as_str().unwrap();
        assert!(text.starts_with("nothing was changed"), "{text}");
        if path.contains("records") {
            assert_eq!(answer["attempts"], 2);
            assert_eq!(answer["key_hash"], "1f60e652ab9e07d6");
        }
    }
    let refused = "/v1/subscriptions/a/partitions/tasks/0/records/409/skip";
    let refused = order(&shared, refused, record).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert_eq!(subscription.asked().acts, []);
}
