//! A record while it is pending.

use crate::dead_letter::FailureHistory;
use crate::record::{KeyHash, Record};

/// What the core keeps for its owner.
pub(crate) struct PendingRecord {
    pub(crate) record: Record,
    /// Present once an attempt has failed.
    pub(crate) failure: Option<Box<FailureHistory>>,
}

impl PendingRecord {
    /// One that was not attempted yet.
    pub(crate) fn new(record: Record) -> Self {
        Self {
            record,
            failure: None,
        }
    }

    pub(crate) fn key_hash(&self) -> Option<KeyHash> {
        self.record.key().map(KeyHash::of)
    }
}
