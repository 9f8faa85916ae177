//! When work counts as slow or stalled.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// When slow attempts and stalled partitions are reported. There is a warning that names the record
/// (its key as a [`KeyHash`](crate::record::KeyHash)).
/// [`PartitionStatus`](crate::status::PartitionStatus) and the metrics `keylane_slow_attempts` and
/// `keylane_stalled` show them too. A warning is logged once, and again each time the state has
/// lasted twice as long.
///
/// The watchdog only reports. [`attempt_timeout`](crate::SubscriptionConfig::attempt_timeout) ends
/// an attempt; [`Blocker`](crate::config::Blocker) dead-letters a record that holds up its
/// partition.
///
/// # Examples
/// ```
/// use keylane::config::Watchdog;
/// use keylane::Subscription;
/// use std::time::Duration;
///
/// let watchdog = Watchdog::default().slow_attempt(Duration::from_secs(5));
/// let builder = Subscription::builder("parking-notifier", "parking-events").watchdog(watchdog);
/// assert_eq!(builder.config().watchdog.stalled_after, Duration::from_secs(60));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Watchdog {
    /// An attempt that has run for this long is slow (default 30 s). Set it above what an attempt
    /// normally takes.
    ///
    /// Slow attempts are found late, by up to a sixteenth of this time, or a second where that is
    /// more.
    #[serde(with = "crate::config::duration")]
    pub slow_attempt: Duration,
    /// A partition is stalled when its oldest unsettled record has not changed for this long
    /// (default 1 min). Time in which the subscription is paused, or the record is not due yet,
    /// does not count.
    #[serde(with = "crate::config::duration")]
    pub stalled_after: Duration,
}

impl Default for Watchdog {
    fn default() -> Self {
        Self {
            slow_attempt: Duration::from_secs(30),
            stalled_after: Duration::from_secs(60),
        }
    }
}

impl Watchdog {
    /// Sets [`slow_attempt`](Self#structfield.slow_attempt).
    #[must_use]
    pub const fn slow_attempt(self, slow_attempt: Duration) -> Self {
        Self {
            slow_attempt,
            ..self
        }
    }

    /// Sets [`stalled_after`](Self#structfield.stalled_after).
    #[must_use]
    pub const fn stalled_after(self, stalled_after: Duration) -> Self {
        Self {
            stalled_after,
            ..self
        }
    }
}
