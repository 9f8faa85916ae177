//! `keylane dlq purge`. The embedded broker deletes nothing: that is shown on a real Kafka.

use keylane::NewTask;
use serde_json::{Value, json};

use super::{DLQ, Letters, letter};
use crate::keylane_at;

const PURGE: [&str; 3] = ["dlq", "purge", DLQ];

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_what_would_be_deleted_and_that_it_would_be_refused() {
    let letters = Letters::new(2).await;
    letters
        .write((0..5).map(|at| letter(at, "fatal", "no")))
        .await;
    letters
        .write([NewTask::new("no letter").partition(1)])
        .await;
    let plan = |more: &[&str]| {
        let all = [&PURGE[..], &["--dry-run", "-o", "json"], more].concat();
        let answer = letters.scene.keylane(&all);
        assert_eq!(answer.code, 0, "{answer:?}");
        let rows: Vec<Value> = serde_json::from_str(&answer.output).unwrap();
        (rows, answer.messages)
    };
    let (rows, messages) = plan(&["--before", "3", "-p", "0"]);
    assert_eq!(
        rows,
        [json!({
            "topic": DLQ, "partition": 0, "first": 0, "before": 3, "letters": 3, "open": 3, "state": "planned",
        })]
    );
    assert!(
        messages.contains("it would be refused: 3 dead letters"),
        "{messages}"
    );
    assert!(messages.contains("nothing was deleted"), "{messages}");
    let (rows, messages) = plan(&["--before", "0", "-p", "0"]);
    assert_eq!(rows[0]["state"], "unchanged");
    assert!(!messages.contains("refused"), "{messages}");
    let (rows, messages) = plan(&["--before", "1", "-p", "1"]);
    assert_eq!(rows[0]["letters"], 0);
    assert!(
        messages.contains("1 records that are no dead letters"),
        "{messages}"
    );
    let (_, messages) = plan(&["--before", "3", "-p", "0", "--open-too"]);
    assert_eq!(messages, "note: nothing was deleted\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_deleted_without_a_word_for_what_is_open_and_one_more() {
    let letters = Letters::new(2).await;
    letters
        .write((0..5).map(|at| letter(at, "fatal", "no")))
        .await;
    let part = [&PURGE[..], &["--before", "3", "-p", "0"]].concat();
    let refused = letters.scene.keylane(&[&part[..], &["--yes"]].concat());
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.messages.contains("--open-too"), "{refused:?}");
    let all = [&part[..], &["--open-too"]].concat();
    let refused = letters.scene.keylane(&all);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.messages.contains("--yes"), "{refused:?}");

    let mut questions = Vec::new();
    let no = |question: &str| {
        questions.push(question.to_owned());
        Ok(false)
    };
    let refused = keylane_at(&letters.scene, &all, Box::new(no));
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        questions[0].starts_with(&format!(
            "Delete 3 dead letters of {DLQ} for good, of which 3 "
        )),
        "{questions:?}"
    );
    // The mock cannot, and the command says so.
    let tried = letters.scene.keylane(&[&all[..], &["--yes"]].concat());
    assert_eq!(tried.code, 1, "{tried:?}");
    assert!(
        tried.messages.contains("cannot delete records"),
        "{tried:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_needs_a_partition_and_lies_in_the_log() {
    let letters = Letters::new(2).await;
    letters.write([letter(0, "fatal", "no")]).await;
    for (wrong, code, reason) in [
        (&["--before", "1"][..], 2, "--partition"),
        (&["--before", "2", "-p", "0"], 1, "0 to 1"),
        (&["--before", "1", "-p", "9"], 1, "no partition 9"),
        (&["--before", "soon"], 2, "90m"),
        (&[], 2, "--before"),
    ] {
        let answer = letters
            .scene
            .keylane(&[&PURGE[..], wrong, &["--yes"]].concat());
        assert_eq!(answer.code, code, "{wrong:?}: {answer:?}");
        assert!(answer.messages.contains(reason), "{wrong:?}: {answer:?}");
    }
}
