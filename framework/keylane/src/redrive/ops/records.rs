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
/// More are not kept of a task.
const MOST_RESUMES: usize = 20;

/// What a record is about, as its key says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OpsKey {
    Task(String),
    Order(String, u32),
    Progress(String),
    Cancel(String),
    Resolved(Place),
}

/// A range of letters. Two ranges that overlap have two keys: a write replaces no other range.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) first: i64,
    pub(crate) last: i64,
}

impl OpsKey {
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Task(id) => format!("task/{id}"),
            Self::Order(id, number) => format!("task/{id}/order/{number}"),
            Self::Progress(id) => format!("task/{id}/progress"),
            Self::Cancel(id) => format!("task/{id}/cancel"),
            Self::Resolved(it) => {
                format!(
                    "resolved/{}/{}/{}/{}",
                    it.topic, it.partition, it.first, it.last
                )
            }
        }
    }

    /// The task that it is about.
    pub(crate) fn task(&self) -> Option<&str> {
        match self {
            Self::Task(id) | Self::Order(id, _) | Self::Progress(id) | Self::Cancel(id) => Some(id),
            Self::Resolved(_) => None,
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
            ["resolved", topic, partition, first, last] => Self::Resolved(Place {
                topic: topic.to_owned(),
                partition: partition.parse().ok()?,
                first: first.parse().ok()?,
                last: last.parse().ok()?,
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
    /// The task runs, or it was left when its process ended.
    Running,
    /// Every turn was done.
    Done,
    /// The task ended by request.
    Cancelled,
    /// The task cannot go on.
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
    /// The targets as they were when it was started. A record of an earlier version has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) partitions: Vec<TargetPartitions>,
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
    /// For a canary, the ends of the target topics and the dead-letter topic before the first copy:
    /// topic, partition, offset.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) target_ends: Vec<(String, i32, i64)>,
    /// Who started it.
    pub who: String,
    /// Why, where that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The host where it was started.
    pub host: String,
    /// When it was started.
    #[serde(with = "forms::time")]
    pub started: SystemTime,
    /// The runs that went on with it, the last 20 of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resumes: Vec<TaskResume>,
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

/// A target topic as it was when a task was started. Its form is an array.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(String, i32, u64)", into = "(String, i32, u64)")]
pub(crate) struct TargetPartitions {
    pub(crate) topic: String,
    /// How many it had. Copies go to these, also where it has more by now: a key's copies stay in one
    /// partition.
    pub(crate) count: i32,
    /// The last turn whose copy goes there, from 0.
    pub(crate) last_turn: u64,
}

impl From<(String, i32, u64)> for TargetPartitions {
    fn from((topic, count, last_turn): (String, i32, u64)) -> Self {
        Self {
            topic,
            count,
            last_turn,
        }
    }
}

impl From<TargetPartitions> for (String, i32, u64) {
    fn from(it: TargetPartitions) -> Self {
        (it.topic, it.count, it.last_turn)
    }
}

/// A run that went on with a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskResume {
    /// Who resumed it.
    pub who: String,
    /// Why, where that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// From where.
    pub host: String,
    /// When.
    #[serde(with = "forms::time")]
    pub at: SystemTime,
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
    /// Matching letters that are copied: the turns.
    pub turns: u64,
    /// Matching letters that were redriven or resolved before.
    #[serde(default)]
    pub handled: u64,
    /// Matching letters that the guard against loops refused.
    pub guard: u64,
    /// Matching letters that were refused for other reasons.
    pub refused: u64,
}

/// How far a task is. It is written in the transaction of its copies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskProgress {
    v: u32,
    /// Turns that are done: with a copy, or without one.
    pub done: u64,
    /// Turns whose letters are no longer in the topic.
    pub gone: u64,
    /// Turns that were passed over, by number from 0, ascending. Stored as ranges.
    #[serde(with = "forms::numbers")]
    pub refused: Vec<u64>,
    /// The number of the run that wrote it: executors tell themselves from others by it.
    #[serde(default)]
    pub(crate) run: u32,
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
    /// When.
    #[serde(with = "forms::time")]
    pub at: SystemTime,
}

/// A range of letters that were handled by hand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Resolution {
    v: u32,
    /// The id of the log of the dead-letter topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) log: Option<String>,
    /// Whether this range is no longer resolved as a whole.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) taken_back: bool,
    /// Who did it.
    pub who: String,
    /// Why.
    pub why: String,
    /// When.
    #[serde(with = "forms::time")]
    pub at: SystemTime,
}

impl TaskRecord {
    /// The record of a task that runs, with nothing else said about it.
    pub(crate) fn new(topic: &str, group: &str, target: Target, max_count: u32) -> Self {
        Self {
            v: VERSION,
            topic: topic.to_owned(),
            log: None,
            group: group.to_owned(),
            filter: String::new(),
            target,
            targets: Vec::new(),
            partitions: Vec::new(),
            max_count,
            settings: TaskSettings::default(),
            edit: None,
            counts: TaskCounts::default(),
            ranges: Vec::new(),
            target_ends: Vec::new(),
            who: String::new(),
            why: None,
            host: String::new(),
            started: clock::wall(),
            resumes: Vec::new(),
            state: TaskState::Running,
            ended: None,
            reason: None,
        }
    }

    pub(crate) fn resume(&mut self, who: &str, why: Option<&str>, host: &str) {
        self.resumes.push(TaskResume {
            who: who.to_owned(),
            why: why.map(str::to_owned),
            host: host.to_owned(),
            at: clock::wall(),
        });
        let oldest = self.resumes.len().saturating_sub(MOST_RESUMES);
        self.resumes.drain(..oldest);
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
            run: 0,
            at: clock::wall(),
        }
    }

    /// As the run of this number writes it.
    pub(crate) fn of_run(self, run: u32) -> Self {
        Self { run, ..self }
    }

    /// How many of the turns that are done have a copy.
    pub(crate) fn copies(&self) -> u64 {
        self.done
            .saturating_sub(self.gone + self.refused.len() as u64)
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

    pub(crate) fn text(&self) -> String {
        format!("by {}: {}", self.who, self.why)
    }

    /// A request that cannot be read, as a newer version may write it, ends the task all the same.
    pub(crate) fn read(value: &[u8]) -> Self {
        read(value).unwrap_or_else(|_| {
            Self::new(
                "unknown",
                "the request cannot be read, and may be of a newer version",
            )
        })
    }
}

impl Resolution {
    pub(crate) fn new(log: Option<String>, who: &str, why: &str) -> Self {
        Self {
            v: VERSION,
            log,
            taken_back: false,
            who: who.to_owned(),
            why: why.to_owned(),
            at: clock::wall(),
        }
    }

    pub(crate) fn taken_back(self) -> Self {
        Self {
            taken_back: true,
            ..self
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
            last: 43,
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
            "resolved/t/1/2",
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
        task.partitions = vec![("retry".to_owned(), 4, 59).into()];
        (0..25).for_each(|it| task.resume(&format!("operator {it}"), None, "here"));
        assert_eq!(task.resumes.len(), 20);
        assert_eq!(task.resumes[19].who, "operator 24");
        task.end(TaskState::CanaryFailed, Some("3 of 5 failed".to_owned()));
        // The text has milliseconds.
        let value = written(&task);
        let read_back: TaskRecord = read(&value).unwrap();
        assert_eq!(written(&read_back), value);
        let mut json: serde_json::Value = serde_json::from_slice(&value).unwrap();
        assert_eq!(json["state"], "canary-failed");
        assert_eq!(json["target"]["to"], "retry-topic");
        assert_eq!(json["ranges"][0][2], 3);
        assert_eq!(json["partitions"][0][1], 4);
        json["later"] = serde_json::json!({ "a": 1 });
        let value = serde_json::to_vec(&json).unwrap();
        assert_eq!(read::<TaskRecord>(&value).unwrap(), read_back);
        json["v"] = 2.into();
        json["state"] = "unheard-of".into();
        let value = serde_json::to_vec(&json).unwrap();
        assert_eq!(read::<TaskRecord>(&value), Err(Unread::Newer));
        assert_eq!(read::<TaskProgress>(b"{\"v\":1}"), Err(Unread::Damaged));
    }

    /// A task may pass over 1,000,000 letters; its progress is written with each transaction.
    #[test]
    fn letters_that_were_passed_over_are_stored_as_ranges() {
        let refused: Vec<u64> = (5..900_000).chain([1_000_000]).collect();
        let progress = TaskProgress::new(2_000_000, 1, refused.clone());
        assert_eq!(progress.copies(), 2_000_000 - 1 - 899_996);
        let value = written(&progress);
        let json: serde_json::Value = serde_json::from_slice(&value).unwrap();
        let ranges = serde_json::json!([[5, 899_999], [1_000_000, 1_000_000]]);
        assert_eq!(json["refused"], ranges);
        assert_eq!(read::<TaskProgress>(&value).unwrap().refused, refused);
        for foreign in ["[[0,18446744073709551615]]", "[[3,2]]", "[7]"] {
            let text = String::from_utf8(value.clone()).unwrap();
            let at = text.find("\"refused\":").unwrap() + 10;
            let end = text.find(",\"at\"").unwrap();
            let text = format!("{}{foreign}{}", &text[..at], &text[end..]);
            assert_eq!(
                read::<TaskProgress>(text.as_bytes()),
                Err(Unread::Damaged),
                "{text}"
            );
        }
    }
}
