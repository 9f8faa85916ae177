//! The time of the tokio runtime: the machine's, or that of a test which has paused it.
//!
//! All decisions by time read this clock, so that a test can let a quarter of an hour pass in a
//! moment (`tokio::time::pause`).

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// In tests the time of day is counted from here, by the runtime's time.
static ORIGIN: OnceLock<(Instant, SystemTime)> = OnceLock::new();

pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

pub(crate) fn elapsed(since: Instant) -> Duration {
    now().saturating_duration_since(since)
}

/// This is a test: from now on the time of day follows the runtime's time. Where that is paused the
/// time of day stands still, jumps as that does, and never goes back.
pub(crate) fn follow_runtime() {
    ORIGIN.get_or_init(|| (Instant::now(), SystemTime::now()));
}

/// The time of day. In a service the machine's, and corrected with it.
pub(crate) fn wall() -> SystemTime {
    #[cfg(test)]
    follow_runtime();
    match ORIGIN.get() {
        Some(&origin) => counted(origin, now()),
        None => SystemTime::now(),
    }
}

fn counted((origin, wall): (Instant, SystemTime), runtime: Instant) -> SystemTime {
    let counted = match runtime.checked_duration_since(origin) {
        Some(since) => wall.checked_add(since),
        None => wall.checked_sub(origin - runtime),
    };
    counted.unwrap_or(wall)
}

/// The time of day in milliseconds since the Unix epoch; 0 before it.
pub(crate) fn unix_millis() -> i64 {
    let since = wall().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The time so many milliseconds after the Unix epoch; `None` for one before it.
pub(crate) fn of_unix_millis(millis: i64) -> Option<SystemTime> {
    let since = Duration::from_millis(u64::try_from(millis).ok()?);
    UNIX_EPOCH.checked_add(since)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_machines_time_where_none_is_paused() {
        let (before, wall_before) = (Instant::now(), SystemTime::now());
        let (now, wall) = (now(), wall());
        assert!(before <= now && now <= Instant::now());
        // The machine's time of day may be corrected meanwhile.
        let late = Duration::from_secs(1);
        assert!(wall_before - late <= wall && wall <= SystemTime::now() + late);
    }

    /// A runtime that has paused its time may stand before the origin.
    #[test]
    fn the_time_of_day_stands_still_and_jumps_with_the_runtimes_time() {
        let (origin, day) = ((Instant::now(), UNIX_EPOCH), Duration::from_secs(86_400));
        let later = origin.0 + day;
        assert_eq!(counted(origin, later), UNIX_EPOCH + day);
        assert_eq!(counted((later, UNIX_EPOCH), origin.0), UNIX_EPOCH - day);
    }
}
