//! What happens to a record that holds up its partition.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What happens to a *blocker*: a record that stays unsettled while everything around it is
/// settled, until its partition has to pause.
///
/// # When is a record a blocker?
/// When all of this holds:
/// * it is the oldest unsettled record of its partition (in a retry topic: or the one that is in
///   its turn for that key);
/// * the window is nearly full: 90 % of
///   [`Limits::settled_ahead`](crate::config::Limits::settled_ahead) settled ahead of it, or of
///   [`Limits::pause_at_records`](crate::config::Limits::pause_at_records) pending, mostly behind
///   it;
/// * at least 98 % of the window are settled, its own key's records left out. So the processor
///   works, and there is no outage;
/// * its first attempt since it was read began at least [`after`](Self::after) ago;
/// * it runs, waits for a retry, or is parked. A record that is not due yet, waits for a free place
///   of [`concurrency`](crate::SubscriptionConfig::concurrency), or is being written is no blocker.
///   Nor is any record in a partition that is careful after a crash.
///
/// [`Limits::pending_bytes`](crate::config::Limits::pending_bytes) is not part of the window: all
/// partitions share it, so the record that holds it up cannot be identified.
///
/// # What happens to it?
/// With [`BlockerAction::DeadLetter`] it is written to the dead-letter topic with the reason
/// `blocker`, and settled when that is acknowledged. Its key goes on with the next record. Its
/// remaining retries are given up, also the retry topic's. [`Exhausted`](crate::config::Exhausted)
/// does not apply. One record at a time is taken in a partition. None is taken while records are
/// held because of an [outage](crate::config::Outage), and none that waits for what is
/// [unavailable](crate::TaskError::unavailable).
///
/// A running attempt is ended first. The record is written only after the attempt's future is
/// dropped; otherwise the attempt could have its effect after the write. If it succeeds before, the
/// record is done. **An attempt that blocks its thread cannot be ended**; then nothing is written,
/// and the partition stays paused. What the attempt has done already is not undone, and work that
/// it has spawned elsewhere goes on. Its [`Cancellation`](crate::processing::Cancellation) fires at
/// the attempt's time-out, not before.
///
/// # Why not park it?
/// A parked record is unsettled: the commit stays behind it, and the window stays full. Parking
/// frees a worker, not the partition.
///
/// # Examples
/// ```
/// use keylane::config::Blocker;
/// use keylane::{DeadLetter, Subscription};
/// use std::time::Duration;
///
/// let builder = Subscription::builder("parking-notifier", "parking-events")
///     .dead_letter(DeadLetter::topic("parking-events-dlq"))
///     .blocker(Blocker::dead_letter().after(Duration::from_secs(300)));
/// # let _ = builder;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Blocker {
    /// What is done with a blocker (default: nothing).
    pub action: BlockerAction,
    /// The minimum age of the first attempt before the record may be taken (default 1 min). Set it
    /// above what the slowest good attempt takes. Otherwise a busy partition may fill its window
    /// during that attempt, and the record is given up.
    #[serde(with = "crate::config::duration")]
    pub after: Duration,
}

/// What is done with a [`Blocker`].
///
/// # Examples
/// ```
/// use keylane::config::{Blocker, BlockerAction};
///
/// assert_eq!(Blocker::default().action, BlockerAction::Keep);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BlockerAction {
    /// Nothing: the partition pauses, and waits for the record.
    #[default]
    Keep,
    /// The record goes to the dead-letter topic, which has to be configured.
    DeadLetter,
}

impl Default for Blocker {
    fn default() -> Self {
        Self::keep()
    }
}

impl Blocker {
    /// The partition waits for the blocker.
    pub const fn keep() -> Self {
        Self {
            action: BlockerAction::Keep,
            after: Duration::from_secs(60),
        }
    }

    /// A blocker goes to the dead-letter topic.
    pub const fn dead_letter() -> Self {
        Self {
            action: BlockerAction::DeadLetter,
            ..Self::keep()
        }
    }

    /// Sets [`after`](Self::after).
    #[must_use]
    pub const fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }
}
