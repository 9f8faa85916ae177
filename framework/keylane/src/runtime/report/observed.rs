//! What an observer gets about a record.

use keylane_core::{Reason, Ticket, Verdict};

use crate::runtime::observer::Observed;
use crate::runtime::owned::OwnedPartition;
use crate::runtime::pending_record::PendingRecord;
use crate::status::SubscriptionError;

/// To be called before the core has the result, which uses up the ticket. `None` without an
/// observer, which is always so with Kafka.
pub(crate) fn observed(owned: &OwnedPartition, ticket: Ticket) -> Option<Observed> {
    owned.runtime.observer.as_ref()?;
    Some(Observed {
        record: owned.origin_of(owned.core.record(ticket)?),
        attempts: owned.core.attempts(ticket)?,
    })
}

pub(crate) fn observe(
    owned: &OwnedPartition,
    observed: Option<Observed>,
    verdict: &Verdict<PendingRecord>,
) {
    let (Some(observer), Some(observed)) = (&owned.runtime.observer, observed) else {
        return;
    };
    match verdict {
        Verdict::Settled { outcome, .. } => observer.settled(observed, *outcome),
        Verdict::Parked { .. } => observer.parked(observed),
        Verdict::Stop { reason, offset } => {
            observer.stopped(observed, exhausted(owned, *reason, *offset));
        }
        _ => {}
    }
}

/// The error that stops the subscription, by policy: a record failed for good.
pub(crate) fn exhausted(
    owned: &OwnedPartition,
    reason: Reason,
    offset: keylane_core::Offset,
) -> SubscriptionError {
    SubscriptionError::RetriesExhausted {
        topic: owned.source.topic.to_string(),
        partition: owned.source.partition,
        offset: offset.get(),
        reason: reason.as_str(),
    }
}
