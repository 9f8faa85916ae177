//! What a process has used.

use std::{fs, io};

/// `USER_HZ` of every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Seconds of CPU that this process has used, in user and system mode.
///
/// # Errors
/// Where `/proc` does not show it.
pub fn cpu_seconds() -> io::Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name, which may have blanks, ends with the last bracket.
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map(|(_, after)| after.split_whitespace().collect())
        .unwrap_or_default();
    let ticks = [11, 12].map(|at| fields.get(at).and_then(|it| it.parse::<f64>().ok()));
    match ticks {
        [Some(user), Some(system)] => Ok((user + system) / TICKS_PER_SECOND),
        _ => Err(io::Error::other("no CPU time")),
    }
}

/// The most memory that this process had resident, in MiB.
///
/// # Errors
/// Where `/proc` does not show it.
pub fn peak_rss_mib() -> io::Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    let kib = kib.and_then(|kib| kib.parse::<f64>().ok());
    kib.map(|kib| kib / 1_024.0)
        .ok_or_else(|| io::Error::other("no peak of memory"))
}
