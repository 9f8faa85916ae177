//! Why an outbox refuses.

use keylane::error::EnqueueError;

use crate::database::TableNameError;

/// What went wrong with the table, or with a task for it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutboxError {
    /// The task cannot be written to any topic. The transaction is as it was.
    #[error("the task cannot be enqueued: {0}")]
    Task(#[from] EnqueueError),
    /// The name of the table.
    #[error(transparent)]
    Table(#[from] TableNameError),
    /// A setting out of its range.
    #[error("invalid {setting}: {reason}")]
    Invalid {
        /// The method.
        setting: &'static str,
        /// What is wrong, and what is allowed.
        reason: String,
    },
    /// The tables are not there.
    #[error(
        "the outbox {table} is not in this database; call `migrate` first, or run what `schema` prints"
    )]
    NotMigrated {
        /// The table.
        table: String,
    },
    /// The tables were made by a newer keylane.
    #[error(
        "the outbox {table} has version {version} of its tables, this keylane knows {known}; update it"
    )]
    Newer {
        /// The table.
        table: String,
        /// In the database.
        version: i32,
        /// Known here.
        known: i32,
    },
    /// The table has another number of buckets, which cannot change while it has rows.
    #[error(
        "the outbox {table} has {stored} buckets, not {wanted}; use {stored}, or another table for {wanted}"
    )]
    Buckets {
        /// The table.
        table: String,
        /// In the database.
        stored: u32,
        /// What was asked for.
        wanted: u32,
    },
    /// The database refused a statement, or cannot be reached.
    #[error("the outbox {table}: {source}")]
    Database {
        /// The table.
        table: String,
        /// sqlx's error.
        source: sqlx::Error,
    },
}
