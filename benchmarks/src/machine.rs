//! What the figures were measured on.

use std::time::Instant;

use serde::Serialize;

use crate::measure::compute;

#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: u64,
    pub(crate) kernel: String,
    pub(crate) load_before: String,
    /// Steps of the work that computes, so that every arm computes the same for its microsecond.
    pub(crate) iterations_per_micro: f64,
}

const STEPS: u64 = 5_000_000;

impl Machine {
    pub(crate) fn look() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text
                .lines()
                .find(|line| line.starts_with(name))
                .unwrap_or_default();
            line.split_once(':')
                .map(|(_, value)| value.trim().to_owned())
                .unwrap_or_default()
        };
        let kibibytes = field(&read("/proc/meminfo"), "MemTotal");
        let kibibytes = kibibytes
            .split(' ')
            .next()
            .and_then(|number| number.parse::<u64>().ok())
            .unwrap_or(0);
        Self {
            processor: field(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gib: kibibytes >> 20,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_before: read("/proc/loadavg")
                .split(' ')
                .next()
                .unwrap_or_default()
                .to_owned(),
            iterations_per_micro: iterations_per_micro(),
        }
    }
}

/// The best of some tries: whatever disturbs makes it slower, never faster.
fn iterations_per_micro() -> f64 {
    let once = || {
        let began = Instant::now();
        compute(STEPS);
        STEPS as f64 / (began.elapsed().as_nanos() as f64 / 1_000.0)
    };
    (0..7).map(|_| once()).fold(0.0, f64::max)
}
