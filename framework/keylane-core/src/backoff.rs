//! How long to wait before the next try.

use std::time::Duration;

use thiserror::Error;

/// The longest [`Backoff::max`] that is accepted: 30 days.
pub const MAX_BACKOFF: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Exponential back-off with a cap and jitter: `initial`, `initial × multiplier`, …, `max`, each
/// spread by `jitter`.
///
/// The default is 100 ms → 10 s, ×2, ±20 %.
///
/// ```
/// use std::time::Duration;
/// use keylane_core::Backoff;
///
/// let backoff = Backoff { jitter: 0.0, ..Backoff::exponential(Duration::from_secs(1), Duration::from_secs(5)) };
/// let delays: Vec<u64> = (0..4).map(|retry| backoff.delay(retry, 0).as_secs()).collect();
/// assert_eq!(delays, [1, 2, 4, 5]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// The delay before the first retry.
    pub initial: Duration,
    /// The longest delay, before jitter; at most [`MAX_BACKOFF`].
    pub max: Duration,
    /// What each further delay is multiplied by; 1 keeps the delay constant.
    pub multiplier: f64,
    /// How far a delay is spread to both sides, as a fraction: 0.2 is ±20 %. Keeps records that
    /// failed together from coming back together.
    pub jitter: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::exponential(Duration::from_millis(100), Duration::from_secs(10))
    }
}

impl Backoff {
    /// Doubles from `initial` up to `max`, ±20 %.
    pub const fn exponential(initial: Duration, max: Duration) -> Self {
        Self {
            initial,
            max,
            multiplier: 2.0,
            jitter: 0.2,
        }
    }

    /// The delay before this retry; 0 is the first. `entropy` is any random number and chooses the
    /// jitter.
    ///
    /// The result is within `jitter` of the exact delay and never above `max × (1 + jitter)`.
    /// Settings that [`validate`](Self::validate) refuses give some delay within that bound rather
    /// than a panic.
    pub fn delay(&self, retry: u32, entropy: u64) -> Duration {
        let exponent = i32::try_from(retry).unwrap_or(i32::MAX);
        let exact = self.initial.as_secs_f64() * self.multiplier.powi(exponent);
        // Not a plain `min`: 0 × ∞ is NaN, and `f64::min` with NaN is the other side, which is the
        // cap here.
        self.spread(exact.min(self.max.as_secs_f64()), entropy)
    }

    /// The delay of a record that has used up its retries and still has to wait: `max`, with
    /// jitter.
    pub fn capped_delay(&self, entropy: u64) -> Duration {
        self.spread(self.max.as_secs_f64(), entropy)
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// Names the first field that makes no sense, and what to set instead.
    pub fn validate(&self) -> Result<(), BackoffError> {
        if self.initial.is_zero() {
            return Err(BackoffError::Initial);
        }
        if self.max < self.initial {
            return Err(BackoffError::Max {
                initial: self.initial,
                max: self.max,
            });
        }
        if self.max > MAX_BACKOFF {
            return Err(BackoffError::TooLong(self.max));
        }
        if !(self.multiplier.is_finite() && self.multiplier >= 1.0) {
            return Err(BackoffError::Multiplier(self.multiplier));
        }
        if !(0.0..1.0).contains(&self.jitter) {
            return Err(BackoffError::Jitter(self.jitter));
        }
        Ok(())
    }

    fn spread(&self, seconds: f64, entropy: u64) -> Duration {
        // The upper 53 bits, which a double holds exactly: evenly spread over -1..1.
        let unit = (entropy >> 11) as f64 / (1_u64 << 52) as f64 - 1.0;
        let jitter = if self.jitter.is_nan() {
            0.0
        } else {
            self.jitter.clamp(0.0, 1.0)
        };
        Duration::try_from_secs_f64(seconds * (1.0 + unit * jitter)).unwrap_or(self.max)
    }
}

/// A back-off that makes no sense.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum BackoffError {
    /// `initial` is zero: a failing record would be tried again without a pause.
    #[error("backoff initial delay is zero: set it to at least 1 ms")]
    Initial,
    /// `max` is below `initial`.
    #[error(
        "backoff max delay {max:?} is below the initial delay {initial:?}: raise max or lower initial"
    )]
    Max {
        /// The first delay.
        initial: Duration,
        /// The cap.
        max: Duration,
    },
    /// `max` is longer than [`MAX_BACKOFF`]: some later time could not be represented.
    #[error("backoff max delay {0:?} is too long: set it to at most 30 days")]
    TooLong(Duration),
    /// `multiplier` is below one or not a number.
    #[error("backoff multiplier {0} is not usable: set it to a finite number of at least 1")]
    Multiplier(f64),
    /// `jitter` is not a fraction.
    #[error(
        "backoff jitter {0} is not usable: set it to a fraction from 0 up to, not including, 1 (0.2 is ±20 %)"
    )]
    Jitter(f64),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_default_is_valid_and_doubles_from_100_ms_to_10_s() {
        let backoff = Backoff {
            jitter: 0.0,
            ..Backoff::default()
        };
        assert_eq!(Backoff::default().validate(), Ok(()));
        assert_eq!(backoff.delay(0, 9), Duration::from_millis(100));
        assert_eq!(backoff.delay(1, 9), Duration::from_millis(200));
        assert_eq!(backoff.delay(7, 9), Duration::from_secs(10));
        assert_eq!(backoff.delay(u32::MAX, 9), Duration::from_secs(10));
        assert_eq!(backoff.capped_delay(9), Duration::from_secs(10));
    }

    #[test]
    fn jitter_reaches_both_ends() {
        let backoff = Backoff::default();
        let low = backoff.delay(0, 0);
        let high = backoff.delay(0, u64::MAX);
        assert_eq!(low, Duration::from_millis(80));
        assert!(
            high > Duration::from_micros(119_999) && high <= Duration::from_millis(120),
            "{high:?}"
        );
    }

    #[test]
    fn validation_names_the_field() {
        let good = Backoff::default();
        let message = |backoff: Backoff| backoff.validate().unwrap_err().to_string();
        assert!(
            message(Backoff {
                initial: Duration::ZERO,
                ..good
            })
            .contains("initial")
        );
        assert!(
            message(Backoff {
                max: Duration::from_millis(1),
                ..good
            })
            .contains("max")
        );
        assert!(
            message(Backoff {
                max: Duration::MAX,
                ..good
            })
            .contains("30 days")
        );
        assert_eq!(
            Backoff {
                max: MAX_BACKOFF,
                ..good
            }
            .validate(),
            Ok(())
        );
        assert!(
            message(Backoff {
                multiplier: f64::NAN,
                ..good
            })
            .contains("multiplier")
        );
        assert!(
            message(Backoff {
                multiplier: 0.5,
                ..good
            })
            .contains("multiplier")
        );
        assert!(
            message(Backoff {
                jitter: 1.0,
                ..good
            })
            .contains("jitter")
        );
        assert!(
            message(Backoff {
                jitter: f64::NAN,
                ..good
            })
            .contains("jitter")
        );
    }

    proptest! {
        #[test]
        fn a_delay_is_near_the_exact_one_and_below_the_cap(
            initial_ms in 1_u64..10_000, extra_ms in 0_u64..1_000_000, multiplier in 1.0_f64..5.0,
            jitter in 0.0_f64..0.99, retry in 0_u32..2_000, entropy: u64,
        ) {
            let initial = Duration::from_millis(initial_ms);
            let backoff = Backoff { initial, max: initial + Duration::from_millis(extra_ms), multiplier, jitter };
            prop_assert_eq!(backoff.validate(), Ok(()));
            let delay = backoff.delay(retry, entropy).as_secs_f64();
            let exact = Backoff { jitter: 0.0, ..backoff }.delay(retry, entropy).as_secs_f64();
            prop_assert!(exact >= initial.as_secs_f64() - 1e-6 && exact <= backoff.max.as_secs_f64() + 1e-6);
            prop_assert!(delay >= exact * (1.0 - jitter) - 1e-6 && delay <= exact * (1.0 + jitter) + 1e-6);
            let later = Backoff { jitter: 0.0, ..backoff }.delay(retry + 1, entropy).as_secs_f64();
            prop_assert!(later >= exact, "delays never shrink");
        }

        #[test]
        fn senseless_settings_do_not_panic(
            initial: Duration, max: Duration, multiplier: f64, jitter: f64, retry: u32, entropy: u64,
        ) {
            let backoff = Backoff { initial, max, multiplier, jitter };
            prop_assert!(backoff.delay(retry, entropy).as_secs_f64() <= max.as_secs_f64() * 2.0 + 1.0);
            prop_assert!(backoff.capped_delay(entropy).as_secs_f64() <= max.as_secs_f64() * 2.0 + 1.0);
        }
    }
}
