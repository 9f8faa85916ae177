//! What is answered to an act.

use axum::http::StatusCode;
use axum::response::Response;
use keylane::record::KeyHash;
use keylane::subscription::{ActTime, KeyOutlook, KeyResumed, RecordOutlook, RetriedNow};
use serde::Serialize;

use super::{Act, ActResult, Tried};
use crate::answers::json;

#[derive(Serialize)]
struct Acted<'a> {
    action: &'static str,
    subscription: &'a str,
    topic: Option<&'a str>,
    partition: Option<i32>,
    offset: Option<i64>,
    key_hash: Option<KeyHash>,
    dry_run: bool,
    result: &'static str,
    text: String,
    /// Of a dry run: the attempts of the record, and the records of the key.
    attempts: Option<u32>,
    of_key: Option<OfKey>,
}

#[derive(Serialize)]
struct OfKey {
    pending: usize,
    running: usize,
    waiting: usize,
}

impl From<KeyOutlook> for OfKey {
    fn from(found: KeyOutlook) -> Self {
        Self {
            pending: found.pending,
            running: found.running,
            waiting: found.waiting,
        }
    }
}

impl<'a> Acted<'a> {
    fn of(subscription: &'a str, act: &'a Act, (result, text): (&'static str, String)) -> Self {
        let (action, key, place) = match act {
            Act::PauseKey(key) => ("pause_key", Some(key), None),
            Act::ResumeKey(key) => ("resume_key", Some(key), None),
            Act::RetryNow(key) => ("retry_now", Some(key), None),
            Act::Skip(place) => ("skip", None, Some(place)),
            Act::DeadLetterNow(place) => ("dead_letter_now", None, Some(place)),
            Act::ReleaseHeld => ("release_held", None, None),
        };
        let topic = key.and_then(|key| key.topic.as_deref());
        Self {
            action,
            subscription,
            topic: topic.or(place.map(|place| &*place.topic)),
            partition: place.map(|place| place.partition),
            offset: place.map(|place| place.offset),
            key_hash: key.map(|key| key.hash),
            dry_run: false,
            result,
            text,
            attempts: None,
            of_key: None,
        }
    }
}

pub(super) fn done(subscription: &str, act: &Act, result: ActResult) -> Response {
    let acted = Acted::of(subscription, act, described(result));
    json(StatusCode::OK, &acted)
}

pub(super) fn tried(subscription: &str, act: &Act, found: Tried) -> Response {
    let (word, text) = match found {
        Tried::Key(found) => of_key(act, found),
        Tried::Record(found) => of_record(found),
        Tried::Held(held) => {
            let text =
                format!("{held} records are held, and would be given up at their next failure");
            (released(held), text)
        }
    };
    let text = format!("nothing was changed: {text}");
    let mut acted = Acted::of(subscription, act, (word, text));
    acted.dry_run = true;
    match found {
        Tried::Key(found) => acted.of_key = Some(found.into()),
        Tried::Record(found) => {
            acted.key_hash = found.key_hash;
            acted.attempts = found.attempts;
            acted.of_key = Some(found.of_key.into());
        }
        Tried::Held(_) => {}
    }
    json(StatusCode::OK, &acted)
}

/// What an act on a key would do: a word for programs, and a text for people.
fn of_key(act: &Act, found: KeyOutlook) -> (&'static str, String) {
    let KeyOutlook {
        pending,
        running,
        waiting,
        ..
    } = found;
    let here = format!("{pending} records of the key are pending");
    match act {
        Act::PauseKey(_) if found.is_paused => ("paused", format!("the key is paused; {here}")),
        Act::PauseKey(_) => (
            "paused",
            format!("{here}; {running} run and would finish, and none would start"),
        ),
        Act::ResumeKey(_) if found.is_paused_elsewhere => (
            "still_paused",
            format!("the key would stay paused from elsewhere; {here}"),
        ),
        Act::ResumeKey(_) => {
            let paused = match found.is_paused {
                true => "would start again",
                false => "are not paused",
            };
            ("resumed", format!("{here}; they {paused}"))
        }
        _ => (
            retried(waiting, pending),
            format!("{here}; {waiting} wait and no longer would, {running} run"),
        ),
    }
}

fn of_record(found: RecordOutlook) -> (&'static str, String) {
    let (word, text) = match found.time {
        ActTime::Now => (
            "now",
            "it neither runs nor is being written, and would be given up at once",
        ),
        ActTime::AtItsTurn => (
            "at_its_turn",
            "it waits behind others of its key, and would be given up at its turn",
        ),
        ActTime::AfterItsAttempt => (
            "after_its_attempt",
            "it runs, and would be given up at the end of the attempt, unless that succeeds",
        ),
        ActTime::AfterItsWrite => (
            "after_its_write",
            "it is being written to another topic, and would be given up if the write fails",
        ),
        _ => (
            "when_read",
            "it was not read yet, and would be given up when it is",
        ),
    };
    let others = found.of_key.pending.saturating_sub(1);
    let text = match found.attempts {
        Some(attempts) => {
            format!("{text}; {attempts} attempts until now; {others} others of its key are pending")
        }
        None => text.to_owned(),
    };
    (word, text)
}

fn released(held: u64) -> &'static str {
    match held {
        0 => "nothing_held",
        _ => "released",
    }
}

fn retried(retried: usize, pending: usize) -> &'static str {
    match (retried, pending) {
        (1.., _) => "retried",
        (0, 0) => "not_pending",
        (0, _) => "nothing_waits",
    }
}

/// For programs, and for people.
fn described(result: ActResult) -> (&'static str, String) {
    let (word, text) = match result {
        ActResult::Paused => ("paused", "none of its records starts"),
        ActResult::Resumed(KeyResumed::StillPaused) => {
            ("still_paused", "it is paused from elsewhere too")
        }
        ActResult::Resumed(_) => ("resumed", "its records start again"),
        ActResult::Retried(found) => {
            let RetriedNow {
                running, pending, ..
            } = found;
            let waited = found.retried;
            let text =
                format!("{waited} waited and no longer do; {running} run, {pending} are pending");
            return (retried(waited, pending), text);
        }
        ActResult::Released(held) => {
            let text = format!("{held} records were held; they are given up at their next failure");
            return (released(held), text);
        }
        ActResult::At(ActTime::Now) => (
            "now",
            "it waited; it is settled, or its dead letter is written next",
        ),
        ActResult::At(ActTime::AtItsTurn) => (
            "at_its_turn",
            "it waits behind others of its key; this is done at its turn",
        ),
        ActResult::At(ActTime::AfterItsAttempt) => (
            "after_its_attempt",
            "it runs; this is done at the end of the attempt, unless that succeeds",
        ),
        ActResult::At(ActTime::AfterItsWrite) => (
            "after_its_write",
            "it is being written to another topic; this is done if the write fails",
        ),
        ActResult::At(_) => ("when_read", "it was not read yet; this is done when it is"),
    };
    (word, text.to_owned())
}
