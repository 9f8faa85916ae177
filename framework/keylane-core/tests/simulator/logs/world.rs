//! A member with its partitions, a broker, and what goes wrong between them.

use std::sync::Arc;
use std::time::Duration;

use keylane_core::member::{
    Answered, Arrival, CommitPoint, Commits, CommittedPosition, EpochCommits, NextEpoch,
    PartitionLimits, PauseOrder, PauseWish, Pauses, Reached, ReadLog, Report, Sighting,
    TopicPartition,
};
use keylane_core::{
    Budget, Delivery, Epoch, LeaderEpoch, LogId, MAX_METADATA_BYTES, Moment, Offset, Partition,
    PartitionSettings, Position, Reset, Resume, Settlement, Success, commit_map,
};

use super::Fault;
use super::row::{Figures, Row};
use crate::broker::{Commit, Log, LogRecord};
use crate::client::{Client, points};
use crate::random::Random;
use crate::steps::Steps;
use crate::violation::{Checked, ensure};

const BATCH: usize = 6;
/// Of one partition: pending, and settled ahead of the watermark.
const PAUSE_AT: (u64, u64) = (10, 4);
/// Of all partitions; a record counts as one byte.
const BYTES: u64 = 20;

pub(super) struct World {
    random: Random,
    fault: Fault,
    now: Moment,
    /// Brokers and log formats of before 0.11 know no leader epochs.
    has_epochs: bool,
    /// Else nothing waits for a mark, and no commit needs an answer.
    has_marks: bool,
    /// Logs only grow.
    is_steady: bool,
    /// The oldest record of a partition takes long.
    is_slow: bool,
    settings: Arc<PartitionSettings>,
    logs: Vec<Log>,
    /// How often the topic of each was created.
    topics: Vec<u64>,
    rows: Vec<Row>,
    client: Client,
    commits: Commits,
    pauses: Pauses,
    epochs: u64,
    produced: usize,
}

impl Steps for World {
    fn step(&mut self) -> Checked<()> {
        self.now = self.now + Duration::from_millis(1);
        let row = self.random.index(self.rows.len());
        match self.random.below(100) {
            0..8 => self.produce(row),
            8..28 => self.read(row)?,
            28..40 => self.take(row)?,
            40..57 => self.finish(row),
            57..68 => self.publish(row),
            68..78 => self.pass(),
            78..86 => self.arrive()?,
            88..90 => self.see(row),
            90..96 if self.is_steady => self.produce(row),
            90..94 => self.cut(row),
            94 if self.random.percent(50) => self.recreate(row),
            96..98 => self.rows[row].held = !self.rows[row].held,
            98 if self.random.percent(50) => self.settle()?,
            99 if self.random.percent(50) => self.restart()?,
            _ => {}
        }
        Ok(())
    }

    /// Everything is read, processed and committed; nothing takes it back.
    fn settle(&mut self) -> Checked<()> {
        let mut quiet_rounds = 0;
        for _ in 0..2_000 {
            self.now = self.now + Duration::from_millis(1);
            for row in 0..self.rows.len() {
                self.rows[row].held = false;
                self.see(row);
                self.read(row)?;
                self.take(row)?;
                while !self.rows[row].running.is_empty() {
                    self.finish(row);
                }
                self.publish(row);
            }
            self.pass();
            while self.client.under_way() > 0 {
                self.arrive()?;
            }
            let is_quiet = |(row, log): (&Row, &Log)| {
                let has_read = log.read(row.fetch, 1).is_empty() && row.inbox.is_empty();
                let is_committed = row.report.is_none() && row.commits.due().is_none();
                has_read && row.partition.pending() == 0 && is_committed
            };
            let is_quiet = self.rows.iter().zip(&self.logs).all(is_quiet);
            quiet_rounds = if is_quiet { quiet_rounds + 1 } else { 0 };
            if quiet_rounds > 10 && self.client.under_way() == 0 {
                return self.check();
            }
        }
        let paused = self.rows.iter().map(|row| row.is_paused);
        Err(format!("G6: no end; paused: {:?}", Vec::from_iter(paused)))
    }
}

impl World {
    pub(super) fn new(seed: u64, fault: Fault) -> Self {
        let mut random = Random::new(seed);
        let count = 1 + random.index(3);
        let mut world = Self {
            has_epochs: random.percent(70),
            has_marks: random.percent(50),
            is_steady: random.percent(30),
            is_slow: random.percent(60),
            random,
            fault,
            now: Moment::ORIGIN,
            settings: Arc::new(PartitionSettings {
                concurrency: 4,
                ..PartitionSettings::default()
            }),
            logs: (0..count).map(|_| Log::default()).collect(),
            topics: vec![1; count],
            rows: Vec::new(),
            client: Client::default(),
            commits: commits(),
            pauses: Pauses::new(Budget::new(BYTES, BYTES * 7 / 10)),
            epochs: 0,
            produced: 0,
        };
        world.start();
        world
    }

    fn log_id(&self, row: usize) -> LogId {
        LogId::of_topic(self.topics[row], row as u64).expect("an id")
    }

    /// All partitions are assigned, as by a process that begins.
    fn start(&mut self) {
        (self.client, self.commits) = (Client::default(), commits());
        self.rows.clear();
        for row in 0..self.logs.len() {
            let committed = self.logs[row].committed.clone();
            let content = committed.as_ref().map(|it| {
                commit_map::decode(Position::new(it.position), &it.metadata).expect("our own")
            });
            let named = content.as_ref().and_then(|content| content.log);
            let at = committed.as_ref().map(|it| CommittedPosition {
                position: Position::new(it.position),
                leader_epoch: it.leader_epoch,
            });
            let opened = match Resume::of(named, Some(self.log_id(row))) {
                Resume::Committed(log) => {
                    let mut opened = self.open(row, at, log);
                    let content = content.unwrap_or_default();
                    let start = at.map(|at| at.position);
                    let epoch = opened.commits.epoch();
                    let settings = self.settings.clone();
                    opened.partition = Partition::new(settings, epoch, start, content.settled);
                    opened.partition.set_log(log);
                    opened.partition.inherit_leader_epoch(content.leader_epoch);
                    let start_under = at.and_then(|at| at.leader_epoch);
                    opened.partition.start_under(start_under);
                    if let Some(at) = at {
                        let log = &self.logs[row];
                        opened.fetch = log.confirmed(at.position.get(), at.leader_epoch);
                        opened.fetch_in(log);
                    }
                    opened
                }
                Resume::FromStart(log) => self.open(row, None, Some(log)),
            };
            self.rows.push(opened);
        }
    }

    fn open(
        &mut self,
        row: usize,
        committed: Option<CommittedPosition>,
        log: Option<LogId>,
    ) -> Row {
        self.epochs += 1;
        let (epoch, start) = (Epoch::new(self.epochs), committed.map(|at| at.position));
        let place = TopicPartition::new("tasks", row as i32);
        let settings = self.settings.clone();
        let mut partition = Partition::new(settings, epoch, start, Default::default());
        partition.set_log(log);
        Row {
            commits: EpochCommits::new(place, epoch),
            read: ReadLog::new(start, Reset::Earliest, log, BATCH),
            partition,
            fetch: 0,
            has_gone_back: false,
            first: i64::MAX,
            is_paused: false,
            limits: PartitionLimits {
                records: Budget::new(PAUSE_AT.0, PAUSE_AT.0 / 2),
                ahead: Budget::new(PAUSE_AT.1, PAUSE_AT.1 / 2),
            },
            held: false,
            inbox: Vec::new(),
            delivered: 0,
            taken: 0,
            leader_epoch: None,
            running: Vec::new(),
            figures: None,
            report: None,
            last: None,
        }
    }

    /// Without leader epochs nothing says that a log was cut while no member read it. There the
    /// end of each log is read before, and everything committed.
    fn restart(&mut self) -> Checked<()> {
        if !self.has_epochs {
            (0..self.rows.len()).for_each(|row| self.produce(row));
            self.settle()?;
        }
        self.start();
        Ok(())
    }

    fn produce(&mut self, row: usize) {
        for _ in 0..=self.random.below(4) {
            let record = LogRecord {
                offset: 0,
                identity: self.produced,
                key: Some(self.random.below(8)),
                due: None,
                rounds: 0,
                attempts: 0,
                retried_for: Duration::ZERO,
                epoch: 0,
                theirs: false,
            };
            self.produced += 1;
            let hole = i64::from(self.random.percent(10));
            self.logs[row].append(hole, record);
        }
    }

    /// The log loses its end. The client notices at once: else what is written again up to its
    /// position is not read, which nothing can tell.
    fn cut(&mut self, row: usize) {
        let (log, at) = (&mut self.logs[row], &mut self.rows[row]);
        let from = self.random.pick(&[log.end(), log.end().min(at.fetch)]);
        let end = from - self.random.below(8) as i64;
        if end >= log.end() || end < 0 {
            return;
        }
        log.cut(end);
        at.has_gone_back |= at.read.next().is_some_and(|next| next.get() > end);
        if at.fetch > end {
            at.fetch = if self.has_epochs { end } else { 0 };
        }
    }

    fn recreate(&mut self, row: usize) {
        self.topics[row] += 1;
        let log = &mut self.logs[row];
        let committed = std::mem::take(log).committed;
        log.committed = committed;
        self.rows[row].has_gone_back = true;
    }

    /// The brokers say which log is there.
    fn see(&mut self, row: usize) {
        let (there, deadline) = (self.log_id(row), self.now + Duration::from_millis(3));
        if self.fault == Fault::SeesNoOtherLog {
            return;
        }
        let row = &mut self.rows[row];
        if row.read.see(there, false, deadline) == Sighting::Recreated {
            row.partition.drain();
        }
    }

    /// The client hands out some records. Now and then it repeats those of its last batch.
    fn read(&mut self, at: usize) -> Checked<()> {
        self.update_pauses();
        let (log, row) = (&self.logs[at], &mut self.rows[at]);
        let is_paused = row.is_paused && self.fault != Fault::ReadsWhatIsPaused;
        row.fetch_in(log);
        if self.random.percent(5) && row.read.next().map(Position::get) == Some(row.fetch) {
            let back = self.random.below(BATCH as u64) as i64;
            row.fetch = row.fetch.min(row.first.max(row.fetch - back));
        }
        let mut went_back_to: Option<Position> = None;
        let mut batch = Vec::new();
        let most = if is_paused || row.read.is_recreated() {
            0
        } else {
            1 + self.random.index(BATCH)
        };
        for record in log.read(row.fetch, most) {
            row.fetch = record.offset + 1;
            let (offset, print) = (Offset::new(record.offset), record.identity as u64);
            let first = || Some(Position::new(0));
            match row.read.record(offset, print, self.has_epochs, first) {
                Arrival::Next | Arrival::PassedOver(_) | Arrival::CutBelowStart { .. } => {
                    row.first = row.first.min(record.offset);
                    batch.push(record);
                }
                Arrival::LeftOut => {}
                Arrival::WentBack if self.fault == Fault::ReadsOn => batch.push(record),
                Arrival::WentBack => {
                    let is_true = row.has_gone_back;
                    ensure!(is_true, "G7: a repetition is taken for a cut");
                    let to = Position::before(offset);
                    went_back_to = Some(went_back_to.map_or(to, |earlier| earlier.min(to)));
                    batch.clear();
                }
                Arrival::Search { .. } => return Err("G1: only latest searches".to_owned()),
            }
        }
        if self.fault != Fault::ReadsOn && self.reopen(at, went_back_to) {
            return Ok(());
        }
        let row = &mut self.rows[at];
        row.delivered += batch.len() as u64;
        row.inbox.append(&mut batch);
        let held_here = row.inbox.len() + row.partition.pending();
        ensure!(
            held_here <= PAUSE_AT.0 as usize + BATCH,
            "G6: {held_here} pending"
        );
        let ahead = row.partition.settled_ahead();
        let most = (PAUSE_AT.0 + PAUSE_AT.1) as usize + BATCH;
        ensure!(ahead <= most, "G6: {ahead} settled ahead");
        let held = |row: &Row| row.inbox.len() + row.partition.pending();
        let all: usize = self.rows.iter().map(held).sum();
        ensure!(all <= BYTES as usize + BATCH, "G6: {all} bytes pending");
        Ok(())
    }

    /// Begins the epoch that is to follow, if one is.
    fn reopen(&mut self, at: usize, went_back_to: Option<Position>) -> bool {
        let row = &self.rows[at];
        let watermark = row.figures.and_then(|figures| figures.watermark);
        let reached = Reached {
            watermark,
            has_ended: false,
            revoking: false,
        };
        let Some(mut next) = row.read.next_epoch(reached, self.now) else {
            return false;
        };
        if let Some(to) = went_back_to {
            let from = match self.fault {
                Fault::BeginsAtTheCutWithoutFigures if watermark.is_none() => Some(to),
                Fault::BelievesFiguresOfTheStart => watermark.map(|oldest| oldest.min(to)),
                _ => None,
            };
            next = from.map_or(next, NextEpoch::From);
        }
        let (fetch, log) = match next {
            NextEpoch::From(position) => (position.get(), row.read.id()),
            NextEpoch::Beginning(log) => (0, Some(log)),
        };
        let mut opened = self.open(at, None, log);
        let row = &mut self.rows[at];
        (opened.fetch, opened.held, opened.is_paused) = (fetch, row.held, row.is_paused);
        if matches!(next, NextEpoch::From(_)) {
            opened.read.continue_from(&mut row.read);
        }
        *row = opened;
        true
    }

    /// The owner takes in what was handed over, and starts what may start.
    fn take(&mut self, at: usize) -> Checked<()> {
        let (log, id) = (&self.logs[at], self.log_id(at));
        let row = &mut self.rows[at];
        row.taken += row.inbox.len() as u64;
        for record in row.inbox.drain(..) {
            let offset = Offset::new(record.offset);
            let is_new_leader = row.leader_epoch.replace(record.epoch) != Some(record.epoch);
            if self.has_epochs && is_new_leader {
                let under = LeaderEpoch::new(record.epoch);
                row.partition.read_under(under, offset);
            }
            let delivery = Delivery {
                offset,
                lane: record.key,
                bytes: 1,
                due: None,
                rounds: 0,
                attempts: 0,
                retried_for: Duration::ZERO,
                record: record.identity,
            };
            row.partition.deliver(delivery, self.now);
        }
        if !self.has_marks
            && row.partition.next_start_needs_mark()
            && let Some(mark) = row.partition.wanted_mark()
        {
            row.partition.mark_confirmed(mark);
        }
        while let Some(start) = row.partition.next_start() {
            let (offset, identity) = (start.offset.get(), *start.record);
            let ticket = start.ticket;
            row.running.push((ticket, offset, identity));
            let there = log.get(offset).filter(|it| it.identity == identity);
            // Before it is seen that the topic was re-created, what lies below is not read.
            let Some(there) = there.filter(|_| row.read.id() == Some(id)) else {
                continue;
            };
            let mut earlier = log.records.iter().take_while(|it| it.offset < offset);
            let unsettled = earlier
                .find(|it| it.key == there.key && !log.settled.contains_key(&it.offset))
                .map(|it| it.offset);
            ensure!(
                unsettled.is_none(),
                "G2: {offset} starts before {unsettled:?} of its key is settled"
            );
        }
        Ok(())
    }

    /// Something that runs is finished. What a log has lost meanwhile settles nothing in it.
    fn finish(&mut self, at: usize) {
        let (log, row) = (&mut self.logs[at], &mut self.rows[at]);
        if row.running.is_empty() {
            return;
        }
        let place = self.random.index(row.running.len());
        let is_oldest = row.partition.watermark() == Some(Position::new(row.running[place].1));
        if is_oldest && self.is_slow && self.random.percent(98) {
            return;
        }
        let (ticket, offset, identity) = row.running.swap_remove(place);
        let _ = row.partition.succeed(ticket, Success::Done);
        if log.get(offset).is_some_and(|it| it.identity == identity) {
            log.settle(offset, Settlement::Done);
        }
    }

    /// The end of an owner's pass.
    fn publish(&mut self, at: usize) {
        let row = &mut self.rows[at];
        let partition = &row.partition;
        row.figures = Some(Figures {
            watermark: partition.watermark(),
            released: row.taken - partition.pending() as u64,
            ahead: partition.settled_ahead() as u64,
        });
        let Some(position) = partition.watermark() else {
            return;
        };
        let point = CommitPoint {
            position,
            leader_epoch: partition.position_epoch(),
            metadata: partition.commit_metadata(MAX_METADATA_BYTES).text,
            mark: partition.wanted_mark().filter(|_| self.has_marks),
            running: partition.is_marked(),
        };
        if row.last.as_ref() != Some(&point) {
            row.last = Some(point.clone());
            row.report = Some(point);
        }
    }

    fn update_pauses(&mut self) {
        let bytes = self.rows.iter().map(Row::pending).sum();
        let _ = self.pauses.begin(bytes, false);
        for row in &mut self.rows {
            let ahead = match self.fault {
                Fault::ForgetsWhatIsSettledAhead => 0,
                _ => row.figures.map_or(0, |figures| figures.ahead),
            };
            let wish = PauseWish {
                over_limit: row.limits.update(row.pending(), ahead, || false),
                held: row.held,
                ..PauseWish::default()
            };
            match self.pauses.order(wish, row.is_paused) {
                Some(PauseOrder::Pause) => {
                    row.is_paused = true;
                    if self.fault == Fault::DropsWhatWasReadBeforeAPause {
                        row.taken += row.inbox.drain(..).count() as u64;
                    }
                }
                Some(PauseOrder::Resume) => {
                    row.is_paused = self.fault == Fault::ForgetsToResume;
                }
                None => {}
            }
        }
    }

    /// One of the polling thread.
    fn pass(&mut self) {
        for row in 0..self.rows.len() {
            self.reopen(row, None);
        }
        let report = |row: &mut Row| {
            let point = row.report.take()?;
            let ending = false;
            Some(Report { point, ending })
        };
        self.commits.points(&mut self.rows, report);
        if let Some(next) = self.commits.next(&mut self.rows, self.now) {
            let (id, points) = (next.id, points(&self.rows, next.rows));
            self.client.commit(points, Some(id));
        }
    }

    /// A commit comes to the broker. What is about a topic that is gone says nothing of this one.
    fn arrive(&mut self) -> Checked<()> {
        let Some(sent) = self.client.arrives(0) else {
            return Ok(());
        };
        for (row, point) in &sent.points {
            let commit = Commit {
                position: point.position.get(),
                leader_epoch: point.leader_epoch,
                metadata: point.metadata.clone(),
            };
            let content = commit_map::decode(point.position, &point.metadata);
            let is_about = content.ok().and_then(|content| content.log);
            if self.has_epochs && is_about == Some(self.log_id(*row)) {
                self.logs[*row].check_commit(&commit)?;
            }
            self.logs[*row].committed = Some(commit);
        }
        if let Some(id) = sent.id {
            let answered = self.commits.answer(id, Ok(()), &mut self.rows, self.now);
            match answered {
                Answered::Confirmed(marks) => {
                    for &(row, mark) in marks {
                        self.rows[row].partition.mark_confirmed(mark);
                    }
                }
                Answered::Nothing => {}
                _ => return Err(format!("{answered:?} to a commit that was taken")),
            }
        }
        Ok(())
    }

    fn check(&self) -> Checked<()> {
        for (row, log) in self.rows.iter().zip(&self.logs) {
            let mut records = log.records.iter();
            let lost = records.find(|record| !log.settled.contains_key(&record.offset));
            ensure!(lost.is_none(), "G1: {lost:?} was never processed");
            let Some(last) = &row.last else { continue };
            let committed = log
                .committed
                .as_ref()
                .map(|it| (it.position, &*it.metadata));
            ensure!(
                committed == Some((last.position.get(), &*last.metadata)),
                "G1: {committed:?} is committed instead of {last:?}"
            );
        }
        Ok(())
    }
}

/// What is new is committed after a few passes.
fn commits() -> Commits {
    Commits::new(Duration::from_millis(20))
}
