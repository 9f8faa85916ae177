//! A few partitions, and the members of their group: processes that end in all ways, and are
//! started again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use keylane_core::member::{CommitResult, Refusal};
use keylane_core::{
    Backoff, Beginning, CommitContent, Delivered, Delivery, Epoch, Evidence, Failure, GROUP,
    InPlace, Instance, MAX_SUSPECTS, Moment, Offset, OutageGuard, Partition, PartitionDirectives,
    PartitionSettings, PoisonFate, Position, Publish, PublishResult, Reason, Reset, RetryPolicy,
    SettledMap, Step, Success, Verdict, commit_map,
};

use super::Fault;
use super::process::{Process, Started};
use super::subscription::{Owner, topic_of};
use crate::client::Sent;
use crate::random::Random;

const MOST_STEPS: u64 = 100_000;

pub(super) struct Log {
    /// The lane of each record; offsets are indexes.
    pub(super) lanes: Vec<u64>,
    killers: BTreeSet<i64>,
    /// So many are in the log by now.
    written: usize,
    committed: (i64, String),
    /// Truth: done or dead-lettered.
    pub(super) settled: BTreeSet<i64>,
    /// What operators direct for it.
    pub(super) directives: PartitionDirectives,
    member: Option<usize>,
}

impl Log {
    fn broker(&self) -> Evidence {
        let position = Position::new(self.committed.0);
        commit_map::decode(position, &self.committed.1)
            .expect("it is our own")
            .evidence
    }
}

/// What happens beside the records, each so often in a thousand steps.
#[derive(Default)]
pub(crate) struct Chances {
    /// A process is killed by nobody's record, or is cut off from its group and lives on; so often
    /// in all.
    pub(crate) unlucky: u64,
    pub(crate) unlucky_left: u32,
    /// A process ends in order.
    pub(crate) orderly: u64,
    /// A partition goes to another member in order.
    pub(crate) moves: u64,
    /// A record is written while members run; 0: all are there from the beginning.
    pub(crate) writes: u64,
    /// An attempt fails, a killer's too: it kills at another one.
    pub(crate) failing: u64,
    /// The coordinator does not say at once what is committed; in a hundred assignments.
    pub(crate) silent: u64,
    /// The coordinator refuses a commit; of a hundred. Nobody sees it where no answer is waited
    /// for.
    pub(crate) refused: u64,
    /// Commits of one of the two topics are forbidden, or allowed again; in a thousand steps.
    pub(crate) forbids: u64,
    /// A pass finds no answer, although the broker has given one; of a hundred.
    pub(crate) late: u64,
    /// Of the owners whose partition moves some are blocked, and report no last point; in a
    /// hundred.
    pub(crate) blocked: u64,
    /// An operator acts; so often in all.
    pub(crate) acts: u64,
    pub(crate) acts_left: u32,
    /// Planted.
    pub(crate) fault: Fault,
}

/// How many there are of everything.
pub(crate) struct Size {
    pub(crate) members: usize,
    /// Of each member's process.
    pub(crate) subscriptions: usize,
    pub(crate) partitions: usize,
    pub(crate) most_records: u64,
    pub(crate) killers: usize,
}

pub(crate) struct World {
    pub(super) random: Random,
    /// A millisecond for each step.
    pub(super) now: Moment,
    pub(super) logs: Vec<Log>,
    members: Vec<Option<Process>>,
    subscriptions: usize,
    settings: Arc<PartitionSettings>,
    epochs: u64,
    /// The topic whose commits the broker takes from nobody.
    forbidden: Option<&'static str>,
    pub(crate) chances: Chances,
    pub(crate) starts: u32,
    /// Processes that a record has killed.
    pub(crate) deaths: u32,
    /// The most that an owner has begun with.
    pub(crate) most_unclean_starts: u32,
    blamed: Vec<(usize, i64)>,
    /// How many times a key was paused.
    pub(crate) pauses: u32,
    /// What operators have skipped, or ordered the dead letters of.
    pub(super) ordered: BTreeSet<(usize, i64)>,
}

impl World {
    pub(crate) fn new(mut random: Random, size: &Size, chances: Chances) -> Self {
        let mut logs: Vec<_> = (0..size.partitions)
            .map(|_| {
                let count = 1 + random.below(size.most_records);
                let most_keys = if random.percent(50) { 8 } else { 40 };
                let keys = 1 + random.below(most_keys);
                let lanes: Vec<_> = (0..count).map(|_| random.below(keys)).collect();
                let written = if chances.writes == 0 {
                    lanes.len()
                } else {
                    random.index(lanes.len() + 1)
                };
                let (killers, settled) = (BTreeSet::new(), BTreeSet::new());
                Log {
                    lanes,
                    killers,
                    written,
                    committed: (0, String::new()),
                    settled,
                    directives: PartitionDirectives::default(),
                    member: None,
                }
            })
            .collect();
        for _ in 0..size.killers {
            let log = random.index(logs.len());
            let offset = random.below(logs[log].lanes.len() as u64) as i64;
            logs[log].killers.insert(offset);
        }
        let most_at_once = if random.percent(50) { 6 } else { 40 };
        let backoff = Backoff {
            initial: Duration::ZERO,
            max: Duration::ZERO,
            ..Backoff::default()
        };
        let retry = RetryPolicy {
            dead_letter_topic: true,
            in_place: InPlace::Forever,
            backoff,
            ..RetryPolicy::default()
        };
        let settings = PartitionSettings {
            concurrency: 1 + random.index(most_at_once),
            retry,
            ..PartitionSettings::default()
        };
        Self {
            random,
            now: Moment::ORIGIN,
            logs,
            members: (0..size.members).map(|_| None).collect(),
            subscriptions: size.subscriptions,
            settings: Arc::new(settings),
            epochs: 0,
            forbidden: None,
            chances,
            starts: 0,
            deaths: 0,
            most_unclean_starts: 0,
            blamed: Vec::new(),
            pauses: 0,
            ordered: BTreeSet::new(),
        }
    }

    /// One partition of so many healthy records, each of a key of its own, and room for a group of
    /// them to run.
    pub(crate) fn wide(random: Random, records: usize) -> Self {
        let size = Size {
            members: 1,
            subscriptions: 1,
            partitions: 1,
            most_records: 1,
            killers: 0,
        };
        let mut world = Self::new(random, &size, Chances::default());
        (world.logs[0].lanes, world.logs[0].written) = ((0..records as u64).collect(), records);
        world.settings = Arc::new(PartitionSettings {
            concurrency: 2 * GROUP,
            ..PartitionSettings::default()
        });
        world
    }

    pub(crate) fn killers(&self) -> Vec<(usize, i64)> {
        let of = |(log, of): (usize, &Log)| {
            of.killers
                .iter()
                .map(move |&offset| (log, offset))
                .collect::<Vec<_>>()
        };
        self.logs.iter().enumerate().flat_map(of).collect()
    }

    /// Each once, in order: where a verdict is not committed before the next crash, it comes again.
    pub(crate) fn blamed(&self) -> Vec<(usize, i64)> {
        self.blamed
            .iter()
            .copied()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    /// Those that no operator has given up.
    pub(crate) fn killers_left_alone(&self) -> Vec<(usize, i64)> {
        let mut killers = self.killers();
        killers.retain(|killer| !self.ordered.contains(killer));
        killers
    }

    /// All members are killed from outside.
    pub(crate) fn kill(&mut self) {
        for member in 0..self.members.len() {
            if let Some(mut process) = self.members[member].take() {
                self.lose(&mut process);
            }
        }
    }

    /// One member goes on for so many steps.
    pub(crate) fn go_on(&mut self, steps: u64) {
        (0..steps).for_each(|_| self.step());
    }

    /// How many marks the processes that live have asked for.
    pub(crate) fn marks(&self) -> usize {
        self.members
            .iter()
            .flatten()
            .map(|process| process.marks)
            .sum()
    }

    /// Goes on until everything is settled.
    pub(crate) fn run(&mut self) {
        for _ in 0..MOST_STEPS * self.members.len() as u64 {
            self.write_records();
            self.step();
            let is_over = |log: &Log| log.settled.len() == log.lanes.len();
            if self.logs.iter().all(is_over) {
                return;
            }
        }
        let show = |process: &Process| {
            let of = |owner: &Owner| {
                let (log, seen) = (owner.log, &owner.partition);
                let counts = [seen.pending(), seen.ready(), seen.running()];
                format!(
                    "{log}: {:?} {counts:?} {:?} {:?}",
                    seen.is_careful(),
                    owner.permit,
                    seen.wanted_mark()
                )
            };
            process.owners().map(of).collect::<Vec<_>>()
        };
        panic!(
            "nothing goes on: {:#?}",
            self.members.iter().flatten().map(show).collect::<Vec<_>>()
        );
    }

    fn write_records(&mut self) {
        if self.random.below(1_000) < self.chances.writes {
            let log = self.random.index(self.logs.len());
            let log = &mut self.logs[log];
            log.written = log.lanes.len().min(log.written + 1);
        }
    }

    fn step(&mut self) {
        self.now = self.now + Duration::from_millis(1);
        let member = self.random.index(self.members.len());
        let Some(mut process) = self.members[member].take() else {
            self.starts += 1;
            assert!(self.starts < 200, "no end");
            let here = Instance::new(self.starts);
            let mut process = Process::new(here, self.subscriptions, self.chances.fault);
            self.assign(member, &mut process, 100);
            self.members[member] = Some(process);
            return;
        };
        if self.random.percent(10) {
            self.assign(member, &mut process, 50);
        }
        self.members[member] = self.act(member, process);
    }

    /// Partitions that nobody has go to somebody.
    fn assign(&mut self, member: usize, process: &mut Process, percent: u64) {
        for log in 0..self.logs.len() {
            if self.logs[log].member.is_none() && self.random.percent(percent) {
                self.open(member, process, log);
            }
        }
    }

    fn open(&mut self, member: usize, process: &mut Process, number: usize) {
        let is_known = !self.random.percent(self.chances.silent);
        let log = &mut self.logs[number];
        log.member = Some(member);
        self.epochs += 1;
        if !is_known {
            // The client finds the position by itself.
            let (start, epoch) = (Position::new(log.committed.0), Epoch::new(self.epochs));
            let partition = Partition::with_evidence(
                self.settings.clone(),
                epoch,
                None,
                SettledMap::new(),
                process.here,
                Evidence::default(),
            );
            let mut owner = Owner::new(number, epoch, partition, start);
            owner.beginning = (self.chances.fault != Fault::StartsUnknowing)
                .then(|| Beginning::unknown(Reset::Earliest));
            process.subscription(number).open(owner);
            self.direct_first(process, number);
            return;
        }
        let start = Position::new(log.committed.0);
        let CommitContent {
            settled, evidence, ..
        } = commit_map::decode(start, &log.committed.1).expect("it is our own");
        let (evidence, _) = evidence.at_start(process.here);
        self.most_unclean_starts = self.most_unclean_starts.max(evidence.unclean_starts);
        let epoch = Epoch::new(self.epochs);
        let partition = Partition::with_evidence(
            self.settings.clone(),
            epoch,
            Some(start),
            settled,
            process.here,
            evidence,
        );
        let owner = Owner::new(number, epoch, partition, start);
        process.subscription(number).open(owner);
        self.direct_first(process, number);
    }

    /// The coordinator says what is committed: the epoch that knew nothing ends, and has started
    /// nothing.
    fn answer(&mut self, member: usize, process: &mut Process, log: usize) {
        let start = Position::new(self.logs[log].committed.0);
        let Some(mut beginning) = process.owner(log).beginning else {
            return;
        };
        beginning.committed(Some((start, None)));
        assert_eq!(beginning.step(), Step::Seek(start, None));
        let before = process.close(log);
        let silent = std::mem::take(&mut self.chances.silent);
        self.open(member, process, log);
        self.chances.silent = silent;
        if let Some(before) = before {
            process.owner(log).inherit(&before, self.chances.fault);
        }
    }

    /// What is left of the process after it.
    fn act(&mut self, member: usize, mut process: Process) -> Option<Process> {
        if self.random.below(1_000) < self.chances.forbids {
            self.forbidden = self.random.pick(&[None, None, Some(topic_of(1))]);
        }
        if self.chances.unlucky_left > 0 && self.random.below(1_000) < self.chances.unlucky {
            self.chances.unlucky_left -= 1;
            let lives_on = self.random.percent(30);
            self.lose(&mut process);
            return lives_on.then_some(process);
        }
        if self.random.below(1_000) < self.chances.orderly {
            let logs = process.logs();
            logs.into_iter()
                .for_each(|log| self.give_up(&mut process, log));
            return None;
        }
        let logs = process.logs();
        if logs.is_empty() {
            return Some(process);
        }
        let log = self.random.pick(&logs);
        self.keep_directed(&mut process, log);
        if self.chances.acts_left > 0 && self.random.below(1_000) < self.chances.acts {
            self.operate(&mut process, log);
            self.write(&mut process, log);
            return Some(process);
        }
        if process.owner(log).beginning.is_some() && self.random.percent(10) {
            self.answer(member, &mut process, log);
            return Some(process);
        }
        if self.random.below(1_000) < self.chances.moves {
            self.give_up(&mut process, log);
            return Some(process);
        }
        match self.random.below(8) {
            0 => self.deliver(&mut process, log),
            1 => {
                let started = process.start(log);
                self.check(&process, &started);
            }
            2 => {
                if self.finish(&mut process, log) {
                    self.deaths += 1;
                    self.lose(&mut process);
                    return None;
                }
            }
            3 => {
                let others_wait = self.others_wait(process.owner(log));
                let started = process.take_turn(log, others_wait, self.now);
                self.check(&process, &started);
            }
            4 => process.owner(log).report(),
            5 => {
                let end = Position::new(self.logs[log].written as i64);
                process.owner(log).partition.log_ends_at(end);
            }
            _ => {
                self.land(member, &mut process);
            }
        }
        if process.find(log).is_some() {
            self.write(&mut process, log);
        }
        if self.random.percent(50) {
            process.pass(!self.random.percent(self.chances.late));
        }
        Some(process)
    }

    /// Whether a record that needs no trial is ready.
    fn others_wait(&self, owner: &Owner) -> bool {
        let log = &self.logs[owner.log];
        let broker = log.broker();
        let mut lanes = BTreeSet::new();
        let mut pending = owner.pending.iter();
        let waits = |&offset: &i64| {
            let is_head = lanes.insert(log.lanes[offset as usize]);
            let runs = owner.running.iter().any(|&(_, running)| running == offset);
            let is_paused = owner.is_key_paused(log.lanes[offset as usize]);
            is_head && !runs && !is_paused && !broker.is_suspected(Offset::new(offset))
        };
        broker.suspects.len() < MAX_SUSPECTS && pending.any(waits)
    }

    fn check(&self, process: &Process, started: &[Started]) {
        for started in started {
            let owner = process.owners().find(|owner| owner.log == started.log);
            self.check_orders(owner.expect("it is assigned"), started.offset);
            let broker = self.logs[started.log].broker();
            process.check(started, &broker);
        }
    }

    /// The group gives away what the process has; of what it sent, some may arrive.
    fn lose(&mut self, process: &mut Process) {
        while self.random.percent(50) && self.arrive(process) {}
        for subscription in &mut process.subscriptions {
            while let Some(sent) = subscription.client.arrives(0) {
                subscription.answered(sent, Err(Refusal::NotAMember));
            }
        }
        for log in process.logs() {
            process.close(log);
            self.logs[log].member = None;
        }
    }

    /// In order: what runs is dropped, and the last commit arrives.
    fn give_up(&mut self, process: &mut Process, log: usize) {
        if !self.random.percent(self.chances.blocked) {
            process.owner(log).end();
        }
        process.subscription(log).begin_to_give_back(log);
        for _ in 0..1_000 {
            process.pass(true);
            if process.subscription(log).has_given_back() {
                process.close(log);
                self.logs[log].member = None;
                return;
            }
            self.arrive(process);
        }
        panic!("partition {log} is not given back");
    }

    fn deliver(&mut self, process: &mut Process, log: usize) {
        let owner = process.owner(log);
        if owner.beginning.is_some() {
            return;
        }
        for _ in 0..=self.random.below(10) {
            if owner.read >= self.logs[log].written as i64 {
                return;
            }
            let lane = Some(self.logs[log].lanes[owner.read as usize]);
            let offset = Offset::new(owner.read);
            let delivery = Delivery {
                offset,
                lane,
                bytes: 1,
                due: None,
                rounds: 0,
                attempts: 0,
                retried_for: Duration::ZERO,
                record: (),
            };
            match owner.partition.deliver(delivery, self.now) {
                Delivered::Queued => _ = owner.pending.insert(owner.read),
                Delivered::AlreadySettled => {}
                Delivered::SkippedByOperator => {
                    assert!(owner.is_skipped(owner.read), "G12: nobody skips it");
                    self.logs[log].settled.insert(owner.read);
                    self.ordered.insert((log, owner.read));
                }
                other => panic!("{other:?}"),
            }
            owner.read += 1;
        }
    }

    /// An attempt ends; or the process does: `true`.
    fn finish(&mut self, process: &mut Process, log: usize) -> bool {
        let owner = process.owner(log);
        if owner.running.is_empty() {
            return false;
        }
        let (ticket, offset) = owner
            .running
            .swap_remove(self.random.index(owner.running.len()));
        if self.random.below(1_000) < self.chances.failing {
            let guard = &mut OutageGuard::default();
            let failure = Failure::Retryable.into();
            let verdict = owner.partition.fail(ticket, failure, 0, self.now, guard);
            owner.partition.tick(self.now);
            if matches!(verdict, Verdict::Settled { .. }) {
                self.skipped(process, log, &verdict);
            }
            return false;
        }
        if self.logs[log].killers.contains(&offset) {
            return true;
        }
        let _ = owner.partition.succeed(ticket, Success::Done);
        owner.pending.remove(&offset);
        self.logs[log].settled.insert(offset);
        false
    }

    fn write(&mut self, process: &mut Process, log: usize) {
        let Owner {
            partition, pending, ..
        } = process.owner(log);
        while let Some(verdict) = partition.next_poisoned() {
            assert_eq!(verdict.fate, PoisonFate::DeadLetter);
            self.blamed.push((log, verdict.offset.get()));
        }
        while let Some(write) = partition.next_publish() {
            let Publish::DeadLetter { reason } = write.publish else {
                panic!("{write:?}");
            };
            let is_ordered = self.ordered.contains(&(log, write.offset.get()));
            assert!(
                reason == Reason::Poison || (reason == Reason::Operator && is_ordered),
                "{write:?}"
            );
            let _ =
                partition.publish_finished(write.ticket, PublishResult::Acknowledged, 0, self.now);
            pending.remove(&write.offset.get());
            self.logs[log].settled.insert(write.offset.get());
        }
    }

    fn land(&mut self, member: usize, process: &mut Process) -> bool {
        let is_its = |log: usize| self.logs[log].member == Some(member);
        debug_assert!(process.logs().into_iter().all(is_its));
        self.arrive(process)
    }

    /// The oldest commit of a subscription that is under way arrives.
    fn arrive(&mut self, process: &mut Process) -> bool {
        let first = self.random.index(process.subscriptions.len());
        let (earlier, later) = process.subscriptions.split_at_mut(first);
        for subscription in later.iter_mut().chain(earlier) {
            if let Some(sent) = subscription.client.arrives(0) {
                let result = self.take(&sent);
                subscription.answered(sent, result);
                return true;
            }
        }
        false
    }

    /// A broker takes what it takes partition by partition, and the client reports one refusal for
    /// all.
    fn take(&mut self, sent: &Sent) -> CommitResult {
        if self.random.percent(self.chances.refused) {
            let refusals = [
                Refusal::Passing,
                Refusal::Rebalancing,
                Refusal::EarlierGeneration,
            ];
            return Err(self.random.pick(&refusals));
        }
        let mut result = Ok(());
        for (log, point) in &sent.points {
            if self.forbidden == Some(topic_of(*log)) {
                result = Err(Refusal::Topic);
                continue;
            }
            let log = &mut self.logs[*log];
            let position = point.position.get();
            assert!(
                (log.committed.0..position).all(|offset| log.settled.contains(&offset)),
                "G1: the commit of {position} covers what is not settled"
            );
            log.committed = (position, point.metadata.clone());
        }
        result
    }
}
