//! What a redrive task reports: before it begins, while it runs, and at its end.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Serialize, Serializer};

use super::super::ops::{TaskCounts, TaskRecord, TaskState, forms};
use crate::dead_letter::Fingerprint;
use crate::kafka::LetterRange;
use crate::support::error_text;

/// The examples of a kind of refusal.
const MOST_EXAMPLES: usize = 10;
/// The [name](super::super::RedriveError::name) of letters that name no retry topic.
const NO_RETRY_TOPIC: &str = "no-retry-topic";

/// What a task would do: by [`RedriveTask::plan`](super::RedriveTask::plan).
///
/// As JSON it has these fields; each fingerprint has `id`, `count` and `fingerprint`.
#[derive(Clone, Debug, Serialize)]
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
    #[serde(serialize_with = "counted")]
    pub fingerprints: Vec<(Fingerprint, u64)>,
    /// Matching letters with other fingerprints. `fingerprints` has 10,000 at most.
    pub other_fingerprints: u64,
    /// What was read of the topic.
    #[serde(serialize_with = "forms::ranges::serialize")]
    pub ranges: Vec<LetterRange>,
    /// A task on the same dead-letter topic that has not ended, and is not requested to end.
    pub unfinished: Option<String>,
}

/// Why a task that was planned would not begin.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanRefusal {
    /// A task on the same dead-letter topic has not ended.
    Unfinished {
        /// Its name.
        id: String,
    },
    /// Letters match, and they name no retry topic.
    NoRetryTopic {
        /// How many.
        count: u64,
    },
    /// Letters match, and none can be copied.
    NoneCanBeCopied {
        /// How many.
        count: u64,
        /// Of each kind of refusal the first one, in words.
        examples: Vec<String>,
    },
}

impl Planned {
    /// Why the task would not begin, or would copy nothing although letters match. A task that
    /// [takes over](super::RedriveTask::take_over) is not refused for another one.
    pub fn refusal(&self, takes_over: bool) -> Option<PlanRefusal> {
        if let Some(id) = self.unfinished.as_ref().filter(|_| !takes_over) {
            return Some(PlanRefusal::Unfinished { id: id.clone() });
        }
        let count: u64 = self.refused.values().map(|it| it.count).sum();
        if self.turns > 0 || count == 0 {
            return None;
        }
        if let Some(refusals) = self.refused.get(NO_RETRY_TOPIC) {
            let count = refusals.count;
            return Some(PlanRefusal::NoRetryTopic { count });
        }
        let examples = (self.refused.values()).filter_map(|it| it.examples.first().cloned());
        let examples = examples.collect();
        Some(PlanRefusal::NoneCanBeCopied { count, examples })
    }
}

fn counted<S: Serializer>(
    fingerprints: &[(Fingerprint, u64)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Counted<'a> {
        id: String,
        count: u64,
        fingerprint: &'a str,
    }
    serializer.collect_seq(fingerprints.iter().map(|(fingerprint, count)| Counted {
        id: fingerprint.id(),
        count: *count,
        fingerprint: fingerprint.text(),
    }))
}

/// Letters that are refused for one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
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
