//! Topics that cannot be written to now: their rows wait, and those of other topics go on.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// So many topics are kept in mind; others are looked at again each time.
const MOST: usize = 1_024;
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Good,
    /// Not before this time; the next rest is as long as this.
    Resting(Instant, Duration),
}

/// What is known of the topics.
#[derive(Debug, Default)]
pub(super) struct Topics {
    known: BTreeMap<String, State>,
}

impl Topics {
    /// Whether it has to be looked at before it is written to.
    pub(super) fn is_unknown(&self, topic: &str, now: Instant) -> bool {
        match self.known.get(topic) {
            Some(State::Good) => false,
            Some(State::Resting(until, _)) => *until <= now,
            None => true,
        }
    }

    /// It can be written to. Returns whether it could not before.
    pub(super) fn good(&mut self, topic: &str) -> bool {
        let before = self.insert(topic, State::Good);
        matches!(before, Some(State::Resting(..)))
    }

    /// It cannot be written to for now. Returns whether it could before, as far as that was known.
    pub(super) fn rest(&mut self, topic: &str, now: Instant) -> bool {
        let (rest, is_new) = match self.known.get(topic) {
            Some(State::Resting(_, rest)) => ((2 * *rest).min(LONGEST_REST), false),
            _ => (FIRST_REST, true),
        };
        self.insert(topic, State::Resting(now + rest, rest));
        is_new
    }

    fn insert(&mut self, topic: &str, state: State) -> Option<State> {
        let before = self.known.insert(topic.to_owned(), state);
        if self.known.len() > MOST {
            self.doubt();
        }
        if self.known.len() > MOST {
            self.known.clear();
        }
        before
    }

    /// Publishing has failed: all are looked at again.
    pub(super) fn doubt(&mut self) {
        self.known.retain(|_, state| *state != State::Good);
    }

    /// Those whose rows are left alone now.
    pub(super) fn resting(&self, now: Instant) -> Vec<String> {
        let is_resting = |state: &State| matches!(state, State::Resting(until, _) if *until > now);
        let resting = self.known.iter().filter(|(_, state)| is_resting(state));
        resting.map(|(topic, _)| topic.clone()).collect()
    }

    /// How many cannot be written to.
    pub(super) fn unavailable(&self) -> usize {
        let is_resting = |state: &&State| matches!(state, State::Resting(..));
        self.known.values().filter(is_resting).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_rests_longer_each_time_and_is_good_at_once() {
        let (mut topics, begin) = (Topics::default(), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert!(topics.is_unknown("t", begin));
        assert!(topics.rest("t", at(0)), "it is news");
        assert!(!topics.is_unknown("t", at(0)));
        assert_eq!(topics.resting(at(0)), ["t"]);
        assert!(topics.is_unknown("t", at(1)) && topics.resting(at(1)).is_empty());
        assert!(!topics.rest("t", at(1)));
        assert!(!topics.is_unknown("t", at(2)) && topics.is_unknown("t", at(3)));
        for _ in 0..10 {
            topics.rest("t", at(3));
        }
        assert!(!topics.is_unknown("t", at(32)) && topics.is_unknown("t", at(33)));
        assert_eq!(topics.unavailable(), 1);
        assert!(topics.good("t") && !topics.good("t"));
        assert_eq!(topics.unavailable(), 0);
    }

    #[test]
    fn in_doubt_every_topic_is_looked_at_again() {
        let (mut topics, now) = (Topics::default(), Instant::now());
        topics.good("good");
        topics.rest("bad", now);
        topics.doubt();
        assert!(topics.is_unknown("good", now) && !topics.is_unknown("bad", now));
    }

    #[test]
    fn what_is_known_is_bounded() {
        let mut topics = Topics::default();
        for topic in 0..3_000 {
            topics.good(&format!("topic-{topic}"));
            topics.rest(&format!("bad-{topic}"), Instant::now());
        }
        assert!(topics.known.len() <= MOST);
    }
}
