//! The time, as the tokio runtime sees it: the machine's, or that of a test which has paused it.
//!
//! Whatever decides by the time asks here, so that a test can let a quarter of an hour pass in a
//! moment (`tokio::time::pause`).

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

pub(crate) fn elapsed(since: Instant) -> Duration {
    now().saturating_duration_since(since)
}

/// The time of day, and the runtime's at the same moment.
static ORIGIN: OnceLock<(SystemTime, Instant)> = OnceLock::new();

/// For a subscription without Kafka: from now on the time of day stands still and jumps as the
/// runtime's does, and never goes back.
pub(crate) fn follow_runtime() {
    ORIGIN.get_or_init(|| (SystemTime::now(), Instant::now()));
}

/// The time of day.
pub(crate) fn wall() -> SystemTime {
    match ORIGIN.get() {
        Some(origin) => wall_at(origin, now()),
        None => SystemTime::now(),
    }
}

fn wall_at((wall, runtime): &(SystemTime, Instant), now: Instant) -> SystemTime {
    // One of the two is zero: the clock of a test may have been paused before the origin.
    let (since, until) = (
        now.saturating_duration_since(*runtime),
        runtime.saturating_duration_since(now),
    );
    *wall + since - until
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
    fn the_time_of_day_follows_the_runtimes_both_ways_and_stands_still_with_it() {
        let origin = (SystemTime::now(), Instant::now());
        let minute = Duration::from_secs(60);
        assert_eq!(wall_at(&origin, origin.1), origin.0);
        assert_eq!(wall_at(&origin, origin.1 + minute), origin.0 + minute);
        assert_eq!(wall_at(&origin, origin.1 - minute), origin.0 - minute);
    }
}
