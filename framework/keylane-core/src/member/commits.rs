//! Brings the owners' commit points to the broker.
//!
//! The client commits nothing by itself: it may repeat a refused commit, or hold one back without
//! a coordinator, and let later ones pass. An older commit would take the place of the last one. So
//! all commits are sent from here, one at a time, each with a name. The next one waits for its
//! answer. In this order:
//!
//! 1. the [last commit](Commits::step_last) of partitions that are given back;
//! 2. once in each commit interval, what is new of all partitions;
//! 3. marks, which starts wait for;
//! 4. what is [due at once](Due::AtOnce).

use std::time::Duration;

use super::commit_id::{CommitId, CommitIds};
use super::epoch_commits::{Due, EpochCommits, Report};
use super::last_commit::{LastAnswer, LastCommit};
use super::marks::{MarkAnswer, Marks, Outgoing, Refused};
use super::metadata_limit::MetadataLimit;
use super::refusal::{CommitResult, Refusal};
use crate::offset::Epoch;
use crate::partition::Mark;
use crate::time::Moment;

/// How long what is due at once waits after a refusal.
const AGAIN: Duration = Duration::from_secs(1);

/// The commits of one member.
///
/// Rows are the partitions of the table that comes in; orders name them by their place in it.
#[derive(Debug)]
pub struct Commits {
    interval: Duration,
    next_at: Moment,
    /// The commit before was one of the interval.
    after_interval: bool,
    limit: MetadataLimit,
    marks: Marks,
    ids: CommitIds,
    last: Option<LastCommit>,
    under_way: Option<CommitId>,
    /// What the commit under way is about, and when it was due. At most one for each partition.
    sent: Vec<(Epoch, Option<Due>)>,
    /// A buffer that is kept. At most one entry for each partition.
    rows: Vec<usize>,
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
    /// The broker will not take the last commit, or not for one of its topics; what was settled
    /// since the commit before may be repeated.
    LastRefused,
    /// Nothing is to be done.
    Nothing,
}

impl Commits {
    /// What is new is committed each `interval`.
    pub fn new(interval: Duration) -> Self {
        Self {
            interval,
            after_interval: false,
            next_at: Moment::ORIGIN + interval,
            limit: MetadataLimit::default(),
            marks: Marks::default(),
            ids: CommitIds::default(),
            last: None,
            under_way: None,
            sent: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// Takes in what the owners report: `report` gives a row's new point, if there is one.
    pub fn points<R: AsMut<EpochCommits>>(
        &mut self,
        table: &mut [R],
        report: impl FnMut(&mut R) -> Option<Report>,
    ) {
        self.last_points(table, report, |_| false);
    }

    /// The same, where the points of some rows are their last ones: these take back their marks.
    pub fn last_points<R: AsMut<EpochCommits>>(
        &mut self,
        table: &mut [R],
        mut report: impl FnMut(&mut R) -> Option<Report>,
        is_last: impl Fn(&R) -> bool,
    ) {
        for row in table {
            let report = report(row);
            let is_last = is_last(row);
            let commits = row.as_mut();
            if let Some(report) = report {
                commits.take(report, self.limit);
            }
            if is_last && let Some(point) = commits.last_point() {
                let ending = true;
                commits.take(Report { point, ending }, self.limit);
            }
        }
    }

    /// A broker has refused metadata for its size: less is committed from now on. How much; `None`
    /// where it could not become less.
    pub fn shrink<R: AsMut<EpochCommits>>(&mut self, table: &mut [R]) -> Option<MetadataLimit> {
        let smaller = self.limit.smaller()?;
        self.limit = smaller;
        for commits in table.iter_mut().map(AsMut::as_mut) {
            commits.shrink(smaller);
        }
        Some(smaller)
    }

    /// Takes in the answer to a commit.
    pub fn answer<R: AsMut<EpochCommits>>(
        &mut self,
        id: CommitId,
        result: CommitResult,
        table: &mut [R],
        now: Moment,
    ) -> Answered<'_> {
        let is_under_way = self.under_way == Some(id);
        if is_under_way && result.is_ok() {
            self.under_way = None;
        } else if is_under_way {
            self.failed(table, now + AGAIN);
        }
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
            MarkAnswer::Stale if is_under_way && result == Err(Refusal::MetadataTooLarge) => {
                Answered::TooLarge
            }
            MarkAnswer::Stale => Answered::Nothing,
        }
    }

    /// The broker does not have the commit under way, as far as is known: it is due as it was, at
    /// once not before `from`.
    fn failed<R: AsMut<EpochCommits>>(&mut self, table: &mut [R], from: Moment) {
        self.under_way = None;
        for commits in table.iter_mut().map(AsMut::as_mut) {
            let sent = self
                .sent
                .iter()
                .find(|(epoch, _)| *epoch == commits.epoch());
            if let Some((_, due)) = sent {
                commits.owe_again(due.unwrap_or(Due::AtInterval), from);
            }
        }
    }

    /// Where the broker takes no metadata at all: the marks that work goes on without, by row.
    pub fn given_up_marks<R: AsMut<EpochCommits>>(&mut self, table: &mut [R]) -> &[(usize, Mark)] {
        match self.limit {
            MetadataLimit::Nothing => self.marks.give_up(table),
            MetadataLimit::All | MetadataLimit::WithoutMap => &[],
        }
    }

    /// The next commit, if one is due and no other is under way.
    pub fn next<R: AsRef<EpochCommits> + AsMut<EpochCommits>>(
        &mut self,
        table: &mut [R],
        now: Moment,
    ) -> Option<Outgoing<'_>> {
        let is_last_due = self.last.as_ref().is_some_and(|last| !last.is_over());
        if self.under_way.is_some() || is_last_due {
            return None;
        }
        // An answer may take longer than the interval: marks have every second turn.
        let is_marks_turn = std::mem::take(&mut self.after_interval);
        if is_marks_turn || !self.takes_interval(table, now) {
            if let Some(marks) = self.marks.next(table, &mut self.ids, now) {
                let Outgoing { id, rows } = marks;
                self.rows.clear();
                self.rows.extend_from_slice(rows);
                return Some(self.send(id, table));
            }
            let is_taken = is_marks_turn && self.takes_interval(table, now);
            if !is_taken && !self.choose(table, |row| row.is_due_at_once(now)) {
                return None;
            }
        }
        let id = self.ids.next();
        Some(self.send(id, table))
    }

    /// Chooses what is new of all partitions, if the interval is over.
    fn takes_interval<R: AsRef<EpochCommits>>(&mut self, table: &[R], now: Moment) -> bool {
        let is_due = now >= self.next_at
            && self.choose(table, |row| row.due().is_some_and(|due| due != Due::AsMark));
        if is_due {
            self.next_at = now + self.interval;
            self.after_interval = true;
        }
        is_due
    }

    /// The client did not take a commit. `Some` where starts wait for it; the others are tried
    /// again with the next interval.
    pub fn not_sent<R: AsMut<EpochCommits>>(
        &mut self,
        id: CommitId,
        table: &mut [R],
        now: Moment,
    ) -> Option<Refused> {
        if self.under_way == Some(id) {
            self.failed(table, now + AGAIN);
        }
        if let Some(last) = &mut self.last {
            last.not_sent(id);
        }
        self.marks.not_sent(id, now)
    }

    /// Chooses the rows that are so; whether there are any.
    fn choose<R: AsRef<EpochCommits>>(
        &mut self,
        table: &[R],
        is_so: impl Fn(&EpochCommits) -> bool,
    ) -> bool {
        self.rows.clear();
        let rows = table.iter().enumerate();
        let chosen = rows.filter(|(_, row)| is_so(row.as_ref()));
        self.rows.extend(chosen.map(|(place, _)| place));
        !self.rows.is_empty()
    }

    /// The rows that were chosen are on their way.
    fn send<R: AsMut<EpochCommits>>(&mut self, id: CommitId, table: &mut [R]) -> Outgoing<'_> {
        self.under_way = Some(id);
        self.sent.clear();
        for &row in &self.rows {
            let commits = table[row].as_mut();
            let due = commits.sent();
            self.sent.push((commits.epoch(), due));
        }
        Outgoing {
            id,
            rows: &self.rows,
        }
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
    pub fn step_last<R: AsRef<EpochCommits> + AsMut<EpochCommits>>(
        &mut self,
        table: &mut [R],
        is_last: impl Fn(&R) -> bool,
        now: Moment,
    ) -> LastStep<'_> {
        let Some(last) = self.last.as_mut().filter(|last| !last.is_over()) else {
            return LastStep::Over;
        };
        // One that is under way could be repeated by the client, and come to the broker after it.
        if self.under_way.is_some() || !last.is_due(now) {
            return LastStep::Wait;
        }
        match self.rest(table, is_last) {
            Some(id) => {
                if let Some(last) = &mut self.last {
                    last.sent(id);
                }
                LastStep::Send(Outgoing {
                    id,
                    rows: &self.rows,
                })
            }
            None => {
                self.last = None;
                LastStep::Over
            }
        }
    }

    /// The last commit is no longer waited for. What the broker is not known to have of the rows
    /// that are given back goes out all the same, if anything.
    pub fn end_last<R: AsRef<EpochCommits> + AsMut<EpochCommits>>(
        &mut self,
        table: &mut [R],
        is_last: impl Fn(&R) -> bool,
    ) -> Option<Outgoing<'_>> {
        self.last = None;
        if self.under_way.is_some() {
            // Its answer means nothing from now on. What it is about is due once more, of the
            // partitions that stay too.
            self.failed(table, Moment::ORIGIN);
        }
        let id = self.rest(table, is_last)?;
        Some(Outgoing {
            id,
            rows: &self.rows,
        })
    }

    /// Sends what is due of these rows.
    fn rest<R: AsRef<EpochCommits> + AsMut<EpochCommits>>(
        &mut self,
        table: &mut [R],
        is_last: impl Fn(&R) -> bool,
    ) -> Option<CommitId> {
        self.choose(table, |row| row.due().is_some());
        self.rows.retain(|&row| is_last(&table[row]));
        if self.rows.is_empty() {
            return None;
        }
        let id = self.ids.next();
        Some(self.send(id, table).id)
    }
}

#[cfg(test)]
mod tests;
