//! `keylane dlq resolve`, `status` and `cancel`.

use serde_json::Value;

use super::{DLQ, Letters, foreign, letter};
use crate::{Answer, GROUP, keylane_at};

async fn letters(count: i64) -> Letters {
    let letters = Letters::new(2).await;
    let ops = format!("{GROUP}-keylane-ops");
    letters.scene.broker.create_topic(&ops, 1).unwrap();
    letters
        .write((0..count).map(|at| letter(at, "fatal", "no such gate")))
        .await;
    letters
}

/// The offsets in partition 0 of the letters that are open, as `ls` and `stats` have them.
fn open(letters: &Letters) -> Vec<i64> {
    let list = ["dlq", "ls", DLQ, "--open", "--oldest-first", "-o", "json"];
    let list = letters.scene.keylane(&list).json();
    let offset = |row: &Value| {
        let place = row["place"].as_str().unwrap();
        place.rsplit_once('@').unwrap().1.parse().unwrap()
    };
    let offsets: Vec<i64> = list.as_array().unwrap().iter().map(offset).collect();
    let stats = letters
        .scene
        .keylane(&["dlq", "stats", DLQ, "--open", "-o", "json"]);
    let counts = stats.json();
    let counts = counts
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["count"].as_i64().unwrap());
    assert_eq!(counts.sum::<i64>(), i64::try_from(offsets.len()).unwrap());
    offsets
}

fn resolve(letters: &Letters, arguments: &[&str]) -> Answer {
    let all = [&["dlq", "resolve", "-o", "json"], arguments].concat();
    letters.scene.keylane(&all)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_was_resolved_is_not_open_until_that_is_taken_back() {
    let letters = letters(5).await;
    assert_eq!(open(&letters), [0, 1, 2, 3, 4]);
    let (one, two) = (format!("{DLQ}/0@0"), format!("{DLQ}/0@1"));
    let planned = resolve(&letters, &[&one, "--why", "refunded", "--dry-run"]);
    assert_eq!(planned.json()[0]["state"], "planned");
    assert_eq!(open(&letters), [0, 1, 2, 3, 4]);

    let done = resolve(&letters, &[&one, &two, "--why", "refunded"]).json();
    assert_eq!(
        done.as_array().unwrap().len(),
        1,
        "neighbours are one range: {done}"
    );
    assert_eq!(
        (&done[0]["first"], &done[0]["last"]),
        (&0.into(), &1.into())
    );
    assert_eq!(done[0]["group"], GROUP);
    assert_eq!(open(&letters), [2, 3, 4]);

    let rest = [DLQ, "--filter", "reason=fatal", "--why", "test data"];
    let refused = resolve(&letters, &rest);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.messages.contains("--yes"), "{refused:?}");
    let mut question = String::new();
    let ask = |text: &str| {
        question = text.to_owned();
        Ok(false)
    };
    let refused = keylane_at(
        &letters.scene,
        &[&["dlq", "resolve"], &rest[..]].concat(),
        Box::new(ask),
    );
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        question.starts_with("Resolve 3 dead letters"),
        "what is resolved is left out: {question}"
    );
    assert_eq!(open(&letters), [2, 3, 4]);

    resolve(&letters, &[&rest[..], &["--yes"]].concat()).json();
    assert!(open(&letters).is_empty());
    let purge = [
        "dlq",
        "purge",
        DLQ,
        "-p",
        "0",
        "--before",
        "5",
        "--dry-run",
        "-o",
        "json",
    ];
    let purge = letters.scene.keylane(&purge);
    assert!(!purge.messages.contains("refused"), "{purge:?}");
    assert_eq!(purge.json()[0]["open"], 0);

    resolve(&letters, &[&two, "--undo", "--why", "the wrong one"]).json();
    assert_eq!(open(&letters), [1]);
    let handled = ["dlq", "purge", DLQ, "--handled", "--dry-run", "-o", "json"];
    let handled = letters.scene.keylane(&handled).json();
    assert_eq!(
        handled[0]["before"], 1,
        "up to the first that is open: {handled}"
    );
    assert_eq!(handled[1]["state"], "unchanged");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_resolved_has_one_group_and_a_reason() {
    let letters = letters(1).await;
    letters
        .write(foreign().into_iter().map(|(_, task)| task))
        .await;
    let one = format!("{DLQ}/0@0");
    for (wrong, code, reason) in [
        (&[one.as_str()][..], 2, "--why"),
        (&[&one, "--why", " "], 2, "--why"),
        (&[&one, "--why", "x", "--by", ""], 2, "--by"),
        (&[DLQ, "--why", "x"], 2, "--filter"),
        (
            &[&format!("{DLQ}/0@99"), "--why", "x"],
            1,
            "there is no record",
        ),
        (
            &[DLQ, "-f", "offset=0..", "--why", "x", "--yes"],
            1,
            "several groups",
        ),
        // Connect names no group.
        (
            &[&format!("{DLQ}/0@4"), "--why", "x"],
            1,
            "no consumer group",
        ),
    ] {
        let answer = resolve(&letters, wrong);
        assert_eq!(answer.code, code, "{wrong:?}: {answer:?}");
        assert!(answer.messages.contains(reason), "{wrong:?}: {answer:?}");
    }
    let of_connect = [&format!("{DLQ}/0@4"), "--why", "x", "--group", GROUP];
    resolve(&letters, &of_connect).json();
    assert!(!open(&letters).contains(&4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_that_is_not_there_has_no_status_and_no_end() {
    let letters = letters(1).await;
    let none = letters.scene.keylane(&["dlq", "status", GROUP]);
    assert_eq!(none.code, 0, "{none:?}");
    assert!(none.messages.contains("there is no redrive"), "{none:?}");
    assert_eq!(letters.scene.keylane(&["dlq", "status"]).code, 0);
    let one = letters
        .scene
        .keylane(&["dlq", "status", GROUP, "--task", "x"]);
    assert_eq!(one.code, 1, "{one:?}");
    let cancel = letters
        .scene
        .keylane(&["dlq", "cancel", GROUP, "x", "--why", "y"]);
    assert_eq!(cancel.code, 1, "{cancel:?}");
    assert!(cancel.messages.contains("no redrive x"), "{cancel:?}");
}
