//! What one run has to do.

use serde::{Deserialize, Serialize};

use super::work::Work;

/// The first argument of an arm's process, as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) bootstrap_servers: String,
    pub(crate) topic: String,
    pub(crate) group: String,
    pub(crate) partitions: i32,
    /// Records to be processed, primers not counted.
    pub(crate) records: u64,
    /// Distinct keys; 0 is null keys.
    pub(crate) keys: u64,
    /// Records that come before the others and only show that the topic is being read.
    pub(crate) primers: u64,
    /// Of `records`, those after which the run is over (a stuck key is not waited for).
    pub(crate) needed: u64,
    pub(crate) work: Work,
    /// The limit of arms that have one per partition.
    pub(crate) in_flight_per_partition: usize,
    /// The limit of arms that have one in all.
    pub(crate) in_flight_total: usize,
    /// Sequential workers of arms that hash keys to them.
    pub(crate) lanes: usize,
    /// Records to be pending at once, where that is what is measured; else 0.
    pub(crate) pending: usize,
    /// After this the run is cut off, and the rate is that of what was done.
    pub(crate) max_seconds: u64,
    /// Key and value of one record, in bytes.
    pub(crate) record_bytes: usize,
}

/// Bytes of a key: the key's number, twice.
pub(crate) const KEY_BYTES: usize = 16;

/// The number in a key; none in a null key.
pub(crate) fn key_number(key: Option<&[u8]>) -> Option<u64> {
    key.and_then(|key| key.first_chunk::<8>())
        .map(|bytes| u64::from_be_bytes(*bytes))
}

/// The microseconds since the Unix epoch at which the record was meant to be sent, from its value;
/// 0 where it was not paced.
pub(crate) fn intended_micros(value: Option<&[u8]>) -> u64 {
    value
        .and_then(|value| value.first_chunk::<8>())
        .map_or(0, |bytes| u64::from_be_bytes(*bytes))
}
