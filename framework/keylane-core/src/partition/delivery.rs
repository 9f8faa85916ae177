//! What comes in.

use std::time::Duration;

use crate::offset::Offset;
use crate::time::Moment;

/// A record as it was read.
#[derive(Clone, Debug)]
pub struct Delivery<R> {
    /// Its offset.
    pub offset: Offset,
    /// A good hash of its key: equal keys have equal hashes, and keys that share one share a lane.
    /// `None` is a null key: unordered, a lane of its own.
    pub lane: Option<u64>,
    /// What it takes of the byte budget.
    pub bytes: usize,
    /// When it may run at the earliest, where it has to wait.
    pub due: Option<Moment>,
    /// How often it went through the retry topic.
    pub rounds: u32,
    /// How often it was attempted before this delivery.
    pub attempts: u32,
    /// Its retry time before this delivery
    /// ([`PublishRequest::retried_for`](crate::PublishRequest)).
    pub retried_for: Duration,
    /// The record itself, which the core only carries.
    pub record: R,
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// It is pending now.
    Queued,
    /// It was delivered before in this epoch, and is dropped.
    Repeated,
    /// A previous owner had settled it, and it is dropped.
    AlreadySettled,
    /// It is another group's retry, and is settled.
    Foreign,
    /// An operator ordered it to be [skipped](crate::Partition::skipped_by), and it is settled.
    SkippedByOperator,
}
