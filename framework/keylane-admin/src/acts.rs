//! Operators' acts on keys and records, each with who and why.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use keylane::SubscriptionHandle;
use keylane::error::ActError;
use keylane::record::KeyHash;
use keylane::subscription::{ActTime, KeyResumed, OperatorNote, RetriedNow};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::access;
use crate::answers::json;
use crate::problem::Problem;
use crate::routes::{Answer, At, Shared, at, not_assigned};

/// An owner answers within milliseconds, unless an attempt blocks its thread.
pub(crate) const ACT_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) type RecordPath = (String, String, String, String);
pub(crate) type Acting<'a> = Pin<Box<dyn Future<Output = Result<ActResult, ActError>> + Send + 'a>>;

/// An act, and on what.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Act {
    PauseKey(Key),
    ResumeKey(Key),
    RetryNow(Key),
    Skip(Place),
    DeadLetterNow(Place),
}

/// A key, in all topics or one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Key {
    pub(crate) topic: Option<String>,
    pub(crate) hash: KeyHash,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Place {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
}

/// What an act has done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum ActResult {
    Paused,
    Resumed(KeyResumed),
    Retried(RetriedNow),
    At(ActTime),
}

/// Carries an act out.
pub(crate) async fn carry_out(
    handle: &SubscriptionHandle,
    act: Act,
    note: OperatorNote,
) -> Result<ActResult, ActError> {
    match act {
        Act::PauseKey(Key { topic, hash }) => {
            let paused = handle.pause_key(topic.as_deref(), hash, note).await;
            paused.map(|_| ActResult::Paused)
        }
        Act::ResumeKey(Key { topic, hash }) => {
            let resumed = handle.resume_key(topic.as_deref(), hash, note).await;
            resumed.map(ActResult::Resumed)
        }
        Act::RetryNow(Key { topic, hash }) => {
            let found = handle.retry_now(topic.as_deref(), hash, note).await;
            found.map(ActResult::Retried)
        }
        Act::Skip(at) => {
            let time = handle.skip(&at.topic, at.partition, at.offset, note).await;
            time.map(ActResult::At)
        }
        Act::DeadLetterNow(at) => {
            let time = handle.dead_letter_now(&at.topic, at.partition, at.offset, note);
            time.await.map(ActResult::At)
        }
    }
}

/// The body of an act on a key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyOrder {
    key: Option<String>,
    key_hash: Option<String>,
    topic: Option<String>,
    by: String,
    why: String,
}

/// The body of an act on a record.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordOrder {
    by: String,
    why: String,
}

/// The answer.
#[derive(Serialize)]
struct Acted<'a> {
    action: &'static str,
    subscription: &'a str,
    topic: Option<&'a str>,
    partition: Option<i32>,
    offset: Option<i64>,
    key_hash: Option<KeyHash>,
    result: &'static str,
    text: String,
}

pub(crate) async fn pause_key(
    shared: State<Arc<Shared>>,
    path: At<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    on_key(&shared, path, &headers, &body, Act::PauseKey).await
}

pub(crate) async fn resume_key(
    shared: State<Arc<Shared>>,
    path: At<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    on_key(&shared, path, &headers, &body, Act::ResumeKey).await
}

pub(crate) async fn retry_now(
    shared: State<Arc<Shared>>,
    path: At<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    on_key(&shared, path, &headers, &body, Act::RetryNow).await
}

pub(crate) async fn skip(
    shared: State<Arc<Shared>>,
    path: At<RecordPath>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    on_record(&shared, path, &headers, &body, Act::Skip).await
}

pub(crate) async fn dead_letter_now(
    shared: State<Arc<Shared>>,
    path: At<RecordPath>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    on_record(&shared, path, &headers, &body, Act::DeadLetterNow).await
}

async fn on_key(
    shared: &Shared,
    path: At<String>,
    headers: &HeaderMap,
    body: &[u8],
    act: fn(Key) -> Act,
) -> Answer {
    access::authorize(shared.token.as_ref(), headers)?;
    let name = at(path)?;
    let order: KeyOrder = order(body)?;
    let hash = match (&order.key, &order.key_hash) {
        (Some(key), None) => Some(KeyHash::of(key.as_bytes())),
        (None, Some(hash)) => KeyHash::parse(hash),
        _ => None,
    };
    let hash = hash.ok_or_else(|| {
        let text = "give either `key`, or `key_hash` with its 16 hexadecimal digits";
        bad_body(text)
    })?;
    let topic = order.topic;
    let note = note(order.by, order.why)?;
    act_on(shared, &name, act(Key { topic, hash }), note).await
}

async fn on_record(
    shared: &Shared,
    path: At<RecordPath>,
    headers: &HeaderMap,
    body: &[u8],
    act: fn(Place) -> Act,
) -> Answer {
    access::authorize(shared.token.as_ref(), headers)?;
    let (name, topic, partition, offset) = at(path)?;
    let Ok(number) = partition.parse() else {
        return Err(not_assigned(&topic, &partition));
    };
    let offset = offset.parse().map_err(|_| {
        let text = "an offset is a number";
        Problem::new(StatusCode::BAD_REQUEST, "bad_path", text)
    })?;
    let order: RecordOrder = order(body)?;
    let note = note(order.by, order.why)?;
    let place = Place {
        topic,
        partition: number,
        offset,
    };
    act_on(shared, &name, act(place), note).await
}

async fn act_on(shared: &Shared, name: &str, act: Act, note: OperatorNote) -> Answer {
    let handle = shared.find(name)?;
    let acting = handle.act(act.clone(), note);
    let result = match tokio::time::timeout(shared.act_timeout, acting).await {
        Ok(result) => result.map_err(|refused| problem(&refused))?,
        Err(_) => {
            let text = "the partition's owner has not answered: an attempt may block its thread. \
                        The act may still be carried out";
            let status = StatusCode::SERVICE_UNAVAILABLE;
            return Err(Problem::new(status, "no_answer", text));
        }
    };
    Ok(answer(handle.name(), &act, result))
}

fn order<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body)
        .map_err(|error| bad_body(format!("the body is not an order in JSON: {error}")))
}

fn note(by: String, why: String) -> Result<OperatorNote, Problem> {
    if by.trim().is_empty() || why.trim().is_empty() {
        return Err(bad_body("`by` and `why` say who orders this, and why"));
    }
    Ok(OperatorNote::new(by, why))
}

fn bad_body(text: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad_body", text)
}

fn problem(refused: &ActError) -> Problem {
    let (status, code) = match refused {
        ActError::PartitionNotAssigned(_) | ActError::NothingAssigned => {
            (StatusCode::NOT_FOUND, "partition_not_assigned")
        }
        ActError::AlreadySettled { .. } => (StatusCode::CONFLICT, "already_settled"),
        ActError::NotRead { .. } => (StatusCode::CONFLICT, "not_read"),
        ActError::BeingWritten { .. } => (StatusCode::CONFLICT, "being_written"),
        ActError::NoDeadLetterTopic => (StatusCode::CONFLICT, "no_dead_letter_topic"),
        _ => (StatusCode::CONFLICT, "too_many"),
    };
    Problem::new(status, code, refused.to_string())
}

fn answer(subscription: &str, act: &Act, result: ActResult) -> Response {
    let (action, key, place) = match act {
        Act::PauseKey(key) => ("pause_key", Some(key), None),
        Act::ResumeKey(key) => ("resume_key", Some(key), None),
        Act::RetryNow(key) => ("retry_now", Some(key), None),
        Act::Skip(place) => ("skip", None, Some(place)),
        Act::DeadLetterNow(place) => ("dead_letter_now", None, Some(place)),
    };
    let topic = key.and_then(|key| key.topic.as_deref());
    let (result, text) = described(result);
    let acted = Acted {
        action,
        subscription,
        topic: topic.or(place.map(|place| &*place.topic)),
        partition: place.map(|place| place.partition),
        offset: place.map(|place| place.offset),
        key_hash: key.map(|key| key.hash),
        result,
        text,
    };
    json(StatusCode::OK, &acted)
}

/// For programs, and for people.
fn described(result: ActResult) -> (&'static str, String) {
    let (word, text) = match result {
        ActResult::Paused => ("paused", "none of its records starts"),
        ActResult::Resumed(KeyResumed::StillPaused) => {
            ("still_paused", "it is paused from elsewhere too")
        }
        ActResult::Resumed(_) => ("resumed", "its records start again"),
        ActResult::Retried(RetriedNow {
            retried,
            running,
            pending,
            ..
        }) => {
            let word = match (retried, pending) {
                (1.., _) => "retried",
                (0, 0) => "not_pending",
                (0, _) => "nothing_waits",
            };
            let text =
                format!("{retried} waited and no longer do; {running} run, {pending} are pending");
            return (word, text);
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
