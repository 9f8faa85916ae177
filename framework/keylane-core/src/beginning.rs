//! Where a partition is read from when no committed position can be used, and what of a log was
//! never read.
//!
//! Such a position is committed before anything is read from it. Otherwise an idle partition has no
//! commit: its next owner would start at a later end, past everything written in between.
//!
//! A committed position with its leader epoch can be used, once the leader has confirmed that the
//! log still has what lies below.

use std::time::Duration;

use crate::offset::{LeaderEpoch, Offset, Position};
use crate::time::Moment;

/// `auto.offset.reset`: what replaces a position that is missing or outside of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reset {
    /// The first record that is still there.
    #[default]
    Earliest,
    /// The end of the log.
    Latest,
    /// Nothing does: the subscription ends.
    Error,
}

/// What a log held at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRange {
    /// The position of the first record that is still there.
    pub first: Position,
    /// The position behind the last record that can be read.
    pub end: Position,
}

/// Offsets between two positions, which are read no more: their records were deleted, or a reset
/// to the end leaves them out.
///
/// # Examples
/// ```
/// use keylane_core::{Offset, PassedOver, Position};
///
/// let (expected, arrived) = (Position::new(40), Offset::new(50));
/// let deleted = PassedOver::before(arrived, expected, Position::new(50));
/// assert_eq!(deleted.map(PassedOver::offsets), Some(10));
/// let compacted = PassedOver::before(arrived, expected, Position::new(0));
/// assert_eq!(compacted, None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// What was to be read next.
    pub from: Position,
    /// Where reading goes on.
    pub to: Position,
}

impl PassedOver {
    /// Looks at a record that came where another was expected. `first` is the log's first position.
    ///
    /// Compaction and the markers of transactions leave holes too, and nothing is missing there. So
    /// a hole counts only where the log begins inside of it, or at its end.
    pub fn before(arrived: Offset, expected: Position, first: Position) -> Option<Self> {
        let to = Position::before(arrived);
        (expected < first && first <= to).then_some(Self { from: expected, to })
    }

    /// How many offsets that are; at most as many records were there.
    pub fn offsets(self) -> u64 {
        u64::try_from(self.to.get().saturating_sub(self.from.get())).unwrap_or(0)
    }
}

/// How long nothing must arrive before [`EmptiedLog`] assumes that no record is on its way.
pub const EMPTIED_AFTER: Duration = Duration::from_secs(1);

/// Finds a log that begins above the position that is read next, where no record shows it.
///
/// Records that were fetched before they were deleted may still be on their way.
#[derive(Clone, Copy, Debug, Default)]
pub struct EmptiedLog {
    missing: Option<(Position, Moment)>,
}

impl EmptiedLog {
    /// Looks at what is expected next and at the log's first position, as far as they are known.
    /// Gives what was expected, if it has been missing for [`EMPTIED_AFTER`].
    pub fn look(
        &mut self,
        expected: Option<Position>,
        first: Option<Position>,
        now: Moment,
    ) -> Option<Position> {
        let missing = expected
            .zip(first)
            .filter(|(expected, first)| expected < first);
        let Some((expected, _)) = missing else {
            self.missing = None;
            return None;
        };
        let earlier = self.missing.filter(|(earlier, _)| *earlier == expected);
        let (_, since) = *self.missing.insert(earlier.unwrap_or((expected, now)));
        (now.since(since) >= EMPTIED_AFTER).then_some(expected)
    }
}

/// What is to be done next for a partition that has no position to be read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Query what is committed: the assignment had no answer.
    AskCommitted,
    /// Query the range of the log.
    AskRange,
    /// Begin an epoch at this position, and commit it.
    Commit(Position),
    /// Wait for the answer to that commit.
    AwaitCommit(Position),
    /// Read from this position. With an epoch, the leader is queried first where that epoch ends.
    /// If it ends below the position, the log was cut, and reading begins there.
    Seek(Position, Option<LeaderEpoch>),
    /// End the subscription: nothing is committed, and no position is to be made up.
    Fail,
}

/// The steps of one partition to its first position. Nothing of it is read until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beginning {
    reset: Reset,
    step: Step,
    /// What was to be read next; `None` where that is not known, or means nothing in this log.
    expected: Option<Position>,
}

impl Beginning {
    /// This position is committed, and the log below it was read under this epoch at the latest.
    /// `None` where there is nothing to confirm: no epoch, or nothing below.
    pub fn confirm(position: Position, epoch: Option<LeaderEpoch>) -> Option<Self> {
        let epoch = epoch.filter(|_| position > Position::new(0))?;
        Some(Self {
            reset: Reset::default(),
            step: Step::Seek(position, Some(epoch)),
            expected: None,
        })
    }

    /// Nothing is committed.
    pub fn without_commit(reset: Reset) -> Self {
        Self {
            reset,
            step: Step::AskRange,
            expected: None,
        }
    }

    /// Whether something is committed is unknown. An epoch that started without it would have
    /// neither the settled-ahead map nor the crash evidence, and its first commit would overwrite
    /// both.
    pub fn unknown(reset: Reset) -> Self {
        Self {
            reset,
            step: Step::AskCommitted,
            expected: None,
        }
    }

    /// The log begins above `expected`.
    pub fn passed_over(reset: Reset, expected: Position) -> Self {
        Self {
            reset,
            step: Step::AskRange,
            expected: Some(expected),
        }
    }

    /// The log was cut below `expected`. It may have grown past it again since then.
    pub fn went_back(reset: Reset, expected: Position) -> Self {
        Self {
            reset,
            step: Step::AskRange,
            expected: Some(expected),
        }
    }

    /// What is to be done next.
    pub fn step(&self) -> Step {
        self.step
    }

    /// Takes the answer about the committed position: this one, with this epoch if any, or none.
    pub fn committed(&mut self, position: Option<(Position, Option<LeaderEpoch>)>) {
        if self.step == Step::AskCommitted {
            let none = if self.reset == Reset::Error {
                Step::Fail
            } else {
                Step::AskRange
            };
            self.step = position.map_or(none, |(position, epoch)| Step::Seek(position, epoch));
        }
    }

    /// Takes the log's range. Returns what is passed over, if anything.
    pub fn range(&mut self, range: LogRange) -> Option<PassedOver> {
        if self.step != Step::AskRange {
            return None;
        }
        let reset = if self.reset == Reset::Latest {
            range.end
        } else {
            range.first
        };
        match self.expected {
            // It was all there: what seemed to be missing was read over. Or the log was cut, and is
            // as long again: what lies from here on was never read.
            Some(expected) if range.first <= expected && expected <= range.end => {
                self.step = Step::Seek(expected, None)
            }
            _ => self.step = Step::Commit(reset),
        }
        let passed_over = self.expected.map(|from| PassedOver { from, to: reset });
        passed_over.filter(|it| it.from < range.first && it.from < it.to)
    }

    /// The epoch was begun, and its commit is under way.
    pub fn opened(&mut self) {
        if let Step::Commit(position) = self.step {
            self.step = Step::AwaitCommit(position);
        }
    }

    /// The broker has the commit.
    pub fn confirmed(&mut self) {
        if let Step::AwaitCommit(position) = self.step {
            self.step = Step::Seek(position, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(position: i64) -> Position {
        Position::new(position)
    }

    fn range(first: i64, end: i64) -> LogRange {
        LogRange {
            first: at(first),
            end: at(end),
        }
    }

    #[test]
    fn without_a_commit_the_end_is_committed_before_it_is_read_from() {
        let mut beginning = Beginning::without_commit(Reset::Latest);
        assert_eq!(beginning.step(), Step::AskRange);
        assert_eq!(
            beginning.range(range(3, 70)),
            None,
            "a new group has missed nothing"
        );
        assert_eq!(beginning.step(), Step::Commit(at(70)));
        assert_eq!(beginning.range(range(3, 90)), None);
        beginning.confirmed();
        assert_eq!(
            beginning.step(),
            Step::Commit(at(70)),
            "a later end would pass over records"
        );
        beginning.opened();
        assert_eq!(beginning.step(), Step::AwaitCommit(at(70)));
        beginning.confirmed();
        assert_eq!(beginning.step(), Step::Seek(at(70), None));
    }

    #[test]
    fn a_committed_position_is_confirmed_by_its_epoch_and_by_nothing_else() {
        let epoch = Some(LeaderEpoch::new(3));
        assert_eq!(
            Beginning::confirm(at(200), None),
            None,
            "an older version's commit"
        );
        assert_eq!(Beginning::confirm(at(0), epoch), None, "nothing was read");
        let mut beginning = Beginning::confirm(at(200), epoch).expect("it can be");
        let confirm = Step::Seek(at(200), epoch);
        assert_eq!(beginning.range(range(0, 90)), None);
        beginning.committed(None);
        beginning.opened();
        beginning.confirmed();
        assert_eq!(beginning.step(), confirm);
    }

    #[test]
    fn what_is_committed_is_known_before_anything_else_is_asked() {
        for reset in [Reset::Earliest, Reset::Latest, Reset::Error] {
            let mut beginning = Beginning::unknown(reset);
            beginning.range(range(0, 70));
            assert_eq!(beginning.step(), Step::AskCommitted);
            let mut other = beginning;
            let epoch = Some(LeaderEpoch::new(3));
            beginning.committed(Some((at(5), epoch)));
            assert_eq!(beginning.step(), Step::Seek(at(5), epoch));
            other.committed(None);
            assert_eq!(
                other.step(),
                if reset == Reset::Error {
                    Step::Fail
                } else {
                    Step::AskRange
                }
            );
        }
        let mut earliest = Beginning::unknown(Reset::Earliest);
        earliest.committed(None);
        earliest.range(range(3, 70));
        assert_eq!(earliest.step(), Step::Commit(at(3)));
    }

    #[test]
    fn a_log_that_begins_above_the_position_passes_over_what_was_deleted() {
        let mut beginning = Beginning::passed_over(Reset::Earliest, at(0));
        assert_eq!(
            beginning.range(range(500, 500)),
            Some(PassedOver {
                from: at(0),
                to: at(500)
            })
        );
        assert_eq!(beginning.step(), Step::Commit(at(500)));
        let mut latest = Beginning::passed_over(Reset::Latest, at(0));
        let passed_over = latest.range(range(300, 500)).expect("there is");
        assert_eq!(
            (passed_over.to, passed_over.offsets()),
            (at(500), 500),
            "with what the reset leaves out"
        );
    }

    #[test]
    fn a_position_that_the_log_still_has_is_kept() {
        for (first, end) in [(0, 500), (100, 500), (0, 100)] {
            let mut beginning = Beginning::passed_over(Reset::Latest, at(100));
            assert_eq!(beginning.range(range(first, end)), None);
            assert_eq!(beginning.step(), Step::Seek(at(100), None));
        }
    }

    #[test]
    fn a_log_that_was_cut_is_read_from_its_end_unless_it_is_as_long_again() {
        let mut beginning = Beginning::went_back(Reset::Latest, at(100));
        assert_eq!(
            beginning.range(range(0, 40)),
            None,
            "how much of it is new is not known"
        );
        assert_eq!(beginning.step(), Step::Commit(at(40)));
        for end in [100, 120] {
            let mut beginning = Beginning::went_back(Reset::Latest, at(100));
            assert_eq!(beginning.range(range(0, end)), None);
            assert_eq!(
                beginning.step(),
                Step::Seek(at(100), None),
                "from there on nothing was read"
            );
        }
        let mut beginning = Beginning::went_back(Reset::Latest, at(100));
        let passed_over = beginning
            .range(range(110, 120))
            .expect("deleted after it was cut");
        assert_eq!(
            (passed_over, beginning.step()),
            (
                PassedOver {
                    from: at(100),
                    to: at(120)
                },
                Step::Commit(at(120))
            )
        );
    }

    #[test]
    fn a_hole_counts_only_where_the_log_begins_in_it() {
        let look = |expected, arrived, first| {
            PassedOver::before(Offset::new(arrived), at(expected), at(first))
        };
        assert_eq!(
            look(100, 400, 400),
            Some(PassedOver {
                from: at(100),
                to: at(400)
            })
        );
        // Compacted: the first record that is left lies above the log's first position.
        assert_eq!(look(100, 420, 400).map(PassedOver::offsets), Some(320));
        assert_eq!(look(100, 101, 0), None, "a transaction's marker");
        assert_eq!(look(100, 400, 100), None, "compacted away");
        // Fetched before it was deleted, with what was there in front of it.
        assert_eq!(look(100, 105, 300), None);
        assert_eq!(look(100, 100, 300), None);
    }

    #[test]
    fn an_emptied_log_is_believed_when_nothing_has_arrived_for_a_while() {
        let mut log = EmptiedLog::default();
        let mut look = |expected: Option<i64>, first: Option<i64>, looked_after: Duration| {
            log.look(expected.map(at), first.map(at), Moment::new(looked_after))
                .map(Position::get)
        };
        assert_eq!(look(Some(5), Some(0), Duration::ZERO), None);
        assert_eq!(look(Some(5), Some(9), EMPTIED_AFTER * 5), None);
        assert_eq!(
            look(Some(5), Some(9), EMPTIED_AFTER * 5),
            None,
            "two looks at one moment are one"
        );
        assert_eq!(
            look(Some(7), Some(9), EMPTIED_AFTER * 6),
            None,
            "records are still on their way"
        );
        assert_eq!(look(Some(7), Some(9), EMPTIED_AFTER * 7), Some(7));
        assert_eq!(look(Some(9), Some(9), EMPTIED_AFTER * 8), None);
        assert_eq!(look(None, Some(9), EMPTIED_AFTER * 9), None);
        assert_eq!(look(None, None, EMPTIED_AFTER * 10), None);
    }
}
