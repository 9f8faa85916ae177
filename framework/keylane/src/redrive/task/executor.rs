//! Runs a task, on a thread of its own: each call blocks.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keylane_core::Moment;
use keylane_core::redrive::{Next, Order, Run, RunSettings, Stopped};

use super::canary::CanaryWatch;
use super::letters_in_order::LettersInOrder;
use super::limit::Limit;
use super::names;
use super::report::{Ended, RedriveProgress, Refusals};
use super::setup::Setup;
use crate::dead_letter::StoredLetter;
use crate::kafka::OpsLog;
use crate::kafka::topics::map_partition;
use crate::producer::raw::OutgoingRecord;

use crate::producer::transactions::{TransactionError, Transactions};
use crate::producer::write_error::WriteError;
use crate::producer::{MessageIds, TaskFormat, TaskSource};
use crate::redrive::ops::forms::numbers::ranges;
use crate::redrive::ops::records::{OpsKey, TaskRecord, read, written};
use crate::redrive::ops::{CancelRequest, OnRefused, TaskProgress, TaskState};
use crate::redrive::{Redrive, RedriveTaskError};
use crate::support::{clock, error_text};

/// The bytes of a transaction's copies; one copy may be larger.
const BATCH_BYTES: usize = 16 << 20;
/// A transaction has fewer copies where they take longer to make.
const BATCH_TIME: Duration = Duration::from_secs(1);
/// How soon a request to end is seen while nothing is to be done.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// The most runs of letters that a task passes over: its progress names them, and is written with
/// each transaction.
const MOST_REFUSED: usize = 10_000;
/// How often it is asked what became of the canary.
const CANARY_EVERY: Duration = Duration::from_secs(2);

/// A letter whose turn is next.
enum Item {
    Copy(OutgoingRecord),
    Gone,
    Refused(String),
}

/// A task that runs.
pub(super) struct Executor {
    pub(super) setup: Setup,
    pub(super) lock: Transactions,
    pub(super) log: OpsLog,
    pub(super) id: String,
    record: TaskRecord,
    order: Order,
    /// When the lock was taken again.
    pub(super) regained: Option<Instant>,
    /// Another executor has written.
    pub(super) is_taken_over: bool,
    /// How many each target topic has.
    partitions: BTreeMap<String, i32>,
    targets: Vec<Arc<str>>,
    /// The dead-letter topic.
    dead_letters: Arc<str>,
    redrive: Redrive,
    source: TaskSource,
    letters: LettersInOrder,
    run: Run,
    pub(super) progress: TaskProgress,
    cancelled: Option<CancelRequest>,
    /// The letters whose turns are next, in order.
    items: VecDeque<Item>,
    limit: Limit,
    refused: Refusals,
    canary: Option<CanaryWatch>,
    /// The next look at it.
    canary_at: Moment,
    /// The last look at it that succeeded, or the first one.
    canary_seen: Option<Instant>,
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
            run: Run::new(order.len(), progress.done, progress.copies(), settings),
            targets: names(&record.targets),
            dead_letters: Arc::from(&*setup.topic),
            redrive,
            source: TaskSource {
                application_id: "keylane-redrive".to_owned(),
                instance_id: id.clone(),
                format: TaskFormat::Header,
                message_ids: MessageIds::OnlyGiven,
            },
            cancelled: None,
            items: VecDeque::new(),
            limit: Limit::none(),
            refused: Refusals::default(),
            regained: None,
            is_taken_over: false,
            canary: None,
            canary_at: Moment::ORIGIN,
            canary_seen: None,
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
        if self.run.has_canary() {
            // Before the first copy, where permissions are missing.
            self.watch().look().map_err(unwatched)?;
            self.canary = None;
        }
        loop {
            self.report();
            self.follow(Duration::ZERO)?;
            if self.is_taken_over {
                return Err(RedriveTaskError::TakenOver);
            }
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
                    let reason = request.map(CancelRequest::text);
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

    /// Looks for a request to end the task, and waits at most this long for one.
    pub(super) fn follow(&mut self, wait: Duration) -> Result<(), RedriveTaskError> {
        let (mut cancel, mut is_of_other) = (None, false);
        let (own, run) = (&self.id, self.progress.run);
        let followed = self.log.follow(wait, |record| {
            let key = record.key().and_then(OpsKey::read);
            match (key, record.value()) {
                (Some(OpsKey::Cancel(id)), Some(value)) if id == *own => {
                    cancel = Some(CancelRequest::read(value));
                }
                (Some(OpsKey::Progress(id)), Some(value)) if id == *own => {
                    is_of_other |= read::<TaskProgress>(value).is_ok_and(|it| it.run != run);
                }
                (Some(OpsKey::Task(id)), Some(value)) if id == *own => {
                    let task = read::<TaskRecord>(value);
                    is_of_other |= task.is_ok_and(|it| it.state != TaskState::Running);
                }
                _ => {}
            }
        });
        followed.map_err(|reason| self.setup.ops.unusable(reason))?;
        self.letters.serve();
        self.lock.serve();
        if let Some(watch) = &self.canary {
            watch.serve();
        }
        self.is_taken_over |= is_of_other;
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
        let most = (turns.end - turns.start).min(self.limit.turns());
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
            TaskProgress::new(until, self.progress.gone, self.progress.refused.clone())
                .of_run(self.progress.run);
        let mut records = Vec::with_capacity(count + 1);
        for (turn, item) in (turns.start..until).zip(&self.items) {
            match item {
                Item::Copy(record) => records.push(record),
                Item::Gone => progress.gone += 1,
                Item::Refused(_) => progress.refused.push(turn),
            }
        }
        if let Some((turn, _)) = ranges(&progress.refused).nth(MOST_REFUSED) {
            let (id, place) = (self.id.clone(), self.place(turn));
            let error = RedriveTaskError::TooManyRefused { id, place };
            self.end(TaskState::Failed, Some(error.to_string()))?;
            return Err(error);
        }
        let copies = records.len();
        let key = OpsKey::Progress(self.id.clone());
        let of_progress = self.setup.ops.record(&key, Some(written(&progress)));
        records.push(&of_progress);
        self.run.begun(until, self.now());
        match self.lock.write_in_time(&records) {
            Ok(()) => {
                self.committed(progress);
                self.limit.committed(self.record.settings.window);
                Ok(())
            }
            Err(TransactionError::Refused(refused))
                if refused.iter().all(|(index, _)| *index < copies) =>
            {
                self.refuse(refused);
                Ok(())
            }
            // The one to blame is looked for.
            Err(TransactionError::RefusedAmong(_)) if copies > 1 => {
                self.limit.refused(count as u64);
                Ok(())
            }
            Err(TransactionError::Slow(reason)) => self.slower(count as u64, reason),
            Err(error) => self.regain(error),
        }
    }

    /// The task is so far now.
    pub(super) fn committed(&mut self, progress: TaskProgress) {
        let before = std::mem::replace(&mut self.progress, progress);
        let more = self.progress.done.saturating_sub(before.done);
        let count = usize::try_from(more).map_or(self.items.len(), |it| it.min(self.items.len()));
        for (turn, item) in (before.done..).zip(self.items.drain(..count)) {
            if let Item::Refused(reason) = item {
                let place = place(&self.setup.topic, &self.order, turn);
                let task = &self.id;
                tracing::warn!(task, letter = place, reason, "a dead letter is passed over");
                self.refused.add(format_args!("{place}: {reason}"));
            }
        }
        let copies = self.progress.copies().saturating_sub(before.copies());
        self.run.copied(self.progress.done, copies);
    }

    /// These copies are not written, by their number among the copies.
    fn refuse(&mut self, refused: Vec<(usize, WriteError)>) {
        let is_copy = |item: &&mut Item| matches!(item, Item::Copy(_));
        let mut copies = self.items.iter_mut().filter(is_copy);
        let mut next = 0;
        for (index, error) in refused {
            if let Some(item) = copies.nth(index - next) {
                *item = Item::Refused(error.to_string());
            }
            next = index + 1;
        }
    }

    /// Fewer copies may be written in time.
    fn slower(&mut self, turns: u64, reason: String) -> Result<(), RedriveTaskError> {
        let patience = self.setup.connection.patience;
        if !self.limit.slow(turns, Instant::now(), patience) {
            let reason = format!(
                "{reason}; where the brokers are only slow, begin another task by `take_over`, with a smaller `window`"
            );
            return Err(RedriveTaskError::Transaction { reason });
        }
        let (task, most) = (&self.id, self.limit.turns());
        tracing::warn!(
            task,
            most,
            reason,
            "a transaction was too slow; the next one has fewer copies"
        );
        Ok(())
    }

    /// Reads letters until there are this many items, or enough for now.
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
        let topic = self.dead_letters.clone();
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
            if let Some(value) = edited.map_err(|error| {
                // It is stored with the task, which has to stay small enough to be written.
                error_text::text(format_args!("the edit failed: {error}"))
            })? {
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
        let now = self.now();
        if now >= self.canary_at {
            self.canary_at = now + CANARY_EVERY;
            let seen = *self.canary_seen.get_or_insert_with(Instant::now);
            match self.watch().look() {
                Ok(outcomes) => {
                    self.canary_seen = Some(Instant::now());
                    self.run.canary(canary.verdict(outcomes));
                }
                Err(reason) if seen.elapsed() >= self.setup.connection.patience => {
                    return Err(unwatched(reason));
                }
                Err(reason) => {
                    tracing::warn!(
                        task = self.id,
                        reason,
                        "the canary's copies cannot be looked at"
                    );
                }
            }
        }
        self.follow(LOOK_EVERY)
    }

    /// Of all copies until now.
    fn watch(&mut self) -> &mut CanaryWatch {
        let (_, done) = self.run.counts();
        let turns = self.order.turns();
        let done = usize::try_from(done).map_or(turns.len(), |done| done.min(turns.len()));
        self.canary.get_or_insert_with(|| {
            let Setup {
                connection, topic, ..
            } = &self.setup;
            CanaryWatch::new(
                connection,
                topic,
                &self.record,
                &turns[..done],
                &self.redrive,
            )
        })
    }

    fn fail(&mut self, turn: u64, reason: String) -> Result<(), RedriveTaskError> {
        let place = self.place(turn);
        self.end(TaskState::Failed, Some(format!("{place}: {reason}")))?;
        Err(RedriveTaskError::Refused {
            id: self.id.clone(),
            place,
            reason,
        })
    }

    /// Of the letter of this turn.
    fn place(&self, turn: u64) -> String {
        place(&self.setup.topic, &self.order, turn)
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
        while let Err(error) = self.lock.write(&[&record]) {
            self.regain(error)?;
        }
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
        error => RedriveTaskError::Transaction {
            reason: error.to_string(),
        },
    }
}

fn unwatched(reason: String) -> RedriveTaskError {
    let reason = format!(
        "what becomes of the canary cannot be seen: {reason}; this client needs READ on the target topics and \
         DESCRIBE on the group"
    );
    RedriveTaskError::Transaction { reason }
}

fn unreadable(topic: &str, reason: String) -> RedriveTaskError {
    crate::redrive::LettersError::Unreadable {
        topic: topic.to_owned(),
        reason,
    }
    .into()
}
