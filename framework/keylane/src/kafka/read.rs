//! What one read of the client gives.

use std::time::Duration;

use rdkafka::error::KafkaError;

/// The most messages one read takes. Also by how much a limit can be exceeded.
pub(crate) const READ_LIMIT: usize = 500;

/// What one read did.
#[derive(Default)]
pub(crate) struct Read {
    pub(crate) taken: usize,
    /// How long there was nothing to take; the callbacks that were served are in it, where they
    /// cannot be told apart.
    pub(crate) waited: Duration,
    pub(crate) error: Option<KafkaError>,
    /// With `auto.offset.reset=error`: which partition has no position, and why.
    pub(crate) reset: Option<String>,
    /// Partitions whose position the client has wrong now; see [`Misplaced`].
    pub(crate) misplaced: Vec<Misplaced>,
}

/// A partition that reported an error instead of a record, at the offset of the next one.
///
/// The batch call takes it for a record and moves the partition's position behind it: the next
/// pause, also that of a rebalance, would go on one record too far.
pub(crate) struct Misplaced {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
}
