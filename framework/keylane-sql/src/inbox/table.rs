//! The table, and entries in the caller's own transaction.

use std::sync::Arc;
use std::time::{Duration, Instant};

use keylane::Task;
use keylane_core::inbox::{Judgement, Times};
use sqlx::{Pool, Transaction};

use super::builder::InboxBuilder;
use super::entry::Attempt;
use super::error::InboxError;
use super::metrics::Series;
use crate::database::{Database, TableName};

/// How often an attempt looks whether its log is known, and when a line is logged.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const TOLD_AFTER: Duration = Duration::from_secs(15);

/// Marks records whose effect was made, so that a record which is delivered again has none.
///
/// keylane delivers at least once: again after a crash, after a lost assignment, or when an attempt was
/// cut off. [`once`](Self::once) writes an entry in the transaction that makes the effect. So both are
/// there, or neither.
///
/// # Examples
/// ```
/// use keylane::{Task, TaskError};
/// use keylane_sql::inbox::{Inbox, Once};
///
/// # #[cfg(feature = "sqlite")]
/// async fn park(inbox: &Inbox<sqlx::Sqlite>, pool: &sqlx::SqlitePool, task: Task<String>) -> Result<(), TaskError> {
///     let mut transaction = pool.begin().await?;
///     if inbox.once(&mut transaction, &task).await? == Once::Seen {
///         return Ok(());
///     }
///     sqlx::query("update places set cars = cars + 1 where gate = $1")
///         .bind(task.payload())
///         .execute(&mut *transaction)
///         .await?;
///     transaction.commit().await?;
///     Ok(())
/// }
/// ```
///
/// Call it first in the transaction. A transaction that is rolled back leaves no entry.
///
/// # What *once* means
/// A record of an origin topic is named by the topic's id, partition, offset and leader epoch; a retry by
/// those of its origin. So a topic that is re-created, or a log that was cut, has new records. The effect
/// of each is made at most once, and at least once where it is not dead-lettered, as long as entries are
/// kept: see [`wait`](InboxBuilder::wait).
///
/// Another record is another effect: one that a producer wrote twice, a dead letter that was written back
/// to another topic, what an operator's reset reads again after its entries were swept. Against these
/// there is [`once_by`](Self::once_by).
#[derive(Debug)]
pub struct Inbox<D: Database> {
    pub(super) pool: Pool<D>,
    pub(super) settings: Arc<Settings>,
}

#[derive(Debug)]
pub(super) struct Settings {
    pub(super) group: String,
    pub(super) table: TableName,
    pub(super) times: Times,
    pub(super) sweep_every: Duration,
    pub(super) needs_topic_ids: bool,
    pub(super) series: Series,
}

impl<D: Database> Clone for Inbox<D> {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            settings: self.settings.clone(),
        }
    }
}

/// Whether the effect of a record is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Once {
    /// It was not made before: make it, in the same transaction, and commit.
    First,
    /// It was made: settle the record.
    Seen,
}

#[cfg(feature = "postgres")]
impl Inbox<sqlx::Postgres> {
    /// In the table `keylane_inbox` of a PostgreSQL database, from version 13 on, for the records of
    /// this consumer group.
    pub fn postgres(pool: sqlx::PgPool, group: impl Into<String>) -> InboxBuilder<sqlx::Postgres> {
        InboxBuilder::new(pool, group.into())
    }
}

#[cfg(feature = "sqlite")]
impl Inbox<sqlx::Sqlite> {
    /// In the table `keylane_inbox` of an SQLite database, for the records of this consumer group.
    ///
    /// SQLite has one writer at a time. A transaction that has read before it writes may be refused with
    /// `SQLITE_BUSY`, and is retried: call [`once`](Self::once) first, or begin it with `BEGIN IMMEDIATE`.
    pub fn sqlite(pool: sqlx::SqlitePool, group: impl Into<String>) -> InboxBuilder<sqlx::Sqlite> {
        InboxBuilder::new(pool, group.into())
    }
}

impl<D: Database> Inbox<D> {
    /// Marks a record in this transaction, and returns whether its effect is to be made. Where another
    /// transaction has marked it and not ended yet, it waits for that.
    ///
    /// # Isolation
    /// With READ COMMITTED, PostgreSQL's default, a second duplicate waits and then sees the first one's
    /// entry. With REPEATABLE READ or SERIALIZABLE the database refuses it instead (`40001`); its next
    /// attempt sees the entry.
    ///
    /// # Errors
    /// What the database answers; [`InboxError::TooLate`] for an attempt that began too long ago. Return
    /// them: the record is retried by policy. The transaction has to be rolled back.
    ///
    /// Where the topic's id is not confirmed yet, as after a log went back, it waits for that: half a
    /// second or so.
    ///
    /// # Cancellation
    /// Dropping the future may leave the entry written or not. Roll the transaction back.
    pub async fn once<T>(
        &self,
        transaction: &mut Transaction<'_, D>,
        task: &Task<T>,
    ) -> Result<Once, InboxError> {
        let attempt = self.attempt(task).await;
        let entry = attempt.entry(&self.settings.group, "");
        let marked = D::insert_entry(transaction, &self.settings.table, &entry).await;
        if !marked.map_err(|error| self.failed(error))? {
            self.settings.series.seen();
            return Ok(Once::Seen);
        }
        self.admit(&attempt)?;
        self.settings.series.first();
        Ok(Once::First)
    }

    /// The same by the id of the message, which every copy of it has: for what a producer writes twice, a
    /// dead letter that is written back, and a reset of the group. `None` where the task has no
    /// [message id](Task::message_id); nothing is written then.
    ///
    /// The id is kept for `ttl`, by the database's clock. A copy that comes later is the first again. The
    /// table holds what comes in that time. An id of your own goes to [`once_by_id`](Self::once_by_id).
    ///
    /// # Errors
    /// What the database answers. The transaction has to be rolled back.
    pub async fn once_by<T>(
        &self,
        transaction: &mut Transaction<'_, D>,
        task: &Task<T>,
        ttl: Duration,
    ) -> Result<Option<Once>, InboxError> {
        match task.message_id() {
            Some(id) => self.once_by_id(transaction, id, ttl).await.map(Some),
            None => Ok(None),
        }
    }

    /// The same by an id of your own, such as that of the event. It is at most 255 bytes of text without
    /// NUL; a longer one is cut.
    ///
    /// # Errors
    /// What the database answers. The transaction has to be rolled back.
    pub async fn once_by_id(
        &self,
        transaction: &mut Transaction<'_, D>,
        id: &str,
        ttl: Duration,
    ) -> Result<Once, InboxError> {
        let settings = &*self.settings;
        let marked = D::mark_message(transaction, &settings.table, &settings.group, cut(id), ttl);
        match marked.await.map_err(|error| self.failed(error))? {
            true => {
                settings.series.first();
                Ok(Once::First)
            }
            false => {
                settings.series.seen();
                Ok(Once::Seen)
            }
        }
    }

    /// The consumer group whose records are marked.
    pub fn group(&self) -> &str {
        &self.settings.group
    }

    /// Waits until the log is known. An error instead would send the record to the retry topic, where
    /// nothing names its log.
    pub(super) async fn attempt<T>(&self, task: &Task<T>) -> Attempt {
        let attempt = Attempt::of(task);
        if !self.settings.needs_topic_ids || !attempt.awaits_log() {
            return attempt;
        }
        let (since, mut is_told) = (Instant::now(), false);
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let attempt = Attempt::of(task);
            if !attempt.awaits_log() {
                return attempt;
            }
            if !is_told && since.elapsed() >= TOLD_AFTER {
                is_told = true;
                tracing::warn!(
                    topic = task.topic(),
                    partition = task.partition(),
                    offset = task.offset(),
                    "an attempt waits for the id of its topic, which no broker has confirmed; where the brokers have no \
                     topic ids (before Kafka 2.8), set `without_topic_ids` of the inbox"
                );
            }
        }
    }

    /// Whether an attempt that has inserted its entry may go on.
    pub(super) fn admit(&self, attempt: &Attempt) -> Result<(), InboxError> {
        match attempt.judge(&self.settings.times) {
            Judgement::Safe => {}
            Judgement::Unprotected => self.settings.series.unprotected(),
            Judgement::TooLate => {
                return Err(InboxError::TooLate {
                    age: attempt.age(),
                    limit: self.settings.times.limit(),
                });
            }
        }
        Ok(())
    }

    pub(super) fn failed(&self, source: sqlx::Error) -> InboxError {
        InboxError::Database {
            table: self.settings.table.to_string(),
            source,
        }
    }
}

/// The longest id of a message.
const MOST_BYTES: usize = 255;

fn cut(id: &str) -> &str {
    let longest = id.len().min(MOST_BYTES);
    let end = (0..=longest).rev().find(|at| id.is_char_boundary(*at));
    &id[..end.unwrap_or(0)]
}
