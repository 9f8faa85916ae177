//! G12: an operator moves a group's position. Neither Apache's tool, which writes no metadata, nor
//! keylane's own leaves a map behind that is not true, and neither resets under live members.

use std::time::Duration;

use keylane::config::Backoff;
use keylane::subscription::SubscriptionBuilder;
use keylane::{Retry, TaskError};
use keylane_core::{Position, commit_map};
use keylane_integration_tests::{
    for_protocols,
    gate::Gate,
    journal::Work,
    kafka::{Committed, Nodes},
    kafka_or_skip,
    load::numbered,
    member::number,
    protocol::Protocol,
    scene::{DEADLINE, FailureScene, Scene},
    wait::wait_for,
};
use serde_json::{Value, json};

use super::commands::keylane;

const RECORDS: i64 = 20;

/// Reads both topics.
fn with_retries(scene: &FailureScene<'_>) -> SubscriptionBuilder {
    let retry = Retry::none().then_topic_named(&scene.retry);
    let backoff = Backoff::fixed(Duration::from_millis(5));
    scene.subscribe().retry(retry.topic_backoff(backoff))
}

/// The offsets of the origin that `member` has begun, in ascending order.
fn begun(scene: &Scene<'_>, member: &str) -> Vec<i64> {
    let mut begun = scene.started(|work| work.member == member && work.topic == scene.topic);
    begun.sort_unstable();
    begun
}

/// A member ends while the record 5 runs, and while a retry waits in the retry topic: both topics
/// have a map. Apache's tool moves the origin to `target`, and the next member begins there.
async fn reset_by_apaches_tool(target: i64) {
    let kafka = kafka_or_skip!(Nodes::One);
    let scene = FailureScene::new(kafka, 1, Protocol::Cooperative).await;
    scene.write(numbered(0..20, 20)).await;
    let gate = Gate::closed();
    let (inside, retry) = (gate.clone(), scene.retry.clone());
    let process = move |task: keylane::Task<bytes::Bytes>| {
        let (gate, is_retry) = (inside.clone(), task.topic() == retry);
        async move {
            match number(&task) {
                3 if !is_retry => Err(TaskError::retryable("the first time")),
                3 | 5 => {
                    gate.passed().await;
                    Ok(())
                }
                _ => Ok(()),
            }
        }
    };
    let first = scene.start(with_retries(&scene), "first", process).await;
    scene.unclaimed_at([5]).await;
    let is_retry = |work: &Work| work.topic == scene.retry;
    wait_for("the retry runs", DEADLINE, async || {
        (!scene.started(is_retry).is_empty()).then_some(())
    })
    .await;
    let _ = first.shutdown_within(Duration::ZERO).await;
    let before = scene.committed().await.remove(0);
    assert!(
        before.offset == Some(5) && before.metadata.starts_with("kl1."),
        "{before:?}"
    );
    let of_retries = scene
        .kafka
        .committed(&scene.group, &scene.retry)
        .await
        .unwrap();

    let (topic, group, to) = (&scene.topic, &scene.group, target.to_string());
    let select = ["--group", group, "--topic", topic];
    let act = ["--reset-offsets", "--to-offset", &to, "--execute"];
    let printed = kafka
        .consumer_groups_tool(&[select, act].concat())
        .await
        .unwrap();
    let expected = Committed {
        partition: 0,
        offset: Some(target),
        metadata: String::new(),
    };
    assert_eq!(scene.committed().await, [expected], "{printed}");
    let now = scene
        .kafka
        .committed(&scene.group, &scene.retry)
        .await
        .unwrap();
    assert_eq!(now, of_retries, "the retry topic was not named");

    let second = scene
        .worker(with_retries(&scene), "second", Duration::ZERO)
        .await;
    scene.all_claimed_of(&scene.topic).await;
    scene.all_claimed_of(&scene.retry).await;
    second.shutdown().await.unwrap();
    let all: Vec<i64> = (target..RECORDS).collect();
    assert_eq!(
        begun(&scene, "second"),
        all,
        "each once, whatever the old map named"
    );
    let retries = scene.started(|work| work.member == "second" && is_retry(work));
    assert_eq!(
        retries,
        [0],
        "what waited in the retry topic is done besides, once"
    );
    scene.assert_all_committed().await;
    gate.open();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_by_apaches_tool_is_clean_also_beside_a_retry_topic() {
    reset_by_apaches_tool(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_that_apaches_tool_moves_into_the_old_map_is_clean_too() {
    reset_by_apaches_tool(8).await;
}

async fn reset_by_the_command_line(protocol: Protocol) {
    let kafka = kafka_or_skip!(Nodes::One);
    let scene = Scene::new(kafka, 1).await.by(protocol);
    scene.write(numbered(0..20, 20)).await;
    let first = scene
        .worker(scene.subscribe(), "first", Duration::ZERO)
        .await;
    scene.all_committed().await;
    let before = scene.committed().await;

    let reset = [
        "offsets",
        "reset",
        &scene.group,
        "-t",
        &scene.topic,
        "-o",
        "json",
    ];
    let back = [&reset[..], &["--to-offset", "5", "--yes"]].concat();
    let (code, _, messages) = keylane(kafka, &back).await;
    assert_eq!(code, 1, "{messages}");
    assert!(messages.contains("live members"), "{messages}");
    assert_eq!(scene.committed().await[0].offset, before[0].offset);
    first.shutdown().await.unwrap();

    let by_time = [&reset[..], &["--to-time", "1h", "--dry-run"]].concat();
    let (code, output, messages) = keylane(kafka, &by_time).await;
    assert_eq!(code, 0, "{messages}");
    let planned: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(
        (&planned[0]["to"], &planned[0]["repeated"]),
        (&0.into(), &RECORDS.into())
    );

    let (code, output, messages) = keylane(kafka, &back).await;
    assert_eq!(code, 0, "{messages}");
    let done: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(done[0]["repeated"], RECORDS - 5);
    let committed = scene.committed().await.remove(0);
    assert_eq!(committed.offset, Some(5));
    let content = commit_map::decode(Position::new(5), &committed.metadata).unwrap();
    assert!(
        content.log.is_some() && content.settled.is_empty(),
        "{content:?}"
    );
    let place = format!("{}/0", scene.topic);
    let (code, map, _) = keylane(kafka, &["map", &scene.group, &place, "-o", "json"]).await;
    assert_eq!(code, 0);
    let map: Value = serde_json::from_str(&map).unwrap();
    assert_eq!(map["log"]["is_present"], true);

    let second = scene
        .worker(scene.subscribe(), "second", Duration::ZERO)
        .await;
    scene.all_claimed_of(&scene.topic).await;
    second.shutdown().await.unwrap();
    assert_eq!(begun(&scene, "second"), (5..RECORDS).collect::<Vec<_>>());
    scene.assert_all_committed().await;
}

for_protocols! { reset_by_the_command_line:
    the_command_line_resets_only_a_group_without_members_cooperative: Cooperative,
    the_command_line_resets_only_a_group_without_members_consumer: Consumer,
}

/// The verdict and the fix of a finding.
fn finding<'a>(findings: &'a [Value], check: &str, subject: &str) -> Vec<(&'a str, &'a str)> {
    let is_meant = |it: &&Value| it["check"] == check && it["subject"] == subject;
    let found = findings.iter().filter(is_meant);
    let text = |it: &'a Value, name: &str| it[name].as_str().unwrap_or_default();
    found
        .map(|it| (text(it, "verdict"), text(it, "fix")))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_finds_what_is_wrong_with_a_retry_topic_and_leaves_no_group_behind() {
    let kafka = kafka_or_skip!(Nodes::One);
    let scene = Scene::new(kafka, 2).await;
    let retry = format!("{}-retry", scene.topic);
    let compacted = [("cleanup.policy", "compact")];
    kafka.create_topic(&retry, 2, 1, &compacted).await.unwrap();
    let other = kafka.unique("other");
    for (group, topic) in [
        (&scene.group, &scene.topic),
        (&scene.group, &retry),
        (&other, &retry),
    ] {
        kafka
            .commit_from_outside(group, topic, 0, 0, "")
            .await
            .unwrap();
    }
    let (code, output, messages) = keylane(kafka, &["doctor", &scene.group, "-o", "json"]).await;
    assert_eq!(code, 1, "{messages}{output}");
    let findings: Vec<Value> = serde_json::from_str(&output).unwrap();
    let of = |check, subject| finding(&findings, check, subject);
    assert_eq!(of("limits", &scene.topic), [("ok", "")], "{output}");
    let bad = ("problem", "set cleanup.policy=delete");
    assert_eq!(of("limits", &retry), [("ok", ""), bad], "{output}");
    assert_eq!(of("permissions", &scene.topic), [("ok", "")], "{output}");
    assert_eq!(of("retry topic", &retry)[0].0, "warning", "{output}");
    let scratch = format!("{}.keylane-doctor", scene.group);
    assert_eq!(of("commit metadata", &scratch), [("ok", "")], "{output}");
    let committed = kafka.committed(&scratch, &scene.topic).await.unwrap();
    assert!(
        committed.iter().all(|it| it.offset.is_none()),
        "{committed:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_of_a_topic_that_was_re_created_counts_for_nothing_and_is_replaced() {
    let kafka = kafka_or_skip!(Nodes::One);
    let scene = Scene::new(kafka, 1).await;
    scene.write(numbered(0..20, 20)).await;
    let member = scene
        .worker(scene.subscribe(), "first", Duration::ZERO)
        .await;
    scene.all_committed().await;
    member.shutdown().await.unwrap();
    let of_the_old = scene.committed().await.remove(0).metadata;
    kafka.delete_topic(&scene.topic).await.unwrap();
    kafka.create_topic(&scene.topic, 1, 1, &[]).await.unwrap();
    scene.write(numbered(100..120, 20)).await;
    // Kafka deletes the commits of a topic with it; a member that is late writes them again.
    kafka
        .commit_from_outside(&scene.group, &scene.topic, 0, RECORDS, &of_the_old)
        .await
        .unwrap();
    let shown = async |command: &[&str]| -> Value {
        let named = [&*scene.group, "-t", &scene.topic, "-o", "json"];
        let (code, output, messages) = keylane(kafka, &[command, &named].concat()).await;
        assert_eq!(code, 0, "{messages}");
        let rows: Value = serde_json::from_str(&output).unwrap();
        rows[0].clone()
    };
    let lag = shown(&["lag"]).await;
    let figures = |row: &Value| {
        let names = ["committed", "of_this_log", "lag"];
        Value::from_iter(names.map(|name| row[name].clone()))
    };
    assert_eq!(figures(&lag), json!([20, false, 20]));
    assert_eq!(shown(&["oldest"]).await["offset"], 0);
    assert_eq!(shown(&["offsets", "show"]).await["of_this_log"], false);

    // To where the position is already, in the other log.
    let reset = [
        "offsets",
        "reset",
        &scene.group,
        "-t",
        &scene.topic,
        "--to-latest",
        "--yes",
    ];
    let (code, _, messages) = keylane(kafka, &reset).await;
    assert_eq!(code, 1, "{messages}");
    assert!(messages.contains("--skip"), "{messages}");
    let (code, _, messages) = keylane(kafka, &[&reset[..], &["--skip"]].concat()).await;
    assert_eq!(code, 0, "{messages}");
    let lag = shown(&["lag"]).await;
    assert_eq!(figures(&lag), json!([20, true, 0]));
}
