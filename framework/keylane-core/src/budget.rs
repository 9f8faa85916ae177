//! When to stop fetching and when to go on.

use thiserror::Error;

/// A high and a low mark: pause at the high one, resume at the low one.
///
/// Between the marks nothing changes, so a level that hovers does not pause and resume with every
/// record. What is counted (records, bytes, settled offsets ahead of the watermark) is the caller's
/// business.
///
/// ```
/// use keylane_core::{Budget, BudgetChange};
///
/// let mut budget = Budget::new(10_000, 7_000);
/// assert_eq!(budget.update(10_000), Some(BudgetChange::Pause));
/// assert_eq!(budget.update(8_000), None);
/// assert_eq!(budget.update(7_000), Some(BudgetChange::Resume));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    pause_at: u64,
    resume_at: u64,
    paused: bool,
}

/// The action after a level crossed a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BudgetChange {
    /// The high mark is reached: stop fetching.
    Pause,
    /// The low mark is reached: fetch again.
    Resume,
}

impl Budget {
    /// Pauses from `pause_at` on and resumes at `resume_at` or below.
    pub const fn new(pause_at: u64, resume_at: u64) -> Self {
        Self {
            pause_at,
            resume_at,
            paused: false,
        }
    }

    /// Takes the current level and returns what changes, if anything.
    pub fn update(&mut self, level: u64) -> Option<BudgetChange> {
        if self.paused {
            if self.resumes_at(level) {
                self.paused = false;
                return Some(BudgetChange::Resume);
            }
        } else if level >= self.pause_at {
            self.paused = true;
            return Some(BudgetChange::Pause);
        }
        None
    }

    /// Whether this level ends a pause.
    pub const fn resumes_at(&self, level: u64) -> bool {
        // The second half only matters for marks that `validate` refuses: it keeps them from
        // flapping.
        level <= self.resume_at && level < self.pause_at
    }

    /// Whether the last level left it paused.
    pub const fn is_paused(&self) -> bool {
        self.paused
    }

    /// How much more fits before it pauses, from this level.
    pub const fn room(&self, level: u64) -> u64 {
        self.pause_at.saturating_sub(level)
    }

    /// Checks the marks.
    ///
    /// # Errors
    /// Where it would never fetch, or pause and resume at one level.
    pub const fn validate(&self) -> Result<(), BudgetError> {
        if self.pause_at == 0 {
            return Err(BudgetError::PauseAt);
        }
        if self.resume_at >= self.pause_at {
            return Err(BudgetError::ResumeAt {
                pause_at: self.pause_at,
                resume_at: self.resume_at,
            });
        }
        Ok(())
    }
}

/// Marks that make no sense.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BudgetError {
    /// The high mark is zero.
    #[error("budget pause mark is zero, nothing would ever be fetched: set it to at least 1")]
    PauseAt,
    /// The low mark is not below the high one.
    #[error(
        "budget resume mark {resume_at} is not below the pause mark {pause_at}: lower it, 70 % is a good start"
    )]
    ResumeAt {
        /// The high mark.
        pause_at: u64,
        /// The low mark.
        resume_at: u64,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_pauses_once_at_the_high_mark_and_resumes_once_at_the_low_one() {
        let mut budget = Budget::new(10, 4);
        assert_eq!(budget.update(9), None);
        assert_eq!(budget.update(10), Some(BudgetChange::Pause));
        assert_eq!(budget.update(20), None);
        assert_eq!(budget.update(5), None);
        assert!(budget.is_paused());
        assert_eq!(budget.update(4), Some(BudgetChange::Resume));
        assert_eq!(budget.update(4), None);
    }

    #[test]
    fn marks_that_make_no_sense_are_refused() {
        assert_eq!(Budget::new(0, 0).validate(), Err(BudgetError::PauseAt));
        assert!(matches!(
            Budget::new(5, 5).validate(),
            Err(BudgetError::ResumeAt { .. })
        ));
        assert_eq!(Budget::new(5, 4).validate(), Ok(()));
    }

    proptest! {
        #[test]
        fn above_the_high_mark_it_is_paused_and_below_the_low_one_it_is_not(
            low in 0_u64..50, width in 1_u64..50, levels in proptest::collection::vec(0_u64..120, 0..100),
        ) {
            let mut budget = Budget::new(low + width, low);
            for level in levels {
                let before = budget.is_paused();
                let change = budget.update(level);
                prop_assert_eq!(change.is_some(), before != budget.is_paused());
                if level >= low + width { prop_assert!(budget.is_paused()); }
                if level <= low { prop_assert!(!budget.is_paused()); }
                if level > low && level < low + width { prop_assert_eq!(change, None); }
            }
        }
    }
}
