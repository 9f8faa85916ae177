//! The settings of consumers that are not keylane's.

use rdkafka::ClientConfig;

use crate::measure::Job;

/// librdkafka's defaults, but for what every arm has: the same start, the same commit interval.
pub(super) fn default(job: &Job) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &job.bootstrap_servers)
        .set("group.id", &job.group)
        .set("auto.offset.reset", "earliest")
        .set("auto.commit.interval.ms", "1000")
        .set("partition.assignment.strategy", "cooperative-sticky");
    config
}

/// keylane's fetch settings.
pub(super) fn tuned(job: &Job) -> ClientConfig {
    let mut config = default(job);
    config
        .set("fetch.message.max.bytes", "262144")
        .set("queued.min.messages", "5000")
        .set("fetch.queue.backoff.ms", "5")
        .set("fetch.wait.max.ms", "100");
    config
}
