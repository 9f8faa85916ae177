//! What names a record in the table, and what an attempt is judged by.

use std::time::SystemTime;

use keylane::Task;
use keylane::processing::{FirstFailure, TaskIdentity};
use keylane_core::inbox::{Judgement, Retried, Times};

/// The key of an entry.
#[derive(Clone, Debug)]
pub struct Entry {
    pub(crate) group: String,
    pub(crate) topic: String,
    pub(crate) partition: i32,
    /// Empty where it is not known.
    pub(crate) log: String,
    pub(crate) offset: i64,
    /// -1 where there is none.
    pub(crate) leader_epoch: i32,
    /// Empty for the one of the caller's transaction.
    pub(crate) effect: String,
}

/// The name of a log in the table.
pub(crate) fn log_name(topic_id: Option<u64>) -> String {
    topic_id.map_or_else(String::new, |id| format!("{id:016x}"))
}

/// An attempt of a record.
pub(crate) struct Attempt(TaskIdentity);

impl Attempt {
    pub(crate) fn of<T>(task: &Task<T>) -> Self {
        Self(task.identity())
    }

    /// Whether the topic's id is still awaited.
    pub(crate) fn awaits_log(&self) -> bool {
        self.0.awaits_log
    }

    pub(crate) fn entry(&self, group: &str, effect: &str) -> Entry {
        let origin = &self.0.origin;
        Entry {
            group: group.to_owned(),
            topic: origin.topic.to_string(),
            partition: origin.partition,
            log: log_name(origin.log.topic_id),
            offset: origin.offset,
            leader_epoch: origin.log.leader_epoch.unwrap_or(-1),
            effect: effect.to_owned(),
        }
    }

    /// To be called after its entry was inserted.
    pub(crate) fn judge(&self, times: &Times) -> Judgement {
        let retried = match self.0.first_failure {
            FirstFailure::Here => Retried::No,
            // In the future: a clock that was wrong, which the margin holds.
            FirstFailure::At(time) => {
                Retried::For(SystemTime::now().duration_since(time).unwrap_or_default())
            }
            FirstFailure::Unknown => Retried::Unknown,
        };
        times.judge(self.age(), retried)
    }

    pub(crate) fn age(&self) -> std::time::Duration {
        self.0.began.elapsed()
    }
}
