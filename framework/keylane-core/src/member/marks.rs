//! Commits that have to be on the broker before records start: the marks of crash-safe poison
//! detection, and first positions.
//!
//! All partitions' wanted marks go out together, one commit at a time. Cost when nothing crashes:
//! one commit per assignment. While the coordinator is away starts wait: those of partitions that
//! have not crashed for [`MARK_PATIENCE`](crate::MARK_PATIENCE) at most, others as long as it
//! takes.

use std::sync::Arc;
use std::time::Duration;

use super::EpochCommits;
use super::commit_id::{CommitId, CommitIds};
use super::epoch_commits::Due;
use super::refusal::{CommitResult, Refusal};
use crate::offset::Epoch;
use crate::partition::Mark;
use crate::time::Moment;

/// How long after a refusal the next try waits.
const AGAIN: Duration = Duration::from_millis(100);
/// Refusals for this long are a trouble. Rebalances and coordinators that move refuse for a moment.
const LASTING: Duration = Duration::from_secs(5);

/// The commits that need an answer, of all partitions of a member.
#[derive(Debug, Default)]
pub(super) struct Marks {
    under_way: Option<CommitId>,
    /// What the commit under way was sent for; empty where only for its answer. At most one for
    /// each partition.
    sent: Vec<Sent>,
    /// The rows of the latest commit. At most one for each partition.
    rows: Vec<usize>,
    /// What the latest answer has confirmed. At most one for each partition.
    confirmed: Vec<(usize, Mark)>,
    proof: Proof,
    again_at: Option<Moment>,
    /// Since when all tries have been refused.
    refused_since: Option<Moment>,
    /// Some topic was refused: one topic at a time.
    by_topic: bool,
    /// The topic that was committed last of those.
    topic: Option<Arc<str>>,
}

/// Of membership: brokers take a commit from members only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Proof {
    #[default]
    None,
    /// The next commit is to bring it. One that is under way already may have been answered long
    /// ago.
    Wanted,
    UnderWay,
    Given,
}

/// What was committed for one epoch of a partition. An answer that comes after the epoch has ended
/// confirms nothing (guarantee G7).
#[derive(Clone, Debug)]
struct Sent {
    /// Where the epoch was in the table. It may have moved since.
    row: usize,
    epoch: Epoch,
    mark: Mark,
}

/// A commit to be sent: the stored points of these rows of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing<'a> {
    /// Comes back with the answer.
    pub id: CommitId,
    /// Which rows.
    pub rows: &'a [usize],
}

/// What the answer to a commit of [`Marks`] means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MarkAnswer<'a> {
    /// The broker has these marks. By row of the table.
    Confirmed(&'a [(usize, Mark)]),
    /// The metadata is too large for the broker.
    TooLarge,
    /// It was refused.
    Refused(Refused),
    /// It is no answer to the commit under way.
    Stale,
}

/// A commit with an answer was refused, or could not be sent. Another try follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// It is the first of a series.
    pub first: bool,
    /// The series has lasted for some seconds.
    pub lasting: bool,
}

impl Marks {
    /// Whether answers are waited for.
    pub(super) fn is_waiting(&self) -> bool {
        self.under_way.is_some() || self.again_at.is_some() || self.proof != Proof::None
    }

    /// A commit that is sent from now on and answered proves that this is a member still.
    pub(super) fn ask_for_proof(&mut self) {
        self.proof = Proof::Wanted;
    }

    /// It is not waited for any longer.
    pub(super) fn forget_proof(&mut self) {
        self.proof = Proof::None;
    }

    /// Whether there was such an answer, or nothing to commit for: then nothing has started, and
    /// what does waits for its mark. Reports it once.
    pub(super) fn take_proof(&mut self) -> bool {
        let given = self.proof == Proof::Given;
        if given {
            self.proof = Proof::None;
        }
        given
    }

    /// Takes in an answer.
    pub(super) fn answer<R: AsMut<EpochCommits>>(
        &mut self,
        id: CommitId,
        result: CommitResult,
        rows: &mut [R],
        now: Moment,
    ) -> MarkAnswer<'_> {
        if self.under_way != Some(id) {
            return MarkAnswer::Stale;
        }
        self.under_way = None;
        if self.proof == Proof::UnderWay {
            self.proof = match result {
                Ok(()) => Proof::Given,
                Err(refusal) if refusal.proves_membership() => Proof::Given,
                Err(_) => Proof::Wanted,
            };
        }
        match result {
            Ok(()) => {
                self.refused_since = None;
                self.confirm(rows);
                let waits = |row: &mut R| row.as_mut().unconfirmed_mark().is_some();
                self.by_topic &= rows.iter_mut().any(waits);
                MarkAnswer::Confirmed(&self.confirmed)
            }
            Err(Refusal::MetadataTooLarge) => MarkAnswer::TooLarge,
            Err(refusal) => {
                // The answer to a commit of several topics does not name the refused one:
                // librdkafka puts the error of one in place of all others. From now on each topic
                // is committed by itself, until no mark is waited for.
                self.by_topic |= refusal == Refusal::Topic;
                MarkAnswer::Refused(self.not_taken(now))
            }
        }
    }

    /// Chooses what is committed next: the stored points of all partitions whose mark is wanted
    /// and not confirmed.
    pub(super) fn next<R: AsRef<EpochCommits>>(
        &mut self,
        table: &[R],
        ids: &mut CommitIds,
        now: Moment,
    ) -> Option<Outgoing<'_>> {
        if self.under_way.is_some() || self.again_at.is_some_and(|again| now < again) {
            return None;
        }
        self.again_at = None;
        let commits = || table.iter().map(AsRef::as_ref).enumerate();
        let is_wanted = |row: &EpochCommits| row.unconfirmed_mark().is_some();
        self.rows.clear();
        self.rows.extend(
            commits()
                .filter(|(_, row)| is_wanted(row))
                .map(|(at, _)| at),
        );
        // Where no mark is wanted any commit proves the membership: the same points again.
        let only_proof = self.rows.is_empty() && self.proof == Proof::Wanted;
        if only_proof {
            let with_a_point = commits().filter(|(_, row)| row.stored().is_some());
            self.rows.extend(with_a_point.map(|(at, _)| at));
        }
        if self.by_topic {
            self.keep_next_topic(table);
        }
        if self.rows.is_empty() {
            if self.proof == Proof::Wanted {
                self.proof = Proof::Given;
            }
            return None;
        }
        if self.proof == Proof::Wanted {
            self.proof = Proof::UnderWay;
        }
        self.sent.clear();
        if !only_proof {
            self.sent.extend(self.rows.iter().filter_map(|&row| {
                let commits = table[row].as_ref();
                Some(Sent {
                    row,
                    epoch: commits.epoch(),
                    mark: commits.unconfirmed_mark()?,
                })
            }));
        }
        let id = ids.next();
        self.under_way = Some(id);
        Some(Outgoing {
            id,
            rows: &self.rows,
        })
    }

    /// This commit could not be sent. `None` where it is none of these.
    pub(super) fn not_sent(&mut self, id: CommitId, now: Moment) -> Option<Refused> {
        self.under_way.take_if(|under_way| *under_way == id)?;
        if self.proof == Proof::UnderWay {
            self.proof = Proof::Wanted;
        }
        Some(self.not_taken(now))
    }

    /// The broker takes no metadata at all: work goes on without protection. Returns what is
    /// confirmed by that, by row of the table.
    pub(super) fn give_up<R: AsMut<EpochCommits>>(&mut self, table: &mut [R]) -> &[(usize, Mark)] {
        self.confirmed.clear();
        for (row, commits) in table.iter_mut().map(AsMut::as_mut).enumerate() {
            if let Some(mark) = commits.unconfirmed_mark()
                && !commits.is_opening()
            {
                commits.confirm(mark);
                commits.owe(Due::AtInterval);
                self.confirmed.push((row, mark));
            }
        }
        &self.confirmed
    }

    fn confirm<R: AsMut<EpochCommits>>(&mut self, table: &mut [R]) {
        self.confirmed.clear();
        for Sent {
            row, epoch, mark, ..
        } in self.sent.drain(..)
        {
            let is_there = table
                .get_mut(row)
                .is_some_and(|at| at.as_mut().epoch() == epoch);
            let row = if is_there {
                Some(row)
            } else {
                table.iter_mut().position(|at| at.as_mut().epoch() == epoch)
            };
            if let Some(row) = row {
                table[row].as_mut().confirm(mark);
                self.confirmed.push((row, mark));
            }
        }
    }

    /// Of these rows' topics the one that comes after the last.
    fn keep_next_topic<R: AsRef<EpochCommits>>(&mut self, table: &[R]) {
        let topics = || self.rows.iter().map(|&row| table[row].as_ref().topic());
        let is_later = |topic: &&Arc<str>| self.topic.as_ref().is_none_or(|last| *topic > last);
        let next = topics().filter(is_later).min();
        let turn = next.or_else(|| topics().min()).cloned();
        if let Some(turn) = &turn {
            self.rows.retain(|&row| table[row].as_ref().topic() == turn);
        }
        self.topic = turn;
    }

    /// The next try follows in a moment.
    fn not_taken(&mut self, now: Moment) -> Refused {
        self.again_at = Some(now + AGAIN);
        let first = self.refused_since.is_none();
        let since = *self.refused_since.get_or_insert(now);
        Refused {
            first,
            lasting: now.since(since) >= LASTING,
        }
    }
}

#[cfg(test)]
mod tests;
