//! How a partition is set up.

use super::{BlockerPolicy, Watchdog};
use crate::backoff::Backoff;
use crate::retry_policy::RetryPolicy;

/// What all partitions of a topic have in common. The caller validates them.
#[derive(Clone, Debug)]
pub struct PartitionSettings {
    /// How many attempts run at once; 0 counts as 1.
    pub concurrency: usize,
    /// What becomes of failures.
    pub retry: RetryPolicy,
    /// What a due time in the future means for the lane.
    pub lane_order: LaneOrder,
    /// The delays between failed writes to the retry and dead-letter topics, which are tried again
    /// for ever.
    pub publish_backoff: Backoff,
    /// How many records of a partition are watched as possible causes after a crash: at least as
    /// many as can be pending. 0 counts as 1.
    pub watched_records: usize,
    /// When work counts as slow or stalled.
    pub watchdog: Watchdog,
    /// What happens to a record that holds up its partition; `None` leaves it. Needs a dead-letter
    /// topic.
    pub blocker: Option<BlockerPolicy>,
}

impl Default for PartitionSettings {
    fn default() -> Self {
        Self {
            concurrency: 32,
            retry: RetryPolicy::default(),
            lane_order: LaneOrder::Offset,
            publish_backoff: Backoff::default(),
            watched_records: 10_000,
            watchdog: Watchdog::default(),
            blocker: None,
        }
    }
}

/// The order of the records in a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneOrder {
    /// By offset: a record that is not due yet holds its lane. For origin topics, where key order
    /// is promised.
    Offset,
    /// A record joins its lane when it is due. For retry topics, which mix delays and promise no
    /// order.
    Due,
}

/// Whether starts are paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paused {
    /// Nothing starts.
    Yes,
    /// Starts go on.
    No,
}
