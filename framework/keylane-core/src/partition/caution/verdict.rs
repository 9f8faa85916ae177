//! The verdict on a record that kills.

use crate::failure::Reason;
use crate::offset::Offset;
use crate::partition::pending::Held;
use crate::partition::{ParkReason, Partition, Publish};
use crate::retry_policy::Exhausted;

/// The verdict on a record that was named at too many crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Poisoned {
    /// Its offset.
    pub offset: Offset,
    /// The number of crashes at which it was named.
    pub crashes: u32,
    /// What becomes of it.
    pub fate: PoisonFate,
}

/// What becomes of a poison record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoisonFate {
    /// It is written to the dead-letter topic, and settled by that.
    DeadLetter,
    /// It is parked, by policy, or because there is no dead-letter topic.
    Parked(ParkReason),
    /// The subscription is to end, by policy.
    Stop,
}

impl<R> Partition<R> {
    /// The last word on a record whose turn it would be; `false` where there is none.
    pub(in crate::partition) fn condemn(&mut self, slot: u32) -> bool {
        let offset = self.pending.get(slot).offset;
        if !self.cautious.evidence.is_poison(offset) {
            return false;
        }
        let retry = &self.settings.retry;
        let fate = match (retry.on_exhausted, retry.dead_letter_topic) {
            (Exhausted::Park, _) => PoisonFate::Parked(ParkReason::Policy(Reason::Poison)),
            (Exhausted::Stop, _) => PoisonFate::Stop,
            (Exhausted::DeadLetter, false) => PoisonFate::Parked(ParkReason::NoDeadLetterTopic),
            (Exhausted::DeadLetter, true) => PoisonFate::DeadLetter,
        };
        self.cautious.verdicts.push(Poisoned {
            offset,
            crashes: self.crashes(offset),
            fate,
        });
        self.pending.set_held(slot, Held::No);
        match fate {
            PoisonFate::DeadLetter => {
                self.pending.get_mut(slot).set_publish(Publish::DeadLetter {
                    reason: Reason::Poison,
                });
                self.unwatch(slot);
                self.queue_publish(slot);
            }
            PoisonFate::Parked(_) => self.hold_for_good(slot),
            PoisonFate::Stop => {
                self.stopped = true;
                self.hold_for_good(slot);
            }
        }
        self.look_for_progress();
        true
    }

    /// A verdict to be reported to the operator. The record's write, if it gets one, comes as any
    /// other.
    pub fn next_poisoned(&mut self) -> Option<Poisoned> {
        self.cautious.verdicts.pop()
    }
}
