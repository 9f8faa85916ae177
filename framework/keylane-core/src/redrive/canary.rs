//! A redrive's first copies, on whose outcomes the others depend.

/// The most copies of a canary.
pub const MAX_CANARY: u32 = 10_000;

/// Copies that have to succeed before others begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Canary {
    /// How many: the task's first ones, at most [`MAX_CANARY`].
    pub copies: u32,
    /// How many in a hundred of them have to succeed.
    pub percent: u8,
}

/// What became of a canary's copies, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Processed, and no dead letter.
    pub succeeded: u32,
    /// Dead letters again.
    pub failed: u32,
    /// Neither, until now.
    pub open: u32,
}

/// Whether the other copies begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It depends on outcomes that are not known.
    Open,
    /// They do.
    Passed,
    /// They do not.
    Failed,
}

impl Canary {
    /// As soon as the open outcomes cannot change it. Without any outcome it is failed: nothing shows
    /// that the copies succeed.
    ///
    /// # Examples
    /// ```
    /// use keylane_core::redrive::{Canary, Outcomes, Verdict};
    ///
    /// let canary = Canary { copies: 10, percent: 80 };
    /// let verdict = |succeeded, failed, open| canary.verdict(Outcomes { succeeded, failed, open });
    /// assert_eq!(verdict(7, 2, 1), Verdict::Open);
    /// assert_eq!(verdict(8, 1, 1), Verdict::Passed);
    /// assert_eq!(verdict(1, 3, 6), Verdict::Failed);
    /// assert_eq!(verdict(0, 0, 0), Verdict::Failed);
    /// ```
    pub fn verdict(self, outcomes: Outcomes) -> Verdict {
        let [succeeded, failed, open] =
            [outcomes.succeeded, outcomes.failed, outcomes.open].map(u64::from);
        let needed = (succeeded + failed + open) * u64::from(self.percent.min(100));
        let is_empty = succeeded + failed + open == 0;
        if succeeded * 100 >= needed && !is_empty {
            Verdict::Passed
        } else if (succeeded + open) * 100 < needed || is_empty {
            Verdict::Failed
        } else {
            Verdict::Open
        }
    }
}
