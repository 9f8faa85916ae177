//! A bad deployment: record after record is fatal, undecodable or panics.

use crate::failure::Reason;
use crate::time::Moment;

/// This many records are given up as fatal, undecodable or panicking, without a success among them,
/// before further ones are held.
pub const BAD_DEPLOYMENT_RECORDS: u32 = 20;

#[derive(Clone, Debug, Default)]
pub(super) struct Deployment {
    undecodable: u32,
    /// Fatal, or panicking.
    broken: u32,
    /// The lanes of those, as many of them as have to be different.
    lanes: Vec<u64>,
    since: Option<Moment>,
    released: bool,
}

impl Deployment {
    pub(super) fn gave_up(&mut self, lane: u64, reason: Reason, threshold: usize, now: Moment) {
        if !reason.may_be_a_bad_deployment() {
            return;
        }
        let count = if reason == Reason::Undecodable {
            &mut self.undecodable
        } else {
            &mut self.broken
        };
        *count = count.saturating_add(1);
        if self.lanes.len() < threshold && !self.lanes.contains(&lane) {
            self.lanes.push(lane);
        }
        if self.given_up() >= BAD_DEPLOYMENT_RECORDS && self.lanes.len() >= threshold {
            self.since = self.since.or(Some(now));
        }
    }

    /// A record was decoded: those that were not are no sign.
    pub(super) fn decoded(&mut self) {
        self.undecodable = 0;
        if self.broken == 0 {
            *self = Self::default();
        } else if self.broken < BAD_DEPLOYMENT_RECORDS {
            self.since = None;
            self.released = false;
        }
    }

    pub(super) fn since(&self) -> Option<Moment> {
        self.since
    }

    pub(super) fn holds(&self) -> bool {
        self.since.is_some() && !self.released
    }

    pub(super) fn release(&mut self) {
        self.released = self.since.is_some();
    }

    pub(super) fn is_released(&self) -> bool {
        self.released
    }

    fn given_up(&self) -> u32 {
        self.undecodable.saturating_add(self.broken)
    }
}
