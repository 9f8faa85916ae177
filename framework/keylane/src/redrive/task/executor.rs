//! Runs a task, on a thread of its own: each call blocks.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keylane_core::Moment;
use keylane_core::redrive::{Next, Order, Run, RunSettings, Stopped};

use super::canary::CanaryWatch;
use super::letters_in_order::LettersInOrder;
use super::names;
use super::report::{Ended, RedriveProgress, Refusals};
use super::setup::Setup;
use crate::dead_letter::StoredLetter;
use crate::kafka::OpsLog;
use crate::kafka::topics::map_partition;
use crate::producer::raw::OutgoingRecord;
use crate::producer::transactions::{TransactionError, Transactions};
use crate::producer::{TaskFormat, TaskSource};
use crate::redrive::ops::records::{OpsKey, TaskRecord, read, written};
use crate::redrive::ops::{CancelRequest, OnRefused, TaskProgress, TaskState};
use crate::redrive::{Redrive, RedriveTaskError};
use crate::support::clock;

/// The bytes of a transaction's copies; one copy may be larger.
const BATCH_BYTES: usize = 16 << 20;
/// A transaction has fewer copies where they take longer to make.
const BATCH_TIME: Duration = Duration::from_secs(1);
/// How soon a request to end is seen while nothing is to be done.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// The most letters that a task passes over: its progress names them.
const MOST_REFUSED: usize = 1_000;

/// A letter whose turn is next.
enum Item {
    Copy(OutgoingRecord),
    Gone,
    Refused(String),
}

/// A task that runs.
pub(super) struct Executor {
    setup: Setup,
    lock: Transactions,
    log: OpsLog,
    id: String,
    record: TaskRecord,
    order: Order,
    /// Of the target topics.
    partitions: BTreeMap<String, i32>,
    targets: Vec<Arc<str>>,
    redrive: Redrive,
    source: TaskSource,
    letters: LettersInOrder,
    run: Run,
    progress: TaskProgress,
    cancelled: Option<CancelRequest>,
    /// Those whose turns are next, in order.
    items: VecDeque<Item>,
    /// The most turns of the next transaction, after one that was refused.
    limit: u64,
    refused: Refusals,
    canary: Option<CanaryWatch>,
    awaits_canary: bool,
    began: Instant,
}

impl Executor {
    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of a task, from two callers"
    )]
    pub(super) fn new(
        setup: Setup,
        lock: Transactions,
        log: OpsLog,
        id: String,
        record: TaskRecord,
        order: Order,
        progress: TaskProgress,
        partitions: BTreeMap<String, i32>,
    ) -> Result<Self, RedriveTaskError> {
        let redrive = Redrive::of_task(&id, record.target.clone(), record.max_count);
        let redrive = redrive.map_err(|error| RedriveTaskError::Setting {
            reason: error.to_string(),
        })?;
        let connection = &setup.connection;
        let config = connection.reader()?;
        let letters = LettersInOrder::open(&config, &setup.topic, &order, connection.patience);
        let settings = RunSettings {
            window: record.settings.window,
            rate: record.settings.rate,
            max: record.settings.max,
            canary: record.settings.canary,
        };
        Ok(Self {
            letters: letters.map_err(|reason| unreadable(&setup.topic, reason))?,
            run: Run::new(order.len(), progress.done, settings),
            targets: names(&record.targets),
            redrive,
            source: TaskSource {
                application_id: "keylane-redrive".to_owned(),
                instance_id: id.clone(),
                format: TaskFormat::Header,
            },
            cancelled: None,
            items: VecDeque::new(),
            limit: u64::MAX,
            refused: Refusals::default(),
            canary: None,
            awaits_canary: false,
            began: Instant::now(),
            setup,
            lock,
            log,
            id,
            record,
            order,
            progress,
            partitions,
        })
    }

    pub(super) fn run(mut self) -> Result<Ended, RedriveTaskError> {
        loop {
            self.report();
            self.follow(Duration::ZERO)?;
            if self.setup.stop.is_cancelled() {
                return Ok(self.ended());
            }
            let now = self.now();
            let next = self.run.next(now);
            self.awaits_canary = next == Next::AwaitCanary;
            match next {
                Next::Copy(turns) => self.copy(turns)?,
                Next::Wait(until) => self.follow(until.since(now).min(LOOK_EVERY))?,
                Next::AwaitCanary => self.look_at_canary()?,
                Next::Stopped(Stopped::Cancelled) => {
                    let request = self.cancelled.as_ref();
                    let reason = request.map(|it| format!("by {}: {}", it.who, it.why));
                    return self.finish(TaskState::Cancelled, reason);
                }
                Next::Stopped(Stopped::CanaryFailed) => {
                    let outcomes = self.canary.as_ref().map(CanaryWatch::text);
                    return self.finish(TaskState::CanaryFailed, outcomes);
                }
                Next::Done => return self.finish(TaskState::Done, None),
            }
        }
    }

    fn now(&self) -> Moment {
        Moment::new(self.began.elapsed())
    }

    /// Looks whether somebody has requested the end, and waits so long at most.
    fn follow(&mut self, wait: Duration) -> Result<(), RedriveTaskError> {
        let (mut cancel, own) = (None, OpsKey::Cancel(self.id.clone()));
        let followed = self.log.follow(wait, |record| {
            let is_own = record.key().and_then(OpsKey::read) == Some(own.clone());
            if let Some(value) = record.value().filter(|_| is_own) {
                cancel = read::<CancelRequest>(value).ok();
            }
        });
        followed.map_err(|reason| self.setup.ops.unusable(reason))?;
        self.cancel(cancel);
        Ok(())
    }

    pub(super) fn cancel(&mut self, request: Option<CancelRequest>) {
        if request.is_some() {
            self.run.cancel();
            self.cancelled = request;
        }
    }

    /// Copies these turns, or the first of them.
    fn copy(&mut self, turns: Range<u64>) -> Result<(), RedriveTaskError> {
        let most = (turns.end - turns.start).min(self.limit);
        self.fill(turns.start, most)?;
        let stops = self.record.settings.on_refused == OnRefused::Stop;
        let is_taken = |item: &&Item| !(stops && matches!(item, Item::Refused(_)));
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let count = self.items.iter().take(most).take_while(is_taken).count();
        if let (0, Some(Item::Refused(reason))) = (count, self.items.front()) {
            let reason = reason.clone();
            return self.fail(turns.start, reason);
        }
        let until = turns.start + count as u64;
        let mut progress =
            TaskProgress::new(until, self.progress.gone, self.progress.refused.clone());
        let mut records = Vec::with_capacity(count + 1);
        for (turn, item) in (turns.start..until).zip(&self.items) {
            match item {
                Item::Copy(record) => records.push(record),
                Item::Gone => progress.gone += 1,
                Item::Refused(_) => progress.refused.push(turn),
            }
        }
        if progress.refused.len() > MOST_REFUSED {
            let reason = format!("it is one of more than {MOST_REFUSED} that cannot be copied");
            return self.fail(turns.start, reason);
        }
        let copies = records.len();
        let key = OpsKey::Progress(self.id.clone());
        let of_progress = self.setup.ops.record(&key, Some(written(&progress)));
        records.push(&of_progress);
        self.run.begun(until, self.now());
        match self.lock.write(&records) {
            Ok(()) => {
                for (turn, item) in (turns.start..until).zip(self.items.drain(..count)) {
                    if let Item::Refused(reason) = item {
                        let place = place(&self.setup.topic, &self.order, turn);
                        tracing::warn!(
                            task = self.id,
                            letter = place,
                            reason,
                            "a dead letter is passed over"
                        );
                        self.refused.add(format_args!("{place}: {reason}"));
                    }
                }
                self.progress = progress;
                self.run.copied(until);
                self.limit = self.limit.saturating_mul(2);
                Ok(())
            }
            // All of a batch are refused with one of them: that one is looked for.
            Err(TransactionError::Refused { index, .. }) if index < copies && copies > 1 => {
                self.limit = (count as u64 / 2).max(1);
                Ok(())
            }
            Err(TransactionError::Refused { index, error }) if index < copies => {
                let of_copy = |item: &&mut Item| matches!(item, Item::Copy(_));
                if let Some(item) = self.items.iter_mut().find(of_copy) {
                    *item = Item::Refused(error.to_string());
                }
                Ok(())
            }
            Err(error) => Err(not_written(error)),
        }
    }

    /// Reads letters until there are so many items, or enough for now.
    fn fill(&mut self, first: u64, count: u64) -> Result<(), RedriveTaskError> {
        let began = Instant::now();
        let bytes = |item: &Item| match item {
            Item::Copy(record) => record.bytes(),
            Item::Gone | Item::Refused(_) => 0,
        };
        let mut taken: usize = self.items.iter().map(bytes).sum();
        while (self.items.len() as u64) < count {
            let is_enough = taken >= BATCH_BYTES || began.elapsed() >= BATCH_TIME;
            if is_enough && !self.items.is_empty() {
                break;
            }
            let item = self.item(first + self.items.len() as u64)?;
            taken += bytes(&item);
            self.items.push_back(item);
        }
        Ok(())
    }

    fn item(&mut self, number: u64) -> Result<Item, RedriveTaskError> {
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        let turns = self.order.turns().get(at..).unwrap_or_default();
        let Some(turn) = turns.first().copied() else {
            return Ok(Item::Gone);
        };
        let letter = self.letters.read(number, turns);
        let letter = letter.map_err(|reason| unreadable(&self.setup.topic, reason))?;
        let Some(record) = letter else {
            return Ok(Item::Gone);
        };
        let topic: Arc<str> = Arc::from(&*self.setup.topic);
        let Some(stored) = StoredLetter::new(topic, turn.partition, record) else {
            let reason = "another record is in its place; was the topic re-created?";
            return Ok(Item::Refused(reason.to_owned()));
        };
        Ok(match self.copy_of(&stored) {
            Ok(record) => Item::Copy(record),
            Err(reason) => Item::Refused(reason),
        })
    }

    fn copy_of(&mut self, stored: &StoredLetter) -> Result<OutgoingRecord, String> {
        let copy = self.redrive.copy(stored);
        let mut copy = copy.map_err(|error| error.to_string())?;
        if let Some(edit) = &mut self.setup.edit {
            let edited = edit.edit(stored);
            if let Some(value) = edited.map_err(|error| format!("the edit failed: {error}"))? {
                copy = copy.edited(value);
            }
        }
        let target = copy.topic_among(&self.targets).map_err(|_| {
            "it goes to another topic than the letters that the task began with".to_owned()
        })?;
        let partitions = self.partitions.get(&*target);
        if let (Some(origin), Some(partitions)) = (&stored.letter().origin, partitions) {
            copy = copy.partition(map_partition(origin.partition, *partitions));
        }
        copy.validate().map_err(|error| error.to_string())?;
        Ok(copy.into_record(target, &self.source, clock::wall()))
    }

    fn look_at_canary(&mut self) -> Result<(), RedriveTaskError> {
        let Some(canary) = self.record.settings.canary else {
            return Ok(());
        };
        let watch = match &mut self.canary {
            Some(watch) => watch,
            none => {
                let (connection, topic) = (&self.setup.connection, &self.setup.topic);
                let copies = self.run.canary_turns().end;
                let order = &self.order.turns()[..usize::try_from(copies).unwrap_or(0)];
                none.insert(CanaryWatch::new(
                    connection,
                    topic,
                    &self.record,
                    order,
                    &self.redrive,
                ))
            }
        };
        let outcomes = watch.look();
        let outcomes = outcomes.map_err(|reason| RedriveTaskError::Transaction { reason })?;
        self.run.canary(canary.verdict(outcomes));
        // Others need the brokers too.
        self.follow(LOOK_EVERY)
    }

    fn fail(&mut self, turn: u64, reason: String) -> Result<(), RedriveTaskError> {
        let place = place(&self.setup.topic, &self.order, turn);
        self.end(TaskState::Failed, Some(format!("{place}: {reason}")))?;
        Err(RedriveTaskError::Refused {
            id: self.id.clone(),
            place,
            reason,
        })
    }

    fn finish(
        mut self,
        state: TaskState,
        reason: Option<String>,
    ) -> Result<Ended, RedriveTaskError> {
        self.end(state, reason)?;
        Ok(self.ended())
    }

    fn end(&mut self, state: TaskState, reason: Option<String>) -> Result<(), RedriveTaskError> {
        self.record.end(state, reason);
        let key = OpsKey::Task(self.id.clone());
        let record = self.setup.ops.record(&key, Some(written(&self.record)));
        self.lock.write(&[&record]).map_err(not_written)?;
        tracing::info!(
            task = self.id,
            topic = self.setup.topic,
            ?state,
            "a redrive has ended"
        );
        Ok(())
    }

    fn report(&self) {
        (self.setup.on_progress)(&self.progress());
    }

    fn progress(&self) -> RedriveProgress {
        let (turns, done) = self.run.counts();
        RedriveProgress {
            turns,
            done,
            gone: self.progress.gone,
            refused: self.progress.refused.len() as u64,
            awaits_canary: self.awaits_canary,
        }
    }

    fn ended(self) -> Ended {
        Ended {
            progress: self.progress(),
            id: self.id,
            group: self.setup.group,
            state: self.record.state,
            reason: self.record.reason,
            counts: self.record.counts,
            refused: self.refused,
        }
    }
}

fn place(topic: &str, order: &Order, turn: u64) -> String {
    let at = usize::try_from(turn).unwrap_or(usize::MAX);
    match order.turns().get(at) {
        Some(turn) => format!("{topic}-{}@{}", turn.partition, turn.offset.get()),
        None => topic.to_owned(),
    }
}

pub(super) fn not_written(error: TransactionError) -> RedriveTaskError {
    match error {
        TransactionError::Fenced => RedriveTaskError::TakenOver,
        TransactionError::Refused { error, .. } => RedriveTaskError::Transaction {
            reason: error.to_string(),
        },
        TransactionError::Failed(reason) => RedriveTaskError::Transaction { reason },
    }
}

fn unreadable(topic: &str, reason: String) -> RedriveTaskError {
    crate::redrive::LettersError::Unreadable {
        topic: topic.to_owned(),
        reason,
    }
    .into()
}
