//! A dead letter where it lies.

use std::sync::Arc;
use std::time::SystemTime;

use super::{Fingerprint, Letter};
use crate::Headers;
use crate::record::Record;

/// A dead letter: its record, where it lies, and what it says.
///
/// # Examples
/// A topic that others write to as well:
///
/// ```
/// use keylane::dead_letter::StoredLetter;
///
/// fn line(letter: &StoredLetter) -> String {
///     let reason = letter.letter().reason.as_deref().unwrap_or("unknown");
///     format!("{}-{}@{}: {reason}", letter.topic(), letter.partition(), letter.offset())
/// }
/// # let _ = line;
/// ```
#[derive(Clone, Debug)]
pub struct StoredLetter {
    topic: Arc<str>,
    partition: i32,
    record: Record,
    letter: Letter,
}

impl StoredLetter {
    /// `None` where the record is no dead letter.
    pub(crate) fn new(topic: Arc<str>, partition: i32, record: Record) -> Option<Self> {
        Some(Self {
            topic,
            partition,
            letter: Letter::read(record.headers())?,
            record,
        })
    }

    /// The topic where it lies.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The partition there.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// The offset there.
    pub fn offset(&self) -> i64 {
        self.record.offset()
    }

    /// The record: key, value and headers.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The record's key.
    pub fn key(&self) -> Option<&[u8]> {
        self.record.key()
    }

    /// The record's headers.
    pub fn headers(&self) -> &Headers {
        self.record.headers()
    }

    /// What it says.
    pub fn letter(&self) -> &Letter {
        &self.letter
    }

    /// Which letters fail as it does.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.letter)
    }

    /// When its record was given up: its last failure, or else when the letter was written.
    pub fn given_up_at(&self) -> Option<SystemTime> {
        self.letter.last_failure.or_else(|| self.record.timestamp())
    }
}
