//! Bounds on what is held in memory, and on what runs.

use serde::{Deserialize, Serialize};

/// How much may be delivered and not yet settled before keylane pauses a partition, and how much may
/// run (guarantee G6).
///
/// Records that have been read when a limit is crossed are still accepted, so a limit can be
/// exceeded by up to 1,000 records.
///
/// # Examples
/// ```
/// use keylane::config::Limits;
/// use keylane::Subscription;
///
/// let limits = Limits::default().pause_at_records(50_000).resume_at_records(40_000);
/// let builder = Subscription::builder("parking-notifier", "parking-events").limits(limits);
/// assert_eq!(builder.config().limits.pending_bytes, 64 * 1024 * 1024);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Limits {
    /// Records pending in one partition at which its fetching pauses (default 10,000).
    ///
    /// More lets a slow key wait beside more records of others; each costs its bytes and up to
    /// about 900 bytes more.
    pub pause_at_records: usize,
    /// Records pending in one partition at which its fetching resumes (default 7,000). Must be
    /// below `pause_at_records`.
    pub resume_at_records: usize,
    /// Bytes of keys, values and headers pending over all partitions of the subscription (default
    /// 64 MiB); fetching resumes at 70 % of it.
    pub pending_bytes: usize,
    /// Offsets settled ahead of the oldest unsettled one, per partition, at which fetching pauses
    /// (default 100,000). While a total outage is suspected, up to 100,000 more are taken in: where
    /// the oldest records fail for good, only a success behind them can end it.
    pub settled_ahead: usize,
    /// Attempts in flight over all partitions of the subscription (default: no limit but
    /// `concurrency` in each partition).
    ///
    /// A partition whose records could start waits for its turn. A back-off, a record that is not
    /// due or parked, and writes to the retry and dead-letter topics occupy no place.
    pub max_in_flight: Option<usize>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pause_at_records: 10_000,
            resume_at_records: 7_000,
            pending_bytes: 64 * 1024 * 1024,
            settled_ahead: 100_000,
            max_in_flight: None,
        }
    }
}

impl Limits {
    /// Sets [`pause_at_records`](Self#structfield.pause_at_records).
    #[must_use]
    pub const fn pause_at_records(self, pause_at_records: usize) -> Self {
        Self {
            pause_at_records,
            ..self
        }
    }

    /// Sets [`resume_at_records`](Self#structfield.resume_at_records).
    #[must_use]
    pub const fn resume_at_records(self, resume_at_records: usize) -> Self {
        Self {
            resume_at_records,
            ..self
        }
    }

    /// Sets [`pending_bytes`](Self#structfield.pending_bytes).
    #[must_use]
    pub const fn pending_bytes(self, pending_bytes: usize) -> Self {
        Self {
            pending_bytes,
            ..self
        }
    }

    /// Sets [`settled_ahead`](Self#structfield.settled_ahead).
    #[must_use]
    pub const fn settled_ahead(self, settled_ahead: usize) -> Self {
        Self {
            settled_ahead,
            ..self
        }
    }

    /// Sets [`max_in_flight`](Self#structfield.max_in_flight).
    #[must_use]
    pub const fn max_in_flight(self, attempts: usize) -> Self {
        Self {
            max_in_flight: Some(attempts),
            ..self
        }
    }
}
