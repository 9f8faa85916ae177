//! What goes out, and the ticket its result comes back with.

use crate::offset::{Epoch, Offset};
use crate::time::Moment;

/// Stands for one attempt or one write of one record, and comes back with its result.
///
/// It is good for one answer. A second answer, an answer that comes after the attempt was given up
/// for taking too long, and one of another epoch are stale: they change nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    pub(super) slot: u32,
    pub(super) serial: u32,
    pub(super) epoch: Epoch,
}

impl Ticket {
    /// A small number that no other live ticket of the partition has: an index for what the shell
    /// keeps per attempt.
    pub const fn slot(self) -> u32 {
        self.slot
    }

    /// The epoch it was issued in.
    pub const fn epoch(self) -> Epoch {
        self.epoch
    }
}

/// An attempt to start.
#[derive(Debug)]
pub struct Start<'a, R> {
    /// The ticket to pass back with the result.
    pub ticket: Ticket,
    /// The record's offset.
    pub offset: Offset,
    /// Which attempt it is, from 1, over all retries known of.
    pub attempt: u32,
    /// When the record became pending.
    pub waited_since: Moment,
    /// The record.
    pub record: &'a R,
}
