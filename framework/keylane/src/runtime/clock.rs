//! The wall clock, in Kafka's unit.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(crate) fn unix_millis() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
}

/// From one wall-clock time to another; 0 where it is not after it.
pub(crate) fn millis_since(earlier: i64, now: i64) -> Duration {
    Duration::from_millis(u64::try_from(now.saturating_sub(earlier)).unwrap_or(0))
}
