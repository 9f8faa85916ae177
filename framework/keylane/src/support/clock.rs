//! The time of the tokio runtime: the machine's, or that of a test which has paused it.
//!
//! All decisions by time read this clock, so that a test can let a quarter of an hour pass in a
//! moment (`tokio::time::pause`).

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

pub(crate) fn elapsed(since: Instant) -> Duration {
    now().saturating_duration_since(since)
}

/// The time of day. In a test that has paused the time it stands still and jumps as that does.
pub(crate) fn wall() -> SystemTime {
    let wall = SystemTime::now();
    // Equal, but for the moment between the two calls, unless a test has moved one of them.
    let (runtime, machine) = (now(), Instant::now());
    let moved = match runtime.checked_duration_since(machine) {
        Some(ahead) => wall.checked_add(ahead),
        None => wall.checked_sub(machine - runtime),
    };
    moved.unwrap_or(wall)
}

/// The time of day in milliseconds since the Unix epoch; 0 before it.
pub(crate) fn unix_millis() -> i64 {
    let since = wall().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_machines_time_outside_of_tests() {
        let (before, wall_before) = (Instant::now(), SystemTime::now());
        let (now, wall) = (now(), wall());
        assert!(before <= now && now <= Instant::now());
        // Between the two clocks that `wall` reads there is a moment.
        let late = Duration::from_secs(1);
        assert!(wall_before - late <= wall && wall <= SystemTime::now() + late);
    }
}
