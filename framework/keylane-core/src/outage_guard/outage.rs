//! An outage of the whole subscription, or of one place.

use std::time::Duration;

use crate::time::Moment;

#[derive(Clone, Debug, Default)]
pub(super) struct Outage {
    lanes: usize,
    /// When so many lanes failed that it may be an outage.
    crossed: Option<Moment>,
    last_success: Option<Moment>,
    released: bool,
}

impl Outage {
    pub(super) fn set_lanes(&mut self, lanes: usize, threshold: usize, now: Moment) {
        self.lanes = lanes;
        if lanes < threshold {
            self.crossed = None;
            self.released = false;
        } else {
            self.crossed = self.crossed.or(Some(now));
        }
    }

    pub(super) fn succeeded(&mut self, at: Moment) {
        if self.last_success.is_none_or(|last| at > last) {
            self.last_success = Some(at);
        }
        if self.crossed.is_some_and(|crossed| at > crossed) {
            self.released = false;
        }
    }

    /// Since when nothing succeeds, where that is an outage.
    pub(super) fn since(&self, quiet: Duration, now: Moment) -> Option<Moment> {
        let crossed = self.crossed?;
        match self.last_success {
            Some(success) if success > crossed => (now.since(success) >= quiet).then_some(success),
            _ => Some(crossed),
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
