//! For how long a record can be on its way through the retry topic.

use std::time::Duration;

use super::{Exhausted, InPlace, LEAST_ATTEMPTS, RetryPolicy};
use crate::backoff::Backoff;

/// For how long a record can be retried through the retry topic, from its first failure to the end
/// of its last attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LongestRetry {
    /// There is no retry topic: the origin's position waits for each record.
    InPlace,
    /// No longer than this, where nothing is paused, stopped, held or waits for a place, and where
    /// attempts by count are short.
    Bounded(Duration),
    /// The policy has no end.
    WithoutEnd,
}

impl RetryPolicy {
    /// See [`LongestRetry`].
    pub fn longest(&self, attempt_timeout: Duration) -> LongestRetry {
        let Some(topic) = &self.topic else {
            return LongestRetry::InPlace;
        };
        let is_endless = self.on_exhausted == Exhausted::DeadLetter && !self.dead_letter_topic;
        if is_endless || self.in_place == InPlace::Forever {
            return LongestRetry::WithoutEnd;
        }
        let last_attempts = attempt_timeout.saturating_mul(LEAST_ATTEMPTS);
        LongestRetry::Bounded(match self.for_at_least {
            // What is left is one more delay of the topic, and the attempts of the last delivery.
            Some(time) => {
                let last_delays = delays(&self.backoff, LEAST_ATTEMPTS);
                let last = delays(&topic.backoff, 1)
                    .max(topic.backoff.max.mul_f64(1.0 + spread(&topic.backoff)));
                time.saturating_add(last)
                    .saturating_add(last_delays)
                    .saturating_add(last_attempts)
            }
            None => {
                let InPlace::Times(times) = self.in_place else {
                    return LongestRetry::WithoutEnd;
                };
                let deliveries = topic.rounds.saturating_add(1);
                delays(&topic.backoff, topic.rounds)
                    .saturating_add(delays(&self.backoff, times).saturating_mul(deliveries))
                    .saturating_add(last_attempts)
            }
        })
    }
}

fn spread(backoff: &Backoff) -> f64 {
    backoff.jitter.clamp(0.0, 1.0)
}

/// The sum of so many delays at most.
fn delays(backoff: &Backoff, count: u32) -> Duration {
    let exact = Backoff {
        jitter: 0.0,
        ..*backoff
    };
    let mut sum = Duration::ZERO;
    for retry in 0..count {
        let delay = exact.delay(retry, 0);
        sum = sum.saturating_add(delay);
        if delay >= exact.max || backoff.multiplier <= 1.0 {
            sum = sum.saturating_add(delay.saturating_mul(count - retry - 1));
            break;
        }
    }
    sum.mul_f64(1.0 + spread(backoff))
}

#[cfg(test)]
mod tests {
    use super::super::TopicRetry;
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn by_count(rounds: u32, jitter: f64) -> RetryPolicy {
        let backoff = Backoff {
            jitter,
            ..Backoff::exponential(seconds(10), seconds(600))
        };
        RetryPolicy {
            in_place: InPlace::Times(0),
            topic: Some(TopicRetry { rounds, backoff }),
            dead_letter_topic: true,
            ..RetryPolicy::default()
        }
    }

    #[test]
    fn ten_rounds_last_fifty_minutes_and_their_jitter() {
        let longest = |jitter| by_count(10, jitter).longest(Duration::ZERO);
        assert_eq!(longest(0.0), LongestRetry::Bounded(seconds(3_030)));
        assert_eq!(longest(0.2), LongestRetry::Bounded(seconds(3_636)));
    }

    #[test]
    fn by_time_there_is_one_more_delay_and_three_more_attempts() {
        let policy = RetryPolicy {
            for_at_least: Some(seconds(900)),
            backoff: Backoff {
                jitter: 0.0,
                ..Backoff::exponential(seconds(1), seconds(1))
            },
            ..by_count(10, 0.5)
        };
        let longest = 900 + 900 + 3 + 3 * 60;
        assert_eq!(
            policy.longest(seconds(60)),
            LongestRetry::Bounded(seconds(longest))
        );
    }

    #[test]
    fn without_a_topic_it_is_in_place_and_without_an_end_it_has_none() {
        let none = RetryPolicy::default();
        assert_eq!(none.longest(seconds(1)), LongestRetry::InPlace);
        let mut endless = by_count(u32::MAX, 0.2);
        assert!(matches!(
            endless.longest(seconds(1)),
            LongestRetry::Bounded(_)
        ));
        endless.dead_letter_topic = false;
        assert_eq!(endless.longest(seconds(1)), LongestRetry::WithoutEnd);
    }
}
