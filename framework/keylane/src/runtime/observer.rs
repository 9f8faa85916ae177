//! For a subscription without Kafka: what happens to each record.

use std::sync::Arc;

use keylane_core::{Settlement, Ticket, Verdict};

use super::owner::{Held, Owner};
use crate::Origin;
use crate::metrics::AttemptResult;
use crate::status::SubscriptionError;
use keylane_core::member::CommitPoint;

/// Is told while the owner has its turn, so it must not wait.
pub(crate) trait Observer: Send + Sync {
    fn attempted(&self, of: &Observed, result: AttemptResult, text: Option<String>);
    fn settled(&self, of: Observed, outcome: Settlement);
    fn parked(&self, of: Observed);
    fn stopped(&self, of: Observed, error: SubscriptionError);
    fn committable(&self, topic: &Arc<str>, partition: i32, point: &CommitPoint);
}

/// The record of an attempt or a write.
pub(crate) struct Observed {
    /// Where it was first read.
    pub(crate) record: Origin,
    pub(crate) attempts: u32,
}

impl Owner {
    /// To be asked before the core has the result: the ticket is used up by it. `None` where nobody
    /// observes, which is always so with Kafka.
    pub(super) fn observed(&self, ticket: Ticket) -> Option<Observed> {
        self.runtime.observer.as_ref()?;
        Some(Observed {
            record: self.origin_of(self.core.record(ticket)?),
            attempts: self.core.attempts(ticket)?,
        })
    }

    pub(super) fn observe(&self, observed: Option<Observed>, verdict: &Verdict<Held>) {
        let (Some(observer), Some(observed)) = (&self.runtime.observer, observed) else {
            return;
        };
        match verdict {
            Verdict::Settled { outcome, .. } => observer.settled(observed, *outcome),
            Verdict::Parked { .. } => observer.parked(observed),
            Verdict::Stop { reason, offset } => {
                observer.stopped(observed, self.exhausted(*reason, *offset));
            }
            _ => {}
        }
    }
}
