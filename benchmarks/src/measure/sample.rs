//! What one run of one arm measured.

use serde::{Deserialize, Serialize};

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Records done; fewer than requested where the run was cut off.
    pub(crate) records: u64,
    /// Whether all of them were done in time.
    pub(crate) complete: bool,
    /// From the first record seen to the last one done.
    pub(crate) seconds: f64,
    /// Records per second in that time.
    pub(crate) rate: f64,
    /// Microseconds of CPU (user and system, the whole process) per record.
    pub(crate) cpu_micros: f64,
    /// The most memory the process had resident.
    pub(crate) peak_mib: f64,
    pub(crate) threads: u64,
    /// The arm's own description of its limit.
    pub(crate) in_flight: String,
    /// How long an attempt took on average, where it waits.
    pub(crate) attempt_micros: Option<f64>,
    /// From the moment a record was meant to be sent to its being done, where records are paced.
    pub(crate) latency: Option<Latency>,
    /// From the first record seen to the broker's having all commits.
    pub(crate) committed_seconds: Option<f64>,
    /// Records done more than once.
    pub(crate) duplicates: u64,
    /// Records started after a later one of their key.
    pub(crate) order_violations: u64,
    /// Records started while another of their key ran.
    pub(crate) overlaps: u64,
    /// The memory resident while all records were pending, where that is what is measured.
    pub(crate) pending_mib: Option<f64>,
}

/// In milliseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}
