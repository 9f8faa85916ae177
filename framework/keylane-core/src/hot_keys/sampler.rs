//! Which records are counted: all while there are few, and of many some, in proportion to what they
//! weigh.
//!
//! Weights add up until they reach a mark. The record that crosses it is credited with the sum, and
//! the next mark is set at random around a *quantum*. A record's chance to be credited is its share
//! of the weight. A record that weighs more than the distance of the marks is always counted. The
//! quantum follows the load, so that a second has no more than some thousand credits, for each kind
//! of weight: records, nanoseconds of work, or of waiting.

use std::time::Duration;

use crate::time::Moment;

/// Credits in a [`WINDOW`] at most, about.
const CREDITS: u32 = 1_024;
const WINDOW: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub(super) struct Sampler {
    /// Weight that is not credited to a record yet.
    owed: u64,
    pub(super) mark: u64,
    /// How far marks are apart on average; 0 credits everything.
    quantum: u64,
    /// The calls in this window.
    seen: u64,
    weight: u64,
    /// Since the quantum was last set.
    credits: u32,
    window_ends: Option<Moment>,
    random: u64,
}

impl Default for Sampler {
    fn default() -> Self {
        Self {
            owed: 0,
            mark: 0,
            quantum: 0,
            seen: 0,
            weight: 0,
            credits: 0,
            window_ends: None,
            random: 0x9E37_79B9_7F4A_7C15,
        }
    }
}

impl Sampler {
    #[inline]
    pub(super) fn take(&mut self, weight: u64) -> Option<u64> {
        self.seen += 1;
        self.owed = self.owed.saturating_add(weight);
        if self.owed < self.mark || self.owed == 0 {
            None
        } else {
            Some(self.take_owed())
        }
    }

    pub(super) fn tick(&mut self, now: Moment) {
        if now < *self.window_ends.get_or_insert(now + WINDOW) {
            return;
        }
        self.window_ends = Some(now + WINDOW);
        // A quiet second is counted whole, and what a busy one is like, the next one will be too.
        let many = self.seen > u64::from(CREDITS);
        self.quantum = if many {
            self.weight / u64::from(CREDITS)
        } else {
            0
        };
        (self.seen, self.weight, self.credits) = (0, 0, 0);
        self.set_mark();
    }

    fn take_owed(&mut self) -> u64 {
        let credit = std::mem::take(&mut self.owed);
        self.weight = self.weight.saturating_add(credit);
        self.credits += 1;
        if self.credits >= CREDITS {
            // More than the last second let expect.
            self.credits = 0;
            self.quantum = self
                .quantum
                .max(self.weight / self.seen.max(1))
                .saturating_mul(2)
                .max(2);
        }
        self.set_mark();
        credit
    }

    /// At random, or a stream that repeats itself in step with the marks would have all its weight
    /// counted for one key.
    fn set_mark(&mut self) {
        if self.quantum == 0 {
            self.mark = 0;
            return;
        }
        // Xorshift: made for nothing but to be in step with nothing, and the same in every run.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.mark = (self.quantum / 2).saturating_add(self.random % self.quantum);
    }
}
