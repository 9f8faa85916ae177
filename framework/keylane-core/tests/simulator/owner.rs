//! One owner of one partition: the partition under test beside a plain model of it, which predicts
//! every answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use keylane_core::member::PartitionLimits;
use keylane_core::{
    Delivered, Delivery, Epoch, FailureHeaders, LaneOrder, LeaderEpoch, MAX_METADATA_BYTES, Moment,
    Offset, Partition, PartitionDirectives, PartitionSettings, Position, PublishRequest, Ruling,
    SettledMap, Ticket,
};

use crate::broker::{Commit, Log, LogRecord};
use crate::violation::{Checked, ensure};

pub(crate) const RECORD_BYTES: usize = 10;

pub(crate) struct Owner {
    pub(crate) member: usize,
    pub(crate) partition: Partition<usize>,
    pub(crate) settings: Arc<PartitionSettings>,
    pub(crate) fetch_at: i64,
    pub(crate) limits: PartitionLimits,
    pub(crate) running: Vec<(Ticket, i64)>,
    pub(crate) writes: Vec<PublishRequest>,
    pub(crate) paused: bool,
    pub(crate) draining: bool,
    pub(crate) ordered_to_end: bool,
    pub(crate) stopped: bool,
    // The model.
    pub(crate) inherited: SettledMap,
    /// The leader's, of the commit that it came with.
    inherited_under: Option<LeaderEpoch>,
    /// The leader's, of the latest record.
    leader_epoch: Option<u32>,
    /// The highest that is known of the log: from the commit of the start, or of a record.
    known_epoch: Option<LeaderEpoch>,
    start: Option<i64>,
    pub(crate) next: Option<i64>,
    pub(crate) unsettled: BTreeMap<i64, Entry>,
    /// Delivered in this epoch and settled, by this owner or before.
    pub(crate) settled: BTreeSet<i64>,
    last_started: BTreeMap<u64, i64>,
    /// Before that, no blocker is looked for.
    pub(crate) next_blocker_look: Moment,
    /// What it was directed to, and what is this owner's own.
    pub(crate) given: PartitionDirectives,
    pub(crate) own_keys: BTreeSet<u64>,
    pub(crate) own_skips: BTreeSet<i64>,
    /// Skips of a log that was cut, which are still given.
    pub(crate) void: BTreeSet<Offset>,
}

/// The model of a pending record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) record: LogRecord,
    pub(crate) attempts_here: u32,
    /// When it was delivered, until its first attempt starts: then when that was.
    pub(crate) since: Moment,
    /// Taken while it ran, because it held up the partition.
    pub(crate) blocker: bool,
    /// An operator has ordered its dead letter, and it is not to be written yet.
    pub(crate) doomed: bool,
    pub(crate) refused: bool,
    /// The retry topic did not take it in this delivery.
    pub(crate) too_large_for_retry: bool,
    pub(crate) headers: FailureHeaders,
    pub(crate) doing: Doing,
    /// Failed attempts here, but for those to which something was unavailable.
    pub(crate) counted: u32,
    pub(crate) retried_for: Duration,
    /// Its latest wait is part of that.
    pub(crate) wait_counts: bool,
    pub(crate) started: Moment,
    /// The guard has held it: from then on the model does not predict when it ends.
    pub(crate) guarded: bool,
    /// It was held, or what it needs was unavailable.
    pub(crate) waited_for_others: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Doing {
    Queued,
    Running,
    WaitingUntil(Moment),
    ToPublish,
    Publishing,
    PublishWaitingUntil(Moment),
    Parked,
    Held,
}

impl Owner {
    pub(crate) fn new(
        member: usize,
        epoch: u64,
        settings: Arc<PartitionSettings>,
        commit: Option<&Commit>,
        (inherited, inherited_under): (SettledMap, Option<LeaderEpoch>),
        limits: PartitionLimits,
    ) -> Self {
        let start = commit.map(|commit| commit.position);
        let mut partition = Partition::new(
            settings.clone(),
            Epoch::new(epoch),
            start.map(Position::new),
            inherited.clone(),
        );
        partition.inherit_leader_epoch(inherited_under);
        let start_under = commit.and_then(|commit| commit.leader_epoch);
        partition.start_under(start_under);
        Self {
            member,
            partition,
            settings,
            fetch_at: start.unwrap_or(0),
            limits,
            running: Vec::new(),
            writes: Vec::new(),
            paused: false,
            draining: false,
            ordered_to_end: false,
            stopped: false,
            inherited,
            inherited_under,
            leader_epoch: None,
            known_epoch: start_under,
            start,
            next: start,
            unsettled: BTreeMap::new(),
            settled: BTreeSet::new(),
            last_started: BTreeMap::new(),
            next_blocker_look: Moment::ORIGIN,
            given: PartitionDirectives::default(),
            own_keys: BTreeSet::new(),
            own_skips: BTreeSet::new(),
            void: BTreeSet::new(),
        }
    }

    pub(crate) fn start_position(&self) -> i64 {
        self.start.unwrap_or(0)
    }

    /// Delivers one record and checks that it is taken for what it is.
    pub(crate) fn deliver(
        &mut self,
        record: LogRecord,
        ruling: Ruling,
        now: Moment,
    ) -> Checked<Delivered> {
        let offset = Offset::new(record.offset);
        let under = LeaderEpoch::new(record.epoch);
        if self.leader_epoch.replace(record.epoch) != Some(record.epoch) {
            self.partition.read_under(under, offset);
        }
        if self
            .inherited_under
            .is_some_and(|inherited| under > inherited)
        {
            self.inherited = SettledMap::new();
        }
        // The start was above the place where the log was cut.
        if self.start.is_some_and(|start| record.offset < start) {
            self.inherited = SettledMap::new();
            (self.start, self.known_epoch, self.next) = (None, None, None);
            let void = self.given.skips.split_off(&offset);
            self.void.extend(void.into_keys());
            self.own_skips.split_off(&record.offset);
        }
        self.known_epoch = self.known_epoch.max(Some(under));
        let expected = if self.next.is_some_and(|next| record.offset < next) {
            Delivered::Repeated
        } else if self.inherited.contains(offset) {
            Delivered::AlreadySettled
        } else if ruling == Ruling::Settle {
            Delivered::Foreign
        } else if self.is_skipped(record.offset) {
            Delivered::SkippedByOperator
        } else {
            Delivered::Queued
        };
        let due = record
            .due
            .map(|due| Moment::new(Duration::from_millis(due)));
        let delivery = Delivery {
            offset,
            lane: record.key,
            bytes: RECORD_BYTES,
            due,
            rounds: record.rounds,
            attempts: record.attempts,
            retried_for: record.retried_for,
            record: record.identity,
        };
        let delivered = self.partition.deliver_ruled(delivery, ruling, now);
        ensure!(
            delivered == expected,
            "G7: delivery of {offset} is {delivered:?} instead of {expected:?}"
        );
        if delivered == Delivered::Repeated {
            return Ok(delivered);
        }
        self.start = self.start.or(Some(record.offset));
        self.next = Some(record.offset + 1);
        if delivered != Delivered::Queued {
            self.settled.insert(record.offset);
        } else {
            let doing = match due {
                _ if ruling != Ruling::Process => Doing::Held,
                Some(due) if due > now => Doing::WaitingUntil(due),
                _ => Doing::Queued,
            };
            self.unsettled.insert(
                record.offset,
                Entry {
                    record,
                    attempts_here: 0,
                    since: now,
                    blocker: false,
                    doomed: false,
                    refused: false,
                    doing,
                    counted: 0,
                    retried_for: record.retried_for,
                    wait_counts: record.rounds > 0,
                    too_large_for_retry: false,
                    headers: FailureHeaders::All,
                    started: now,
                    guarded: false,
                    waited_for_others: false,
                },
            );
        }
        Ok(delivered)
    }

    /// Starts the next attempt, if there is one, and checks that it may start.
    pub(crate) fn start_next(&mut self, log: &Log, now: Moment) -> Checked<Option<usize>> {
        let startable = self.startable(now);
        // Marks, and what becomes of a start without one, are `poison.rs`'s business; here the
        // broker takes each at once.
        if self.partition.next_start_needs_mark()
            && let Some(mark) = self.partition.wanted_mark()
        {
            self.partition.mark_confirmed(mark);
        }
        let may_start = self.partition.may_start();
        let Some(start) = self.partition.next_start() else {
            ensure!(!may_start, "something may start and does not");
            let may = !self.paused
                && !self.draining
                && !self.stopped
                && self.running.len() < self.settings.concurrency;
            ensure!(
                !may || startable.is_empty(),
                "G3: {startable:?} could start and do not"
            );
            return Ok(None);
        };
        let offset = start.offset.get();
        let (ticket, attempt, identity) = (start.ticket, start.attempt, *start.record);
        ensure!(
            may_start && !self.paused && !self.draining && !self.stopped,
            "{offset} starts although nothing may"
        );
        ensure!(
            self.running.len() < self.settings.concurrency,
            "{offset} starts beyond the concurrency"
        );
        let Some(entry) = self.unsettled.get(&offset).copied() else {
            return Err(format!("G7: {offset} starts but is not pending"));
        };
        ensure!(
            !self.is_key_paused(entry.record.key),
            "G12: {offset} starts although its key is paused"
        );
        ensure!(
            startable.contains(&offset),
            "G2: {offset} starts out of turn, it is {entry:?}"
        );
        ensure!(
            identity == entry.record.identity,
            "{offset} starts with another record"
        );
        if let Some(due) = entry.record.due {
            ensure!(
                Moment::new(Duration::from_millis(due)) <= now,
                "{offset} starts before it is due"
            );
        }
        if let (Some(key), LaneOrder::Offset) = (entry.record.key, self.settings.lane_order) {
            let earlier = log
                .records
                .iter()
                .take_while(|record| record.offset < offset);
            for record in earlier.filter(|record| record.key == Some(key)) {
                ensure!(
                    log.settled.contains_key(&record.offset),
                    "G2: {offset} starts before {} of its key is settled",
                    record.offset
                );
            }
            let last = self.last_started.insert(key, offset);
            ensure!(
                last.is_none_or(|last| last <= offset),
                "G2: {offset} starts after {last:?} of its key"
            );
        }
        let entry = self.unsettled.get_mut(&offset).expect("looked up before");
        if entry.attempts_here == 0 {
            entry.since = now;
        }
        entry.attempts_here += 1;
        entry.started = now;
        entry.doing = Doing::Running;
        ensure!(
            !entry.record.theirs,
            "{offset} starts and is another group's"
        );
        let attempts = entry.record.attempts + entry.attempts_here;
        ensure!(
            attempt == attempts,
            "{offset} starts as attempt {attempt} instead of {attempts}"
        );
        self.running.push((ticket, offset));
        Ok(Some(entry.record.identity))
    }

    /// The offsets that may start.
    fn startable(&self, now: Moment) -> BTreeSet<i64> {
        let mut startable = self.turns(now);
        startable.retain(|offset| !self.is_key_paused(self.unsettled[offset].record.key));
        startable
    }

    /// The offsets whose turn it is.
    pub(crate) fn turns(&self, now: Moment) -> BTreeSet<i64> {
        let busy = |key: Option<u64>| {
            key.is_some()
                && self
                    .unsettled
                    .values()
                    .any(|other| other.record.key == key && other.holds_its_lane())
        };
        let mut seen = BTreeSet::new();
        let mut turns = BTreeSet::new();
        for (&offset, entry) in &self.unsettled {
            let key = entry.record.key;
            let its_turn = match self.settings.lane_order {
                LaneOrder::Offset => key.is_none_or(|key| seen.insert(key)),
                // In any order, but one at a time.
                LaneOrder::Due => entry.attempts_here > 0 || !busy(key),
            };
            if its_turn && entry.may_run(now) && !entry.doomed {
                turns.insert(offset);
            }
        }
        turns
    }

    /// How many lanes have a record whose turn it is; records without a key are lanes of their own.
    fn ready_lanes(&self, now: Moment) -> usize {
        let startable = self.startable(now);
        let keys: Vec<_> = startable
            .iter()
            .map(|offset| self.unsettled[offset].record.key)
            .collect();
        let without = keys.iter().filter(|key| key.is_none()).count();
        without + keys.into_iter().flatten().collect::<BTreeSet<u64>>().len()
    }

    pub(crate) fn settle(&mut self, offset: i64) {
        self.unsettled.remove(&offset);
        self.settled.insert(offset);
        self.doomed_at_their_turn();
    }

    /// Back-offs of writes that are over; those of attempts are read off the clock.
    pub(crate) fn tick(&mut self, now: Moment) {
        self.partition.tick(now);
        if !self.draining {
            for entry in self.unsettled.values_mut() {
                if matches!(entry.doing, Doing::PublishWaitingUntil(until) if until <= now) {
                    entry.doing = Doing::ToPublish;
                }
            }
        }
    }

    pub(crate) fn watermark(&self) -> Option<i64> {
        self.unsettled.keys().next().copied().or(self.next)
    }

    /// What would be committed now, checked against the log and the model. A map that is not cut
    /// short names all that this owner has settled: so a new owner after a drain repeats nothing
    /// (G8).
    pub(crate) fn commit(&self, log: &Log, max_bytes: usize) -> Checked<Option<Commit>> {
        let Some(position) = self.partition.watermark() else {
            return Ok(None);
        };
        let metadata = self.partition.commit_metadata(max_bytes);
        ensure!(
            metadata.text.len() <= max_bytes,
            "G6: metadata of {} bytes",
            metadata.text.len()
        );
        let leader_epoch = self.partition.position_epoch();
        let expected = self.known_epoch;
        ensure!(
            leader_epoch == expected,
            "G1: the commit has the epoch {leader_epoch:?} instead of {expected:?}"
        );
        let commit = Commit {
            position: position.get(),
            leader_epoch,
            metadata: metadata.text,
        };
        let map = log.check_commit(&commit)?;
        if !metadata.truncated {
            for record in log
                .records
                .iter()
                .filter(|record| record.offset >= commit.position)
            {
                let offset = Offset::new(record.offset);
                let known = self.settled.contains(&record.offset)
                    || (self.inherited.contains(offset)
                        && !self.unsettled.contains_key(&record.offset));
                ensure!(
                    !known || map.contains(offset),
                    "G4: {offset} is settled but not in the map"
                );
            }
        }
        Ok(Some(commit))
    }

    /// The visible state of the partition is that of the model.
    pub(crate) fn check(&self, now: Moment, pending_limit: usize) -> Checked<()> {
        let partition = &self.partition;
        let seen = partition.snapshot();
        let count = |is: fn(&Doing) -> bool| {
            self.unsettled
                .values()
                .filter(|entry| is(&entry.doing))
                .count()
        };
        let watermark = seen.watermark.map(Position::get);
        ensure!(
            watermark == self.watermark(),
            "G4: watermark {watermark:?} instead of {:?}",
            self.watermark()
        );
        ensure!(
            partition.next_position().map(Position::get) == self.next,
            "next is {:?}",
            partition.next_position()
        );
        let pending = partition.pending();
        ensure!(
            pending == self.unsettled.len() && seen.pending == pending as u64,
            "{pending} pending instead of {}",
            self.unsettled.len()
        );
        ensure!(
            pending <= pending_limit,
            "G6: {pending} pending, the limit is {pending_limit}"
        );
        ensure!(
            seen.pending_bytes == (pending * RECORD_BYTES) as u64,
            "G6: {} pending bytes",
            seen.pending_bytes
        );
        ensure!(
            seen.running == self.running.len() as u64,
            "G3: {} running",
            seen.running
        );
        let parked = count(|doing| *doing == Doing::Parked);
        ensure!(
            seen.parked == parked as u64,
            "{} parked instead of {parked}",
            seen.parked
        );
        let held = count(|doing| *doing == Doing::Held);
        ensure!(
            partition.held() == held,
            "{} held instead of {held}",
            partition.held()
        );
        let publishing = count(|doing| matches!(doing, Doing::ToPublish | Doing::Publishing));
        ensure!(
            partition.publishing() == publishing,
            "{} publishing instead of {publishing}",
            partition.publishing()
        );
        let ahead = watermark.map_or(0, |watermark| self.settled.range(watermark..).count());
        ensure!(
            seen.settled_ahead == ahead as u64,
            "G6: {} settled ahead instead of {ahead}",
            seen.settled_ahead
        );
        let oldest = partition.oldest().map(|oldest| oldest.offset.get());
        ensure!(
            oldest == self.unsettled.keys().next().copied(),
            "oldest is {oldest:?}"
        );
        let drained = self.draining && self.running.is_empty() && publishing == 0;
        ensure!(
            partition.is_drained() == drained,
            "G8: drained is {}",
            partition.is_drained()
        );
        // While draining, timers are no longer checked.
        if !self.draining {
            let paused = self.paused_lanes(now);
            ensure!(
                seen.paused_keys == paused as u64,
                "G12: {} paused keys instead of {paused}",
                seen.paused_keys
            );
            let ready = self.ready_lanes(now);
            ensure!(
                partition.ready() == ready,
                "G3: {} ready instead of {ready}",
                partition.ready()
            );
        }
        Ok(())
    }

    /// What can be seen from outside, to compare before and after something that must change
    /// nothing.
    pub(crate) fn snapshot(&self) -> impl PartialEq + use<> {
        let seen = &self.partition;
        (
            seen.watermark(),
            seen.commit_metadata(MAX_METADATA_BYTES),
            [
                seen.pending(),
                seen.running(),
                seen.waiting(),
                seen.publishing(),
                seen.parked(),
                seen.ready(),
            ],
        )
    }
}

impl Entry {
    pub(crate) fn holds_its_lane(&self) -> bool {
        match self.doing {
            Doing::Queued | Doing::Held => false,
            Doing::WaitingUntil(_) => self.attempts_here > 0,
            _ => true,
        }
    }

    pub(crate) fn may_run(&self, now: Moment) -> bool {
        match self.doing {
            Doing::Queued => true,
            Doing::WaitingUntil(until) => until <= now,
            _ => false,
        }
    }
}
