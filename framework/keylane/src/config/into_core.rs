//! From the user's settings to the core's.

use keylane_core as core;

use super::{Backoff, BlockerAction, Exhausted, InPlace, SubscriptionConfig};

impl From<Backoff> for core::Backoff {
    fn from(backoff: Backoff) -> Self {
        let Backoff { initial, max, multiplier, jitter } = backoff;
        Self { initial, max, multiplier, jitter }
    }
}

impl SubscriptionConfig {
    /// From when on the core says that work does not get on.
    pub(crate) fn core_watchdog(&self) -> core::Watchdog {
        let super::Watchdog { slow_attempt, stalled_after } = self.watchdog;
        core::Watchdog { slow_attempt, stalled_after }
    }

    /// When the core takes a record out of the way that holds up its partition.
    pub(crate) fn blocker_policy(&self) -> Option<core::BlockerPolicy> {
        (self.blocker.action == BlockerAction::DeadLetter).then_some(core::BlockerPolicy {
            after: self.blocker.after,
            settled_ahead_limit: self.limits.settled_ahead,
            pending_limit: self.limits.pause_at_records,
        })
    }

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
            ..core::RetryPolicy::default()
        }
    }
}
