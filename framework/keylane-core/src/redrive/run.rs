//! What of an order is copied next.

use std::ops::Range;
use std::time::Duration;

use super::canary::{Canary, MAX_CANARY, Verdict};
use crate::time::Moment;

/// The most copies of a transaction.
pub const MAX_WINDOW: u32 = 10_000;

/// With a rate, this many transactions a second, where it has as many copies.
const BATCHES_PER_SECOND: u32 = 5;

/// How a redrive goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunSettings {
    /// Copies of a transaction at most, from 1 to [`MAX_WINDOW`]. Default: 500.
    pub window: u32,
    /// Copies a second at most; `None` and 0 are as fast as it goes.
    pub rate: Option<u32>,
    /// Copies at most, over all runs of the task: its first turns.
    pub max: Option<u64>,
    /// Some first, and the others if those succeed.
    pub canary: Option<Canary>,
}

impl Default for RunSettings {
    fn default() -> Self {
        Self {
            window: 500,
            rate: None,
            max: None,
            canary: None,
        }
    }
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Copy these turns in one transaction, or the first of them. Report its beginning by
    /// [`Run::begun`], without which there is no rate, and its commit by [`Run::copied`].
    Copy(Range<u64>),
    /// Nothing before this moment.
    Wait(Moment),
    /// Find out what became of the canary, which are all copies until now, and report it by
    /// [`Run::canary`].
    AwaitCanary,
    /// The task ends before its last turn.
    Stopped(Stopped),
    /// Every turn is done.
    Done,
}

/// Why a task ends early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// By request.
    Cancelled,
    /// Too few copies of the canary succeeded.
    CanaryFailed,
}

/// A run of a task. What survives it is how many turns are done, and how many of them have a copy.
///
/// # Examples
/// ```
/// use keylane_core::Moment;
/// use keylane_core::redrive::{Next, Run, RunSettings};
///
/// let settings = RunSettings { window: 100, ..RunSettings::default() };
/// let mut run = Run::new(250, 120, 118, settings);
/// assert_eq!(run.next(Moment::ORIGIN), Next::Copy(120..220));
/// run.copied(220, 100);
/// assert_eq!(run.next(Moment::ORIGIN), Next::Copy(220..250));
/// run.copied(250, 30);
/// assert_eq!(run.next(Moment::ORIGIN), Next::Done);
/// ```
#[derive(Debug)]
pub struct Run {
    window: u64,
    rate: Option<u32>,
    /// The turns that the task has.
    end: u64,
    done: u64,
    /// Those of them that have a copy.
    copies: u64,
    /// The copies of the canary.
    canary: u64,
    verdict: Verdict,
    not_before: Moment,
    is_cancelled: bool,
}

impl Run {
    /// A run of a task that has this many turns. The first `done` of them are done, and `copies` of
    /// those have a copy.
    pub fn new(turns: u64, done: u64, copies: u64, settings: RunSettings) -> Self {
        let end = settings.max.map_or(turns, |max| max.min(turns));
        let canary = settings.canary.map_or(0, |it| it.copies.min(MAX_CANARY));
        let canary = u64::from(canary);
        // An earlier run went on behind it.
        let has_passed = canary == 0 || copies > canary;
        Self {
            window: settings.window.clamp(1, MAX_WINDOW).into(),
            rate: settings.rate.filter(|rate| *rate > 0),
            end,
            done: done.min(end),
            copies,
            canary,
            verdict: if has_passed {
                Verdict::Passed
            } else {
                Verdict::Open
            },
            not_before: Moment::ORIGIN,
            is_cancelled: false,
        }
    }

    /// How many turns the task has, and how many of them are done.
    pub fn counts(&self) -> (u64, u64) {
        (self.end, self.done)
    }

    /// Whether the others wait for the canary, or will.
    pub fn has_canary(&self) -> bool {
        self.verdict == Verdict::Open
    }

    /// What to do next.
    pub fn next(&self, now: Moment) -> Next {
        let open = match self.verdict {
            Verdict::Passed => self.end,
            // Turns without a copy show nothing: others take their place.
            Verdict::Open => {
                let missing = self.canary.saturating_sub(self.copies);
                self.end.min(self.done.saturating_add(missing))
            }
            Verdict::Failed => 0,
        };
        if self.done >= self.end {
            Next::Done
        } else if self.is_cancelled {
            Next::Stopped(Stopped::Cancelled)
        } else if self.verdict == Verdict::Failed {
            Next::Stopped(Stopped::CanaryFailed)
        } else if self.done >= open {
            Next::AwaitCanary
        } else if now < self.not_before {
            Next::Wait(self.not_before)
        } else {
            Next::Copy(self.done..open.min(self.done + self.batch()))
        }
    }

    /// A transaction does not stay open for the rate's sake: it has fewer copies instead.
    fn batch(&self) -> u64 {
        let at_rate = self.rate.map(|rate| u64::from(rate / BATCHES_PER_SECOND));
        at_rate.map_or(self.window, |batch| batch.clamp(1, self.window))
    }

    /// The transaction with the turns before this one is begun now: the next one waits for the rate.
    pub fn begun(&mut self, until: u64, now: Moment) {
        let copies = u32::try_from(until.saturating_sub(self.done)).unwrap_or(u32::MAX);
        if let Some(rate) = self.rate {
            let takes = Duration::from_secs(1).saturating_mul(copies) / rate;
            self.not_before = self.not_before.max(now) + takes;
        }
    }

    /// The turns before this one are done: so many more copies are committed, and the letters of the
    /// others are gone, or were passed over.
    pub fn copied(&mut self, until: u64, copies: u64) {
        self.done = self.done.max(until.min(self.end));
        self.copies = self.copies.saturating_add(copies);
    }

    /// What became of the canary.
    pub fn canary(&mut self, verdict: Verdict) {
        if self.verdict == Verdict::Open {
            self.verdict = verdict;
        }
    }

    /// Begins no more copies.
    pub fn cancel(&mut self) {
        self.is_cancelled = true;
    }
}
