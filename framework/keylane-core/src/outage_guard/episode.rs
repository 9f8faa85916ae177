//! A partial outage: several lanes fail with errors of one class, while others succeed.

use std::time::Duration;

use crate::time::Moment;

#[derive(Clone, Debug, Default)]
pub(super) struct Episode {
    lanes: usize,
    since: Option<Moment>,
    /// Since when there have been too few lanes.
    below_since: Option<Moment>,
    /// How long it has lasted, but for the time in which the outage was total.
    spent: Duration,
    released: bool,
}

impl Episode {
    pub(super) fn set_lanes(&mut self, lanes: usize, threshold: usize, now: Moment) {
        self.lanes = lanes;
        if lanes < threshold {
            self.below_since = self.below_since.or(Some(now));
            return;
        }
        self.below_since = None;
        if self.since.is_none() {
            *self = Self {
                lanes,
                since: Some(now),
                ..Self::default()
            };
        }
    }

    /// Lets time pass. An outage that comes and goes is one: it ends when there were too few lanes
    /// for the quiet time.
    pub(super) fn pass(&mut self, passed: Duration, is_total: bool, quiet: Duration, now: Moment) {
        if self.since.is_none() {
            return;
        }
        if self
            .below_since
            .is_some_and(|below| now.since(below) >= quiet)
        {
            *self = Self {
                lanes: self.lanes,
                below_since: self.below_since,
                ..Self::default()
            };
        } else if !is_total {
            self.spent = self.spent.saturating_add(passed);
        }
    }

    pub(super) fn holds(&self, patience: Duration) -> bool {
        self.since.is_some() && !self.released && self.spent < patience
    }

    pub(super) fn release(&mut self) {
        self.released = self.since.is_some();
    }

    pub(super) fn is_released(&self) -> bool {
        self.released
    }

    pub(super) fn since(&self) -> Option<Moment> {
        self.since
    }

    pub(super) fn spent(&self) -> Duration {
        self.spent
    }

    pub(super) fn lanes(&self) -> usize {
        self.lanes
    }

    pub(super) fn is_over(&self) -> bool {
        self.since.is_none() && self.lanes == 0
    }
}
