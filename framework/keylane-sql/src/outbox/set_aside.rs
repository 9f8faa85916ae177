//! What operators do with rows that cannot be sent.

use std::time::Duration;

use super::error::OutboxError;
use super::row::OutboxId;
use super::table::Outbox;
use crate::database::Database;

/// A row that cannot be sent, and why. It stays in the table until [`Outbox::retry`] or
/// [`Outbox::discard`]. By default later rows of its key wait behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SetAsideRow {
    /// Its id.
    pub id: OutboxId,
    /// Where it was to go.
    pub topic: String,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// The bytes of its value; `None` for a tombstone.
    pub payload_bytes: Option<u64>,
    /// Why it cannot be sent.
    pub reason: String,
    /// Since when it has been set aside, by the database's clock.
    pub since: Duration,
}

impl<D: Database> Outbox<D> {
    /// Rows that cannot be sent, the oldest first, at most so many.
    ///
    /// # Errors
    /// [`OutboxError::Database`].
    pub async fn set_aside(&self, most: u32) -> Result<Vec<SetAsideRow>, OutboxError> {
        let listed = D::list_set_aside(self.pool(), self.table_name(), most).await;
        listed.map_err(|error| self.database(error))
    }

    /// Sends a row that was set aside, once more: for example after the topic's limit was raised. It keeps
    /// its place before later rows of its key that waited. Returns whether there was such a row.
    ///
    /// # Errors
    /// [`OutboxError::Database`].
    pub async fn retry(&self, id: OutboxId) -> Result<bool, OutboxError> {
        let found = D::retry(self.pool(), self.table_name(), id.0).await;
        let found = found.map_err(|error| self.database(error))?;
        self.wake();
        Ok(found)
    }

    /// Deletes a row that was set aside: **its task is given up**. The reason is logged with its id. Later
    /// rows of its key go on. Returns whether there was such a row.
    ///
    /// # Errors
    /// [`OutboxError::Database`].
    pub async fn discard(&self, id: OutboxId, why: &str) -> Result<bool, OutboxError> {
        let found = D::discard(self.pool(), self.table_name(), id.0).await;
        let found = found.map_err(|error| self.database(error))?;
        if found {
            tracing::warn!(outbox = %self.table_name(), %id, why, "a row of the outbox was discarded");
        }
        self.wake();
        Ok(found)
    }
}
