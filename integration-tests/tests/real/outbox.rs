//! The outbox of `keylane-sql`: on a real PostgreSQL while its relays are killed, stopped and cut off, and
//! on SQLite where a real Kafka refuses a row.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use keylane::NewTask;
use keylane_integration_tests::{
    kafka::{Kafka, Nodes, StoredRecord},
    kafka_or_skip,
    members::outbox::VARIABLE,
    postgres::Postgres,
    process::Process,
    wait::wait_for,
};
use keylane_sql::outbox::{Outbox, OutboxError, OutboxId};
use rustix::process::Signal;
use sqlx::{PgPool, Postgres as Db, Transaction};

const DEADLINE: Duration = Duration::from_secs(90);
const LEASE_MILLIS: u64 = 2_000;
const BATCH: usize = 100;
const BUCKETS: usize = 4;
const WRITERS: usize = 8;
/// Of each writer, whose transactions follow each other.
const OWN_KEYS: usize = 5;
/// Of all writers, whose transactions overlap.
const SHARED_KEYS: usize = 10;

/// The rows to enqueue: few in CI, and 100,000 by night.
fn rows() -> usize {
    let rows = std::env::var("KEYLANE_OUTBOX_ROWS").ok();
    rows.and_then(|rows| rows.parse().ok()).unwrap_or(4_000)
}

/// Every row is in the table `journal` of the same transaction, which has the truth about commits.
struct Scene {
    pool: PgPool,
    outbox: Outbox<Db>,
    ordered: Outbox<Db>,
    enqueued: AtomicUsize,
    ends: AtomicBool,
}

impl Scene {
    async fn new(postgres: &Postgres, topic: &str) -> Arc<Self> {
        let pool = postgres.pool(30);
        let outbox = Outbox::postgres(pool.clone()).topic(topic).buckets(4);
        outbox.migrate().await.unwrap();
        let journal = "create table journal (number bigserial primary key, id text, key text)";
        sqlx::query(journal).execute(&pool).await.unwrap();
        let ordered = outbox.clone().ordered_by_key();
        Arc::new(Self {
            pool,
            outbox,
            ordered,
            enqueued: AtomicUsize::new(0),
            ends: AtomicBool::new(false),
        })
    }

    async fn put(
        &self,
        outbox: &Outbox<Db>,
        transaction: &mut Transaction<'_, Db>,
        key: &str,
    ) -> Result<(), sqlx::Error> {
        let id = match outbox
            .enqueue(transaction, NewTask::new("event").key(key))
            .await
        {
            Ok(id) => id,
            Err(OutboxError::Database { source, .. }) => return Err(source),
            Err(other) => panic!("{other}"),
        };
        let sql = "insert into journal (id, key) values ($1, $2)";
        let query = sqlx::query(sql).bind(id.to_string()).bind(key);
        query.execute(&mut **transaction).await.map(drop)
    }

    /// Two transactions that are committed crosswise, now and then one that is rolled back, and one that
    /// overlaps with those of other writers for the same keys.
    async fn round(&self, writer: usize, round: usize) -> Result<(), sqlx::Error> {
        let own = |key: usize| format!("own-{writer}-{}", key % OWN_KEYS);
        let mut first = self.pool.begin().await?;
        self.put(&self.outbox, &mut first, &own(round)).await?;
        let mut second = self.pool.begin().await?;
        self.put(&self.outbox, &mut second, &own(round + 1)).await?;
        second.commit().await?;
        first.commit().await?;

        let mut shared = self.pool.begin().await?;
        // In one order everywhere: otherwise transactions wait for each other.
        let keys: BTreeSet<usize> = [round * 7 + writer, round * 3]
            .map(|it| it % SHARED_KEYS)
            .into();
        for key in keys {
            self.put(&self.ordered, &mut shared, &format!("shared-{key}"))
                .await?;
        }
        if round % 10 == 9 {
            return shared.rollback().await;
        }
        shared.commit().await?;
        self.enqueued.fetch_add(4, Ordering::Relaxed);
        Ok(())
    }

    async fn write(self: Arc<Self>, writer: usize) {
        for round in 0.. {
            if self.ends.load(Ordering::Relaxed) && self.enqueued.load(Ordering::Relaxed) >= rows()
            {
                return;
            }
            // The database is away for a moment.
            if self.round(writer, round).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Keys with the ids of their rows in the order of the commits.
    async fn committed(&self) -> BTreeMap<String, Vec<String>> {
        // Numbers decide within a transaction.
        let sql = "select key, id from journal order by pg_xact_commit_timestamp(xmin), number";
        let rows: Vec<(String, String)> = sqlx::query_as(sql).fetch_all(&self.pool).await.unwrap();
        let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (key, id) in rows {
            keys.entry(key).or_default().push(id);
        }
        keys
    }

    async fn unsent(&self) -> Option<i64> {
        let sql = "select count(*) from keylane_outbox";
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.ok()
    }

    /// How many relays have buckets, and how many buckets have a relay.
    async fn holders(&self) -> Option<(i64, i64)> {
        let sql = "select count(distinct relay), count(relay) from keylane_outbox_buckets where expires_at > \
                   clock_timestamp()";
        sqlx::query_as(sql).fetch_one(&self.pool).await.ok()
    }

    /// The token of each bucket: it grows each time the bucket is taken.
    async fn tokens(&self) -> i64 {
        let sql = "select sum(token)::bigint from keylane_outbox_buckets";
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    async fn until(&self, what: &str, holds: impl AsyncFn(&Self) -> bool) {
        wait_for(what, DEADLINE, async || holds(self).await.then_some(())).await;
    }
}

fn relay(postgres: &Postgres, kafka: &Kafka) -> Process {
    let child = Command::new(env!("CARGO_BIN_EXE_member"))
        .arg("outbox")
        .env(format!("{VARIABLE}SERVERS"), kafka.bootstrap_servers())
        .env(format!("{VARIABLE}DATABASE"), postgres.url())
        .env(format!("{VARIABLE}LEASE"), LEASE_MILLIS.to_string())
        .env(format!("{VARIABLE}BATCH"), BATCH.to_string())
        .stdin(Stdio::piped())
        .spawn();
    let child = child.expect("it was built with this test");
    Process { child }
}

/// The ids of each key in the order in which they were published first, and how many came again.
fn published(records: &[StoredRecord]) -> (BTreeMap<String, Vec<String>>, usize) {
    let (mut keys, mut seen, mut again) = (BTreeMap::<_, Vec<String>>::new(), BTreeSet::new(), 0);
    for record in records {
        let id = record.header("keylane-outbox-id").unwrap().to_owned();
        let key = String::from_utf8(record.key.clone().unwrap()).unwrap();
        match seen.insert(id.clone()) {
            true => keys.entry(key).or_default().push(id),
            false => again += 1,
        }
    }
    (keys, again)
}

/// Of every row: published, in the order that is promised for its key; a relay that was stopped for longer
/// than its lease, and goes on, breaks nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_committed_row_is_published_in_order_while_relays_are_killed_stopped_and_cut_off() {
    let kafka = kafka_or_skip!(Nodes::One);
    let Some(mut postgres) = Postgres::start().await else {
        return;
    };
    let topic = kafka.unique("outbox");
    kafka.create_topic(&topic, 4, 1, &[]).await.unwrap();
    let scene = Scene::new(&postgres, &topic).await;
    let mut relays: Vec<Process> = (0..3).map(|_| relay(&postgres, kafka)).collect();
    scene
        .until("each relay has a bucket", async |scene| {
            scene.holders().await == Some((3, 4))
        })
        .await;
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(scene.clone().write(writer)))
        .collect();

    // One is killed. The others have its buckets after its lease.
    let tokens = scene.tokens().await;
    let mut kills = 1;
    relays[0].child.kill().unwrap();
    scene
        .until("the others have its buckets", async |scene| {
            scene.holders().await == Some((2, 4)) && scene.tokens().await > tokens
        })
        .await;

    // One is stopped for longer than its lease. When it goes on it must not publish what it has read.
    relays[1].signal(Signal::STOP).unwrap();
    scene
        .until("one has all", async |scene| {
            scene.holders().await == Some((1, 4))
        })
        .await;
    relays[1].signal(Signal::CONT).unwrap();
    relays[0] = relay(&postgres, kafka);
    scene
        .until("all three have some", async |scene| {
            scene.holders().await == Some((3, 4))
        })
        .await;

    postgres.restart().await;
    kills += 1;
    scene
        .until("all three have some", async |scene| {
            scene.holders().await == Some((3, 4))
        })
        .await;
    relays[2].child.kill().unwrap();
    kills += 1;

    scene.ends.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    scene
        .until("all is sent", async |scene| scene.unsent().await == Some(0))
        .await;
    // Those that are left end in an orderly way, and give up their buckets.
    for relay in &mut relays {
        drop(relay.child.stdin.take());
    }
    scene
        .until("none has a bucket", async |scene| {
            scene.holders().await == Some((0, 0))
        })
        .await;
    for mut relay in relays.drain(..2) {
        assert!(relay.child.wait().unwrap().success());
    }

    let committed = scene.committed().await;
    let records = kafka.read_all(&topic).await.unwrap();
    let (published, again) = published(&records);
    let rows: usize = committed.values().map(Vec::len).sum();
    assert!(rows >= self::rows(), "{rows} rows");
    for (key, ids) in &committed {
        let found = published.get(key);
        assert_eq!(found, Some(ids), "the rows of {key}, of {rows} rows");
    }
    assert_eq!(published.len(), committed.len(), "only what was committed");
    // A stopped relay repeats nothing itself; the one that takes over may repeat what it had published.
    let most = (kills + 1) * BUCKETS * BATCH;
    assert!(again <= most, "{again} records again");
    println!("{rows} rows, {again} records came again");
}

#[tokio::test]
async fn a_row_that_kafka_refuses_is_set_aside_and_is_sent_once_it_is_allowed() {
    let kafka = kafka_or_skip!(Nodes::One);
    let [topic, missing] = ["outbox", "missing"].map(|it| kafka.unique(it));
    let small = [("max.message.bytes", "20000")];
    kafka.create_topic(&topic, 2, 1, &small).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/outbox.db?mode=rwc", directory.path().display());
    let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
    let outbox = Outbox::sqlite(pool.clone()).topic(&*topic).buckets(1);
    outbox.migrate().await.unwrap();
    let mut transaction = pool.begin().await.unwrap();
    // What cannot be compressed.
    let large: Vec<u8> = (0..40_000_u32)
        .flat_map(|it| it.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    let mut ids: Vec<OutboxId> = Vec::new();
    for (key, value) in [
        ("a", b"a0".to_vec()),
        ("b", large.clone()),
        ("b", b"b1".to_vec()),
        ("c", b"c0".to_vec()),
    ] {
        let task = NewTask::new(value).key(key);
        ids.push(outbox.enqueue(&mut transaction, task).await.unwrap());
    }
    let task = NewTask::new("later").key("a").topic(&*missing);
    outbox.enqueue(&mut transaction, task).await.unwrap();
    transaction.commit().await.unwrap();

    let relay = outbox
        .relay()
        .bootstrap_servers(kafka.bootstrap_servers())
        .start()
        .await
        .unwrap();
    let aside = wait_for("one is set aside", DEADLINE, async || {
        let aside = outbox.set_aside(10).await.unwrap();
        (!aside.is_empty()).then_some(aside)
    })
    .await;
    assert_eq!((aside.len(), aside[0].id), (1, ids[1]));
    assert!(aside[0].reason.contains("too large"), "{}", aside[0].reason);
    let left = async |rows: i64| {
        wait_for("the others are sent", DEADLINE, async || {
            let sql = "select count(*) from keylane_outbox";
            let count: i64 = sqlx::query_scalar(sql).fetch_one(&pool).await.unwrap();
            (count == rows).then_some(())
        })
        .await;
    };
    left(3).await;
    let keys = async || {
        let records = kafka.read_all(&topic).await.unwrap();
        let mut values: Vec<Vec<u8>> = records.into_iter().filter_map(|it| it.value).collect();
        values.sort_by_key(|value| value.len() < 100);
        values.iter_mut().for_each(|value| value.truncate(100));
        values.sort();
        values
    };
    assert_eq!(keys().await, [b"a0".to_vec(), b"c0".to_vec()]);

    kafka.create_topic(&missing, 1, 1, &[]).await.unwrap();
    kafka.configure_topic(&topic, &[]).await.unwrap();
    // The broker may know the new limit a moment later: then it is set aside again.
    wait_for("it is sent", DEADLINE, async || {
        outbox.retry(ids[1]).await.unwrap();
        let sql = "select count(*) from keylane_outbox";
        let count: i64 = sqlx::query_scalar(sql).fetch_one(&pool).await.unwrap();
        (count == 0).then_some(())
    })
    .await;
    let records = kafka.read_all(&topic).await.unwrap();
    let of_b = records.iter().filter(|it| it.key.as_deref() == Some(b"b"));
    let lengths: Vec<usize> = of_b.map(|it| it.value.as_ref().unwrap().len()).collect();
    assert_eq!(lengths, [160_000, 2]);
    assert_eq!(kafka.read_all(&missing).await.unwrap().len(), 1);
    relay.stop().await.unwrap();
}
