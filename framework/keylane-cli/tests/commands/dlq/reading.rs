//! `keylane dlq ls`, `show` and `stats`.

use keylane::NewTask;
use serde_json::{Value, json};

use super::{DLQ, Letters, foreign, letter};
use crate::Answer;

fn column(answer: &Answer, name: &str) -> Vec<Value> {
    let rows: Vec<Value> = serde_json::from_str(&answer.output).unwrap();
    rows.iter().map(|row| row[name].clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_has_the_last_letters_and_says_what_else_there_is() {
    let letters = Letters::new(2).await;
    letters
        .write(
            (0..6).map(|at| letter(at, "exhausted", "gateway said 503").partition((at % 2) as i32)),
        )
        .await;
    letters.write([letter(6, "fatal", "no such gate")]).await;
    letters
        .write([NewTask::new("no letter").partition(1)])
        .await;
    let list = ["dlq", "ls", DLQ, "--limit", "2", "-o", "json"];
    let answer = letters
        .scene
        .keylane(&[&list[..], &["-f", "reason=exhausted"]].concat());
    assert_eq!(answer.code, 0, "{answer:?}");
    // By when they were given up, over both partitions.
    let places = [format!("{DLQ}/1@2"), format!("{DLQ}/0@2")];
    assert_eq!(column(&answer, "place"), places);
    assert_eq!(
        serde_json::from_str::<Value>(&answer.output).unwrap()[0],
        json!({
            "place": places[0], "given_up": "2026-11-21T04:05:00.000Z",
            "age_seconds": column(&answer, "age_seconds")[0], "group": "notifier", "reason": "exhausted",
            "class": "gateway::Busy", "error": "gateway said 503", "key": "key-5", "attempts": 7, "redrives": 0,
        })
    );
    let notes = "note: 6 dead letters match, 1 do not; 1 other records are no dead letters\n\
                 note: the last 2 are shown, 4 are not (see --limit)\n";
    assert_eq!(answer.messages, notes);

    let oldest = letters
        .scene
        .keylane(&[&list[..], &["--oldest-first"]].concat());
    assert_eq!(
        column(&oldest, "key"),
        ["key-0", "key-1"],
        "of all seven: {oldest:?}"
    );
    let words = letters.scene.keylane(&["dlq", "ls", DLQ]);
    assert!(words.output.contains("no such gate"), "{words:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_is_shown_whole_and_its_value_alone() {
    let letters = Letters::new(1).await;
    let value = &b"{\"z\": 1.10, \"a\": [12345678901234567890123]}"[..];
    let with = |task: NewTask| {
        task.header("keylane-retry-topic", "parking-events-retry")
            .header("keylane-first-failure", "2026-11-21T03:00:00.000Z")
            .header("keylane-redrive-count", "2")
            .header(
                "keylane-redrive-id",
                "after-the-outage/parking-events-dlq/0/7",
            )
            .header("trace", &[0xff, 1][..])
    };
    letters
        .write([with(
            letter(4, "exhausted", "order 17 failed").edited(value),
        )])
        .await;
    letters
        .write([NewTask::new("no letter").partition(0)])
        .await;
    let place = format!("{DLQ}/0@0");
    let answer = letters
        .scene
        .keylane(&["dlq", "show", &place, "-o", "json"])
        .json();
    for (name, expected) in [
        ("place", json!(place)),
        ("written_by", json!("keylane")),
        ("error", json!("order 17 failed")),
        ("first_failure", json!("2026-11-21T03:00:00.000Z")),
        ("last_failure", json!("2026-11-21T04:04:00.000Z")),
        ("origin", json!("parking-events/0@4")),
        ("retry_topic", json!("parking-events-retry")),
        ("redrives", json!(2)),
        (
            "redrive_id",
            json!("after-the-outage/parking-events-dlq/0/7"),
        ),
        ("key", json!("key-4")),
        ("value", json!(std::str::from_utf8(value).unwrap())),
    ] {
        assert_eq!(answer[name], expected, "{name} in {answer}");
    }
    assert_eq!(
        answer["fingerprint"]["text"],
        "exhausted gateway::Busy: order <n> failed"
    );
    let headers = answer["headers"].as_array().unwrap();
    for header in [
        json!({"name": "tenant", "value": "a"}),
        json!({"name": "trace", "value": {"base64": "/wE="}}),
    ] {
        assert!(headers.contains(&header), "{header} is not in {headers:?}");
    }

    let words = letters.scene.keylane(&["dlq", "show", &place]);
    assert!(
        words.output.contains("\"a\": [\n"),
        "it is laid out: {words:?}"
    );
    assert!(words.output.contains("trace: 0xff01"), "{words:?}");
    let raw = letters.scene.keylane(&["dlq", "show", &place, "--raw"]);
    assert_eq!(raw.output.as_bytes(), value);

    for (at, reason) in [
        (1, "no dead letter's headers"),
        (2, "the log has 0 to before 2"),
    ] {
        let nothing = letters
            .scene
            .keylane(&["dlq", "show", &format!("{DLQ}/0@{at}")]);
        assert_eq!(nothing.code, 1, "{nothing:?}");
        assert!(nothing.messages.contains(reason), "{nothing:?}");
    }
    let partition = letters
        .scene
        .keylane(&["dlq", "show", &format!("{DLQ}/7@0")]);
    assert!(
        partition.messages.contains("has 1 partitions"),
        "{partition:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_that_fail_alike_are_counted_together() {
    let letters = Letters::new(2).await;
    let busy = |at: i64| letter(at, "exhausted", &format!("order {at} failed"));
    letters.write((0..5).map(busy)).await;
    letters
        .write((5..8).map(|at| letter(at, "fatal", "no such gate").partition(1)))
        .await;
    let stats = |more: &[&str]| {
        let all = [&["dlq", "stats", DLQ, "-o", "json"], more].concat();
        let answer = letters.scene.keylane(&all);
        assert_eq!(answer.code, 0, "{answer:?}");
        answer
    };
    let by_fingerprint = stats(&[]);
    assert_eq!(column(&by_fingerprint, "count"), [5, 3]);
    let rows: Vec<Value> = serde_json::from_str(&by_fingerprint.output).unwrap();
    assert_eq!(
        rows[0]["fingerprint"],
        "exhausted gateway::Busy: order <n> failed"
    );
    assert_eq!(rows[0]["first"], "2026-11-21T04:00:00.000Z");
    assert_eq!(rows[0]["last"], "2026-11-21T04:04:00.000Z");
    assert_eq!(rows[0]["example"], format!("{DLQ}/0@0"));
    assert_eq!(by_fingerprint.messages, "note: 8 dead letters match\n");

    // The id of a line is a filter.
    let id = format!("fingerprint={}", rows[0]["id"].as_str().unwrap());
    assert_eq!(column(&stats(&["-f", &id]), "count"), [5]);

    let by_reason = stats(&["--by", "reason"]);
    assert_eq!(column(&by_reason, "reason"), ["exhausted", "fatal"]);
    assert_eq!(
        column(&stats(&["--by", "hour"]), "hour"),
        ["2026-11-21T04:00:00.000Z"]
    );
    assert_eq!(column(&stats(&["--by", "group"]), "group"), ["notifier"]);
    assert_eq!(
        column(&stats(&["--by", "class"]), "class"),
        ["gateway::Busy"]
    );
    let by_key = stats(&["--by", "key", "-f", "reason=fatal"]);
    let mut keys = column(&by_key, "key");
    keys.sort_by_key(ToString::to_string);
    assert_eq!(keys, ["key-5", "key-6", "key-7"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_of_other_programs_are_listed_and_shown() {
    let letters = Letters::new(1).await;
    letters
        .write(foreign().into_iter().map(|(_, task)| task))
        .await;
    let list = letters
        .scene
        .keylane(&["dlq", "ls", DLQ, "-o", "json", "--oldest-first"]);
    let count = foreign().len();
    assert_eq!(column(&list, "place").len(), count, "{list:?}");
    for (at, (program, _)) in foreign().into_iter().enumerate() {
        let place = format!("{DLQ}/0@{at}");
        let shown = letters
            .scene
            .keylane(&["dlq", "show", &place, "-o", "json"])
            .json();
        assert_eq!(shown["written_by"], program, "{shown}");
        assert_eq!(shown["origin"], "parking-events/0@42", "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_refused_with_the_reason() {
    let letters = Letters::new(1).await;
    let term = letters
        .scene
        .keylane(&["dlq", "ls", DLQ, "-f", "color=red"]);
    assert_eq!(term.code, 2, "{term:?}");
    assert!(term.messages.contains("there is no such term"), "{term:?}");
    let topic = letters.scene.keylane(&["dlq", "stats", "misspelt"]);
    assert_eq!(topic.code, 1, "{topic:?}");
    assert!(topic.messages.contains("does not exist"), "{topic:?}");
    let name = letters.scene.keylane(&["dlq", "stats", "a b"]);
    assert_eq!(name.code, 2, "{name:?}");
    let place = letters.scene.keylane(&["dlq", "show", DLQ]);
    assert_eq!(place.code, 2, "{place:?}");
}

/// Whatever is in the topic, the memory is bounded.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_groups_are_counted_and_all_others_together() {
    let letters = Letters::new(1).await;
    let small = |at: i64| {
        NewTask::new("")
            .key(at.to_string())
            .header("keylane-group", "notifier")
            .header("keylane-reason", "fatal")
    };
    letters.write((0..10_005).map(small)).await;
    let stats = ["dlq", "stats", DLQ, "--by", "key", "-o", "json"];
    let answer = letters.scene.keylane(&stats);
    assert_eq!(answer.code, 0, "{answer:?}");
    let counts = column(&answer, "count");
    assert_eq!(counts.len(), 10_001);
    assert_eq!(counts.last(), Some(&json!(5)));
    let last = column(&answer, "key").pop();
    assert_eq!(last, Some(json!({"is_other": true})));
    assert!(
        answer.messages.contains("more groups"),
        "{}",
        answer.messages
    );
}
