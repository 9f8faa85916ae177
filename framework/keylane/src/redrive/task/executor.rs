//! Runs a task, on a thread of its own: each call blocks.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use keylane_core::Moment;
use keylane_core::redrive::{Next, Order, Run, RunSettings, Stopped};

use super::batch::Item;
use super::canary::CanaryWatch;
use super::letters_in_order::LettersInOrder;
use super::limit::Limit;
use super::lock::Lock;
use super::report::{Ended, Refusals};
use super::setup::Setup;
use super::waiting::{FIRST_PAUSE, unwatched};
use crate::kafka::OpsLog;
use crate::producer::{MessageIds, TaskFormat, TaskSource};
use crate::redrive::ops::records::{OpsKey, TaskRecord, read};
use crate::redrive::ops::{CancelRequest, TaskProgress, TaskState};
use crate::redrive::{LettersError, Redrive, RedriveTaskError};

/// How soon a request to end is seen while nothing is to be done.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A task that runs.
pub(super) struct Executor {
    pub(super) setup: Setup,
    pub(super) lock: Box<dyn Lock>,
    pub(super) log: OpsLog,
    pub(super) id: String,
    pub(super) record: TaskRecord,
    pub(super) order: Order,
    /// When the lock was taken again.
    pub(super) regained: Option<Instant>,
    /// Another executor has written.
    pub(super) is_taken_over: bool,
    /// The number of partitions of each target topic.
    pub(super) partitions: BTreeMap<String, i32>,
    pub(super) targets: Vec<Arc<str>>,
    /// The dead-letter topic.
    pub(super) dead_letters: Arc<str>,
    pub(super) redrive: Redrive,
    pub(super) source: TaskSource,
    pub(super) letters: LettersInOrder,
    pub(super) run: Run,
    pub(super) progress: TaskProgress,
    pub(super) cancelled: Option<CancelRequest>,
    /// The letters whose turns are next, in order.
    pub(super) items: VecDeque<Item>,
    pub(super) limit: Limit,
    pub(super) refused: Refusals,
    pub(super) canary: Option<CanaryWatch>,
    /// Between two looks at it.
    pub(super) canary_pause: Duration,
    /// The next look at it.
    pub(super) canary_at: Moment,
    /// The last look at it that succeeded, or the first one.
    pub(super) canary_seen: Option<Instant>,
    pub(super) awaits_canary: bool,
    began: Instant,
}

impl Executor {
    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of a task, from two callers"
    )]
    pub(super) fn new(
        setup: Setup,
        lock: Box<dyn Lock>,
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
            canary_pause: FIRST_PAUSE,
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

    pub(super) fn now(&self) -> Moment {
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
}

/// A record's topic is shared by all that go there.
fn names(topics: &[String]) -> Vec<Arc<str>> {
    topics.iter().map(|topic| Arc::from(&**topic)).collect()
}

pub(super) fn unreadable(topic: &str, reason: String) -> RedriveTaskError {
    let topic = topic.to_owned();
    LettersError::Unreadable { topic, reason }.into()
}
