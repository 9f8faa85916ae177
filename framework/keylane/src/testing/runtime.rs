//! What a runtime is made of that has no broker.

use std::sync::{Arc, Weak};

use keylane_core::LaneOrder;

use super::topics::Topics;
use crate::SubscriptionConfig;
use crate::config::LegacyTasks;
use crate::kafka::config::ClientSettings;
use crate::metrics::SubscriptionMetrics;
use crate::producer::raw::{Acknowledged, OutgoingRecord};
use crate::producer::{PartitionCount, RecordWriter, TopicTarget};
use crate::runtime::{RetryOwnership, Runtime};
use crate::status::{Control, SharedLease};
use crate::subscription::{FAILED_WRITES_EVERY, partition_settings};
use crate::support::LogLimit;

pub(super) fn local_runtime(
    config: &Arc<SubscriptionConfig>,
    control: &Arc<Control>,
    topics: Weak<Topics>,
) -> Runtime {
    let target = |name: &str| TopicTarget {
        name: name.into(),
        partitions: PartitionCount::fixed(i32::MAX),
    };
    let retry_topic = config.retry_topic().map(|name| target(&name));
    let dead_letter_topic = config.dead_letter.as_ref().map(|it| target(&it.topic));
    let origin_of_time = control.outages.origin_of_time();
    let ownership = config.retry.topic.as_ref().zip(retry_topic.as_ref());
    let ownership = ownership.map(|(settings, target)| {
        let no_client = ClientSettings::default();
        RetryOwnership::new(
            config,
            settings,
            target,
            no_client,
            control.clone(),
            origin_of_time,
        )
    });
    let writer = topics.clone();
    let write = move |record: OutgoingRecord| match writer.upgrade() {
        Some(topics) => topics.write(record),
        // It was dropped, and its owners are about to end.
        None => Acknowledged {
            partition: 0,
            offset: 0,
        },
    };
    Runtime {
        group: config.group.as_str().into(),
        attempt_timeout: config.attempt_timeout,
        commit_interval: config.commit_interval,
        origin_settings: partition_settings(config, LaneOrder::Offset),
        retry_settings: partition_settings(config, LaneOrder::Due),
        outages: control.outages.clone(),
        plain_keys: config.hot_keys.plain_keys,
        lane_hash: foldhash::fast::RandomState::default(),
        writer: Some(RecordWriter::Memory(Arc::new(write))),
        retry_topic,
        wraps_retries: config.legacy_tasks == LegacyTasks::Write,
        dead_letter_topic,
        side_config: ClientSettings::default(),
        ownership,
        failed_writes: LogLimit::every(FAILED_WRITES_EVERY),
        lease: Arc::new(SharedLease::lasting()),
        control: control.clone(),
        metrics: Arc::new(SubscriptionMetrics::new(config.label())),
        origin_of_time,
        observer: Some(Arc::new(topics)),
    }
}
