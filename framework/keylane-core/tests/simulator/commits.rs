//! The commits of one member: the rules that ship, and the client that they go to.

use keylane_core::member::{
    CommitPoint, CommitResult, Commits, EpochCommits, LastStep, Report, TopicPartition,
};
use std::time::Duration;

use keylane_core::{Epoch, Moment, Position};

use crate::broker::Commit;
use crate::client::{Client, Sent, has_commits};

pub(crate) struct MemberCommits {
    rules: Commits,
    pub(crate) client: Client,
    rows: Vec<Row>,
    last: LastCommit,
}

struct Row {
    log: usize,
    commits: EpochCommits,
    report: Option<Report>,
    is_last: bool,
}

/// What was ordered last, as the shell keeps it.
#[derive(Default)]
enum LastCommit {
    #[default]
    None,
    UnderWay(Last),
    /// Whether the broker has it, or there was nothing to commit.
    Over(Last, bool),
}

struct Last {
    logs: Vec<usize>,
    /// Those whose owners had ended before.
    complete: Vec<usize>,
    is_refused: bool,
}

has_commits!(Row);

impl Default for MemberCommits {
    fn default() -> Self {
        Self {
            // The world says when it has passed.
            rules: Commits::new(Duration::ZERO),
            client: Client::default(),
            rows: Vec::new(),
            last: LastCommit::None,
        }
    }
}

impl MemberCommits {
    pub(crate) fn assign(&mut self, log: usize, place: TopicPartition, epoch: u64) {
        self.rows.push(Row {
            log,
            commits: EpochCommits::new(place, Epoch::new(epoch)),
            report: None,
            is_last: false,
        });
        // What was ordered before was about an epoch that is over.
        if let LastCommit::UnderWay(last) | LastCommit::Over(last, _) = &mut self.last {
            last.complete.retain(|other| *other != log);
        }
    }

    /// What is sent, and not waited for, as the client lets go of the log.
    pub(crate) fn unassign(&mut self, log: usize) -> Option<Commit> {
        let is_last = |row: &Row| row.log == log;
        let rest = self.rules.end_last(&mut self.rows, is_last);
        let rest = rest.map(|rest| (rest.id, points(&self.rows, rest.rows)));
        self.client.unassign(log);
        self.rows.retain(|row| row.log != log);
        let (id, points) = rest?;
        // Its answer says nothing of others.
        let _ = self
            .rules
            .answer(id, Ok(()), &mut self.rows, Moment::ORIGIN);
        points.first().map(|(_, point)| commit_of(point))
    }

    /// An owner reports, and the polling thread takes it in.
    pub(crate) fn report(&mut self, log: usize, commit: Commit, running: bool) {
        self.takes(log, commit, running, false);
        let report = |row: &mut Row| row.report.take();
        self.rules.points(&mut self.rows, report);
    }

    /// The commit interval has passed.
    pub(crate) fn send(&mut self, now: Moment) {
        if let Some(next) = self.rules.next(&mut self.rows, now) {
            let (id, points) = (next.id, points(&self.rows, next.rows));
            self.client.commit(points, Some(id));
        }
    }

    fn takes(&mut self, log: usize, commit: Commit, running: bool, ending: bool) {
        let point = CommitPoint {
            position: Position::new(commit.position),
            leader_epoch: commit.leader_epoch,
            metadata: commit.metadata,
            mark: None,
            running,
        };
        if let Some(row) = self.rows.iter_mut().find(|row| row.log == log) {
            row.report = Some(Report { point, ending });
        }
    }

    /// The latest points of these logs are their last.
    pub(crate) fn store_last(&mut self, points: Vec<(usize, Option<Commit>, bool)>) {
        for row in &mut self.rows {
            row.is_last = points.iter().any(|(log, ..)| *log == row.log);
        }
        for (log, commit, running) in points {
            if let Some(commit) = commit {
                self.takes(log, commit, running, true);
            }
        }
        let report = |row: &mut Row| row.report.take();
        let is_last = |row: &Row| row.is_last;
        self.rules.last_points(&mut self.rows, report, is_last);
    }

    /// `is_sent`: else a shell has forgotten to.
    pub(crate) fn begin_last(
        &mut self,
        logs: Vec<usize>,
        complete: Vec<usize>,
        is_sent: bool,
        now: Moment,
    ) {
        let last = Last {
            logs,
            complete,
            is_refused: false,
        };
        if is_sent {
            self.rules.begin_last(now);
            self.last = LastCommit::UnderWay(last);
        } else {
            self.last = LastCommit::Over(last, true);
        }
    }

    /// Goes on with the last commit. Whether it is over.
    pub(crate) fn step_last(&mut self, now: Moment) -> bool {
        let last = match std::mem::take(&mut self.last) {
            LastCommit::UnderWay(last) => last,
            other => {
                self.last = other;
                return matches!(self.last, LastCommit::Over(..));
            }
        };
        let is_last = |row: &Row| last.logs.contains(&row.log);
        let is_over = match self.rules.step_last(&mut self.rows, is_last, now) {
            LastStep::Wait => false,
            LastStep::Over => true,
            LastStep::Send(next) => {
                let (id, points) = (next.id, points(&self.rows, next.rows));
                self.client.commit(points, Some(id));
                false
            }
        };
        self.last = if is_over {
            let is_taken = !last.is_refused;
            LastCommit::Over(last, is_taken)
        } else {
            LastCommit::UnderWay(last)
        };
        is_over
    }

    pub(crate) fn is_last_over(&self) -> bool {
        matches!(self.last, LastCommit::Over(..))
    }

    /// The logs that the broker has the last commit of, as complete.
    pub(crate) fn taken(&self) -> Option<&[usize]> {
        match &self.last {
            LastCommit::Over(last, true) => Some(&last.complete),
            _ => None,
        }
    }

    pub(crate) fn forget_last(&mut self) {
        self.last = LastCommit::None;
    }

    /// What became of a commit at the broker.
    pub(crate) fn answered(&mut self, sent: &Sent, result: CommitResult, now: Moment) {
        let Some(id) = sent.id else { return };
        let _ = self.rules.answer(id, result, &mut self.rows, now);
        if let LastCommit::UnderWay(last) = &mut self.last {
            last.is_refused = result.is_err();
        }
    }
}

/// The points of these rows, with their logs.
fn points(rows: &[Row], places: &[usize]) -> Vec<(usize, CommitPoint)> {
    let point = |&row: &usize| Some((rows[row].log, rows[row].commits.stored()?.clone()));
    places.iter().filter_map(point).collect()
}

pub(crate) fn commit_of(point: &CommitPoint) -> Commit {
    Commit {
        position: point.position.get(),
        leader_epoch: point.leader_epoch,
        metadata: point.metadata.clone(),
    }
}
