//! Whether new attempts are polled in place or get a task each.

use std::time::Duration;

/// Follows what an attempt costs its thread.
///
/// Polling in place saves a task per attempt, but keeps the partition on one core. Above some
/// microseconds of computing the saving is not worth it: each attempt gets its own task and the
/// runtime spreads them over the cores.
#[derive(Debug, Default)]
pub(crate) struct SpawnPolicy {
    average_nanos: u64,
    spawning: bool,
}

/// A task costs about one microsecond, so from here on it costs less than a tenth.
const SPAWN_ABOVE_NANOS: u64 = 12_000;
/// Lower, so that a load at the border does not flip to and fro.
const IN_PLACE_BELOW_NANOS: u64 = 6_000;
/// One preempted attempt among many cheap ones is no evidence: a single sample cannot cross the
/// mark. Two in a row do.
const SAMPLE_CAP_NANOS: u64 = 80_000;
const WEIGHT: u64 = 8;

impl SpawnPolicy {
    /// Takes in how long a thread was busy with one attempt.
    pub(crate) fn observe(&mut self, busy: Duration) {
        let sample = u64::try_from(busy.as_nanos())
            .unwrap_or(u64::MAX)
            .min(SAMPLE_CAP_NANOS);
        self.average_nanos = (self.average_nanos * (WEIGHT - 1) + sample) / WEIGHT;
        if self.average_nanos > SPAWN_ABOVE_NANOS {
            self.spawning = true;
        } else if self.average_nanos < IN_PLACE_BELOW_NANOS {
            self.spawning = false;
        }
    }

    /// Whether the next attempt gets a task at once.
    pub(crate) fn spawns(&self) -> bool {
        self.spawning
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_long_attempts_are_enough_to_spread_and_cheap_ones_bring_it_back() {
        let mut policy = SpawnPolicy::default();
        policy.observe(Duration::from_millis(50));
        assert!(!policy.spawns());
        policy.observe(Duration::from_millis(50));
        assert!(policy.spawns());
        for _ in 0..100 {
            policy.observe(Duration::from_nanos(300));
        }
        assert!(!policy.spawns());
    }

    #[test]
    fn a_load_at_the_border_does_not_flip() {
        let mut policy = SpawnPolicy::default();
        for _ in 0..100 {
            policy.observe(Duration::from_micros(9));
            assert!(!policy.spawns());
        }
    }
}
