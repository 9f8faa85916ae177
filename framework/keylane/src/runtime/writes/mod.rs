//! Writes to the retry and dead-letter topics, and their answers.

mod answers;
mod history;
mod outgoing;

pub(super) use answers::settle_written;
pub(super) use outgoing::Writes;
