//! The copy of a dead letter. Pure.

use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::RedriveError;
use crate::dead_letter::{
    Letter, REDRIVE_COUNT, REDRIVE_ID, StoredLetter, WrittenBy, headers_before, last_metadata,
    push_origin,
};
use crate::kafka::topics::map_partition;
use crate::record::TASK_METADATA;
use crate::{Headers, NewTask, Task};

const LONGEST_NAME: usize = 100;
const MAX_COUNT: u32 = 3;

/// How dead letters are written back: to which topic, and how many times the same record may be.
///
/// By default a copy goes to the retry topic that the letter names, for the group that gave the
/// record up: no other group gets it again. Name that topic to the producer, too
/// ([`TaskProducerBuilder::topic`](crate::producer::TaskProducerBuilder::topic)).
///
/// # Order
/// Copies of one key stay in the order in which they are enqueued, in the partition that the key
/// chooses. Letters lie in the order in which records were given up, which may be another than that
/// of the origin. The retries of a subscription go to the partition of the origin, modulo the number
/// of the retry topic's. That is the key's partition if both topics have the same number, and the
/// producer chose it by the key; otherwise set [`partitions`](Self::partitions).
///
/// # Examples
/// ```
/// use keylane::NewTask;
/// use keylane::dead_letter::StoredLetter;
/// use keylane::redrive::{Redrive, RedriveError};
///
/// fn copy(letter: &StoredLetter) -> Result<NewTask, RedriveError> {
///     Redrive::named("after-the-outage")?.max_count(1).copy(letter)
/// }
/// # let _ = copy;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redrive {
    name: String,
    target: Target,
    max_count: u32,
    partitions: Option<i32>,
}

/// Where copies go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "to", rename_all = "kebab-case")]
pub(crate) enum Target {
    RetryTopic,
    Origin,
    Topic {
        topic: String,
        group: Option<String>,
    },
}

/// Under the name `library`.
impl Default for Redrive {
    fn default() -> Self {
        Self {
            name: "library".to_owned(),
            target: Target::RetryTopic,
            max_count: MAX_COUNT,
            partitions: None,
        }
    }
}

impl Redrive {
    /// One of this name, which the copies have in their `keylane-redrive-id`.
    ///
    /// # Errors
    /// [`RedriveError::Name`] where it is empty, longer than 100 bytes, or has other characters than
    /// ASCII letters, digits, `.`, `-` and `_`.
    pub fn named(name: impl Into<String>) -> Result<Self, RedriveError> {
        let name = name.into();
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(is_allowed) {
            return Err(RedriveError::Name);
        }
        Ok(Self {
            name,
            ..Self::default()
        })
    }

    /// The redrive of a task: one like it, by the task's name.
    pub(super) fn of_task(id: &str, target: Target, max_count: u32) -> Result<Self, RedriveError> {
        let named = Self::named(id)?;
        Ok(Self {
            target,
            max_count,
            ..named
        })
    }

    /// Whether it has a name or partitions of its own, which a task sets itself.
    pub(super) fn is_named_or_partitioned(&self) -> bool {
        self.partitions.is_some() || self.name != Self::default().name
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    pub(super) fn limit(&self) -> u32 {
        self.max_count
    }

    /// To the topic where the record was read first. **Every** group that reads that topic gets the
    /// record again.
    #[must_use]
    pub fn to_origin(mut self) -> Self {
        self.target = Target::Origin;
        self
    }

    /// To this topic. Every group that reads it gets the record.
    #[must_use]
    pub fn to_topic(mut self, topic: impl Into<String>) -> Self {
        self.target = Target::Topic {
            topic: topic.into(),
            group: None,
        };
        self
    }

    /// To this retry topic, for this group alone: for letters that name no retry topic.
    #[must_use]
    pub fn to_retry_topic_of(
        mut self,
        group: impl Into<String>,
        retry_topic: impl Into<String>,
    ) -> Self {
        self.target = Target::Topic {
            topic: retry_topic.into(),
            group: Some(group.into()),
        };
        self
    }

    /// How many times the same record may be written back; a letter of a record that was is refused
    /// ([`RedriveError::TooOften`]). Default: 3. `u32::MAX` is no limit: a letter whose count cannot be
    /// read ([`RedriveError::UnreadableCount`]) is written back too.
    #[must_use]
    pub fn max_count(mut self, count: u32) -> Self {
        self.max_count = count;
        self
    }

    /// The number of the target's partitions: a copy goes to the origin's partition, modulo this
    /// number, as retries do. Default: the partition that the key chooses, as for a letter that does
    /// not say where its record came from.
    #[must_use]
    pub fn partitions(mut self, partitions: u16) -> Self {
        self.partitions = (partitions > 0).then_some(partitions.into());
        self
    }

    /// The copy of this letter.
    ///
    /// # Errors
    /// [`RedriveError`] where there can be none, or is to be none.
    pub fn copy(&self, stored: &StoredLetter) -> Result<NewTask, RedriveError> {
        let letter = stored.letter();
        let place = || place_of(stored.topic(), stored.partition(), stored.offset());
        self.check_count(letter.redrive_count, place)?;
        let record = stored.record();
        let is_empty = record.key().is_none() && record.value().is_none();
        if letter.written_by == WrittenBy::ShareGroup && is_empty {
            return Err(RedriveError::NoContent { place: place() });
        }
        let origin = letter.origin.as_ref();
        let (topic, group) = match &self.target {
            Target::RetryTopic => (letter.retry_topic.as_deref(), Some(letter.group.as_deref())),
            Target::Origin => (origin.map(|origin| &*origin.topic), None),
            Target::Topic { topic, group } => (Some(topic.as_str()), Some(group.as_deref())),
        };
        let Some(topic) = topic else {
            let place = place();
            return Err(match self.target {
                Target::Origin => RedriveError::NoOrigin { place },
                _ => RedriveError::NoRetryTopic { place },
            });
        };
        let mut headers = headers_before(stored.headers(), letter.written_by);
        let metadata = last_metadata(&headers);
        headers.remove(TASK_METADATA);
        if headers.iter().any(|(name, _)| name.is_empty()) {
            return Err(RedriveError::HeaderName { place: place() });
        }
        // In an origin topic they would say nothing: the record is a new one there.
        if let Some(group) = group {
            push_origin_of(&mut headers, letter, group);
        }
        let count = letter.redrive_count.saturating_add(1);
        headers.push(REDRIVE_COUNT, count.to_string());
        headers.push(REDRIVE_ID, self.id(stored));
        let mut copy = NewTask::again(topic, record, headers, metadata);
        if let (Some(origin), Some(partitions)) = (origin, self.partitions) {
            copy = copy.partition(map_partition(origin.partition, partitions));
        }
        Ok(copy)
    }

    fn check_count(&self, count: u32, place: impl Fn() -> String) -> Result<(), RedriveError> {
        let max_count = self.max_count;
        if max_count == u32::MAX || count < max_count {
            return Ok(());
        }
        let place = place();
        Err(match count {
            u32::MAX => RedriveError::UnreadableCount { place },
            _ => RedriveError::TooOften {
                place,
                count,
                max_count,
            },
        })
    }

    /// Which act of this redrive writes this letter back, in the header `keylane-redrive-id`.
    pub fn id(&self, stored: &StoredLetter) -> String {
        self.id_of(stored.topic(), stored.partition(), stored.offset())
    }

    pub(super) fn id_of(&self, topic: &str, partition: i32, offset: i64) -> String {
        format!("{}/{topic}/{partition}/{offset}", self.name)
    }
}

/// A letter that names a group and no origin is for that group too.
fn push_origin_of(headers: &mut Headers, letter: &Letter, group: Option<&str>) {
    let timestamp = letter.origin_timestamp.and_then(|at| {
        let millis = match at.duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()),
            Err(before) => i64::try_from(before.duration().as_millis()).map(|millis| -millis),
        };
        millis.ok()
    });
    push_origin(headers, letter.origin.as_ref(), timestamp, group);
}

fn place_of(topic: &str, partition: i32, offset: i64) -> String {
    format!("{topic}-{partition}@{offset}")
}

impl NewTask {
    /// A copy of the record of this dead letter, for the group that gave it up: to the retry topic
    /// that the letter names. What a copy has is in [`redrive`](crate::redrive), and how to send it
    /// elsewhere in [`Redrive`].
    ///
    /// The task has to be read from a dead-letter topic, by a subscription that retries in place
    /// only: a retry through a topic names the dead-letter topic as origin.
    ///
    /// # Errors
    /// [`RedriveError`] where the record is no dead letter, names no retry topic, or was written
    /// back three times before.
    ///
    /// # Examples
    /// ```
    /// use keylane::testing::TestTask;
    /// use keylane::{Headers, NewTask};
    ///
    /// let headers: Headers = [
    ///     ("keylane-origin-topic", "parking"),
    ///     ("keylane-origin-partition", "3"),
    ///     ("keylane-origin-offset", "42"),
    ///     ("keylane-group", "notifier"),
    ///     ("keylane-reason", "exhausted"),
    ///     ("keylane-retry-topic", "parking-retry"),
    ///     ("keylane-redrive-count", "3"),
    /// ]
    /// .into_iter()
    /// .collect();
    /// let task = TestTask::new(()).headers(headers).at("parking-dead", 0, 17).build();
    /// let error = NewTask::from_dead_letter(&task).unwrap_err();
    /// assert!(error.to_string().starts_with("the record of the dead letter at parking-dead-0@17 was written back 3 times"));
    /// ```
    pub fn from_dead_letter<T>(task: &Task<T>) -> Result<Self, RedriveError> {
        let (topic, partition) = (task.source.topic.clone(), task.partition());
        let stored = StoredLetter::new(topic, partition, task.record().clone());
        let stored = stored.ok_or_else(|| RedriveError::NotADeadLetter {
            place: place_of(task.topic(), partition, task.offset()),
        })?;
        Redrive::default().copy(&stored)
    }
}

#[cfg(test)]
mod tests;
