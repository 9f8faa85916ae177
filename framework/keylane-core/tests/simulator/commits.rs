//! Commits where logs go back: what a member has reported last is what the next one finds.
//!
//! The client commits by itself only what it takes for later than its last commit. Logs are cut,
//! with leader epochs or without, and topics are re-created; positions go back with them. A commit
//! that stays at the earlier, higher position makes the next owner skip records once the log has
//! grown past it (guarantee G1).

use keylane_core::member::{
    Answered, ClientPosition, CommitPoint, Commits, EpochCommits, Report, TopicPartition,
};
use keylane_core::{Epoch, LeaderEpoch, Mark, Moment, Position};

use crate::client::Client;
use crate::number;
use crate::random::Random;

const RUNS: u64 = 1_000;

/// A mistake of the shell, to prove that the simulator notices.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    /// What is to be committed explicitly is only stored.
    OnlyStores,
    /// What is to be committed explicitly is not stored.
    DoesNotStore,
    /// An epoch that begins in the middle of an assignment forgets what the one before has stored.
    ForgetsTheEpochBefore,
    /// The position at which a re-created topic was left counts as committed.
    ForgetsThatTheTopicWasLeft,
    /// A revoke that waits for its answer is not told of.
    ForgetsThatTheClientIsSuspended,
}

struct Row {
    commits: EpochCommits,
    report: Option<CommitPoint>,
    at: ClientPosition,
    marks: u64,
    /// The latest point that was reported.
    last: Option<CommitPoint>,
    /// It was reported in the suspension that is on.
    is_of_suspension: bool,
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

struct World {
    random: Random,
    fault: Fault,
    /// Brokers and log formats of before 0.11 know no leader epochs.
    has_epochs: bool,
    rows: Vec<Row>,
    client: Client,
    commits: Commits,
    /// What the broker has, by row.
    committed: Vec<Option<CommitPoint>>,
    suspended: bool,
    epochs: u64,
    reports: u64,
}

impl World {
    fn new(seed: u64, fault: Fault) -> Self {
        let mut random = Random::new(seed);
        let count = 1 + random.index(3);
        let mut world = Self {
            has_epochs: random.percent(70),
            random,
            fault,
            rows: Vec::new(),
            client: Client::default(),
            commits: Commits::default(),
            committed: vec![None; count],
            suspended: false,
            epochs: 0,
            reports: 0,
        };
        world.start();
        world
    }

    fn start(&mut self) {
        (self.client, self.commits) = (Client::default(), Commits::default());
        self.rows.clear();
        for row in 0..self.committed.len() {
            let committed = self.committed[row].as_ref();
            let committed = committed.map(CommitPoint::client_position);
            self.client.assign(row, committed);
            let at = committed.unwrap_or(self.beginning());
            let opened = self.open(row, committed, at);
            self.rows.push(opened);
        }
    }

    fn beginning(&self) -> ClientPosition {
        ClientPosition {
            position: Position::new(0),
            leader_epoch: self.has_epochs.then(|| LeaderEpoch::new(0)),
        }
    }

    fn open(&mut self, row: usize, committed: Option<ClientPosition>, at: ClientPosition) -> Row {
        self.epochs += 1;
        let place = TopicPartition::new("tasks", row as i32);
        Row {
            commits: EpochCommits::new(place, Epoch::new(self.epochs), committed),
            report: None,
            at,
            marks: 0,
            last: None,
            is_of_suspension: false,
        }
    }

    fn step(&mut self) -> Result<(), String> {
        let row = self.random.index(self.rows.len());
        match self.random.below(40) {
            0..12 => self.report(row),
            12..24 => self.pass(),
            24..32 => self.arrive(),
            32..36 if !self.suspended => self.client.commit_by_itself(),
            36 => self.go_back(row),
            37 => self.recreate(row),
            38 => {
                self.suspended = !self.suspended;
                self.rows
                    .iter_mut()
                    .for_each(|row| row.is_of_suspension = false);
            }
            // Everything that was reported is committed before: a crash may lose the rest.
            39 if self.random.percent(20) => {
                self.settle()?;
                self.start();
            }
            _ => {}
        }
        Ok(())
    }

    /// The owner has got on, or only its map has; or it wants a mark.
    fn report(&mut self, row: usize) {
        self.reports += 1;
        let row = &mut self.rows[row];
        row.is_of_suspension = self.suspended;
        let further = self.random.below(3) as i64;
        row.at.position = Position::new(row.at.position.get() + further);
        let wants_mark = self.random.percent(20);
        row.marks += u64::from(wants_mark);
        let point = CommitPoint {
            position: row.at.position,
            leader_epoch: row.at.leader_epoch,
            metadata: format!("report {}", self.reports),
            mark: wants_mark.then(|| Mark::new(row.marks)),
            running: self.random.percent(50),
        };
        row.last = Some(point.clone());
        row.report = Some(point);
    }

    /// The log was cut and is read again from somewhere below.
    fn go_back(&mut self, row: usize) {
        let at = &mut self.rows[row].at;
        let back = self.random.below(at.position.get() as u64 + 1) as i64;
        at.position = Position::new(at.position.get() - back);
        // An unclean leader election; else the log lost its end under the same leader.
        if self.random.percent(50) {
            at.leader_epoch = at.leader_epoch.map(|it| LeaderEpoch::new(it.get() + 1));
        }
        // Below what was read a new epoch begins.
        let at = *at;
        let opened = self.open(row, None, at);
        let old = std::mem::replace(&mut self.rows[row], opened);
        if self.fault != Fault::ForgetsTheEpochBefore {
            self.rows[row].commits.follow(&old.commits);
        }
        self.report(row);
    }

    /// The log is another one, whose leaders are counted from the beginning.
    fn recreate(&mut self, row: usize) {
        let at = self.beginning();
        let opened = self.open(row, None, at);
        let old = std::mem::replace(&mut self.rows[row], opened);
        let left = old.commits.latest().unwrap_or(at);
        if self.fault != Fault::ForgetsThatTheTopicWasLeft {
            self.rows[row].commits.leave(left);
        }
        self.report(row);
    }

    fn pass(&mut self) {
        let suspended = self.suspended && self.fault != Fault::ForgetsThatTheClientIsSuspended;
        let report = |row: &mut Row| {
            let point = row.report.take()?;
            let ending = false;
            Some(Report { point, ending })
        };
        let orders = self.commits.points(&mut self.rows, suspended, report);
        for &row in orders.store {
            if self.fault == Fault::DoesNotStore && orders.commit.contains(&row) {
                continue;
            }
            let stored = self.rows[row].commits.stored().cloned();
            stored
                .into_iter()
                .for_each(|point| self.client.store(row, point));
        }
        if self.fault != Fault::OnlyStores {
            self.client.commit(points(&self.rows, orders.commit), None);
        }
        if let Some(next) = self.commits.next_mark(&self.rows, Moment::ORIGIN) {
            let points = points(&self.rows, next.rows);
            self.client.commit(points, Some(next.id));
        }
    }

    fn arrive(&mut self) {
        let Some(sent) = self.client.arrives() else {
            return;
        };
        for (row, point) in &sent.points {
            self.committed[*row] = Some(point.clone());
        }
        self.client.taken(&sent);
        if let Some(id) = sent.id {
            let rows = &mut self.rows;
            let answered = self.commits.answer(id, Ok(()), rows, Moment::ORIGIN);
            assert!(matches!(answered, Answered::Confirmed(_)));
        }
    }

    /// What was reported last is committed, however it gets there; nothing takes it back.
    fn settle(&mut self) -> Result<(), String> {
        for _ in 0..3 {
            self.pass();
            while self.client.under_way() > 0 {
                self.arrive();
                self.pass();
            }
            if !self.suspended {
                self.client.commit_by_itself();
            }
        }
        while self.client.under_way() > 0 {
            self.arrive();
        }
        for (row, committed) in self.rows.iter().zip(&self.committed) {
            let Some(last) = &row.last else { continue };
            // What was reported before the suspension is the client's to commit after it.
            if self.suspended && !row.is_of_suspension {
                continue;
            }
            let committed = committed.as_ref().map(|it| (it.position, &*it.metadata));
            if committed != Some((last.position, &*last.metadata)) {
                return Err(format!(
                    "G1: {committed:?} is committed instead of {last:?}"
                ));
            }
        }
        Ok(())
    }
}

fn points(rows: &[Row], places: &[usize]) -> Vec<(usize, CommitPoint)> {
    let point = |&row: &usize| Some((row, rows[row].commits.stored()?.clone()));
    places.iter().filter_map(point).collect()
}

fn run(seed: u64, fault: Fault) -> Result<(), String> {
    let mut world = World::new(seed, fault);
    for step in 0..300 {
        world
            .step()
            .map_err(|broken| format!("seed {seed}, step {step}: {broken}"))?;
    }
    world
        .settle()
        .map_err(|broken| format!("seed {seed}, at the end: {broken}"))
}

#[test]
fn what_was_reported_last_is_committed_wherever_the_log_has_gone() {
    if let Some(seed) = number("KEYLANE_SIM_SEED") {
        return run(seed, Fault::None).unwrap_or_else(|broken| panic!("{broken}"));
    }
    for seed in 0..number("KEYLANE_SIM_RUNS").unwrap_or(RUNS) {
        run(seed, Fault::None).unwrap_or_else(|broken| panic!("{broken}"));
    }
}

fn caught(fault: Fault) {
    let is_noticed = (0..100).any(|seed| run(seed, fault).is_err_and(|it| it.contains("G1")));
    assert!(is_noticed, "{fault:?} is not noticed");
}

#[test]
fn a_point_below_an_earlier_commit_that_is_only_stored_is_noticed() {
    caught(Fault::OnlyStores);
}

#[test]
fn an_explicit_commit_that_is_not_stored_is_noticed() {
    caught(Fault::DoesNotStore);
}

#[test]
fn an_epoch_that_forgets_what_the_one_before_has_stored_is_noticed() {
    caught(Fault::ForgetsTheEpochBefore);
}

#[test]
fn a_left_topic_whose_position_counts_as_committed_is_noticed() {
    caught(Fault::ForgetsThatTheTopicWasLeft);
}

#[test]
fn a_point_that_is_left_to_a_suspended_client_is_noticed() {
    caught(Fault::ForgetsThatTheClientIsSuspended);
}
