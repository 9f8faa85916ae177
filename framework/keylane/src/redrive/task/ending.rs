//! A task ends, and reports how far it is.

use keylane_core::redrive::Order;

use super::executor::Executor;
use super::report::{Ended, RedriveProgress};
use crate::producer::transactions::TransactionError;
use crate::redrive::RedriveTaskError;
use crate::redrive::ops::TaskState;
use crate::redrive::ops::records::{OpsKey, written};

impl Executor {
    pub(super) fn fail(&mut self, turn: u64, reason: String) -> Result<(), RedriveTaskError> {
        let place = self.place(turn);
        self.end(TaskState::Failed, Some(format!("{place}: {reason}")))?;
        Err(RedriveTaskError::Refused {
            id: self.id.clone(),
            place,
            reason,
        })
    }

    /// Where the letter of this turn lies, in words.
    pub(super) fn place(&self, turn: u64) -> String {
        place(&self.setup.topic, &self.order, turn)
    }

    pub(super) fn finish(
        mut self,
        state: TaskState,
        reason: Option<String>,
    ) -> Result<Ended, RedriveTaskError> {
        self.end(state, reason)?;
        Ok(self.ended())
    }

    pub(super) fn end(
        &mut self,
        state: TaskState,
        reason: Option<String>,
    ) -> Result<(), RedriveTaskError> {
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

    pub(super) fn report(&self) {
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

    pub(super) fn ended(self) -> Ended {
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

/// Where the letter of this turn lies, in words.
pub(super) fn place(topic: &str, order: &Order, turn: u64) -> String {
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
