//! How many turns the next transaction has at most. Pure.

use std::time::{Duration, Instant};

/// Fewer turns after a transaction that was refused, or was too slow; more with each that was
/// committed.
pub(super) struct Limit {
    turns: u64,
    /// Since when transactions have been too slow.
    slow_since: Option<Instant>,
    /// A transaction was too slow: doubling would make every second one too slow.
    grows_slowly: bool,
}

impl Limit {
    pub(super) fn none() -> Self {
        Self {
            turns: u64::MAX,
            slow_since: None,
            grows_slowly: false,
        }
    }

    pub(super) fn turns(&self) -> u64 {
        self.turns
    }

    /// A transaction with so many turns was refused, and it is not known for which of them.
    pub(super) fn refused(&mut self, turns: u64) {
        self.turns = (turns / 2).max(1);
    }

    /// A transaction with so many turns was too slow. Returns whether fewer are to be tried.
    #[must_use]
    pub(super) fn slow(&mut self, turns: u64, now: Instant, patience: Duration) -> bool {
        let since = *self.slow_since.get_or_insert(now);
        self.turns = (turns / 2).max(1);
        self.grows_slowly = true;
        now.saturating_duration_since(since) < patience
    }

    /// A transaction was committed.
    pub(super) fn committed(&mut self, window: u32) {
        self.slow_since = None;
        self.turns = match self.grows_slowly {
            true => self.turns.saturating_add(self.turns / 8 + 1),
            false => self.turns.saturating_mul(2),
        };
        self.grows_slowly &= self.turns < u64::from(window);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transactions_that_are_too_slow_become_smaller_until_the_patience_ends() {
        let (mut limit, begin) = (Limit::none(), Instant::now());
        let patience = Duration::from_secs(60);
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert!(limit.slow(500, at(0), patience));
        assert_eq!(limit.turns(), 250);
        assert!(limit.slow(250, at(8), patience));
        limit.committed(500);
        assert_eq!(limit.turns(), 125 + 16, "by little");
        assert!(limit.slow(141, at(70), patience), "its time begins again");
        assert!(limit.slow(1, at(129), patience) && limit.turns() == 1);
        assert!(!limit.slow(1, at(130), patience));
        for _ in 0..60 {
            limit.committed(500);
        }
        assert!(limit.turns() >= 500 && !limit.grows_slowly);
    }

    #[test]
    fn one_that_is_refused_is_halved_and_the_next_ones_double() {
        let mut limit = Limit::none();
        limit.refused(3);
        assert_eq!(limit.turns(), 1);
        limit.committed(500);
        limit.committed(500);
        assert_eq!(limit.turns(), 4);
    }
}
