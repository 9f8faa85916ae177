//! What a redrive task says: before, while it runs, and at its end.

use std::collections::BTreeMap;
use std::fmt;

use super::super::ops::{TaskCounts, TaskState};
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
    /// Those of them that would be copied, if there is no [`max`](super::RedriveTask::max).
    pub turns: u64,
    /// Those that could be copied, but were redriven or resolved before.
    pub handled: u64,
    /// Those that cannot be copied, or are not to be, by the kind of refusal.
    pub refused: BTreeMap<&'static str, Refusals>,
    /// Letters that match but for their group.
    pub of_other_groups: u64,
    /// Records of the topic that are no dead letters.
    pub not_letters: u64,
    /// The topics that copies go to, and how many go there; those that were handled before included.
    pub targets: BTreeMap<String, u64>,
    /// Whether every group that reads those topics gets the copies.
    pub for_every_group: bool,
    /// The letters that match, by what those that fail alike have in common; the most frequent first.
    pub fingerprints: Vec<(Fingerprint, u64)>,
    /// Letters whose fingerprint is none of those, which are 10,000 at most.
    pub other_fingerprints: u64,
    /// What was read of the topic.
    pub ranges: Vec<LetterRange>,
    /// The task that has not ended, on the same dead-letter topic.
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
    /// Letters that the task has, up to its `max`.
    pub turns: u64,
    /// Those of them that are done: copied, gone, or passed over.
    pub done: u64,
    /// Those that were no longer in the topic.
    pub gone: u64,
    /// Those that were passed over.
    pub refused: u64,
    /// Whether it waits for what becomes of the canary.
    pub awaits_canary: bool,
}

impl RedriveProgress {
    /// How many copies were written.
    pub fn copied(&self) -> u64 {
        self.done.saturating_sub(self.gone + self.refused)
    }
}

/// What a run of a task came to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Ended {
    /// The task's name.
    pub id: String,
    /// Its group.
    pub group: String,
    /// How the task stands; [`TaskState::Running`] where it was stopped, and can be resumed.
    pub state: TaskState,
    /// Why it ended.
    pub reason: Option<String>,
    /// How far it is.
    pub progress: RedriveProgress,
    /// What matched when it was started.
    pub counts: TaskCounts,
    /// Letters that this run passed over.
    pub refused: Refusals,
}
