//! Which delivered offsets of a partition are settled, and so what may be committed.
//!
//! Invariant: the first entry, where there is one, is unsettled. So the watermark is read off the
//! front, and every operation is amortised O(1): each delivery is pushed once, marked once and
//! popped once.

use std::collections::VecDeque;

use crate::commit_map::{self, About, CommitMetadata};
use crate::evidence::Evidence;
use crate::log_id::LogId;
use crate::offset::{LeaderEpoch, Offset, Position};
use crate::settled_map::{SettledMap, SettledRange};

pub(crate) struct Ledger {
    entries: VecDeque<Entry>,
    /// The sequence number of the first entry; entries are addressed by theirs, so that settling
    /// needs no search.
    first_sequence: u64,
    /// The lowest position of this epoch; unknown until the first delivery where nothing was
    /// committed.
    start: Option<Position>,
    next: Option<Position>,
    settled_ahead: usize,
    inherited: SettledMap,
    /// The highest leader epoch that the previous owner had read when it wrote the inherited map,
    /// if the map has one.
    inherited_under: Option<LeaderEpoch>,
    /// The highest leader epoch of this owner's records.
    read_under: Option<LeaderEpoch>,
    /// The one of the latest record.
    reads_under: Option<LeaderEpoch>,
    /// The one that was committed with the start.
    start_under: Option<LeaderEpoch>,
}

/// Where an unsettled delivery stands in its ledger. Ascends with the offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sequence(u64);

impl Sequence {
    /// Of a record whose offset the ledger has forgotten (see [`Admission::New`]): settling it
    /// changes nothing.
    pub(crate) const FORGOTTEN: Self = Self(u64::MAX);
}

#[derive(Clone, Copy)]
struct Entry {
    offset: Offset,
    /// Where the pending record is, or `SETTLED`.
    slot: u32,
}

const SETTLED: u32 = u32::MAX;

/// How an offset stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Its record is in this slot.
    Pending(u32),
    /// It is settled, or has no record.
    Settled,
    /// It was not delivered in this epoch, nor settled before.
    NotDelivered,
}

/// What a delivery is to the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// The record is to be processed: [`Ledger::push`] comes next.
    New,
    /// Delivered before in this epoch.
    Repeated,
    /// Settled by a previous owner; entered as such.
    AlreadySettled,
}

impl Ledger {
    #[cfg(test)]
    pub(crate) const ENTRY_BYTES: usize = size_of::<Entry>();

    pub(crate) fn new(start: Option<Position>, inherited: SettledMap) -> Self {
        Self {
            entries: VecDeque::new(),
            first_sequence: 0,
            start,
            next: start,
            settled_ahead: 0,
            inherited,
            inherited_under: None,
            read_under: None,
            reads_under: None,
            start_under: None,
        }
    }

    /// The leader epoch that was committed with the start.
    pub(crate) fn start_under(&mut self, epoch: Option<LeaderEpoch>) {
        self.start_under = epoch;
    }

    /// What a commit of the watermark carries: an epoch that is not before the one of any record
    /// below it, and that this log has had.
    ///
    /// A later one than the last record's below the watermark is as good. Where this log is still
    /// there, no epoch from that record's on ends below the watermark; where it was cut, all of
    /// them end at the cut.
    pub(crate) fn position_epoch(&self) -> Option<LeaderEpoch> {
        self.read_under.max(self.start_under)
    }

    /// The leader epoch of the commit that the inherited map came from.
    pub(crate) fn inherit_leader_epoch(&mut self, epoch: Option<LeaderEpoch>) {
        self.inherited_under = epoch;
    }

    /// The records from `first` on have this leader epoch. `true` where the inherited map is
    /// untrue.
    ///
    /// All that the map names was read under epochs up to its own, and a log's epochs never fall.
    /// So with the first record of a later one the map is used up, or it names offsets of a log
    /// that was cut and written again.
    pub(crate) fn read_under(&mut self, epoch: LeaderEpoch, first: Offset) -> bool {
        self.read_under = self.read_under.max(Some(epoch));
        self.reads_under = Some(epoch);
        if self
            .inherited_under
            .is_none_or(|inherited| epoch <= inherited)
        {
            return false;
        }
        let is_untrue = self.inherited.ranges().any(|range| range.last >= first);
        self.inherited.clear();
        is_untrue
    }

    /// The leader epoch that a commit carries for the records it names.
    fn leader_epoch(&self) -> Option<LeaderEpoch> {
        if self.inherited.is_empty() {
            return self.read_under;
        }
        // What a map without an epoch names stays without one.
        self.inherited_under.map(|inherited| {
            self.read_under
                .map_or(inherited, |read| read.max(inherited))
        })
    }

    /// Classifies a delivery. Kafka delivers ascending offsets, with holes where no record exists.
    ///
    /// An offset below `next()` that was never delivered in this epoch means that the log was cut
    /// and written again from there (an unclean leader election, a topic created again). What the
    /// ledger has from this offset on is then about other records and is dropped, the inherited map
    /// included. The log is delivered again from there on. `forget` gets the slots of pending
    /// records that the ledger no longer covers.
    pub(crate) fn admit(&mut self, offset: Offset, forget: impl FnMut(u32)) -> Admission {
        if self.next.is_some_and(|next| !next.covers(offset)) {
            if self.was_delivered(offset) {
                return Admission::Repeated;
            }
            self.rewind(offset, forget);
        }
        if self.start.is_none() {
            self.start = Some(Position::before(offset));
        }
        if self.inherited.take(offset) {
            self.next = Some(offset.next());
            if !self.entries.is_empty() {
                self.entries.push_back(Entry {
                    offset,
                    slot: SETTLED,
                });
                self.settled_ahead += 1;
            }
            return Admission::AlreadySettled;
        }
        Admission::New
    }

    /// Enters an admitted delivery, whose record is in `slot`.
    pub(crate) fn push(&mut self, offset: Offset, slot: u32) -> Sequence {
        debug_assert!(self.next.is_none_or(|next| next.covers(offset)));
        debug_assert_ne!(slot, SETTLED);
        self.next = Some(offset.next());
        let sequence = Sequence(self.first_sequence + self.entries.len() as u64);
        self.entries.push_back(Entry { offset, slot });
        sequence
    }

    /// Marks a delivery as settled. Once for each; pending records hold their sequence until then.
    pub(crate) fn settle(&mut self, sequence: Sequence) {
        if sequence == Sequence::FORGOTTEN {
            return;
        }
        let index = (sequence.0 - self.first_sequence) as usize;
        let entry = &mut self.entries[index];
        debug_assert_ne!(
            entry.slot, SETTLED,
            "offset {} is settled twice",
            entry.offset
        );
        entry.slot = SETTLED;
        self.settled_ahead += 1;
        while self
            .entries
            .front()
            .is_some_and(|entry| entry.slot == SETTLED)
        {
            self.entries.pop_front();
            self.first_sequence += 1;
            self.settled_ahead -= 1;
        }
    }

    /// The lowest unsettled offset, or the next one to be delivered where everything is settled.
    pub(crate) fn watermark(&self) -> Option<Position> {
        self.entries
            .front()
            .map(|entry| Position::before(entry.offset))
            .or(self.next)
    }

    pub(crate) fn next(&self) -> Option<Position> {
        self.next
    }

    /// How many delivered offsets above the watermark are settled: what a restart without a map
    /// would repeat.
    ///
    /// What a previous owner settled counts from its delivery on, not before: a pause for too many
    /// would otherwise keep out the very deliveries that use it up.
    pub(crate) fn settled_ahead(&self) -> usize {
        self.settled_ahead
    }

    /// The slot of the lowest unsettled record.
    pub(crate) fn oldest(&self) -> Option<u32> {
        self.entries.front().map(|entry| entry.slot)
    }

    /// How an offset stands.
    pub(crate) fn standing(&self, offset: Offset) -> Standing {
        let entry = self
            .entries
            .binary_search_by_key(&offset, |entry| entry.offset);
        match entry.map(|index| self.entries[index].slot) {
            Ok(SETTLED) => Standing::Settled,
            Ok(slot) => Standing::Pending(slot),
            Err(_) if self.inherited.contains(offset) => Standing::Settled,
            Err(_) if self.next.is_some_and(|next| !next.covers(offset)) => Standing::Settled,
            Err(_) => Standing::NotDelivered,
        }
    }

    /// The map to commit together with the watermark, the evidence, and the log's name.
    pub(crate) fn commit_metadata(
        &self,
        log: Option<LogId>,
        evidence: &Evidence,
        max_bytes: usize,
    ) -> CommitMetadata {
        let about = About {
            log,
            leader_epoch: self.leader_epoch(),
        };
        match self.watermark() {
            Some(watermark) if self.settled_ahead > 0 || !self.inherited.is_empty() => {
                commit_map::encode_for(about, watermark, self.settled_ranges(), evidence, max_bytes)
            }
            Some(watermark) => commit_map::encode_for(log, watermark, [], evidence, max_bytes),
            None => CommitMetadata::default(),
        }
    }

    fn settled_ranges(&self) -> impl Iterator<Item = SettledRange> + '_ {
        let mut entries = self.entries.iter();
        // A run continues over a hole between two settled offsets. That is safe: the log was read
        // in order across it, so no record is there (compacted away, a transaction's marker, an
        // aborted record), and offsets are not used twice. The committed position itself goes over
        // such holes too.
        let delivered = std::iter::from_fn(move || {
            let first = entries.find(|entry| entry.slot == SETTLED)?.offset;
            let run = entries.by_ref().take_while(|entry| entry.slot == SETTLED);
            Some(SettledRange {
                first,
                last: run.last().map_or(first, |entry| entry.offset),
            })
        });
        // Not over the hole up to the inherited ranges, though: what lies in it has not been
        // delivered yet.
        delivered.chain(self.inherited.ranges())
    }

    fn was_delivered(&self, offset: Offset) -> bool {
        if self.start.is_some_and(|start| !start.covers(offset)) {
            return false;
        }
        // Below the watermark holes are no longer known; everything counts as delivered there.
        self.watermark()
            .is_some_and(|watermark| !watermark.covers(offset))
            || self
                .entries
                .binary_search_by_key(&offset, |entry| entry.offset)
                .is_ok()
    }

    fn rewind(&mut self, to: Offset, mut forget: impl FnMut(u32)) {
        self.inherited.clear();
        // A topic that was re-created may be at an earlier epoch.
        (self.start_under, self.read_under) = (None, self.reads_under);
        let kept = self.entries.partition_point(|entry| entry.offset < to);
        for entry in self.entries.drain(kept..) {
            if entry.slot == SETTLED {
                self.settled_ahead -= 1;
            } else {
                forget(entry.slot);
            }
        }
        self.next = Some(Position::before(to));
        self.start = self.start.min(self.next);
    }
}

#[cfg(test)]
mod tests;
