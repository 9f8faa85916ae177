//! What one run of one arm measured.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::usage::Usage;

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Records per second, from the first record seen to the last one done.
    pub(crate) rate: f64,
    /// Microseconds of CPU (user and system, the whole process) per record.
    pub(crate) cpu_micros: f64,
    /// The most memory the process had resident.
    pub(crate) peak_mib: f64,
    pub(crate) threads: u64,
}

/// Times a run.
pub(crate) struct Watch {
    cpu_before: Duration,
    first: Option<Instant>,
}

impl Watch {
    pub(crate) fn start() -> Self {
        Self { cpu_before: Usage::now().cpu, first: None }
    }

    pub(crate) fn first_record(&mut self, at: Instant) {
        self.first.get_or_insert(at);
    }

    pub(crate) fn finish(self, records: u64) -> Sample {
        let elapsed = self.first.map_or(Duration::ZERO, |first| first.elapsed());
        let usage = Usage::now();
        Sample {
            rate: records as f64 / elapsed.as_secs_f64(),
            cpu_micros: (usage.cpu - self.cpu_before).as_secs_f64() * 1e6 / records as f64,
            peak_mib: usage.peak_bytes as f64 / (1024.0 * 1024.0),
            threads: usage.threads,
        }
    }
}
