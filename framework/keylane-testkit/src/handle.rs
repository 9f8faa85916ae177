//! A subscription under test that runs.

use std::sync::Arc;
use std::time::Duration;

use keylane::NewTask;
use keylane::error::SubscriptionError;
use keylane::record::Origin;
use keylane::status::OutageStatus;
use keylane::testing::{LocalRecord, LocalSubscription, Outcome};

use crate::seen::Seen;
use crate::{Attempt, NotIdle};

/// A subscription under test that runs, with what was seen of its tasks. Dropping it drops what
/// runs.
///
/// # Examples
/// Tasks of one key wait for each other, and others do not:
///
/// ```
/// use std::time::Duration;
///
/// use keylane::{Json, NewTask, Task, TaskError};
/// use keylane_testkit::{Outcome, TestSubscription};
///
/// async fn process(task: Task<u64>) -> Result<(), TaskError> {
///     tokio::time::sleep(Duration::from_secs(*task.payload())).await;
///     Ok(())
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let handle = TestSubscription::new(Json, process).start();
/// let slow = handle.write(NewTask::json(&60)?.key("vehicle-1"));
/// let behind = handle.write(NewTask::json(&1)?.key("vehicle-1"));
/// let beside = handle.write(NewTask::json(&1)?.key("vehicle-2"));
/// handle.idle().await?;
///
/// assert_eq!(handle.outcome(&slow), Outcome::Done { attempts: 1 });
/// let seconds = |task| handle.attempts(task)[0].ended_after.as_secs();
/// assert_eq!((seconds(&beside), seconds(&slow), seconds(&behind)), (1, 60, 61));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct TestHandle {
    pub(crate) local: LocalSubscription,
    pub(crate) seen: Arc<Seen>,
    pub(crate) retry_topic: Option<String>,
    pub(crate) dead_letter_topic: Option<String>,
    pub(crate) idle_timeout: Duration,
}

impl TestHandle {
    /// Appends a task. Its place names it in the other methods. Tasks go to partition 0 of the first
    /// topic, unless they name another [partition](NewTask::partition) or [topic](NewTask::topic).
    ///
    /// # Panics
    /// Where the partition is negative, the topic is none of the subscription's, or a header is
    /// named `dt_meta`, has no name, or one with NUL. The size is not checked.
    #[track_caller]
    pub fn write(&self, task: NewTask) -> Origin {
        match self.local.write(task) {
            Ok(place) => {
                self.seen.delivered(&place);
                place
            }
            Err(error) => panic!("the task cannot be written: {error}"),
        }
    }

    /// Waits until every task is settled or parked, or the subscription has stopped.
    ///
    /// # Errors
    /// Some are pending after the [`idle_timeout`](crate::TestSubscription::idle_timeout): they are
    /// retried without end, are held because of an outage, wait behind a parked task of their key or
    /// for [`resume`](Self::resume), or were left over by [`revoke`](Self::revoke) or
    /// [`lose`](Self::lose).
    pub async fn idle(&self) -> Result<(), NotIdle> {
        let waited = self.idle_timeout;
        let idle = tokio::time::timeout(waited, self.seen.idle());
        if idle.await.is_ok() {
            return Ok(());
        }
        match self.seen.pending() {
            pending if pending.is_empty() => Ok(()),
            pending => Err(NotIdle { pending, waited }),
        }
    }

    /// What became of a task, as far as is known now.
    pub fn outcome(&self, task: &Origin) -> Outcome {
        self.seen.outcome(task)
    }

    /// The attempts of a task that have ended, in order.
    pub fn attempts(&self, task: &Origin) -> Vec<Attempt> {
        self.seen.attempts(task)
    }

    /// What was written to the retry topic, in order.
    pub fn retries(&self) -> Vec<LocalRecord> {
        self.seen.written_to(self.retry_topic.as_deref())
    }

    /// What was written to the dead-letter topic, in order.
    ///
    /// # Examples
    /// ```
    /// use keylane::{Json, NewTask, Task, TaskError};
    /// use keylane_testkit::TestSubscription;
    ///
    /// async fn process(_: Task<u64>) -> Result<(), TaskError> {
    ///     Err(TaskError::fatal("no such vehicle"))
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let handle = TestSubscription::new(Json, process).start();
    /// handle.write(NewTask::json(&7)?);
    /// handle.idle().await?;
    /// let letter = &handle.dead_letters()[0];
    /// assert_eq!(letter.headers.last_str("keylane-reason"), Some("fatal"));
    /// assert_eq!(letter.headers.last_str("keylane-error"), Some("no such vehicle"));
    /// # Ok(()) }
    /// ```
    pub fn dead_letters(&self) -> Vec<LocalRecord> {
        self.seen.written_to(self.dead_letter_topic.as_deref())
    }

    /// The error that has ended the subscription
    /// ([`Exhausted::Stop`](keylane::config::Exhausted::Stop)). Tasks that are written later stay
    /// pending.
    pub fn stopped(&self) -> Option<SubscriptionError> {
        self.local.stopped()
    }

    /// The outages that go on, and how many tasks are held because of them.
    pub fn outage(&self) -> Option<OutageStatus> {
        self.local.outage()
    }

    /// As [`SubscriptionHandle::release_held`](keylane::SubscriptionHandle::release_held).
    pub fn release_held(&self) {
        self.local.release_held();
    }

    /// Starts no attempt until [`resume`](Self::resume).
    pub fn pause(&self) {
        self.local.pause();
    }

    /// Ends a [`pause`](Self::pause).
    pub fn resume(&self) {
        self.local.resume();
    }

    /// Takes the partitions away, as a rebalance or a shutdown does: no attempt starts, and those
    /// that run have this long to finish. An attempt that is dropped is not among the
    /// [`attempts`](Self::attempts).
    ///
    /// Tasks that are left stay pending for good, so later calls of [`idle`](Self::idle) fail: with
    /// Kafka the next owner repeats them. Tasks that are written later have a new owner, and do not
    /// wait for those that were left, also where they have the same key.
    pub fn revoke(&self, within: Duration) {
        self.local.revoke(within);
    }

    /// Takes the partitions away at once, as when the member was fenced: what runs is dropped. For
    /// what is left and what comes later, see [`revoke`](Self::revoke).
    pub fn lose(&self) {
        self.local.lose();
    }
}
