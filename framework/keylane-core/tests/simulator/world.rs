//! A run: members, partitions, a broker and everything that can go wrong between them, one random
//! step at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use keylane_core::member::{CommitResult, Refusal};
use keylane_core::{
    Backoff, BlockerPolicy, Delivered, Delivery, Epoch, Exhausted, LaneOrder, MAX_METADATA_BYTES,
    Moment, Offset, OutageGuard, OutageSettings, Partition, PartitionDirectives, PartitionSettings,
    Paused, Position, RetryPolicy, SettledMap, Success, Ticket,
};

use crate::broker::{Broker, Commit, LOGS, LogRecord, ORIGIN, RETRY};
use crate::commits::commit_of;
use crate::foreign::Neighbours;
use crate::hand_over::{Ended, Member};
use crate::owner::Owner;
use crate::plan::{Behaviour, Plan, random_policy};
use crate::random::Random;
use crate::violation::{Checked, ensure};

pub(crate) const MEMBERS: usize = 2;
const BATCH: usize = 8;

/// A mistake of the shell, to prove that the simulator notices.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    None,
    CommitsWhatWasReadInsteadOfTheWatermark,
    CountsFailedWritesAsAcknowledged,
    CommitsMetadataOfAnEarlierPosition,
    DropsTheInheritedMap,
    HandsOverWhatStillRuns,
    ForgetsTheLastCommit,
    ForgetsASecondRevoke,
    CommitsALostAssignment,
    CommitsBeforeTheDrain,
    LosesARecordBetweenReadingAndDelivery,
    DeliversBeyondTheBudget,
    IgnoresTheLeaderEpoch,
    CommitsNoLeaderEpoch,
    StartsWithoutTheConfirmingSeek,
    LeavesANewOwnerWithoutDirectives,
    ReplacesWhatIsDirected,
}

pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) fault: Fault,
    pub(crate) now: Moment,
    pub(crate) broker: Broker,
    pub(crate) owners: [Option<Owner>; 2],
    /// In the place of an owner that has ended and is not given back yet.
    pub(crate) ended: [Option<Ended>; 2],
    pub(crate) members: [Member; MEMBERS],
    pub(crate) guards: [Guard; MEMBERS],
    pub(crate) guard_settings: OutageSettings,
    pub(crate) plans: Vec<Plan>,
    pub(crate) neighbours: Neighbours,
    /// What operators have directed for each log, in whichever epoch.
    pub(crate) directives: [PartitionDirectives; 2],
    /// Records that were dead-lettered, or are to be, for holding up their partition, or that an
    /// operator skipped or had dead-lettered: the policy did not ask for their plan.
    pub(crate) given_up: BTreeSet<usize>,
    /// Records that a log lost: they may be nowhere.
    pub(crate) cut_away: BTreeSet<usize>,
    /// Attempts started by identity, over all deliveries.
    pub(crate) attempts: Vec<u32>,
    /// Attempts and writes whose owner is gone or has given them up, and whose result comes one
    /// day.
    pub(crate) late: Vec<(usize, Ticket)>,
    /// Attempts that an owner left behind although it was reported as drained: any is a fault.
    pub(crate) left_running: Vec<(usize, i64)>,
    /// For [`Fault::CommitsMetadataOfAnEarlierPosition`].
    earlier_metadata: [String; 2],
    pub(crate) settings: [Arc<PartitionSettings>; 2],
    pub(crate) pause_at: u64,
    pub(crate) max_metadata_bytes: usize,
    keys: u64,
    /// How many records never work: many of them look like an outage to the guard.
    broken_percent: u64,
    /// Operators act on keys and records.
    pub(crate) has_acts: bool,
    /// Hardly any record fails, or hangs.
    pub(crate) mostly_good: bool,
    pub(crate) epochs: u64,
    /// The weight of each kind of step: runs differ in what they are made of.
    weights: [u64; STEPS.len()],
    /// How often the corner cases were reached, which shows that a run tests what it claims.
    pub(crate) corners: BTreeMap<&'static str, u64>,
    /// Nothing goes wrong from here on: the end of a run.
    pub(crate) calm: bool,
}

/// The guard of a member, and another partition of it in which everything works.
pub(crate) struct Guard {
    pub(crate) real: OutageGuard,
    healthy: Partition<()>,
    delivered: i64,
}

impl Guard {
    pub(crate) fn new(settings: OutageSettings) -> Self {
        let healthy = Partition::new(
            Arc::default(),
            Epoch::new(1),
            Some(Position::new(0)),
            SettledMap::new(),
        );
        Self {
            real: OutageGuard::new(settings),
            healthy,
            delivered: 0,
        }
    }

    /// A record of the healthy partition is processed.
    pub(crate) fn succeed(&mut self, now: Moment) {
        let (offset, retried_for) = (Offset::new(self.delivered), Duration::ZERO);
        self.delivered += 1;
        let delivery = Delivery {
            offset,
            lane: None,
            bytes: 1,
            due: None,
            rounds: 0,
            attempts: 0,
            retried_for,
            record: (),
        };
        self.healthy.deliver(delivery, now);
        self.healthy.next_start_needs_mark();
        if let Some(mark) = self.healthy.wanted_mark() {
            self.healthy.mark_confirmed(mark);
        }
        if let Some(ticket) = self.healthy.next_start().map(|start| start.ticket) {
            let _ = self.healthy.succeed(ticket, Success::Done);
        }
        self.healthy.report_to_guard(&mut self.real, now);
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Step {
    Produce,
    Fetch,
    FetchAgain,
    Start,
    FinishAttempt,
    TakeWrite,
    FinishWrite,
    LateResult,
    Advance,
    Watch,
    TogglePause,
    Commit,
    CommitAnswered,
    CommitFailed,
    Assign,
    Revoke,
    Look,
    Lose,
    ShutDown,
    Crash,
    Operator,
    Neighbour,
    Ask,
}

/// Each kind of step and its usual weight.
const STEPS: [(Step, u64); 23] = [
    (Step::Produce, 25),
    (Step::Fetch, 40),
    (Step::FetchAgain, 3),
    (Step::Start, 60),
    (Step::FinishAttempt, 60),
    (Step::TakeWrite, 25),
    (Step::FinishWrite, 25),
    (Step::LateResult, 8),
    (Step::Advance, 30),
    (Step::Watch, 40),
    (Step::TogglePause, 2),
    (Step::Commit, 12),
    (Step::CommitAnswered, 12),
    (Step::CommitFailed, 2),
    (Step::Assign, 80),
    (Step::Revoke, 2),
    (Step::Look, 80),
    (Step::Lose, 1),
    (Step::ShutDown, 1),
    (Step::Crash, 1),
    (Step::Operator, 12),
    (Step::Neighbour, 5),
    (Step::Ask, 15),
];

impl World {
    /// Nearly everything works and few members come and go, so that the window of a stuck record
    /// fills up.
    pub(crate) fn with_stuck_records(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let on_exhausted = random.pick(&[Exhausted::DeadLetter, Exhausted::Park]);
        let policy = RetryPolicy {
            dead_letter_topic: true,
            on_exhausted,
            ..random_policy(&mut random)
        };
        let concurrency = 2 + random.index(6);
        let mut world = Self::of(random, Fault::None, policy, concurrency, true);
        for ((step, _), weight) in STEPS.iter().zip(&mut world.weights) {
            *weight = match step {
                Step::Assign => 2,
                Step::Operator => 6,
                Step::TogglePause | Step::FetchAgain | Step::Neighbour | Step::Ask => 0,
                Step::Crash | Step::Lose | Step::ShutDown | Step::Revoke => {
                    u64::from(world.random.percent(30))
                }
                _ => *weight,
            };
        }
        world
    }

    pub(crate) fn new(seed: u64, fault: Fault) -> Self {
        let mut random = Random::new(seed);
        let policy = random_policy(&mut random);
        let concurrency = 1 + random.index(5);
        Self::of(random, fault, policy, concurrency, false)
    }

    fn of(
        mut random: Random,
        fault: Fault,
        policy: RetryPolicy,
        concurrency: usize,
        mostly_good: bool,
    ) -> Self {
        let pause_at = 4 + random.below(60);
        let blocker =
            (mostly_good || (policy.dead_letter_topic && random.percent(60))).then(|| {
                BlockerPolicy {
                    after: Duration::from_millis(random.pick(&[0, 50, 500])),
                    settled_ahead_limit: 2 * pause_at as usize,
                    pending_limit: pause_at as usize,
                }
            });
        let guard_settings = OutageSettings {
            lanes: random.pick(&[2, 5, usize::MAX]),
            patience: Duration::from_secs(10),
            quiet: Duration::from_secs(1),
            longest_attempt: Duration::from_secs(1),
        };
        let settings = |lane_order| {
            Arc::new(PartitionSettings {
                concurrency,
                retry: policy.clone(),
                lane_order,
                publish_backoff: Backoff::exponential(
                    Duration::from_millis(50),
                    Duration::from_millis(400),
                ),
                watched_records: 10_000,
                blocker,
                ..PartitionSettings::default()
            })
        };
        let mut apart = random.apart();
        let weights = STEPS.map(|(step, weight)| match step {
            Step::Neighbour | Step::Ask => weight * apart.below(3),
            _ => match random.below(4) {
                0 if weight <= 3 => 0,
                1 => weight * 3,
                _ => weight,
            },
        });
        Self {
            fault,
            now: Moment::ORIGIN,
            broker: Broker::default(),
            owners: [None, None],
            ended: [None, None],
            members: Default::default(),
            guards: [Guard::new(guard_settings), Guard::new(guard_settings)],
            guard_settings,
            plans: Vec::new(),
            neighbours: Neighbours::new(&mut apart),
            has_acts: !mostly_good,
            directives: Default::default(),
            given_up: BTreeSet::new(),
            cut_away: BTreeSet::new(),
            attempts: Vec::new(),
            late: Vec::new(),
            left_running: Vec::new(),
            earlier_metadata: Default::default(),
            settings: [settings(LaneOrder::Offset), settings(LaneOrder::Due)],
            pause_at,
            max_metadata_bytes: random.pick(&[MAX_METADATA_BYTES, MAX_METADATA_BYTES, 40, 24, 0]),
            keys: 1 + random.below(if mostly_good { 100 } else { 20 }),
            mostly_good,
            broken_percent: random.pick(&[4, 4, 10, 50]),
            epochs: 0,
            weights,
            corners: BTreeMap::new(),
            calm: false,
            random,
        }
    }

    pub(crate) fn policy(&self) -> &RetryPolicy {
        &self.settings[ORIGIN].retry
    }

    /// One random step, and every promise checked after it.
    pub(crate) fn step(&mut self) -> Checked<Step> {
        let step = self.choose();
        let log = if self.random.percent(65) {
            ORIGIN
        } else {
            RETRY
        };
        match step {
            Step::Produce => self.produce(),
            Step::Fetch => self.fetch(log)?,
            Step::FetchAgain => self.fetch_again(log),
            Step::Start => self.some(log, Self::start)?,
            Step::FinishAttempt => self.some(log, Self::finish_attempt)?,
            Step::TakeWrite => self.some(log, Self::take_write)?,
            Step::FinishWrite => self.some(log, Self::finish_write)?,
            Step::LateResult => self.late_result()?,
            Step::Advance => self.advance(),
            Step::Watch => self.watch(log)?,
            Step::TogglePause => self.toggle_pause(log),
            Step::Commit => self.commit(log)?,
            Step::CommitAnswered => self.commit_answered(log)?,
            Step::CommitFailed => {
                if let Some(member) = self.member_of(log) {
                    self.commit_arrives(member, Err(Refusal::Passing))?;
                }
            }
            Step::Assign => self.assign(log)?,
            Step::Revoke => self.revoke(log),
            Step::Look => {
                let member = self.random.index(MEMBERS);
                self.fail_if_stopped(member);
                self.look(member)?;
            }
            Step::Lose => self.take_away(log),
            Step::ShutDown => {
                let member = self.random.index(MEMBERS);
                self.shut_down(member);
            }
            Step::Crash => self.crash()?,
            Step::Operator => {
                self.operator(log);
                if self.has_acts {
                    self.act(log)?;
                }
            }
            Step::Neighbour => self.neighbour(),
            Step::Ask => self.ask()?,
        }
        self.check()?;
        Ok(step)
    }

    /// A few of the same, as long as there is something to do.
    fn some(&mut self, log: usize, act: fn(&mut Self, usize) -> Checked<bool>) -> Checked<()> {
        for _ in 0..=self.random.below(4) {
            if !act(self, log)? {
                break;
            }
            self.check()?;
        }
        Ok(())
    }

    pub(crate) fn count(&mut self, corner: &'static str) {
        *self.corners.entry(corner).or_default() += 1;
    }

    fn choose(&mut self) -> Step {
        let total: u64 = self.weights.iter().sum();
        let mut ticket = self.random.below(total);
        for ((step, _), weight) in STEPS.iter().zip(self.weights) {
            if ticket < weight {
                return *step;
            }
            ticket -= weight;
        }
        Step::Start
    }

    pub(crate) fn check(&self) -> Checked<()> {
        for log in LOGS {
            if let Some(owner) = &self.owners[log] {
                let limit = if self.calm {
                    usize::MAX
                } else {
                    self.pause_at as usize + BATCH
                };
                owner
                    .check(self.now, limit)
                    .map_err(|message| format!("log {log}: {message}"))?;
            }
        }
        Ok(())
    }

    fn produce(&mut self) {
        for _ in 0..=self.random.below(4) {
            let policy = self.policy().clone();
            let identity = self.plans.len();
            self.plans.push(match self.mostly_good {
                true => Plan::mostly_good(&mut self.random, &policy),
                false => Plan::random(&mut self.random, &policy, self.broken_percent),
            });
            self.attempts.push(0);
            let key = (!self.random.percent(15)).then(|| self.random.below(self.keys));
            let due = self
                .random
                .percent(5)
                .then(|| self.millis() + self.random.below(500));
            let hole = if self.random.percent(20) {
                self.random.below(3) as i64
            } else {
                0
            };
            let retried_for = Duration::ZERO;
            let record = LogRecord {
                offset: 0,
                identity,
                key,
                due,
                rounds: 0,
                attempts: 0,
                retried_for,
                epoch: 0,
                theirs: false,
            };
            self.broker.logs[ORIGIN].append(hole, record);
        }
    }

    pub(crate) fn millis(&self) -> u64 {
        self.now.since_origin().as_millis() as u64
    }

    pub(crate) fn fetch(&mut self, log: usize) -> Checked<()> {
        let Some(owner) = &mut self.owners[log] else {
            return Ok(());
        };
        let (pending, ahead) = (owner.partition.pending(), owner.partition.settled_ahead());
        let (guard, now) = (&mut self.guards[owner.member].real, self.now);
        let nothing_succeeds = || guard.nothing_succeeds(now);
        let paused = owner
            .limits
            .update(pending as u64, ahead as u64, nothing_succeeds);
        if paused {
            *self.corners.entry("a pause for the budget").or_default() += 1;
        }
        if paused && !self.calm && self.fault != Fault::DeliversBeyondTheBudget {
            return Ok(());
        }
        let batch = self.broker.logs[log].read(owner.fetch_at, 1 + self.random.index(BATCH));
        let (mut foreign, mut skipped) = (Vec::new(), Vec::new());
        for record in batch {
            owner.fetch_at = record.offset + 1;
            if self.fault == Fault::LosesARecordBetweenReadingAndDelivery && self.random.percent(2)
            {
                continue;
            }
            if record.offset < owner.start_position() {
                *self
                    .corners
                    .entry("a log written again below the committed position")
                    .or_default() += 1;
            }
            let ruling = self.neighbours.rule(owner.member, &record, self.now);
            let corner = match owner.deliver(record, ruling, self.now)? {
                Delivered::Queued => continue,
                Delivered::Repeated => "a repeated delivery",
                Delivered::AlreadySettled => "a delivery settled before",
                Delivered::Foreign => {
                    foreign.push(record.offset);
                    "a foreign delivery"
                }
                Delivered::SkippedByOperator => {
                    skipped.push(record);
                    "a skip at delivery"
                }
            };
            *self.corners.entry(corner).or_default() += 1;
        }
        for record in skipped {
            self.was_skipped(log, record);
        }
        foreign
            .into_iter()
            .try_for_each(|offset| self.settled_at_delivery(log, offset))
    }

    /// The client reads again what it has delivered.
    fn fetch_again(&mut self, log: usize) {
        if let Some(owner) = &mut self.owners[log] {
            let start = owner.start_position();
            let span = (owner.fetch_at - start).max(0) as u64 + 1;
            owner.fetch_at = owner.fetch_at.min(start + self.random.below(span) as i64);
        }
    }

    pub(crate) fn start(&mut self, log: usize) -> Checked<bool> {
        let Some(owner) = &mut self.owners[log] else {
            return Ok(false);
        };
        let Some(identity) = owner.start_next(&self.broker.logs[log], self.now)? else {
            return Ok(false);
        };
        self.attempts[identity] += 1;
        let key = |log: usize, offset: i64| {
            self.broker.logs[log]
                .get(offset)
                .and_then(|record| record.key)
        };
        let (_, offset) = *owner.running.last().expect("one was started");
        for &(other_log, other) in &self.left_running {
            let overlap = other_log == log
                && key(log, other).is_some()
                && key(log, other) == key(log, offset);
            ensure!(
                !overlap,
                "G2: {offset} starts while {other} of its key still runs at the previous owner"
            );
        }
        Ok(true)
    }

    fn advance(&mut self) {
        let step = self.random.pick(&[1, 20, 100, 500, 2_500]);
        self.tick(self.now + Duration::from_millis(step));
    }

    pub(crate) fn tick(&mut self, now: Moment) {
        self.now = now;
        for owner in self.owners.iter_mut().flatten() {
            owner.tick(now);
        }
    }

    fn toggle_pause(&mut self, log: usize) {
        let pause = self.random.percent(30);
        if let Some(owner) = &mut self.owners[log] {
            owner.paused = pause && !owner.paused;
            owner.partition.set_paused(if owner.paused {
                Paused::Yes
            } else {
                Paused::No
            });
        }
    }

    fn commit(&mut self, log: usize) -> Checked<()> {
        let Some(owner) = &mut self.owners[log] else {
            return Ok(());
        };
        let Some(mut commit) = owner.commit(&self.broker.logs[log], self.max_metadata_bytes)?
        else {
            return Ok(());
        };
        match self.fault {
            Fault::CommitsWhatWasReadInsteadOfTheWatermark => {
                commit.position = owner.partition.next_position().map_or(0, Position::get);
                commit.metadata.clear();
            }
            Fault::CommitsMetadataOfAnEarlierPosition => {
                std::mem::swap(&mut commit.metadata, &mut self.earlier_metadata[log]);
            }
            _ => {}
        }
        let (member, running) = (owner.member, owner.partition.is_marked());
        self.members[member].report(log, commit, running);
        Ok(())
    }

    /// The commit interval passes, and one of the commits under way comes to the broker.
    fn commit_answered(&mut self, log: usize) -> Checked<()> {
        let Some(member) = self.member_of(log) else {
            return Ok(());
        };
        if self.random.percent(50) {
            let now = self.now;
            self.members[member].commits.send(now);
        }
        self.commit_arrives(member, Ok(())).map(drop)
    }

    /// The oldest commit of a member that is under way comes to the broker, if there is one. The
    /// coordinator takes none of a partition that is another's.
    pub(crate) fn commit_arrives(&mut self, member: usize, result: CommitResult) -> Checked<bool> {
        let Some(sent) = self.members[member].commits.client.arrives(0) else {
            return Ok(false);
        };
        for (log, point) in sent.points.iter().filter(|_| result.is_ok()) {
            if self.member_of(*log) == Some(member) && !self.members[member].has_lost(*log) {
                self.land(*log, commit_of(point))?;
            }
        }
        self.members[member]
            .commits
            .answered(&sent, result, self.now);
        Ok(true)
    }

    pub(crate) fn land(&mut self, log: usize, mut commit: Commit) -> Checked<()> {
        if self.fault == Fault::CommitsNoLeaderEpoch {
            commit.leader_epoch = None;
        }
        self.broker.logs[log].check_commit(&commit)?;
        self.broker.logs[log].committed = Some(commit);
        Ok(())
    }

    /// The subscription was stopped by this record; it is repaired.
    pub(crate) fn repair(&mut self, identity: usize) {
        self.plans[identity].behaviour = Behaviour::Good;
    }

    pub(crate) fn retry_log_append(&mut self, record: LogRecord) {
        let hole = self.random.below(2) as i64;
        self.broker.logs[RETRY].append(hole, record);
    }
}
