//! Giving partitions back: drain, commit the final offsets, unassign (guarantee G8).

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};

use super::assignment::Assignment;
use super::commits::Commits;
use super::context::{Context, list};
use super::last_commit::LastCommit;

/// How long after the drain deadline an owner may take to end. Only one that is blocked by a processor that blocks its thread
/// needs it; then the partition is given up with the last commit point it reported.
const END_GRACE: Duration = Duration::from_millis(500);
/// How long the broker's word on the last commit is waited for. It usually comes within milliseconds; with the coordinator away
/// the partitions are given up without.
const COMMIT_PATIENCE: Duration = Duration::from_secs(1);

/// A revoke that was reported and not answered yet. The client delivers nothing and commits nothing by itself until it is.
pub(super) struct Handover {
    partitions: Vec<(String, i32)>,
    began: Instant,
    deadline: Instant,
    ordered_end: bool,
    /// Once the owners have ended: their last commit, and until when it is waited for.
    last_commit: Option<(LastCommit, Instant)>,
}

impl Handover {
    pub(super) fn begin(assignment: &mut Assignment, partitions: Vec<(String, i32)>, deadline: Instant) -> Self {
        for (topic, partition) in &partitions {
            if let Some(assigned) = assignment.find(topic, *partition) {
                assigned.revoking = true;
                assigned.inbox.drain(deadline);
            }
        }
        Self { partitions, began: Instant::now(), deadline, ordered_end: false, last_commit: None }
    }

    /// How long it has taken so far.
    pub(super) fn lasting(&self) -> Duration {
        self.began.elapsed()
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

    /// Whether the revoke can be answered: the owners have ended, and the broker has their last commit.
    pub(super) fn is_ready(
        &mut self,
        consumer: &BaseConsumer<Context>,
        assignment: &mut Assignment,
        commits: &mut Commits,
    ) -> bool {
        // Lost meanwhile: there is nothing to wait for, and nothing that could be committed.
        if consumer.assignment_lost() {
            return true;
        }
        if self.last_commit.is_none() {
            if !self.has_drained(assignment) {
                return false;
            }
            self.store_last_points(consumer, assignment, commits);
            self.last_commit = Some((LastCommit::new(consumer), Instant::now() + COMMIT_PATIENCE));
        }
        let Some((last_commit, until)) = &mut self.last_commit else { return false };
        if last_commit.is_over(consumer, || commits.last_points(&assignment.partitions, &self.partitions)) {
            return true;
        }
        let gave_up = Instant::now() >= *until;
        if gave_up {
            tracing::warn!("the coordinator does not answer the commit before a hand-over; records may be repeated");
        }
        gave_up
    }

    /// Whether the owners have ended, or would not.
    fn has_drained(&mut self, assignment: &mut Assignment) -> bool {
        let now = Instant::now();
        if now >= self.deadline && !self.ordered_end {
            self.ordered_end = true;
            for (topic, partition) in &self.partitions {
                if let Some(assigned) = assignment.find(topic, *partition) {
                    assigned.inbox.end();
                }
            }
        }
        let mut partitions = self.partitions.iter();
        let all_ended =
            partitions.all(|(topic, partition)| assignment.find(topic, *partition).is_none_or(|a| a.has_ended()));
        all_ended || now >= self.deadline + END_GRACE
    }

    fn store_last_points(&self, consumer: &BaseConsumer<Context>, assignment: &mut Assignment, commits: &mut Commits) {
        commits.store(consumer, &mut assignment.partitions, true);
        for (topic, partition) in &self.partitions {
            if let Some(assigned) = assignment.find(topic, *partition) {
                commits.unmark(assigned);
            }
        }
        commits.store(consumer, &mut assignment.partitions, true);
    }

    /// Answers the revoke. What the owners have said since the last commit is stored, and the client commits it with the
    /// answer.
    pub(super) fn finish(
        self,
        consumer: &BaseConsumer<Context>,
        assignment: &mut Assignment,
        commits: &mut Commits,
    ) -> Finished {
        self.store_last_points(consumer, assignment, commits);
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
