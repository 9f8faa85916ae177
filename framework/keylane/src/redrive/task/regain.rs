//! A lock that the brokers took away.

use std::time::{Duration, Instant};

use super::executor::Executor;
use crate::kafka::OpsEnd;
use crate::producer::transactions::TransactionError;
use crate::redrive::RedriveTaskError;
use crate::redrive::ops::{TaskProgress, TaskState};

/// For so long another executor may take from its lock to its first record.
const OTHERS_WITHIN: Duration = Duration::from_secs(10);
/// A lock that is taken away more often is not taken again.
const REGAIN_EVERY: Duration = Duration::from_secs(600);
const LOOK_EVERY: Duration = Duration::from_millis(200);

impl Executor {
    /// Goes on after an error that ends a producer, where no other executor has taken over.
    ///
    /// The brokers end a transaction that is open for too long, as after a failure of the
    /// coordinator, or in a process that was suspended. To the producer that looks the same as
    /// another holder of its lock. Another executor shows itself: its first record is the task's
    /// progress with the number of its run, or the task's end.
    pub(super) fn regain(&mut self, error: TransactionError) -> Result<(), RedriveTaskError> {
        let is_lost = matches!(&error, TransactionError::Fenced | TransactionError::Lost(_));
        let began = Instant::now();
        let was_before = (self.regained).is_some_and(|at| began - at < REGAIN_EVERY);
        let reason = error.to_string();
        if !is_lost || was_before {
            return Err(RedriveTaskError::Transaction { reason });
        }
        self.regained = Some(began);
        tracing::warn!(task = self.id, reason, "a redrive has lost its lock");
        while began.elapsed() < OTHERS_WITHIN {
            self.follow(LOOK_EVERY)?;
            if self.is_taken_over {
                return Err(RedriveTaskError::TakenOver);
            }
            if self.setup.stop.is_cancelled() {
                return Ok(());
            }
        }
        self.lock = self.setup.lock()?;
        let (log, state) = self.setup.opened(OpsEnd::Last)?;
        self.log = log;
        let task = state.task(&self.id);
        let task = task.filter(|task| task.record.state == TaskState::Running);
        let task = task.ok_or(RedriveTaskError::TakenOver)?;
        let is_own = |it: &&TaskProgress| it.run == self.progress.run;
        let progress = task.progress.filter(is_own).cloned();
        let progress = progress.ok_or(RedriveTaskError::TakenOver)?;
        self.cancel(task.cancel.cloned());
        // The last commit may have had no answer.
        self.committed(progress);
        tracing::info!(task = self.id, "it has taken the lock again");
        Ok(())
    }
}
