//! What both databases offer the outbox. Every time is of the database's clock.

use std::time::Duration;

use keylane_core::outbox::{Bucket, Holder};
use sqlx::{Pool, Result, Transaction};
use uuid::Uuid;

use super::row::{NewRow, StoredRow};
use super::set_aside::SetAsideRow;
use crate::database::TableName;

/// The version of the tables.
pub(crate) const VERSION: i32 = 1;

/// What is the same for all that use the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    pub(crate) version: i32,
    pub(crate) buckets: u32,
    /// Of this table in this database: another one of its name has another.
    pub(crate) instance: Uuid,
}

/// A bucket that a relay holds. Each taking has a higher token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub(crate) relay: String,
    pub(crate) bucket: Bucket,
    pub(crate) token: i64,
}

/// Which row. After a fail-over to a replica that was behind, or a restore, a new row may have the
/// number of one that was published: so a row is named by both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowName {
    pub(crate) seq: i64,
    pub(crate) id: Uuid,
}

/// The relays and their buckets, after this relay has renewed its leases.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// How many are alive, and which of them this one is.
    pub(crate) relays: usize,
    pub(crate) rank: usize,
    /// Each bucket, who holds it, and the token.
    pub(crate) buckets: Vec<(Bucket, Holder, i64)>,
}

impl View {
    /// From the names of the relays that are alive, in order, and each bucket with its holder (where the
    /// lease has not expired) and its token.
    pub(super) fn new(
        relay: &str,
        alive: &[String],
        buckets: Vec<(i32, Option<String>, i64)>,
    ) -> Self {
        let holder = |holder: Option<String>| match holder {
            None => Holder::None,
            Some(name) if name == relay => Holder::This,
            Some(_) => Holder::Other,
        };
        let buckets = buckets.into_iter().filter_map(|(bucket, name, token)| {
            let bucket = Bucket::try_from(bucket).ok()?;
            Some((bucket, holder(name), token))
        });
        Self {
            relays: alive.len(),
            rank: alive.iter().position(|it| it == relay).unwrap_or_default(),
            buckets: buckets.collect(),
        }
    }
}

/// Which rows to read.
#[derive(Clone, Debug)]
pub struct Reading {
    pub(crate) bucket: Bucket,
    pub(crate) rows: u32,
    /// Of keys, values and headers together; the first row may exceed it.
    pub(crate) bytes: u64,
    /// Topics whose rows are left alone.
    pub(crate) except: Vec<String>,
    /// Leaves out rows of a key behind one that is set aside.
    pub(crate) holds_keys: bool,
}

/// How the table stands.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Rows that wait, up to [`MOST_COUNTED`].
    pub(crate) unsent: i64,
    pub(crate) oldest_unsent: Duration,
    pub(crate) set_aside: i64,
}

/// Counting costs as much as there is to count.
pub(crate) const MOST_COUNTED: i64 = 1_000_000;

/// The statements of one database.
pub trait Store: sqlx::Database {
    /// What makes the tables.
    fn schema(table: &TableName, buckets: u32) -> String;

    /// Makes the tables where they are missing. Several may do so at once.
    fn migrate(
        pool: &Pool<Self>,
        table: &TableName,
        buckets: u32,
    ) -> impl Future<Output = Result<()>> + Send;

    /// `None` where the tables are missing.
    fn meta(
        connection: &mut Self::Connection,
        table: &TableName,
    ) -> impl Future<Output = Result<Option<Meta>>> + Send;

    /// Waits until no other transaction has the lock, and keeps it until this one ends.
    fn lock(
        transaction: &mut Transaction<'_, Self>,
        lock: i64,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Writes a row, and wakes relays at the commit where `notifies`.
    fn insert(
        transaction: &mut Transaction<'_, Self>,
        table: &TableName,
        row: NewRow,
        notifies: bool,
    ) -> impl Future<Output = Result<()>> + Send;

    /// The relay is alive for `lease` from now on, with all buckets that it holds.
    fn renew(
        pool: &Pool<Self>,
        table: &TableName,
        relay: &str,
        lease: Duration,
    ) -> impl Future<Output = Result<View>> + Send;

    /// The token, or `None` where another relay holds the bucket.
    fn take(
        pool: &Pool<Self>,
        table: &TableName,
        relay: &str,
        bucket: Bucket,
        lease: Duration,
    ) -> impl Future<Output = Result<Option<i64>>> + Send;

    /// Whether the lease is still held.
    fn holds(
        pool: &Pool<Self>,
        table: &TableName,
        lease: &Lease,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// Gives the bucket up, unless another relay has taken it.
    fn release(
        pool: &Pool<Self>,
        table: &TableName,
        lease: &Lease,
    ) -> impl Future<Output = Result<()>> + Send;

    /// The relay has ended, and holds nothing.
    fn leave(
        pool: &Pool<Self>,
        table: &TableName,
        relay: &str,
    ) -> impl Future<Output = Result<()>> + Send;

    /// The next rows, in order.
    fn read(
        pool: &Pool<Self>,
        table: &TableName,
        reading: &Reading,
    ) -> impl Future<Output = Result<Vec<StoredRow>>> + Send;

    /// These rows are published: they are deleted, or marked where `keeps`.
    fn sent(
        pool: &Pool<Self>,
        table: &TableName,
        rows: &[RowName],
        keeps: bool,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Deletes rows that were marked as sent for longer than this: up to 1,000 of them. Returns how many.
    fn clean(
        pool: &Pool<Self>,
        table: &TableName,
        after: Duration,
    ) -> impl Future<Output = Result<u64>> + Send;

    /// Sets a row aside, if the lease is still held. Returns whether it did.
    fn set_aside(
        pool: &Pool<Self>,
        table: &TableName,
        lease: &Lease,
        row: RowName,
        reason: &str,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// How the table stands.
    fn figures(
        pool: &Pool<Self>,
        table: &TableName,
    ) -> impl Future<Output = Result<Figures>> + Send;

    /// Rows that are set aside, from the oldest on.
    fn list_set_aside(
        pool: &Pool<Self>,
        table: &TableName,
        most: u32,
    ) -> impl Future<Output = Result<Vec<SetAsideRow>>> + Send;

    /// A row that is set aside waits to be sent again. Returns whether there was one.
    fn retry(
        pool: &Pool<Self>,
        table: &TableName,
        id: Uuid,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// Deletes a row that is set aside. Returns whether there was one.
    fn discard(
        pool: &Pool<Self>,
        table: &TableName,
        id: Uuid,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// Runs as long as the connection does, and calls this for the bucket of each notification; for
    /// `None` where any bucket may have new rows. A database without notifications waits for ever.
    fn listen(
        pool: &Pool<Self>,
        table: &TableName,
        wake: impl Fn(Option<Bucket>) + Send,
    ) -> impl Future<Output = Result<()>> + Send;
}
