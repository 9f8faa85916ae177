//! How long entries are kept, and until when an attempt can rely on them.

use std::time::Duration;

use crate::retry_policy::LongestRetry;

/// How long entries are kept.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// use keylane_core::inbox::{Judgement, Retried, Times};
///
/// let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
/// let times = Times::new(minutes(60), minutes(5))?;
/// assert_eq!(times.judge(minutes(54), Retried::No), Judgement::Safe);
/// assert_eq!(times.judge(minutes(55), Retried::No), Judgement::TooLate);
/// assert_eq!(times.judge(minutes(1), Retried::For(minutes(55))), Judgement::Unprotected);
/// # Ok::<(), keylane_core::inbox::TimesError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    wait: Duration,
    margin: Duration,
}

/// Times that protect nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a wait of {wait:?} is less than twice the margin of {margin:?}; raise the wait")]
pub struct TimesError {
    wait: Duration,
    margin: Duration,
}

/// For how long a record has been retried through a retry topic when an entry of it is inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retried {
    /// It was read from its origin topic.
    No,
    /// Since its first failure.
    For(Duration),
    /// It was read from a retry topic, and that is not known.
    Unknown,
}

/// Whether an entry that is missing means that there was no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It does.
    Safe,
    /// It need not, and the attempt is not needed.
    TooLate,
    /// It need not, and the attempt has to be made: nothing else would.
    Unprotected,
}

impl Times {
    /// Entries are kept for `wait`; `margin` holds what clocks differ by, and how long a member can
    /// take itself for one of its group.
    ///
    /// # Errors
    /// `wait` is less than twice the margin.
    pub fn new(wait: Duration, margin: Duration) -> Result<Self, TimesError> {
        if wait < margin.saturating_mul(2) || wait.is_zero() {
            return Err(TimesError { wait, margin });
        }
        Ok(Self { wait, margin })
    }

    /// How long an entry is kept at least.
    pub fn wait(&self) -> Duration {
        self.wait
    }

    /// An attempt that is younger is safe.
    pub fn limit(&self) -> Duration {
        self.wait - self.margin
    }

    /// Judges an attempt that has inserted its entry, this long after it began.
    pub fn judge(&self, attempt: Duration, retried: Retried) -> Judgement {
        if attempt >= self.limit() {
            return Judgement::TooLate;
        }
        match retried {
            Retried::No => Judgement::Safe,
            Retried::For(time) if time < self.limit() => Judgement::Safe,
            Retried::For(_) | Retried::Unknown => Judgement::Unprotected,
        }
    }

    /// The wait that protects all attempts of such a policy, where this one does not. No time
    /// protects all retries of a policy without an end.
    pub fn needed_for(&self, longest: LongestRetry, attempt_timeout: Duration) -> Option<Duration> {
        let longest = match longest {
            LongestRetry::Bounded(time) => time.max(attempt_timeout),
            LongestRetry::InPlace | LongestRetry::WithoutEnd => attempt_timeout,
        };
        let needed = longest
            .saturating_add(self.margin)
            .saturating_add(Duration::from_secs(1));
        (longest >= self.limit()).then_some(needed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_wait_that_protects_nothing_is_refused() {
        assert!(Times::new(seconds(9), seconds(5)).is_err());
        assert!(Times::new(Duration::ZERO, Duration::ZERO).is_err());
        let times = Times::new(seconds(10), seconds(5)).unwrap();
        assert_eq!((times.wait(), times.limit()), (seconds(10), seconds(5)));
    }

    #[test]
    fn what_is_needed_for_a_policy_is_enough_for_it() {
        let times = Times::new(seconds(3_600), seconds(300)).unwrap();
        for longest in [
            LongestRetry::InPlace,
            LongestRetry::WithoutEnd,
            LongestRetry::Bounded(seconds(3_299)),
        ] {
            assert_eq!(times.needed_for(longest, seconds(300)), None, "{longest:?}");
        }
        let longest = LongestRetry::Bounded(seconds(3_300));
        let needed = times.needed_for(longest, seconds(1)).unwrap();
        assert_eq!(
            times.needed_for(LongestRetry::InPlace, seconds(3_300)),
            Some(needed)
        );
        let times = Times::new(needed, seconds(300)).unwrap();
        assert_eq!(times.needed_for(longest, seconds(1)), None);
    }
}
