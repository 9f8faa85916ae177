//! Retries of other groups, where groups share a retry topic: the shell around
//! [`Ownership`] and [`Groups`], which decide.
//!
//! The owners of the retry topic's partitions look up what to do with a record. Another thread
//! queries the brokers whether a group is alive, one query at a time. Nothing here waits for an
//! answer: a record that needs one is held, and checked again when the answer has come.

mod answers;
mod asker;
mod held;
mod ownership;
mod partition;

pub(crate) use ownership::RetryOwnership;
pub(super) use partition::Foreign;
