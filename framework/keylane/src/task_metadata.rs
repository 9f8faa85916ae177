//! `dt_meta`: Decaton's task metadata.
//!
//! The header holds Decaton's protobuf message `TaskMetadataProto`, coded by hand here: five scalar fields do not earn a
//! code generator.
//!
//! | field | type | tag byte |
//! |---|---|---|
//! | 1 `timestamp_millis` | int64 | `0x08` |
//! | 2 `source_application_id` | string | `0x12` |
//! | 3 `source_instance_id` | string | `0x1a` |
//! | 4 `retry_count` | int64 | `0x20` |
//! | 5 `scheduled_time_millis` | int64 | `0x28` |

mod wire;

use bytes::Bytes;

use wire::{Reader, Value};

use crate::DecodeError;

/// The name of the header. Where it repeats, the last one counts.
pub(crate) const HEADER: &str = "dt_meta";

/// What a producer says about a task, in Decaton's `dt_meta` header.
///
/// Written on every task by [`TaskProducer`](crate::TaskProducer) and understood by Decaton; read from the tasks of both.
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
pub struct TaskMetadata {
    /// When the task was made, in milliseconds since the Unix epoch.
    pub timestamp_millis: i64,
    /// Which application made it.
    pub source_application_id: String,
    /// Which instance of it.
    pub source_instance_id: String,
    /// How often it went through a retry topic.
    pub retry_count: i64,
    /// Not to be processed before this time, in milliseconds since the Unix epoch; 0 is at once.
    pub scheduled_time_millis: i64,
}

/// Bytes that are not a well-formed protobuf message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed task metadata at byte {position}: {reason}")]
pub(crate) struct MetadataError {
    /// Where reading stopped.
    pub(crate) position: usize,
    /// Why.
    pub(crate) reason: &'static str,
}

impl TaskMetadata {
    /// The header's value. Fields with their default value are left out, as proto3 does.
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(40 + self.source_application_id.len() + self.source_instance_id.len());
        wire::put_int64(&mut out, 1, self.timestamp_millis);
        wire::put_string(&mut out, 2, &self.source_application_id);
        wire::put_string(&mut out, 3, &self.source_instance_id);
        wire::put_int64(&mut out, 4, self.retry_count);
        wire::put_int64(&mut out, 5, self.scheduled_time_millis);
        out.into()
    }

    /// Reads a header's value; no bytes at all are the defaults. Unknown fields are skipped and the last of a field wins.
    ///
    /// # Errors
    /// Bytes that Decaton's parser refuses as well.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, MetadataError> {
        let mut metadata = Self::default();
        metadata.merge(Reader::new(bytes))?;
        Ok(metadata)
    }

    /// Reads the wrapper that Decaton up to version 8 put around a task: `DecatonTaskRequest {1: metadata, 2: task}`.
    ///
    /// Nothing marks such a record, and some other byte strings read as a wrapper too: use it where the topic is known to
    /// hold wrapped tasks. The task shares the memory of `value`.
    ///
    /// # Errors
    /// Bytes that are not a well-formed message.
    ///
    /// # Examples
    /// A decoder for a topic that old Decaton clients still write to:
    /// ```
    /// use keylane::{Decode, DecodeError, Json, Record, TaskMetadata};
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

    fn legacy_request(value: &Bytes) -> Result<(Self, Bytes), MetadataError> {
        let mut metadata = Self::default();
        let mut task = Bytes::new();
        let mut reader = Reader::new(value);
        while let Some((field, content)) = reader.next_field()? {
            match (field, content) {
                // A message field that repeats is merged, not replaced.
                (1, Value::Bytes(inner)) => metadata.merge(Reader::new(inner))?,
                (2, Value::Bytes(inner)) => task = value.slice_ref(inner),
                _ => {}
            }
        }
        Ok((metadata, task))
    }

    fn merge(&mut self, mut reader: Reader<'_>) -> Result<(), MetadataError> {
        while let Some((field, value)) = reader.next_field()? {
            match (field, value) {
                (1, Value::Varint(value)) => self.timestamp_millis = value.cast_signed(),
                (2, Value::Bytes(text)) => self.source_application_id = reader.text(text)?.to_owned(),
                (3, Value::Bytes(text)) => self.source_instance_id = reader.text(text)?.to_owned(),
                (4, Value::Varint(value)) => self.retry_count = value.cast_signed(),
                (5, Value::Varint(value)) => self.scheduled_time_millis = value.cast_signed(),
                // Also a known number with another wire type: protobuf treats it as unknown.
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
