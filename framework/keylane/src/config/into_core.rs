//! From the user's settings to the core's.

use keylane_core as core;

use super::{Backoff, Exhausted, InPlace, SubscriptionConfig};

impl From<Backoff> for core::Backoff {
    fn from(backoff: Backoff) -> Self {
        let Backoff { initial, max, multiplier, jitter } = backoff;
        Self { initial, max, multiplier, jitter }
    }
}

impl SubscriptionConfig {
    /// The policy the core decides by.
    pub(crate) fn retry_policy(&self) -> core::RetryPolicy {
        core::RetryPolicy {
            in_place: match self.retry.in_place {
                InPlace::Times(times) => core::InPlace::Times(times),
                InPlace::Forever => core::InPlace::Forever,
            },
            backoff: self.retry.backoff.into(),
            topic: self
                .retry
                .topic
                .as_ref()
                .map(|topic| core::TopicRetry { rounds: topic.rounds, backoff: topic.backoff.into() }),
            on_exhausted: match self.retry.exhausted {
                Exhausted::DeadLetter => core::Exhausted::DeadLetter,
                Exhausted::Park => core::Exhausted::Park,
                Exhausted::Stop => core::Exhausted::Stop,
            },
            dead_letter_topic: self.dead_letter.is_some(),
        }
    }
}
