//! What a subscription without Kafka reports of its records.

use bytes::Bytes;

use super::{AttemptResult, Outcome};
use crate::Headers;
use crate::record::Origin;

/// What has happened to a record of a [`LocalSubscription`](super::LocalSubscription). A record is
/// named by where it was first read, also when it comes back through the retry topic.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LocalEvent {
    /// An attempt has ended.
    #[non_exhaustive]
    Attempted {
        /// The record.
        record: Origin,
        /// The number of the attempt, from 1.
        attempt: u32,
        /// How it ended.
        result: AttemptResult,
        /// The error's text, or the reason of a skip.
        text: Option<String>,
    },
    /// The record is settled for good or parked, or it has ended the subscription. A record that
    /// goes to the retry topic is [`Written`](Self::Written) instead.
    #[non_exhaustive]
    Ended {
        /// The record.
        record: Origin,
        /// How. Never [`Outcome::Pending`].
        outcome: Outcome,
    },
    /// A record was written to the retry or the dead-letter topic.
    Written(LocalRecord),
}

/// A record in the retry or the dead-letter topic.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LocalRecord {
    /// Where it is.
    pub place: Origin,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Its headers.
    pub headers: Headers,
}
