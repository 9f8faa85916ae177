//! What the outbox costs on a real PostgreSQL and a real Kafka, side by side on this machine: plain inserts in
//! a loop, the same loop with an enqueue in each transaction, how fast a relay publishes what is there, and
//! the time from a commit to Kafka's acknowledgement.
//!
//! `cargo run --release -p keylane-integration-tests --bin report_outbox`

#![allow(clippy::unwrap_used, reason = "a report that fails has nothing to say")]

use std::{
    collections::HashMap,
    time::{Duration, Instant, SystemTime},
};

use keylane::NewTask;
use keylane_integration_tests::{
    kafka::{Found, Kafka, Nodes},
    postgres::Postgres,
    wait::wait_for,
};
use keylane_sql::outbox::{Outbox, Relay};
use rdkafka::{ClientConfig, Message, consumer::BaseConsumer, consumer::Consumer};
use sqlx::PgPool;

const ROWS: usize = 20_000;
const WRITERS: usize = 4;
const EVENT: [u8; 200] = [b'x'; 200];
const DEADLINE: Duration = Duration::from_secs(300);
/// For the latencies, one after the other.
const SINGLE: usize = 1_000;

#[tokio::main]
async fn main() {
    let kafka = match Kafka::find(Nodes::One) {
        Found::Running(kafka) => kafka,
        Found::Unavailable(reason) => panic!("{reason}"),
    };
    let postgres = Postgres::start().await.expect("PostgreSQL is installed");
    let pool = postgres.pool(20);
    let topic = kafka.unique("outbox");
    kafka.create_topic(&topic, 8, 1, &[]).await.unwrap();
    let outbox = Outbox::postgres(pool.clone()).topic(&*topic);
    outbox.migrate().await.unwrap();
    let sql = "create table events (id bigserial primary key, car text, event bytea)";
    sqlx::query(sql).execute(&pool).await.unwrap();

    println!(
        "{ROWS} transactions of one row with 200 bytes, by {WRITERS} writers; rows per second:"
    );
    let inserts = written(&pool, None).await;
    println!("  a plain insert                                {inserts:>8.0}");
    let quiet = outbox.clone().without_notifications();
    let both = written(&pool, Some(&quiet)).await;
    println!("  the same with an enqueue, without notifications {both:>6.0}");
    let both = written(&pool, Some(&outbox)).await;
    println!("  the same with an enqueue and a notification   {both:>8.0}");
    let both = written(&pool, Some(&outbox.clone().ordered_by_key())).await;
    println!("  the same, ordered by key                      {both:>8.0}");

    let rows = left(&pool).await;
    let began = Instant::now();
    let relay = relay(&outbox, &kafka).await;
    until_empty(&pool).await;
    let published = rows as f64 / began.elapsed().as_secs_f64();
    println!("  a relay publishes {rows} rows that are there    {published:>8.0}");

    let began = Instant::now();
    let enqueued = written(&pool, Some(&outbox)).await;
    until_empty(&pool).await;
    let published = ROWS as f64 / began.elapsed().as_secs_f64();
    println!(
        "  written and published at once                 {published:>8.0} ({enqueued:.0} written)"
    );

    let latencies = latencies(&pool, &outbox, &kafka, &topic).await;
    println!("from the commit until a consumer has it, {SINGLE} rows one after the other:");
    for (name, share) in [("median", 0.5), ("99 %", 0.99), ("longest", 1.0)] {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index"
        )]
        let at = ((latencies.len() - 1) as f64 * share) as usize;
        println!(
            "  {name:<8} {:>7.1} ms",
            latencies[at].as_secs_f64() * 1_000.0
        );
    }
    relay.stop().await.unwrap();
}

async fn relay(outbox: &Outbox<sqlx::Postgres>, kafka: &Kafka) -> Relay {
    let relay = outbox.relay().bootstrap_servers(kafka.bootstrap_servers());
    relay.start().await.unwrap()
}

/// Rows per second.
async fn written(pool: &PgPool, outbox: Option<&Outbox<sqlx::Postgres>>) -> f64 {
    let began = Instant::now();
    let writers = (0..WRITERS).map(|writer| {
        let (pool, outbox) = (pool.clone(), outbox.cloned());
        tokio::spawn(async move {
            for row in 0..ROWS / WRITERS {
                let key = format!("car-{writer}-{}", row % 500);
                let mut transaction = pool.begin().await.unwrap();
                let sql = "insert into events (car, event) values ($1, $2)";
                let query = sqlx::query(sql).bind(&key).bind(&EVENT[..]);
                query.execute(&mut *transaction).await.unwrap();
                if let Some(outbox) = &outbox {
                    let task = NewTask::new(&EVENT[..]).key(key);
                    outbox.enqueue(&mut transaction, task).await.unwrap();
                }
                transaction.commit().await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    ROWS as f64 / began.elapsed().as_secs_f64()
}

async fn left(pool: &PgPool) -> i64 {
    let sql = "select count(*) from keylane_outbox";
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

async fn until_empty(pool: &PgPool) {
    let sql = "select exists (select from keylane_outbox)";
    wait_for("all is published", DEADLINE, async || {
        let some: bool = sqlx::query_scalar(sql).fetch_one(pool).await.unwrap();
        (!some).then_some(())
    })
    .await;
}

/// Sorted.
async fn latencies(
    pool: &PgPool,
    outbox: &Outbox<sqlx::Postgres>,
    kafka: &Kafka,
    topic: &str,
) -> Vec<Duration> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka.bootstrap_servers())
        .set("group.id", "report-outbox")
        .set("auto.offset.reset", "latest")
        .set("fetch.wait.max.ms", "1000")
        .create()
        .unwrap();
    let mut partitions = rdkafka::TopicPartitionList::new();
    for partition in 0..8 {
        partitions
            .add_partition_offset(topic, partition, rdkafka::Offset::End)
            .unwrap();
    }
    consumer.assign(&partitions).unwrap();
    let (seen, mut seeing) = tokio::sync::mpsc::channel::<(String, SystemTime)>(SINGLE);
    let reader = std::thread::spawn(move || {
        loop {
            let Some(message) = consumer.poll(Duration::from_millis(100)) else {
                if seen.is_closed() {
                    return;
                }
                continue;
            };
            let message = message.unwrap();
            let value = String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned();
            if seen.blocking_send((value, SystemTime::now())).is_err() {
                return;
            }
        }
    });
    let mut committed = HashMap::new();
    let mut latencies = Vec::with_capacity(SINGLE);
    // The first ones find the reader at its start.
    for row in 0..SINGLE + 20 {
        let mut transaction = pool.begin().await.unwrap();
        let task = NewTask::new(row.to_string()).key(format!("car-{row}"));
        outbox.enqueue(&mut transaction, task).await.unwrap();
        transaction.commit().await.unwrap();
        committed.insert(row.to_string(), SystemTime::now());
        let wait = Duration::from_secs(if row < 20 { 1 } else { 30 });
        match tokio::time::timeout(wait, seeing.recv()).await {
            Ok(Some((value, at))) if row >= 20 => {
                if let Some(begin) = committed.get(&value) {
                    latencies.push(at.duration_since(*begin).unwrap_or_default());
                }
            }
            _ => {}
        }
    }
    drop(seeing);
    reader.join().unwrap();
    latencies.sort();
    latencies
}
