use super::*;
use crate::failure::Failure;

/// A guard that has seen as many lanes fail as make an outage, each with its own error, and no success.
pub(crate) fn total_outage(now: Moment) -> OutageGuard {
    let mut guard = OutageGuard::default();
    let source = guard.join();
    for lane in 0..OUTAGE_LANES as u64 {
        let attempt = FailedAttempt { class: ErrorClass::new(lane), ..Failure::Retryable.into() };
        assert!(guard.failed(source, 1_000_000 + lane, attempt, now));
    }
    guard
}
