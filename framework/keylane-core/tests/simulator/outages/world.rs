//! One process with its partitions, a downstream that goes away and comes back, and virtual time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use keylane_core::member::PartitionLimits;
use keylane_core::{
    Budget, Delivery, Epoch, ErrorClass, FailedAttempt, LaneOrder, MAX_METADATA_BYTES, Moment,
    Offset, OutageGuard, Partition, PartitionSettings, Position, Publish, PublishRequest,
    PublishResult, Reason, RetryPolicy, SettledMap, Success, Ticket, Verdict, commit_map,
};

use super::scenario::{Fault, Nature, Scenario};
use crate::random::Random;

/// Records that are pending in a partition at most.
const WINDOW: u64 = 10_000;

/// What became of the records of a run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) good: usize,
    pub(crate) good_done: usize,
    pub(crate) good_dead: usize,
    /// Good ones that had used up their attempts before enough lanes failed: nothing showed that
    /// there was an outage.
    pub(crate) good_dead_too_early: usize,
    /// Skipped, or dead-lettered by an order.
    pub(crate) good_given_up_by_order: usize,
    pub(crate) bad_given_up_by_order: usize,
    pub(crate) bad: usize,
    /// From the first failed attempt to the dead letter.
    pub(crate) bad_dead_after: Vec<Duration>,
    /// The most records that were held at a time.
    pub(crate) most_held: usize,
    pub(crate) saw_total: bool,
    pub(crate) saw_partial: bool,
    pub(crate) saw_place: bool,
    pub(crate) saw_bad_deployment: bool,
    pub(crate) attempts: u64,
}

pub(crate) struct World {
    pub(super) scenario: Scenario,
    pub(super) random: Random,
    pub(super) now: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    numbered: u64,
    pub(super) records: Vec<Record>,
    pub(super) logs: Vec<Log>,
    pub(super) parts: Vec<Option<Part>>,
    /// The keys that are paused.
    pub(super) paused: BTreeSet<u64>,
    /// Records whose dead letters operators have ordered.
    pub(super) ordered: BTreeSet<usize>,
    guards: Vec<OutageGuard>,
    /// Lanes whose latest attempt in this process failed.
    failing: BTreeMap<u64, ErrorClass>,
    epochs: u64,
    starts: u64,
    pub(super) report: Report,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    Produce,
    AttemptEnds { part: usize, number: u64 },
    Written { part: usize, number: u64 },
    Wake { part: usize },
    Stop,
    Start,
    Release,
    Act,
    ResumeAll,
}

pub(super) struct Record {
    pub(super) key: Option<u64>,
    pub(super) nature: Nature,
    first_failed: Option<u64>,
    /// Its attempts were used up when fewer lanes failed than make an outage.
    too_early: bool,
    pub(super) ended: bool,
}

impl Record {
    /// Without a key it is a lane of its own.
    fn lane(&self, number: usize) -> u64 {
        self.key.unwrap_or(u64::MAX - number as u64)
    }
}

#[derive(Default)]
pub(super) struct Log {
    pub(super) entries: Vec<Entry>,
    committed: usize,
    settled: SettledMap,
}

#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub(super) record: usize,
    due: Option<u64>,
    rounds: u32,
    attempts: u32,
    retried_for: Duration,
}

pub(super) struct Part {
    pub(super) partition: Partition<usize>,
    limits: PartitionLimits,
    fetched: usize,
    running: BTreeMap<u64, Ticket>,
    writes: BTreeMap<u64, PublishRequest>,
    wakes_at: Option<u64>,
}

pub(super) fn at(millis: u64) -> Moment {
    Moment::new(Duration::from_millis(millis))
}

fn millis(moment: Moment) -> u64 {
    // Rounded up: a wake must not come before its moment.
    moment.since_origin().as_nanos().div_ceil(1_000_000) as u64
}

impl World {
    pub(crate) fn run(scenario: Scenario, seed: u64) -> Report {
        let logs = scenario.partitions * 2;
        let mut world = Self {
            random: Random::new(seed),
            now: 0,
            events: BinaryHeap::new(),
            numbered: 0,
            records: Vec::new(),
            logs: (0..logs).map(|_| Log::default()).collect(),
            parts: (0..logs).map(|_| None).collect(),
            paused: BTreeSet::new(),
            ordered: BTreeSet::new(),
            guards: Vec::new(),
            failing: BTreeMap::new(),
            epochs: 0,
            starts: 0,
            report: Report::default(),
            scenario,
        };
        world.plan();
        while let Some(Reverse((millis, _, event))) = world.events.pop() {
            if millis > world.scenario.ends_at {
                break;
            }
            world.now = millis;
            world.take(event);
        }
        world.report
    }

    fn plan(&mut self) {
        for _ in 0..self.scenario.records {
            let at = self.random.below(self.scenario.produced_until.max(1));
            self.push(at, Event::Produce);
        }
        let downtimes = self.scenario.downtimes.clone();
        self.push(0, Event::Start);
        for (from, to) in downtimes {
            self.push(from, Event::Stop);
            self.push(to, Event::Start);
        }
        if let Some(at) = self.scenario.released_at {
            self.push(at, Event::Release);
        }
        self.plan_acts();
    }

    pub(super) fn push(&mut self, at: u64, event: Event) {
        self.numbered += 1;
        self.events
            .push(Reverse((at.max(self.now), self.numbered, event)));
    }

    pub(super) fn take(&mut self, event: Event) {
        match event {
            Event::Produce => self.produce(),
            Event::AttemptEnds { part, number } => self.attempt_ends(part, number),
            Event::Written { part, number } => self.written(part, number),
            Event::Wake { part } => {
                // One that was overtaken by an earlier one is ignored.
                if self.parts[part]
                    .as_ref()
                    .is_some_and(|part| part.wakes_at == Some(self.now))
                {
                    self.turn(part);
                }
            }
            Event::Stop => self.stop(),
            Event::Start => self.start(),
            Event::Release => {
                let now = at(self.now);
                self.guards.iter_mut().for_each(|guard| guard.release(now));
            }
            Event::Act => self.act(),
            Event::ResumeAll => self.resume_all(),
        }
    }

    fn produce(&mut self) {
        let number = self.records.len();
        let nature = self.scenario.nature_of(number, self.now, &mut self.random);
        let keys = self.scenario.keys;
        // A bad record has a key of its own, so that no good record waits behind it.
        let key = match nature {
            _ if self.scenario.without_keys => None,
            Nature::Good => Some(self.random.below(keys)),
            _ => Some(keys + number as u64),
        };
        match nature {
            Nature::Good | Nature::BadUntilRestart(_) => self.report.good += 1,
            Nature::Bad(_) => self.report.bad += 1,
        }
        self.records.push(Record {
            key,
            nature,
            first_failed: None,
            too_early: false,
            ended: false,
        });
        let part = key.unwrap_or(number as u64) as usize % self.scenario.partitions;
        let entry = Entry {
            record: number,
            due: None,
            rounds: 0,
            attempts: 0,
            retried_for: Duration::ZERO,
        };
        self.logs[part].entries.push(entry);
        self.turn(part);
    }

    /// The guard of a partition: one for all, unless the shell is at fault.
    fn guard_of(&self, part: usize) -> usize {
        match self.scenario.fault {
            Fault::HasAGuardForEachPartition => part,
            _ => 0,
        }
    }

    fn start(&mut self) {
        self.starts += 1;
        let guards = self.parts.len();
        self.guards = (0..guards)
            .map(|_| OutageGuard::new(self.scenario.guard))
            .collect();
        for part in 0..self.parts.len() {
            self.epochs += 1;
            let lane_order = if part < self.scenario.partitions {
                LaneOrder::Offset
            } else {
                LaneOrder::Due
            };
            let retry: RetryPolicy = self.scenario.policy.clone();
            let concurrency = self.scenario.concurrency;
            let settings = PartitionSettings {
                concurrency,
                retry,
                lane_order,
                ..PartitionSettings::default()
            };
            let log = &self.logs[part];
            let start = Position::new(log.committed as i64);
            let partition = Partition::new(
                Arc::new(settings),
                Epoch::new(self.epochs),
                Some(start),
                log.settled.clone(),
            );
            let fetched = log.committed;
            let (running, writes) = (BTreeMap::new(), BTreeMap::new());
            let ahead = self.scenario.settled_ahead;
            let limits = PartitionLimits {
                records: Budget::new(WINDOW, WINDOW - 1),
                ahead: Budget::new(ahead, ahead / 10 * 7),
            };
            self.parts[part] = Some(Part {
                partition,
                limits,
                fetched,
                running,
                writes,
                wakes_at: None,
            });
        }
        self.direct_at_start();
        (0..self.parts.len()).for_each(|part| self.turn(part));
    }

    /// The process ends; what ran is lost, what is committed is kept.
    fn stop(&mut self) {
        self.failing.clear();
        for (part, log) in self.parts.iter_mut().zip(&mut self.logs) {
            let Some(part) = part.take() else { continue };
            let Some(position) = part.partition.watermark() else {
                continue;
            };
            let metadata = part.partition.commit_metadata(MAX_METADATA_BYTES).text;
            log.committed = position.get() as usize;
            log.settled = commit_map::decode(position, &metadata)
                .expect("our own")
                .settled;
        }
    }

    /// One turn of an owner.
    pub(super) fn turn(&mut self, number: usize) {
        let guard = self.guard_of(number);
        let now = at(self.now);
        let Some(part) = &mut self.parts[number] else {
            return;
        };
        part.partition.tick(now);
        if part.wakes_at == Some(self.now) {
            part.wakes_at = None;
        }
        let log = &self.logs[number];
        let stays_paused = self.scenario.fault == Fault::StaysPausedWhileNothingSucceeds;
        while let Some(entry) = log.entries.get(part.fetched) {
            let (pending, ahead) = (part.partition.pending(), part.partition.settled_ahead());
            let nothing_succeeds = || !stays_paused && self.guards[guard].nothing_succeeds(now);
            if part
                .limits
                .update(pending as u64, ahead as u64, nothing_succeeds)
            {
                break;
            }
            let forgets = self.scenario.fault == Fault::ForgetsRetryTime;
            let delivery = Delivery {
                offset: Offset::new(part.fetched as i64),
                lane: self.records[entry.record].key,
                bytes: 1,
                due: entry.due.map(at),
                rounds: entry.rounds,
                attempts: entry.attempts,
                retried_for: if forgets {
                    Duration::ZERO
                } else {
                    entry.retried_for
                },
                record: entry.record,
            };
            part.partition.deliver(delivery, now);
            part.fetched += 1;
        }
        let (mut events, mut started) = (Vec::new(), Vec::new());
        loop {
            part.partition.next_start_needs_mark();
            if let Some(mark) = part.partition.wanted_mark() {
                part.partition.mark_confirmed(mark);
            }
            let Some(start) = part.partition.next_start() else {
                break;
            };
            self.numbered += 1;
            self.report.attempts += 1;
            started.push(*start.record);
            part.running.insert(self.numbered, start.ticket);
            let (number_of_record, record) = (*start.record as u64, &self.records[*start.record]);
            let (key, nature) = (record.key, record.nature);
            let takes =
                self.scenario
                    .takes(key, number_of_record, nature, self.now, &mut self.random);
            events.push((
                self.now + takes,
                Event::AttemptEnds {
                    part: number,
                    number: self.numbered,
                },
            ));
        }
        while let Some(request) = part.partition.next_publish() {
            self.numbered += 1;
            part.writes.insert(self.numbered, request);
            events.push((
                self.now + 5,
                Event::Written {
                    part: number,
                    number: self.numbered,
                },
            ));
        }
        if part.partition.has_news() && self.scenario.fault != Fault::TellsNothing {
            part.partition.report_to_guard(&mut self.guards[guard], now);
        }
        if let Some(deadline) = part
            .partition
            .next_deadline()
            .map(|deadline| millis(deadline).max(self.now + 1))
            && part.wakes_at.is_none_or(|wakes_at| wakes_at > deadline)
        {
            part.wakes_at = Some(deadline);
            events.push((deadline, Event::Wake { part: number }));
        }
        events
            .into_iter()
            .for_each(|(at, event)| self.push(at, event));
        started
            .into_iter()
            .for_each(|record| self.check_orders(record));
    }

    fn attempt_ends(&mut self, number: usize, attempt: u64) {
        let guard = self.guard_of(number);
        let now = self.now;
        let Some(part) = &mut self.parts[number] else {
            return;
        };
        let Some(ticket) = part.running.remove(&attempt) else {
            return;
        };
        let Some(&record) = part.partition.record(ticket) else {
            panic!("what runs is pending")
        };
        let found = &mut self.records[record];
        let outcome = self.scenario.outcome(
            found.key,
            record as u64,
            found.nature,
            now,
            self.starts,
            &mut self.random,
        );
        match outcome {
            Ok(()) => {
                let _ = part.partition.succeed(ticket, Success::Done);
                self.failing.remove(&found.lane(record));
                // Also where it was dead-lettered before: its copy is another record.
                if !std::mem::replace(&mut found.ended, true) {
                    self.report.good_done += 1;
                }
            }
            Err(failed) => self.fail(number, guard, ticket, record, failed),
        }
        self.turn(number);
        if self.random.percent(6) {
            self.look(guard);
        }
    }

    fn fail(
        &mut self,
        number: usize,
        guard: usize,
        ticket: Ticket,
        record: usize,
        failed: FailedAttempt,
    ) {
        let (now, entropy) = (at(self.now), self.random.next());
        let found = &mut self.records[record];
        found.first_failed.get_or_insert(self.now);
        self.failing.insert(found.lane(record), failed.class);
        let is_alike = |&&class: &&ErrorClass| self.scenario.one_in == 1 || class == failed.class;
        let alike = self.failing.values().filter(is_alike).count();
        if let Some(part) = &mut self.parts[number] {
            let verdict =
                part.partition
                    .fail(ticket, failed, entropy, now, &mut self.guards[guard]);
            // By time the retry time is promised to each.
            found.too_early = self.scenario.policy.for_at_least.is_none()
                && verdict == Verdict::Publishing
                && alike < self.scenario.guard.lanes;
            if matches!(verdict, Verdict::Settled { .. }) {
                self.skipped(number, &verdict);
            }
        }
    }

    fn written(&mut self, number: usize, write: u64) {
        let now = at(self.now);
        let Some(part) = &mut self.parts[number] else {
            return;
        };
        let Some(request) = part.writes.remove(&write) else {
            return;
        };
        let record = self.logs[number].entries[request.offset.get() as usize].record;
        let _ =
            part.partition
                .publish_finished(request.ticket, PublishResult::Acknowledged, 0, now);
        let mut retry_part = None;
        match request.publish {
            Publish::Retry { round, delay } => {
                let part = self.scenario.partitions + number % self.scenario.partitions;
                let due = Some(self.now + delay.as_millis() as u64);
                let (attempts, retried_for) = (request.attempts, request.retried_for);
                self.logs[part].entries.push(Entry {
                    record,
                    due,
                    rounds: round,
                    attempts,
                    retried_for,
                });
                retry_part = Some(part);
            }
            Publish::DeadLetter { reason } => {
                let is_ordered = self.ordered.contains(&record);
                let record = &mut self.records[record];
                record.ended = true;
                match record.nature {
                    Nature::Bad(_) if reason == Reason::Operator => {
                        assert!(is_ordered, "G12: nobody has ordered it");
                        self.report.bad_given_up_by_order += 1;
                    }
                    _ if reason == Reason::Operator => {
                        assert!(is_ordered, "G12: nobody has ordered it");
                        self.report.good_given_up_by_order += 1;
                    }
                    Nature::Good if record.too_early => self.report.good_dead_too_early += 1,
                    Nature::Good | Nature::BadUntilRestart(_) => self.report.good_dead += 1,
                    Nature::Bad(_) => {
                        let after = self.now - record.first_failed.unwrap_or(self.now);
                        self.report
                            .bad_dead_after
                            .push(Duration::from_millis(after));
                    }
                }
            }
        }
        self.turn(number);
        if let Some(part) = retry_part {
            self.turn(part);
        }
    }

    /// What is held is shown.
    fn look(&mut self, guard: usize) {
        let state = self.guards[guard].state(at(self.now));
        self.report.most_held = self.report.most_held.max(state.held);
        self.report.saw_total |= state.total.is_some();
        self.report.saw_partial |= !state.classes.is_empty();
        self.report.saw_place |= !state.places.is_empty();
        self.report.saw_bad_deployment |= state.bad_deployment.is_some();
        let one_for_all = matches!(self.scenario.fault, Fault::None | Fault::HasNoGuard);
        if one_for_all {
            let held: usize = self
                .parts
                .iter()
                .flatten()
                .map(|part| part.partition.held_by_guard())
                .sum();
            // Failures of this pass are reported in the next one.
            assert!(
                state.held.abs_diff(held) <= 1,
                "{} of {held} held records are shown",
                state.held
            );
        }
    }
}
