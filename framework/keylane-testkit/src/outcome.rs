//! What became of a record.

use std::time::Duration;

use keylane::Origin;

/// What became of a task. `attempts` counts over all rounds of the retry topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The processor has done it.
    Done {
        /// How often it was attempted.
        attempts: u32,
    },
    /// The processor has skipped it.
    Skipped {
        /// How often it was attempted.
        attempts: u32,
    },
    /// The dead-letter topic has it.
    DeadLettered {
        /// How often it was attempted.
        attempts: u32,
    },
    /// It is parked: unsettled for good, with its key behind it.
    Parked {
        /// How often it was attempted.
        attempts: u32,
    },
    /// It was out of retries, and ended the subscription
    /// ([`Exhausted::Stop`](keylane::Exhausted::Stop)).
    Stopped {
        /// How often it was attempted.
        attempts: u32,
    },
    /// It is not settled yet: it waits for its next attempt, is held because of an outage, or was
    /// left over by a stop.
    Pending {
        /// How often it was attempted so far.
        attempts: u32,
    },
}

/// An attempt that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// Its number, from 1.
    pub number: u32,
    /// How it ended: `ok`, `skip`, `error`, `fatal`, `undecodable`, `panic` or `timeout`, as in the
    /// label `result` of `keylane_attempts_total`.
    pub result: &'static str,
    /// The error with its causes, or the reason of a skip.
    pub text: Option<String>,
    /// When it ended, since the subscription was started, in the time of the test.
    pub ended_after: Duration,
}

/// Tasks were not settled in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} tasks are neither settled nor parked after {patience:?}, the first at {}-{}@{}",
    .pending.len(), .pending[0].topic, .pending[0].partition, .pending[0].offset)]
#[non_exhaustive]
pub struct NotIdle {
    /// Those that are left, at least one.
    pub pending: Vec<Origin>,
    /// How long they were waited for.
    pub patience: Duration,
}
