//! `dt_meta`: Decaton's task metadata, as Decaton's protobuf messages code it.
//!
//! | field | type | tag byte |
//! |---|---|---|
//! | 1 `timestamp_millis` | int64 | `0x08` |
//! | 2 `source_application_id` | string | `0x12` |
//! | 3 `source_instance_id` | string | `0x1a` |
//! | 4 `retry_count` | int64 | `0x20` |
//! | 5 `scheduled_time_millis` | int64 | `0x28` |

use bytes::Bytes;
use prost::Message;

use super::{DecodeError, legacy_task};

/// The name of the header. Where it repeats, the last one counts.
pub(crate) const HEADER: &str = "dt_meta";

/// A producer's metadata of a task, in Decaton's `dt_meta` header.
///
/// Written on every task by [`TaskProducer`](crate::TaskProducer) and understood by Decaton from
/// version 9.0 on; read from the tasks of both. In the tasks of older clients of Decaton it is in
/// the value: see [`LegacyTasks`](crate::config::LegacyTasks).
///
/// # Examples
/// ```
/// # fn show(task: keylane::Task<String>) {
/// if let Some(metadata) = task.metadata() {
///     println!("made by {} at {}", metadata.source_application_id, metadata.timestamp_millis);
/// }
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskMetadata {
    /// When the task was made, in milliseconds since the Unix epoch.
    pub timestamp_millis: i64,
    /// The application that made it.
    pub source_application_id: String,
    /// The instance of that application.
    pub source_instance_id: String,
    /// How often it went through a retry topic.
    pub retry_count: i64,
    /// Not to be processed before this time, in milliseconds since the Unix epoch; 0 is at once.
    pub scheduled_time_millis: i64,
}

/// Decaton's `TaskMetadataProto`. Not the public type: prost may change without keylane.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Proto {
    #[prost(int64, tag = "1")]
    timestamp_millis: i64,
    #[prost(string, tag = "2")]
    source_application_id: String,
    #[prost(string, tag = "3")]
    source_instance_id: String,
    #[prost(int64, tag = "4")]
    retry_count: i64,
    #[prost(int64, tag = "5")]
    scheduled_time_millis: i64,
}

impl From<Proto> for TaskMetadata {
    fn from(proto: Proto) -> Self {
        Self {
            timestamp_millis: proto.timestamp_millis,
            source_application_id: proto.source_application_id,
            source_instance_id: proto.source_instance_id,
            retry_count: proto.retry_count,
            scheduled_time_millis: proto.scheduled_time_millis,
        }
    }
}

impl From<TaskMetadata> for Proto {
    fn from(metadata: TaskMetadata) -> Self {
        Self {
            timestamp_millis: metadata.timestamp_millis,
            source_application_id: metadata.source_application_id,
            source_instance_id: metadata.source_instance_id,
            retry_count: metadata.retry_count,
            scheduled_time_millis: metadata.scheduled_time_millis,
        }
    }
}

impl TaskMetadata {
    /// The header's value. Fields with their default value are left out, as proto3 does.
    pub(crate) fn encode(self) -> Bytes {
        Proto::from(self).encode_to_vec().into()
    }

    /// Reads a header's value; no bytes at all are the defaults. Unknown fields are skipped and the
    /// last of a field wins.
    ///
    /// # Errors
    /// Bytes that are not a well-formed message of Decaton's schema.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, prost::DecodeError> {
        Proto::decode(bytes).map(Self::from)
    }

    /// Reads the wrapper that Decaton's clients before version 9 put around a task:
    /// `DecatonTaskRequest {1: metadata, 2: task}`. The task shares the memory of `value`.
    ///
    /// A subscription does that by itself where [`LegacyTasks`](crate::config::LegacyTasks) is set.
    /// This is for other readers, for example of dead letters. Nothing marks a wrapper, so use it
    /// only for a record without a `dt_meta` header.
    ///
    /// # Errors
    /// Bytes that are not wholly a wrapper: the metadata is missing or malformed, or there is a
    /// field that Decaton does not write.
    ///
    /// # Examples
    /// ```
    /// use bytes::Bytes;
    /// use keylane::record::TaskMetadata;
    ///
    /// let value = Bytes::from_static(b"\x0a\x07\x08\x05\x12\x03app\x12\x04task");
    /// let (metadata, task) = TaskMetadata::decode_legacy_request(&value)?;
    /// assert_eq!((&*metadata.source_application_id, &task[..]), ("app", &b"task"[..]));
    /// # Ok::<(), keylane::error::DecodeError>(())
    /// ```
    pub fn decode_legacy_request(value: &Bytes) -> Result<(Self, Bytes), DecodeError> {
        match legacy_task::unwrap(value) {
            Some((metadata, task)) => Ok((metadata, value.slice(task))),
            None => Err(DecodeError::new("it is not a DecatonTaskRequest")),
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
