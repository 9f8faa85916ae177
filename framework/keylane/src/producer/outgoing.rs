//! What is written, and what the broker answers.

use std::sync::Arc;

use bytes::Bytes;

use super::write_error::WriteError;
use crate::Headers;

/// A record to write.
#[derive(Clone, Debug)]
pub(crate) struct OutgoingRecord {
    pub(crate) topic: Arc<str>,
    /// `None`: by the hash of the key, as Java clients do; without a key, any.
    pub(crate) partition: Option<i32>,
    pub(crate) key: Option<Bytes>,
    /// `None` is a tombstone.
    pub(crate) value: Option<Bytes>,
    pub(crate) headers: Headers,
    /// `None` is now; and so is what is not positive, which librdkafka cannot write.
    pub(crate) timestamp_millis: Option<i64>,
}

/// The broker's acknowledgement: the record is on all in-sync replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
}

/// A record that was not written, or may not have been.
#[derive(Debug)]
pub(super) struct Unwritten {
    pub(super) record: OutgoingRecord,
    pub(super) error: WriteError,
}

impl OutgoingRecord {
    /// The size that counts towards the limits: key, value and headers.
    pub(crate) fn bytes(&self) -> usize {
        let length = |bytes: Option<&Bytes>| bytes.map_or(0, Bytes::len);
        let headers: usize = self
            .headers
            .iter()
            .map(|(name, value)| name.len() + length(value))
            .sum();
        length(self.key.as_ref()) + length(self.value.as_ref()) + headers
    }
}
