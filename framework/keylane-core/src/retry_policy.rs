//! What becomes of a failed attempt: in place, then the retry topic, then the end.

mod longest;

use std::time::Duration;

use crate::backoff::Backoff;
use crate::failed_attempt::FailedAttempt;
use crate::failure::{Failure, Reason};
use crate::outage_guard::{Case, HeldBy, OutageGuard};
use crate::time::Moment;

pub use longest::LongestRetry;

/// Retry time alone does not give a record up before this many attempts of a delivery have failed.
pub const LEAST_ATTEMPTS: u32 = 3;

/// A record to which something was unavailable this many times in a row is held, also where its
/// delays still grow.
const HELD_FROM: u32 = 10;

/// What becomes of records that fail.
///
/// A failure is first retried **in place**: the lane waits, so the order of its key is kept, and no
/// other key waits. Then it goes through the **retry topic**, where one is set up: its lane goes
/// on, and the order of the key is given up. When the retries are used up,
/// [`on_exhausted`](Self::on_exhausted) decides, unless the [`OutageGuard`] holds the record.
///
/// Retries are used up **by count**: those in place, then the rounds of the topic. Or **by time**,
/// where [`for_at_least`](Self::for_at_least) is set: those in place go on, or the rounds after
/// them, until the record was retried for that long.
///
/// # Retry time
/// Retry time is the sum of the planned delays before attempts and of the time that attempts ran,
/// from the record's first failed attempt on. So it stands still while the partition is paused,
/// drained or stopped, and while the record waits for a free place. It also stands still while an
/// attempt waits for what is [unavailable](Failure::Unavailable). When a total outage ends that
/// lasted for some time, the retry time of the records that failed in it begins again.
///
/// Retry time ends a record only after [`LEAST_ATTEMPTS`] failed attempts of a delivery and, with a
/// retry topic, after its retries in place.
///
/// The default retries in place three times, has no retry topic and no dead-letter topic, and so
/// never gives a record up.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    /// How often a record is retried in place each time it is delivered. By time and without a
    /// retry topic, [`InPlace::Times`] has no effect: all retries are in place.
    pub in_place: InPlace,
    /// How long a record is retried at least; `None` is by count.
    pub for_at_least: Option<Duration>,
    /// The delays of retries in place. Its cap is also the delay of a record that is out of
    /// retries and has to wait.
    pub backoff: Backoff,
    /// The retry topic, where one is set up.
    pub topic: Option<TopicRetry>,
    /// What happens to a record that is out of retries, fatal or undecodable.
    pub on_exhausted: Exhausted,
    /// The same for single reasons.
    pub on: ReasonActions,
    /// Whether a dead-letter topic is set up. Without one [`Exhausted::DeadLetter`] retries in
    /// place for ever.
    pub dead_letter_topic: bool,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            in_place: InPlace::Times(3),
            for_at_least: None,
            backoff: Backoff::default(),
            topic: None,
            on_exhausted: Exhausted::default(),
            on: ReasonActions::default(),
            dead_letter_topic: false,
        }
    }
}

/// What happens to records by the reason they end for; `None` is
/// [`on_exhausted`](RetryPolicy::on_exhausted).
///
/// An action that is set here is taken at once: the guard holds no record with that reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReasonActions {
    /// Retries are used up.
    pub exhausted: Option<Exhausted>,
    /// The attempt returned that it will never work.
    pub fatal: Option<Exhausted>,
    /// The record cannot be decoded.
    pub undecodable: Option<Exhausted>,
    /// Retries are used up, and the last attempt panicked.
    pub panic: Option<Exhausted>,
    /// Retries are used up, and the last attempt took too long.
    pub timeout: Option<Exhausted>,
}

impl ReasonActions {
    /// The action that is set for this reason.
    pub const fn of(&self, reason: Reason) -> Option<Exhausted> {
        match reason {
            Reason::Exhausted => self.exhausted,
            Reason::Fatal => self.fatal,
            Reason::Undecodable => self.undecodable,
            Reason::Panicked => self.panic,
            Reason::TimedOut => self.timeout,
            Reason::Poison | Reason::Blocker | Reason::Operator => None,
        }
    }
}

/// How often a record is retried in place; each delivery counts from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InPlace {
    /// At most this often; 0 goes on at once.
    Times(u32),
    /// Until it works. The retry topic and the end are only reached by fatal and undecodable
    /// records.
    Forever,
}

/// How often and how soon a record comes back through the retry topic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TopicRetry {
    /// How many times it goes through the topic; by time this is no limit.
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
    /// The subscription ends with an error; the record stays unsettled and is delivered again at
    /// the next start. The guard does not hold such a record: nothing is given up by it.
    Stop,
}

/// What is known of a record when one of its attempts fails.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tried {
    /// Attempts since it was delivered that count, the failed one included.
    pub(crate) attempts_here: u32,
    /// Rounds through the retry topic before this delivery.
    pub(crate) rounds: u32,
    /// Its retry time.
    pub(crate) retried_for: Duration,
    /// How long it was held while others succeeded.
    pub(crate) held_for: Duration,
    /// How often in a row something was unavailable to it before.
    pub(crate) unavailable: u32,
    /// The retry topic does not take it.
    pub(crate) too_large_for_topic: bool,
}

/// What to do about a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Wait {
        delay: Duration,
        held: Option<HeldBy>,
    },
    RetryTopic {
        round: u32,
        delay: Duration,
    },
    DeadLetter(Reason),
    ParkByPolicy(Reason),
    ParkForLackOfTopic,
    Stop(Reason),
}

impl Decision {
    const fn wait(delay: Duration) -> Self {
        Self::Wait { delay, held: None }
    }
}

impl RetryPolicy {
    pub(crate) fn decide(
        &self,
        attempt: FailedAttempt,
        tried: Tried,
        entropy: u64,
        now: Moment,
        guard: &mut OutageGuard,
    ) -> Decision {
        let failure = attempt.failure;
        if let Failure::Unavailable { .. } = failure {
            return self.wait_for_what_is_away(failure, tried, entropy);
        }
        if failure.is_retryable() {
            if self.retries_in_place(tried) {
                let delay = self
                    .backoff
                    .delay(tried.attempts_here.saturating_sub(1), entropy);
                return Decision::wait(failure.retry_after().unwrap_or(delay));
            }
            if let Some(topic) = self
                .topic_for(tried)
                .filter(|topic| self.has_rounds_left(topic, tried))
            {
                let delay = failure
                    .retry_after()
                    .unwrap_or_else(|| topic.backoff.delay(tried.rounds, entropy));
                return Decision::RetryTopic {
                    round: tried.rounds.saturating_add(1),
                    delay,
                };
            }
        }
        self.end(attempt, tried, entropy, now, guard)
    }

    fn wait_for_what_is_away(&self, failure: Failure, tried: Tried, entropy: u64) -> Decision {
        let exact = Backoff {
            jitter: 0.0,
            ..self.backoff
        };
        let delay = |retry| exact.delay(retry, 0);
        let is_longest = tried.unavailable >= HELD_FROM
            || delay(tried.unavailable) >= delay(tried.unavailable + 1);
        let delay = failure
            .retry_after()
            .unwrap_or_else(|| self.backoff.delay(tried.unavailable, entropy));
        Decision::Wait {
            delay,
            held: is_longest.then_some(HeldBy::Unavailable),
        }
    }

    fn retries_in_place(&self, tried: Tried) -> bool {
        match (self.in_place, self.for_at_least) {
            (InPlace::Forever, _) => true,
            (InPlace::Times(times), None) => tried.attempts_here <= times,
            // A record from the retry topic may have used up its time in attempts that were far
            // apart. It still has its retries in place, so that a short fault does not give it up.
            (InPlace::Times(times), Some(time)) if tried.retried_for >= time => {
                tried.attempts_here < LEAST_ATTEMPTS
                    || (self.topic_for(tried).is_some() && tried.attempts_here <= times)
            }
            (InPlace::Times(times), Some(_)) => {
                self.topic_for(tried).is_none() || tried.attempts_here <= times
            }
        }
    }

    /// The retry topic, unless the record is too large for it: by time it is retried in place then.
    fn topic_for(&self, tried: Tried) -> Option<TopicRetry> {
        self.topic.filter(|_| !tried.too_large_for_topic)
    }

    fn has_rounds_left(&self, topic: &TopicRetry, tried: Tried) -> bool {
        match self.for_at_least {
            None => tried.rounds < topic.rounds,
            Some(time) => tried.retried_for < time,
        }
    }

    fn end(
        &self,
        attempt: FailedAttempt,
        tried: Tried,
        entropy: u64,
        now: Moment,
        guard: &mut OutageGuard,
    ) -> Decision {
        let failure = attempt.failure;
        let reason = failure.reason();
        let by_reason = self.on.of(reason);
        let action = by_reason.unwrap_or(self.on_exhausted);
        if action == Exhausted::Stop {
            return Decision::Stop(reason);
        }
        if action == Exhausted::DeadLetter && !self.dead_letter_topic {
            // To decode the same bytes again is pointless; anything else may work one day.
            return match reason {
                Reason::Undecodable => Decision::ParkForLackOfTopic,
                _ => Decision::wait(self.longest_wait(failure, entropy)),
            };
        }
        if by_reason.is_none() {
            let FailedAttempt { class, place, .. } = attempt;
            if let Some(by) = guard.judge(
                Case {
                    reason,
                    class,
                    place,
                    held_for: tried.held_for,
                },
                now,
            ) {
                return Decision::Wait {
                    delay: self.longest_wait(failure, entropy),
                    held: Some(by),
                };
            }
        }
        match action {
            Exhausted::Park => Decision::ParkByPolicy(reason),
            _ => Decision::DeadLetter(reason),
        }
    }

    /// The wait of a record that is out of retries. It is never shorter than the cap, whatever
    /// delay the attempt set, since it may be repeated as long as an outage lasts.
    fn longest_wait(&self, failure: Failure, entropy: u64) -> Duration {
        let capped = self.backoff.capped_delay(entropy);
        failure.retry_after().unwrap_or_default().max(capped)
    }
}

#[cfg(test)]
mod tests;
