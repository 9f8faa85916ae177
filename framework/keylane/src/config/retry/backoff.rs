//! The back-off between two tries.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An exponential back-off with a cap and jitter.
///
/// The n-th retry waits `initial × multiplier^(n-1)`, at most `max`, spread by ± `jitter`.
///
/// # Examples
/// ```
/// use keylane::config::Backoff;
/// use keylane::Retry;
/// use std::time::Duration;
///
/// let doubling =
///     Backoff::exponential(Duration::from_millis(200), Duration::from_secs(30)).jitter(0.5);
/// let retry = Retry::default()
///     .backoff(doubling)
///     .then_topic()
///     .topic_backoff(Backoff::fixed(Duration::from_secs(60)));
/// # let _ = retry;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Backoff {
    /// The first delay (default 100 ms).
    #[serde(with = "crate::config::duration")]
    pub initial: Duration,
    /// The longest delay, before jitter (default 10 s); at most 30 days.
    #[serde(with = "crate::config::duration")]
    pub max: Duration,
    /// The factor from one delay to the next (default 2).
    pub multiplier: f64,
    /// The random spread, as a fraction of the delay (default 0.2 = ±20 %). It keeps failures of
    /// one moment from being retried at one moment.
    pub jitter: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::exponential(Duration::from_millis(100), Duration::from_secs(10))
    }
}

impl Backoff {
    /// Doubles from `initial` to `max`, with ±20 % jitter.
    pub const fn exponential(initial: Duration, max: Duration) -> Self {
        Self {
            initial,
            max,
            multiplier: 2.0,
            jitter: 0.2,
        }
    }

    /// The same delay each time, with ±20 % jitter.
    pub const fn fixed(delay: Duration) -> Self {
        Self {
            initial: delay,
            max: delay,
            multiplier: 1.0,
            jitter: 0.2,
        }
    }

    /// Sets [`multiplier`](Self#structfield.multiplier).
    #[must_use]
    pub const fn multiplier(self, multiplier: f64) -> Self {
        Self { multiplier, ..self }
    }

    /// Sets [`jitter`](Self#structfield.jitter).
    #[must_use]
    pub const fn jitter(self, jitter: f64) -> Self {
        Self { jitter, ..self }
    }
}
