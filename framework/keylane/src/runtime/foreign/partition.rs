//! Retries of other groups, as an owner meets them.

use std::time::{Duration, Instant};

use keylane_core::{Delivered, Delivery, HeldBecause, Moment, Offset, Ruling, Settlement};

use super::held::Place;
use super::ownership::RetryOwnership;
use crate::Record;
use crate::runtime::owner::{Held, Owner};
use crate::runtime::shared::Runtime;
use crate::support::clock;

/// Held records are looked at when an answer has come, and at least this often: by that their
/// groups go on being asked about.
const LOOK: Duration = Duration::from_secs(10);

/// What an owner keeps of it.
pub(crate) struct Foreign {
    is_retry_topic: bool,
    /// Of the answers, at the last look.
    version: u64,
    looked: Instant,
    /// A record of another group has come in this turn.
    met: bool,
    /// It is noted that records are held, and why.
    told: bool,
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
            told: false,
        }
    }
}

impl Owner {
    /// What becomes of a record.
    pub(crate) fn rule(&self, record: &Record, now: Moment) -> Ruling {
        match &self.runtime.ownership {
            Some(ownership) if self.foreign.is_retry_topic => ownership.rule(record, now),
            _ => Ruling::Process,
        }
    }

    /// Hands a record to the core that is not to be processed here, or not yet known to be
    /// another's.
    pub(crate) fn deliver_foreign(&mut self, record: Record, ruling: Ruling, now: Moment) {
        self.foreign.met = true;
        let bytes = record.size();
        let delivery = Delivery {
            offset: Offset::new(record.offset()),
            lane: None,
            bytes,
            due: None,
            rounds: 0,
            attempts: 0,
            retried_for: Duration::ZERO,
            record: Held {
                record: record.clone(),
                failure: None,
            },
        };
        match self.core.deliver_ruled(delivery, ruling, now) {
            Delivered::Queued => {
                if let Ruling::Hold(because) = ruling {
                    self.tell_held(&record, because);
                }
            }
            Delivered::Repeated => {
                self.metrics.repeated_deliveries(1);
                self.release(bytes);
            }
            Delivered::AlreadySettled => self.release(bytes),
            Delivered::Foreign => {
                self.report_foreign(&record);
                self.metrics.settled(Settlement::Foreign, 1);
                self.release(bytes);
            }
        }
    }

    /// Settles held records whose group is known to be alive by now, and has others asked about.
    pub(crate) fn look_after_held(&mut self, now: Moment) {
        let runtime = self.runtime.clone();
        let Some(ownership) = &runtime.ownership else {
            return;
        };
        let met = std::mem::take(&mut self.foreign.met);
        if self.core.held() > 0 {
            let version = ownership.version();
            if version != self.foreign.version || clock::elapsed(self.foreign.looked) >= LOOK {
                self.foreign.version = version;
                self.foreign.looked = clock::now();
                self.look_at_held(ownership, now);
            }
        } else if !met {
            return;
        }
        ownership.ask(now);
    }

    fn look_at_held(&mut self, ownership: &RetryOwnership, now: Moment) {
        let mut still_held = None;
        let settled = self
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
            self.carry_out(None, verdict);
        }
        if self.core.held() == 0 {
            self.forget_held();
        } else if let Some((record, because)) = still_held {
            self.note_held(&record, because);
        }
    }

    /// The first of the held records stands for all.
    fn tell_held(&mut self, record: &Record, because: HeldBecause) {
        if because != HeldBecause::Asking && !self.foreign.told {
            self.note_held(record, because);
        }
    }

    fn note_held(&mut self, record: &Record, because: HeldBecause) {
        self.foreign.told = true;
        if let Some(ownership) = &self.runtime.ownership {
            ownership.note_held(self.place(), Some((record, because)));
        }
    }

    /// Nothing is held here, or not by this owner any longer.
    pub(crate) fn forget_held(&mut self) {
        if !std::mem::take(&mut self.foreign.told) {
            return;
        }
        if let Some(ownership) = &self.runtime.ownership {
            ownership.note_held(self.place(), None);
        }
    }

    fn place(&self) -> Place {
        Place {
            partition: self.partition_id,
            epoch: self.core.epoch(),
        }
    }
}
