//! From the owners' commit points to the client, which commits them.
//!
//! The client commits stored offsets by itself, each half commit interval and with every unassign.
//! It leaves out what [`Explicit`](super::Explicit) lists. That is committed explicitly, without
//! waiting: the client reports no result then, but such a commit can only lose a map, or be
//! repeated by the next stored point, never commit something unsettled (guarantee G4). Marks are
//! committed with an answer, see [`next_mark`](Commits::next_mark), and so is what was reported last of
//! partitions that are given back, see [`step_last`](Commits::step_last).

use super::commit_id::{CommitId, CommitIds};
use super::epoch_commits::{Committed, EpochCommits, Situation};
use super::last_commit::{LastAnswer, LastCommit};
use super::marks::{MarkAnswer, Marks, Outgoing, Refused};
use super::metadata_limit::MetadataLimit;
use super::point::CommitPoint;
use super::refusal::CommitResult;
use crate::partition::Mark;
use crate::time::Moment;

/// The commits of one member: what is stored with the client, what is committed explicitly, and
/// what is committed with an answer.
///
/// Rows are the partitions of the table that comes in; orders name them by their place in it.
#[derive(Debug, Default)]
pub struct Commits {
    limit: MetadataLimit,
    marks: Marks,
    ids: CommitIds,
    last: Option<LastCommit>,
    /// Buffers that are kept. At most one entry for each partition.
    store: Vec<usize>,
    commit: Vec<usize>,
    last_rows: Vec<usize>,
}

/// What is to be done with the stored points of some rows, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orders<'a> {
    /// They are stored with the client.
    pub store: &'a [usize],
    /// They are committed at once, without an answer.
    pub commit: &'a [usize],
}

/// What the last commit of partitions that are given back needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastStep<'a> {
    /// An answer, or time.
    Wait,
    /// It is sent.
    Send(Outgoing<'a>),
    /// Nothing more.
    Over,
}

/// What the answer to a commit means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered<'a> {
    /// The broker has these marks; the owners wait for the news. By row of the table.
    Confirmed(&'a [(usize, Mark)]),
    /// The metadata is too large for the broker: [`Commits::shrink`] is to follow.
    TooLarge,
    /// A commit that starts wait for was refused. It is tried again.
    Refused(Refused),
    /// The broker will never take the last commit from this member; what was settled since the
    /// commit before may be repeated.
    LastRefused,
    /// Nothing is to be done: the last commit was taken, or is sent again in a moment, or nothing
    /// waits for this answer any longer.
    Nothing,
}

/// The broker refuses metadata, and less is committed from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shrunk<'a> {
    /// How much; `None` where it could not become less.
    pub to: Option<MetadataLimit>,
    /// The points of these rows are stored with the client again.
    pub store: &'a [usize],
}

impl Commits {
    /// Takes in what the owners report: `report` gives a row's new point, if there is one.
    pub fn points<R: AsMut<EpochCommits>>(
        &mut self,
        table: &mut [R],
        suspended: bool,
        report: impl FnMut(&mut R) -> Option<Report>,
    ) -> Orders<'_> {
        self.last_points(table, suspended, report, |_| false)
    }

    /// The same, where the points of some rows are their last ones: these take back their marks.
    pub fn last_points<R: AsMut<EpochCommits>>(
        &mut self,
        table: &mut [R],
        suspended: bool,
        mut report: impl FnMut(&mut R) -> Option<Report>,
        is_last: impl Fn(&R) -> bool,
    ) -> Orders<'_> {
        self.store.clear();
        self.commit.clear();
        for (place, row) in table.iter_mut().enumerate() {
            let report = report(row);
            let is_last = is_last(row);
            let commits = row.as_mut();
            let mut taken = report.and_then(|report| {
                let situation = Situation {
                    suspended,
                    ending: report.ending,
                };
                commits.take(report.point, self.limit, situation)
            });
            if is_last && let Some(last) = commits.last_point() {
                let situation = Situation {
                    suspended,
                    ending: true,
                };
                taken = commits.take(last, self.limit, situation).or(taken);
            }
            self.store.extend(taken.map(|_| place));
            let is_explicit = matches!(taken, Some(Committed::Explicitly(_)));
            self.commit.extend(is_explicit.then_some(place));
        }
        Orders {
            store: &self.store,
            commit: &self.commit,
        }
    }

    /// A broker has refused metadata for its size.
    pub fn shrink<R: AsMut<EpochCommits>>(&mut self, table: &mut [R]) -> Shrunk<'_> {
        let to = self.limit.smaller();
        self.limit = to.unwrap_or(self.limit);
        self.store.clear();
        for (place, commits) in table.iter_mut().map(AsMut::as_mut).enumerate() {
            commits.shrink(self.limit);
            self.store.extend(commits.stored().map(|_| place));
        }
        Shrunk {
            to,
            store: &self.store,
        }
    }

    /// Takes in the answer to a commit.
    pub fn answer<R: AsMut<EpochCommits>>(
        &mut self,
        id: CommitId,
        result: CommitResult,
        table: &mut [R],
        now: Moment,
    ) -> Answered<'_> {
        if let Some(last) = &mut self.last {
            match last.answer(id, result, now) {
                LastAnswer::Stale => {}
                LastAnswer::Taken | LastAnswer::Again => return Answered::Nothing,
                LastAnswer::TooLarge => return Answered::TooLarge,
                LastAnswer::GivenUp => return Answered::LastRefused,
            }
        }
        match self.marks.answer(id, result, table, now) {
            MarkAnswer::Confirmed(marks) => Answered::Confirmed(marks),
            MarkAnswer::TooLarge => Answered::TooLarge,
            MarkAnswer::Refused(refused) => Answered::Refused(refused),
            MarkAnswer::Stale => Answered::Nothing,
        }
    }

    /// Where the broker takes no metadata at all: the marks that work goes on without, by row.
    pub fn given_up_marks<R: AsMut<EpochCommits>>(&mut self, table: &mut [R]) -> &[(usize, Mark)] {
        match self.limit {
            MetadataLimit::Nothing => self.marks.give_up(table),
            MetadataLimit::All | MetadataLimit::WithoutMap => &[],
        }
    }

    /// The next commit that needs an answer, if one is due.
    pub fn next_mark<R: AsRef<EpochCommits>>(
        &mut self,
        table: &[R],
        now: Moment,
    ) -> Option<Outgoing<'_>> {
        self.marks.next(table, &mut self.ids, now)
    }

    /// The client did not take the commit of [`next_mark`](Self::next_mark).
    pub fn mark_not_sent(&mut self, now: Moment) -> Refused {
        self.marks.not_sent(now)
    }

    /// Whether answers are waited for that starts, or a doubt of membership, wait for.
    pub fn are_awaited(&self) -> bool {
        self.marks.is_waiting()
    }

    /// A commit that is sent from now on and answered proves that this is a member still.
    pub fn ask_for_proof(&mut self) {
        self.marks.ask_for_proof();
    }

    /// It is not waited for any longer.
    pub fn forget_proof(&mut self) {
        self.marks.forget_proof();
    }

    /// Whether there was such an answer, or nothing to commit for: then nothing has started, and
    /// what does waits for its mark. Reports it once.
    pub fn take_proof(&mut self) -> bool {
        self.marks.take_proof()
    }

    /// A last commit is due, of a hand-over or of the shutdown. An earlier one is forgotten.
    pub fn begin_last(&mut self, now: Moment) {
        self.last = Some(LastCommit::new(now));
    }

    /// How the last commit goes on, of the rows that are given back. After
    /// [`last_points`](Self::last_points).
    pub fn step_last<R: AsRef<EpochCommits>>(
        &mut self,
        table: &[R],
        is_last: impl Fn(&R) -> bool,
        now: Moment,
    ) -> LastStep<'_> {
        let Some(last) = self.last.as_mut().filter(|last| !last.is_over()) else {
            return LastStep::Over;
        };
        if !last.is_due(now) {
            return LastStep::Wait;
        }
        self.last_rows.clear();
        for (place, row) in table.iter().enumerate() {
            if row.as_ref().stored().is_some() && is_last(row) {
                self.last_rows.push(place);
            }
        }
        if self.last_rows.is_empty() {
            last.give_up();
            return LastStep::Over;
        }
        let id = self.ids.next();
        last.sent(id);
        LastStep::Send(Outgoing {
            id,
            rows: &self.last_rows,
        })
    }

    /// The client did not take the last commit, and will not.
    pub fn last_not_sent(&mut self) {
        if let Some(last) = &mut self.last {
            last.give_up();
        }
    }
}

/// A new point of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The point.
    pub point: CommitPoint,
    /// Its epoch ends: the partition is given back, or its owner has ended.
    pub ending: bool,
}

#[cfg(test)]
mod tests;
