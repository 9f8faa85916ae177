//! The model of a broker: two logs with holes and what is committed for them, and the truth about
//! every record.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use keylane_core::{LeaderEpoch, Offset, Position, Reason, SettledMap, Settlement, commit_map};

use crate::violation::{Checked, ensure};

pub(crate) const ORIGIN: usize = 0;
pub(crate) const RETRY: usize = 1;
pub(crate) const LOGS: [usize; 2] = [ORIGIN, RETRY];

#[derive(Default)]
pub(crate) struct Broker {
    pub(crate) logs: [Log; 2],
    /// What is on the dead-letter topic, by identity; a write whose acknowledgement was lost is
    /// there more than once.
    pub(crate) dead_letters: BTreeMap<usize, Vec<Reason>>,
}

#[derive(Default)]
pub(crate) struct Log {
    pub(crate) records: Vec<LogRecord>,
    next: i64,
    /// The leader's: a log that was cut is written on under the next one.
    epoch: u32,
    /// Where the epochs after the first begin.
    epoch_starts: BTreeMap<u32, i64>,
    pub(crate) committed: Option<Commit>,
    /// The truth: what was finished, by a success that was accepted or a write that was
    /// acknowledged.
    pub(crate) settled: BTreeMap<i64, BTreeSet<&'static str>>,
}

/// A record in a log. Its identity stays the same through the retry topic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogRecord {
    pub(crate) offset: i64,
    pub(crate) identity: usize,
    pub(crate) key: Option<u64>,
    pub(crate) due: Option<u64>,
    pub(crate) rounds: u32,
    pub(crate) attempts: u32,
    pub(crate) retried_for: Duration,
    /// The leader's that took it.
    pub(crate) epoch: u32,
    /// Another group has written it.
    pub(crate) theirs: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Commit {
    pub(crate) position: i64,
    pub(crate) leader_epoch: Option<LeaderEpoch>,
    pub(crate) metadata: String,
}

impl Log {
    /// Appends after a hole of this many offsets (transaction markers, compaction).
    pub(crate) fn append(&mut self, hole: i64, record: LogRecord) {
        let offset = self.next + hole;
        self.records.push(LogRecord {
            offset,
            epoch: self.epoch,
            ..record
        });
        self.next = offset + 1;
    }

    pub(crate) fn end(&self) -> i64 {
        self.next
    }

    /// Loses what lies from `end` on, as an unclean election does. The identities that were there.
    pub(crate) fn cut(&mut self, end: i64) -> Vec<usize> {
        let kept = self.records.partition_point(|record| record.offset < end);
        let lost = self
            .records
            .drain(kept..)
            .map(|record| record.identity)
            .collect();
        self.settled.split_off(&end);
        self.next = end;
        self.epoch += 1;
        self.epoch_starts.retain(|_, start| *start < end);
        self.epoch_starts.insert(self.epoch, end);
        lost
    }

    /// What the leader answers to OffsetForLeaderEpoch: the end of this epoch, or of the last one
    /// before it.
    fn end_of_epoch(&self, epoch: LeaderEpoch) -> i64 {
        let later = self.epoch_starts.range(epoch.get() + 1..).next();
        later.map_or(self.next, |(_, start)| *start)
    }

    /// Where a position is read from that was confirmed by its epoch: at the cut, if the log was
    /// cut below it.
    pub(crate) fn confirmed(&self, position: i64, epoch: Option<LeaderEpoch>) -> i64 {
        epoch.map_or(position, |epoch| position.min(self.end_of_epoch(epoch)))
    }

    pub(crate) fn read(&self, from: i64, up_to: usize) -> Vec<LogRecord> {
        let index = self.records.partition_point(|record| record.offset < from);
        self.records[index..].iter().take(up_to).copied().collect()
    }

    pub(crate) fn get(&self, offset: i64) -> Option<&LogRecord> {
        let index = self
            .records
            .binary_search_by_key(&offset, |record| record.offset)
            .ok()?;
        self.records.get(index)
    }

    pub(crate) fn settle(&mut self, offset: i64, outcome: Settlement) {
        let word = match outcome {
            Settlement::Done => "done",
            Settlement::Skipped => "skipped",
            Settlement::Retried => "retried",
            Settlement::DeadLettered => "dead-lettered",
            Settlement::Foreign => "foreign",
            Settlement::SkippedByOperator => "skipped by an operator",
        };
        self.settled.entry(offset).or_default().insert(word);
    }

    /// G1 and G4: a commit covers only what is finished, and names only what is finished.
    pub(crate) fn check_commit(&self, commit: &Commit) -> Checked<SettledMap> {
        let position = self.confirmed(commit.position, commit.leader_epoch);
        for record in self
            .records
            .iter()
            .take_while(|record| record.offset < position)
        {
            ensure!(
                self.settled.contains_key(&record.offset),
                "G1: the commit of {} covers offset {}, which is not settled",
                commit.position,
                record.offset
            );
        }
        let (map, under) =
            match commit_map::decode(Position::new(commit.position), &commit.metadata) {
                Ok(content) => (content.settled, content.leader_epoch),
                Err(error) => {
                    return Err(format!(
                        "G4: our own metadata cannot be read: {error} ({commit:?})"
                    ));
                }
            };
        for record in &self.records {
            let is_later = under.is_some_and(|under| LeaderEpoch::new(record.epoch) > under);
            if map.contains(Offset::new(record.offset)) && !is_later {
                ensure!(
                    self.settled.contains_key(&record.offset),
                    "G4: the map of the commit of {} names offset {}, which is not settled",
                    commit.position,
                    record.offset
                );
            }
        }
        Ok(map)
    }
}
