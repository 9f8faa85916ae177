//! A redrive's first copies, on whose outcomes the others depend.

/// Copies that have to succeed before others begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Canary {
    /// How many: the task's first turns.
    pub copies: u32,
    /// How many in a hundred of them have to succeed.
    pub percent: u8,
}

#[derive(Debug)]
pub(super) struct CanaryState {
    /// The turns that it has.
    pub(super) turns: u32,
    percent: u8,
    /// Of each: whether it succeeded, once that is known.
    pub(super) outcomes: Vec<Option<bool>>,
    /// An earlier run has gone on behind it.
    pub(super) has_passed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Open,
    Passed,
    Failed,
}

impl CanaryState {
    pub(super) fn new(canary: Option<Canary>, letters: u32) -> Self {
        let turns = canary.map_or(0, |canary| canary.copies).min(letters);
        Self {
            turns,
            percent: canary.map_or(0, |canary| canary.percent.min(100)),
            outcomes: vec![None; turns as usize],
            has_passed: false,
        }
    }

    /// As soon as the rest of the outcomes cannot change it.
    pub(super) fn verdict(&self) -> Verdict {
        let of = |outcome| self.outcomes.iter().filter(|it| **it == outcome).count() as u64;
        let (succeeded, open) = (of(Some(true)), of(None));
        let needed = u64::from(self.turns) * u64::from(self.percent);
        if self.has_passed {
            Verdict::Passed
        } else if (succeeded + open) * 100 < needed {
            Verdict::Failed
        } else if open > 0 {
            Verdict::Open
        } else {
            Verdict::Passed
        }
    }
}
