//! The record that holds its partition up: everything that may be taken in beside it is taken in
//! and settled, and it is not.
//!
//! Nothing is given up for being slow while there is room. A record is a *blocker* when all of this
//! holds:
//!
//! * the watermark waits for it: it is the oldest unsettled record, or the head of that one's lane;
//! * the window is nearly full: [`NEARLY_FULL_PERCENT`] of what may be settled ahead of it, or of
//!   what may be pending;
//! * of the window, the records behind it in its own lane left out, nearly all is settled:
//!   [`NEARLY_ALL_PERCENT`]. That is the proof that the processor works, and so that it is the
//!   record's fault;
//! * its first attempt began long enough ago ([`BlockerPolicy::after`]), and it runs, waits for a
//!   retry, or is parked.
//!
//! A record that is not due yet is where its producer wanted it; one that waits for a free place is
//! held up by others; one that is being written is on its way out already; one that is held, or
//! whose latest attempt said that something is unavailable, waits for that. Those are never taken,
//! and neither is anything while the partition is paused, drains, or is careful after a crash, nor
//! a record of a paused key.

use std::time::Duration;

use super::pending::{Held, PendingRecord, State};
use super::{Partition, Publish, Ticket};
use crate::failed_attempt::{ErrorClass, FailedAttempt};
use crate::failure::{Failure, Reason};
use crate::offset::Offset;
use crate::outage_guard::OutageGuard;
use crate::time::Moment;

/// The window is nearly full from here on.
pub const NEARLY_FULL_PERCENT: usize = 90;
/// Nearly all of it is settled from here on.
pub const NEARLY_ALL_PERCENT: usize = 98;

/// How often a full window is looked at: it takes a walk along the blocker's lane.
const LOOK: Duration = Duration::from_millis(100);

const BLOCKED: FailedAttempt = FailedAttempt {
    failure: Failure::TimedOut,
    class: ErrorClass::BLOCKER,
    place: None,
};
const DEAD_LETTER: Publish = Publish::DeadLetter {
    reason: Reason::Blocker,
};

/// When a record that holds up its partition goes to the dead-letter topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockerPolicy {
    /// The minimum age of its first attempt.
    pub after: Duration,
    /// How many records may be settled ahead of the watermark before the partition pauses.
    pub settled_ahead_limit: usize,
    /// How many may be pending.
    pub pending_limit: usize,
}

/// What was found to hold up the partition.
#[derive(Debug)]
pub enum Blocking<'a, R> {
    /// It goes to the dead-letter topic.
    Taken(Blocker<'a, R>),
    /// It would be one, if the outage guard held nothing, and what it needs were not unavailable.
    /// It is checked again after the longest back-off.
    RefusedByGuard,
}

/// A record that goes to the dead-letter topic because it holds up its partition.
#[derive(Debug)]
pub struct Blocker<'a, R> {
    /// Its offset.
    pub offset: Offset,
    /// How often it was attempted, over all retries known of.
    pub attempts: u32,
    /// How long ago its first attempt of this epoch began.
    pub held_for: Duration,
    /// How many records wait behind it in its lane.
    pub behind: usize,
    /// The attempt that runs. Its future has to be dropped, and its end reported as any other
    /// ([`fail`](Partition::fail)); only then the record is written. Where it succeeds first, it is
    /// settled by that.
    pub running: Option<Ticket>,
    /// The record.
    pub record: &'a R,
}

impl<R> Partition<R> {
    /// Whether it is time to ask [`take_blocker`](Self::take_blocker).
    pub fn may_have_blocker(&self, now: Moment) -> bool {
        self.settings.blocker.is_some_and(|policy| {
            now >= self.next_blocker_look && self.window_is_nearly_full(&policy)
        })
    }

    /// Takes the record that holds up the partition, if there is one, out of the way. The guard has
    /// to hold nothing: nearly everything succeeds here, but what is stuck in many partitions may
    /// still be an outage of something they share. So a blocker that is taken counts as a failing
    /// lane, and several of them as a partial outage.
    pub fn take_blocker(
        &mut self,
        now: Moment,
        guard: &mut OutageGuard,
    ) -> Option<Blocking<'_, R>> {
        self.set_now(now);
        if !self.may_have_blocker(self.now) {
            return None;
        }
        self.next_blocker_look = self.now + LOOK;
        let (slot, behind) = self.find_blocker()?;
        if self.waits_for_others(slot) || !guard.holds_nothing(self.now) {
            self.next_blocker_look = self.now + self.settings.retry.backoff.max;
            return Some(Blocking::RefusedByGuard);
        }
        self.note_failure(slot, BLOCKED, guard);
        let mut running = None;
        match self.pending.get(slot).state {
            State::Running => {
                let record = self.pending.get_mut(slot);
                // An operator may have ordered its dead letter already.
                if record.publish().is_none() {
                    record.set_publish(DEAD_LETTER);
                }
                record.end_attempt();
                running = Some(Ticket {
                    slot,
                    serial: self.pending.get(slot).serial(),
                    epoch: self.epoch,
                });
            }
            state => {
                if state.is_waiting() {
                    self.timers.cancel_all(&[slot]);
                }
                let _ = self.publish(slot, DEAD_LETTER);
            }
        }
        let record = self.pending.get(slot);
        Some(Blocking::Taken(Blocker {
            offset: record.offset,
            attempts: record.attempts(),
            held_for: record.held_for(self.now),
            behind,
            running,
            record: &record.record,
        }))
    }

    /// Whether an attempt runs that was taken for holding up the partition.
    pub fn is_blocker(&self, ticket: Ticket) -> bool {
        let is_running = self.is_current(ticket, State::Running);
        is_running && self.pending.get(ticket.slot).is_being_ended()
    }

    fn window_is_nearly_full(&self, policy: &BlockerPolicy) -> bool {
        let nearly = |level: usize, limit: usize| {
            level.saturating_mul(100) >= limit.saturating_mul(NEARLY_FULL_PERCENT)
        };
        nearly(self.ledger.settled_ahead(), policy.settled_ahead_limit)
            || nearly(self.pending.len(), policy.pending_limit)
    }

    /// By its latest failure it is no fault of its own: it is held, or what it needs is
    /// unavailable.
    fn waits_for_others(&self, slot: u32) -> bool {
        let record = self.pending.get(slot);
        record.held() != Held::No || record.tried().unavailable > 0
    }

    /// The blocker's slot and the number of records behind it.
    fn find_blocker(&self) -> Option<(u32, usize)> {
        let policy = self.settings.blocker.as_ref()?;
        if self.holds_starts() || self.is_careful() {
            return None;
        }
        let slot = self.head_of_lane_of(self.ledger.oldest()?)?;
        if self.is_key_paused(slot) {
            return None;
        }
        let record = self.pending.get(slot);
        let may_be_taken = match record.state {
            // Unless it was taken already.
            State::Running => !record.is_being_ended(),
            // Before its first attempt it waits for its due time.
            State::Waiting => record.attempts_here > 0,
            // What the broker refused once, it would refuse again.
            State::Parked => record.publish().is_none(),
            _ => false,
        };
        let held_for = record.held_for(self.now);
        if !may_be_taken || held_for < policy.after {
            return None;
        }
        let behind =
            std::iter::successors(self.lanes.behind(slot), |&slot| self.lanes.behind(slot)).count();
        let settled = self.ledger.settled_ahead();
        let others = self.pending.len().saturating_sub(behind + 1);
        let nearly_all =
            settled.saturating_mul(100) >= (settled + others).saturating_mul(NEARLY_ALL_PERCENT);
        (settled > 0 && nearly_all).then_some((slot, behind))
    }

    /// In a retry topic the oldest record may be behind a younger one that was due earlier.
    pub(super) fn head_of_lane_of(&self, slot: u32) -> Option<u32> {
        let record = self.pending.get(slot);
        if record.state != State::Queued {
            return Some(slot);
        }
        let is_head = |other: &PendingRecord<R>| {
            other.lane() == record.lane() && !matches!(other.state, State::Queued | State::NotDue)
        };
        self.pending
            .iter()
            .find(|(_, other)| is_head(other))
            .map(|(slot, _)| slot)
    }
}
