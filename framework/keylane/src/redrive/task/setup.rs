//! How a run of a task begins: with the lock, and a look at what was done before.

use tokio_util::sync::CancellationToken;

use super::OnProgress;
use super::canary::CanaryWatch;
use super::ending::not_written;
use super::executor::Executor;
use super::lock::{Lock, TakeLock};
use super::report::Ended;
use super::scan::Scan;
use super::targets::{self, check_targets};
use crate::kafka::{OpsEnd, OpsLog};
use crate::redrive::RedriveTaskError;
use crate::redrive::connection::Connection;
use crate::redrive::edit::{Edit, MergePatch};
use crate::redrive::ops::records::{OpsKey, TaskRecord, written};
use crate::redrive::ops::{OpsState, OpsTopic, TaskProgress, TaskState, TaskStatus};

/// What a run is given.
pub(super) struct Setup {
    pub(super) ops: OpsTopic,
    pub(super) connection: Connection,
    pub(super) topic: String,
    pub(super) group: String,
    /// Who runs it, and where.
    pub(super) who: String,
    pub(super) why: Option<String>,
    pub(super) host: String,
    pub(super) take_over: bool,
    pub(super) again: bool,
    pub(super) edit: Option<Box<dyn Edit>>,
    pub(super) stop: CancellationToken,
    pub(super) on_progress: OnProgress,
    pub(super) take_lock: TakeLock,
}

/// What is run.
pub(super) enum Start {
    New {
        id: String,
        record: Box<TaskRecord>,
        scan: Box<Scan>,
    },
    Resume {
        id: String,
    },
}

pub(super) fn execute(setup: Setup, start: Start) -> Result<Ended, RedriveTaskError> {
    setup.ops.create()?;
    // One that is refused does not fence the one that runs. A transaction that is open is not waited
    // for: the lock ends it.
    let (_, state) = setup.opened(OpsEnd::Stable)?;
    setup.check(&state, &start)?;
    let lock = setup.lock()?;
    // What an earlier holder has written is there by now, and nothing of it follows.
    let (log, state) = setup.opened(OpsEnd::Last)?;
    setup.check(&state, &start)?;
    match start {
        Start::New { id, record, scan } => setup.begin(lock, log, &state, id, *record, *scan),
        Start::Resume { id } => setup.resume(lock, log, &state, id),
    }
}

impl Setup {
    pub(super) fn lock(&self) -> Result<Box<dyn Lock>, RedriveTaskError> {
        let id = format!("keylane-redrive/{}/{}", self.group, self.topic);
        let lock = (self.take_lock)(&self.connection, &id);
        lock.map_err(|error| RedriveTaskError::Lock {
            reason: error.to_string(),
        })
    }

    pub(super) fn opened(&self, end: OpsEnd) -> Result<(OpsLog, OpsState), RedriveTaskError> {
        let opened = self.ops.opened(end, Some(&self.topic))?;
        opened.ok_or_else(|| self.ops.unusable("it was deleted".to_owned()))
    }

    fn check(&self, state: &OpsState, start: &Start) -> Result<(), RedriveTaskError> {
        self.ops.check_newer(state)?;
        match start {
            Start::New { id, .. } => {
                // One with a request to end is ended by the new one.
                let stays = |task: &TaskStatus<'_>| task.cancel.is_none() && !self.take_over;
                if let Some(task) = state.running(&self.topic).filter(stays) {
                    return Err(RedriveTaskError::Unfinished {
                        id: task.id.to_owned(),
                        who: task.record.who.clone(),
                    });
                }
                match state.task(id) {
                    Some(_) => Err(RedriveTaskError::IdTaken { id: id.clone() }),
                    None => Ok(()),
                }
            }
            Start::Resume { id } => {
                let task = state.task(id).filter(|it| it.record.topic == self.topic);
                let task = task.ok_or_else(|| RedriveTaskError::NoSuchTask {
                    id: id.clone(),
                    topic: self.ops.name().to_owned(),
                })?;
                if task.record.state != TaskState::Running {
                    return Err(RedriveTaskError::AlreadyEnded {
                        id: id.clone(),
                        state: task.record.state,
                    });
                }
                if !state.is_log(&self.topic, task.record.log.as_deref()) {
                    return Err(RedriveTaskError::OtherLog {
                        id: id.clone(),
                        topic: self.topic.clone(),
                    });
                }
                let own = self.edit.as_ref().map(|edit| edit.text());
                let is_known = own.is_none() && Self::recorded_edit(task.record).is_some();
                if own != task.record.edit && !is_known {
                    let was = task.record.edit.as_deref();
                    return Err(RedriveTaskError::OtherEdit {
                        id: id.clone(),
                        was: was.map_or("no edit".to_owned(), |it| format!("the edit `{it}`")),
                    });
                }
                Ok(())
            }
        }
    }

    /// Records a new task, before its first copy, and runs it. One without letters is not recorded:
    /// a redrive that runs every minute would fill the topic.
    fn begin(
        self,
        lock: Box<dyn Lock>,
        log: OpsLog,
        state: &OpsState,
        id: String,
        mut record: TaskRecord,
        mut scan: Scan,
    ) -> Result<Ended, RedriveTaskError> {
        let (ops, topic, of_scan) = (&self.ops, &self.topic, scan.log.as_deref());
        let handled = ops.left_out(state, topic, of_scan, self.again)?;
        record.counts.handled = scan.leave_out(&handled);
        record.targets = scan.targets()?.into_keys().collect();
        check_targets(&record.targets, topic, ops.name())?;
        record.log = state.log(topic).map(str::to_owned);
        let partitions = targets::counts(&self.connection, &record.targets)?;
        let (order, last_turns) = scan.into_order(record.settings.max);
        record.partitions = targets::at_beginning(&partitions, &last_turns);
        record.counts.turns = order.len();
        let mut records = Vec::new();
        if let Some(old) = state.running(topic) {
            let mut ended = old.record.clone();
            match old.cancel {
                Some(cancel) => ended.end(TaskState::Cancelled, Some(cancel.text())),
                None => {
                    let reason = format!("{} began {id} instead (take_over)", record.who);
                    ended.end(TaskState::Failed, Some(reason));
                }
            }
            let key = OpsKey::Task(old.id.to_owned());
            records.push(ops.record(&key, Some(written(&ended))));
        }
        if order.is_empty() {
            if let Some(ended) = records.first() {
                lock.write(&[ended]).map_err(not_written)?;
            }
            return Ok(Ended::without_letters(id, record));
        }
        if record.settings.canary.is_some() {
            let mut watched = record.targets.clone();
            watched.push(topic.clone());
            record.target_ends =
                CanaryWatch::ends(&self.connection, &watched).map_err(|reason| {
                    RedriveTaskError::Target {
                        topic: watched.join(", "),
                        reason,
                    }
                })?;
        }
        let progress = TaskProgress::new(0, 0, Vec::new()).of_run(fastrand::u32(..));
        let key = OpsKey::Task(id.clone());
        records.push(ops.record(&key, Some(written(&record))));
        for (number, chunk) in (0..).zip(order.chunks()) {
            let key = OpsKey::Order(id.clone(), number);
            records.push(ops.record(&key, Some(chunk)));
        }
        let key = OpsKey::Progress(id.clone());
        records.push(ops.record(&key, Some(written(&progress))));
        let records: Vec<_> = records.iter().collect();
        lock.write(&records).map_err(not_written)?;
        tracing::info!(task = id, topic, letters = order.len(), "a redrive begins");
        Executor::new(self, lock, log, id, record, order, progress, partitions)?.run()
    }

    /// A merge patch is whole in the task's record.
    fn recorded_edit(record: &TaskRecord) -> Option<Box<dyn Edit>> {
        let patch = MergePatch::of_text(record.edit.as_deref()?)?;
        Some(Box::new(patch))
    }

    fn resume(
        mut self,
        lock: Box<dyn Lock>,
        log: OpsLog,
        state: &OpsState,
        id: String,
    ) -> Result<Ended, RedriveTaskError> {
        // `check` has found it.
        let task = state.task(&id).ok_or(RedriveTaskError::TakenOver)?;
        let mut record = task.record.clone();
        self.edit = self.edit.take().or_else(|| Self::recorded_edit(&record));
        let unread = |reason: String| RedriveTaskError::Order {
            id: id.clone(),
            reason,
        };
        let order = state
            .order(&id)
            .map_err(|error| unread(error.to_string()))?;
        if order.len() != record.counts.turns {
            let (has, of) = (order.len(), record.counts.turns);
            return Err(unread(format!("it has {has} of {of} letters")));
        }
        let progress = task.progress.cloned();
        let progress = progress.ok_or_else(|| unread("its progress is missing".to_owned()))?;
        let partitions = targets::left(&self.connection, &record, progress.done)?;
        let cancel = task.cancel.cloned();
        // An executor that has lost the lock waits for the progress of another run.
        let progress = progress.of_run(fastrand::u32(..));
        record.resume(&self.who, self.why.as_deref(), &self.host);
        let (of_task, of_progress) = (OpsKey::Task(id.clone()), OpsKey::Progress(id.clone()));
        let resumed = self.ops.record(&of_task, Some(written(&record)));
        let announced = self.ops.record(&of_progress, Some(written(&progress)));
        lock.write(&[&resumed, &announced]).map_err(not_written)?;
        tracing::info!(
            task = id,
            topic = self.topic,
            done = progress.done,
            "a redrive is resumed"
        );
        let mut executor = Executor::new(self, lock, log, id, record, order, progress, partitions)?;
        executor.cancel(cancel);
        executor.run()
    }
}
