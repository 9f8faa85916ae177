//! One OS thread per subscription: polls, batches per partition, hands over, gives partitions back,
//! stores offsets.
//!
//! The thread never runs user code and never waits for it (guarantee G5). It decides nothing about
//! records; its own business is the assignment, the fetch pauses and the commits.

mod commits;
mod failures;
mod group;
mod housekeeping;
mod member;
mod partitions;
mod settings;
mod thread;
mod watch;

pub(crate) use settings::{OwnerFactory, PollSettings};
pub(crate) use thread::PollLoop;
