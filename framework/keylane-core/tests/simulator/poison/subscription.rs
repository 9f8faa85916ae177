//! One subscription of a process: its owners, and the commits and marks that ship.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use keylane_core::member::{
    Answered, CommitId, CommitPoint, CommitResult, Commits, EpochCommits, LastStep, Report,
    TopicPartition,
};
use keylane_core::{
    Beginning, Epoch, MAX_METADATA_BYTES, Mark, Moment, Partition, PartitionDirectives, Position,
    Ticket,
};

use super::Fault;
use super::process::Permit;
use crate::client::{Client, Sent, has_commits};

/// A few passes.
const COMMIT_INTERVAL: Duration = Duration::from_millis(200);

pub(super) struct Owner {
    pub(super) log: usize,
    pub(super) partition: Partition<()>,
    /// The next offset to deliver.
    pub(super) read: i64,
    pub(super) running: Vec<(Ticket, i64)>,
    /// What is delivered and not settled, what runs included.
    pub(super) pending: BTreeSet<i64>,
    /// Its share of what the process gives.
    pub(super) permit: Permit,
    pub(super) last_trial: LastTrial,
    pub(super) commits: EpochCommits,
    /// What it was directed, and what operators have ordered of it alone.
    pub(super) given: PartitionDirectives,
    pub(super) own_keys: BTreeSet<u64>,
    pub(super) own_skips: BTreeSet<i64>,
    /// What is committed is not known yet, and nothing is read.
    pub(super) beginning: Option<Beginning>,
    /// What it has reported and nobody has taken in.
    report: Option<CommitPoint>,
    asked: Option<Mark>,
    ending: bool,
}

/// The trial before the next one.
#[derive(Clone, Copy, Default)]
pub(super) struct LastTrial {
    pub(super) ended: Moment,
    pub(super) took: Duration,
    /// A record that needs no trial was ready at its end, and none has started since.
    pub(super) others_wait: bool,
}

has_commits!(Owner);

impl Owner {
    pub(super) fn new(log: usize, epoch: Epoch, partition: Partition<()>, start: Position) -> Self {
        let place = TopicPartition::new(topic_of(log), log as i32);
        Self {
            log,
            partition,
            read: start.get(),
            running: Vec::new(),
            pending: BTreeSet::new(),
            permit: Permit::None,
            last_trial: LastTrial::default(),
            commits: EpochCommits::new(place, epoch),
            given: PartitionDirectives::default(),
            own_keys: BTreeSet::new(),
            own_skips: BTreeSet::new(),
            beginning: None,
            report: None,
            asked: None,
            ending: false,
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

    /// Reports a mark that is new. `true` where there is one.
    pub(super) fn report_mark(&mut self) -> bool {
        let mark = self.partition.wanted_mark();
        let is_new = mark.is_some() && mark != self.asked;
        if is_new {
            self.asked = mark;
            self.report();
        }
        is_new
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

pub(super) struct Subscription {
    pub(super) owners: Vec<Owner>,
    pub(super) client: Client,
    /// Answers that the client has and nobody has taken out.
    answers: VecDeque<(Sent, CommitResult)>,
    commits: Commits,
    /// The last commit of this partition is under way.
    gives_back: Option<usize>,
    now: Moment,
    fault: Fault,
}

impl Subscription {
    pub(super) fn new(fault: Fault) -> Self {
        Self {
            owners: Vec::new(),
            client: Client::default(),
            answers: VecDeque::new(),
            commits: Commits::new(COMMIT_INTERVAL),
            gives_back: None,
            now: Moment::ORIGIN,
            fault,
        }
    }

    pub(super) fn open(&mut self, owner: Owner) {
        self.owners.push(owner);
    }

    /// Its owner is gone, and what it held with it.
    pub(super) fn close(&mut self, log: usize) -> Option<Owner> {
        let place = self.owners.iter().position(|owner| owner.log == log);
        self.client.unassign(log);
        self.gives_back = None;
        place.map(|place| self.owners.remove(place))
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
        let report = |owner: &mut Owner| {
            let ending = owner.ending;
            let point = owner.report.take();
            point.map(|point| Report { point, ending })
        };
        let is_last = |owner: &Owner| owner.ending;
        self.commits.last_points(&mut self.owners, report, is_last);
        if let Some(next) = self.commits.next(&mut self.owners, self.now) {
            let (id, points) = (next.id, points(&self.owners, next.rows));
            if self.fault == Fault::StartsBeforeTheAnswer {
                confirm(&mut self.owners, &points);
            }
            self.client.commit(points, Some(id));
        }
        self.advance_last_commit();
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
                let (id, points) = (next.id, points(&self.owners, next.rows));
                self.client.commit(points, Some(id));
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
        if result.is_ok() && self.fault == Fault::TakesAnyAnswerForItsOwn {
            let wanted = |owner: &Owner| Some((owner.log, owner.commits.stored()?.clone()));
            let wanted: Vec<_> = self.owners.iter().filter_map(wanted).collect();
            confirm(&mut self.owners, &wanted);
        }
        self.answers.push_back((sent, result));
    }

    /// A partition is given back: its last commit is sent until the broker has it.
    pub(super) fn begin_to_give_back(&mut self, log: usize) {
        let mut owners = self.owners.iter_mut();
        if let Some(owner) = owners.find(|owner| owner.log == log) {
            owner.ending = true;
        }
        self.gives_back = Some(log);
        self.commits.begin_last(self.now);
    }

    pub(super) fn has_given_back(&self) -> bool {
        self.gives_back.is_none()
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
