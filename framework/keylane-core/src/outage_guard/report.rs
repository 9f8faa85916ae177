//! What partitions report to the guard, and ask it.

use std::time::Duration;

use crate::failed_attempt::{ErrorClass, Place};
use crate::failure::Reason;

/// One partition of the process in one epoch, as the guard distinguishes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Source(pub(super) u64);

impl Source {
    /// The name of a lane that has no key: no other record has it.
    pub(crate) const fn lane_of(self, offset: i64) -> u64 {
        // Two odd constants spread the numbers; a collision would count two lanes as one.
        self.0.wrapping_mul(0x9E37_79B9_7F4A_7C15)
            ^ (offset as u64).wrapping_mul(0xD6E8_FEB8_6659_FD93)
    }
}

/// Whose attempt failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report {
    pub(crate) source: Source,
    pub(crate) lane: u64,
    /// Its record has not come through a retry topic.
    pub(crate) is_first_hand: bool,
}

/// Whether there is a total outage of the subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// There is none.
    Up,
    /// There seems to be one.
    Doubtful,
    /// It has lasted for the quiet time.
    Out,
    /// There is an outage, and no time is given back for it: an operator has released what it
    /// holds, or the guard gets only records of the retry topic.
    Discounted,
}

/// What a record was when its attempt failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) reason: Reason,
    pub(crate) class: ErrorClass,
    pub(crate) place: Option<Place>,
    /// How long it was held while others succeeded.
    pub(crate) held_for: Duration,
}
