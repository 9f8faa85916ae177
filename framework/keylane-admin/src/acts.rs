//! Operators' acts, each with who and why, and each can be tried dry.

mod answer;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use keylane::SubscriptionHandle;
use keylane::error::ActError;
use keylane::record::KeyHash;
use keylane::subscription::{
    ActTime, KeyOutlook, KeyResumed, OperatorNote, RecordOutlook, RetriedNow,
};
use serde::Deserialize;

use crate::access;
use crate::orders::{DryRun, bad_body, note, order};
use crate::problem::Problem;
use crate::routes::{Answer, At, Shared, at, not_assigned};

/// An owner answers within milliseconds, unless an attempt blocks its thread.
pub(crate) const ACT_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) type RecordPath = (String, String, String, String);
pub(crate) type Acting<'a> = Pin<Box<dyn Future<Output = Result<ActResult, ActError>> + Send + 'a>>;
pub(crate) type Trying<'a> = Pin<Box<dyn Future<Output = Result<Tried, ActError>> + Send + 'a>>;

/// An act, and on what.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Act {
    PauseKey(Key),
    ResumeKey(Key),
    RetryNow(Key),
    Skip(Place),
    DeadLetterNow(Place),
    ReleaseHeld,
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
    /// How many were held.
    Released(u64),
}

/// What an act would find.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Tried {
    Key(KeyOutlook),
    Record(RecordOutlook),
    Held(u64),
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
        Act::ReleaseHeld => {
            let held = handle.dry_run().release_held();
            handle.release_held(note);
            Ok(ActResult::Released(held))
        }
    }
}

/// Finds what an act would do.
pub(crate) async fn try_out(handle: &SubscriptionHandle, act: Act) -> Result<Tried, ActError> {
    let dry_run = handle.dry_run();
    match act {
        Act::PauseKey(Key { topic, hash }) => {
            let found = dry_run.pause_key(topic.as_deref(), hash).await;
            found.map(Tried::Key)
        }
        Act::ResumeKey(Key { topic, hash }) => {
            let found = dry_run.resume_key(topic.as_deref(), hash).await;
            found.map(Tried::Key)
        }
        Act::RetryNow(Key { topic, hash }) => {
            let found = dry_run.retry_now(topic.as_deref(), hash).await;
            found.map(Tried::Key)
        }
        Act::Skip(at) => {
            let found = dry_run.skip(&at.topic, at.partition, at.offset).await;
            found.map(Tried::Record)
        }
        Act::DeadLetterNow(at) => {
            let found = dry_run.dead_letter_now(&at.topic, at.partition, at.offset);
            found.await.map(Tried::Record)
        }
        Act::ReleaseHeld => Ok(Tried::Held(dry_run.release_held())),
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
    #[serde(default)]
    dry_run: DryRun,
}

/// The body of an act on a record, or on all that is held.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordOrder {
    by: String,
    why: String,
    #[serde(default)]
    dry_run: DryRun,
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
    let act = act(Key { topic, hash });
    act_on(shared, &name, act, note, order.dry_run).await
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
    act_on(shared, &name, act(place), note, order.dry_run).await
}

pub(crate) async fn release_held(
    shared: State<Arc<Shared>>,
    path: At<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    access::authorize(shared.token.as_ref(), &headers)?;
    let name = at(path)?;
    let order: RecordOrder = order(&body)?;
    let note = note(order.by, order.why)?;
    act_on(&shared, &name, Act::ReleaseHeld, note, order.dry_run).await
}

async fn act_on(
    shared: &Shared,
    name: &str,
    act: Act,
    note: OperatorNote,
    dry_run: DryRun,
) -> Answer {
    let handle = shared.find(name)?;
    let (name, within) = (handle.name(), shared.act_timeout);
    match dry_run {
        DryRun::No => {
            let result = answered(within, handle.act(act.clone(), note)).await?;
            Ok(answer::done(name, &act, result))
        }
        DryRun::Yes => {
            let found = answered(within, handle.try_act(act.clone())).await?;
            Ok(answer::tried(name, &act, found))
        }
    }
}

async fn answered<T>(
    within: Duration,
    asked: impl Future<Output = Result<T, ActError>>,
) -> Result<T, Problem> {
    match tokio::time::timeout(within, asked).await {
        Ok(result) => result.map_err(|refused| problem(&refused)),
        Err(_) => {
            let text = "the partition's owner has not answered: an attempt may block its thread. \
                        The act may still be carried out";
            let status = StatusCode::SERVICE_UNAVAILABLE;
            Err(Problem::new(status, "no_answer", text))
        }
    }
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
