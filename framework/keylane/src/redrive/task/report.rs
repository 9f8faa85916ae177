//! What a redrive task reports: before it begins, while it runs, and at its end.

use std::collections::BTreeMap;
use std::fmt;

use super::super::ops::{TaskCounts, TaskRecord, TaskState};
use crate::dead_letter::Fingerprint;
use crate::kafka::LetterRange;
use crate::support::error_text;

/// The examples of a kind of refusal.
const MOST_EXAMPLES: usize = 10;

/// What a task would do: by [`RedriveTask::plan`](super::RedriveTask::plan).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Planned {
    /// The dead-letter topic.
    pub topic: String,
    /// The group of the task.
    pub group: String,
    /// Letters that match.
    pub matched: u64,
    /// Matching letters that would be copied, if there is no [`max`](super::RedriveTask::max).
    pub turns: u64,
    /// Matching letters that could be copied, but were redriven or resolved before.
    pub handled: u64,
    /// Matching letters that are refused, by the kind of refusal.
    pub refused: BTreeMap<&'static str, Refusals>,
    /// Letters that match the filter, and name another group.
    pub of_other_groups: u64,
    /// Records of the topic that are no dead letters.
    pub not_letters: u64,
    /// The topics that copies go to, and how many go there.
    pub targets: BTreeMap<String, u64>,
    /// Whether every group that reads those topics gets the copies.
    pub for_every_group: bool,
    /// The number of matching letters per fingerprint, the most frequent fingerprint first.
    pub fingerprints: Vec<(Fingerprint, u64)>,
    /// Matching letters with other fingerprints. `fingerprints` has 10,000 at most.
    pub other_fingerprints: u64,
    /// What was read of the topic.
    pub ranges: Vec<LetterRange>,
    /// A task on the same dead-letter topic that has not ended, and is not requested to end.
    pub unfinished: Option<String>,
}

/// Letters that are refused for one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusals {
    /// How many there are.
    pub count: u64,
    /// The first 10 of them, in words, with their places.
    pub examples: Vec<String>,
}

impl Refusals {
    pub(super) fn add(&mut self, reason: impl fmt::Display) {
        self.count += 1;
        if self.examples.len() < MOST_EXAMPLES {
            self.examples.push(error_text::text(reason));
        }
    }
}

/// How far a task is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedriveProgress {
    /// Letters of the task, up to its `max`.
    pub turns: u64,
    /// Letters that are done: copied, gone, or passed over.
    pub done: u64,
    /// Letters that were no longer in the topic.
    pub gone: u64,
    /// Letters that were passed over.
    pub refused: u64,
    /// Whether the task waits for the outcome of the canary.
    pub awaits_canary: bool,
}

impl RedriveProgress {
    /// How many copies were written.
    pub fn copied(&self) -> u64 {
        self.done.saturating_sub(self.gone + self.refused)
    }
}

/// How a run of a task ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Ended {
    /// The task's name.
    pub id: String,
    /// The task's group.
    pub group: String,
    /// How the task stands; [`TaskState::Running`] where it was stopped, and can be resumed.
    pub state: TaskState,
    /// Why it ended.
    pub reason: Option<String>,
    /// How far the task is.
    pub progress: RedriveProgress,
    /// What matched when the task was started.
    pub counts: TaskCounts,
    /// Letters that this run passed over.
    pub refused: Refusals,
}

impl Ended {
    pub(super) fn without_letters(id: String, record: TaskRecord) -> Self {
        Self {
            id,
            group: record.group,
            state: TaskState::Done,
            reason: None,
            progress: RedriveProgress::default(),
            counts: record.counts,
            refused: Refusals::default(),
        }
    }
}
