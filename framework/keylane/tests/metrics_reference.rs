//! The page of all metrics corresponds to the code, the dashboards and the alert rules.
#![allow(clippy::unwrap_used)] // Clippy allows it in test functions only, not in what they call.

#[path = "../examples/metrics_reference/decaton.rs"]
mod decaton;
#[path = "../examples/metrics_reference/page.rs"]
mod page;
#[path = "../examples/metrics_reference/usage.rs"]
mod usage;

use std::collections::BTreeSet;

#[test]
fn the_page_is_what_the_program_writes() {
    let written = std::fs::read_to_string(page::path()).unwrap();
    assert!(
        written == page::render().unwrap(),
        "src/metrics/reference.md is out of date: cargo run -p keylane --example metrics_reference"
    );
}

/// All that Decaton 9.1 has.
const OF_DECATON: [&str; 28] = [
    "subscription.process.durations",
    "tasks.processed",
    "tasks.discarded",
    "tasks.error",
    "tasks.process.duration",
    "tasks.complete.duration",
    "tasks.delivery.latency",
    "tasks.scheduled.process.delay",
    "tasks.scheduling.delay",
    "tasks.timeout",
    "tasks.pending",
    "tasks.queued",
    "processor.processed.time",
    "partition.paused",
    "partition.paused.time",
    "partition.queue.starved.time",
    "partition.throttled.time",
    "offset.last.committed",
    "offset.latest.consumed",
    "records.consumed",
    "retry.queued.tasks",
    "retry.queueing.failed",
    "retry.task.retries",
    "shaping.queued.tasks",
    "shaping.queueing.failed",
    "processor.compaction.compacted",
    "processor.compaction.compacted.keys",
    "kafka.consumer.*",
];

#[test]
fn every_series_of_decaton_has_a_counterpart_or_a_reason() {
    let told: BTreeSet<&str> = decaton::COUNTERPARTS
        .iter()
        .map(|(series, _)| *series)
        .collect();
    let reasoned: BTreeSet<&str> = decaton::WITHOUT_COUNTERPART
        .iter()
        .map(|(series, _)| *series)
        .collect();
    assert!(told.is_disjoint(&reasoned));
    let all: BTreeSet<&str> = told.union(&reasoned).copied().collect();
    assert_eq!(all, OF_DECATON.into_iter().collect());
}
