//! What both databases offer the inbox. Every time is of the database's clock.

use std::time::Duration;

use keylane::subscription::CommittedLog;
use sqlx::{Pool, Result, Transaction};

use super::entry::Entry;
use crate::database::TableName;

/// The version of the tables.
pub(crate) const VERSION: i32 = 1;
/// Rows that one statement deletes.
pub(crate) const BATCH: i64 = 1_000;
/// Counting costs as much as there is to count.
pub(crate) const MOST_COUNTED: i64 = 1_000_000;

/// How an effect stands.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// No attempt has begun it.
    New,
    /// It was completed.
    Done,
    /// An attempt has it, for so long; negative where its lease has expired.
    Held { token: String, for_seconds: f64 },
}

/// The statements of one database.
pub trait InboxStore: sqlx::Database {
    /// What makes the tables.
    fn inbox_schema(table: &TableName) -> String;

    /// Makes the tables where they are missing. Several may do so at once.
    fn inbox_migrate(
        pool: &Pool<Self>,
        table: &TableName,
    ) -> impl Future<Output = Result<()>> + Send;

    /// The version of the tables; `None` where they are missing.
    fn inbox_version(
        pool: &Pool<Self>,
        table: &TableName,
    ) -> impl Future<Output = Result<Option<i32>>> + Send;

    /// Entries of the group are kept for this long at least, and for the longest time that was ever
    /// given. Returns that.
    fn keep_for(
        pool: &Pool<Self>,
        table: &TableName,
        group: &str,
        wait: Duration,
    ) -> impl Future<Output = Result<Duration>> + Send;

    /// Inserts an entry, unless there is one. Returns whether it did. Waits for another transaction
    /// that has inserted it.
    fn insert_entry(
        transaction: &mut Transaction<'_, Self>,
        table: &TableName,
        entry: &Entry,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// Inserts the id of a message for so long, unless it is there and has not expired. Returns
    /// whether it did.
    fn mark_message(
        transaction: &mut Transaction<'_, Self>,
        table: &TableName,
        group: &str,
        message_id: &str,
        ttl: Duration,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// How an effect stands.
    fn state(
        pool: &Pool<Self>,
        table: &TableName,
        entry: &Entry,
    ) -> impl Future<Output = Result<State>> + Send;

    /// Takes an effect for so long, as `before` has it. Returns whether it still was so.
    fn take_effect(
        pool: &Pool<Self>,
        table: &TableName,
        entry: &Entry,
        before: Option<&str>,
        token: &str,
        lease: Duration,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// The holder of the token has completed the effect. Returns whether it still held it.
    fn complete(
        pool: &Pool<Self>,
        table: &TableName,
        entry: &Entry,
        token: &str,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// The holder of the token has not made the effect.
    fn give_up(
        pool: &Pool<Self>,
        table: &TableName,
        entry: &Entry,
        token: &str,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Whether it is time for a round, and no other member makes it.
    fn claim_sweep(
        pool: &Pool<Self>,
        table: &TableName,
        group: &str,
        every: Duration,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// Notes the position that the brokers have. Returns the one that they have had for `wait`.
    fn note_position(
        pool: &Pool<Self>,
        table: &TableName,
        group: &str,
        at: &CommittedLog,
        wait: Duration,
    ) -> impl Future<Output = Result<Option<i64>>> + Send;

    /// Notes which log the topic has. Returns whether it has had it for `wait`.
    fn note_log(
        pool: &Pool<Self>,
        table: &TableName,
        group: &str,
        topic: &str,
        log: &str,
        wait: Duration,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// Deletes entries below a position that are older than `wait`, up to [`BATCH`]. Returns how many.
    fn sweep_below(
        pool: &Pool<Self>,
        table: &TableName,
        group: &str,
        at: &CommittedLog,
        position: i64,
        wait: Duration,
    ) -> impl Future<Output = Result<u64>> + Send;

    /// The same of entries of other logs of the topic.
    fn sweep_other_logs(
        pool: &Pool<Self>,
        table: &TableName,
        group: &str,
        topic: &str,
        log: &str,
        wait: Duration,
    ) -> impl Future<Output = Result<u64>> + Send;

    /// The same of messages that have expired.
    fn sweep_messages(
        pool: &Pool<Self>,
        table: &TableName,
        group: &str,
    ) -> impl Future<Output = Result<u64>> + Send;

    /// Entries of the group, up to [`MOST_COUNTED`].
    fn rows(
        pool: &Pool<Self>,
        table: &TableName,
        group: &str,
    ) -> impl Future<Output = Result<i64>> + Send;
}
