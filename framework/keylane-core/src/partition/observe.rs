//! What can be seen of a partition: for commits, budgets, metrics and health.

use super::pending::State;
use super::{Partition, Publish, Ticket};
use crate::commit_map::CommitMetadata;
use crate::offset::{Epoch, LeaderEpoch, Offset, Position};
use crate::time::Moment;

/// The unsettled record the commit waits for.
#[derive(Clone, Copy, Debug)]
pub struct Oldest<'a, R> {
    /// Its offset.
    pub offset: Offset,
    /// How often it was attempted, over all retries known of.
    pub attempts: u32,
    /// What it is doing.
    pub state: RecordState,
    /// When it became pending.
    pub since: Moment,
    /// The record.
    pub record: &'a R,
}

/// What an unsettled record is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RecordState {
    /// Waiting for its turn: for another record of its key, or for a free place.
    Queued,
    /// An attempt runs.
    Running,
    /// Waiting for a back-off, of its attempt or its write.
    Waiting,
    /// Waiting for its due time.
    NotDue,
    /// Being written to the retry or dead-letter topic.
    Publishing,
    /// Held, for good.
    Parked,
    /// A retry of another group that is not known to be alive, or that no other group would
    /// process.
    Held,
    /// Its key is paused.
    KeyPaused,
}

impl RecordState {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Queued,
        Self::Running,
        Self::Waiting,
        Self::NotDue,
        Self::Publishing,
        Self::Parked,
        Self::Held,
        Self::KeyPaused,
    ];

    /// The value of the `state` label in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::NotDue => "not_due",
            Self::Publishing => "publishing",
            Self::Parked => "parked",
            Self::Held => "held",
            Self::KeyPaused => "key_paused",
        }
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for RecordState {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<R> Partition<R> {
    /// What may be committed: the lowest unsettled offset, or the next one to be delivered where
    /// everything is settled. `None` while nothing is known: nothing was committed before, and
    /// nothing delivered yet.
    pub fn watermark(&self) -> Option<Position> {
        self.ledger.watermark()
    }

    /// What the commit of [`watermark`](Self::watermark) carries: the settled offsets above it, the
    /// crash evidence and the log's name. Takes a walk over the former,
    /// O([`settled_ahead`](Self::settled_ahead)).
    pub fn commit_metadata(&self, max_bytes: usize) -> CommitMetadata {
        self.ledger
            .commit_metadata(self.log, &self.cautious.evidence(), max_bytes)
    }

    /// The leader epoch that the commit of [`watermark`](Self::watermark) carries. By it the next
    /// owner finds that the log was cut below that, and written again.
    pub fn position_epoch(&self) -> Option<LeaderEpoch> {
        self.ledger.position_epoch()
    }

    /// The position behind the last delivery.
    pub fn next_position(&self) -> Option<Position> {
        self.ledger.next()
    }

    /// How many offsets delivered in this epoch are settled and above the watermark.
    pub fn settled_ahead(&self) -> usize {
        self.ledger.settled_ahead()
    }

    /// The epoch.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// How many records are delivered and unsettled.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// What the pending records take of the byte budget.
    pub fn pending_bytes(&self) -> usize {
        self.pending.bytes()
    }

    /// How many attempts run.
    pub fn running(&self) -> usize {
        self.pending.count(State::Running)
    }

    /// How many records wait for a moment: a back-off or their due time.
    pub fn waiting(&self) -> usize {
        [State::NotDue, State::Waiting, State::PublishWaiting]
            .map(|state| self.pending.count(state))
            .iter()
            .sum()
    }

    /// How many lanes wait for a moment with their first record: of the records that
    /// [wait](Self::waiting), those that are not in their lane yet do not count.
    pub(super) fn waiting_lanes(&self) -> usize {
        self.pending.count(State::Waiting) + self.pending.count(State::PublishWaiting)
    }

    /// How many records are being written to the retry or dead-letter topic, or are next to be.
    pub fn publishing(&self) -> usize {
        self.pending.count(State::PublishQueued) + self.pending.count(State::Publishing)
    }

    /// How many records are held for good.
    pub fn parked(&self) -> usize {
        self.pending.count(State::Parked)
    }

    /// How many records are held because they are another group's, or no other subscription of this
    /// group would process them.
    pub fn held(&self) -> usize {
        self.pending.count(State::Held)
    }

    /// How many records could start if a place were free.
    pub fn ready(&self) -> usize {
        self.pending.count(State::Ready)
    }

    /// The unsettled record with the lowest offset, the one the watermark waits for.
    pub fn oldest(&self) -> Option<Oldest<'_, R>> {
        let pending = self.pending.get(self.ledger.oldest()?);
        let state = match pending.state {
            State::Queued | State::Ready => RecordState::Queued,
            State::Running => RecordState::Running,
            State::NotDue => RecordState::NotDue,
            State::Waiting if pending.attempts_here == 0 => RecordState::NotDue,
            State::Waiting | State::PublishWaiting => RecordState::Waiting,
            State::PublishQueued | State::Publishing => RecordState::Publishing,
            State::Parked => RecordState::Parked,
            State::Held => RecordState::Held,
            State::KeyPaused => RecordState::KeyPaused,
        };
        let (offset, attempts) = (pending.offset, pending.attempts());
        Some(Oldest {
            offset,
            attempts,
            state,
            since: pending.since,
            record: &pending.record,
        })
    }

    /// The record of a running attempt or an unfinished write; `None` once the ticket is stale.
    pub fn record(&self, ticket: Ticket) -> Option<&R> {
        self.is_live(ticket)
            .then(|| &self.pending.get(ticket.slot).record)
    }

    /// The same as [`record`](Self::record), to note something on it.
    pub fn record_mut(&mut self, ticket: Ticket) -> Option<&mut R> {
        self.is_live(ticket)
            .then(|| &mut self.pending.get_mut(ticket.slot).record)
    }

    /// How often the record of a running attempt or an unfinished write was attempted, over all
    /// retries known of; `None` once the ticket is stale.
    pub fn attempts(&self, ticket: Ticket) -> Option<u32> {
        self.is_live(ticket)
            .then(|| self.pending.get(ticket.slot).attempts())
    }

    /// What is being written for the record of an unfinished write.
    pub fn writing(&self, ticket: Ticket) -> Option<Publish> {
        self.is_live(ticket)
            .then(|| self.pending.get(ticket.slot).publish())
            .flatten()
    }

    fn is_live(&self, ticket: Ticket) -> bool {
        self.is_current(ticket, State::Running) || self.is_current(ticket, State::Publishing)
    }
}
