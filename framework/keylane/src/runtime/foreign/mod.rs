//! Retries of other groups, where groups share a retry topic: the shell around
//! [`Ownership`] and [`Groups`], which decide.
//!
//! The owners of the retry topic's partitions ask what becomes of a record; another thread asks the
//! brokers whether a group is alive, one question at a time. Nothing here waits for an answer: a
//! record that needs one is held, and looked at again when the answer has come.

mod answers;
mod asker;
mod held;
mod ownership;
mod partition;

pub(crate) use ownership::RetryOwnership;
pub(super) use partition::Foreign;
