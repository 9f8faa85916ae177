//! The layer that keeps an effect from being made twice.

use std::time::Duration;

use keylane::layers::{Layer, Next};
use keylane::{Success, Task, TaskError};

use super::effect::Begun;
use super::table::Inbox;
use crate::database::Database;

/// A [layer](Layer) around a processor whose effect is outside of the database: it is called while the
/// [effect](Inbox::begin) is this attempt's, and not once it was completed. Such a record is skipped,
/// with the reason `seen in the inbox`.
///
/// A processor that returns an error **has not made** the effect, as far as this layer knows: another
/// attempt calls it again at once. One that is dropped, by a time-out or with its process, may have made
/// it: another attempt waits for the end of the lease, and calls it again. A processor with a
/// transaction calls [`Inbox::once`] instead, and needs no layer.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// use keylane::processing::processor_fn;
/// use keylane::testing::TestTask;
/// use keylane::{Processor, Success, Task, TaskError};
/// use keylane_sql::inbox::{Dedup, Inbox};
///
/// # #[cfg(feature = "sqlite")]
/// # async fn run(pool: sqlx::SqlitePool) -> Result<(), Box<dyn std::error::Error>> {
/// let inbox = Inbox::sqlite(pool, "notifier").migrate().await?;
/// let push = processor_fn(async |_: Task<String>| Ok::<(), TaskError>(()));
/// let push = push.layered(Dedup::new(inbox, "push", Duration::from_secs(60)));
///
/// let task = || TestTask::new("in".to_owned()).at("parking", 0, 42).build();
/// assert_eq!(push.process(task()).await.unwrap(), Success::Done);
/// assert_eq!(push.process(task()).await.unwrap(), Success::skipped("seen in the inbox"));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Dedup<D: Database> {
    inbox: Inbox<D>,
    effect: String,
    lease: Duration,
}

impl<D: Database> Dedup<D> {
    /// Around one effect of this name. `lease` has to be longer than the processor takes.
    pub fn new(inbox: Inbox<D>, effect: impl Into<String>, lease: Duration) -> Self {
        Self {
            inbox,
            effect: effect.into(),
            lease,
        }
    }
}

impl<D: Database, T: Send + Sync + 'static> Layer<T> for Dedup<D> {
    async fn around(&self, task: Task<T>, next: impl Next<T>) -> Result<Success, TaskError> {
        let effect = match self.inbox.begin(&task, &self.effect, self.lease).await? {
            Begun::First(effect) | Begun::TakenOver(effect) => effect,
            Begun::Done => return Ok(Success::skipped("seen in the inbox")),
        };
        let answer = next.run(task).await;
        match &answer {
            Ok(_) => effect.complete().await?,
            Err(_) => effect.release().await?,
        }
        answer
    }
}
