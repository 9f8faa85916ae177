//! What each record does when it is attempted, and so where it has to end.

use std::time::Duration;

use keylane_core::{
    Backoff, Exhausted, Failure, FailureHeaders, InPlace, LEAST_ATTEMPTS, Publish, PublishRequest,
    Reason, ReasonActions, RetryPolicy, Success, TopicRetry,
};

use crate::random::Random;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) behaviour: Behaviour,
    /// The broker refuses to take it on the retry and dead-letter topics.
    pub(crate) unwritable: bool,
    pub(crate) fits: Fits,
    /// Its attempts hardly ever end by themselves.
    pub(crate) hangs: bool,
}

/// What a record is small enough for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fits {
    Everywhere,
    /// Not the retry topic; the dead-letter topic with these headers, or none at all.
    DeadLetter(Option<FailureHeaders>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Behaviour {
    Good,
    Skipped,
    /// Fails its first attempts, over all deliveries, and then works.
    Flaky(u32),
    /// Never works.
    Broken,
    Fatal,
    Undecodable,
    /// Another group's, never to be attempted.
    Theirs,
}

/// Where a record ends without further interference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Ending {
    Done,
    Skipped,
    DeadLettered,
    Parked,
    /// It goes on being retried in place.
    Retrying,
    /// Settled as another group's, or held.
    Foreign,
}

impl Plan {
    pub(crate) fn random(random: &mut Random, policy: &RetryPolicy, broken_percent: u64) -> Self {
        let behaviour = match random.below(24) {
            _ if random.percent(broken_percent) => Behaviour::Broken,
            0 => Behaviour::Skipped,
            1..=5 => {
                Behaviour::Flaky(random.below(u64::from(failures_survived(policy)) + 1) as u32)
            }
            6 => Behaviour::Fatal,
            7 => Behaviour::Undecodable,
            _ => Behaviour::Good,
        };
        // By time it is open whether a record comes to the retry topic before it ends.
        let is_open = policy.for_at_least.is_some() && !policy.dead_letter_topic;
        let unwritable = random.percent(8) && !matches!(behaviour, Behaviour::Flaky(_)) && !is_open;
        let fits = match random.below(30) {
            _ if matches!(behaviour, Behaviour::Flaky(_)) => Fits::Everywhere,
            0 => Fits::DeadLetter(None),
            1 => Fits::DeadLetter(Some(FailureHeaders::Fewest)),
            2 => Fits::DeadLetter(Some(FailureHeaders::WithoutError)),
            3 => Fits::DeadLetter(Some(FailureHeaders::All)),
            _ => Fits::Everywhere,
        };
        Self {
            behaviour,
            unwritable,
            fits,
            hangs: false,
        }
    }

    /// Of a run in which nearly everything works: where much does not, nothing is a blocker.
    pub(crate) fn mostly_good(random: &mut Random, policy: &RetryPolicy) -> Self {
        match random.below(600) {
            0 => Self::random(random, policy, 80),
            kind => Self {
                behaviour: Behaviour::Good,
                unwritable: false,
                fits: Fits::DeadLetter(Some(FailureHeaders::Fewest)),
                hangs: kind <= 3,
            },
        }
    }

    /// What this attempt does; `attempts` counts all attempts of the record, this one included.
    pub(crate) fn act(&self, attempts: u32, random: &mut Random) -> Result<Success, Failure> {
        match self.behaviour {
            // It is noticed at its start.
            Behaviour::Good | Behaviour::Theirs => Ok(Success::Done),
            Behaviour::Skipped => Ok(Success::Skipped),
            Behaviour::Flaky(failures) if attempts > failures => Ok(Success::Done),
            Behaviour::Flaky(_) | Behaviour::Broken => Err(match random.below(6) {
                0 => Failure::Panicked,
                5 => Failure::Unavailable {
                    retry_after: random.pick(&[None, Some(Duration::from_millis(700))]),
                },
                1 => Failure::TimedOut,
                2 => Failure::RetryAfter(Duration::from_millis(random.below(3_000))),
                _ => Failure::Retryable,
            }),
            Behaviour::Fatal => Err(Failure::Fatal),
            Behaviour::Undecodable => Err(Failure::Undecodable),
        }
    }

    /// Whether a topic refuses this write of it for its size.
    pub(crate) fn is_too_large(&self, request: &PublishRequest) -> bool {
        match (self.fits, request.publish) {
            (Fits::Everywhere, _) => false,
            (Fits::DeadLetter(_), Publish::Retry { .. }) => true,
            (Fits::DeadLetter(None), _) => true,
            (Fits::DeadLetter(Some(FailureHeaders::All)), _) => false,
            (Fits::DeadLetter(Some(FailureHeaders::WithoutError)), _) => {
                request.headers == FailureHeaders::All
            }
            (Fits::DeadLetter(Some(FailureHeaders::Fewest)), _) => {
                request.headers != FailureHeaders::Fewest
            }
        }
    }

    /// For another reason than its size, which does not park it.
    fn is_refused_by_retry_topic(&self, policy: &RetryPolicy) -> bool {
        self.unwritable && self.fits == Fits::Everywhere && policy.topic.is_some()
    }

    fn cannot_be_dead_lettered(&self) -> bool {
        self.unwritable || self.fits == Fits::DeadLetter(None)
    }

    pub(crate) fn ending(&self, policy: &RetryPolicy) -> Ending {
        let reason = match self.behaviour {
            Behaviour::Good | Behaviour::Flaky(_) => return Ending::Done,
            Behaviour::Skipped => return Ending::Skipped,
            Behaviour::Theirs => return Ending::Foreign,
            Behaviour::Broken if policy.in_place == InPlace::Forever => return Ending::Retrying,
            Behaviour::Broken if self.is_refused_by_retry_topic(policy) => return Ending::Parked,
            Behaviour::Broken => Reason::Exhausted,
            Behaviour::Fatal => Reason::Fatal,
            Behaviour::Undecodable => Reason::Undecodable,
        };
        match policy.on.of(reason).unwrap_or(policy.on_exhausted) {
            Exhausted::Park => Ending::Parked,
            // The record is repaired when it stops the subscription, or the run would not end.
            Exhausted::Stop => Ending::Done,
            Exhausted::DeadLetter if policy.dead_letter_topic && self.cannot_be_dead_lettered() => {
                Ending::Parked
            }
            Exhausted::DeadLetter if policy.dead_letter_topic => Ending::DeadLettered,
            Exhausted::DeadLetter if reason == Reason::Undecodable => Ending::Parked,
            Exhausted::DeadLetter => Ending::Retrying,
        }
    }
}

pub(crate) fn random_policy(random: &mut Random) -> RetryPolicy {
    let backoff = Backoff::exponential(Duration::from_millis(100), Duration::from_secs(2));
    RetryPolicy {
        in_place: match random.below(7) {
            0..=2 => InPlace::Times(0),
            3..=4 => InPlace::Times(1),
            5 => InPlace::Times(2),
            _ => InPlace::Forever,
        },
        for_at_least: random
            .percent(40)
            .then(|| Duration::from_millis(random.below(6_000))),
        backoff,
        topic: random
            .pick(&[None, Some(1), Some(2)])
            .map(|rounds| TopicRetry { rounds, backoff }),
        on_exhausted: match random.below(8) {
            0 => Exhausted::Stop,
            1 => Exhausted::Park,
            _ => Exhausted::DeadLetter,
        },
        on: ReasonActions {
            fatal: random.pick(&[
                None,
                None,
                Some(Exhausted::DeadLetter),
                Some(Exhausted::Park),
            ]),
            undecodable: random.pick(&[
                None,
                None,
                Some(Exhausted::DeadLetter),
                Some(Exhausted::Park),
            ]),
            ..ReasonActions::default()
        },
        dead_letter_topic: random.percent(88),
    }
}

/// This many failures never exhaust a record: each delivery allows some, and interruptions only add
/// attempts.
fn failures_survived(policy: &RetryPolicy) -> u32 {
    match policy.in_place {
        InPlace::Forever => 5,
        _ if policy.for_at_least.is_some() => LEAST_ATTEMPTS - 1,
        InPlace::Times(times) => {
            (times + 1) * (policy.topic.map_or(0, |topic| topic.rounds) + 1) - 1
        }
    }
}
