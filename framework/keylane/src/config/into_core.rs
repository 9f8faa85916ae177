//! Converts the user's settings to the core's.

use keylane_core as core;

use super::{Backoff, BlockerAction, Exhausted, FailureReason, InPlace, SubscriptionConfig};

impl From<Backoff> for core::Backoff {
    fn from(backoff: Backoff) -> Self {
        let Backoff {
            initial,
            max,
            multiplier,
            jitter,
        } = backoff;
        Self {
            initial,
            max,
            multiplier,
            jitter,
        }
    }
}

impl From<Exhausted> for core::Exhausted {
    fn from(exhausted: Exhausted) -> Self {
        match exhausted {
            Exhausted::DeadLetter => Self::DeadLetter,
            Exhausted::Park => Self::Park,
            Exhausted::Stop => Self::Stop,
        }
    }
}

impl SubscriptionConfig {
    /// The time after which the core reports work as stalled.
    pub(crate) fn core_watchdog(&self) -> core::Watchdog {
        let super::Watchdog {
            slow_attempt,
            stalled_after,
        } = self.watchdog;
        core::Watchdog {
            slow_attempt,
            stalled_after,
        }
    }

    /// When the core takes a record out of the way that holds up its partition.
    pub(crate) fn blocker_policy(&self) -> Option<core::BlockerPolicy> {
        (self.blocker.action == BlockerAction::DeadLetter).then_some(core::BlockerPolicy {
            after: self.blocker.after,
            settled_ahead_limit: self.limits.settled_ahead,
            pending_limit: self.limits.pause_at_records,
        })
    }

    /// The guard that holds records while there is an outage.
    pub(crate) fn outage_guard(&self) -> core::OutageGuard {
        let super::Outage { lanes, patience } = self.outage;
        let backoff = self.retry.backoff.into();
        let longest_attempt = self.attempt_timeout;
        let settings = core::OutageSettings::for_backoff(&backoff);
        core::OutageGuard::new(core::OutageSettings {
            lanes,
            patience,
            longest_attempt,
            ..settings
        })
    }

    /// The policy the core decides by.
    pub(crate) fn retry_policy(&self) -> core::RetryPolicy {
        core::RetryPolicy {
            in_place: match self.retry.in_place {
                InPlace::Times(times) => core::InPlace::Times(times),
                InPlace::Forever => core::InPlace::Forever,
            },
            for_at_least: self.retry.for_at_least,
            backoff: self.retry.backoff.into(),
            topic: self.retry.topic.as_ref().map(|topic| core::TopicRetry {
                rounds: topic.rounds,
                backoff: topic.backoff.into(),
            }),
            on_exhausted: self.retry.exhausted.into(),
            on: self.actions_by_reason(),
            dead_letter_topic: self.dead_letter.is_some(),
        }
    }

    fn actions_by_reason(&self) -> core::ReasonActions {
        let action = |reason| {
            self.retry
                .on
                .get(&reason)
                .map(|action| core::Exhausted::from(*action))
        };
        core::ReasonActions {
            exhausted: action(FailureReason::Exhausted),
            fatal: action(FailureReason::Fatal),
            undecodable: action(FailureReason::Undecodable),
            panic: action(FailureReason::Panic),
            timeout: action(FailureReason::Timeout),
        }
    }
}
