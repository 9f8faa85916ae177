//! How many records lie in the dead-letter topic: the side client queries it at intervals.

use std::sync::Arc;
use std::time::{Duration, Instant};

const ASK_EVERY: Duration = Duration::from_secs(30);
/// For how long an answer counts: some lost answers in a row are no news about the topic.
const COUNTS_FOR: Duration = Duration::from_secs(150);

/// When to ask about the dead-letter topic, and whether the last answer still counts.
#[derive(Default)]
pub(super) struct DeadLetterTopic {
    /// `None` where there is none.
    name: Option<Arc<str>>,
    asked: Option<Instant>,
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
        let (mut topic, begin) = (DeadLetterTopic::new(Some("dead".into())), Instant::now());
        assert_eq!(
            topic.take_in(None, begin + COUNTS_FOR * 2),
            Shown::Unchanged,
            "nothing was shown before"
        );
        assert_eq!(topic.take_in(Some(7), begin), Shown::Records(7));
        assert_eq!(
            topic.take_in(None, begin + COUNTS_FOR / 2),
            Shown::Unchanged
        );
        assert_eq!(topic.take_in(None, begin + COUNTS_FOR), Shown::Unknown);
        assert_eq!(
            topic.take_in(None, begin + COUNTS_FOR),
            Shown::Unchanged,
            "reported once"
        );
    }
}
