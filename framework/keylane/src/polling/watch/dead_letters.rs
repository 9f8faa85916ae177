//! How many records lie in the dead-letter topic, and how many of them are open: the side client
//! queries it at intervals.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::kafka::Open;

const ASK_EVERY: Duration = Duration::from_secs(30);
/// For how long an answer counts: some lost answers in a row are no news about the topic.
const COUNTS_FOR: Duration = Duration::from_secs(150);

/// When to ask about the dead-letter topic.
#[derive(Default)]
pub(super) struct DeadLetterTopic {
    /// `None` where there is none.
    name: Option<Arc<str>>,
    asked: Option<Instant>,
    pub(super) records: Figure,
    pub(super) open: Figure,
}

/// Whether the last answer still counts.
#[derive(Default)]
pub(super) struct Figure {
    answered: Option<Instant>,
}

/// What is to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// The shown value stays.
    Unchanged,
    Records(u64),
    Unknown,
}

impl DeadLetterTopic {
    pub(super) fn new(name: Option<Arc<str>>) -> Self {
        Self {
            name,
            ..Self::default()
        }
    }

    /// The topic, if it is time to ask about it.
    pub(super) fn due(&self, now: Instant) -> Option<Arc<str>> {
        let is_due = self
            .asked
            .is_none_or(|asked| now.saturating_duration_since(asked) >= ASK_EVERY);
        self.name.clone().filter(|_| is_due)
    }

    pub(super) fn asked(&mut self, now: Instant) {
        self.asked = Some(now);
    }
}

impl Figure {
    pub(super) fn take_in(&mut self, answer: Option<u64>, now: Instant) -> Shown {
        if let Some(records) = answer {
            self.answered = Some(now);
            return Shown::Records(records);
        }
        match self.answered {
            Some(answered) if now.saturating_duration_since(answered) >= COUNTS_FOR => {
                self.answered = None;
                Shown::Unknown
            }
            _ => Shown::Unchanged,
        }
    }

    /// As [`take_in`](Self::take_in), with an answer that may say that it is not known.
    pub(super) fn take_in_open(&mut self, answer: Open, now: Instant) -> Shown {
        match answer {
            Open::Letters(letters) => self.take_in(Some(letters), now),
            Open::NoAnswer => self.take_in(None, now),
            Open::Unknown => match self.answered.take() {
                Some(_) => Shown::Unknown,
                None => Shown::Unchanged,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_asked_about_twice_a_minute_and_none_is_not() {
        let begin = Instant::now();
        assert_eq!(DeadLetterTopic::new(None).due(begin), None);
        let mut topic = DeadLetterTopic::new(Some("dead".into()));
        assert_eq!(topic.due(begin), Some("dead".into()));
        topic.asked(begin);
        assert_eq!(topic.due(begin + ASK_EVERY / 2), None);
        assert_eq!(topic.due(begin + ASK_EVERY), Some("dead".into()));
    }

    #[test]
    fn an_answer_counts_until_several_were_missed_and_no_answer_is_not_zero() {
        let (mut figure, begin) = (Figure::default(), Instant::now());
        assert_eq!(
            figure.take_in(None, begin + COUNTS_FOR * 2),
            Shown::Unchanged,
            "nothing was shown before"
        );
        assert_eq!(figure.take_in(Some(7), begin), Shown::Records(7));
        assert_eq!(
            figure.take_in(None, begin + COUNTS_FOR / 2),
            Shown::Unchanged
        );
        assert_eq!(figure.take_in(None, begin + COUNTS_FOR), Shown::Unknown);
        assert_eq!(
            figure.take_in(None, begin + COUNTS_FOR),
            Shown::Unchanged,
            "reported once"
        );
    }
    #[test]
    fn what_cannot_be_known_is_no_longer_shown_at_once() {
        let (mut figure, begin) = (Figure::default(), Instant::now());
        let mut take_in = |answer, at| figure.take_in_open(answer, begin + at);
        assert_eq!(take_in(Open::Unknown, ASK_EVERY), Shown::Unchanged);
        assert_eq!(take_in(Open::Letters(3), ASK_EVERY), Shown::Records(3));
        assert_eq!(take_in(Open::NoAnswer, ASK_EVERY * 2), Shown::Unchanged);
        assert_eq!(take_in(Open::Unknown, ASK_EVERY * 3), Shown::Unknown);
        assert_eq!(take_in(Open::Unknown, ASK_EVERY * 4), Shown::Unchanged);
        assert_eq!(take_in(Open::Letters(0), ASK_EVERY * 5), Shown::Records(0));
        assert_eq!(
            take_in(Open::NoAnswer, ASK_EVERY * 5 + COUNTS_FOR),
            Shown::Unknown
        );
    }
}
