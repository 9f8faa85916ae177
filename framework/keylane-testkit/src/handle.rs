//! A subscription under test that runs.

use std::sync::Arc;
use std::time::Duration;

use keylane::NewTask;
use keylane::error::SubscriptionError;
use keylane::record::Origin;
use keylane::status::OutageStatus;
use keylane::testing::{LocalRecord, LocalSubscription};

use crate::seen::Seen;
use crate::{Attempt, NotIdle, Outcome};

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
    pub(crate) patience: Duration,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seen").finish_non_exhaustive()
    }
}

impl TestHandle {
    /// Appends a task to the topic. Its place names it in the other methods. Tasks go to partition
    /// 0 unless they [name](NewTask::partition) another.
    ///
    /// # Panics
    /// Where the partition is negative, or a header is named `dt_meta`, has no name, or one with
    /// NUL. The size is not checked.
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
    /// Some are pending when the [patience](crate::TestSubscription::patience) is at its end.
    pub async fn idle(&self) -> Result<(), NotIdle> {
        let patience = self.patience;
        if tokio::time::timeout(patience, self.seen.idle())
            .await
            .is_ok()
        {
            return Ok(());
        }
        let pending = self.seen.pending();
        if pending.is_empty() {
            return Ok(());
        }
        Err(NotIdle { pending, patience })
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
        self.written_to(self.retry_topic.as_deref())
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
        self.written_to(self.dead_letter_topic.as_deref())
    }

    fn written_to(&self, topic: Option<&str>) -> Vec<LocalRecord> {
        topic
            .map(|topic| self.seen.written_to(topic))
            .unwrap_or_default()
    }

    /// The error that has ended the subscription
    /// ([`Exhausted::Stop`](keylane::config::Exhausted::Stop)). Tasks that are written later stay
    /// pending.
    pub fn stopped(&self) -> Option<SubscriptionError> {
        self.seen.stopped()
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
    /// that run have this long to finish. Tasks that are left stay pending.
    pub fn revoke(&self, within: Duration) {
        self.local.revoke(within);
    }

    /// Takes the partitions away at once, as when the member was fenced: what runs is dropped.
    pub fn lose(&self) {
        self.local.lose();
    }
}
