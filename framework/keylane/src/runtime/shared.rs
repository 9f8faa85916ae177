//! What the owners of one subscription share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use keylane_core::{Moment, PartitionSettings};
use rdkafka::ClientConfig;

use super::foreign::RetryOwnership;
use super::observer::Observer;
use crate::metrics::SubscriptionMetrics;
use crate::producer::{RecordWriter, TopicTarget};
use crate::status::{Control, OutageWatch, SharedLease};
use crate::support::LogLimit;
use crate::trace::AttemptSpans;

/// The user's part of the work, and how it is traced.
pub(crate) struct Work<D, P> {
    pub(crate) decoder: D,
    pub(crate) processor: P,
    pub(crate) spans: AttemptSpans,
}

/// The work as one owner holds it, for its attempts: a count that all owners share would go to and
/// fro between their threads with every attempt.
pub(super) struct OwnersWork<D, P>(pub(super) Arc<Work<D, P>>);

/// The rest: the same for every processor.
pub(crate) struct Runtime {
    pub(crate) group: Arc<str>,
    pub(crate) attempt_timeout: Duration,
    pub(crate) commit_interval: Duration,
    /// Settings for the partitions of origin topics, and of the retry topic.
    pub(crate) origin_settings: Arc<PartitionSettings>,
    pub(crate) retry_settings: Arc<PartitionSettings>,
    /// The control's: status and health look at it there.
    pub(crate) outages: Arc<OutageWatch>,
    /// Hot keys are shown as they are, beside their hashes.
    pub(crate) plain_keys: bool,
    pub(crate) lane_hash: RandomState,
    /// Present where there is a retry or dead-letter topic.
    pub(crate) writer: Option<RecordWriter>,
    pub(crate) retry_topic: Option<TopicTarget>,
    /// Present where there is a retry topic.
    pub(crate) ownership: Option<RetryOwnership>,
    pub(crate) dead_letter_topic: Option<TopicTarget>,
    /// Of a client that asks how many partitions these have.
    pub(crate) side_config: ClientConfig,
    /// Of failed writes, in the logs.
    pub(crate) failed_writes: LogLimit,
    pub(crate) lease: Arc<SharedLease>,
    pub(crate) control: Arc<Control>,
    pub(crate) metrics: Arc<SubscriptionMetrics>,
    pub(crate) origin_of_time: Instant,
    /// Of a subscription without Kafka.
    pub(crate) observer: Option<Arc<dyn Observer>>,
}

impl Runtime {
    pub(crate) fn moment(&self, instant: Instant) -> Moment {
        Moment::new(instant.saturating_duration_since(self.origin_of_time))
    }

    /// The furthest instant that can surely be told, where this is none: records may be due at any
    /// time their headers name.
    pub(crate) fn instant(&self, moment: Moment) -> Instant {
        const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
        self.origin_of_time
            .checked_add(moment.since_origin())
            .unwrap_or_else(|| self.origin_of_time + CENTURY)
    }
}
