//! A partition's figures, all at once: what status, metrics and health are views of.
//!
//! A new figure is a field of [`Snapshot`] and a line in [`Partition::snapshot`].

use std::time::Duration;

use super::pending_view::{Activity, HeldUp, Wait};
use super::{Partition, Position};

/// How a partition stands at one moment.
///
/// # Examples
/// ```
/// use keylane_core::Snapshot;
///
/// fn report(partition: &Snapshot) -> String {
///     let at = partition.watermark.map_or("nowhere yet".to_owned(), |at| at.to_string());
///     format!("{} pending, {} running; commits at {at}", partition.pending, partition.running)
/// }
/// assert_eq!(report(&Snapshot::default()), "0 pending, 0 running; commits at nowhere yet");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Snapshot {
    /// The lowest unsettled offset, or the next one to be delivered where all is settled: what may
    /// be committed. `None` while nothing was committed or delivered.
    pub watermark: Option<Position>,
    /// Records delivered and unsettled.
    pub pending: u64,
    /// What they take of the byte budget.
    pub pending_bytes: u64,
    /// Attempts in flight.
    pub running: u64,
    /// Records that wait for a back-off or their due time.
    pub waiting: u64,
    /// Lanes whose first record waits for a back-off or its due time.
    pub waiting_lanes: u64,
    /// Records parked.
    pub parked: u64,
    /// Keys that are paused and have a record that would be ready.
    pub paused_keys: u64,
    /// Offsets settled above the watermark.
    pub settled_ahead: u64,
    /// Attempts that have been running for longer than [`Watchdog::slow_attempt`](crate::Watchdog).
    pub slow_attempts: u64,
    /// For how long the watermark has not moved although records wait; `None` below
    /// [`Watchdog::stalled_after`](crate::Watchdog).
    #[cfg_attr(
        feature = "serde",
        serde(rename = "stalled_seconds", serialize_with = "as_seconds")
    )]
    pub stalled_for: Option<Duration>,
    /// Whether records that may have killed the process are tried one by one, after crashes without
    /// progress between.
    pub isolated: bool,
    /// Records that wait, are parked or of a paused key, and those behind them in their lanes. Of the
    /// last [survey](Partition::survey), as is all that follows.
    pub held_up: u64,
    /// Records that are not due yet, and those behind them in their lanes.
    pub not_due: u64,
    /// The bytes of those.
    pub not_due_bytes: u64,
    /// How many records wait for what.
    pub waiting_for: WaitingFor,
}

/// What a waiting record waits for, in the classes of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RetryTier {
    /// The delay of a retry in place.
    InPlace,
    /// The delay of its first round through the retry topic.
    TopicFirst,
    /// The delay of its second round.
    TopicSecond,
    /// The delay of its third round.
    TopicThird,
    /// The delay of a later round.
    TopicLater,
    /// A write to the retry or dead-letter topic failed, and is made again after a delay.
    Write,
    /// No retry: its producer set an earliest time.
    NotBefore,
}

impl RetryTier {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::InPlace,
        Self::TopicFirst,
        Self::TopicSecond,
        Self::TopicThird,
        Self::TopicLater,
        Self::Write,
        Self::NotBefore,
    ];

    /// Its name in metrics and answers over HTTP.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InPlace => "in_place",
            Self::TopicFirst => "topic_first",
            Self::TopicSecond => "topic_second",
            Self::TopicThird => "topic_third",
            Self::TopicLater => "topic_later",
            Self::Write => "write",
            Self::NotBefore => "not_before",
        }
    }
}

impl From<Wait> for RetryTier {
    fn from(wait: Wait) -> Self {
        match wait {
            Wait::NotBefore => Self::NotBefore,
            Wait::InPlace => Self::InPlace,
            Wait::Topic { round: 0 | 1 } => Self::TopicFirst,
            Wait::Topic { round: 2 } => Self::TopicSecond,
            Wait::Topic { round: 3 } => Self::TopicThird,
            Wait::Topic { .. } => Self::TopicLater,
            Wait::Write => Self::Write,
        }
    }
}

/// A number of records for each [`RetryTier`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WaitingFor([u64; RetryTier::ALL.len()]);

impl WaitingFor {
    /// How many records wait for this.
    pub const fn get(&self, tier: RetryTier) -> u64 {
        self.0[tier as usize]
    }

    /// Counts one more.
    pub const fn add(&mut self, tier: RetryTier) {
        self.0[tier as usize] += 1;
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for WaitingFor {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(RetryTier::ALL.map(|tier| (tier.as_str(), self.get(tier))))
    }
}

#[cfg(feature = "serde")]
fn as_seconds<S: serde::Serializer>(
    time: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serde::Serialize::serialize(&time.map(|time| time.as_secs_f64()), serializer)
}

/// What a walk over the pending records has found.
#[derive(Default)]
pub(super) struct Surveyed {
    held_up: HeldUp,
    waiting_for: WaitingFor,
}

impl<R> Partition<R> {
    /// Its figures. O(1): what takes a walk over the pending records is as it was at the last
    /// [`survey`](Self::survey).
    pub fn snapshot(&self) -> Snapshot {
        let Surveyed {
            held_up,
            waiting_for,
        } = self.surveyed;
        Snapshot {
            watermark: self.watermark(),
            pending: self.pending() as u64,
            pending_bytes: self.pending_bytes() as u64,
            running: self.running() as u64,
            waiting: self.waiting() as u64,
            waiting_lanes: self.waiting_lanes() as u64,
            parked: self.parked() as u64,
            paused_keys: self.paused_keys() as u64,
            settled_ahead: self.settled_ahead() as u64,
            slow_attempts: self.slow_attempts() as u64,
            stalled_for: self.stalled_for(),
            isolated: self.has_suspects(),
            held_up: held_up.records as u64,
            not_due: held_up.not_due as u64,
            not_due_bytes: held_up.not_due_bytes as u64,
            waiting_for,
        }
    }

    /// Counts what the pending records wait for. Walks over all of them where any waits or is held:
    /// to be called now and then.
    pub fn survey(&mut self) {
        let mut waiting_for = WaitingFor::default();
        if self.waiting() > 0 {
            for pending in self.pending_records() {
                if let Activity::Waiting(wait) = pending.activity {
                    waiting_for.add(wait.into());
                }
            }
        }
        self.surveyed = Surveyed {
            held_up: self.held_up(),
            waiting_for,
        };
    }
}
