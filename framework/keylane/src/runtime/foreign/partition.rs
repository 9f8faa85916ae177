//! The owner's part in handling retries of other groups.

use std::time::{Duration, Instant};

use keylane_core::{Delivered, Delivery, HeldBecause, Moment, Offset, Ruling, Settlement};

use super::held::Place;
use super::ownership::RetryOwnership;
use crate::record::Record;
use crate::runtime::acts::skipped_at_delivery;
use crate::runtime::owned::OwnedPartition;
use crate::runtime::pending_record::PendingRecord;
use crate::runtime::report::report_foreign;
use crate::runtime::shared::Runtime;
use crate::runtime::verdicts::carry_out;
use crate::support::clock;

/// Held records are checked when an answer has come, and at least at this interval, so that their
/// groups are queried again.
const LOOK: Duration = Duration::from_secs(10);

/// An owner's state for retries of other groups.
pub(crate) struct Foreign {
    is_retry_topic: bool,
    /// The version of the answers at the last check.
    version: u64,
    looked: Instant,
    /// A record of another group was delivered in this pass.
    met: bool,
    /// That records are held, and why, is in the status.
    is_noted: bool,
}

impl Foreign {
    pub(crate) fn new(runtime: &Runtime, is_retry_topic: bool) -> Self {
        let version = runtime
            .ownership
            .as_ref()
            .map_or(0, RetryOwnership::version);
        Self {
            is_retry_topic,
            version,
            looked: clock::now(),
            met: false,
            is_noted: false,
        }
    }

    /// What becomes of a record.
    pub(crate) fn rule(&self, owned: &OwnedPartition, record: &Record, now: Moment) -> Ruling {
        match &owned.runtime.ownership {
            Some(ownership) if self.is_retry_topic => ownership.rule(record, now),
            _ => Ruling::Process,
        }
    }

    /// Hands a record to the core that is not to be processed here, or not yet known to be
    /// another's.
    pub(crate) fn deliver(
        &mut self,
        owned: &mut OwnedPartition,
        record: Record,
        ruling: Ruling,
        now: Moment,
    ) {
        self.met = true;
        let bytes = record.size();
        let attempts = record.retry_state().map_or(0, |retry| retry.attempts);
        let delivery = Delivery {
            offset: Offset::new(record.offset()),
            lane: None,
            bytes,
            due: None,
            rounds: 0,
            attempts,
            retried_for: Duration::ZERO,
            record: PendingRecord::new(record.clone()),
        };
        match owned.core.deliver_ruled(delivery, ruling, now) {
            Delivered::Queued => {
                if let Ruling::Hold(because) = ruling {
                    self.show_held(owned, &record, because);
                }
            }
            Delivered::Repeated => {
                owned.metrics.repeated_deliveries(1);
                owned.release(bytes);
            }
            Delivered::AlreadySettled => owned.release(bytes),
            Delivered::SkippedByOperator => {
                let offset = record.offset();
                skipped_at_delivery(owned, offset, attempts, Some(PendingRecord::new(record)));
            }
            Delivered::Foreign => {
                report_foreign(owned, &record);
                owned.metrics.settled(Settlement::Foreign, 1);
                owned.release(bytes);
            }
        }
    }

    /// Settles held records whose group is known to be alive, and has other groups queried.
    pub(crate) fn look_after_held(&mut self, owned: &mut OwnedPartition, now: Moment) {
        let runtime = owned.runtime.clone();
        let Some(ownership) = &runtime.ownership else {
            return;
        };
        let met = std::mem::take(&mut self.met);
        if owned.core.held() > 0 {
            let version = ownership.version();
            if version != self.version || clock::elapsed(self.looked) >= LOOK {
                self.version = version;
                self.looked = clock::now();
                self.look_at_held(owned, ownership, now);
            }
        } else {
            // Also where an operator has settled what was held.
            self.forget_held(owned);
            if !met {
                return;
            }
        }
        ownership.ask(now);
    }

    fn look_at_held(
        &mut self,
        owned: &mut OwnedPartition,
        ownership: &RetryOwnership,
        now: Moment,
    ) {
        let mut still_held = None;
        let settled = owned
            .core
            .settle_held(|held| match ownership.rule(&held.record, now) {
                Ruling::Settle => true,
                Ruling::Hold(because) if because != HeldBecause::Asking => {
                    still_held.get_or_insert_with(|| (held.record.clone(), because));
                    false
                }
                _ => false,
            });
        for verdict in settled {
            carry_out(owned, None, verdict);
        }
        if owned.core.held() == 0 {
            self.forget_held(owned);
        } else if let Some((record, because)) = still_held {
            self.note_held(owned, &record, because);
        }
    }

    /// The first of the held records stands for all.
    fn show_held(&mut self, owned: &OwnedPartition, record: &Record, because: HeldBecause) {
        if because != HeldBecause::Asking && !self.is_noted {
            self.note_held(owned, record, because);
        }
    }

    fn note_held(&mut self, owned: &OwnedPartition, record: &Record, because: HeldBecause) {
        self.is_noted = true;
        if let Some(ownership) = &owned.runtime.ownership {
            ownership.note_held(place(owned), Some((record, because)));
        }
    }

    /// Nothing is held here, or not by this owner any longer.
    pub(crate) fn forget_held(&mut self, owned: &OwnedPartition) {
        if !std::mem::take(&mut self.is_noted) {
            return;
        }
        if let Some(ownership) = &owned.runtime.ownership {
            ownership.note_held(place(owned), None);
        }
    }
}

fn place(owned: &OwnedPartition) -> Place {
    Place {
        partition: owned.source.partition,
        epoch: owned.core.epoch(),
    }
}
