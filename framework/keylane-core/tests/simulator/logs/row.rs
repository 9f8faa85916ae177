//! One partition: what is read of it, its owner, and its commits.

use keylane_core::member::{CommitPoint, EpochCommits, PartitionLimits, ReadLog};
use keylane_core::{Partition, Position, Ticket};

use crate::broker::{Log, LogRecord};
use crate::client::has_commits;

pub(super) struct Row {
    pub(super) commits: EpochCommits,
    pub(super) read: ReadLog,
    pub(super) partition: Partition<usize>,
    /// The client's position.
    pub(super) fetch: i64,
    /// The lowest offset that was taken in.
    pub(super) first: i64,
    /// The log is another one, or has lost what was read of it.
    pub(super) has_gone_back: bool,
    pub(super) is_paused: bool,
    pub(super) limits: PartitionLimits,
    pub(super) held: bool,
    /// Handed over, and not taken in by the owner.
    pub(super) inbox: Vec<LogRecord>,
    pub(super) delivered: u64,
    pub(super) taken: u64,
    pub(super) leader_epoch: Option<u32>,
    pub(super) running: Vec<(Ticket, i64, usize)>,
    /// What the owner has shown last. `None` before the end of its first pass.
    pub(super) figures: Option<Figures>,
    pub(super) report: Option<CommitPoint>,
    /// The latest point that was reported.
    pub(super) last: Option<CommitPoint>,
}

#[derive(Clone, Copy)]
pub(super) struct Figures {
    pub(super) watermark: Option<Position>,
    pub(super) released: u64,
    pub(super) ahead: u64,
}

has_commits!(Row);

impl Row {
    /// A position outside of the log is reset.
    pub(super) fn fetch_in(&mut self, log: &Log) {
        if self.fetch > log.end() {
            self.fetch = 0;
        }
    }

    /// As the polling thread sees it.
    pub(super) fn pending(&self) -> u64 {
        self.delivered - self.figures.map_or(0, |figures| figures.released)
    }
}
