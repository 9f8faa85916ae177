//! For a subscription without Kafka: what happens to each record.

use std::sync::Arc;

use keylane_core::Settlement;

use crate::metrics::AttemptResult;
use crate::record::Origin;
use crate::status::SubscriptionError;
use keylane_core::member::CommitPoint;

/// Is called within a pass of the owner, so it must not wait.
pub(crate) trait Observer: Send + Sync {
    fn attempted(&self, of: &Observed, result: AttemptResult, text: Option<String>);
    fn settled(&self, of: Observed, outcome: Settlement);
    fn parked(&self, of: Observed);
    fn stopped(&self, of: Observed, error: SubscriptionError);
    fn committable(&self, topic: &Arc<str>, partition: i32, point: &CommitPoint);
}

/// The record of an attempt or a write.
pub(crate) struct Observed {
    /// Where it was first read.
    pub(crate) record: Origin,
    pub(crate) attempts: u32,
}
