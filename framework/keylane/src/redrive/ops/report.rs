//! A task in one row of figures: what commands and the admin server show.

use std::time::SystemTime;

use keylane_core::redrive::Canary;
use serde::Serialize;

use super::{TaskState, TaskStatus, forms};

/// A task, as commands and HTTP answers show it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TaskReport {
    /// The consumer group that gave the records up.
    pub group: String,
    /// The task's name.
    pub task: String,
    /// The dead-letter topic.
    pub topic: String,
    /// How it stands. One whose process was killed is `running` until it is resumed.
    pub state: TaskState,
    /// Why it ended.
    pub reason: Option<String>,
    /// Letters that are done: with a copy, or without one.
    pub done: u64,
    /// Letters of the task, up to its `max`.
    pub of: u64,
    /// Letters that were no longer in the topic.
    pub gone: u64,
    /// Letters that were passed over.
    pub refused: u64,
    /// Letters that matched when it was started.
    pub matched: u64,
    /// Those of them that were redriven or resolved before.
    pub handled_before: u64,
    /// Those of them that were refused at once.
    pub refused_at_start: u64,
    /// The filter's terms; `None` where all letters match.
    pub filter: Option<String>,
    /// The topics that its copies go to.
    pub targets: Vec<String>,
    /// Copies of a transaction at most.
    pub window: u32,
    /// Copies a second at most.
    pub rate: Option<u32>,
    /// Copies at most.
    pub max: Option<u64>,
    /// Copies that have to succeed before others begin.
    pub canary: Option<CanaryReport>,
    /// How many times the same record may be written back.
    pub max_count: u32,
    /// What it does to each value.
    pub edit: Option<String>,
    /// Who started it.
    pub by: String,
    /// Why, where that was said.
    pub why: Option<String>,
    /// The host where it was started.
    pub host: String,
    /// When it was started.
    #[serde(serialize_with = "forms::time::serialize")]
    pub started: SystemTime,
    /// When its last transaction was written.
    #[serde(serialize_with = "forms::maybe_time::serialize")]
    pub last_progress: Option<SystemTime>,
    /// When it ended.
    #[serde(serialize_with = "forms::maybe_time::serialize")]
    pub ended: Option<SystemTime>,
    /// The request to end it.
    pub cancel: Option<CancelReport>,
}

/// The canary of a [`TaskReport`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CanaryReport {
    /// How many copies.
    pub copies: u32,
    /// How many in a hundred of them have to succeed.
    pub percent: u8,
}

/// The request to end a task, of a [`TaskReport`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CancelReport {
    /// Who wants it.
    pub by: String,
    /// Why.
    pub why: String,
}

impl TaskStatus<'_> {
    /// All of it in one row.
    pub fn report(&self) -> TaskReport {
        let Self {
            id,
            record,
            progress,
            cancel,
        } = *self;
        let (counts, settings) = (&record.counts, &record.settings);
        let canary = |Canary { copies, percent }| CanaryReport { copies, percent };
        TaskReport {
            group: record.group.clone(),
            task: id.to_owned(),
            topic: record.topic.clone(),
            state: record.state,
            reason: record.reason.clone(),
            done: progress.map_or(0, |it| it.done),
            of: settings
                .max
                .map_or(counts.turns, |max| max.min(counts.turns)),
            gone: progress.map_or(0, |it| it.gone),
            refused: progress.map_or(0, |it| it.refused.len() as u64),
            matched: counts.matched,
            handled_before: counts.handled,
            refused_at_start: counts.guard + counts.refused,
            filter: Some(record.filter.clone()).filter(|it| !it.is_empty()),
            targets: record.targets.clone(),
            window: settings.window,
            rate: settings.rate,
            max: settings.max,
            canary: settings.canary.map(canary),
            max_count: record.max_count,
            edit: record.edit.clone(),
            by: record.who.clone(),
            why: record.why.clone(),
            host: record.host.clone(),
            started: record.started,
            last_progress: progress.map(|it| it.at),
            ended: record.ended,
            cancel: cancel.map(|it| CancelReport {
                by: it.who.clone(),
                why: it.why.clone(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::records::{TaskProgress, TaskRecord};
    use super::*;
    use crate::redrive::copy::Target;

    #[test]
    fn a_report_has_the_figures_of_its_task_and_null_for_what_there_is_not() {
        let mut record = TaskRecord::new("dead", "billing", Target::RetryTopic, 3);
        (
            record.counts.turns,
            record.counts.guard,
            record.counts.refused,
        ) = (9, 1, 2);
        (record.settings.max, record.who) = (Some(5), "ann".to_owned());
        record.settings.canary = Some(Canary {
            copies: 2,
            percent: 90,
        });
        let progress = TaskProgress::new(4, 1, vec![2]);
        let status = TaskStatus {
            id: "a-1",
            record: &record,
            progress: Some(&progress),
            cancel: None,
        };
        let json = serde_json::to_value(status.report()).unwrap();
        assert_eq!(
            [&json["done"], &json["of"], &json["gone"], &json["refused"]],
            [4, 5, 1, 1]
        );
        assert_eq!(
            (&json["refused_at_start"], &json["state"]),
            (&3.into(), &"running".into())
        );
        assert_eq!(
            json["canary"],
            serde_json::json!({"copies": 2, "percent": 90})
        );
        for field in ["filter", "reason", "ended", "cancel", "why", "rate"] {
            assert_eq!(json.get(field), Some(&serde_json::Value::Null), "{field}");
        }
    }
}
