//! The history of a failed record's attempts, for its headers.

use std::borrow::Cow;

use keylane_core::{OperatorNote, Reason};

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

/// The same of a record that is given up. `crashes`: those at which it was named. `order`: of an
/// operator.
pub(super) fn last_history(
    pending: &PendingRecord,
    attempts: u32,
    reason: Reason,
    crashes: u32,
    order: Option<&OperatorNote>,
) -> FailureHistory {
    match reason {
        Reason::Poison => poison_history(pending, attempts, crashes),
        Reason::Operator => ordered_history(pending, attempts, order),
        reason => history(pending, attempts, reason.as_str()),
    }
}

/// Its error names the order, and then the error of its last attempt.
fn ordered_history(
    pending: &PendingRecord,
    attempts: u32,
    order: Option<&OperatorNote>,
) -> FailureHistory {
    let history = history(pending, attempts, Reason::Operator.as_str());
    let (by, why) = order.map_or(("", ""), |note| (&*note.by, &*note.why));
    let mut error = format!("given up by an operator ({by}): {why}");
    if let Some(last) = pending.last_error() {
        error.push_str("; last error: ");
        error.push_str(last.as_str());
    }
    let class = match history.class {
        class if class.is_empty() => Cow::Borrowed(Reason::Operator.as_str()),
        class => class,
    };
    FailureHistory {
        class,
        error: ErrorText::of(&error),
        ..history
    }
}

/// The times of the crashes are no longer known.
fn poison_history(pending: &PendingRecord, attempts: u32, crashes: u32) -> FailureHistory {
    let now = clock::unix_millis();
    let first = pending
        .record
        .retry_state()
        .and_then(|retry| retry.first_failure_millis);
    FailureHistory {
        attempts: attempts.saturating_add(crashes),
        first_failure_millis: first.unwrap_or(now),
        last_failure_millis: now,
        reason: Reason::Poison.as_str(),
        class: Cow::Borrowed(Reason::Poison.as_str()),
        error: ErrorText::of(&format!(
            "poison: the process ended {crashes} times while this record was being processed"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Arena, Record};

    /// No attempt of it has ended in this process.
    #[test]
    fn what_is_stated_of_a_poison_record_is_how_many_times_the_process_ended() {
        let record = Record::new(&mut Arena::default(), 1, None, None, None, None);
        let pending = PendingRecord::new(record);
        let poison = last_history(&pending, 0, Reason::Poison, 2, None);
        assert_eq!((poison.attempts, poison.reason), (2, "poison"));
        assert_eq!(
            poison.error.as_str(),
            "poison: the process ended 2 times while this record was being processed"
        );
        let other = last_history(&pending, 1, Reason::Fatal, 1, None);
        assert_eq!((other.attempts, other.reason), (1, "fatal"));
    }
}
