//! What the owners of one subscription share.

use std::collections::BTreeSet;
use std::hash::BuildHasher;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use keylane_core::{
    Backoff, FailedAttempt, Failure, LaneOrder, Moment, OutageGuard, PartitionSettings,
};

use super::foreign::RetryOwnership;
use super::observer::Observer;
use crate::SubscriptionConfig;
use crate::config::{HeaderConvention, LegacyTasks};
use crate::kafka::config::ClientSettings;
use crate::metrics::SubscriptionMetrics;
use crate::processing::Cause;
use crate::producer::{RecordWriter, TopicTarget};
use crate::status::{Control, OutageWatch, SharedLease};
use crate::support::LogLimit;
use crate::trace::AttemptSpans;

/// At most one failed write to the retry or dead-letter topic is a warning in this interval.
const FAILED_WRITES_EVERY: Duration = Duration::from_secs(5);

/// Back-off of writes to the retry and dead-letter topics that failed.
const PUBLISH_BACKOFF: Backoff = Backoff {
    initial: Duration::from_millis(100),
    max: Duration::from_secs(10),
    multiplier: 2.0,
    jitter: 0.2,
};

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
    /// Retries are written in the format of Decaton before version 9.
    pub(crate) wraps_retries: bool,
    /// Present where there is a retry topic.
    pub(crate) ownership: Option<RetryOwnership>,
    pub(crate) dead_letter_topic: Option<TopicTarget>,
    /// In whose headers dead letters are written, besides keylane's own.
    pub(crate) dead_letter_headers: BTreeSet<HeaderConvention>,
    /// The settings of the client that queries the partition counts of these topics.
    pub(crate) side_config: ClientSettings,
    /// Limits the log lines about failed writes.
    pub(crate) failed_writes: LogLimit,
    pub(crate) lease: Arc<SharedLease>,
    pub(crate) control: Arc<Control>,
    pub(crate) metrics: Arc<SubscriptionMetrics>,
    pub(crate) origin_of_time: Instant,
    /// Present in a subscription without Kafka.
    pub(crate) observer: Option<Arc<dyn Observer>>,
    /// Whether the brokers name the logs of topics.
    pub(crate) names_logs: bool,
}

/// Where owners write, and what else there is only with Kafka, or only without it.
pub(crate) struct Surroundings {
    pub(crate) writer: Option<RecordWriter>,
    pub(crate) retry_topic: Option<TopicTarget>,
    pub(crate) dead_letter_topic: Option<TopicTarget>,
    pub(crate) side_config: ClientSettings,
    pub(crate) lease: Arc<SharedLease>,
    pub(crate) observer: Option<Arc<dyn Observer>>,
    /// Whether the brokers name the logs of topics.
    pub(crate) names_logs: bool,
}

impl Runtime {
    pub(crate) fn new(
        config: &SubscriptionConfig,
        control: Arc<Control>,
        metrics: Arc<SubscriptionMetrics>,
        surroundings: Surroundings,
    ) -> Self {
        let origin_of_time = control.outages.origin_of_time();
        let target = surroundings.retry_topic.as_ref();
        let ownership = config.retry.topic.as_ref().zip(target);
        let ownership = ownership.map(|(settings, target)| {
            RetryOwnership::new(
                config,
                settings,
                target,
                surroundings.side_config.clone(),
                control.clone(),
                origin_of_time,
            )
        });
        Self {
            group: config.group.as_str().into(),
            attempt_timeout: config.attempt_timeout,
            commit_interval: config.commit_interval,
            origin_settings: partition_settings(config, LaneOrder::Offset),
            retry_settings: partition_settings(config, LaneOrder::Due),
            outages: control.outages.clone(),
            plain_keys: config.hot_keys.plain_keys,
            lane_hash: RandomState::default(),
            writer: surroundings.writer,
            retry_topic: surroundings.retry_topic,
            wraps_retries: config.legacy_tasks == LegacyTasks::Write,
            ownership,
            dead_letter_topic: surroundings.dead_letter_topic,
            dead_letter_headers: config
                .dead_letter
                .as_ref()
                .map(|it| it.headers.clone())
                .unwrap_or_default(),
            side_config: surroundings.side_config,
            failed_writes: LogLimit::every(FAILED_WRITES_EVERY),
            lease: surroundings.lease,
            control,
            metrics,
            origin_of_time,
            observer: surroundings.observer,
            names_logs: surroundings.names_logs,
        }
    }

    pub(crate) fn moment(&self, instant: Instant) -> Moment {
        Moment::new(instant.saturating_duration_since(self.origin_of_time))
    }

    /// The furthest instant that can be represented, where the sum is none: records may be due at
    /// any time that their headers name.
    pub(crate) fn instant(&self, moment: Moment) -> Instant {
        const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
        self.origin_of_time
            .checked_add(moment.since_origin())
            .unwrap_or_else(|| self.origin_of_time + CENTURY)
    }

    pub(crate) fn guard(&self) -> MutexGuard<'_, OutageGuard> {
        self.outages.guard()
    }

    pub(crate) fn failed(&self, failure: Failure, cause: &Cause) -> FailedAttempt {
        let names = self.outages.names();
        let class = names.class(cause.class());
        let place = cause.place().map(|place| names.place(place));
        FailedAttempt {
            failure,
            class,
            place,
        }
    }

    /// The lane of a key: a hash is enough. Two keys of one hash would share a lane, which keeps
    /// their order and costs them some concurrency. With a random 64-bit hash that is one pair in
    /// billions, and no producer can provoke it.
    pub(crate) fn lane(&self, key: &[u8]) -> u64 {
        self.lane_hash.hash_one(key)
    }
}

fn partition_settings(
    config: &SubscriptionConfig,
    lane_order: LaneOrder,
) -> Arc<PartitionSettings> {
    Arc::new(PartitionSettings {
        concurrency: config.concurrency,
        retry: config.retry_policy(),
        lane_order,
        publish_backoff: PUBLISH_BACKOFF,
        watched_records: config.limits.pause_at_records,
        watchdog: config.core_watchdog(),
        blocker: config.blocker_policy(),
    })
}
