//! An outage of the whole subscription, or of one place.

use std::time::Duration;

use crate::time::Moment;

#[derive(Clone, Debug, Default)]
pub(super) struct Outage {
    lanes: usize,
    /// When the number of failing lanes reached the threshold.
    crossed: Option<Moment>,
    /// The latest success that was reported since then, and is not older.
    last_success: Option<Moment>,
    released: bool,
}

impl Outage {
    pub(super) fn set_lanes(&mut self, lanes: usize, threshold: usize, now: Moment) {
        self.lanes = lanes;
        if lanes < threshold {
            (self.crossed, self.last_success, self.released) = (None, None, false);
        } else {
            self.crossed = self.crossed.or(Some(now));
        }
    }

    /// Several are reported in a batch, with one time. A report after the failures that made the
    /// outage counts as a success after them.
    pub(super) fn succeeded(&mut self, at: Moment) {
        if self.crossed.is_some_and(|crossed| at >= crossed) {
            self.last_success = self.last_success.max(Some(at));
            self.released = false;
        }
    }

    /// Since when nothing succeeds, where that is an outage.
    pub(super) fn since(&self, quiet: Duration, now: Moment) -> Option<Moment> {
        match self.last_success {
            Some(success) => (now.since(success) >= quiet).then_some(success),
            None => self.crossed,
        }
    }

    /// Whether there is an outage, and no operator has released it.
    pub(super) fn holds(&self, quiet: Duration, now: Moment) -> bool {
        !self.released && self.since(quiet, now).is_some()
    }

    pub(super) fn release(&mut self) {
        self.released = self.crossed.is_some();
    }

    pub(super) fn is_released(&self) -> bool {
        self.released
    }

    pub(super) fn is_over(&self) -> bool {
        self.lanes == 0
    }
}
