//! Attempts: one call of the processor each, polled in the owner first and in a task of its own
//! after that.

mod attempt;
mod first_poll;
mod outcome;
mod spawn_policy;
mod spawned;

pub(super) use attempt::{Call, attempt};
pub(super) use first_poll::{FirstPoll, Pending};
pub(super) use outcome::AttemptOutcome;
pub(super) use spawn_policy::SpawnPolicy;
pub(super) use spawned::{PolledIn, run_spawned};
