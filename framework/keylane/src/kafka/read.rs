//! What one read of the client gives.

use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::trouble;
use crate::status::Control;

/// The most messages one read takes. Also by how much a limit can be exceeded.
pub(crate) const READ_LIMIT: usize = 500;

/// What one read did.
#[derive(Default)]
pub(crate) struct Read {
    pub(crate) taken: usize,
    /// How long there was nothing to take. It includes served callbacks where they cannot be
    /// measured separately.
    pub(crate) waited: Duration,
    pub(super) error: Option<KafkaError>,
    /// With `auto.offset.reset=error`: which partition has no position, and why.
    pub(super) reset: Option<String>,
    /// Partitions whose position the client has wrong now; see [`FailedFetch`].
    pub(crate) failed_fetches: Vec<FailedFetch>,
}

/// A partition that reported an error instead of a record, at the offset of the next one.
///
/// The batch call takes it for a record and moves the partition's position behind it: the next
/// pause, also that of a rebalance, would go on one record too far.
pub(crate) struct FailedFetch {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// It is the end of the partition, of a client that is told of it.
    pub(super) is_end: bool,
}

/// What an error of a read means.
pub(crate) enum Failure {
    /// The client does not work any longer.
    Fatal(String),
    /// A partition has no position, with `auto.offset.reset=error`.
    NoPosition(String),
    /// It passes, as far as can be seen.
    Passing(Option<RDKafkaErrorCode>),
}

impl Failure {
    pub(super) fn of(error: &KafkaError, no_position: Option<String>, control: &Control) -> Self {
        match error {
            KafkaError::MessageConsumptionFatal(code) => {
                Self::Fatal(error.to_string() + &trouble::advice(control, Some(*code)))
            }
            KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset) => {
                Self::NoPosition(no_position.unwrap_or_else(|| error.to_string()))
            }
            _ => Self::Passing(error.rdkafka_error_code()),
        }
    }
}
