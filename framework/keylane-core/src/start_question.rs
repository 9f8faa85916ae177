//! Whether the log's leader has confirmed a start.

use std::time::Duration;

use crate::offset::Position;
use crate::time::Moment;
use crate::withheld::WITHHELD_AFTER;

/// A start that is not confirmed after this time is reported.
const UNANSWERED_AFTER: Duration = Duration::from_secs(15);

/// The question where the leader epoch of a start ends in the log.
///
/// The client asks it before it fetches ([`Beginning::confirm`](crate::Beginning::confirm)). It
/// repeats the question without end and reports nothing. So other signs have to show whether there
/// was an answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct StartQuestion {
    asked: Option<Moment>,
    answered: bool,
    unanswered: bool,
}

/// What is seen of a partition.
#[derive(Clone, Copy, Debug)]
pub struct StartSigns {
    /// Where the epoch begins.
    pub start: Option<Position>,
    /// A record was read in this epoch.
    pub has_read: bool,
    /// Nothing is to be fetched.
    pub is_paused: bool,
    /// The log's end at the client's last fetch.
    pub end: Option<Position>,
    /// The same before the epoch.
    pub end_before: Option<Position>,
    /// The log's end, where it was queried in another way.
    pub asked_end: Option<Position>,
}

impl StartQuestion {
    /// The client sends the question from `now` on, or does not send it.
    pub fn ask(&mut self, now: Option<Moment>) {
        self.asked = now;
    }

    /// Whether the client has to send the question before it reads.
    pub fn is_asked(&self) -> bool {
        self.asked.is_some()
    }

    /// Whether the leader has not answered, as far as can be seen: there are records to be read,
    /// and the client has fetched nothing.
    pub fn is_unanswered(&self) -> bool {
        self.unanswered
    }

    /// Whether there may be no answer yet although the question is this old. Then the log's end is
    /// worth a query.
    pub fn may_be_unanswered(&self, has_read: bool, after: Duration, now: Moment) -> bool {
        let waits = !self.answered && !has_read;
        waits && self.asked.is_some_and(|since| now.since(since) >= after)
    }

    /// Looks for an answer. Returns whether a missing answer is to be reported now.
    pub fn look(&mut self, signs: &StartSigns, now: Moment) -> bool {
        if signs.is_paused {
            // Whether something could be fetched shows afterwards.
            self.asked = self.asked.map(|_| now);
        }
        let ends = signs
            .asked_end
            .zip(signs.start)
            .filter(|_| self.may_be_unanswered(signs.has_read, WITHHELD_AFTER, now));
        // The client has the end from its first fetch, with or without records. The end has to be
        // queried only where it is the same as before.
        let has_fetched = signs.end.is_some() && signs.end != signs.end_before;
        self.answered |= has_fetched || ends.is_some_and(|(end, _)| signs.end >= Some(end));
        let before = self.unanswered;
        let is_behind = ends.is_some_and(|(end, start)| end > start);
        self.unanswered =
            is_behind && self.may_be_unanswered(signs.has_read, UNANSWERED_AFTER, now);
        self.unanswered && !before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::new(Duration::from_secs(seconds))
    }

    fn position(offset: i64) -> Option<Position> {
        Some(Position::new(offset))
    }

    /// Nothing was fetched yet, and another way has shown that there are records.
    const BEHIND: StartSigns = StartSigns {
        start: Some(Position::new(5)),
        has_read: false,
        is_paused: false,
        end: None,
        end_before: None,
        asked_end: Some(Position::new(20)),
    };

    fn asked() -> StartQuestion {
        let mut question = StartQuestion::default();
        question.ask(Some(at(0)));
        question
    }

    #[test]
    fn records_that_are_there_and_not_fetched_for_15_seconds_are_reported_once() {
        let mut question = asked();
        assert!(!question.look(&BEHIND, at(14)));
        assert!(!question.is_unanswered());
        assert!(question.look(&BEHIND, at(15)));
        assert!(question.is_unanswered());
        assert!(!question.look(&BEHIND, at(16)), "once");
        assert!(question.is_unanswered());
    }

    #[test]
    fn what_is_read_or_fetched_is_an_answer_for_good() {
        let read = StartSigns {
            has_read: true,
            ..BEHIND
        };
        let fetched = StartSigns {
            end: position(20),
            ..BEHIND
        };
        for answer in [read, fetched] {
            let mut question = asked();
            assert!(question.look(&BEHIND, at(15)));
            assert!(!question.look(&answer, at(16)));
            assert!(!question.is_unanswered(), "{answer:?}");
        }
        let mut question = asked();
        question.look(&fetched, at(1));
        assert!(!question.look(&BEHIND, at(60)));
        assert!(!question.may_be_unanswered(false, Duration::ZERO, at(60)));
    }

    /// The client keeps the end from an earlier assignment until its first fetch.
    #[test]
    fn an_end_that_the_client_knew_before_is_an_answer_only_where_it_is_the_present_one() {
        let stale = StartSigns {
            end: position(12),
            end_before: position(12),
            ..BEHIND
        };
        assert!(asked().look(&stale, at(15)));
        let present = StartSigns {
            asked_end: position(12),
            ..stale
        };
        let mut question = asked();
        assert!(!question.look(&present, at(15)));
        assert!(!question.may_be_unanswered(false, Duration::ZERO, at(15)));
    }

    #[test]
    fn nothing_to_be_read_is_no_trouble_and_a_pause_no_silence() {
        let empty = StartSigns {
            asked_end: position(5),
            ..BEHIND
        };
        assert!(!asked().look(&empty, at(60)));
        let unknown = StartSigns {
            asked_end: None,
            ..BEHIND
        };
        assert!(!asked().look(&unknown, at(60)));
        let paused = StartSigns {
            is_paused: true,
            ..BEHIND
        };
        let mut question = asked();
        assert!(!question.look(&paused, at(60)));
        assert!(!question.look(&BEHIND, at(74)), "it begins after the pause");
        assert!(question.look(&BEHIND, at(75)));
        assert!(!StartQuestion::default().look(&BEHIND, at(60)), "not asked");
    }
}
