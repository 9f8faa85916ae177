//! The log that an epoch of a partition reads, and what follows where it is no longer the same.
//!
//! A log goes back when it is cut, by an unclean leader election or a lost disk, and written again;
//! and when its topic is deleted and re-created. What was settled at offsets of the old log is no
//! evidence about the new one's, so a new epoch begins. Where it begins decides whether records are
//! passed over.

use super::recent_reads::RecentReads;
use crate::beginning::{Beginning, PassedOver, Reset};
use crate::log_id::{Identity, LogId, Seen};
use crate::offset::{Offset, Position};
use crate::time::Moment;

/// One epoch's log: which it is, how far it was read, and whether it has changed.
#[derive(Debug)]
pub struct ReadLog {
    reset: Reset,
    start: Option<Position>,
    /// The position of the first record that was taken in.
    first: Option<Position>,
    next: Option<Position>,
    recent: RecentReads,
    identity: Identity,
    /// The log went back to here.
    rewound: Option<Position>,
    recreated: Option<Recreated>,
}

#[derive(Clone, Copy, Debug)]
struct Recreated {
    log: LogId,
    /// The epoch that reads the deleted topic ends then at the latest.
    deadline: Moment,
}

/// What is done with a record that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It is taken in.
    Next,
    /// It is left out: it was handed out before, or is read again in the next epoch.
    LeftOut,
    /// It is taken in. Records in front of it were deleted before they were read.
    PassedOver(PassedOver),
    /// It is taken in. The log was cut below the start of this epoch, which has read nothing yet,
    /// so that its owner judges by the record what still holds.
    CutBelowStart {
        /// Where the epoch began.
        expected: Position,
    },
    /// It is left out, and so is what was read before and not handed over yet. The log went back,
    /// and a new epoch is due: see [`ReadLog::next_epoch`].
    WentBack,
    /// It is left out. Where to read on has to be found out first.
    Search {
        /// How that begins.
        beginning: Beginning,
        /// What was expected.
        expected: Position,
        /// Whether the log went back; else it begins above what was expected.
        went_back: bool,
    },
}

/// What the brokers' answer means, to the question which log there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// Nothing, or nothing yet.
    Nothing,
    /// The owner is to commit with this log's name from now on.
    Learned(LogId),
    /// The topic was deleted and re-created. The epoch drains; nothing that is still read is of
    /// use.
    Recreated,
}

/// The epoch that is to follow. In both cases the committed position is not its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextEpoch {
    /// The log was cut, as far as is known: the next epoch reads the same log, from here on.
    From(Position),
    /// The topic was re-created: the next epoch reads this log from its beginning.
    Beginning(LogId),
}

/// What an epoch has reached when the next one is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Reached {
    /// Its oldest unsettled record, or the position behind all that was delivered, as its owner has
    /// shown it last. What was handed over since is not in it, and before the owner's first pass
    /// is over there is none.
    pub watermark: Option<Position>,
    /// Its owner has ended.
    pub has_ended: bool,
    /// It is being given back. A re-created topic is left to the next owner then, which finds the
    /// same in the commit.
    pub revoking: bool,
}

impl ReadLog {
    /// Of an epoch that begins at `start`, if that is known. `recent`: how many records one batch
    /// can hold.
    pub fn new(start: Option<Position>, reset: Reset, log: Option<LogId>, recent: usize) -> Self {
        Self {
            reset,
            start,
            first: None,
            next: None,
            recent: RecentReads::new(recent),
            identity: Identity::new(log),
            rewound: None,
            recreated: None,
        }
    }

    /// Takes over which log is read, with a doubt about it, from the epoch before.
    pub fn continue_from(&mut self, before: &mut Self) {
        self.identity = std::mem::take(&mut before.identity);
    }

    /// Where the epoch begins, if that was known.
    pub fn start(&self) -> Option<Position> {
        self.start
    }

    /// The position behind the last record that was taken in.
    pub fn next(&self) -> Option<Position> {
        self.next
    }

    /// The position that is read next, as far as it is known.
    #[inline]
    pub fn expected(&self) -> Option<Position> {
        self.next.or(self.start)
    }

    /// What replaces a position that is missing or outside of the log.
    pub fn reset(&self) -> Reset {
        self.reset
    }

    /// The log that the positions of this epoch are about.
    pub fn id(&self) -> Option<LogId> {
        self.identity.log()
    }

    /// Whether an answer of the brokers about the log is to be confirmed.
    pub fn is_doubtful(&self) -> bool {
        self.identity.is_doubtful()
    }

    /// Whether its topic was deleted and re-created: what is still read is of no use.
    pub fn is_recreated(&self) -> bool {
        self.recreated.is_some()
    }

    /// Whether a new epoch is to follow, now or later.
    #[inline]
    pub fn has_changed(&self) -> bool {
        self.rewound.is_some() || self.recreated.is_some()
    }

    /// Takes a record. `confirmed`: the log's leader was queried whether the start still holds.
    /// `first` returns the log's first position, where it is known.
    #[inline]
    pub fn record(
        &mut self,
        offset: Offset,
        print: u64,
        confirmed: bool,
        first: impl FnOnce() -> Option<Position>,
    ) -> Arrival {
        let mut arrival = Arrival::Next;
        if self.expected() != Some(Position::before(offset)) {
            arrival = self.out_of_order(offset, print, confirmed, first);
        }
        if self.rewound.is_some() {
            // What this read brings is read again from where the next epoch begins.
            return match arrival {
                Arrival::WentBack => arrival,
                _ => Arrival::LeftOut,
            };
        }
        if matches!(
            arrival,
            Arrival::Next | Arrival::PassedOver(_) | Arrival::CutBelowStart { .. }
        ) {
            self.first.get_or_insert(Position::before(offset));
            self.next = Some(offset.next());
            self.recent.note(offset, print);
        }
        arrival
    }

    #[cold]
    fn out_of_order(
        &mut self,
        offset: Offset,
        print: u64,
        confirmed: bool,
        first: impl FnOnce() -> Option<Position>,
    ) -> Arrival {
        let Some(expected) = self.expected() else {
            return Arrival::Next;
        };
        if Position::before(offset) < expected {
            return self.below(offset, print, expected, confirmed);
        }
        let passed_over = first().and_then(|first| PassedOver::before(offset, expected, first));
        match passed_over {
            // The client went to the first record that is there; it is to be the end.
            Some(_) if self.reset == Reset::Latest => Arrival::Search {
                beginning: Beginning::passed_over(self.reset, expected),
                expected,
                went_back: false,
            },
            Some(passed_over) => Arrival::PassedOver(passed_over),
            None => Arrival::Next,
        }
    }

    /// A record below what is expected.
    fn below(
        &mut self,
        offset: Offset,
        print: u64,
        expected: Position,
        confirmed: bool,
    ) -> Arrival {
        if self.recent.contains(offset, print) {
            return Arrival::LeftOut;
        }
        // No repetition: the log was cut, or the topic re-created. Where the start was confirmed by
        // its leader epoch the first record is where the log was cut: all from there on is new,
        // also with `latest`.
        let is_the_cut = self.next.is_none() && confirmed;
        if self.reset == Reset::Latest && !is_the_cut {
            // What was taken in before is not read again; it is handed over.
            return Arrival::Search {
                beginning: Beginning::went_back(self.reset, expected),
                expected,
                went_back: true,
            };
        }
        if self.next.is_none() {
            return Arrival::CutBelowStart { expected };
        }
        let to = Position::before(offset);
        self.rewound = Some(self.rewound.map_or(to, |earlier| earlier.min(to)));
        Arrival::WentBack
    }

    /// Takes the brokers' answer about the log that exists. The epoch of a deleted topic ends at
    /// `deadline` at the latest. `revoking`: see [`Reached::revoking`].
    pub fn see(&mut self, there: LogId, revoking: bool, deadline: Moment) -> Sighting {
        if revoking || self.is_recreated() {
            return Sighting::Nothing;
        }
        match self.identity.see(there) {
            Seen::Same | Seen::Doubtful => Sighting::Nothing,
            Seen::Learned => Sighting::Learned(there),
            Seen::Another => {
                self.recreated = Some(Recreated {
                    log: there,
                    deadline,
                });
                Sighting::Recreated
            }
        }
    }

    /// The epoch that is to follow this one now, if one is.
    ///
    /// Where the log went back it begins at the lower one of the oldest record that may be
    /// unsettled and the place the log went back to: nothing that is still pending is passed over.
    pub fn next_epoch(&self, reached: Reached, now: Moment) -> Option<NextEpoch> {
        if let Some(rewound) = self.rewound {
            let oldest = self.oldest(reached.watermark);
            return Some(NextEpoch::From(
                oldest.map_or(rewound, |it| it.min(rewound)),
            ));
        }
        let Recreated { log, deadline } = self.recreated?;
        let is_due = !reached.revoking && (reached.has_ended || now >= deadline);
        is_due.then_some(NextEpoch::Beginning(log))
    }

    /// The oldest record that may be unsettled. Without figures of the owner that is the first one
    /// that was taken in. So it is where the log was cut below the start and the watermark is the
    /// start: it was shown before the owner had seen a record.
    fn oldest(&self, watermark: Option<Position>) -> Option<Position> {
        let is_cut_below = self.first < self.start;
        let is_stale = |at: &Position| is_cut_below && Some(*at) == self.start;
        watermark.filter(|at| !is_stale(at)).or(self.first)
    }
}

#[cfg(test)]
mod tests;
