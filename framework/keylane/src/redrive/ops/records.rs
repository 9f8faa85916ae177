//! The records of an operations topic. Pure.

use std::time::SystemTime;

use keylane_core::redrive::Canary;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::super::copy::Target;
use super::forms;
use crate::kafka::LetterRange;
use crate::support::clock;

/// The version of what is written. A record with a newer one is not read.
const VERSION: u32 = 1;

/// What a record is about, as its key says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OpsKey {
    Task(String),
    Order(String, u32),
    Progress(String),
    Cancel(String),
    Resolved(Place),
}

/// The first place of a range of letters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) first: i64,
}

impl OpsKey {
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Task(id) => format!("task/{id}"),
            Self::Order(id, number) => format!("task/{id}/order/{number}"),
            Self::Progress(id) => format!("task/{id}/progress"),
            Self::Cancel(id) => format!("task/{id}/cancel"),
            Self::Resolved(place) => {
                format!(
                    "resolved/{}/{}/{}",
                    place.topic, place.partition, place.first
                )
            }
        }
    }

    /// `None` for a key that this version does not have.
    pub(crate) fn read(key: &[u8]) -> Option<Self> {
        let key = std::str::from_utf8(key).ok()?;
        let parts: Vec<&str> = key.split('/').collect();
        Some(match parts[..] {
            ["task", id] => Self::Task(id.to_owned()),
            ["task", id, "progress"] => Self::Progress(id.to_owned()),
            ["task", id, "cancel"] => Self::Cancel(id.to_owned()),
            ["task", id, "order", number] => Self::Order(id.to_owned(), number.parse().ok()?),
            ["resolved", topic, partition, first] => Self::Resolved(Place {
                topic: topic.to_owned(),
                partition: partition.parse().ok()?,
                first: first.parse().ok()?,
            }),
            _ => return None,
        })
    }
}

/// How a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TaskState {
    /// It runs, or its process ended before it did.
    Running,
    /// Every turn was done.
    Done,
    /// By request.
    Cancelled,
    /// It cannot go on.
    Failed,
    /// Too few copies of its canary succeeded.
    CanaryFailed,
}

/// What is done with a letter whose copy cannot be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnRefused {
    /// The task ends as failed. Default.
    #[default]
    Stop,
    /// The letter is passed over, and counted.
    Skip,
}

/// A task, as it was started and as it ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskRecord {
    v: u32,
    /// The dead-letter topic.
    pub topic: String,
    /// The id of its log: a topic that is re-created has other letters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) log: Option<String>,
    /// The consumer group that gave the records up.
    pub group: String,
    /// The filter's terms.
    pub filter: String,
    pub(crate) target: Target,
    /// The topics that its copies go to.
    pub targets: Vec<String>,
    /// How many times the same record may be written back.
    pub max_count: u32,
    /// Its settings.
    pub settings: TaskSettings,
    /// What it does to each value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edit: Option<String>,
    /// What matched when it was started.
    pub counts: TaskCounts,
    /// What was read of the dead-letter topic then.
    #[serde(with = "forms::ranges")]
    pub ranges: Vec<LetterRange>,
    /// The ends of its target topics then, of a task with a canary: topic, partition, offset.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) target_ends: Vec<(String, i32, i64)>,
    /// Who started it.
    pub who: String,
    /// From where.
    pub host: String,
    /// When.
    #[serde(with = "forms::time")]
    pub started: SystemTime,
    /// How it stands.
    pub state: TaskState,
    /// When it ended.
    #[serde(
        default,
        with = "forms::maybe_time",
        skip_serializing_if = "Option::is_none"
    )]
    pub ended: Option<SystemTime>,
    /// Why it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A task's settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskSettings {
    /// Copies of a transaction at most.
    pub window: u32,
    /// Copies a second at most.
    pub rate: Option<u32>,
    /// Copies at most.
    pub max: Option<u64>,
    /// Copies and percent of the canary.
    #[serde(default, with = "forms::canary")]
    pub canary: Option<Canary>,
    /// What is done with a letter whose copy cannot be written.
    #[serde(default)]
    pub on_refused: OnRefused,
}

/// What matched when a task was started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskCounts {
    /// Letters that match.
    pub matched: u64,
    /// Those of them that are copied: the turns.
    pub turns: u64,
    /// Those that were redriven or resolved before.
    #[serde(default)]
    pub handled: u64,
    /// Those that the guard against loops refused.
    pub guard: u64,
    /// Those that were refused for other reasons.
    pub refused: u64,
}

/// How far a task is. It is written in the transaction of its copies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskProgress {
    v: u32,
    /// Turns that are done: with a copy, or without one.
    pub done: u64,
    /// Those of them whose letters are no longer in the topic.
    pub gone: u64,
    /// Those of them that were passed over, by number from 0.
    pub refused: Vec<u64>,
    /// When.
    #[serde(with = "forms::time")]
    pub at: SystemTime,
}

/// A request to end a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CancelRequest {
    v: u32,
    /// Who wants it.
    pub who: String,
    /// Why.
    pub why: String,
    /// Since when.
    #[serde(with = "forms::time")]
    pub at: SystemTime,
}

/// A range of letters that were handled by hand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Resolution {
    v: u32,
    /// The last offset.
    pub last: i64,
    /// The id of the log of the dead-letter topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) log: Option<String>,
    /// Who did it.
    pub who: String,
    /// Why.
    pub why: String,
    /// When.
    #[serde(with = "forms::time")]
    pub at: SystemTime,
}

impl TaskRecord {
    /// One that runs, with nothing else said about it.
    pub(crate) fn new(topic: &str, group: &str, target: Target, max_count: u32) -> Self {
        Self {
            v: VERSION,
            topic: topic.to_owned(),
            log: None,
            group: group.to_owned(),
            filter: String::new(),
            target,
            targets: Vec::new(),
            max_count,
            settings: TaskSettings::default(),
            edit: None,
            counts: TaskCounts::default(),
            ranges: Vec::new(),
            target_ends: Vec::new(),
            who: String::new(),
            host: String::new(),
            started: clock::wall(),
            state: TaskState::Running,
            ended: None,
            reason: None,
        }
    }

    pub(crate) fn end(&mut self, state: TaskState, reason: Option<String>) {
        self.state = state;
        self.ended = Some(clock::wall());
        self.reason = reason;
    }
}

impl TaskProgress {
    pub(crate) fn new(done: u64, gone: u64, refused: Vec<u64>) -> Self {
        Self {
            v: VERSION,
            done,
            gone,
            refused,
            at: clock::wall(),
        }
    }
}

impl CancelRequest {
    pub(crate) fn new(who: &str, why: &str) -> Self {
        Self {
            v: VERSION,
            who: who.to_owned(),
            why: why.to_owned(),
            at: clock::wall(),
        }
    }
}

impl Resolution {
    pub(crate) fn new(last: i64, log: Option<String>, who: &str, why: &str) -> Self {
        Self {
            v: VERSION,
            last,
            log,
            who: who.to_owned(),
            why: why.to_owned(),
            at: clock::wall(),
        }
    }
}

/// Why a value is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    Newer,
    Damaged,
}

/// Reads a value. Fields that this version does not have are ignored.
pub(crate) fn read<T: DeserializeOwned>(value: &[u8]) -> Result<T, Unread> {
    #[derive(Deserialize)]
    struct Version {
        v: u32,
    }
    let version: Version = serde_json::from_slice(value).map_err(|_| Unread::Damaged)?;
    if version.v > VERSION {
        return Err(Unread::Newer);
    }
    serde_json::from_slice(value).map_err(|_| Unread::Damaged)
}

/// Writes a value.
pub(crate) fn written<T: Serialize>(value: &T) -> Vec<u8> {
    // Nothing of ours has a map with other keys than text, the only failure.
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_written_and_others_are_passed_over() {
        let id = || "a-1".to_owned();
        let place = Place {
            topic: "x-dlq".to_owned(),
            partition: 3,
            first: 42,
        };
        for key in [
            OpsKey::Task(id()),
            OpsKey::Order(id(), 7),
            OpsKey::Progress(id()),
            OpsKey::Cancel(id()),
            OpsKey::Resolved(place),
        ] {
            assert_eq!(OpsKey::read(key.text().as_bytes()), Some(key));
        }
        for key in [
            "",
            "task",
            "task/a/b",
            "task/a/order/x",
            "resolved/t/1",
            "other/a",
        ] {
            assert_eq!(OpsKey::read(key.as_bytes()), None, "{key}");
        }
    }

    #[test]
    fn a_task_is_read_back_unknown_fields_are_ignored_and_a_newer_version_is_told() {
        let mut task = TaskRecord::new("x-dlq", "billing", Target::RetryTopic, 3);
        task.settings.canary = Some(Canary {
            copies: 5,
            percent: 90,
        });
        task.ranges = vec![LetterRange::new(1, 2, 3)];
        task.end(TaskState::CanaryFailed, Some("3 of 5 failed".to_owned()));
        // The text has milliseconds.
        let value = written(&task);
        let read_back: TaskRecord = read(&value).unwrap();
        assert_eq!(written(&read_back), value);
        let mut json: serde_json::Value = serde_json::from_slice(&value).unwrap();
        assert_eq!(json["state"], "canary-failed");
        assert_eq!(json["target"]["to"], "retry-topic");
        assert_eq!(json["ranges"][0][2], 3);
        json["later"] = serde_json::json!({ "a": 1 });
        let value = serde_json::to_vec(&json).unwrap();
        assert_eq!(read::<TaskRecord>(&value).unwrap(), read_back);
        json["v"] = 2.into();
        json["state"] = "unheard-of".into();
        let value = serde_json::to_vec(&json).unwrap();
        assert_eq!(read::<TaskRecord>(&value), Err(Unread::Newer));
        assert_eq!(read::<TaskProgress>(b"{\"v\":1}"), Err(Unread::Damaged));
    }
}
