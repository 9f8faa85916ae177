//! What an inbox identifies a record by.

use std::time::{Instant, SystemTime};

use crate::record::Origin;

/// What an inbox identifies a record by, and what it judges by whether it can.
#[derive(Clone, Debug)]
pub struct TaskIdentity {
    /// Names the record for good, as far as its log is known.
    pub origin: Origin,
    /// When this attempt began, by the monotonic clock. This member had not stood still then, and
    /// was one of its group as far as it knew.
    pub began: Instant,
    /// When the record failed first, of a retry.
    pub first_failure: FirstFailure,
    /// The log will be known soon, and is not yet: another attempt would have another identity.
    pub awaits_log: bool,
}

/// When a record failed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstFailure {
    /// It was read from its origin topic: if it has failed, the origin's position waits for it.
    Here,
    /// It was read from a retry topic, and failed first at this time of that member's clock.
    At(SystemTime),
    /// It was read from a retry topic, and no header says when it failed first: it was written back
    /// from a dead letter, or by another program.
    Unknown,
}
