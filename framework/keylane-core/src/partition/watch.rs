//! Progress after a crash: everything that may have killed has been seen not to.
//!
//! Watched are the first records of the epoch, up to a bound, that were in the log when it began
//! and are not settled. A record is cleared when it is settled, parked, behind a parked one,
//! written elsewhere, or has failed a few times without killing. What was not due yet when it was
//! read cannot have run before, nor can what is behind it in its lane, and is not watched.

use crate::offset::{Offset, Position};

/// This many failed attempts clear a record: it fails, but does not kill.
pub(super) const CLEARED_BY_FAILURES: u32 = 4;

pub(super) struct Watch {
    on: bool,
    /// How many records are watched at most.
    room: usize,
    uncleared: usize,
    log_end: Option<Position>,
    /// Everything below is delivered.
    next: Option<Position>,
}

impl Watch {
    pub(super) fn off() -> Self {
        Self {
            on: false,
            room: 0,
            uncleared: 0,
            log_end: None,
            next: None,
        }
    }

    pub(super) fn new(records: usize) -> Self {
        Self {
            on: true,
            room: records.max(1),
            uncleared: 0,
            log_end: None,
            next: None,
        }
    }

    pub(super) fn is_on(&self) -> bool {
        self.on
    }

    /// The epoch reads from here.
    pub(super) fn starts_at(&mut self, start: Option<Position>) {
        self.next = start;
    }

    /// The first word counts: later ends take in what came later.
    pub(super) fn log_ends_at(&mut self, end: Position) {
        self.log_end = self.log_end.or(Some(end));
    }

    /// A record comes in; `true` where it is to be watched.
    pub(super) fn delivered(&mut self, offset: Offset, is_suspicious: bool) -> bool {
        if !self.on {
            return false;
        }
        self.next = Some(offset.next());
        let was_there = self.log_end.is_none_or(|end| !end.covers(offset));
        if self.room == 0 || !is_suspicious || !was_there {
            return false;
        }
        self.room -= 1;
        self.uncleared += 1;
        true
    }

    pub(super) fn clear_one(&mut self) {
        self.uncleared = self.uncleared.saturating_sub(1);
    }

    pub(super) fn is_over(&self) -> bool {
        let reached = self.room == 0
            || self
                .next
                .zip(self.log_end)
                .is_some_and(|(next, end)| next >= end);
        self.on && reached && self.uncleared == 0
    }
}
