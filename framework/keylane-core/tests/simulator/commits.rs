//! The commits of one member: the rules that ship, and the client that they go to.

use keylane_core::member::{
    ClientPosition, CommitPoint, CommitResult, Commits, EpochCommits, LastStep, Orders, Report,
    TopicPartition,
};
use keylane_core::{Epoch, Moment, Position};

use crate::broker::Commit;
use crate::client::{Client, Sent};

#[derive(Default)]
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

impl AsRef<EpochCommits> for Row {
    fn as_ref(&self) -> &EpochCommits {
        &self.commits
    }
}

impl AsMut<EpochCommits> for Row {
    fn as_mut(&mut self) -> &mut EpochCommits {
        &mut self.commits
    }
}

impl MemberCommits {
    pub(crate) fn assign(
        &mut self,
        log: usize,
        place: TopicPartition,
        epoch: u64,
        committed: Option<&Commit>,
    ) {
        let committed = committed.map(|commit| ClientPosition {
            position: Position::new(commit.position),
            leader_epoch: commit.leader_epoch,
        });
        self.client.assign(log, committed);
        self.rows.push(Row {
            log,
            commits: EpochCommits::new(place, Epoch::new(epoch), committed),
            report: None,
            is_last: false,
        });
        // What was ordered before was about an epoch that is over.
        if let LastCommit::UnderWay(last) | LastCommit::Over(last, _) = &mut self.last {
            last.complete.retain(|other| *other != log);
        }
    }

    /// What the client would commit as it lets go of the log.
    pub(crate) fn unassign(&mut self, log: usize) -> Option<Commit> {
        self.rows.retain(|row| row.log != log);
        self.client.unassign(log).map(|point| commit_of(&point))
    }

    /// An owner reports, and the polling thread takes it in.
    pub(crate) fn report(&mut self, log: usize, commit: Commit, running: bool, suspended: bool) {
        self.takes(log, commit, running, suspended);
        let report = |row: &mut Row| row.report.take();
        let orders = self.rules.points(&mut self.rows, suspended, report);
        carry_out(orders, &self.rows, &mut self.client);
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
        let orders = self
            .rules
            .last_points(&mut self.rows, true, report, is_last);
        carry_out(orders, &self.rows, &mut self.client);
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
        let is_over = match self.rules.step_last(&self.rows, is_last, now) {
            LastStep::Wait => false,
            LastStep::Over => true,
            LastStep::Send(next) => {
                let points = points(&self.rows, next.rows);
                self.client.commit(points, Some(next.id));
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
        if result.is_ok() {
            self.client.taken(sent);
        }
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

fn carry_out(orders: Orders<'_>, rows: &[Row], client: &mut Client) {
    for (log, point) in points(rows, orders.store) {
        client.store(log, point);
    }
    client.commit(points(rows, orders.commit), None);
}

pub(crate) fn commit_of(point: &CommitPoint) -> Commit {
    Commit {
        position: point.position.get(),
        leader_epoch: point.leader_epoch,
        metadata: point.metadata.clone(),
    }
}
