//! One process: the commits and marks are those that ship, and the rest is what the shell
//! guarantees: orders are carried out in order, and turns do not collide.

use std::collections::VecDeque;
use std::time::Duration;

use keylane_core::member::{
    Answered, CommitId, CommitPoint, CommitResult, Commits, EpochCommits, LastStep, Report,
    TopicPartition,
};
use keylane_core::{
    Beginning, Caution, Epoch, Evidence, Instance, MAX_METADATA_BYTES, Mark, Moment, Named, Offset,
    Partition, Position, TURN_PATIENCE, Ticket, Turn,
};

use super::Fault;
use crate::client::{Client, Sent};

/// A few passes.
const COMMIT_INTERVAL: Duration = Duration::from_millis(200);

pub(super) struct Owner {
    pub(super) log: usize,
    pub(super) partition: Partition<()>,
    /// The next offset to deliver.
    pub(super) read: i64,
    pub(super) running: Vec<(Ticket, i64)>,
    pub(super) turn: Option<Turn>,
    pub(super) commits: EpochCommits,
    /// What is committed is not known yet, and nothing is read.
    pub(super) beginning: Option<Beginning>,
    /// What it has reported and nobody has taken in.
    report: Option<CommitPoint>,
    asked: Option<Mark>,
    /// When it was opened, and when it asked for its latest mark, as the process counts.
    opened_at: u64,
    asked_at: u64,
    /// Times that somebody else's wish for its turn came after it had lasted for a while.
    waits: u32,
    ending: bool,
}

impl AsRef<EpochCommits> for Owner {
    fn as_ref(&self) -> &EpochCommits {
        &self.commits
    }
}

impl AsMut<EpochCommits> for Owner {
    fn as_mut(&mut self) -> &mut EpochCommits {
        &mut self.commits
    }
}

impl Owner {
    pub(super) fn new(log: usize, epoch: Epoch, partition: Partition<()>, start: Position) -> Self {
        let place = TopicPartition::new(topic_of(log), log as i32);
        Self {
            log,
            partition,
            read: start.get(),
            running: Vec::new(),
            turn: None,
            commits: EpochCommits::new(place, epoch),
            beginning: None,
            report: None,
            asked: None,
            opened_at: 0,
            asked_at: 0,
            waits: 0,
            ending: false,
        }
    }

    /// Between two groups only, and a few times: the patience for what runs and for the coordinator
    /// is not to come to an end.
    fn let_time_pass(&mut self) {
        if self.running.is_empty()
            && self.waits < 5
            && self.partition.caution() == Caution::Isolated
        {
            self.waits += 1;
            self.partition
                .tick(Moment::ORIGIN + self.waits * TURN_PATIENCE);
        }
    }

    /// Reports what may be committed, the mark that is waited for included.
    pub(super) fn report(&mut self) {
        let Some(position) = self.partition.watermark() else {
            return;
        };
        self.report = Some(CommitPoint {
            position,
            leader_epoch: self.partition.position_epoch(),
            metadata: self.partition.commit_metadata(MAX_METADATA_BYTES).text,
            mark: self.partition.wanted_mark(),
            running: self.partition.is_marked(),
        });
    }

    /// Its partition is given back, in order.
    pub(super) fn end(&mut self) {
        self.partition.end();
        self.report();
    }
}

/// Two topics share the logs.
pub(super) fn topic_of(log: usize) -> &'static str {
    ["even", "odd"][log % 2]
}

/// Something has begun to run.
pub(super) struct Started {
    pub(super) log: usize,
    pub(super) offset: i64,
    /// When its mark was asked for.
    asked_at: u64,
}

pub(super) struct Process {
    pub(super) here: Instance,
    pub(super) owners: Vec<Owner>,
    pub(super) client: Client,
    /// Answers that the client has and nobody has taken out.
    answers: VecDeque<(Sent, CommitResult)>,
    commits: Commits,
    /// The last commit of this partition is under way.
    gives_back: Option<usize>,
    now: Moment,
    /// Counts what is opened and asked for.
    count: u64,
    fault: Fault,
    /// Who asked for a turn, in order.
    waiting: VecDeque<(usize, Turn)>,
    /// So many were asked for.
    pub(super) marks: usize,
}

impl Process {
    pub(super) fn new(here: Instance, fault: Fault) -> Self {
        Self {
            here,
            owners: Vec::new(),
            client: Client::default(),
            answers: VecDeque::new(),
            commits: Commits::new(COMMIT_INTERVAL),
            gives_back: None,
            now: Moment::ORIGIN,
            count: 0,
            fault,
            waiting: VecDeque::new(),
            marks: 0,
        }
    }

    pub(super) fn find(&mut self, log: usize) -> Option<&mut Owner> {
        self.owners.iter_mut().find(|owner| owner.log == log)
    }

    pub(super) fn owner(&mut self, log: usize) -> &mut Owner {
        self.find(log).expect("it is assigned")
    }

    pub(super) fn logs(&self) -> Vec<usize> {
        let mut logs: Vec<_> = self.owners.iter().map(|owner| owner.log).collect();
        logs.sort_unstable();
        logs
    }

    pub(super) fn open(&mut self, mut owner: Owner) {
        self.count += 1;
        owner.opened_at = self.count;
        self.owners.push(owner);
    }

    /// Starts what may start, and reports the mark that the rest waits for.
    pub(super) fn start(&mut self, log: usize) -> Vec<Started> {
        let is_quiet = self.is_quiet();
        self.count += 1;
        let count = self.count;
        let owner = self.owner(log);
        let mut started = Vec::new();
        if is_quiet && owner.partition.caution() == Caution::None {
            return started;
        }
        while let Some(start) = owner.partition.next_start() {
            let offset = start.offset.get();
            owner.running.push((start.ticket, offset));
            let asked_at = owner.asked_at;
            started.push(Started {
                log,
                offset,
                asked_at,
            });
        }
        let mark = owner.partition.wanted_mark();
        if mark.is_some() && mark != owner.asked {
            (owner.asked, owner.asked_at) = (mark, count);
            owner.report();
            self.marks += 1;
        }
        started
    }

    /// Somebody has a quiet turn, or is next and waits for what runs.
    fn is_quiet(&self) -> bool {
        let held = self.owners.iter().filter_map(|owner| owner.turn);
        held.chain(self.waiting.front().map(|&(_, turn)| turn))
            .any(|turn| turn == Turn::Quiet)
    }

    /// A pass of the polling thread: answers are taken in, reports stored, and what is due is
    /// committed.
    pub(super) fn pass(&mut self, answers: bool) {
        self.now = self.now + Duration::from_millis(50);
        while answers && let Some((sent, result)) = self.answers.pop_front() {
            if let Some(id) = sent.id {
                self.answer(id, result);
            }
            if result.is_ok() && self.fault == Fault::ConfirmsMarksOfOtherEpochs {
                confirm(&mut self.owners, &sent.points);
            }
        }
        let fault = self.fault;
        let report = |owner: &mut Owner| {
            let ending = owner.ending || fault == Fault::ForgetsOpenings;
            let point = owner.report.take();
            point.map(|point| Report { point, ending })
        };
        let is_last = |owner: &Owner| owner.ending;
        self.commits.last_points(&mut self.owners, report, is_last);
        if self.fault == Fault::SendsMarksBesideOpenings {
            self.send_marks_beside_openings();
        }
        if let Some(next) = self.commits.next(&mut self.owners, self.now) {
            let (id, points) = (next.id, points(&self.owners, next.rows));
            if self.fault == Fault::StartsBeforeTheAnswer {
                confirm(&mut self.owners, &points);
            }
            self.client.commit(points, Some(id));
        }
        self.advance_last_commit();
    }

    /// Planted.
    fn send_marks_beside_openings(&mut self) {
        let is_opening = |owner: &Owner| owner.commits.is_opening();
        if !self.owners.iter().any(is_opening) {
            return;
        }
        let others = self.owners.iter().enumerate();
        let rows: Vec<_> = others
            .filter(|(_, owner)| !is_opening(owner) && owner.commits.unconfirmed_mark().is_some())
            .map(|(row, _)| row)
            .collect();
        if self.client.under_way() < 8 {
            self.client.commit(points(&self.owners, &rows), None);
        }
    }

    fn advance_last_commit(&mut self) {
        if self.gives_back.is_none() {
            return;
        }
        let is_last = |owner: &Owner| owner.ending;
        match self.commits.step_last(&mut self.owners, is_last, self.now) {
            LastStep::Wait => {}
            LastStep::Over => self.gives_back = None,
            LastStep::Send(next) => {
                let points = points(&self.owners, next.rows);
                self.client.commit(points, Some(next.id));
            }
        }
    }

    fn answer(&mut self, id: CommitId, result: CommitResult) {
        match self.commits.answer(id, result, &mut self.owners, self.now) {
            Answered::Confirmed(marks) => {
                for &(row, mark) in marks {
                    self.owners[row].partition.mark_confirmed(mark);
                }
            }
            Answered::TooLarge => {
                let _ = self.commits.shrink(&mut self.owners);
            }
            Answered::Refused(_) | Answered::LastRefused | Answered::Nothing => {}
        }
    }

    /// A commit has come to the broker, or was refused there.
    pub(super) fn answered(&mut self, sent: Sent, result: CommitResult) {
        match result.ok().and(Some(self.fault)) {
            Some(Fault::SendsMarksBesideOpenings) if sent.id.is_none() => {
                confirm(&mut self.owners, &sent.points);
            }
            Some(Fault::TakesAnyAnswerForItsOwn) => {
                let wanted = |owner: &Owner| Some((owner.log, owner.commits.stored()?.clone()));
                let wanted: Vec<_> = self.owners.iter().filter_map(wanted).collect();
                confirm(&mut self.owners, &wanted);
            }
            _ => {}
        }
        if sent.id.is_some() {
            self.answers.push_back((sent, result));
        }
    }

    /// A partition is given back: its last commit is sent until the broker has it.
    pub(super) fn begin_to_give_back(&mut self, log: usize) {
        self.owner(log).ending = true;
        self.gives_back = Some(log);
        self.commits.begin_last(self.now);
    }

    pub(super) fn has_given_back(&self) -> bool {
        self.gives_back.is_none()
    }

    /// As the shell does it: first come, first served, and whoever shares gives way to one that is
    /// to be alone.
    pub(super) fn take_turn(&mut self, log: usize) -> Vec<Started> {
        let mut started = Vec::new();
        let alone_waits = self.waiting.iter().any(|&(_, turn)| turn != Turn::Shared);
        let somebody_waits = !self.waiting.is_empty();
        let owner = self.owner(log);
        if owner.turn.is_some() {
            if owner.turn == Some(Turn::Shared) && alone_waits {
                owner.partition.yield_turn();
            } else if owner.turn == Some(Turn::Alone) && somebody_waits {
                owner.let_time_pass();
                owner.partition.yield_turn();
            }
            if owner.partition.end_turn() {
                owner.turn = None;
            }
            started = self.start(log);
        } else {
            let wanted = owner.partition.wants_turn();
            if !self.waiting.iter().any(|&(waiting, _)| waiting == log) {
                self.waiting.extend(wanted.map(|turn| (log, turn)));
            }
        }
        while let Some(&(log, turn)) = self.waiting.front() {
            let mut held = self.owners.iter().filter_map(|owner| owner.turn);
            let free = match turn {
                Turn::Shared => held.all(|held| held == Turn::Shared),
                Turn::Alone => held.next().is_none(),
                Turn::Quiet => {
                    held.next().is_none()
                        && self.owners.iter().all(|owner| owner.running.is_empty())
                }
            };
            if !free {
                break;
            }
            self.waiting.pop_front();
            self.owner(log).turn = Some(turn);
            self.owner(log).partition.begin_turn(turn);
        }
        started
    }

    /// Its owner is gone, and what it held or waited for with it.
    pub(super) fn close(&mut self, log: usize) {
        self.owners.retain(|owner| owner.log != log);
        self.client.unassign(log);
        self.gives_back = None;
        self.waiting.retain(|&(waiting, _)| waiting != log);
    }

    /// Nothing starts that the broker does not know of.
    pub(super) fn check(&self, started: &Started, broker: &Evidence, may_be_forbidden: bool) {
        let mut owners = self.owners.iter();
        let owner = owners
            .find(|owner| owner.log == started.log)
            .expect("it is assigned");
        let what = format!(
            "{} of partition {} started; the broker has {broker:?}",
            started.offset, started.log
        );
        assert_eq!(broker.running, Some(self.here), "{what}");
        // Those of a topic whose commits are forbidden are not waited for.
        let waits_for = |other: &&Owner| {
            other.commits.is_opening() && other.opened_at < started.asked_at && !may_be_forbidden
        };
        let found = self.owners.iter().find(waits_for).map(|other| other.log);
        assert_eq!(found, None, "a crash is not noted: {what}");
        let unclean_starts = match owner.partition.caution() {
            Caution::None => 0,
            Caution::Wary => {
                assert!(
                    broker
                        .named
                        .offsets()
                        .contains(&Offset::new(started.offset)),
                    "{what}"
                );
                1
            }
            Caution::Isolated => {
                assert!(
                    broker
                        .named
                        .offsets()
                        .contains(&Offset::new(started.offset)),
                    "{what}"
                );
                2
            }
        };
        assert!(broker.unclean_starts >= unclean_starts, "{what}");
        if broker.named != Named::Nobody {
            let is_named = |&(_, offset): &(Ticket, i64)| {
                broker.named.offsets().contains(&Offset::new(offset))
            };
            assert!(owner.running.iter().all(is_named), "not alone: {what}");
        }
        let offset = Offset::new(started.offset);
        if unclean_starts == 2 {
            assert_eq!(
                broker.named == Named::Alone(offset),
                broker.is_suspected(offset),
                "{what}"
            );
        }
        if broker.named == Named::Alone(offset) {
            let is_trial = owner.partition.crashes(offset) > 0;
            let besides = self.owners.iter().filter(|owner| owner.log != started.log);
            let suspicious =
                besides.filter(|other| is_trial || other.partition.caution() != Caution::None);
            let running = suspicious.map(|other| other.running.len()).sum::<usize>();
            assert_eq!(running, 0, "beside what is suspicious too: {what}");
        }
    }
}

/// The stored points of these rows.
fn points(owners: &[Owner], rows: &[usize]) -> Vec<(usize, CommitPoint)> {
    let point = |&row: &usize| {
        let owner = &owners[row];
        Some((owner.log, owner.commits.stored()?.clone()))
    };
    rows.iter().filter_map(point).collect()
}

/// Planted: these marks count as confirmed.
fn confirm(owners: &mut [Owner], points: &[(usize, CommitPoint)]) {
    for owner in owners {
        let of_log = points.iter().find(|(log, _)| *log == owner.log);
        if let Some(mark) = of_log.and_then(|(_, point)| point.mark) {
            owner.partition.mark_confirmed(mark);
        }
    }
}
