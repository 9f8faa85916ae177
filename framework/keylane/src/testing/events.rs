//! What a subscription without Kafka says of its records.

use bytes::Bytes;

use crate::{Headers, Origin, SubscriptionError};

/// What has happened to a record of a [`LocalSubscription`](super::LocalSubscription). A record is
/// named by where it was first read, also when it comes back through the retry topic.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LocalEvent {
    /// An attempt has ended.
    #[non_exhaustive]
    Attempted {
        /// The record.
        record: Origin,
        /// The number of the attempt, from 1.
        attempt: u32,
        /// The `result` label of `keylane_attempts_total`: `ok`, `skip`, `error`, `fatal`,
        /// `undecodable`, `panic` or `timeout`.
        result: &'static str,
        /// The error's text, or the reason of a skip.
        text: Option<String>,
    },
    /// The record is settled in the partition it was read from.
    #[non_exhaustive]
    Settled {
        /// The record.
        record: Origin,
        /// How often it was attempted.
        attempts: u32,
        /// How.
        outcome: LocalOutcome,
    },
    /// The record is parked: it stays unsettled, and its key waits.
    #[non_exhaustive]
    Parked {
        /// The record.
        record: Origin,
        /// How often it was attempted.
        attempts: u32,
    },
    /// A record was written to the retry or the dead-letter topic.
    Written(LocalRecord),
    /// The record is out of retries, and the subscription ends because of it. The record stays
    /// unsettled.
    #[non_exhaustive]
    Stopped {
        /// The record.
        record: Origin,
        /// How often it was attempted.
        attempts: u32,
        /// The error with which `run` returns.
        error: SubscriptionError,
    },
}

/// How a record was settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LocalOutcome {
    /// The processor has done it.
    Done,
    /// The processor has skipped it.
    Skipped,
    /// The retry topic has it, from which it is read next.
    Retried,
    /// The dead-letter topic has it.
    DeadLettered,
}

/// A record in the retry or the dead-letter topic.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LocalRecord {
    /// Where it is.
    pub place: Origin,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Its headers.
    pub headers: Headers,
}
