//! What a processor gets.

use std::sync::Arc;

use bytes::Bytes;

use crate::Headers;
use crate::task_metadata::TaskMetadata;

/// One record, decoded, with where it came from and how often it was tried.
#[derive(Clone, Debug)]
pub struct Task<T> {
    pub(crate) payload: T,
    pub(crate) record: TaskRecord,
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    pub(crate) attempt: u32,
}

/// The parts of a task that do not depend on its payload type.
#[derive(Clone, Debug)]
pub(crate) struct TaskRecord {
    pub(crate) offset: i64,
    pub(crate) timestamp_millis: Option<i64>,
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    /// `None` where the record has no headers, the common case: no allocation then.
    pub(crate) headers: Option<Arc<RecordHeaders>>,
}

/// The headers of a record and what keylane read from them.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecordHeaders {
    pub(crate) all: Headers,
    /// Decaton's `dt_meta`, where present and well-formed.
    pub(crate) metadata: Option<TaskMetadata>,
    /// Where a record of a retry topic was first read.
    pub(crate) origin: Option<Origin>,
}

/// Where a record was first read, for a task that came through the retry topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The origin topic.
    pub topic: Arc<str>,
    /// The partition there.
    pub partition: i32,
    /// The offset there.
    pub offset: i64,
}

static NO_HEADERS: Headers = Headers::new();

impl<T> Task<T> {
    /// The decoded value.
    pub fn payload(&self) -> &T {
        &self.payload
    }

    /// The decoded value, taken out.
    pub fn into_payload(self) -> T {
        self.payload
    }

    /// The record's key. Tasks of one key (and partition) are processed one after another.
    pub fn key(&self) -> Option<&Bytes> {
        self.record.key.as_ref()
    }

    /// The key as text, where it is UTF-8.
    pub fn key_str(&self) -> Option<&str> {
        self.key().and_then(|key| std::str::from_utf8(key).ok())
    }

    /// The bytes the payload was decoded from; `None` is a tombstone.
    pub fn value(&self) -> Option<&Bytes> {
        self.record.value.as_ref()
    }

    /// Whether the value is null.
    pub fn is_tombstone(&self) -> bool {
        self.record.value.is_none()
    }

    /// The record's headers.
    pub fn headers(&self) -> &Headers {
        self.record.headers.as_ref().map_or(&NO_HEADERS, |headers| &headers.all)
    }

    /// The topic this record was read from: an origin topic or the retry topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The partition this record was read from.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// The offset this record was read at.
    pub fn offset(&self) -> i64 {
        self.record.offset
    }

    /// Where the record was first read: the same as topic, partition and offset unless it came through a retry topic.
    pub fn origin(&self) -> Origin {
        match self.record.headers.as_ref().and_then(|headers| headers.origin.clone()) {
            Some(origin) => origin,
            None => Origin { topic: self.topic.clone(), partition: self.partition, offset: self.record.offset },
        }
    }

    /// The record's timestamp in milliseconds since the Unix epoch, where it has one.
    pub fn timestamp_millis(&self) -> Option<i64> {
        self.record.timestamp_millis
    }

    /// Which attempt this is, from 1, over all retries in place and through the retry topic. A restart or a rebalance
    /// forgets the attempts in place since the record was last read.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The task's metadata as written by the producer helper (or a Decaton client) into `dt_meta`.
    pub fn metadata(&self) -> Option<&TaskMetadata> {
        self.record.headers.as_ref().and_then(|headers| headers.metadata.as_ref())
    }

    /// The same task with another payload.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Task<U> {
        let Self { payload, record, topic, partition, attempt } = self;
        Task { payload: f(payload), record, topic, partition, attempt }
    }
}
