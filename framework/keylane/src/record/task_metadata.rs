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

use super::DecodeError;

/// The name of the header. Where it repeats, the last one counts.
pub(crate) const HEADER: &str = "dt_meta";

/// A producer's metadata of a task, in Decaton's `dt_meta` header.
///
/// Written on every task by [`TaskProducer`](crate::TaskProducer) and understood by Decaton; read
/// from the tasks of both.
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
struct Proto {
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

/// The wrapper that Decaton up to version 8 put around a task.
#[derive(Clone, PartialEq, Message)]
struct LegacyRequest {
    #[prost(message, optional, tag = "1")]
    metadata: Option<Proto>,
    #[prost(bytes = "bytes", tag = "2")]
    serialized_task: Bytes,
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

impl TaskMetadata {
    /// The header's value. Fields with their default value are left out, as proto3 does.
    pub(crate) fn encode(self) -> Bytes {
        let proto = Proto {
            timestamp_millis: self.timestamp_millis,
            source_application_id: self.source_application_id,
            source_instance_id: self.source_instance_id,
            retry_count: self.retry_count,
            scheduled_time_millis: self.scheduled_time_millis,
        };
        proto.encode_to_vec().into()
    }

    /// Reads a header's value; no bytes at all are the defaults. Unknown fields are skipped and the
    /// last of a field wins.
    ///
    /// # Errors
    /// Bytes that are not a well-formed message of Decaton's schema.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, prost::DecodeError> {
        Proto::decode(bytes).map(Self::from)
    }

    /// Reads the wrapper that Decaton up to version 8 put around a task: `DecatonTaskRequest {1:
    /// metadata, 2: task}`.
    ///
    /// Nothing marks such a record, and some other byte strings read as a wrapper too: use it where
    /// the topic is known to hold wrapped tasks. The task shares the memory of `value`.
    ///
    /// # Errors
    /// Bytes that are not a well-formed message.
    ///
    /// # Examples
    /// A decoder for a topic that old Decaton clients still write to:
    /// ```
    /// use keylane::error::DecodeError;
    /// use keylane::record::{Record, TaskMetadata};
    /// use keylane::{Decode, Json};
    ///
    /// struct LegacyJson;
    ///
    /// impl<T: serde::de::DeserializeOwned> Decode<T> for LegacyJson {
    ///     fn decode(&self, record: &Record) -> Result<T, DecodeError> {
    ///         match record.value_bytes() {
    ///             // Newer clients write the header instead of the wrapper.
    ///             Some(value) if record.headers().last("dt_meta").is_none() => {
    ///                 let (_metadata, task) = TaskMetadata::decode_legacy_request(&value)?;
    ///                 serde_json::from_slice(&task).map_err(DecodeError::new)
    ///             }
    ///             _ => Json.decode(record),
    ///         }
    ///     }
    /// }
    /// ```
    pub fn decode_legacy_request(value: &Bytes) -> Result<(Self, Bytes), DecodeError> {
        Self::legacy_request(value).map_err(DecodeError::new)
    }

    fn legacy_request(value: &Bytes) -> Result<(Self, Bytes), prost::DecodeError> {
        let request = LegacyRequest::decode(value.clone())?;
        Ok((
            request.metadata.unwrap_or_default().into(),
            request.serialized_task,
        ))
    }
}

#[cfg(test)]
mod tests;
