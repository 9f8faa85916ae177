//! The signal that a processor's work is no longer needed.

use std::sync::Arc;
use std::time::Instant;

use super::EpochLife;
use crate::support::clock;

/// Signals work that an attempt has started elsewhere (a blocking thread, a task of its own) to
/// give up.
///
/// keylane drops the future of an attempt that may not go on. It cannot reach what that future has
/// spawned. Without a signal, such work would go on for a record that is attempted again, here or
/// by another member. Take a handle from the task with
/// [`Task::cancellation`](crate::Task::cancellation), pass it on, and let the work check it before
/// each step with an effect.
///
/// It is *cancelled*
/// - when the attempt's time is up (`attempt_timeout`);
/// - when the partition is to be given up and the drain time-out has passed: before it is given up;
/// - when the partition was lost (session time-out, fenced): as soon as the client reports it.
///   Another member may have had it for up to a session time-out. Only the system that you write to
///   can refuse the older one of two;
/// - when the subscription has ended, in whatever way, and when the partition was given up in good
///   order.
///
/// It is *not* cancelled by the end of the attempt itself. If a processor returns, or panics,
/// before the work that it has spawned, that work goes on.
///
/// Cloning is cheap. Nothing is allocated unless a handle is taken.
///
/// # Examples
/// ```
/// use keylane::{Task, TaskError};
///
/// async fn render(task: Task<Vec<String>>) -> Result<(), TaskError> {
///     let cancellation = task.cancellation();
///     tokio::task::spawn_blocking(move || {
///         for page in task.payload() {
///             if cancellation.is_cancelled() {
///                 return Err(TaskError::retryable("the partition was given up"));
///             }
///             println!("{page}");
///         }
///         Ok(())
///     })
///     .await?
/// }
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// # let task = keylane::testing::TestTask::new(vec!["page".to_owned()]).build();
/// # assert!(render(task).await.is_ok());
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Cancellation {
    epoch: Arc<EpochLife>,
    attempt_ends: Option<Instant>,
}

impl Cancellation {
    pub(crate) fn new(epoch: Arc<EpochLife>, attempt_ends: Option<Instant>) -> Self {
        Self {
            epoch,
            attempt_ends,
        }
    }

    /// Whether the work is no longer needed. Once true, it stays true.
    pub fn is_cancelled(&self) -> bool {
        self.epoch.is_over() || self.attempt_ends.is_some_and(|end| clock::now() >= end)
    }

    /// Waits until the work is no longer needed. Cancel-safe; needs a tokio runtime with its clock
    /// on.
    ///
    /// # Examples
    /// ```
    /// use keylane::testing::{TestAssignment, TestTask};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let assignment = TestAssignment::new();
    /// let cancellation = TestTask::new(()).of(&assignment).build().cancellation();
    /// assignment.lose();
    /// cancellation.cancelled().await;
    /// # }
    /// ```
    pub async fn cancelled(&self) {
        match self.attempt_ends {
            None => self.epoch.over().await,
            Some(end) => tokio::select! {
                () = self.epoch.over() => {}
                () = tokio::time::sleep_until(end.into()) => {}
            },
        }
    }

    /// Whether the partition is about to be given up, or has been: a rebalance or a shutdown drains
    /// it. There is time until the [`deadline`](Self::deadline): finish, or stop at a good place.
    ///
    /// # Examples
    /// ```
    /// use keylane::testing::{TestAssignment, TestTask};
    /// use std::time::Instant;
    ///
    /// let assignment = TestAssignment::new();
    /// let cancellation = TestTask::new(()).of(&assignment).build().cancellation();
    /// assignment.drain(Instant::now());
    /// assert!(cancellation.is_draining() && !cancellation.is_cancelled());
    /// ```
    pub fn is_draining(&self) -> bool {
        self.epoch.drain_deadline().is_some() || self.epoch.is_over()
    }

    /// Waits until the partition is about to be given up, or has been. Cancel-safe.
    pub async fn draining(&self) {
        self.epoch.draining().await;
    }

    /// The latest known time at which it will be cancelled: the end of the attempt's time, or the
    /// end of the drain. A drain can bring it forward. A lost partition cancels at once, without a
    /// deadline. `None` in a unit test that names none.
    pub fn deadline(&self) -> Option<Instant> {
        [self.attempt_ends, self.epoch.drain_deadline()]
            .into_iter()
            .flatten()
            .min()
    }
}
