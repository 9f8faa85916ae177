//! Decaton's series (9.x, without their prefix `decaton.`): what corresponds here, or why nothing
//! does.

use keylane::metrics::names::{self, MetricDef};

/// In the order of Decaton's documentation; a metric may stand for several.
pub(crate) const COUNTERPARTS: &[(&str, &MetricDef)] = &[
    ("subscription.process.durations", &names::POLL_DURATION),
    ("tasks.processed", &names::ATTEMPTS),
    ("tasks.discarded", &names::ATTEMPTS),
    ("tasks.error", &names::ATTEMPTS),
    ("tasks.process.duration", &names::ATTEMPT_DURATION),
    ("tasks.complete.duration", &names::ATTEMPT_DURATION),
    ("tasks.delivery.latency", &names::DELIVERY_LATENCY),
    ("tasks.scheduled.process.delay", &names::DUE_LATENESS),
    ("tasks.scheduling.delay", &names::RETRY_WAIT),
    ("tasks.timeout", &names::ATTEMPTS),
    ("tasks.timeout", &names::ATTEMPT_TIMEOUT_SECONDS),
    ("tasks.pending", &names::PENDING_RECORDS),
    ("partition.paused", &names::PAUSED),
    ("partition.paused.time", &names::PAUSED_SECONDS),
    ("partition.queue.starved.time", &names::STARVED_SECONDS),
    ("offset.last.committed", &names::WATERMARK_OFFSET),
    ("offset.latest.consumed", &names::DELIVERED_OFFSET),
    ("records.consumed", &names::DELIVERED),
    ("retry.queued.tasks", &names::RETRIES),
    ("retry.queueing.failed", &names::PRODUCE_FAILURES),
    ("retry.task.retries", &names::RETRY_WAIT),
];

pub(crate) const WITHOUT_COUNTERPART: &[(&str, &str)] = &[
    (
        "tasks.queued",
        "counts tasks by sub-partition thread; a partition has no threads of its own here. What waits is in \
         `keylane_pending_records`, for how long in `keylane_queue_wait_seconds`",
    ),
    (
        "processor.processed.time",
        "the busy time of a sub-partition thread; the time of all attempts is `keylane_attempt_duration_seconds_sum`",
    ),
    ("partition.throttled.time", "there is no rate limiter"),
    ("shaping.queued.tasks", "there is no rate limiter by key"),
    ("shaping.queueing.failed", "there is no rate limiter by key"),
    (
        "processor.compaction.compacted",
        "records are not compacted",
    ),
    (
        "processor.compaction.compacted.keys",
        "records are not compacted",
    ),
    (
        "kafka.consumer.*",
        "the Java client's own; librdkafka's statistics are not exported",
    ),
];

/// What Decaton calls it.
pub(crate) fn counterparts(metric: &str) -> impl Iterator<Item = &'static str> {
    COUNTERPARTS
        .iter()
        .filter(move |(_, ours)| ours.name == metric)
        .map(|(series, _)| *series)
}
