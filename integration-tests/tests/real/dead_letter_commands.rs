//! G12: an operator works on dead letters by commands.

use std::time::{Duration, SystemTime};

use keylane_integration_tests::{
    kafka::{Kafka, NewRecord, Nodes},
    kafka_or_skip,
};
use serde_json::Value;

use super::commands::keylane;

/// A letter of keylane, of this offset of the origin.
fn letter(origin: &str, offset: usize, reason: &str) -> NewRecord {
    let headers = [
        ("keylane-origin-topic", origin.to_owned()),
        ("keylane-origin-partition", "0".to_owned()),
        ("keylane-origin-offset", offset.to_string()),
        ("keylane-group", "notifier".to_owned()),
        ("keylane-reason", reason.to_owned()),
        ("keylane-error", format!("order {offset} failed")),
    ];
    let headers = headers.into_iter();
    NewRecord {
        partition: Some(0),
        headers: headers
            .map(|(name, value)| (name.to_owned(), Some(value.into_bytes())))
            .collect(),
        ..NewRecord::keyed(format!("key-{}", offset % 3), format!("{offset}"))
    }
}

/// The rows of a command's result.
async fn rows(kafka: &Kafka, arguments: &[&str]) -> Vec<Value> {
    let all = [arguments, &["-o", "json"]].concat();
    let (code, output, messages) = keylane(kafka, &all).await;
    assert_eq!(code, 0, "{arguments:?}: {messages}");
    serde_json::from_str(&output).unwrap()
}

/// The embedded broker deletes nothing, and knows no times.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_deleted_up_to_a_time_or_an_offset_and_no_further() {
    let kafka = kafka_or_skip!(Nodes::One);
    let topic = kafka.unique("dead");
    kafka.create_topic(&topic, 2, 1, &[]).await.unwrap();
    let now = SystemTime::now();
    let before = |age: u64| {
        let at = now - Duration::from_secs(age);
        let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        i64::try_from(since.as_millis()).ok()
    };
    let letters = (0..6).map(|offset| NewRecord {
        partition: Some((offset % 2) as i32),
        timestamp_millis: before(if offset < 4 { 7_200 } else { 60 }),
        ..letter("origin", offset, "fatal")
    });
    kafka.produce(&topic, letters.collect()).await.unwrap();

    let purge = ["dlq", "purge", &topic, "--open-too"];
    let by_time = [&purge[..], &["--before", "1h"]].concat();
    let planned = rows(kafka, &[&by_time[..], &["--dry-run"]].concat()).await;
    let figures = |row: &Value| (row["before"].as_i64(), row["letters"].as_i64());
    assert_eq!(
        planned.iter().map(figures).collect::<Vec<_>>(),
        [(Some(2), Some(2)); 2]
    );
    let deleted = rows(kafka, &[&by_time[..], &["--yes"]].concat()).await;
    assert!(
        deleted.iter().all(|row| row["state"] == "deleted"),
        "{deleted:?}"
    );
    let places = |rows: Vec<Value>| {
        let places = rows
            .into_iter()
            .map(|row| row["place"].as_str().unwrap().to_owned());
        let mut places: Vec<String> = places.collect();
        places.sort();
        places
    };
    let listed = places(rows(kafka, &["dlq", "ls", &topic]).await);
    assert_eq!(listed, [format!("{topic}/0@2"), format!("{topic}/1@2")]);

    let by_offset = [&purge[..], &["--before", "3", "--partition", "1", "--yes"]].concat();
    let deleted = rows(kafka, &by_offset).await;
    assert_eq!(deleted[0]["state"], "deleted", "{deleted:?}");
    let listed = places(rows(kafka, &["dlq", "ls", &topic]).await);
    assert_eq!(listed, [format!("{topic}/0@2")]);
    let gone = keylane(kafka, &["dlq", "show", &format!("{topic}/1@2")]).await;
    assert_eq!(gone.0, 1, "{gone:?}");

    // A topic that is compacted and nothing else.
    let compacted = kafka.unique("dead");
    let policy = [("cleanup.policy", "compact")];
    kafka.create_topic(&compacted, 1, 1, &policy).await.unwrap();
    kafka
        .produce(&compacted, vec![letter("origin", 0, "fatal")])
        .await
        .unwrap();
    let purge = [
        "dlq",
        "purge",
        &compacted,
        "--open-too",
        "--before",
        "1",
        "--yes",
    ];
    let (code, _, messages) = keylane(kafka, &purge).await;
    assert_eq!(code, 1, "{messages}");
    assert!(messages.contains("cleanup.policy"), "{messages}");
}
