//! Records below a log's end that cannot be read because a transaction is open in front of them.
//!
//! A reader of committed records gets nothing from the last stable offset on, and no error. What
//! lies there is lag. The markers that end transactions, and aborted records, lie there as well and
//! never arrive. Only a last stable offset below the end shows the difference, so it is queried.

use std::time::Duration;

use crate::offset::Position;
use crate::time::Moment;

/// How long a partition reads nothing below its end before the last stable offset is queried.
pub const WITHHELD_AFTER: Duration = Duration::from_secs(3);

/// What is below the end of a log, where everything that arrived is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// What is read next.
    pub next: Position,
    /// The log's end.
    pub end: Position,
}

/// Watches one partition for records that do not arrive.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// use keylane_core::{Moment, Position, Rest, WITHHELD_AFTER, Withheld};
///
/// let mut withheld = Withheld::default();
/// let rest = Rest { next: Position::new(40), end: Position::new(50) };
/// withheld.look(Some(rest), Moment::ORIGIN);
/// let later = Moment::ORIGIN + WITHHELD_AFTER + Duration::from_secs(1);
/// withheld.look(Some(rest), later);
/// assert!(withheld.wants_answer(later), "is a transaction open?");
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Withheld {
    /// What is read next, since when it is, and the end at the latest look.
    rest: Option<(Position, Moment, Position)>,
    /// The known end when the query was sent.
    asked: Option<Position>,
    /// The latest answer, and that end.
    answer: Option<(Position, Position)>,
    is_reported: bool,
}

/// Records that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behind {
    /// Where the oldest open transaction begins.
    pub last_stable: Position,
    /// The log's end.
    pub end: Position,
    /// How long nothing has arrived.
    pub lasting: Duration,
}

impl Behind {
    /// The offsets that cannot be read.
    pub fn offsets(self) -> u64 {
        u64::try_from(self.end.get().saturating_sub(self.last_stable.get())).unwrap_or(0)
    }
}

/// A change that is to be reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithheldNews {
    /// Records have begun to be withheld.
    Begun(Behind),
    /// They are no more.
    Ended,
}

impl Withheld {
    /// Looks at what is left to read; `None` where nothing is, or it is not known, or reading is
    /// paused.
    pub fn look(&mut self, rest: Option<Rest>, now: Moment) -> Option<WithheldNews> {
        match rest.filter(|rest| rest.next < rest.end) {
            Some(Rest { next, end }) => {
                let since = self
                    .rest
                    .filter(|(before, ..)| *before == next)
                    .map(|(_, since, _)| since);
                if since.is_none() {
                    (self.asked, self.answer) = (None, None);
                }
                self.rest = Some((next, since.unwrap_or(now), end));
            }
            None => (self.rest, self.asked, self.answer) = (None, None, None),
        }
        let behind = self.behind(now);
        let was_reported = std::mem::replace(&mut self.is_reported, behind.is_some());
        match behind {
            Some(behind) if !was_reported => Some(WithheldNews::Begun(behind)),
            None if was_reported => Some(WithheldNews::Ended),
            _ => None,
        }
    }

    /// Whether the last stable offset is to be queried.
    pub fn wants_answer(&self, now: Moment) -> bool {
        let is_late =
            |(_, since, _): &(Position, Moment, Position)| now.since(*since) >= WITHHELD_AFTER;
        self.rest
            .filter(is_late)
            .is_some_and(|(.., end)| match self.answer {
                // It was all readable, and nothing has come since: markers, or aborted records.
                Some((last_stable, _)) if last_stable >= end => false,
                _ => true,
            })
    }

    /// The question is on its way.
    pub fn asked(&mut self) {
        self.asked = self.rest.map(|(.., end)| end);
    }

    /// Takes the last stable offset. Records written since the query do not affect it.
    pub fn answered(&mut self, last_stable: Position) {
        if let Some(end) = self.asked.take() {
            self.answer = Some((last_stable, end));
        }
    }

    /// What is withheld now.
    pub fn behind(&self, now: Moment) -> Option<Behind> {
        let ((_, since, end), (last_stable, end_before)) = self.rest.zip(self.answer)?;
        (last_stable < end_before).then(|| Behind {
            last_stable,
            end,
            lasting: now.since(since),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Moment {
        Moment::new(Duration::from_secs(second))
    }

    const fn rest(next: i64, end: i64) -> Option<Rest> {
        Some(Rest {
            next: Position::new(next),
            end: Position::new(end),
        })
    }

    #[test]
    fn what_lies_behind_an_open_transaction_is_lag_since_it_was_to_be_read() {
        let mut withheld = Withheld::default();
        assert_eq!(withheld.look(rest(5, 10), at(10)), None);
        assert!(!withheld.wants_answer(at(12)));
        withheld.look(rest(5, 1_010), at(13));
        assert!(withheld.wants_answer(at(13)));
        assert_eq!(withheld.behind(at(13)), None, "it is not known yet");
        withheld.asked();
        withheld.answered(Position::new(5));
        let behind = Behind {
            last_stable: Position::new(5),
            end: Position::new(1_010),
            lasting: at(14).since(at(10)),
        };
        assert_eq!(
            withheld.look(rest(5, 1_010), at(14)),
            Some(WithheldNews::Begun(behind))
        );
        assert_eq!(behind.offsets(), 1_005);
        assert_eq!(withheld.look(rest(5, 1_010), at(15)), None);
        assert!(
            withheld.wants_answer(at(15)),
            "an aborted one ends without a record"
        );
        assert_eq!(
            withheld.look(rest(1_010, 1_010), at(16)),
            Some(WithheldNews::Ended)
        );
        assert_eq!(withheld.behind(at(16)), None);
    }

    #[test]
    fn a_marker_at_the_end_is_no_lag_and_asked_for_once() {
        let mut withheld = Withheld::default();
        withheld.look(rest(9, 10), at(0));
        withheld.look(rest(9, 10), at(3));
        assert!(withheld.wants_answer(at(3)));
        withheld.asked();
        // Meanwhile.
        withheld.look(rest(9, 11), at(3));
        withheld.answered(Position::new(10));
        assert_eq!(withheld.behind(at(3)), None, "written after the question");
        withheld.look(rest(9, 10), at(3));
        assert_eq!(withheld.look(rest(9, 10), at(4_000)), None);
        assert_eq!(withheld.behind(at(4_000)), None);
        assert!(!withheld.wants_answer(at(4_000)));
        withheld.look(rest(9, 12), at(4_001));
        assert!(withheld.wants_answer(at(4_001)), "there is something new");
        assert_eq!(withheld.behind(at(4_001)), None, "written after the answer");
    }

    #[test]
    fn transactions_that_follow_each_other_withhold_nothing() {
        let mut withheld = Withheld::default();
        for second in 0..60 {
            let next = i64::try_from(second * 10).expect("it is small");
            assert_eq!(withheld.look(rest(next, next + 10), at(second)), None);
            assert!(!withheld.wants_answer(at(second)));
        }
    }

    #[test]
    fn an_aborted_transaction_ends_it_too() {
        let mut withheld = Withheld::default();
        withheld.look(rest(5, 10), at(0));
        withheld.asked();
        withheld.answered(Position::new(5));
        assert!(matches!(
            withheld.look(rest(5, 10), at(4)),
            Some(WithheldNews::Begun(_))
        ));
        withheld.asked();
        withheld.answered(Position::new(11));
        assert_eq!(
            withheld.look(rest(5, 11), at(14)),
            Some(WithheldNews::Ended)
        );
    }

    #[test]
    fn a_pause_or_a_pending_record_begins_it_again() {
        let mut withheld = Withheld::default();
        withheld.look(rest(5, 10), at(0));
        withheld.asked();
        withheld.look(None, at(4));
        assert_eq!(withheld.behind(at(4)), None);
        withheld.look(rest(5, 10), at(5));
        assert!(!withheld.wants_answer(at(7)));
        withheld.answered(Position::new(5));
        assert_eq!(
            withheld.behind(at(8)),
            None,
            "an answer to a question from before"
        );
        withheld.asked();
        withheld.answered(Position::new(5));
        assert_eq!(
            withheld
                .behind(at(8))
                .map(|behind| behind.lasting.as_secs()),
            Some(3)
        );
    }
}
