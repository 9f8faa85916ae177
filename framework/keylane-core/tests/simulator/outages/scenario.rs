//! What happens in a run: the outage, the records and the policy.

use keylane_core::{ErrorClass, FailedAttempt, Failure, OutageSettings, Place, RetryPolicy};

use crate::random::Random;

#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) partitions: usize,
    pub(crate) keys: u64,
    pub(crate) without_keys: bool,
    pub(crate) concurrency: usize,
    /// As many records may be settled ahead of the oldest unsettled one.
    pub(crate) settled_ahead: u64,
    /// The longest attempt, in milliseconds, as all times here.
    pub(crate) slowest_attempt: u64,
    /// While the downstream is away, and for bad records, attempts take this long and time out.
    pub(crate) hangs_for: Option<u64>,
    pub(crate) records: usize,
    pub(crate) produced_until: u64,
    pub(crate) bad: Bad,
    /// The times when the downstream is away: from, to.
    pub(crate) outages: Vec<(u64, u64)>,
    /// One key in this many is affected.
    pub(crate) one_in: u64,
    /// The errors of the outage are of this many classes.
    pub(crate) classes: u64,
    pub(crate) place: Option<Place>,
    /// What the errors of bad records name.
    pub(crate) bad_place: Option<Place>,
    pub(crate) unavailable: bool,
    /// The times when the process does not run: from, to.
    pub(crate) downtimes: Vec<(u64, u64)>,
    pub(crate) released_at: Option<u64>,
    /// Operators act so often, until then, when all pauses end.
    pub(crate) acts: usize,
    pub(crate) acts_until: u64,
    /// Some of them let go what the guard holds.
    pub(crate) releases: bool,
    pub(crate) ends_at: u64,
    pub(crate) policy: RetryPolicy,
    pub(crate) guard: OutageSettings,
    pub(crate) fault: Fault,
}

/// Which records are bad.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bad {
    None,
    /// The first records, this many.
    First(usize),
    /// This many in a hundred, until then.
    PercentUntil(u64, u64),
    /// All of them, until the process is restarted.
    AllUntilRestart(Failure),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Nature {
    Good,
    Bad(Failure),
    BadUntilRestart(Failure),
}

/// A mistake, to prove that the simulator notices.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    None,
    HasNoGuard,
    TellsNothing,
    StaysPausedWhileNothingSucceeds,
    ForgetsRetryTime,
    HasAGuardForEachPartition,
    ForgetsPausesAtARestart,
}

impl Scenario {
    pub(crate) fn nature_of(&self, number: usize, now: u64, random: &mut Random) -> Nature {
        match self.bad {
            Bad::First(count) if number < count => Nature::Bad(Failure::Retryable),
            Bad::PercentUntil(percent, until) if now < until && random.percent(percent) => {
                Nature::Bad(Failure::Retryable)
            }
            Bad::AllUntilRestart(failure) => Nature::BadUntilRestart(failure),
            _ => Nature::Good,
        }
    }

    /// How long an attempt takes that begins now.
    pub(crate) fn takes(
        &self,
        key: Option<u64>,
        number: u64,
        nature: Nature,
        now: u64,
        random: &mut Random,
    ) -> u64 {
        let hangs = matches!(nature, Nature::Bad(_)) || self.is_away(key, number, now);
        self.hangs_for
            .filter(|_| hangs)
            .unwrap_or_else(|| 1 + random.below(self.slowest_attempt))
    }

    fn is_away(&self, key: Option<u64>, number: u64, now: u64) -> bool {
        let affected = key.unwrap_or(number).is_multiple_of(self.one_in);
        affected
            && self
                .outages
                .iter()
                .any(|(from, to)| (*from..*to).contains(&now))
    }

    /// How an attempt ends now.
    pub(crate) fn outcome(
        &self,
        key: Option<u64>,
        number: u64,
        nature: Nature,
        now: u64,
        starts: u64,
        random: &mut Random,
    ) -> Result<(), FailedAttempt> {
        let bad = ErrorClass::new(1_000);
        match nature {
            Nature::Bad(_) if self.hangs_for.is_some() => return Err(Failure::TimedOut.into()),
            Nature::Bad(failure) => {
                return Err(FailedAttempt {
                    failure,
                    class: bad,
                    place: self.bad_place,
                });
            }
            Nature::BadUntilRestart(failure) if starts == 1 => return Err(failure.into()),
            _ => {}
        }
        if !self.is_away(key, number, now) {
            return Ok(());
        }
        if self.hangs_for.is_some() {
            return Err(Failure::TimedOut.into());
        }
        let failure = match random.below(4) {
            _ if self.unavailable => Failure::Unavailable { retry_after: None },
            0 => Failure::Panicked,
            1 => Failure::TimedOut,
            _ => Failure::Retryable,
        };
        let class = ErrorClass::new(100 + random.below(self.classes));
        Err(FailedAttempt {
            failure,
            class,
            place: self.place,
        })
    }
}
