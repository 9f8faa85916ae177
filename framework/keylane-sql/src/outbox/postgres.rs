//! The statements of PostgreSQL. `clock_timestamp` is the time of the statement; `now` would be that of
//! its transaction's beginning.

use std::time::{Duration, Instant};

use keylane_core::outbox::Bucket;
use sqlx::postgres::{PgListener, PgPoolOptions, PgRow};
use sqlx::{Executor, PgConnection, PgPool, Postgres, Result, Row, Transaction};
use uuid::Uuid;

use super::row::{NewRow, OutboxId, StoredRow};
use super::set_aside::SetAsideRow;
use super::store::{Figures, Lease, MOST_COUNTED, Meta, Reading, RowName, Store, VERSION, View};
use crate::database::TableName;

/// "keylane" as a number: one migration at a time.
const MIGRATION_LOCK: i64 = 0x006b_6579_6c61_6e65;
const LATER: &str = "clock_timestamp() + make_interval(secs => $2)";

/// The rows of two lists, numbers and ids.
const PUBLISHED: &str = "unnest($1::bigint[], $2::uuid[]) as published (seq, id)
    where ours.seq = published.seq and ours.id = published.id";

impl Store for Postgres {
    fn schema(table: &TableName, buckets: u32) -> String {
        let (rows, meta) = (table.quoted(), table.with("_meta"));
        let (leases, relays) = (table.with("_buckets"), table.with("_relays"));
        let (unsent, aside, sent) = (
            table.index("_unsent"),
            table.index("_aside"),
            table.index("_sent"),
        );
        format!(
            "create table if not exists {rows} (
    -- The order of publishing. Its cache has to be 1.
    seq bigint generated always as identity (cache 1) primary key,
    id uuid not null unique,
    -- The topic and the key. These are the names of Debezium's outbox router.
    aggregatetype text not null,
    aggregateid bytea,
    type text not null default 'task',
    payload bytea,
    headers text not null default '[]',
    kafka_partition integer,
    bucket integer not null,
    created_at timestamptz not null default clock_timestamp(),
    sent_at timestamptz,
    set_aside_at timestamptz,
    reason text
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);
create index if not exists {unsent} on {rows} (bucket, seq) where sent_at is null and set_aside_at is null;
create index if not exists {aside} on {rows} (bucket, aggregateid) where set_aside_at is not null;
create index if not exists {sent} on {rows} (sent_at) where sent_at is not null;
create table if not exists {meta} (
    one boolean primary key default true check (one),
    version integer not null,
    buckets integer not null,
    instance uuid not null default gen_random_uuid()
);
create table if not exists {leases} (
    bucket integer primary key,
    relay text,
    token bigint not null default 0,
    expires_at timestamptz not null default clock_timestamp()
) with (fillfactor = 50);
create table if not exists {relays} (
    relay text primary key,
    expires_at timestamptz not null
) with (fillfactor = 50);
insert into {meta} (version, buckets) values ({VERSION}, {buckets}) on conflict do nothing;
insert into {leases} (bucket) select generate_series(0, buckets - 1) from {meta} on conflict do nothing;
"
        )
    }

    async fn migrate(pool: &PgPool, table: &TableName, buckets: u32) -> Result<()> {
        let mut transaction = pool.begin().await?;
        Self::lock(&mut transaction, MIGRATION_LOCK).await?;
        // Even where an index is there, its statement waits for all transactions that have written
        // into the table, and those that come after wait for it.
        if Self::meta(&mut transaction, table).await?.is_some() {
            return transaction.commit().await;
        }
        let schema = Self::schema(table, buckets);
        transaction.execute(&*schema).await?;
        transaction.commit().await
    }

    async fn meta(connection: &mut PgConnection, table: &TableName) -> Result<Option<Meta>> {
        let meta = table.with("_meta");
        // A statement that fails would end the caller's transaction.
        let is_there = sqlx::query_scalar("select to_regclass($1) is not null")
            .bind(&meta)
            .fetch_one(&mut *connection);
        if !is_there.await? {
            return Ok(None);
        }
        let sql = format!("select version, buckets, instance from {meta}");
        let row = sqlx::query(&sql).fetch_optional(&mut *connection).await?;
        row.map(|row| {
            Ok(Meta {
                version: row.try_get("version")?,
                buckets: row.try_get::<i32, _>("buckets")?.cast_unsigned(),
                instance: row.try_get("instance")?,
            })
        })
        .transpose()
    }

    async fn lock(transaction: &mut Transaction<'_, Self>, lock: i64) -> Result<()> {
        let query = sqlx::query("select pg_advisory_xact_lock($1)").bind(lock);
        query.execute(&mut **transaction).await.map(drop)
    }

    async fn insert(
        transaction: &mut Transaction<'_, Self>,
        table: &TableName,
        row: NewRow,
        notifies: bool,
    ) -> Result<()> {
        let rows = table.quoted();
        let insert = format!(
            "insert into {rows} (id, bucket, aggregatetype, aggregateid, payload, headers, kafka_partition)
             values ($1, $2, $3, $4, $5, $6, $7)"
        );
        let sql = match notifies {
            // One statement, one round trip. Equal notifications of a transaction are sent once.
            true => {
                format!(
                    "with added as ({insert} returning bucket) select pg_notify($8, bucket::text) from added"
                )
            }
            false => insert,
        };
        let mut query = sqlx::query(&sql)
            .bind(row.id)
            .bind(row.bucket.cast_signed())
            .bind(row.topic)
            .bind(row.key)
            .bind(row.payload)
            .bind(row.headers)
            .bind(row.partition);
        if notifies {
            query = query.bind(table.name());
        }
        query.execute(&mut **transaction).await.map(drop)
    }

    async fn renew(pool: &PgPool, table: &TableName, relay: &str, lease: Duration) -> Result<View> {
        let (leases, relays) = (table.with("_buckets"), table.with("_relays"));
        // Each statement alone: a relay that is stopped in the middle must not keep locks of rows.
        let alive = format!(
            "insert into {relays} (relay, expires_at) values ($1, {LATER})
             on conflict (relay) do update set expires_at = excluded.expires_at"
        );
        let renewed = format!("update {leases} set expires_at = {LATER} where relay = $1");
        for sql in [alive, renewed] {
            let query = sqlx::query(&sql).bind(relay).bind(lease.as_secs_f64());
            query.execute(pool).await?;
        }
        // Of relays that were killed.
        let sql = format!(
            "delete from {relays} where expires_at < clock_timestamp() - interval '1 hour'"
        );
        sqlx::query(&sql).execute(pool).await?;
        let sql = format!(
            "select relay from {relays} where expires_at > clock_timestamp() order by relay"
        );
        let alive: Vec<String> = sqlx::query_scalar(&sql).fetch_all(pool).await?;
        let sql = format!(
            "select bucket, case when expires_at > clock_timestamp() then relay end, token from {leases} order by bucket"
        );
        let buckets = sqlx::query_as(&sql).fetch_all(pool).await?;
        Ok(View::new(relay, &alive, buckets))
    }

    async fn take(
        pool: &PgPool,
        table: &TableName,
        relay: &str,
        bucket: Bucket,
        lease: Duration,
    ) -> Result<Option<i64>> {
        let leases = table.with("_buckets");
        let sql = format!(
            "update {leases} set relay = $1, token = token + 1, expires_at = {LATER}
             where bucket = (select bucket from {leases} where bucket = $3
                 and (relay is null or relay = $1 or expires_at <= clock_timestamp()) for update skip locked)
             returning token"
        );
        let query = sqlx::query_scalar(&sql).bind(relay);
        let query = query.bind(lease.as_secs_f64()).bind(bucket.cast_signed());
        query.fetch_optional(pool).await
    }

    async fn holds(pool: &PgPool, table: &TableName, lease: &Lease) -> Result<bool> {
        let leases = table.with("_buckets");
        let sql = format!(
            "select count(*) > 0 from {leases}
             where bucket = $1 and relay = $2 and token = $3 and expires_at > clock_timestamp()"
        );
        let query = sqlx::query_scalar(&sql).bind(lease.bucket.cast_signed());
        let query = query.bind(&lease.relay).bind(lease.token);
        query.fetch_one(pool).await
    }

    async fn release(pool: &PgPool, table: &TableName, lease: &Lease) -> Result<()> {
        let leases = table.with("_buckets");
        let sql = format!(
            "update {leases} set relay = null, expires_at = clock_timestamp()
             where bucket = $1 and relay = $2 and token = $3"
        );
        let query = sqlx::query(&sql).bind(lease.bucket.cast_signed());
        let query = query.bind(&lease.relay).bind(lease.token);
        query.execute(pool).await.map(drop)
    }

    async fn leave(pool: &PgPool, table: &TableName, relay: &str) -> Result<()> {
        let (leases, relays) = (table.with("_buckets"), table.with("_relays"));
        for sql in [
            format!(
                "update {leases} set relay = null, expires_at = clock_timestamp() where relay = $1"
            ),
            format!("delete from {relays} where relay = $1"),
        ] {
            sqlx::query(&sql).bind(relay).execute(pool).await?;
        }
        Ok(())
    }

    async fn read(pool: &PgPool, table: &TableName, reading: &Reading) -> Result<Vec<StoredRow>> {
        let rows = table.quoted();
        let held = match reading.holds_keys {
            true => format!(
                "and not exists (select from {rows} as aside where aside.bucket = rows.bucket
                     and aside.set_aside_at is not null and aside.aggregateid = rows.aggregateid
                     and aside.aggregatetype = rows.aggregatetype and aside.seq < rows.seq)"
            ),
            false => String::new(),
        };
        let sql = format!(
            "select seq, id, aggregatetype, aggregateid, payload, headers, kafka_partition, age from (
                 select *, sum(bytes) over (order by seq) - bytes as before from (
                     select *, extract(epoch from clock_timestamp() - created_at)::float8 as age,
                         (coalesce(octet_length(payload), 0) + coalesce(octet_length(aggregateid), 0)
                         + octet_length(headers))::bigint as bytes
                     from {rows} as rows
                     where bucket = $1 and sent_at is null and set_aside_at is null
                         and aggregatetype <> all($4) {held}
                     order by seq limit $2
                 ) as next
             ) as counted where before < $3 or before = 0 order by seq"
        );
        let query = sqlx::query(&sql)
            .bind(reading.bucket.cast_signed())
            .bind(i64::from(reading.rows))
            .bind(i64::try_from(reading.bytes).unwrap_or(i64::MAX))
            .bind(&reading.except);
        let read = query.fetch_all(pool).await?;
        read.into_iter().map(stored).collect()
    }

    async fn sent(pool: &PgPool, table: &TableName, rows: &[RowName], keeps: bool) -> Result<()> {
        let table = table.quoted();
        let sql = match keeps {
            true => {
                format!("update {table} as ours set sent_at = clock_timestamp() from {PUBLISHED}")
            }
            false => format!("delete from {table} as ours using {PUBLISHED}"),
        };
        let seqs: Vec<i64> = rows.iter().map(|row| row.seq).collect();
        let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
        let query = sqlx::query(&sql).bind(seqs).bind(ids);
        query.execute(pool).await.map(drop)
    }

    async fn clean(pool: &PgPool, table: &TableName, after: Duration) -> Result<u64> {
        let rows = table.quoted();
        let sql = format!(
            "delete from {rows} where seq in (select seq from {rows}
             where sent_at < clock_timestamp() - make_interval(secs => $1) order by sent_at limit 1000)"
        );
        let query = sqlx::query(&sql).bind(after.as_secs_f64());
        Ok(query.execute(pool).await?.rows_affected())
    }

    async fn set_aside(
        pool: &PgPool,
        table: &TableName,
        lease: &Lease,
        row: RowName,
        reason: &str,
    ) -> Result<bool> {
        let (rows, leases) = (table.quoted(), table.with("_buckets"));
        let sql = format!(
            "update {rows} set set_aside_at = clock_timestamp(), reason = $1
             where seq = $2 and id = $6 and sent_at is null and set_aside_at is null
             and exists (select from {leases} where bucket = $3 and relay = $4 and token = $5)"
        );
        let query = sqlx::query(&sql).bind(reason).bind(row.seq);
        let query = query.bind(lease.bucket.cast_signed()).bind(&lease.relay);
        let query = query.bind(lease.token).bind(row.id);
        Ok(query.execute(pool).await?.rows_affected() > 0)
    }

    async fn figures(pool: &PgPool, table: &TableName) -> Result<Figures> {
        let (rows, leases) = (table.quoted(), table.with("_buckets"));
        let unsent = "sent_at is null and set_aside_at is null";
        // The oldest of each bucket is the first of its index.
        let sql = format!(
            "select (select count(*) from (select from {rows} where {unsent} limit {MOST_COUNTED}) as u) as unsent,
                 (select count(*) from (select from {rows} where set_aside_at is not null limit {MOST_COUNTED}) as a)
                     as aside,
                 coalesce((select max(extract(epoch from clock_timestamp() - created_at))::float8 from {leases} as b,
                     lateral (select created_at from {rows} where bucket = b.bucket and {unsent} order by seq limit 1)
                     as first), 0) as oldest"
        );
        let row = sqlx::query(&sql).fetch_one(pool).await?;
        Ok(Figures {
            unsent: row.try_get("unsent")?,
            oldest_unsent: seconds(row.try_get("oldest")?),
            set_aside: row.try_get("aside")?,
        })
    }

    async fn list_set_aside(
        pool: &PgPool,
        table: &TableName,
        most: u32,
    ) -> Result<Vec<SetAsideRow>> {
        let rows = table.quoted();
        let sql = format!(
            "select id, aggregatetype, aggregateid, octet_length(payload)::bigint as bytes, reason,
                 extract(epoch from clock_timestamp() - set_aside_at)::float8 as since
             from {rows} where set_aside_at is not null order by seq limit $1"
        );
        let listed = sqlx::query(&sql)
            .bind(i64::from(most))
            .fetch_all(pool)
            .await?;
        listed
            .into_iter()
            .map(|row| {
                let bytes: Option<i64> = row.try_get("bytes")?;
                let reason: Option<String> = row.try_get("reason")?;
                Ok(SetAsideRow {
                    id: OutboxId(row.try_get("id")?),
                    topic: row.try_get("aggregatetype")?,
                    key: row.try_get("aggregateid")?,
                    payload_bytes: bytes.map(i64::cast_unsigned),
                    reason: reason.unwrap_or_default(),
                    since: seconds(row.try_get("since")?),
                })
            })
            .collect()
    }

    async fn retry(pool: &PgPool, table: &TableName, id: Uuid) -> Result<bool> {
        let rows = table.quoted();
        let sql = format!(
            "update {rows} set set_aside_at = null, reason = null where id = $1 and set_aside_at is not null"
        );
        let done = sqlx::query(&sql).bind(id).execute(pool).await?;
        Ok(done.rows_affected() > 0)
    }

    async fn discard(pool: &PgPool, table: &TableName, id: Uuid) -> Result<bool> {
        let rows = table.quoted();
        let sql = format!("delete from {rows} where id = $1 and set_aside_at is not null");
        let done = sqlx::query(&sql).bind(id).execute(pool).await?;
        Ok(done.rows_affected() > 0)
    }

    async fn listen(
        pool: &PgPool,
        table: &TableName,
        wake: impl Fn(Option<Bucket>) + Send,
    ) -> Result<()> {
        // A connection of its own: those of the pool are the service's.
        let options = PgPoolOptions::new().max_connections(1);
        let own = options.connect_lazy_with((*pool.connect_options()).clone());
        let mut listener = PgListener::connect_with(&own).await?;
        listener.listen(table.name()).await?;
        // What was committed before.
        wake(None);
        loop {
            match listener.try_recv().await? {
                Some(notification) => wake(notification.payload().parse().ok()),
                // The connection was lost and is there again; notifications may have been missed.
                None => wake(None),
            }
        }
    }
}

fn stored(row: PgRow) -> Result<StoredRow> {
    Ok(StoredRow {
        seq: row.try_get("seq")?,
        id: row.try_get("id")?,
        topic: row.try_get("aggregatetype")?,
        key: row.try_get("aggregateid")?,
        payload: row.try_get("payload")?,
        headers: row.try_get("headers")?,
        partition: row.try_get("kafka_partition")?,
        age: seconds(row.try_get("age")?),
        read_at: Instant::now(),
    })
}

/// Of a clock that may have gone back.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default()
}
