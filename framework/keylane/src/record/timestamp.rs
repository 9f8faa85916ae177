//! Kafka's timestamps.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time that Kafka gives in milliseconds since the Unix epoch; `None` where the system's clock
/// cannot represent it.
pub(crate) fn time_of(millis: i64) -> Option<SystemTime> {
    let distance = Duration::from_millis(millis.unsigned_abs());
    if millis < 0 {
        UNIX_EPOCH.checked_sub(distance)
    } else {
        UNIX_EPOCH.checked_add(distance)
    }
}
