//! The first lines of a kind, and a count of the rest.

use std::sync::Mutex;

use crate::support::lock::lock;
use std::time::{Duration, Instant};

/// Lets a few lines of a kind through in each window, and counts those it leaves out.
///
/// For events of which each one matters: unlike with [`LogLimit`](super::LogLimit), several are written
/// in full, and the count is given also when no further line follows.
#[derive(Debug)]
pub(crate) struct BoundedLines {
    lines: u32,
    window: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the latest window began.
    began: Option<Instant>,
    written: u32,
    /// Lines left out in the latest window; beside it, in those before that were not taken yet.
    left_out: u64,
    left_out_before: u64,
}

impl BoundedLines {
    pub(crate) fn new(lines: u32, window: Duration) -> Self {
        Self {
            lines,
            window,
            state: Mutex::default(),
        }
    }

    /// Whether a line may be written now. If not, it is counted.
    pub(crate) fn may_write(&self, now: Instant) -> bool {
        let mut state = lock(&self.state);
        if state.is_over(now, self.window) {
            let left_out_before = state.left_out_before + state.left_out;
            *state = State {
                began: Some(now),
                left_out_before,
                ..State::default()
            };
        }
        let may = state.written < self.lines;
        if may {
            state.written += 1;
        } else {
            state.left_out += 1;
        }
        may
    }

    /// How many were left out in the windows that are over, since the last call.
    pub(crate) fn take_left_out(&self, now: Instant) -> u64 {
        let mut state = lock(&self.state);
        let mut left_out = std::mem::take(&mut state.left_out_before);
        if state.is_over(now, self.window) {
            left_out += std::mem::take(&mut state.left_out);
        }
        left_out
    }

    /// The same of all windows, at the end.
    pub(crate) fn take_all_left_out(&self) -> u64 {
        let mut state = lock(&self.state);
        std::mem::take(&mut state.left_out_before) + std::mem::take(&mut state.left_out)
    }
}

impl State {
    fn is_over(&self, now: Instant, window: Duration) -> bool {
        self.began
            .is_none_or(|began| now.saturating_duration_since(began) >= window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    fn written(lines: &BoundedLines, of: u32, now: Instant) -> usize {
        (0..of).filter(|_| lines.may_write(now)).count()
    }

    #[test]
    fn the_first_of_a_window_are_written_and_the_rest_is_counted_once_it_is_over() {
        let (lines, begin) = (BoundedLines::new(3, WINDOW), Instant::now());
        assert_eq!(written(&lines, 10, begin), 3);
        assert_eq!(
            lines.take_left_out(begin + WINDOW / 2),
            0,
            "the window goes on"
        );
        assert_eq!(written(&lines, 1, begin + WINDOW / 2), 0);
        assert_eq!(lines.take_left_out(begin + WINDOW), 8);
        assert_eq!(lines.take_left_out(begin + WINDOW), 0, "counted once");
        assert_eq!(written(&lines, 2, begin + WINDOW), 2);
        assert_eq!(
            lines.take_left_out(begin + WINDOW * 3),
            0,
            "none was left out"
        );
    }

    #[test]
    fn what_a_window_left_out_is_not_lost_when_the_next_one_begins_first() {
        let (lines, begin) = (BoundedLines::new(1, WINDOW), Instant::now());
        assert_eq!(written(&lines, 5, begin), 1);
        assert_eq!(written(&lines, 3, begin + WINDOW), 1);
        assert_eq!(lines.take_left_out(begin + WINDOW), 4);
        assert_eq!(
            lines.take_all_left_out(),
            2,
            "at the end also of the window that goes on"
        );
        assert_eq!(lines.take_all_left_out(), 0);
    }
}
