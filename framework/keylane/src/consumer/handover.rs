//! Giving partitions back: drain, store the final offsets, unassign (guarantee G8).

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};

use super::assignment::Assignment;
use super::commits::Commits;
use super::context::{Context, list};

/// How long after the drain deadline an owner may take to end. Only one that is blocked by a processor that blocks its thread
/// needs it; then the partition is given up with the last commit point it reported.
const END_GRACE: Duration = Duration::from_millis(500);

/// A revoke that was reported and not answered yet. The client delivers nothing and commits nothing by itself until it is.
pub(super) struct Handover {
    partitions: Vec<(String, i32)>,
    began: Instant,
    deadline: Instant,
    ordered_end: bool,
}

impl Handover {
    pub(super) fn begin(assignment: &mut Assignment, partitions: Vec<(String, i32)>, deadline: Instant) -> Self {
        for (topic, partition) in &partitions {
            if let Some(assigned) = assignment.find(topic, *partition) {
                assigned.revoking = true;
                assigned.inbox.drain(deadline);
            }
        }
        Self { partitions, began: Instant::now(), deadline, ordered_end: false }
    }

    /// Brings the deadline forward.
    pub(super) fn hurry(&mut self, assignment: &mut Assignment, deadline: Instant) {
        if deadline >= self.deadline {
            return;
        }
        self.deadline = deadline;
        for (topic, partition) in &self.partitions {
            if let Some(assigned) = assignment.find(topic, *partition) {
                assigned.inbox.drain(deadline);
            }
        }
    }

    /// Whether the revoke can be answered.
    pub(super) fn is_ready(&mut self, consumer: &BaseConsumer<Context>, assignment: &mut Assignment) -> bool {
        let now = Instant::now();
        if now >= self.deadline && !self.ordered_end {
            self.ordered_end = true;
            for (topic, partition) in &self.partitions {
                if let Some(assigned) = assignment.find(topic, *partition) {
                    assigned.inbox.end();
                }
            }
        }
        let all_ended = self
            .partitions
            .iter()
            .all(|(topic, partition)| assignment.find(topic, *partition).is_none_or(|assigned| assigned.has_ended()));
        // Lost meanwhile: there is nothing to wait for.
        all_ended || now >= self.deadline + END_GRACE || consumer.assignment_lost()
    }

    /// Stores the final offsets and answers the revoke; the client commits them with it.
    pub(super) fn finish(
        self,
        consumer: &BaseConsumer<Context>,
        assignment: &mut Assignment,
        commits: &mut Commits,
    ) -> Finished {
        commits.store(consumer, &mut assignment.partitions, true);
        for (topic, partition) in &self.partitions {
            if let Some(assigned) = assignment.find(topic, *partition) {
                commits.unmark(assigned);
            }
        }
        commits.store(consumer, &mut assignment.partitions, true);
        let took = self.began.elapsed();
        let (mut handed_back, mut dropped) = (0, false);
        for (topic, partition) in &self.partitions {
            if let Some(mut assigned) = assignment.close_now(topic, *partition) {
                let pending = assigned.pending_records();
                assigned.read_metrics.handed_back(pending);
                handed_back += pending;
                dropped |= !assigned.progress.drained.load(std::sync::atomic::Ordering::Relaxed);
            }
        }
        let answer = if consumer.context().is_eager() {
            consumer.unassign()
        } else {
            let list = list(self.partitions.iter().map(|(topic, partition)| (topic.as_str(), *partition)));
            consumer.incremental_unassign(&list)
        };
        Finished { partitions: self.partitions, took, handed_back, dropped, error: answer.err() }
    }
}

pub(super) struct Finished {
    /// What was given back.
    pub(super) partitions: Vec<(String, i32)>,
    pub(super) took: Duration,
    /// Records delivered, not settled, and left to the next owner.
    pub(super) handed_back: u64,
    /// Attempts had to be dropped at the deadline.
    pub(super) dropped: bool,
    pub(super) error: Option<rdkafka::error::KafkaError>,
}
