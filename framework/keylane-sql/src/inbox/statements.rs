//! The statements. Both databases have the same, but for the clock. Times are seconds since 1970.

use std::time::Duration;

use keylane::subscription::CommittedLog;
use sqlx::{Executor, Pool, Result, Row, Transaction};

use super::entry::{Entry, log_name};
use super::store::{BATCH, InboxStore, MOST_COUNTED, State, VERSION};
use crate::database::TableName;

/// Positions of a partition that are noted within `wait`. More of them let entries go sooner.
const NOTES_PER_WAIT: f64 = 4.0;
/// Of a note about the topic and not about a partition.
const WHOLE_TOPIC: i32 = -1;

const KEY: &str = "grp, topic, kafka_partition, log, record_offset, leader_epoch, effect";
const IS_MARK: &str = "grp = $1 and topic = $2 and kafka_partition = $3 and log = $4 and record_offset = $5 \
                       and leader_epoch = $6 and effect = $7";
const IS_PLACE: &str = "grp = $1 and topic = $2 and kafka_partition = $3 and log = $4";

fn schema(table: &TableName, suffix: &str) -> String {
    let (entries, meta) = (table.quoted(), table.with("_groups"));
    let (messages, positions) = (table.with("_messages"), table.with("_positions"));
    format!(
        "create table if not exists {entries} (
    grp text not null,
    topic text not null,
    kafka_partition integer not null,
    -- 64 bits of the topic's id; empty where it is not known.
    log text not null,
    record_offset bigint not null,
    leader_epoch integer not null,
    effect text not null default '',
    marked_at double precision not null,
    -- Of an effect that is under way.
    lease_until double precision,
    token text,
    primary key ({KEY})
){suffix};
create table if not exists {messages} (
    grp text not null,
    message_id text not null,
    expires_at double precision not null,
    primary key (grp, message_id)
){suffix};
create table if not exists {positions} (
    grp text not null,
    topic text not null,
    kafka_partition integer not null,
    log text not null,
    record_offset bigint not null,
    seen_at double precision not null,
    primary key (grp, topic, kafka_partition, log, record_offset)
){suffix};
create table if not exists {meta} (
    grp text primary key,
    version integer not null default {VERSION},
    wait_seconds double precision not null,
    swept_at double precision not null default 0
);
"
    )
}

macro_rules! statements {
    ($database:ty, $now:literal, $suffix:literal, $migrate:expr, $exists:expr) => {
        impl InboxStore for $database {
            fn inbox_schema(table: &TableName) -> String {
                schema(table, $suffix)
            }

            async fn inbox_migrate(pool: &Pool<Self>, table: &TableName) -> Result<()> {
                let schema = schema(table, $suffix);
                let mut transaction = pool.begin().await?;
                if let Some(lock) = $migrate {
                    let lock: &str = lock;
                    transaction.execute(lock).await?;
                }
                transaction.execute(&*schema).await?;
                transaction.commit().await
            }

            async fn inbox_version(pool: &Pool<Self>, table: &TableName) -> Result<Option<i32>> {
                let exists: fn(&TableName) -> (String, String) = $exists;
                let (sql, name) = exists(table);
                let query = sqlx::query_scalar::<_, bool>(&sql).bind(name);
                if !query.fetch_one(pool).await? {
                    return Ok(None);
                }
                let meta = table.with("_groups");
                let sql = format!("select coalesce(max(version), {VERSION}) from {meta}");
                sqlx::query_scalar(&sql).fetch_one(pool).await.map(Some)
            }

            async fn keep_for(
                pool: &Pool<Self>,
                table: &TableName,
                group: &str,
                wait: Duration,
            ) -> Result<Duration> {
                let meta = table.with("_groups");
                let sql = format!(
                    "insert into {meta} as it (grp, wait_seconds) values ($1, $2)
                     on conflict (grp) do update set wait_seconds =
                       case when it.wait_seconds < excluded.wait_seconds then excluded.wait_seconds else it.wait_seconds end
                     returning wait_seconds"
                );
                let query = sqlx::query_scalar::<_, f64>(&sql);
                let query = query.bind(group).bind(wait.as_secs_f64());
                let seconds = query.fetch_one(pool).await?;
                Ok(Duration::try_from_secs_f64(seconds).unwrap_or(wait).max(wait))
            }

            async fn insert_entry(
                transaction: &mut Transaction<'_, Self>,
                table: &TableName,
                entry: &Entry,
            ) -> Result<bool> {
                let entries = table.quoted();
                let sql = format!(
                    "insert into {entries} ({KEY}, marked_at) values ($1, $2, $3, $4, $5, $6, $7, {})
                     on conflict do nothing",
                    $now
                );
                let query = sqlx::query(&sql)
                    .bind(&entry.group)
                    .bind(&entry.topic)
                    .bind(entry.partition)
                    .bind(&entry.log)
                    .bind(entry.offset)
                    .bind(entry.leader_epoch)
                    .bind(&entry.effect);
                Ok(query.execute(&mut **transaction).await?.rows_affected() > 0)
            }

            async fn mark_message(
                transaction: &mut Transaction<'_, Self>,
                table: &TableName,
                group: &str,
                message_id: &str,
                ttl: Duration,
            ) -> Result<bool> {
                let messages = table.with("_messages");
                let sql = format!(
                    "insert into {messages} as it (grp, message_id, expires_at) values ($1, $2, {now} + $3)
                     on conflict (grp, message_id) do update set expires_at = excluded.expires_at
                     where it.expires_at <= {now}",
                    now = $now
                );
                let query = sqlx::query(&sql).bind(group).bind(message_id);
                let query = query.bind(ttl.as_secs_f64());
                Ok(query.execute(&mut **transaction).await?.rows_affected() > 0)
            }

            async fn state(pool: &Pool<Self>, table: &TableName, entry: &Entry) -> Result<State> {
                let entries = table.quoted();
                let sql = format!("select token, lease_until - {} from {entries} where {IS_MARK}", $now);
                let query = sqlx::query(&sql)
                    .bind(&entry.group)
                    .bind(&entry.topic)
                    .bind(entry.partition)
                    .bind(&entry.log)
                    .bind(entry.offset)
                    .bind(entry.leader_epoch)
                    .bind(&entry.effect);
                let Some(row) = query.fetch_optional(pool).await? else {
                    return Ok(State::New);
                };
                let token: Option<String> = row.try_get(0)?;
                let for_seconds: Option<f64> = row.try_get(1)?;
                Ok(match (token, for_seconds) {
                    (Some(token), Some(for_seconds)) => State::Held { token, for_seconds },
                    _ => State::Done,
                })
            }

            async fn take_effect(
                pool: &Pool<Self>,
                table: &TableName,
                entry: &Entry,
                before: Option<&str>,
                token: &str,
                lease: Duration,
            ) -> Result<bool> {
                let entries = table.quoted();
                let sql = match before {
                    None => format!(
                        "insert into {entries} ({KEY}, token, lease_until, marked_at)
                         values ($1, $2, $3, $4, $5, $6, $7, $8, {now} + $9, {now}) on conflict do nothing",
                        now = $now
                    ),
                    Some(_) => format!(
                        "update {entries} set token = $8, lease_until = {now} + $9, marked_at = {now}
                         where {IS_MARK} and token = $10 and lease_until <= {now}",
                        now = $now
                    ),
                };
                let query = sqlx::query(&sql)
                    .bind(&entry.group)
                    .bind(&entry.topic)
                    .bind(entry.partition)
                    .bind(&entry.log)
                    .bind(entry.offset)
                    .bind(entry.leader_epoch)
                    .bind(&entry.effect)
                    .bind(token)
                    .bind(lease.as_secs_f64());
                let query = match before {
                    Some(before) => query.bind(before),
                    None => query,
                };
                Ok(query.execute(pool).await?.rows_affected() > 0)
            }

            async fn complete(
                pool: &Pool<Self>,
                table: &TableName,
                entry: &Entry,
                token: &str,
            ) -> Result<bool> {
                let entries = table.quoted();
                let sql = format!(
                    "update {entries} set token = null, lease_until = null, marked_at = {}
                     where {IS_MARK} and token = $8",
                    $now
                );
                let query = sqlx::query(&sql)
                    .bind(&entry.group)
                    .bind(&entry.topic)
                    .bind(entry.partition)
                    .bind(&entry.log)
                    .bind(entry.offset)
                    .bind(entry.leader_epoch)
                    .bind(&entry.effect)
                    .bind(token);
                Ok(query.execute(pool).await?.rows_affected() > 0)
            }

            async fn give_up(
                pool: &Pool<Self>,
                table: &TableName,
                entry: &Entry,
                token: &str,
            ) -> Result<()> {
                let entries = table.quoted();
                let sql = format!("delete from {entries} where {IS_MARK} and token = $8");
                let query = sqlx::query(&sql)
                    .bind(&entry.group)
                    .bind(&entry.topic)
                    .bind(entry.partition)
                    .bind(&entry.log)
                    .bind(entry.offset)
                    .bind(entry.leader_epoch)
                    .bind(&entry.effect)
                    .bind(token);
                query.execute(pool).await.map(drop)
            }

            async fn claim_sweep(
                pool: &Pool<Self>,
                table: &TableName,
                group: &str,
                every: Duration,
            ) -> Result<bool> {
                let meta = table.with("_groups");
                let sql = format!(
                    "update {meta} set swept_at = {now} where grp = $1 and swept_at <= {now} - $2",
                    now = $now
                );
                let query = sqlx::query(&sql).bind(group).bind(every.as_secs_f64());
                Ok(query.execute(pool).await?.rows_affected() > 0)
            }

            async fn note_position(
                pool: &Pool<Self>,
                table: &TableName,
                group: &str,
                at: &CommittedLog,
                wait: Duration,
            ) -> Result<Option<i64>> {
                let Some((position, topic_id)) = at.committed else {
                    return Ok(None);
                };
                let (positions, log) = (table.with("_positions"), log_name(topic_id));
                let wait = wait.as_secs_f64();
                // A position that went back, by an operator's reset, is passed again later.
                let ahead = format!(
                    "delete from {positions} where grp = $1 and topic = $2 and kafka_partition = $3
                       and (log <> $4 or record_offset > $5)"
                );
                let query = sqlx::query(&ahead).bind(group).bind(&at.topic);
                let query = query.bind(at.partition).bind(&log).bind(position);
                query.execute(pool).await?;
                let note = format!(
                    "insert into {positions} (grp, topic, kafka_partition, log, record_offset, seen_at)
                     select $1, $2, $3, $4, $5, {now}
                     where not exists (select 1 from {positions} where {IS_PLACE} and seen_at > {now} - $6)
                     on conflict do nothing",
                    now = $now
                );
                let query = sqlx::query(&note).bind(group).bind(&at.topic);
                let query = query.bind(at.partition).bind(&log).bind(position);
                query.bind(wait / NOTES_PER_WAIT).execute(pool).await?;
                let safe = format!(
                    "select max(record_offset) from {positions} where {IS_PLACE} and seen_at <= {} - $5",
                    $now
                );
                let query = sqlx::query_scalar(&safe).bind(group).bind(&at.topic);
                let query = query.bind(at.partition).bind(&log).bind(wait);
                let safe: Option<i64> = query.fetch_one(pool).await?;
                if let Some(safe) = safe {
                    let passed = format!("delete from {positions} where {IS_PLACE} and record_offset < $5");
                    let query = sqlx::query(&passed).bind(group).bind(&at.topic);
                    let query = query.bind(at.partition).bind(&log).bind(safe);
                    query.execute(pool).await?;
                }
                Ok(safe)
            }

            async fn note_log(
                pool: &Pool<Self>,
                table: &TableName,
                group: &str,
                topic: &str,
                log: &str,
                wait: Duration,
            ) -> Result<bool> {
                let positions = table.with("_positions");
                let others = format!(
                    "delete from {positions} where grp = $1 and topic = $2 and kafka_partition = $3 and log <> $4"
                );
                let query = sqlx::query(&others).bind(group).bind(topic);
                query.bind(WHOLE_TOPIC).bind(log).execute(pool).await?;
                let note = format!(
                    "insert into {positions} (grp, topic, kafka_partition, log, record_offset, seen_at)
                     values ($1, $2, $3, $4, 0, {}) on conflict do nothing",
                    $now
                );
                let query = sqlx::query(&note).bind(group).bind(topic);
                query.bind(WHOLE_TOPIC).bind(log).execute(pool).await?;
                let is_old = format!(
                    "select count(*) from {positions} where {IS_PLACE} and seen_at <= {} - $5",
                    $now
                );
                let query = sqlx::query_scalar(&is_old).bind(group).bind(topic);
                let query = query.bind(WHOLE_TOPIC).bind(log).bind(wait.as_secs_f64());
                let old: i64 = query.fetch_one(pool).await?;
                Ok(old > 0)
            }

            async fn sweep_below(
                pool: &Pool<Self>,
                table: &TableName,
                group: &str,
                at: &CommittedLog,
                position: i64,
                wait: Duration,
            ) -> Result<u64> {
                let entries = table.quoted();
                let log = log_name(at.committed.and_then(|(_, topic_id)| topic_id));
                let sql = format!(
                    "delete from {entries} where ({KEY}) in (
                       select {KEY} from {entries}
                       where grp = $1 and topic = $2 and kafka_partition = $3 and log in ($4, '')
                         and record_offset < $5 and marked_at <= {} - $6
                       limit {BATCH})",
                    $now
                );
                let query = sqlx::query(&sql).bind(group).bind(&at.topic).bind(at.partition);
                let query = query.bind(log).bind(position).bind(wait.as_secs_f64());
                Ok(query.execute(pool).await?.rows_affected())
            }

            async fn sweep_other_logs(
                pool: &Pool<Self>,
                table: &TableName,
                group: &str,
                topic: &str,
                log: &str,
                wait: Duration,
            ) -> Result<u64> {
                let entries = table.quoted();
                let sql = format!(
                    "delete from {entries} where ({KEY}) in (
                       select {KEY} from {entries}
                       where grp = $1 and topic = $2 and log not in ($3, '') and marked_at <= {} - $4
                       limit {BATCH})",
                    $now
                );
                let query = sqlx::query(&sql).bind(group).bind(topic);
                let query = query.bind(log).bind(wait.as_secs_f64());
                Ok(query.execute(pool).await?.rows_affected())
            }

            async fn sweep_messages(pool: &Pool<Self>, table: &TableName, group: &str) -> Result<u64> {
                let messages = table.with("_messages");
                let sql = format!(
                    "delete from {messages} where (grp, message_id) in (
                       select grp, message_id from {messages} where grp = $1 and expires_at <= {} limit {BATCH})",
                    $now
                );
                Ok(sqlx::query(&sql).bind(group).execute(pool).await?.rows_affected())
            }

            async fn rows(pool: &Pool<Self>, table: &TableName, group: &str) -> Result<i64> {
                let entries = table.quoted();
                let sql = format!(
                    "select count(*) from (select 1 from {entries} where grp = $1 limit {MOST_COUNTED}) as counted"
                );
                sqlx::query_scalar(&sql).bind(group).fetch_one(pool).await
            }
        }
    };
}

#[cfg(feature = "postgres")]
statements!(
    sqlx::Postgres,
    "extract(epoch from clock_timestamp())::double precision",
    "",
    // One migration at a time.
    Some("select pg_advisory_xact_lock(7741522834650919)"),
    |table| (
        "select to_regclass($1) is not null".to_owned(),
        table.with("_groups")
    )
);

#[cfg(feature = "sqlite")]
statements!(
    sqlx::Sqlite,
    "unixepoch('subsec')",
    " without rowid",
    None::<&str>,
    |table| {
        let sql = "select count(*) > 0 from {} where type = 'table' and name = $1";
        let sql = sql.replace("{}", &table.sqlite_schema());
        (sql, format!("{}_groups", table.name()))
    }
);
