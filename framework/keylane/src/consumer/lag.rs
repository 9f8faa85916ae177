//! How far behind the log's end each partition is.

use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use rdkafka::consumer::BaseConsumer;

use super::assigned::Assigned;
use super::context::Context;
use super::native;
use crate::subscription::{Control, PartitionStatus};

/// Measures once a second from what the client knows, without asking a broker.
#[derive(Default)]
pub(super) struct Lag;

impl Lag {
    pub(super) fn update(&mut self, consumer: &BaseConsumer<Context>, partitions: &mut [Assigned], control: &Control) {
        for partition in partitions {
            let cached = native::cached_end_offset(consumer, &partition.topic_c, partition.partition);
            // The client's figure is frozen while a partition is paused; the side client's is then the newer one.
            let end = cached.max(partition.end_offset);
            let (pending, progress) = (partition.pending_records(), &partition.progress);
            let watermark = progress.watermark.load(Ordering::Relaxed);
            let lag = end.and_then(|end| u64::try_from(end - watermark.max(0)).ok()).filter(|_| watermark >= 0);
            let oldest = progress.oldest_timestamp_millis.load(Ordering::Relaxed);
            partition.metrics.set_lag(lag, lag_seconds(lag, oldest));
            control.set_partition(PartitionStatus {
                topic: partition.topic.clone(),
                partition: partition.partition,
                watermark,
                pending,
                running: progress.running.load(Ordering::Relaxed),
                waiting: progress.waiting.load(Ordering::Relaxed),
                parked: progress.parked.load(Ordering::Relaxed),
                settled_ahead: progress.settled_ahead.load(Ordering::Relaxed),
                paused: partition.fetch_paused,
                lag_records: lag,
            });
            partition.metrics.set_pending_bytes(partition.pending_bytes());
        }
    }
}

/// The age of the oldest unsettled record; nothing behind is no lag.
fn lag_seconds(lag: Option<u64>, oldest_timestamp_millis: i64) -> Option<f64> {
    if lag == Some(0) {
        return Some(0.0);
    }
    if oldest_timestamp_millis == i64::MIN {
        return None;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs_f64();
    Some((now - oldest_timestamp_millis as f64 / 1e3).max(0.0))
}
