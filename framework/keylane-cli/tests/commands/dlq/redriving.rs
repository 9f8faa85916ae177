//! `keylane dlq redrive`.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use keylane::NewTask;
use keylane::redrive::RedriveTask;
use keylane::redrive::ops::TaskState;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers as _, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;
use tokio::sync::Notify;

use super::{DLQ, Letters, foreign, letter};
use crate::{Answer, GROUP, PATIENCE, TOPIC, keylane_at};

const RETRY: &str = "parking-events-retry";
const REDRIVE: [&str; 3] = ["dlq", "redrive", DLQ];

/// A copy as it lies in its topic.
#[derive(Debug)]
struct Copy {
    key: String,
    value: String,
    headers: Vec<(String, String)>,
}

impl Copy {
    fn header(&self, name: &str) -> Option<&str> {
        let mut named = self.headers.iter().filter(|(it, _)| it == name);
        named.next().map(|(_, value)| value.as_str())
    }
}

async fn letters() -> Letters {
    let letters = Letters::new(2).await;
    for (topic, partitions) in [
        (RETRY, 2),
        ("notifier-keylane-ops", 1),
        ("billing-keylane-ops", 1),
        ("other", 1),
    ] {
        letters
            .scene
            .broker
            .create_topic(topic, partitions)
            .unwrap();
    }
    letters
}

fn of_group_with_retries(offset: i64, error: &str) -> NewTask {
    letter(offset, "exhausted", error).header("keylane-retry-topic", RETRY)
}

fn redrive(letters: &Letters, arguments: &[&str]) -> Answer {
    letters.scene.keylane(&[&REDRIVE[..], arguments].concat())
}

/// All records of a topic, partition after partition.
fn copies(letters: &Letters, topic: &str) -> Vec<Copy> {
    let operator = letters.scene.operator();
    let client: BaseConsumer = ClientConfig::new()
        .set(
            "bootstrap.servers",
            letters.scene.broker.bootstrap_servers(),
        )
        .set("group.id", "reader")
        .create()
        .unwrap();
    let (mut list, mut left) = (TopicPartitionList::new(), 0);
    for (partition, _) in operator.topic(topic).unwrap().partitions {
        let range = operator.range(topic, partition).unwrap();
        left += range.end.get() - range.first.get();
        list.add_partition_offset(topic, partition, Offset::Beginning)
            .unwrap();
    }
    client.assign(&list).unwrap();
    let (mut copies, deadline) = (Vec::new(), Instant::now() + PATIENCE);
    while left > 0 {
        assert!(Instant::now() < deadline, "{left} records are missing");
        let Some(message) = client.poll(Duration::from_millis(100)) else {
            continue;
        };
        let message = message.unwrap();
        let text =
            |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        let headers = message.headers().into_iter().flat_map(|all| all.iter());
        let headers = headers.map(|it| (it.key.to_owned(), text(it.value)));
        let copy = Copy {
            key: text(message.key()),
            value: text(message.payload()),
            headers: headers.collect(),
        };
        copies.push(((message.partition(), message.offset()), copy));
        left -= 1;
    }
    copies.sort_by_key(|(place, _)| *place);
    copies.into_iter().map(|(_, copy)| copy).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_would_be_copied_where_and_writes_nothing() {
    let letters = letters().await;
    letters
        .write((0..4).map(|at| of_group_with_retries(at, "gateway said 503")))
        .await;
    letters
        .write([of_group_with_retries(4, "no such gate")])
        .await;
    let answer = redrive(&letters, &["--dry-run", "-o", "json"]);
    let rows = answer.json();
    let counts: Vec<i64> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["count"].as_i64().unwrap())
        .collect();
    assert_eq!(counts, [4, 1], "{answer:?}");
    for part in ["5 dead letters", GROUP, RETRY, "nothing was copied"] {
        assert!(answer.messages.contains(part), "{part}: {answer:?}");
    }
    let without_a_word = redrive(&letters, &[]);
    assert_eq!(without_a_word.code, 1, "{without_a_word:?}");
    assert!(
        without_a_word.messages.contains("--yes"),
        "{without_a_word:?}"
    );
    assert_eq!(copies(&letters, RETRY).len(), 0);
    assert_eq!(copies(&letters, "notifier-keylane-ops").len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_go_to_the_groups_retry_topic_once_and_are_handled_then() {
    let letters = letters().await;
    letters
        .write((0..5).map(|at| of_group_with_retries(at, "gateway said 503")))
        .await;
    let some = [
        "-f",
        "offset=1..4",
        "--name",
        "after-the-outage",
        "--why",
        "INC-7",
        "--yes",
        "-o",
        "json",
    ];
    let done = redrive(&letters, &some);
    assert_eq!(done.code, 0, "{done:?}");
    let row: Value = serde_json::from_str(&done.output).unwrap();
    assert_eq!(
        (&row["state"], &row["copied"]),
        (&"done".into(), &3.into()),
        "{row}"
    );
    let found = copies(&letters, RETRY);
    assert_eq!(
        found.iter().map(|it| it.key.as_str()).collect::<Vec<_>>(),
        ["key-1", "key-2", "key-3"]
    );
    let first = &found[0];
    assert_eq!(first.header("keylane-group"), Some(GROUP));
    assert_eq!(first.header("keylane-redrive-count"), Some("1"));
    assert_eq!(
        first.header("keylane-redrive-id"),
        Some("after-the-outage/parking-events-dlq/0/1")
    );

    // What was copied is left out the next time, and from what is open.
    let rest = redrive(&letters, &["--yes", "-o", "json"]);
    assert_eq!(rest.code, 0, "{rest:?}");
    assert_eq!(copies(&letters, RETRY).len(), 5);
    let open = letters
        .scene
        .keylane(&["dlq", "ls", DLQ, "--open", "-o", "json"])
        .json();
    assert_eq!(open, serde_json::json!([]));
    let status = letters
        .scene
        .keylane(&["dlq", "status", GROUP, "-o", "json"])
        .json();
    assert_eq!(status.as_array().unwrap().len(), 2, "{status}");
    let one = [
        "dlq",
        "status",
        GROUP,
        "--task",
        "after-the-outage",
        "-o",
        "json",
    ];
    let one = letters.scene.keylane(&one).json();
    assert_eq!(
        (&one["why"], &one["state"]),
        (&"INC-7".into(), &"done".into()),
        "{one}"
    );
    let one = [
        "dlq",
        "status",
        GROUP,
        "--task",
        "after-the-outage",
        "-o",
        "json",
    ];
    let one = letters.scene.keylane(&one).json();
    assert_eq!(
        (&one["state"], &one["done"]),
        (&"done".into(), &3.into()),
        "{one}"
    );
    assert_eq!(one["filter"], "offset=1..4");
    assert!(one["by"].as_str().unwrap().contains('@'), "{one}");
    let nothing = redrive(&letters, &["--yes"]);
    assert_eq!(nothing.code, 0, "{nothing:?}");
    assert_eq!(copies(&letters, RETRY).len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_retry_topic_it_is_refused_and_says_what_to_do() {
    let letters = letters().await;
    letters
        .write((0..2).map(|at| letter(at, "exhausted", "busy")))
        .await;
    let refused = redrive(&letters, &["--yes"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    for part in [
        "--to origin",
        "--to TOPIC",
        "--retry-topic",
        "then_topic()",
        "retry: {topic: {}}",
    ] {
        assert!(refused.messages.contains(part), "{part}: {refused:?}");
    }
    let planned = redrive(&letters, &["--dry-run"]);
    assert_eq!(planned.code, 0, "{planned:?}");
    assert!(
        planned.messages.contains("it would be refused"),
        "{planned:?}"
    );

    // To the origin it is said loudly.
    let mut question = String::new();
    let yes = |text: &str| {
        question = text.to_owned();
        Ok(true)
    };
    let before = copies(&letters, TOPIC).len();
    let all = [&REDRIVE[..], &["--to", "origin", "-f", "offset=0..1"]].concat();
    let done = keylane_at(&letters.scene, &all, Box::new(yes));
    assert_eq!(done.code, 0, "{done:?}");
    let loud = "EVERY GROUP THAT READS parking-events GETS THE RECORDS AGAIN";
    assert!(done.messages.contains(loud), "{done:?}");
    assert!(question.contains("every group"), "{question}");
    assert_eq!(copies(&letters, TOPIC).len(), before + 1);

    let done = redrive(&letters, &["--to", "other", "--yes"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(
        done.messages.contains("EVERY GROUP THAT READS other"),
        "{done:?}"
    );
    assert_eq!(copies(&letters, "other").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_of_other_programs_go_to_the_groups_retry_topic_where_it_is_named() {
    let letters = letters().await;
    letters
        .write(foreign().into_iter().map(|(_, task)| task))
        .await;
    let to = ["--retry-topic", RETRY, "--group", "billing", "--yes"];
    let done = redrive(&letters, &to);
    assert_eq!(done.code, 0, "{done:?}");
    let found = copies(&letters, RETRY);
    assert_eq!(found.len(), foreign().len());
    for copy in &found {
        assert_eq!(copy.header("keylane-group"), Some("billing"), "{copy:?}");
        assert_eq!(copy.header("keylane-origin-offset"), Some("42"), "{copy:?}");
        let is_of_failure =
            |(name, _): &&(String, String)| name.contains("exception") || name.contains("errors");
        assert!(
            !copy.headers.iter().any(|it| is_of_failure(&it)),
            "{copy:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_is_changed_by_a_patch_or_a_command() {
    let letters = letters().await;
    letters
        .write((0..2).map(|at| of_group_with_retries(at, "busy")))
        .await;
    let patch = [
        "-f",
        "offset=0..1",
        "--merge-patch",
        r#"{"order":null,"gate":"north"}"#,
        "--yes",
    ];
    let done = redrive(&letters, &patch);
    assert_eq!(done.code, 0, "{done:?}");
    let found = copies(&letters, RETRY);
    assert_eq!(found[0].value, r#"{"gate":"north"}"#);
    assert!(
        found[0].header("keylane-edited-from").is_some(),
        "{found:?}"
    );
    let fails = ["--through", "echo no >&2; exit 3", "--yes"];
    let refused = redrive(&letters, &fails);
    assert_ne!(refused.code, 0, "{refused:?}");
    assert!(
        refused.messages.contains("exit status: 3: no"),
        "{refused:?}"
    );
    let through = ["--through", "tr 0-9 7", "--yes"];
    let done = redrive(&letters, &through);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(
        copies(&letters, RETRY).last().unwrap().value,
        r#"{"order":7}"#
    );
    for (wrong, code) in [
        (&["--merge-patch", "{", "--yes"][..], 2),
        (&["--merge-patch", "@/no/such/file", "--yes"], 2),
        (&["--merge-patch", "{}", "--through", "cat"], 2),
    ] {
        let answer = redrive(&letters, wrong);
        assert_eq!(answer.code, code, "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused() {
    let letters = letters().await;
    letters.write([of_group_with_retries(0, "busy")]).await;
    for (wrong, code, reason) in [
        (&["--retry-topic", RETRY][..], 2, "--group"),
        (&["--to", "no-such-topic", "--yes"], 1, "no-such-topic"),
        (&["--rate", "0"], 2, "--rate"),
        (&["--canary", "5", "--proceed-if", "101"], 2, "1 to 100"),
        (
            &["--resume", "nothing", "--group", GROUP, "--yes"],
            1,
            "nothing",
        ),
        (&["--name", "a/b", "--yes"], 2, "letters, digits"),
        (&["--by", "", "--yes"], 2, "--by"),
    ] {
        let answer = redrive(&letters, wrong);
        assert_eq!(answer.code, code, "{wrong:?}: {answer:?}");
        assert!(answer.messages.contains(reason), "{wrong:?}: {answer:?}");
    }
    // A record that was written back too many times.
    letters
        .write([of_group_with_retries(1, "busy").header("keylane-redrive-count", "3")])
        .await;
    let guarded = redrive(&letters, &["-f", "offset=1..", "--yes"]);
    assert_eq!(guarded.code, 1, "{guarded:?}");
    assert!(
        guarded.messages.contains("written back 3 times"),
        "{guarded:?}"
    );
    let some = redrive(&letters, &["--yes"]);
    assert_eq!(some.code, 3, "one is copied, one is not: {some:?}");
    let allowed = redrive(&letters, &["--max-count", "4", "--yes"]);
    assert_eq!(allowed.code, 0, "{allowed:?}");
    assert_eq!(copies(&letters, RETRY).len(), 2);
}

/// A task that stops after its first copy: it does not go on before the stop arrives.
async fn stopped(letters: &Letters, id: &str) {
    let [stop, passes] = [(); 2].map(|()| Arc::new(Notify::new()));
    let (of_progress, passed) = (stop.clone(), passes.clone());
    let (arrives, arrived) = mpsc::channel::<()>();
    let task = RedriveTask::of(DLQ)
        .bootstrap_servers(letters.scene.broker.bootstrap_servers())
        .id(id)
        .by("ada")
        .window(1)
        .on_progress(move |it| {
            if it.done > 0 {
                of_progress.notify_one();
                let _ = arrived.recv_timeout(PATIENCE);
            }
        })
        .stop(async move {
            stop.notified().await;
            passed.notify_one();
        });
    // It is polled after the run, which has the stop by then.
    let goes_on = async move {
        passes.notified().await;
        drop(arrives);
    };
    let (ended, ()) = tokio::join!(task.run(), goes_on);
    let ended = ended.unwrap();
    assert_eq!(
        (ended.state, ended.progress.done),
        (TaskState::Running, 1),
        "{ended:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_was_stopped_is_resumed_or_ended() {
    let letters = letters().await;
    letters
        .write((0..5).map(|at| of_group_with_retries(at, "busy")))
        .await;
    stopped(&letters, "one").await;
    let another = redrive(&letters, &["--yes"]);
    assert_eq!(another.code, 1, "{another:?}");
    assert!(another.messages.contains("--resume one"), "{another:?}");
    let planned = redrive(&letters, &["--resume", "one", "--dry-run"]);
    assert_eq!(planned.code, 0, "{planned:?}");
    assert!(
        planned.messages.contains("of 5 letters are done"),
        "{planned:?}"
    );
    let resumed = redrive(&letters, &["--resume", "one", "--yes", "-o", "json"]);
    assert_eq!(resumed.code, 0, "{resumed:?}");
    assert_eq!(copies(&letters, RETRY).len(), 5);

    letters
        .write((5..10).map(|at| of_group_with_retries(at, "busy")))
        .await;
    stopped(&letters, "two").await;
    let cancel = [
        "dlq",
        "cancel",
        GROUP,
        "two",
        "--why",
        "the gateway is down",
    ];
    assert_eq!(letters.scene.keylane(&cancel).code, 0);
    let status = ["dlq", "status", GROUP, "--task", "two"];
    let status = letters.scene.keylane(&status);
    assert!(status.output.contains("running, is to end"), "{status:?}");
    assert!(status.output.contains("the gateway is down"), "{status:?}");
    let ended = redrive(&letters, &["--resume", "two", "--yes"]);
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(
        ended.messages.contains("it ended as cancelled"),
        "{ended:?}"
    );
    let rest = redrive(&letters, &["--yes"]);
    assert_eq!(rest.code, 0, "{rest:?}");
    assert_eq!(copies(&letters, RETRY).len(), 10);
}
