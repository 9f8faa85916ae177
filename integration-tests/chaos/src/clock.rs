//! One clock for all processes of this machine.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nanoseconds of the machine's monotonic clock: comparable between processes, and it goes on while
/// one is stopped.
pub type Nanos = i64;

/// Now.
pub fn now() -> Nanos {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// A duration in the clock's unit.
pub const fn nanos(duration: Duration) -> Nanos {
    duration.as_nanos() as Nanos
}

/// Seconds with their fraction, for people.
pub fn seconds(nanos: Nanos) -> f64 {
    (nanos / 1_000_000) as f64 / 1_000.0
}

/// Translates the brokers' time stamps, which are those of the wall clock, into [`Nanos`].
#[derive(Debug, Clone, Copy)]
pub struct WallClock {
    /// What the monotonic clock showed at the Unix epoch, had it run then.
    epoch: Nanos,
}

impl WallClock {
    /// Compares the two clocks once.
    pub fn read() -> Self {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, nanos);
        Self {
            epoch: now() - wall,
        }
    }

    /// The instant of this many milliseconds after the Unix epoch.
    pub fn nanos(self, millis: i64) -> Nanos {
        self.epoch + millis * 1_000_000
    }
}
