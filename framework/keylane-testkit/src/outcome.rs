//! What was seen of a task.

use std::time::Duration;

use keylane::record::Origin;
use keylane::testing::AttemptResult;

/// An attempt that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// Its number, from 1.
    pub number: u32,
    /// How it ended.
    pub result: AttemptResult,
    /// The error with its causes, or the reason of a skip.
    pub text: Option<String>,
    /// When it ended, since the subscription was started, in the time of the test.
    pub ended_after: Duration,
}

/// Tasks were not settled in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not settled after {waited:?}: {} task(s), the first at {}-{}@{}; `TestHandle::outage` and `attempts` show what they wait for",
    .pending.len(), .pending[0].topic, .pending[0].partition, .pending[0].offset)]
#[non_exhaustive]
pub struct NotIdle {
    /// Those that are left, at least one.
    pub pending: Vec<Origin>,
    /// How long they were waited for, in the time of the test.
    pub waited: Duration,
}
