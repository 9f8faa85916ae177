//! Commits on their way: what a member has reported last is what the next one finds, in whatever
//! order commits come to the broker, and wherever logs have gone.
//!
//! Logs are cut and topics are re-created; positions go back with them. A commit that stays at the
//! earlier, higher position makes the next owner skip records once the log has grown past it
//! (guarantee G1). An older commit that takes the place of the last one makes the next owner repeat
//! records (G8).

use std::time::Duration;

use keylane_core::member::{
    CommitPoint, Commits, EpochCommits, LastStep, Refusal, Report, TopicPartition,
};
use keylane_core::{Epoch, Mark, Moment, Position};

use crate::client::{Client, has_commits, points};
use crate::for_each_seed;
use crate::random::Random;
use crate::steps::Steps;
use crate::violation::Checked;

const RUNS: u64 = 1_000;

/// A mistake of the shell, to prove that the simulator notices.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    /// A commit counts as answered as soon as it is sent, and the next one goes out beside it.
    TakesSendingForTheAnswer,
    /// A refused commit counts as taken.
    TakesARefusalForTheAnswer,
    /// Partitions are given back before their last commit is over.
    ForgetsTheLastCommit,
}

struct Row {
    commits: EpochCommits,
    report: Option<CommitPoint>,
    position: i64,
    marks: u64,
    /// The latest point that was reported.
    last: Option<CommitPoint>,
    given_back: bool,
}

has_commits!(Row);

struct World {
    random: Random,
    fault: Fault,
    now: Moment,
    rows: Vec<Row>,
    client: Client,
    commits: Commits,
    /// What the broker has, by row.
    committed: Vec<Option<CommitPoint>>,
    epochs: u64,
    reports: u64,
}

fn commits() -> Commits {
    Commits::new(Duration::from_millis(500))
}

impl Steps for World {
    fn step(&mut self) -> Checked<()> {
        let row = self.random.index(self.rows.len());
        match self.random.below(40) {
            0..14 => self.report(row),
            14..26 => self.pass(),
            26..36 => self.arrive(),
            36 => self.go_back(row),
            37 => self.give_back()?,
            // Everything that was reported is committed before: a crash may lose the rest.
            38 if self.random.percent(20) => {
                self.settle()?;
                self.start();
            }
            _ => {}
        }
        Ok(())
    }

    /// What was reported last is committed, however it gets there; nothing takes it back.
    fn settle(&mut self) -> Checked<()> {
        let is_new = |row: &Row| row.report.is_some() || row.commits.due().is_some();
        for _ in 0..1_000 {
            if self.client.under_way() == 0 && !self.rows.iter().any(is_new) {
                break;
            }
            self.pass();
            self.arrive();
        }
        for row in 0..self.rows.len() {
            self.check(row).map_err(|broken| format!("G1: {broken}"))?;
        }
        Ok(())
    }
}

impl World {
    fn new(seed: u64, fault: Fault) -> Self {
        let mut random = Random::new(seed);
        let count = 1 + random.index(3);
        let mut world = Self {
            random,
            fault,
            now: Moment::ORIGIN,
            rows: Vec::new(),
            client: Client::default(),
            commits: commits(),
            committed: vec![None; count],
            epochs: 0,
            reports: 0,
        };
        world.start();
        world
    }

    fn start(&mut self) {
        (self.client, self.commits) = (Client::default(), commits());
        self.rows = (0..self.committed.len())
            .map(|row| self.open_committed(row))
            .collect();
    }

    fn open_committed(&mut self, row: usize) -> Row {
        let committed = self.committed[row].as_ref();
        let position = committed.map_or(0, |committed| committed.position.get());
        self.open(row, position)
    }

    fn open(&mut self, row: usize, position: i64) -> Row {
        self.epochs += 1;
        let place = TopicPartition::new("tasks", row as i32);
        Row {
            commits: EpochCommits::new(place, Epoch::new(self.epochs)),
            report: None,
            position,
            marks: 0,
            last: None,
            given_back: false,
        }
    }

    /// The owner has got on, or only its map has; or it wants a mark.
    fn report(&mut self, row: usize) {
        self.reports += 1;
        let row = &mut self.rows[row];
        row.position += self.random.below(3) as i64;
        let wants_mark = self.random.percent(20);
        row.marks += u64::from(wants_mark);
        let point = CommitPoint {
            position: Position::new(row.position),
            leader_epoch: None,
            metadata: format!("report {}", self.reports),
            mark: wants_mark.then(|| Mark::new(row.marks)),
            running: false,
        };
        row.last = Some(point.clone());
        row.report = Some(point);
    }

    /// The log was cut, or its topic re-created: a new epoch begins somewhere below.
    fn go_back(&mut self, row: usize) {
        let position = self.rows[row].position;
        let position = self.random.below(position as u64 + 1) as i64;
        self.rows[row] = self.open(row, position);
        self.report(row);
    }

    fn pass(&mut self) {
        self.now = self.now + Duration::from_millis(self.random.below(300));
        self.take_in();
        if let Some(next) = self.commits.next(&mut self.rows, self.now) {
            let (id, points) = (next.id, points(&self.rows, next.rows));
            self.client.commit(points, Some(id));
            if self.fault == Fault::TakesSendingForTheAnswer {
                let rows = &mut self.rows;
                let _ = self.commits.answer(id, Ok(()), rows, self.now);
            }
        }
    }

    fn take_in(&mut self) {
        let report = |row: &mut Row| {
            let ending = row.given_back;
            let point = row.report.take();
            point.map(|point| Report { point, ending })
        };
        let is_last = |row: &Row| row.given_back;
        self.commits.last_points(&mut self.rows, report, is_last);
    }

    fn arrive(&mut self) {
        let which = self.random.index(self.client.under_way().max(1));
        let Some(sent) = self.client.arrives(which) else {
            return;
        };
        let mut result = match self.random.percent(20) {
            true => Err(Refusal::Passing),
            false => Ok(()),
        };
        if result.is_ok() {
            for (row, point) in sent.points {
                self.committed[row] = Some(point);
            }
        } else if self.fault == Fault::TakesARefusalForTheAnswer {
            result = Ok(());
        }
        if let Some(id) = sent.id {
            let rows = &mut self.rows;
            let _ = self.commits.answer(id, result, rows, self.now);
        }
    }

    /// Some partitions go to others, which read what is committed once the last commit is over.
    fn give_back(&mut self) -> Checked<()> {
        for row in &mut self.rows {
            row.given_back = self.random.percent(50);
        }
        self.commits.begin_last(self.now);
        for _ in 0..1_000 {
            self.pass();
            let is_last = |row: &Row| row.given_back;
            match self.commits.step_last(&mut self.rows, is_last, self.now) {
                LastStep::Send(last) => {
                    let points = points(&self.rows, last.rows);
                    self.client.commit(points, Some(last.id));
                }
                LastStep::Over => return self.gone(),
                LastStep::Wait => {}
            }
            if self.fault == Fault::ForgetsTheLastCommit {
                return self.gone();
            }
            self.arrive();
        }
        Err("the last commit is never over".to_owned())
    }

    fn gone(&mut self) -> Checked<()> {
        let rest = self.commits.end_last(&mut self.rows, |_| false);
        assert_eq!(rest, None, "nothing is given up");
        // Whatever is still under way comes to the broker after it.
        while self.client.under_way() > 0 {
            self.arrive();
        }
        for row in 0..self.rows.len() {
            if self.rows[row].given_back {
                self.check(row)
                    .map_err(|broken| format!("G8: given back, {broken}"))?;
                self.rows[row] = self.open_committed(row);
            }
        }
        Ok(())
    }

    fn check(&self, row: usize) -> Checked<()> {
        let Some(last) = &self.rows[row].last else {
            return Ok(());
        };
        let committed = self.committed[row].as_ref();
        let committed = committed.map(|it| (it.position, &*it.metadata));
        if committed == Some((last.position, &*last.metadata)) {
            return Ok(());
        }
        Err(format!("{committed:?} is committed instead of {last:?}"))
    }
}

fn run(seed: u64, fault: Fault) -> Checked<()> {
    World::new(seed, fault).run(seed, 300)
}

#[test]
fn what_was_reported_last_is_committed_in_whatever_order_commits_arrive() {
    for_each_seed(RUNS, |seed| {
        run(seed, Fault::None).unwrap_or_else(|broken| panic!("{broken}"));
    });
}

fn caught(fault: Fault, guarantee: &str) {
    crate::steps::caught(100, guarantee, |seed| run(seed, fault));
}

#[test]
fn a_commit_that_is_sent_beside_another_is_noticed() {
    caught(Fault::TakesSendingForTheAnswer, "G1");
    caught(Fault::TakesSendingForTheAnswer, "G8");
}

#[test]
fn a_refused_commit_that_counts_as_taken_is_noticed() {
    caught(Fault::TakesARefusalForTheAnswer, "G1");
}

#[test]
fn a_partition_that_is_given_back_before_its_last_commit_is_over_is_noticed() {
    caught(Fault::ForgetsTheLastCommit, "G8");
}
