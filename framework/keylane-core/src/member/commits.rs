//! From the owners' commit points to the client, which commits them.
//!
//! The client commits stored offsets by itself, each half commit interval and with every unassign.
//! It leaves out what [`Explicit`](super::Explicit) lists. That is committed explicitly, without
//! waiting: the client reports no result then, but such a commit can only lose a map, or be
//! repeated by the next stored point, never commit something unsettled (guarantee G4). Marks are
//! committed with an answer: see [`Marks`].

use super::commit_id::{CommitId, CommitIds};
use super::epoch_commits::{Committed, EpochCommits, Situation};
use super::last_commit::LastCommit;
use super::marks::{Answered, Marks, Outgoing, Refused};
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
    /// Buffers that are kept. At most one entry for each partition.
    store: Vec<usize>,
    commit: Vec<usize>,
    last: Vec<usize>,
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

    /// Takes in the answer to a commit of [`next_mark`](Self::next_mark).
    pub fn answer<R: AsMut<EpochCommits>>(
        &mut self,
        id: CommitId,
        result: CommitResult,
        table: &mut [R],
        now: Moment,
    ) -> Answered<'_> {
        self.marks.answer(id, result, table, now)
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

    /// The marks.
    pub fn marks(&mut self) -> &mut Marks {
        &mut self.marks
    }

    /// Whether answers are waited for.
    pub fn is_waiting(&self) -> bool {
        self.marks.is_waiting()
    }

    /// How the last commit of the rows that are given back goes on. After
    /// [`last_points`](Self::last_points).
    pub fn step_last<R: AsRef<EpochCommits>>(
        &mut self,
        last: &mut LastCommit,
        table: &[R],
        is_last: impl Fn(&R) -> bool,
        now: Moment,
    ) -> LastStep<'_> {
        if last.is_over() {
            return LastStep::Over;
        }
        if !last.is_due(now) {
            return LastStep::Wait;
        }
        self.last.clear();
        self.last
            .extend(table.iter().enumerate().filter_map(|(place, row)| {
                let has_point = row.as_ref().stored().is_some();
                (has_point && is_last(row)).then_some(place)
            }));
        if self.last.is_empty() {
            last.give_up();
            return LastStep::Over;
        }
        let id = self.ids.next();
        last.sent(id);
        LastStep::Send(Outgoing {
            id,
            rows: &self.last,
        })
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
