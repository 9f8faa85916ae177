//! What becomes of a failed attempt: in place, then the retry topic, then the end.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::failure::{Failure, Reason};
use crate::storm_guard::StormGuard;

/// What becomes of records that fail.
///
/// A failure is first retried **in place**: the lane waits, so the order of its key is kept, and nobody else does. Then
/// it goes through the **retry topic**, where one is set up: its lane goes on, and the order of the key is given up.
/// When both are used up, [`on_exhausted`](Self::on_exhausted) has the last word.
///
/// The default retries in place three times, has no retry topic and no dead-letter topic, and so never gives a record up.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    /// How often a record is retried in place each time it is delivered.
    pub in_place: InPlace,
    /// The delays of retries in place. Its cap is also the delay of a record that ran out of retries and has to wait.
    pub backoff: Backoff,
    /// The retry topic, where one is set up.
    pub topic: Option<TopicRetry>,
    /// The last word on a record that is out of retries, fatal or undecodable.
    pub on_exhausted: Exhausted,
    /// Whether a dead-letter topic is set up. Without one [`Exhausted::DeadLetter`] retries in place for ever.
    pub dead_letter_topic: bool,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            in_place: InPlace::Times(3),
            backoff: Backoff::default(),
            topic: None,
            on_exhausted: Exhausted::default(),
            dead_letter_topic: false,
        }
    }
}

/// How often a record is retried in place, counted anew with every delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InPlace {
    /// At most this often; 0 goes on at once.
    Times(u32),
    /// Until it works. The retry topic and the end are only reached by fatal and undecodable records.
    Forever,
}

/// How often and how soon a record comes back through the retry topic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TopicRetry {
    /// How many times it goes through the topic.
    pub rounds: u32,
    /// How long each round takes at least.
    pub backoff: Backoff,
}

/// What happens to a record when nothing more is to be tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exhausted {
    /// It is written to the dead-letter topic and settled once that is acknowledged.
    #[default]
    DeadLetter,
    /// It stays where it is, unsettled, with its lane. The commit does not go past it.
    Park,
    /// The subscription ends with an error; the record stays unsettled and is delivered again at the next start.
    Stop,
}

/// What is known of a record when one of its attempts fails.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tried {
    /// Attempts since it was delivered, the failed one included.
    pub(crate) attempts_here: u32,
    /// Rounds through the retry topic before this delivery.
    pub(crate) rounds: u32,
    /// The retry topic does not take it.
    pub(crate) too_large_for_topic: bool,
}

impl Tried {
    fn has_rounds_left(&self, topic: &TopicRetry) -> bool {
        !self.too_large_for_topic && self.rounds < topic.rounds
    }
}

/// What to do about a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Wait { delay: Duration, refused_by_guard: bool },
    RetryTopic { round: u32, delay: Duration },
    DeadLetter(Reason),
    ParkByPolicy(Reason),
    ParkForLackOfTopic,
    Stop(Reason),
}

impl RetryPolicy {
    pub(crate) fn decide(&self, failure: Failure, tried: Tried, entropy: u64, guard: &mut StormGuard) -> Decision {
        if failure.is_retryable() {
            if self.retries_in_place(tried.attempts_here) {
                let delay = self.backoff.delay(tried.attempts_here.saturating_sub(1), entropy);
                return Decision::Wait { delay: failure.retry_after().unwrap_or(delay), refused_by_guard: false };
            }
            if let Some(topic) = self.topic.filter(|topic| tried.has_rounds_left(topic)) {
                let delay = failure.retry_after().unwrap_or_else(|| topic.backoff.delay(tried.rounds, entropy));
                return Decision::RetryTopic { round: tried.rounds + 1, delay };
            }
        }
        self.end(failure, entropy, guard)
    }

    fn retries_in_place(&self, attempts_here: u32) -> bool {
        match self.in_place {
            InPlace::Times(times) => attempts_here <= times,
            InPlace::Forever => true,
        }
    }

    fn end(&self, failure: Failure, entropy: u64, guard: &mut StormGuard) -> Decision {
        let reason = failure.reason();
        match self.on_exhausted {
            Exhausted::Park => Decision::ParkByPolicy(reason),
            Exhausted::Stop => Decision::Stop(reason),
            // To decode the same bytes again is pointless; anything else may work one day.
            Exhausted::DeadLetter if !self.dead_letter_topic && reason == Reason::Undecodable => {
                Decision::ParkForLackOfTopic
            }
            Exhausted::DeadLetter if !self.dead_letter_topic => self.wait_on(failure, entropy, false),
            Exhausted::DeadLetter if reason.may_be_an_outage() && !guard.try_spend() => {
                self.wait_on(failure, entropy, true)
            }
            Exhausted::DeadLetter => Decision::DeadLetter(reason),
        }
    }

    /// The wait of a record that is out of retries: never shorter than the cap, whatever it asked for, since it may go
    /// on for as long as an outage does.
    fn wait_on(&self, failure: Failure, entropy: u64, refused_by_guard: bool) -> Decision {
        let capped = self.backoff.capped_delay(entropy);
        Decision::Wait { delay: failure.retry_after().unwrap_or_default().max(capped), refused_by_guard }
    }
}

#[cfg(test)]
mod tests;
