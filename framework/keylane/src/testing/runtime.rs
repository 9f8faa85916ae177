//! What a runtime is made of that has no broker.

use std::sync::{Arc, Weak};

use super::topics::Topics;
use crate::SubscriptionConfig;
use crate::kafka::config::ClientSettings;
use crate::metrics::SubscriptionMetrics;
use crate::producer::raw::{Acknowledged, OutgoingRecord};
use crate::producer::{PartitionCount, RecordWriter, TopicTarget};
use crate::runtime::{Runtime, Surroundings};
use crate::status::{Control, SharedLease};

pub(super) fn local_runtime(
    config: &SubscriptionConfig,
    control: &Arc<Control>,
    topics: Weak<Topics>,
) -> Runtime {
    let target = |name: &str| TopicTarget {
        name: name.into(),
        partitions: PartitionCount::fixed(i32::MAX),
    };
    let writer = topics.clone();
    let write = move |record: OutgoingRecord| match writer.upgrade() {
        Some(topics) => topics.write(record),
        // It was dropped, and its owners are about to end.
        None => Acknowledged {
            partition: 0,
            offset: 0,
        },
    };
    let surroundings = Surroundings {
        writer: Some(RecordWriter::Memory(Arc::new(write))),
        retry_topic: config.retry_topic().map(|name| target(&name)),
        dead_letter_topic: config.dead_letter.as_ref().map(|it| target(&it.topic)),
        side_config: ClientSettings::default(),
        lease: Arc::new(SharedLease::lasting()),
        observer: Some(Arc::new(topics)),
        names_logs: false,
    };
    let metrics = Arc::new(SubscriptionMetrics::new(config.label()));
    Runtime::new(config, control.clone(), metrics, surroundings)
}
