//! Effects outside of the transaction.

use std::time::Duration;

use keylane::Task;
use uuid::Uuid;

use super::entry::Entry;
use super::error::InboxError;
use super::store::State;
use super::table::Inbox;
use crate::database::Database;

/// How long a waiting attempt does not look, at most.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Whether an effect outside of the database is to be made.
#[derive(Debug)]
pub enum Begun<D: Database> {
    /// No attempt has begun it. Make it, then call [`Effect::complete`].
    First(Effect<D>),
    /// An attempt has begun it and has not completed it within its lease: it may have been made. Make it
    /// again, or find out whether it was.
    TakenOver(Effect<D>),
    /// It was completed.
    Done,
}

/// An effect that this attempt makes. Dropped, it keeps its lease: another attempt waits for the end of
/// that.
#[derive(Debug)]
#[must_use = "an effect has to be completed or released"]
pub struct Effect<D: Database> {
    inbox: Inbox<D>,
    entry: Entry,
    token: String,
}

impl<D: Database> Inbox<D> {
    /// Begins an effect that cannot be a part of a transaction: a push, an SMS, a call. Another attempt
    /// of the same record and effect waits while this one's `lease` lasts, by the database's clock, and
    /// then takes it over. `effect` names it, where a record has several.
    ///
    /// # What remains possible
    /// **An effect twice**: where a process ends after the effect and before
    /// [`complete`](Effect::complete); and where the lease is shorter than the effect takes. Give the other
    /// side an idempotency key, too, where it takes one. An effect is never left out: it is *done* only
    /// once it was completed.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// use keylane::{Task, TaskError};
    /// use keylane_sql::inbox::{Begun, Inbox};
    ///
    /// # async fn send(_: &str) -> Result<(), TaskError> { Ok(()) }
    /// # #[cfg(feature = "sqlite")]
    /// async fn push(inbox: &Inbox<sqlx::Sqlite>, task: Task<String>) -> Result<(), TaskError> {
    ///     let effect = match inbox.begin(&task, "push", Duration::from_secs(30)).await? {
    ///         Begun::First(effect) | Begun::TakenOver(effect) => effect,
    ///         Begun::Done => return Ok(()),
    ///     };
    ///     if let Err(error) = send(task.payload()).await {
    ///         // It was refused, so it was not made: the next attempt need not wait for the lease.
    ///         effect.release().await?;
    ///         return Err(error);
    ///     }
    ///     effect.complete().await?;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// It uses a connection of the inbox's own pool. Do not call it within a transaction on the last one.
    ///
    /// # Errors
    /// Those of [`once`](Self::once).
    ///
    /// # Cancellation
    /// Dropping the future may leave the lease taken: the next attempt waits for it.
    pub async fn begin<T>(
        &self,
        task: &Task<T>,
        effect: &str,
        lease: Duration,
    ) -> Result<Begun<D>, InboxError> {
        let (attempt, table) = (self.attempt(task).await, &self.settings.table);
        // Empty is the one of the caller's transaction.
        let effect = if effect.is_empty() { "effect" } else { effect };
        let entry = attempt.entry(&self.settings.group, effect);
        let token = Uuid::now_v7().to_string();
        let is_first = loop {
            let state = D::state(&self.pool, table, &entry).await;
            let before = match state.map_err(|error| self.failed(error))? {
                State::Done => {
                    self.settings.series.seen();
                    return Ok(Begun::Done);
                }
                State::New => None,
                State::Held { token, for_seconds } if for_seconds <= 0.0 => Some(token),
                State::Held { for_seconds, .. } => {
                    let left = Duration::try_from_secs_f64(for_seconds).unwrap_or(LOOK_EVERY);
                    tokio::time::sleep(left.clamp(LOOK_AGAIN, LOOK_EVERY)).await;
                    continue;
                }
            };
            let taken =
                D::take_effect(&self.pool, table, &entry, before.as_deref(), &token, lease).await;
            if taken.map_err(|error| self.failed(error))? {
                break before.is_none();
            }
        };
        let effect = Effect {
            inbox: self.clone(),
            entry,
            token,
        };
        if let Err(late) = self.admit(&attempt) {
            // What it took over may have been made: its entry stays, and its lease ends soon.
            if is_first {
                effect.release().await?;
            }
            return Err(late);
        }
        self.settings.series.first();
        Ok(match is_first {
            true => Begun::First(effect),
            false => Begun::TakenOver(effect),
        })
    }
}

impl<D: Database> Effect<D> {
    /// The effect was made. Other attempts of the record are [`Begun::Done`] from now on.
    ///
    /// # Errors
    /// [`InboxError::LeaseLost`] where another attempt has taken it over, and may have made it as well.
    /// What the database answers: the effect was made then, and may be made again.
    pub async fn complete(self) -> Result<(), InboxError> {
        let (inbox, table) = (&self.inbox, &self.inbox.settings.table);
        let completed = D::complete(&inbox.pool, table, &self.entry, &self.token).await;
        match completed.map_err(|error| inbox.failed(error))? {
            true => Ok(()),
            false => Err(InboxError::LeaseLost {
                effect: self.entry.effect,
            }),
        }
    }

    /// The effect was not made, for certain: another attempt need not wait for the end of the lease.
    ///
    /// # Errors
    /// What the database answers.
    pub async fn release(self) -> Result<(), InboxError> {
        let (inbox, table) = (&self.inbox, &self.inbox.settings.table);
        let released = D::give_up(&inbox.pool, table, &self.entry, &self.token).await;
        released.map_err(|error| inbox.failed(error))
    }
}
