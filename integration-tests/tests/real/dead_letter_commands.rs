//! G12: an operator works on dead letters by commands.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use keylane::config::{Backoff, Exhausted, FailureReason};
use keylane::{DeadLetter, Raw, Retry, Subscription, Task, TaskError};
use keylane_integration_tests::{
    kafka::{Kafka, NewRecord, Nodes},
    kafka_or_skip,
    protocol::Protocol,
    scene::DEADLINE,
    wait::wait_until,
};
use serde_json::Value;

use super::{commands::keylane, metrics};

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

/// The same for a group that has a retry topic.
fn with_retries(mut letter: NewRecord, group: &str, retry: &str) -> NewRecord {
    letter.headers.retain(|(name, _)| name != "keylane-group");
    for (name, value) in [("keylane-group", group), ("keylane-retry-topic", retry)] {
        let value = value.to_owned().into_bytes();
        letter.headers.push((name.to_owned(), Some(value)));
    }
    letter
}

/// What a member of the group reports about the dead-letter topic when it starts: so many records
/// lie there, and so many of them are open.
async fn reports(kafka: &Kafka, group: &str, [origin, dead]: [&str; 2], expected: [u64; 2]) {
    metrics::record();
    let member = Subscription::builder(group, origin)
        .bootstrap_servers(kafka.bootstrap_servers())
        .startup_timeout(DEADLINE)
        .dead_letter(DeadLetter::topic(dead))
        .start(Raw, async |_: Task<Bytes>| Ok::<(), TaskError>(()))
        .await
        .unwrap();
    let figures = || {
        let names = [
            "keylane_dead_letter_topic_records",
            "keylane_open_dead_letters",
        ];
        names.map(|name| metrics::value(name, group).map(|value| value as u64))
    };
    let what = format!("it reports {expected:?}");
    wait_until(&what, DEADLINE, || figures() == expected.map(Some)).await;
    member.shutdown().await.unwrap();
    wait_until("its series have ended", DEADLINE, || {
        figures() == [None, None]
    })
    .await;
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

/// From the alert to an empty topic, by commands alone; a group with a retry topic of its own does
/// the records again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_works_dead_letters_off_by_commands() {
    let kafka = kafka_or_skip!(Nodes::One);
    let (group, origin) = (kafka.unique("group"), kafka.unique("origin"));
    let (retry, dead) = (kafka.unique("retry"), kafka.unique("dead"));
    for topic in [&origin, &retry, &dead] {
        kafka.create_topic(topic, 1, 1, &[]).await.unwrap();
    }
    let reports = async |expected| reports(kafka, &group, [&origin, &dead], expected).await;
    let letters = (0..8).map(|offset| {
        let reason = if offset < 6 { "exhausted" } else { "fatal" };
        with_retries(letter(&origin, offset, reason), &group, &retry)
    });
    kafka.produce(&dead, letters.collect()).await.unwrap();
    let counts = async |more: &[&str]| {
        let all = [&["dlq", "stats", &dead, "--by", "reason"], more].concat();
        let rows = rows(kafka, &all).await;
        let count = |row: &Value| {
            (
                row["reason"].as_str().unwrap().to_owned(),
                row["count"].as_i64().unwrap(),
            )
        };
        rows.iter().map(count).collect::<Vec<_>>()
    };
    let of = |exhausted: i64, fatal: i64| {
        let both = [
            ("exhausted".to_owned(), exhausted),
            ("fatal".to_owned(), fatal),
        ];
        both.into_iter()
            .filter(|(_, count)| *count > 0)
            .collect::<Vec<_>>()
    };
    assert_eq!(counts(&[]).await, of(6, 2));
    reports([8, 8]).await;

    let redrive = [
        "dlq",
        "redrive",
        &dead,
        "--filter",
        "reason=exhausted",
        "--name",
        "works",
        "--by",
        "ada",
    ];
    let planned = rows(kafka, &[&redrive[..], &["--dry-run"]].concat()).await;
    assert_eq!(planned[0]["count"], 6, "{planned:?}");
    assert_eq!(kafka.read_all(&retry).await.unwrap().len(), 0);
    let (code, output, messages) =
        keylane(kafka, &[&redrive[..], &["--yes", "-o", "json"]].concat()).await;
    assert_eq!(code, 0, "{messages}");
    let done: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(
        (&done["state"], &done["copied"]),
        (&"done".into(), &6.into()),
        "{done}"
    );
    let copies = kafka.read_all(&retry).await.unwrap();
    let values = copies.iter().map(|copy| copy.value.clone().unwrap());
    assert_eq!(
        values.collect::<Vec<_>>(),
        (0..6)
            .map(|it| it.to_string().into_bytes())
            .collect::<Vec<_>>()
    );

    let status = rows(kafka, &["dlq", "status", &group]).await;
    assert_eq!(
        (&status[0]["task"], &status[0]["by"]),
        (&"works".into(), &"ada".into()),
        "{status:?}"
    );
    assert_eq!(
        (&status[0]["done"], &status[0]["of"]),
        (&6.into(), &6.into()),
        "{status:?}"
    );
    assert_eq!(counts(&["--open"]).await, of(0, 2));
    reports([8, 2]).await;
    let purge = ["dlq", "purge", &dead, "--handled"];
    let planned = rows(kafka, &[&purge[..], &["--dry-run"]].concat()).await;
    assert_eq!(
        (&planned[0]["before"], &planned[0]["open"]),
        (&6.into(), &0.into()),
        "{planned:?}"
    );

    let all = [
        "dlq",
        "purge",
        &dead,
        "--before",
        "8",
        "--partition",
        "0",
        "--yes",
    ];
    let (code, _, messages) = keylane(kafka, &all).await;
    assert_eq!(code, 1, "two are open: {messages}");
    let resolve = async |offset: i64| {
        let letter = format!("{dead}/0@{offset}");
        let why = ["--why", "refunded by hand"];
        rows(kafka, &[&["dlq", "resolve", &letter], &why[..]].concat()).await;
    };
    let delete = async |letters: i64| {
        let deleted = rows(kafka, &[&purge[..], &["--yes"]].concat()).await;
        assert_eq!(
            (&deleted[0]["state"], &deleted[0]["letters"]),
            (&"deleted".into(), &letters.into())
        );
    };
    resolve(6).await;
    assert_eq!(counts(&["--open"]).await, of(0, 1));
    reports([8, 1]).await;
    // Handled letters that are gone are not taken off again.
    delete(7).await;
    reports([1, 1]).await;
    resolve(7).await;
    assert_eq!(counts(&["--open"]).await, []);
    delete(1).await;
    assert_eq!(counts(&[]).await, []);
}

/// The commits of a group, its retries and its dead letters, as a real broker has them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_others_follow_a_canary_that_succeeds_and_none_follows_one_that_fails() {
    let kafka = kafka_or_skip!(Nodes::One);
    let group = kafka.unique("group");
    let [origin, retry, dead] = ["origin", "retry", "dead"].map(|it| kafka.unique(it));
    for topic in [&origin, &retry, &dead] {
        kafka.create_topic(topic, 1, 1, &[]).await.unwrap();
    }
    // Those with an even number are mended.
    let letters = (0..16).map(|offset| {
        let reason = ["exhausted", "fatal"][offset % 2];
        with_retries(letter(&origin, offset, reason), &group, &retry)
    });
    kafka.produce(&dead, letters.collect()).await.unwrap();
    let process = |task: Task<Bytes>| async move {
        let number: u32 = String::from_utf8_lossy(task.payload()).parse().unwrap();
        match number % 2 {
            0 => Ok(()),
            _ => Err(TaskError::retryable("still broken")),
        }
    };
    let retries = Retry::none()
        .then_topic_named(&retry)
        .topic_rounds(1)
        .topic_backoff(Backoff::fixed(Duration::from_millis(20)))
        // Some always fail, which looks like an outage.
        .on(FailureReason::Exhausted, Exhausted::DeadLetter);
    let member = Protocol::Cooperative
        .subscribe(kafka, &group, &origin, 20_000)
        .commit_interval(Duration::from_millis(50))
        .retry(retries)
        .dead_letter(DeadLetter::topic(&dead))
        .start(Raw, process)
        .await
        .unwrap();

    let redrive = async |filter: &str| {
        let redrive = ["dlq", "redrive", &dead, "--group", &group, "-o", "json"];
        let canary = ["--canary", "3", "--yes", "--filter", filter];
        keylane(kafka, &[&redrive[..], &canary].concat()).await
    };
    let (code, output, messages) = redrive("reason=exhausted").await;
    assert_eq!(code, 0, "{messages}");
    let done: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(done["copied"], 8, "{done}");

    let (code, output, messages) = redrive("reason=fatal").await;
    assert_eq!(code, 3, "{messages}");
    let told = "it ended as canary-failed, and 5 letters are left: of the canary 0 succeeded";
    assert!(messages.contains(told), "{messages}");
    let failed: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(
        (&failed["state"], &failed["copied"]),
        (&"canary-failed".into(), &3.into()),
        "{failed}"
    );
    member.shutdown().await.unwrap();
}
