//! Moments as people give them.

use std::time::SystemTime;

/// What is a moment, for an error's text.
pub(super) const A_MOMENT: &str =
    "a time in UTC, such as 2026-11-30T14:00:00Z, or an age, such as 90m";

/// A date, or how long ago.
pub(super) fn moment(text: &str, now: SystemTime) -> Option<SystemTime> {
    match humantime::parse_duration(text) {
        Ok(ago) => now.checked_sub(ago),
        Err(_) => humantime::parse_rfc3339_weak(text).ok(),
    }
}
