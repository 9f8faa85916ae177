//! The history of a failed record's attempts, for its headers.

use std::borrow::Cow;

use crate::dead_letter::{ErrorText, FailureHistory};
use crate::runtime::pending_record::PendingRecord;
use crate::support::clock;

pub(super) fn history(
    pending: &PendingRecord,
    attempts: u32,
    reason: &'static str,
) -> FailureHistory {
    match &pending.failure {
        Some(failure) => FailureHistory {
            attempts,
            reason,
            ..(**failure).clone()
        },
        None => {
            let now = clock::unix_millis();
            FailureHistory {
                attempts,
                first_failure_millis: now,
                last_failure_millis: now,
                reason,
                class: Cow::Borrowed(""),
                error: ErrorText::default(),
            }
        }
    }
}

/// The history of a poison record, for its headers. The times of the crashes are no longer known.
pub(super) fn poison_history(
    pending: &PendingRecord,
    attempts: u32,
    crashes: u32,
) -> FailureHistory {
    let now = clock::unix_millis();
    let first = pending
        .record
        .retry_state()
        .and_then(|retry| retry.first_failure_millis);
    FailureHistory {
        attempts: attempts.saturating_add(crashes),
        first_failure_millis: first.unwrap_or(now),
        last_failure_millis: now,
        reason: keylane_core::Reason::Poison.as_str(),
        class: Cow::Borrowed(keylane_core::Reason::Poison.as_str()),
        error: ErrorText::of(&format!(
            "poison: the process ended {crashes} times while this record was being processed"
        )),
    }
}
