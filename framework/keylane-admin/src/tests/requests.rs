//! Which requests are accepted, and their answers.

use super::*;
use crate::AdminServer;

fn code(answer: &Answer) -> String {
    assert_eq!(
        answer.content_type(),
        "application/problem+json",
        "{}",
        answer.text
    );
    let problem = answer.json();
    assert_eq!(problem["status"], answer.status.as_u16());
    problem["code"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn two_gets_tell_which_record_holds_which_partition() {
    let shared = shared([&troubled("a")], None);
    let all = get(&shared, "/v1/subscriptions").await.json();
    assert_eq!(all["subscriptions"][0]["name"], "a");
    let oldest = get(&shared, "/v1/subscriptions/a/oldest?limit=%31")
        .await
        .json();
    let records = oldest["records"].as_array().unwrap();
    assert_eq!(records.len(), 1);
    assert_eq!(
        (&records[0]["partition"], &records[0]["offset"]),
        (&1.into(), &41.into()),
        "the longest waiting first"
    );
    assert_eq!(records[0]["key_hash"], "1f60e652ab9e07d6");
    assert_eq!(
        get(&shared, "/v1/subscriptions/a/oldest").await.json()["records"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[tokio::test]
async fn hot_keys_are_told_by_their_hashes_and_as_they_are_to_whoever_has_the_token() {
    let subscription = troubled("a");
    let shared = shared([&subscription], Some(TOKEN));
    let open = get(&shared, "/v1/subscriptions/a/hot-keys?limit=1")
        .await
        .json();
    let first = &open["by_records"][0];
    assert_eq!(
        (&first["key_hash"], &first["key"]),
        (&"1f60e652ab9e07d6".into(), &Value::Null)
    );
    assert_eq!(
        (&first["records"], &open["by_time"][0]["seconds"]),
        (&9.into(), &5.0.into())
    );
    assert_eq!(open["by_waiting"][0]["seconds"], 7.0);
    assert_eq!(open["by_records"].as_array().unwrap().len(), 1, "the limit");
    let with_token = async || {
        let request = request("GET", "/v1/subscriptions/a/hot-keys")
            .header("Authorization", format!("Bearer {TOKEN}"));
        ask(&shared, request.body(Body::empty()).unwrap())
            .await
            .json()
    };
    let plain = with_token().await;
    assert_eq!(
        (&plain["by_records"][0]["key"], &plain["by_time"][0]["key"]),
        (&"vehicle-4711".into(), &"vehicle-2".into())
    );
    subscription.hot_keys.lock().unwrap().by_records[0].key = None;
    let hot = with_token().await;
    assert_eq!(
        (
            &hot["by_records"][0]["key"],
            hot["by_records"].as_array().unwrap().len()
        ),
        (&Value::Null, 2)
    );
}

#[tokio::test]
async fn a_lag_that_is_unknown_for_one_partition_is_unknown_for_all() {
    let subscription = troubled("a");
    let shared = shared([&subscription], None);
    let lag = async || get(&shared, "/v1/subscriptions/a").await.json()["lag_records"].clone();
    assert_eq!(lag().await, Value::Null);
    subscription.change(|status| drop(status.partitions.remove(2)));
    assert_eq!(lag().await, 14);
}

#[tokio::test]
async fn names_are_percent_decoded() {
    let shared = shared([&subscription("my service/1")], None);
    assert_eq!(
        get(&shared, "/v1/subscriptions/my%20service%2F1")
            .await
            .json()["name"],
        "my service/1"
    );
    assert_eq!(
        code(&get(&shared, "/v1/subscriptions/%ff").await),
        "bad_path"
    );
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_of_its_own() {
    let shared = shared([&troubled("a")], Some(TOKEN));
    for (path, expected) in [
        ("/", "no_such_path"),
        ("/v1/subscriptions/b", "no_such_subscription"),
        (
            "/v1/subscriptions/a/partitions/tasks/3",
            "partition_not_assigned",
        ),
        (
            "/v1/subscriptions/a/partitions/tasks/x",
            "partition_not_assigned",
        ),
        (
            "/v1/subscriptions/a/partitions/other/0",
            "partition_not_assigned",
        ),
        ("/metrics", "no_metrics"),
    ] {
        let answer = get(&shared, path).await;
        assert_eq!(
            (answer.status, code(&answer)),
            (StatusCode::NOT_FOUND, expected.to_owned()),
            "{path}"
        );
    }
    let gone = post(&shared, "/v1/subscriptions/a/partitions/tasks/3/pause").await;
    assert_eq!(
        (gone.status, code(&gone)),
        (StatusCode::NOT_FOUND, "partition_not_assigned".to_owned())
    );
    for limit in ["0", "1001", "x", "-1", "", "1&limit=2"] {
        let answer = get(
            &shared,
            &format!("/v1/subscriptions/a/oldest?limit={limit}"),
        )
        .await;
        assert_eq!(
            (answer.status, code(&answer)),
            (StatusCode::BAD_REQUEST, "bad_limit".to_owned()),
            "{limit}"
        );
    }
}

#[tokio::test]
async fn the_wrong_method_is_a_problem_that_names_the_right_one() {
    let shared = shared([&troubled("a")], Some(TOKEN));
    for (answer, allowed) in [
        (post(&shared, "/health/live").await, "GET,HEAD"),
        (get(&shared, "/v1/subscriptions/a/pause").await, "POST"),
        (
            ask(
                &shared,
                request("OPTIONS", "/v1/subscriptions/a/pause")
                    .body(Body::empty())
                    .unwrap(),
            )
            .await,
            "POST",
        ),
    ] {
        assert_eq!(
            (answer.status, code(&answer)),
            (
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed".to_owned()
            )
        );
        assert_eq!(answer.headers["allow"], allowed);
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
    }
}

#[tokio::test]
async fn a_large_body_is_refused_and_a_small_one_ignored() {
    let shared = shared([&troubled("a")], Some(TOKEN));
    let with = |bytes: usize| {
        let request = request("POST", "/v1/subscriptions/a/pause")
            .header("Authorization", format!("Bearer {TOKEN}"));
        request.body(Body::from(vec![b'x'; bytes])).unwrap()
    };
    let refused = ask(&shared, with(16 * 1024 + 1)).await;
    assert_eq!(
        (refused.status, code(&refused)),
        (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large".to_owned())
    );
    assert_eq!(
        ask(&shared, with(16 * 1024)).await.status,
        StatusCode::ACCEPTED
    );
}

const STEERING: [&str; 6] = [
    "/v1/subscriptions/a/pause",
    "/v1/subscriptions/a/resume",
    "/v1/subscriptions/a/release-held",
    "/v1/subscriptions/a/shutdown",
    "/v1/subscriptions/a/partitions/tasks/0/pause",
    "/v1/subscriptions/a/partitions/tasks/0/resume",
];

#[tokio::test]
async fn without_a_token_of_its_own_the_server_steers_nothing() {
    let subscription = troubled("a");
    let shared = shared([&subscription], None);
    for path in STEERING {
        let answer = post(&shared, path).await;
        assert_eq!(
            (answer.status, code(&answer)),
            (StatusCode::FORBIDDEN, "read_only".to_owned()),
            "{path}"
        );
    }
    assert_eq!(subscription.asked(), Asked::default());
}

#[tokio::test]
async fn with_another_token_or_none_it_steers_nothing() {
    let subscription = troubled("a");
    let shared = shared([&subscription], Some(TOKEN));
    for path in STEERING {
        let wrong = request("POST", path).header("Authorization", "Bearer open-sesamf");
        for request in [wrong, request("POST", path)] {
            let answer = ask(&shared, request.body(Body::empty()).unwrap()).await;
            assert_eq!(
                (answer.status, code(&answer)),
                (StatusCode::UNAUTHORIZED, "unauthorized".to_owned()),
                "{path}"
            );
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
        }
    }
    assert_eq!(subscription.asked(), Asked::default());
}

#[tokio::test]
async fn with_the_token_it_does_what_it_is_asked() {
    let subscription = troubled("a");
    let shared = shared([&subscription], Some(TOKEN));
    let act = async |what: &str| {
        assert_eq!(
            post(&shared, &format!("/v1/subscriptions/a/{what}"))
                .await
                .status,
            202
        )
    };
    act("pause").await;
    assert!(subscription.asked().paused);
    act("resume").await;
    assert!(!subscription.asked().paused);
    act("partitions/tasks/0/pause").await;
    let paused = subscription.asked().paused_partitions;
    assert_eq!(paused, [("tasks".to_owned(), 0)].into());
    act("partitions/tasks/0/resume").await;
    assert_eq!(subscription.asked(), Asked::default());
    act("shutdown").await;
    assert!(subscription.asked().shutdown);
}

#[tokio::test]
async fn a_page_under_a_name_of_its_own_learns_nothing() {
    let shared = shared([&troubled("a")], Some(TOKEN));
    for (method, path) in [
        ("GET", "/v1/subscriptions"),
        ("POST", STEERING[0]),
        ("GET", "/nothing"),
    ] {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("Host", "rebound.example.com:8081");
        let request = request
            .header("Authorization", format!("Bearer {TOKEN}"))
            .body(Body::empty())
            .unwrap();
        let answer = ask(&shared, request).await;
        assert_eq!(
            (answer.status, code(&answer)),
            (StatusCode::FORBIDDEN, "foreign_host".to_owned())
        );
    }
}

#[test]
fn the_token_is_in_no_debug_output() {
    let builder = AdminServer::builder().token(TOKEN);
    let shown = format!("{builder:?} {:?}", shared([], Some(TOKEN)));
    assert!(
        shown.contains("Token(hidden)") && !shown.contains(TOKEN),
        "{shown}"
    );
    let server = builder.start().unwrap();
    assert!(!format!("{server:?}").contains(TOKEN));
}

#[test]
fn what_cannot_work_is_refused_at_the_start() {
    use crate::AdminError;
    let refused = AdminServer::builder().token("line\n").start().unwrap_err();
    assert!(matches!(refused, AdminError::Token), "{refused}");
    let twice = AdminServer::builder()
        .serve(subscription("a"))
        .serve(subscription("a"));
    assert!(
        matches!(twice.start().unwrap_err(), AdminError::DuplicateName { name } if name == "a")
    );
    let server = AdminServer::builder().start().unwrap();
    let taken = AdminServer::builder()
        .address(server.local_addr())
        .start()
        .unwrap_err();
    assert!(matches!(taken, AdminError::Bind { .. }), "{taken}");
}

#[test]
fn one_that_has_ended_makes_way_for_another_of_its_name() {
    let first = subscription("a");
    let server = AdminServer::builder().serve(first.clone()).start().unwrap();
    let add = |name| server.routes().serve(subscription(name));
    assert!(add("a").is_err());
    first.set_state(State::Failed);
    assert!(add("a").is_ok());
    assert!(add("b").is_ok());
}

#[test]
fn one_that_is_taken_out_makes_way_too_although_it_runs() {
    let server = AdminServer::builder()
        .serve(subscription("a"))
        .start()
        .unwrap();
    assert!(server.remove("a") && !server.remove("a"));
    assert!(server.routes().serve(subscription("a")).is_ok());
}
