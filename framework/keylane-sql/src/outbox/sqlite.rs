//! The statements of SQLite. Times are seconds since 1970. Nothing waits here for another transaction
//! longer than the pool's `busy_timeout`.

use std::time::{Duration, Instant};

use keylane_core::outbox::Bucket;
use sqlx::sqlite::SqliteRow;
use sqlx::{Executor, Result, Row, Sqlite, SqliteConnection, SqlitePool, Transaction};
use uuid::Uuid;

use super::row::{NewRow, OutboxId, StoredRow};
use super::set_aside::SetAsideRow;
use super::store::{Figures, Lease, MOST_COUNTED, Meta, Reading, RowName, Store, VERSION, View};
use crate::database::TableName;

const NOW: &str = "unixepoch('subsec')";

impl Store for Sqlite {
    fn schema(table: &TableName, buckets: u32) -> String {
        let (rows, meta) = (table.quoted(), table.with("_meta"));
        let (leases, relays) = (table.with("_buckets"), table.with("_relays"));
        let [unsent, aside, sent] = ["_unsent", "_aside", "_sent"].map(|suffix| table.with(suffix));
        let name = table.name();
        format!(
            "create table if not exists {rows} (
    -- The order of publishing.
    seq integer primary key autoincrement,
    id text not null unique,
    -- The topic and the key. These are the names of Debezium's outbox router.
    aggregatetype text not null,
    aggregateid blob,
    type text not null default 'task',
    payload blob,
    headers text not null default '[]',
    kafka_partition integer,
    bucket integer not null,
    created_at real not null default ({NOW}),
    sent_at real,
    set_aside_at real,
    reason text
);
create index if not exists {unsent} on \"{name}\" (bucket, seq) where sent_at is null and set_aside_at is null;
create index if not exists {aside} on \"{name}\" (bucket, aggregateid) where set_aside_at is not null;
create index if not exists {sent} on \"{name}\" (sent_at) where sent_at is not null;
create table if not exists {meta} (
    one integer primary key check (one = 1),
    version integer not null,
    buckets integer not null,
    instance text not null
);
create table if not exists {leases} (
    bucket integer primary key,
    relay text,
    token integer not null default 0,
    expires_at real not null default 0
);
create table if not exists {relays} (
    relay text primary key,
    expires_at real not null
);
insert into {meta} (one, version, buckets, instance) values (1, {VERSION}, {buckets}, lower(hex(randomblob(16))))
    on conflict do nothing;
with recursive numbers (n) as (select 0 union all select n + 1 from numbers, {meta} where n + 1 < buckets)
    insert into {leases} (bucket) select n from numbers where true on conflict do nothing;
"
        )
    }

    async fn migrate(pool: &SqlitePool, table: &TableName, buckets: u32) -> Result<()> {
        let schema = Self::schema(table, buckets);
        let mut transaction = pool.begin().await?;
        transaction.execute(&*schema).await?;
        transaction.commit().await
    }

    async fn meta(connection: &mut SqliteConnection, table: &TableName) -> Result<Option<Meta>> {
        let sql = format!(
            "select count(*) from {} where type = 'table' and name = $1",
            table.sqlite_schema()
        );
        let tables: i64 = sqlx::query_scalar(&sql)
            .bind(format!("{}_meta", table.name()))
            .fetch_one(&mut *connection)
            .await?;
        if tables == 0 {
            return Ok(None);
        }
        let meta = table.with("_meta");
        let sql = format!("select version, buckets, instance from {meta}");
        let row = sqlx::query(&sql).fetch_optional(&mut *connection).await?;
        row.map(|row| {
            Ok(Meta {
                version: row.try_get("version")?,
                buckets: row.try_get::<i32, _>("buckets")?.cast_unsigned(),
                instance: uuid(&row, "instance")?,
            })
        })
        .transpose()
    }

    /// One transaction writes at a time: there is no other order than that of the commits.
    async fn lock(_: &mut Transaction<'_, Self>, _: i64) -> Result<()> {
        Ok(())
    }

    async fn insert(
        transaction: &mut Transaction<'_, Self>,
        table: &TableName,
        row: NewRow,
        _: bool,
    ) -> Result<()> {
        let rows = table.quoted();
        let sql = format!(
            "insert into {rows} (id, bucket, aggregatetype, aggregateid, payload, headers, kafka_partition)
             values ($1, $2, $3, $4, $5, $6, $7)"
        );
        let query = sqlx::query(&sql)
            .bind(row.id.to_string())
            .bind(row.bucket)
            .bind(row.topic)
            .bind(row.key)
            .bind(row.payload)
            .bind(row.headers)
            .bind(row.partition);
        query.execute(&mut **transaction).await.map(drop)
    }

    async fn renew(
        pool: &SqlitePool,
        table: &TableName,
        relay: &str,
        lease: Duration,
    ) -> Result<View> {
        let (leases, relays) = (table.with("_buckets"), table.with("_relays"));
        // Each statement alone: a relay that is stopped in the middle must not keep the lock of writers.
        let alive = format!(
            "insert into {relays} (relay, expires_at) values ($1, {NOW} + $2)
             on conflict (relay) do update set expires_at = excluded.expires_at"
        );
        let renewed = format!("update {leases} set expires_at = {NOW} + $2 where relay = $1");
        for sql in [alive, renewed] {
            let query = sqlx::query(&sql).bind(relay).bind(lease.as_secs_f64());
            query.execute(pool).await?;
        }
        // Of relays that were killed.
        let sql = format!("delete from {relays} where expires_at < {NOW} - 3600");
        sqlx::query(&sql).execute(pool).await?;
        let sql = format!("select relay from {relays} where expires_at > {NOW} order by relay");
        let alive: Vec<String> = sqlx::query_scalar(&sql).fetch_all(pool).await?;
        let sql = format!(
            "select bucket, case when expires_at > {NOW} then relay end, token from {leases} order by bucket"
        );
        let buckets = sqlx::query_as(&sql).fetch_all(pool).await?;
        Ok(View::new(relay, &alive, buckets))
    }

    async fn take(
        pool: &SqlitePool,
        table: &TableName,
        relay: &str,
        bucket: Bucket,
        lease: Duration,
    ) -> Result<Option<i64>> {
        let leases = table.with("_buckets");
        let sql = format!(
            "update {leases} set relay = $1, token = token + 1, expires_at = {NOW} + $2
             where bucket = $3 and (relay is null or relay = $1 or expires_at <= {NOW}) returning token"
        );
        let query = sqlx::query_scalar(&sql).bind(relay);
        let query = query.bind(lease.as_secs_f64()).bind(bucket);
        query.fetch_optional(pool).await
    }

    async fn holds(pool: &SqlitePool, table: &TableName, lease: &Lease) -> Result<bool> {
        let leases = table.with("_buckets");
        let sql = format!(
            "select count(*) > 0 from {leases} where bucket = $1 and relay = $2 and token = $3 and expires_at > {NOW}"
        );
        let query = sqlx::query_scalar(&sql).bind(lease.bucket);
        let query = query.bind(&lease.relay).bind(lease.token);
        query.fetch_one(pool).await
    }

    async fn release(pool: &SqlitePool, table: &TableName, lease: &Lease) -> Result<()> {
        let leases = table.with("_buckets");
        let sql = format!(
            "update {leases} set relay = null, expires_at = 0 where bucket = $1 and relay = $2 and token = $3"
        );
        let query = sqlx::query(&sql).bind(lease.bucket);
        let query = query.bind(&lease.relay).bind(lease.token);
        query.execute(pool).await.map(drop)
    }

    async fn leave(pool: &SqlitePool, table: &TableName, relay: &str) -> Result<()> {
        let (leases, relays) = (table.with("_buckets"), table.with("_relays"));
        for sql in [
            format!("update {leases} set relay = null, expires_at = 0 where relay = $1"),
            format!("delete from {relays} where relay = $1"),
        ] {
            sqlx::query(&sql).bind(relay).execute(pool).await?;
        }
        Ok(())
    }

    async fn read(
        pool: &SqlitePool,
        table: &TableName,
        reading: &Reading,
    ) -> Result<Vec<StoredRow>> {
        let rows = table.quoted();
        let held = match reading.holds_keys {
            true => format!(
                "and not exists (select 1 from {rows} as aside where aside.bucket = waiting.bucket
                     and aside.set_aside_at is not null and aside.aggregateid = waiting.aggregateid
                     and aside.aggregatetype = waiting.aggregatetype and aside.seq < waiting.seq)"
            ),
            false => String::new(),
        };
        let sql = format!(
            "select seq, id, aggregatetype, aggregateid, payload, headers, kafka_partition, age from (
                 select *, sum(bytes) over (order by seq) - bytes as before from (
                     select *, {NOW} - created_at as age,
                         coalesce(length(payload), 0) + coalesce(length(aggregateid), 0) + length(headers) as bytes
                     from {rows} as waiting
                     where bucket = $1 and sent_at is null and set_aside_at is null
                         and aggregatetype not in (select value from json_each($4)) {held}
                     order by seq limit $2
                 ) as next
             ) as counted where before < $3 or before = 0 order by seq"
        );
        let query = sqlx::query(&sql)
            .bind(reading.bucket)
            .bind(reading.rows)
            .bind(i64::try_from(reading.bytes).unwrap_or(i64::MAX))
            .bind(serde_json::json!(reading.except).to_string());
        let read = query.fetch_all(pool).await?;
        read.iter().map(stored).collect()
    }

    async fn sent(
        pool: &SqlitePool,
        table: &TableName,
        rows: &[RowName],
        keeps: bool,
    ) -> Result<()> {
        let table = table.quoted();
        let these = "where seq in (select value from json_each($1))";
        let sql = match keeps {
            true => format!("update {table} set sent_at = {NOW} {these}"),
            false => format!("delete from {table} {these}"),
        };
        // By their numbers alone: a file has no replica, and another program may write ids otherwise.
        let seqs: Vec<i64> = rows.iter().map(|row| row.seq).collect();
        let query = sqlx::query(&sql).bind(serde_json::json!(seqs).to_string());
        query.execute(pool).await.map(drop)
    }

    async fn clean(pool: &SqlitePool, table: &TableName, after: Duration) -> Result<u64> {
        let rows = table.quoted();
        let sql = format!(
            "delete from {rows} where seq in (select seq from {rows} where sent_at < {NOW} - $1 order by sent_at limit 1000)"
        );
        let query = sqlx::query(&sql).bind(after.as_secs_f64());
        Ok(query.execute(pool).await?.rows_affected())
    }

    async fn set_aside(
        pool: &SqlitePool,
        table: &TableName,
        lease: &Lease,
        row: RowName,
        reason: &str,
    ) -> Result<bool> {
        let (rows, leases) = (table.quoted(), table.with("_buckets"));
        let sql = format!(
            "update {rows} set set_aside_at = {NOW}, reason = $1
             where seq = $2 and sent_at is null and set_aside_at is null
             and exists (select 1 from {leases} as held where held.bucket = $3 and relay = $4 and token = $5)"
        );
        let query = sqlx::query(&sql)
            .bind(reason)
            .bind(row.seq)
            .bind(lease.bucket);
        let query = query.bind(&lease.relay).bind(lease.token);
        Ok(query.execute(pool).await?.rows_affected() > 0)
    }

    async fn figures(pool: &SqlitePool, table: &TableName) -> Result<Figures> {
        let (rows, leases) = (table.quoted(), table.with("_buckets"));
        let unsent = "sent_at is null and set_aside_at is null";
        let sql = format!(
            "select (select count(*) from (select 1 from {rows} where {unsent} limit {MOST_COUNTED})) as unsent,
                 (select count(*) from (select 1 from {rows} where set_aside_at is not null limit {MOST_COUNTED})) as aside,
                 coalesce((select max(age) from (select (select {NOW} - created_at from {rows} as first
                     where first.bucket = held.bucket and {unsent} order by seq limit 1) as age
                     from {leases} as held)), 0.0) as oldest"
        );
        let row = sqlx::query(&sql).fetch_one(pool).await?;
        Ok(Figures {
            unsent: row.try_get("unsent")?,
            oldest_unsent: seconds(row.try_get("oldest")?),
            set_aside: row.try_get("aside")?,
        })
    }

    async fn list_set_aside(
        pool: &SqlitePool,
        table: &TableName,
        most: u32,
    ) -> Result<Vec<SetAsideRow>> {
        let rows = table.quoted();
        let sql = format!(
            "select id, aggregatetype, aggregateid, length(payload) as bytes, reason, {NOW} - set_aside_at as since
             from {rows} where set_aside_at is not null order by seq limit $1"
        );
        let listed = sqlx::query(&sql).bind(most).fetch_all(pool).await?;
        listed
            .iter()
            .map(|row| {
                let bytes: Option<i64> = row.try_get("bytes")?;
                let reason: Option<String> = row.try_get("reason")?;
                Ok(SetAsideRow {
                    id: OutboxId(uuid(row, "id")?),
                    topic: row.try_get("aggregatetype")?,
                    key: row.try_get("aggregateid")?,
                    payload_bytes: bytes.map(i64::cast_unsigned),
                    reason: reason.unwrap_or_default(),
                    since: seconds(row.try_get("since")?),
                })
            })
            .collect()
    }

    async fn retry(pool: &SqlitePool, table: &TableName, id: Uuid) -> Result<bool> {
        let rows = table.quoted();
        let sql = format!(
            "update {rows} set set_aside_at = null, reason = null where id = $1 and set_aside_at is not null"
        );
        let done = sqlx::query(&sql).bind(id.to_string()).execute(pool).await?;
        Ok(done.rows_affected() > 0)
    }

    async fn discard(pool: &SqlitePool, table: &TableName, id: Uuid) -> Result<bool> {
        let rows = table.quoted();
        let sql = format!("delete from {rows} where id = $1 and set_aside_at is not null");
        let done = sqlx::query(&sql).bind(id.to_string()).execute(pool).await?;
        Ok(done.rows_affected() > 0)
    }

    async fn listen(
        _: &SqlitePool,
        _: &TableName,
        _: impl Fn(Option<Bucket>) + Send,
    ) -> Result<()> {
        std::future::pending().await
    }
}

fn stored(row: &SqliteRow) -> Result<StoredRow> {
    Ok(StoredRow {
        seq: row.try_get("seq")?,
        id: uuid(row, "id")?,
        topic: row.try_get("aggregatetype")?,
        key: row.try_get("aggregateid")?,
        payload: row.try_get("payload")?,
        headers: row.try_get("headers")?,
        partition: row.try_get("kafka_partition")?,
        age: seconds(row.try_get("age")?),
        read_at: Instant::now(),
    })
}

fn uuid(row: &SqliteRow, column: &str) -> Result<Uuid> {
    let text: String = row.try_get(column)?;
    Uuid::try_parse(&text).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

/// Of a clock that may have gone back.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default()
}
