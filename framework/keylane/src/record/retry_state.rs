//! The earlier rounds of a record of a retry topic.

use std::time::Duration;

use super::Origin;

/// The earlier rounds of a record from a retry topic, by its headers. A damaged value counts as
/// absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RetryState {
    /// How often it went through the retry topic; 0 for a record that never did.
    pub(crate) round: u32,
    /// Attempts before it was written there.
    pub(crate) attempts: u32,
    /// Not to be tried before this time; `None` is at once.
    pub(crate) due_millis: Option<i64>,
    /// Another program has requeued it since keylane did.
    pub(crate) requeued: bool,
    /// How much of its retry time was used up before this delivery.
    pub(crate) retried_for: Duration,
    pub(crate) origin: Option<Origin>,
    pub(crate) origin_timestamp: Option<i64>,
    pub(crate) first_failure_millis: Option<i64>,
}

impl RetryState {
    /// When it failed first: a time in the future, of a clock that was wrong, counts as now.
    pub(crate) fn first_failure_by(&self, now_millis: i64) -> Option<i64> {
        self.first_failure_millis.map(|first| first.min(now_millis))
    }
}
