//! Why a partition is not read on.

use std::time::Duration;

use crate::budget::Budget;
use crate::time::Moment;

/// Why reading a partition is paused.
///
/// # Examples
/// ```
/// use keylane_core::PausedBy;
///
/// assert!(PausedBy::NotDue.is_limit() && !PausedBy::User.is_limit());
/// assert_eq!(PausedBy::NoPosition.as_str(), "no_position");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PausedBy {
    /// The user paused the partition or the subscription.
    User,
    /// The control topic pauses it, or has not been read to its end since the partition was
    /// assigned.
    Control,
    /// The partition is being given back, or the subscription shuts down.
    HandOver,
    /// The partition has no position to be read from yet, or the broker has no commit of it, or the
    /// leader has not confirmed it for 15 s.
    NoPosition,
    /// Records that are not due yet fill the limits, with those behind them in their lanes. Until
    /// they are due, nothing behind them is read, whatever its key.
    NotDue,
    /// The number of pending records has reached its limit.
    PendingRecords,
    /// The number of records settled above the oldest unsettled one has reached its limit.
    SettledAhead,
    /// The pending bytes of all partitions have reached their limit.
    PendingBytes,
}

impl PausedBy {
    /// Whether a limit is reached: reading goes on when records are settled.
    pub const fn is_limit(self) -> bool {
        match self {
            Self::User | Self::Control | Self::HandOver | Self::NoPosition => false,
            Self::NotDue | Self::PendingRecords | Self::SettledAhead | Self::PendingBytes => true,
        }
    }

    /// Its name in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Control => "control",
            Self::HandOver => "hand_over",
            Self::NoPosition => "no_position",
            Self::NotDue => "not_due",
            Self::PendingRecords => "pending_records",
            Self::SettledAhead => "settled_ahead",
            Self::PendingBytes => "pending_bytes",
        }
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for PausedBy {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// How much there is of something that is limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fill {
    /// All of it.
    pub level: u64,
    /// What of that is not due yet, or behind a record of its lane that is not.
    pub not_due: u64,
}

/// The limits of one partition, and how far they are filled.
#[derive(Clone, Copy, Debug)]
pub struct LimitsSeen {
    /// Pending records.
    pub records: (Budget, Fill),
    /// Pending bytes, over all partitions.
    pub bytes: (Budget, Fill),
    /// Offsets settled ahead of the watermark.
    pub ahead: Budget,
    /// Whether the record at the watermark is not due yet.
    pub oldest_is_not_due: bool,
}

impl LimitsSeen {
    /// Which limit has reading paused; `None` where none has.
    ///
    /// Records that are not due are the cause where each limit that is reached would let reading go
    /// on without them.
    pub fn paused_by(&self) -> Option<PausedBy> {
        let goes_on_without = |(budget, fill): (Budget, Fill)| {
            budget.resumes_at(fill.level.saturating_sub(fill.not_due))
        };
        let limits = [
            (
                self.records.0,
                goes_on_without(self.records),
                PausedBy::PendingRecords,
            ),
            (self.ahead, self.oldest_is_not_due, PausedBy::SettledAhead),
            (
                self.bytes.0,
                goes_on_without(self.bytes),
                PausedBy::PendingBytes,
            ),
        ];
        let mut reached = limits
            .into_iter()
            .filter(|(budget, ..)| budget.is_paused())
            .peekable();
        reached.peek()?;
        let other = reached.find(|(_, is_not_due, _)| !is_not_due);
        Some(other.map_or(PausedBy::NotDue, |(.., cause)| cause))
    }
}

/// Reading has to go on for this long before a new pause is reported as a new episode.
const GAP: Duration = Duration::from_secs(60);

/// The time in which records that are not due keep a partition from being read, with the short
/// moments of reading between.
#[derive(Clone, Copy, Debug, Default)]
pub struct NotDueEpisode {
    /// When it began, and when it was last seen.
    lasts: Option<(Moment, Moment)>,
}

/// What is to be reported of an episode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpisodeNews {
    /// It begins.
    Begins,
    /// It is over.
    Ends {
        /// How long it lasted.
        lasted: Duration,
    },
}

impl NotDueEpisode {
    /// Takes in whether that is the cause now. To be called about once a second.
    pub fn look(&mut self, paused_by: Option<PausedBy>, now: Moment) -> Option<EpisodeNews> {
        let is_cause = paused_by == Some(PausedBy::NotDue);
        match (self.lasts, is_cause) {
            (None, false) => None,
            (None, true) => {
                self.lasts = Some((now, now));
                Some(EpisodeNews::Begins)
            }
            (Some((began, _)), true) => {
                self.lasts = Some((began, now));
                None
            }
            (Some((began, seen)), false) if now.since(seen) >= GAP => {
                self.lasts = None;
                Some(EpisodeNews::Ends {
                    lasted: seen.since(began),
                })
            }
            (Some(_), false) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(mut budget: Budget, level: u64) -> Budget {
        budget.update(level);
        budget
    }

    /// Limits of 10 with a low mark of 7.
    fn seen(records: Fill, bytes: Fill, ahead: u64, oldest_is_not_due: bool) -> LimitsSeen {
        let budget = |level| filled(Budget::new(10, 7), level);
        LimitsSeen {
            records: (budget(records.level), records),
            bytes: (budget(bytes.level), bytes),
            ahead: budget(ahead),
            oldest_is_not_due,
        }
    }

    fn fill(level: u64, not_due: u64) -> Fill {
        Fill { level, not_due }
    }

    #[test]
    fn records_that_are_not_due_are_the_cause_where_reading_would_go_on_without_them() {
        let cause = |records, bytes| seen(records, bytes, 0, false).paused_by();
        let none = Fill::default();
        assert_eq!(cause(fill(9, 9), none), None, "no limit is reached");
        assert_eq!(cause(fill(10, 10), none), Some(PausedBy::NotDue));
        assert_eq!(
            cause(fill(10, 3), none),
            Some(PausedBy::NotDue),
            "without them the low mark is reached"
        );
        assert_eq!(cause(fill(10, 2), none), Some(PausedBy::PendingRecords));
        assert_eq!(cause(none, fill(12, 5)), Some(PausedBy::NotDue));
        assert_eq!(cause(none, fill(12, 4)), Some(PausedBy::PendingBytes));
        // A count that is older than the level.
        assert_eq!(cause(fill(10, 12), none), Some(PausedBy::NotDue));
    }

    #[test]
    fn another_limit_that_is_reached_without_them_is_the_cause() {
        assert_eq!(
            seen(fill(10, 10), fill(10, 0), 0, false).paused_by(),
            Some(PausedBy::PendingBytes)
        );
        assert_eq!(
            seen(fill(10, 0), fill(10, 10), 0, false).paused_by(),
            Some(PausedBy::PendingRecords)
        );
        assert_eq!(
            seen(fill(10, 10), fill(10, 10), 10, false).paused_by(),
            Some(PausedBy::SettledAhead)
        );
        assert_eq!(
            seen(fill(10, 10), fill(10, 10), 10, true).paused_by(),
            Some(PausedBy::NotDue)
        );
    }

    /// One is enough: all that is settled behind it counts.
    #[test]
    fn a_single_record_that_is_not_due_fills_what_may_be_settled_ahead_of_it() {
        assert_eq!(
            seen(fill(1, 1), Fill::default(), 10, true).paused_by(),
            Some(PausedBy::NotDue)
        );
        assert_eq!(
            seen(fill(1, 0), Fill::default(), 10, false).paused_by(),
            Some(PausedBy::SettledAhead)
        );
    }

    #[test]
    fn an_episode_is_told_once_and_short_moments_of_reading_are_part_of_it() {
        let at = |seconds| Moment::new(Duration::from_secs(seconds));
        let mut episode = NotDueEpisode::default();
        assert_eq!(episode.look(None, at(0)), None);
        assert_eq!(episode.look(Some(PausedBy::PendingRecords), at(1)), None);
        assert_eq!(
            episode.look(Some(PausedBy::NotDue), at(2)),
            Some(EpisodeNews::Begins)
        );
        assert_eq!(episode.look(Some(PausedBy::NotDue), at(100)), None);
        assert_eq!(episode.look(None, at(101)), None);
        assert_eq!(
            episode.look(Some(PausedBy::NotDue), at(150)),
            None,
            "it goes on"
        );
        assert_eq!(episode.look(None, at(209)), None);
        let ends = EpisodeNews::Ends {
            lasted: Duration::from_secs(148),
        };
        assert_eq!(episode.look(None, at(210)), Some(ends));
        assert_eq!(episode.look(None, at(300)), None);
        assert_eq!(
            episode.look(Some(PausedBy::NotDue), at(301)),
            Some(EpisodeNews::Begins)
        );
    }
}
