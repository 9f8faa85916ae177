//! What the owner of a partition publishes of it, once per pass.

use std::time::{Duration, Instant};

use keylane_core::{RecordState, Snapshot};

use super::OldestRecord;
use crate::dead_letter::ErrorText;
use crate::record::KeyHash;
use crate::support::clock;

/// The core's figures of a partition, and those that need a look at its records.
#[derive(Clone, Debug, Default)]
pub(crate) struct OwnerFigures {
    pub(crate) snapshot: Snapshot,
    /// The record at the watermark, as it was up to some time ago: its key is hashed for it.
    pub(crate) oldest: Option<Oldest>,
    /// How long ago the record at the watermark was delivered; zero without one.
    pub(crate) watermark_age: Duration,
    /// The record's own timestamp, of the oldest unsettled one.
    pub(crate) oldest_timestamp_millis: Option<i64>,
    /// The same of the oldest one that nothing but time holds up, as of the last survey.
    pub(crate) workable_timestamp_millis: Option<i64>,
    /// A record could start, but for the limit of the subscription.
    pub(crate) waits_for_place: bool,
}

/// The unsettled record that the commit waits for.
#[derive(Clone, Debug)]
pub(crate) struct Oldest {
    pub(crate) offset: i64,
    pub(crate) key_hash: Option<KeyHash>,
    pub(crate) attempts: u32,
    pub(crate) state: RecordState,
    pub(crate) since: Instant,
    pub(crate) last_error: Option<ErrorText>,
}

impl Oldest {
    /// The public form, with its age of now.
    pub(crate) fn seen(self) -> OldestRecord {
        OldestRecord {
            offset: self.offset,
            key_hash: self.key_hash,
            age: clock::elapsed(self.since),
            attempts: self.attempts,
            state: self.state,
            last_error: self.last_error.map(|error| error.as_str().to_owned()),
        }
    }
}
