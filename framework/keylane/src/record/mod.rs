//! A record as Kafka delivered it, cheap to clone and small to keep.

mod arena;
pub(crate) mod decode_error;
pub(crate) mod headers;
mod key_hash;
pub(crate) mod legacy_task;
pub(crate) mod message_id;
mod origin;
mod retry_state;
mod task_metadata;
mod timestamp;
pub(crate) mod trace_parent;

use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

pub(crate) use decode_error::DecodeError;
pub(crate) use headers::Headers;
pub use key_hash::KeyHash;
pub use origin::{Origin, OriginLog};
pub use task_metadata::TaskMetadata;

pub(crate) use arena::Arena;
pub(crate) use retry_state::RetryState;
pub(crate) use task_metadata::HEADER as TASK_METADATA;
pub(crate) use timestamp::time_of;
pub(crate) use trace_parent::{TRACE_PARENT, TRACE_STATE, TraceParent, trace_state};

/// A record as Kafka delivered it. Cloning shares the bytes.
///
/// # Examples
/// ```
/// use keylane::testing::TestTask;
///
/// let task = TestTask::new(()).key("B-KL 42").value(None).at("parking-events", 3, 4711).build();
/// let record = task.record();
/// assert_eq!((record.key(), record.offset()), (Some(&b"B-KL 42"[..]), 4711));
/// assert!(record.value().is_none());
/// ```
#[derive(Clone, Debug)]
pub struct Record {
    /// Key and value, one after the other.
    bytes: Bytes,
    key: Part,
    value: Part,
    offset: i64,
    /// That of the leader that took it in; negative where its format has none.
    leader_epoch: i32,
    timestamp_millis: i64,
    /// `None` where the record has no headers, the common case: no allocation then.
    headers: Option<Arc<RecordHeaders>>,
}

/// The length of a key or value in the shared bytes; negative is null. 32 bits are enough: Kafka's
/// own length field.
#[derive(Clone, Copy, Debug)]
struct Part(i32);

/// The headers of a record and what keylane read from them.
#[derive(Debug, Default)]
pub(crate) struct RecordHeaders {
    pub(crate) all: Headers,
    /// Decaton's `dt_meta`, where present and well-formed; or the metadata of its wrapper.
    pub(crate) metadata: Option<TaskMetadata>,
    /// Where the task is in a value that is Decaton's wrapper, and is to be unwrapped.
    pub(crate) task: Option<Range<usize>>,
    /// The earlier rounds of a record of a retry topic; `None` for a record of an origin topic,
    /// whatever its headers are.
    pub(crate) retry: Option<RetryState>,
}

static NO_HEADERS: Headers = Headers::new();

impl Record {
    /// A record whose key and value are copied into `arena`.
    pub(crate) fn new(
        arena: &mut Arena,
        offset: i64,
        timestamp_millis: Option<i64>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: Option<RecordHeaders>,
    ) -> Self {
        Self {
            bytes: arena.join(key.unwrap_or_default(), value.unwrap_or_default()),
            key: Part::of(key),
            value: Part::of(value),
            offset,
            leader_epoch: -1,
            timestamp_millis: timestamp_millis.unwrap_or(i64::MIN),
            headers: headers.map(Arc::new),
        }
    }

    /// It was written under this leader epoch; negative is none.
    pub(crate) fn under(self, leader_epoch: i32) -> Self {
        Self {
            leader_epoch,
            ..self
        }
    }

    /// The leader epoch that it was written under, where its format has one.
    pub(crate) fn leader_epoch(&self) -> Option<i32> {
        (self.leader_epoch >= 0).then_some(self.leader_epoch)
    }

    /// The key; `None` is null.
    pub fn key(&self) -> Option<&[u8]> {
        self.key.length().map(|length| &self.bytes[..length])
    }

    /// The value; `None` is null: a tombstone. Without the wrapper of an old Decaton client, where
    /// [`LegacyTasks`](crate::config::LegacyTasks) removes it.
    pub fn value(&self) -> Option<&[u8]> {
        self.value_range().map(|range| &self.bytes[range])
    }

    /// The [`value`](Self::value) as [`Bytes`] that share the record's memory, and up to a kilobyte
    /// with it: copy what is to be kept.
    pub fn value_bytes(&self) -> Option<Bytes> {
        self.value_range().map(|range| self.bytes.slice(range))
    }

    /// The value as it came, with a wrapper that it may have.
    pub(crate) fn value_as_read(&self) -> Option<Bytes> {
        let at = self.key.length().unwrap_or(0);
        self.value.length().map(|_| self.bytes.slice(at..))
    }

    fn value_range(&self) -> Option<Range<usize>> {
        self.value.length()?;
        let at = self.key.length().unwrap_or(0);
        Some(match self.task() {
            Some(task) => at + task.start..at + task.end,
            None => at..self.bytes.len(),
        })
    }

    fn task(&self) -> Option<&Range<usize>> {
        self.headers
            .as_ref()
            .and_then(|headers| headers.task.as_ref())
    }

    /// The value came in the wrapper of an old Decaton client.
    pub(crate) fn is_unwrapped(&self) -> bool {
        self.task().is_some()
    }

    /// The key as [`Bytes`] that share the record's memory, and up to a kilobyte with it: copy what
    /// is to be kept.
    pub fn key_bytes(&self) -> Option<Bytes> {
        self.key.length().map(|length| self.bytes.slice(..length))
    }

    /// The record's headers.
    pub fn headers(&self) -> &Headers {
        self.headers
            .as_ref()
            .map_or(&NO_HEADERS, |headers| &headers.all)
    }

    /// The record's offset.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// The record's timestamp, where it has one; to the millisecond.
    pub fn timestamp(&self) -> Option<SystemTime> {
        self.timestamp_millis().and_then(time_of)
    }

    pub(crate) fn timestamp_millis(&self) -> Option<i64> {
        (self.timestamp_millis != i64::MIN).then_some(self.timestamp_millis)
    }

    pub(crate) fn origin(&self) -> Option<&Origin> {
        self.retry_state().and_then(|retry| retry.origin.as_ref())
    }

    pub(crate) fn origin_timestamp_millis(&self) -> Option<i64> {
        match self.retry_state() {
            Some(retry) if retry.origin.is_some() => retry.origin_timestamp,
            _ => self.timestamp_millis(),
        }
    }

    pub(crate) fn retry_state(&self) -> Option<&RetryState> {
        self.headers
            .as_ref()
            .and_then(|headers| headers.retry.as_ref())
    }

    /// When it may run at the earliest, in milliseconds since the Unix epoch: the retry's due time,
    /// or the producer's not-before time.
    pub(crate) fn due_millis(&self) -> Option<i64> {
        match self.retry_state() {
            Some(retry) => retry.due_millis,
            None => self
                .metadata()
                .map(|metadata| metadata.scheduled_time_millis)
                .filter(|millis| *millis > 0),
        }
    }

    pub(crate) fn metadata(&self) -> Option<&TaskMetadata> {
        self.headers
            .as_ref()
            .and_then(|headers| headers.metadata.as_ref())
    }

    /// Bytes of key, value and headers: what counts against the budget.
    pub(crate) fn size(&self) -> usize {
        let headers = match &self.headers {
            None => 0,
            Some(headers) => headers
                .all
                .iter()
                .map(|(name, value)| name.len() + value.map_or(0, Bytes::len))
                .sum(),
        };
        self.bytes.len() + headers
    }
}

impl Part {
    fn of(bytes: Option<&[u8]>) -> Self {
        Self(bytes.map_or(-1, |bytes| i32::try_from(bytes.len()).unwrap_or(i32::MAX)))
    }

    fn length(self) -> Option<usize> {
        usize::try_from(self.0).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_and_value_come_back_as_they_were_null_and_empty_kept_apart() {
        for key in [None, Some(&b""[..]), Some(b"key")] {
            for value in [None, Some(&b""[..]), Some(b"value")] {
                let record = Record::new(&mut Arena::default(), 7, None, key, value, None);
                assert_eq!((record.key(), record.value()), (key, value));
                assert_eq!(record.value_bytes().as_deref(), value);
                assert_eq!(record.key_bytes().as_deref(), key);
            }
        }
    }
}
