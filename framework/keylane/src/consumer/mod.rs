//! One OS thread per subscription: polls, batches per partition, hands over, gives partitions back,
//! stores offsets.
//!
//! The thread never runs user code and never waits for it (guarantee G5). It decides nothing about
//! records; its own business is the assignment, the fetch pauses and the commits.

mod assigned;
mod assignment;
mod beginnings;
mod brokers;
mod client_position;
mod closing;
mod commit_queue;
mod commits;
mod committed;
mod context;
mod dead_letters;
mod drain;
mod end_offsets;
mod fetch_queue;
mod fetcher_wakeup;
mod group;
mod handover;
mod healthy;
mod housekeeping;
mod identities;
mod intake;
mod lag;
mod last_commit;
mod marks;
mod native;
mod paused_by;
mod poll_loop;
mod reader;
mod recent;
mod silence;
mod topic_ids;
mod trouble;
mod trouble_place;

pub(crate) use commit_queue::CommitQueue;
pub(crate) use context::Context;
pub(crate) use fetch_queue::{FetchQueue, Forwarding};
pub(crate) use poll_loop::{OwnerFactory, PollLoop, PollSettings};
pub(crate) use reader::Reader;
