//! One log line where an outage would write thousands.

use std::sync::Mutex;

use crate::support::lock::lock;
use std::time::{Duration, Instant};

/// Rate-limits one kind of log line.
#[derive(Debug)]
pub(crate) struct LogLimit {
    every: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    written_at: Option<Instant>,
    left_out: u64,
}

impl LogLimit {
    pub(crate) fn every(every: Duration) -> Self {
        Self {
            every,
            state: Mutex::default(),
        }
    }

    /// Whether a line is due: then how many were left out since the last one.
    pub(crate) fn due(&self, now: Instant) -> Option<u64> {
        let mut state = lock(&self.state);
        if state
            .written_at
            .is_some_and(|written| now.saturating_duration_since(written) < self.every)
        {
            state.left_out += 1;
            return None;
        }
        state.written_at = Some(now);
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(5);

    #[test]
    fn the_first_is_told_at_once_and_the_next_says_how_many_were_left_out() {
        let (limit, begin) = (LogLimit::every(EVERY), Instant::now());
        assert_eq!(limit.due(begin), Some(0));
        assert_eq!(
            (limit.due(begin), limit.due(begin + EVERY / 2)),
            (None, None)
        );
        assert_eq!(limit.due(begin + EVERY), Some(2));
        assert_eq!(limit.due(begin + EVERY * 2), Some(0));
    }
}
