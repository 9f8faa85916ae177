//! `keylane lag` and `keylane oldest`.

use std::time::{Duration, Instant};

use keylane::record::KeyHash;
use keylane::{Json, Subscription, Task, TaskError};
use keylane_admin::AdminServer;
use keylane_embedded_broker::EmbeddedBroker;
use serde_json::{Value, json};

use crate::{Answer, GROUP, PATIENCE, Scene, TOPIC, map};

/// The rows of a JSON answer, by partition.
fn rows(answer: &Answer) -> Vec<Value> {
    let mut rows: Vec<Value> = serde_json::from_str(&answer.output).unwrap();
    rows.sort_by_key(|row| row["partition"].as_i64());
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn lag_is_read_from_kafka_and_the_members_figures_are_unknown() {
    let scene = Scene::new(4);
    scene.write(0, 10).await;
    scene.write(1, 4).await;
    scene.write(2, 1).await;
    scene.commit(0, 3, &map(3, &[(5, 6)]));
    scene.commit(1, 4, "");
    let answer = scene.keylane(&["lag", GROUP, "-o", "json"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    let rows = rows(&answer);
    assert_eq!(
        rows[0],
        json!({
            "topic": TOPIC, "partition": 0, "committed": 3, "of_this_log": null, "end": 10, "lag": 7,
            "settled_ahead": 2, "running": null, "parked": null, "not_due": null,
            "workable_lag_seconds": null, "hot_key": null, "hot_key_share": null,
        })
    );
    assert_eq!(
        (&rows[1]["lag"], &rows[1]["settled_ahead"]),
        (&json!(0), &json!(0))
    );
    // Nothing is committed: where the group would begin, is its own setting.
    assert_eq!(rows[2]["lag"], json!(null));
    assert_eq!(rows[2].get("committed"), None);
    assert_eq!(rows[3]["lag"], json!(0), "there is no record");

    let words = scene.keylane(&["lag", GROUP]);
    assert!(words.output.contains("unknown"), "{words:?}");
    let nothing = scene.keylane(&["lag", "another-group"]);
    assert_eq!(nothing.code, 1, "{nothing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_members_figures_come_from_their_admin_endpoints() {
    let scene = Scene::new(2);
    scene.write(0, 4).await;
    let servers = scene.broker.bootstrap_servers();
    // The second record never ends, and holds up the other two: they have its key.
    let hangs = async |task: Task<Value>| match task.offset() {
        0 => Ok::<(), TaskError>(()),
        _ => std::future::pending().await,
    };
    let subscription = Subscription::builder(GROUP, TOPIC)
        .bootstrap_servers(servers)
        .kafka_settings(EmbeddedBroker::client_settings())
        .start(Json, hangs)
        .await
        .unwrap();
    let admin = AdminServer::builder().port(0).start().unwrap();
    admin.add(subscription.handle()).unwrap();
    let address = format!("http://{}", admin.local_addr());
    let deadline = Instant::now() + PATIENCE;
    let flags = [
        "lag", GROUP, "--topic", TOPIC, "--admin", &address, "-o", "json",
    ];
    let rows = loop {
        let answer = tokio::task::block_in_place(|| scene.keylane(&flags));
        assert_eq!(answer.code, 0, "{answer:?}");
        let rows = rows(&answer);
        if rows[0]["running"] == 1 && rows[1]["running"] == 0 {
            break rows;
        }
        assert!(Instant::now() < deadline, "{rows:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(rows[0]["parked"], 0);
    assert_eq!(rows[0]["not_due"], 0);

    let oldest = ["oldest", GROUP, "--topic", TOPIC, "-o", "json"];
    let with = [&oldest[..], &["--admin", &address]].concat();
    let doing = |row: &Value| json!([row["state"], row["attempts"], row.get("last_error")]);
    loop {
        let answer = tokio::task::block_in_place(|| scene.keylane(&with));
        // Nothing is committed at first.
        let row = (answer.code == 0).then(|| self::rows(&answer).remove(0));
        if let Some(row) = row.filter(|row| row["offset"] == 1) {
            // None of its attempts has failed.
            assert_eq!(doing(&row), json!(["running", 1, null]));
            assert_eq!(row.get("last_error"), None);
            break;
        }
        assert!(Instant::now() < deadline, "{answer:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let answer = tokio::task::block_in_place(|| scene.keylane(&oldest));
    assert_eq!(answer.code, 0, "{answer:?}");
    let row = self::rows(&answer).remove(0);
    assert_eq!(row["key"], "a key");
    assert_eq!(row["key_hash"], KeyHash::of(b"a key").to_string());
    assert_eq!(doing(&row), json!([null, null, null]), "unknown");

    // An endpoint that does not answer makes the result incomplete, and its figures unknown.
    admin.shutdown().await;
    let answer = tokio::task::block_in_place(|| scene.keylane(&flags));
    assert_eq!(answer.code, 3, "{answer:?}");
    assert!(answer.messages.contains(&address), "{answer:?}");
    let rows: Vec<Value> = serde_json::from_str(&answer.output).unwrap();
    assert!(rows.iter().all(|row| row["running"] == json!(null)));
    // The attempt in flight is dropped.
    let handle = subscription.handle();
    handle.shutdown_within(Duration::ZERO).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_record_is_the_first_that_is_not_settled() {
    let scene = Scene::new(4);
    scene.write(0, 10).await;
    scene.write(1, 4).await;
    scene.write(2, 2).await;
    scene.write(3, 1).await;
    scene.commit(0, 3, &map(3, &[(3, 4), (6, 6)]));
    scene.commit(1, 4, "");
    // All that is left is settled.
    scene.commit(2, 1, &map(1, &[(1, 1)]));
    let answer = scene.keylane(&["oldest", GROUP, "-o", "json"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    let rows = rows(&answer);
    assert_eq!(rows[0]["offset"], 5);
    assert!(rows[0]["age_seconds"].as_f64().unwrap() >= 0.0);
    assert_eq!(rows[1], json!({"topic": TOPIC, "partition": 1, "lag": 0}));
    // The commit names a log, and the mock does not.
    assert_eq!(
        rows[2],
        json!({"topic": TOPIC, "partition": 2, "of_this_log": null, "lag": 1})
    );
    assert_eq!(rows[3]["offset"], json!(null));
}
