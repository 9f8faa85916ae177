//! Every pending record and what it is doing, for figures that are wanted now and then.

use super::Partition;
use super::pending::{PendingRecord, State};
use crate::offset::Offset;
use crate::time::Moment;

/// One pending record.
#[derive(Clone, Copy, Debug)]
pub struct PendingView<'a, R> {
    /// Its offset.
    pub offset: Offset,
    /// What it is doing.
    pub activity: Activity,
    /// The record.
    pub record: &'a R,
}

/// What a pending record is doing, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Behind another record of its lane.
    Behind {
        /// When it was delivered, where it could have started at once but for others.
        since: Option<Moment>,
    },
    /// It may start as soon as there is a free place.
    Ready {
        /// When it was delivered, where it could have started at once but for others.
        since: Option<Moment>,
    },
    /// An attempt runs.
    Running {
        /// When that began.
        since: Moment,
    },
    /// It waits for a moment.
    Waiting(Wait),
    /// It is being written to the retry or dead-letter topic, or is next to be.
    Publishing,
    /// It is held for good.
    Parked,
    /// It is a retry of another group, or of an origin topic that is not read here.
    Held,
    /// Its key is paused.
    KeyPaused,
}

/// What a waiting record waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The moment that its producer set, before which it does not run.
    NotBefore,
    /// The delay of a retry in place.
    InPlace,
    /// The delay of a round through the retry topic.
    Topic {
        /// Which round, from 1.
        round: u32,
    },
    /// The delay before a write to the retry or dead-letter topic is tried again.
    Write,
}

/// The records that wait for a moment, are held for good or of a paused key, and all that are behind
/// them in their lanes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct HeldUp {
    pub(super) records: usize,
    /// How many of these are not due yet, or behind one that is not.
    pub(super) not_due: usize,
    /// The bytes of those.
    pub(super) not_due_bytes: usize,
}

impl Activity {
    /// Whether more time, or more concurrency, is all it takes: neither held up by a delay or by
    /// policy, nor behind one that may be.
    pub const fn is_workable(self) -> bool {
        matches!(
            self,
            Self::Ready { .. } | Self::Running { .. } | Self::Publishing
        )
    }
}

impl<R> Partition<R> {
    /// Every pending record, in no order. It walks over all of them: do not call it for each
    /// record.
    pub fn pending_records(&self) -> impl Iterator<Item = PendingView<'_, R>> {
        self.pending.iter().map(|(_, record)| record.view())
    }

    /// The records that neither more time for work nor more concurrency would help. Walks over the
    /// pending records where there are such.
    pub(super) fn held_up(&self) -> HeldUp {
        let mut held_up = HeldUp::default();
        if self.waiting() + self.parked() + self.held() + self.paused_keys() == 0 {
            return held_up;
        }
        for (slot, record) in self.pending.iter() {
            let lane = match record.state {
                State::Waiting | State::PublishWaiting | State::Parked | State::KeyPaused => {
                    self.lanes.behind(slot)
                }
                // These are in no lane yet.
                State::NotDue | State::Held => None,
                _ => continue,
            };
            let is_not_due = matches!(
                record.activity(),
                Activity::Waiting(Wait::NotBefore | Wait::Topic { .. })
            );
            let behind = std::iter::successors(lane, |&slot| self.lanes.behind(slot));
            for bytes in std::iter::once(record.bytes())
                .chain(behind.map(|slot| self.pending.get(slot).bytes()))
            {
                held_up.records += 1;
                if is_not_due {
                    held_up.not_due += 1;
                    held_up.not_due_bytes += bytes;
                }
            }
        }
        held_up
    }

    /// The unsettled record with the lowest offset that [is workable](Activity::is_workable). Takes
    /// a walk over the pending ones unless it is the very [oldest](Self::oldest).
    pub fn oldest_workable(&self) -> Option<&R> {
        let oldest = self.pending.get(self.ledger.oldest()?).view();
        if oldest.activity.is_workable() {
            return Some(oldest.record);
        }
        let workable = self
            .pending_records()
            .filter(|view| view.activity.is_workable());
        workable
            .min_by_key(|view| view.offset)
            .map(|view| view.record)
    }
}

impl<R> PendingRecord<R> {
    fn view(&self) -> PendingView<'_, R> {
        PendingView {
            offset: self.offset,
            activity: self.activity(),
            record: &self.record,
        }
    }

    fn activity(&self) -> Activity {
        let since = (self.attempts_here == 0 && self.due().is_none()).then_some(self.since);
        match self.state {
            State::Queued => Activity::Behind { since },
            State::Ready => Activity::Ready { since },
            State::Running => Activity::Running {
                since: self.started,
            },
            State::NotDue => Activity::Waiting(self.due_wait()),
            State::Waiting if self.attempts_here == 0 => Activity::Waiting(self.due_wait()),
            State::Waiting => Activity::Waiting(Wait::InPlace),
            State::PublishWaiting => Activity::Waiting(Wait::Write),
            State::PublishQueued | State::Publishing => Activity::Publishing,
            State::Parked => Activity::Parked,
            State::Held => Activity::Held,
            State::KeyPaused => Activity::KeyPaused,
        }
    }

    fn due_wait(&self) -> Wait {
        match self.rounds() {
            0 => Wait::NotBefore,
            round => Wait::Topic { round },
        }
    }
}
