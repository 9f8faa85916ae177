//! What the process has used, by Linux' own figures.

use std::time::Duration;

pub(crate) struct Usage {
    pub(crate) cpu: Duration,
    pub(crate) resident_bytes: u64,
    pub(crate) peak_bytes: u64,
    pub(crate) threads: u64,
}

/// Linux reports process times in ticks of 10 ms on every supported architecture.
const TICK: Duration = Duration::from_millis(10);

impl Usage {
    pub(crate) fn now() -> Self {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The second field is the command in parentheses and may hold spaces: count from behind it.
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or("")
            .split_whitespace()
            .collect();
        let ticks = |index: usize| {
            fields
                .get(index)
                .and_then(|field| field.parse::<u32>().ok())
                .unwrap_or(0)
        };
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = |name: &str| {
            let value = status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap_or("");
            value
                .split_whitespace()
                .next()
                .and_then(|field| field.parse::<u64>().ok())
                .unwrap_or(0)
        };
        Self {
            cpu: TICK * (ticks(11) + ticks(12)),
            resident_bytes: line("VmRSS:") * 1024,
            peak_bytes: line("VmHWM:") * 1024,
            threads: line("Threads:"),
        }
    }
}
