//! How a run of a task begins: with the lock, and a look at what was done before.

use std::collections::BTreeMap;

use keylane_core::redrive::Index;
use tokio_util::sync::CancellationToken;

use super::OnProgress;
use super::canary::CanaryWatch;
use super::executor::{Executor, not_written};
use super::report::Ended;
use crate::kafka::{OpsEnd, OpsLog, writable_topics};
use crate::producer::transactions::Transactions;
use crate::redrive::RedriveTaskError;
use crate::redrive::connection::Connection;
use crate::redrive::edit::Edit;
use crate::redrive::ops::records::{OpsKey, TaskRecord, written};
use crate::redrive::ops::{OpsState, OpsTopic, TaskProgress, TaskState};

/// What a run is given.
pub(super) struct Setup {
    pub(super) ops: OpsTopic,
    pub(super) connection: Connection,
    pub(super) topic: String,
    pub(super) group: String,
    pub(super) take_over: bool,
    pub(super) again: bool,
    pub(super) edit: Option<Box<dyn Edit>>,
    pub(super) stop: CancellationToken,
    pub(super) on_progress: OnProgress,
}

/// What is run.
pub(super) enum Start {
    New {
        id: String,
        record: Box<TaskRecord>,
        index: Index,
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
    let id = format!("keylane-redrive/{}/{}", setup.group, setup.topic);
    let Connection {
        patience, kafka, ..
    } = &setup.connection;
    let lock = Transactions::take(setup.connection.servers(), kafka.as_map(), &id, *patience);
    let lock = lock.map_err(not_written)?;
    // What an earlier holder has written is there by now, and nothing of it follows.
    let (log, state) = setup.opened(OpsEnd::Last)?;
    setup.check(&state, &start)?;
    let executor = match start {
        Start::New { id, record, index } => setup.begin(lock, log, &state, id, *record, index)?,
        Start::Resume { id } => setup.resume(lock, log, &state, id)?,
    };
    executor.run()
}

impl Setup {
    fn opened(&self, end: OpsEnd) -> Result<(OpsLog, OpsState), RedriveTaskError> {
        let opened = self.ops.opened(end, Some(&self.topic))?;
        opened.ok_or_else(|| self.ops.unusable("it was deleted".to_owned()))
    }

    fn check(&self, state: &OpsState, start: &Start) -> Result<(), RedriveTaskError> {
        if let Some(key) = state.newer().next() {
            return Err(RedriveTaskError::Newer {
                topic: self.ops.name().to_owned(),
                key: key.to_owned(),
            });
        }
        match start {
            Start::New { id, .. } => {
                if let Some(task) = state.running(&self.topic).filter(|_| !self.take_over) {
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
                    return Err(RedriveTaskError::Ended {
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
                if own != task.record.edit {
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

    /// Records a new task, before its first copy.
    fn begin(
        self,
        lock: Transactions,
        log: OpsLog,
        state: &OpsState,
        id: String,
        mut record: TaskRecord,
        mut index: Index,
    ) -> Result<Executor, RedriveTaskError> {
        let dropped = state.dropped();
        if dropped.orders + dropped.tasks + dropped.resolutions > 0 {
            tracing::warn!(
                ?dropped,
                "the operations topic exceeds what is read of it: letters of old redrives may be copied again"
            );
        }
        let could = index.len() as u64;
        if !self.again {
            let handled = state.handled(&self.topic);
            index.retain(|partition, offset| !handled.contains(partition, offset.get()));
        }
        let order = index.into_order();
        record.log = state.log(&self.topic).map(str::to_owned);
        record.counts.turns = order.len();
        record.counts.handled = could - order.len();
        let partitions = self.partitions(&record)?;
        if record.settings.canary.is_some() {
            record.target_ends = CanaryWatch::ends(&self.connection, &record.targets)
                .map_err(|reason| RedriveTaskError::Transaction { reason })?;
        }
        let progress = TaskProgress::new(0, 0, Vec::new());
        let mut records = Vec::new();
        if let Some(old) = state.running(&self.topic) {
            let mut ended = old.record.clone();
            let reason = format!("{} began {id} instead (take_over)", record.who);
            ended.end(TaskState::Failed, Some(reason));
            let key = OpsKey::Task(old.id.to_owned());
            records.push(self.ops.record(&key, Some(written(&ended))));
        }
        let key = OpsKey::Task(id.clone());
        records.push(self.ops.record(&key, Some(written(&record))));
        for (number, chunk) in (0..).zip(order.chunks()) {
            let key = OpsKey::Order(id.clone(), number);
            records.push(self.ops.record(&key, Some(chunk)));
        }
        let key = OpsKey::Progress(id.clone());
        records.push(self.ops.record(&key, Some(written(&progress))));
        let records: Vec<_> = records.iter().collect();
        lock.write(&records).map_err(not_written)?;
        tracing::info!(
            task = id,
            topic = self.topic,
            letters = order.len(),
            "a redrive begins"
        );
        Executor::new(self, lock, log, id, record, order, progress, partitions)
    }

    fn resume(
        self,
        lock: Transactions,
        log: OpsLog,
        state: &OpsState,
        id: String,
    ) -> Result<Executor, RedriveTaskError> {
        // `check` has found it.
        let task = state.task(&id).ok_or(RedriveTaskError::TakenOver)?;
        let record = task.record.clone();
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
        let partitions = self.partitions(&record)?;
        let cancel = task.cancel.cloned();
        tracing::info!(
            task = id,
            topic = self.topic,
            done = progress.done,
            "a redrive is resumed"
        );
        let mut executor = Executor::new(self, lock, log, id, record, order, progress, partitions)?;
        executor.cancel(cancel);
        Ok(executor)
    }

    fn partitions(&self, record: &TaskRecord) -> Result<BTreeMap<String, i32>, RedriveTaskError> {
        let config = self.connection.side_client()?;
        let patience = self.connection.patience;
        writable_topics(&config, &record.targets, patience)
            .map_err(|(topic, reason)| RedriveTaskError::Target { topic, reason })
    }
}
