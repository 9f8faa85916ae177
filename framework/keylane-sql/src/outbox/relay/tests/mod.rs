//! Relays on SQLite and a Kafka in memory: what they do about each answer.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests stop the test as the tests do"
)]

mod cluster;

use std::collections::BTreeSet;
use std::time::Duration;

use keylane::NewTask;
use keylane::producer::outbox::PublishError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use sqlx::{Sqlite, SqlitePool};
use tempfile::TempDir;

use self::cluster::FakeKafka;
use super::{Relay, RelayBuilder, Unsendable};
use crate::outbox::{Outbox, OutboxError, OutboxId};

const DEADLINE: Duration = Duration::from_secs(90);

struct Scene {
    pool: SqlitePool,
    outbox: Outbox<Sqlite>,
    kafka: FakeKafka,
    _directory: TempDir,
}

impl Scene {
    async fn new(buckets: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = SqliteConnectOptions::new()
            .filename(directory.path().join("outbox.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .busy_timeout(DEADLINE);
        let pool = SqlitePoolOptions::new().max_connections(4);
        let pool = pool.connect_with(options).await.unwrap();
        let outbox = Outbox::sqlite(pool.clone())
            .topic("events")
            .buckets(buckets);
        outbox.migrate().await.unwrap();
        Self {
            pool,
            outbox,
            kafka: FakeKafka::default(),
            _directory: directory,
        }
    }

    /// Each in a transaction of its own.
    async fn enqueue(&self, tasks: impl IntoIterator<Item = (&str, String)>) -> Vec<OutboxId> {
        let mut ids = Vec::new();
        for (key, value) in tasks {
            let mut transaction = self.pool.begin().await.unwrap();
            let task = NewTask::new(value).key(key);
            ids.push(self.outbox.enqueue(&mut transaction, task).await.unwrap());
            transaction.commit().await.unwrap();
        }
        self.outbox.wake();
        ids
    }

    fn builder(&self) -> RelayBuilder<Sqlite> {
        let builder = self.outbox.relay().poll_interval(Duration::from_millis(20));
        builder.lease(Duration::from_secs(3))
    }

    async fn start(&self) -> Relay {
        self.started(self.builder()).await
    }

    async fn started(&self, builder: RelayBuilder<Sqlite>) -> Relay {
        builder.start_on(self.kafka.clone()).await.unwrap()
    }

    async fn count(&self, condition: &str) -> i64 {
        let sql = format!("select count(*) from keylane_outbox where {condition}");
        sqlx::query_scalar(&sql)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    async fn until_empty(&self) {
        wait_until("the table is empty", async || self.count("true").await == 0).await;
    }
}

async fn wait_until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let waited = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(
        tokio::time::timeout(DEADLINE, waited).await.is_ok(),
        "until {what}"
    );
}

fn numbers(until: usize) -> Vec<String> {
    (0..until).map(|number| number.to_string()).collect()
}

#[tokio::test]
async fn what_is_committed_is_published_in_the_order_of_its_key_and_what_is_not_never_is() {
    let scene = Scene::new(4).await;
    let keys = ["a", "b", "c", "d", "e"];
    let tasks = numbers(20).into_iter();
    let tasks = tasks.flat_map(|number| keys.map(|key| (key, number.clone())));
    let ids = scene.enqueue(tasks).await;
    let mut transaction = scene.pool.begin().await.unwrap();
    let task = NewTask::new("rolled back").key("a");
    scene.outbox.enqueue(&mut transaction, task).await.unwrap();
    transaction.rollback().await.unwrap();

    let relay = scene.start().await;
    scene.until_empty().await;
    for key in keys {
        assert_eq!(scene.kafka.values_of(key), numbers(20), "{key}");
    }
    let published: BTreeSet<String> = scene.kafka.log().into_iter().map(|(.., id)| id).collect();
    let enqueued: BTreeSet<String> = ids.iter().map(ToString::to_string).collect();
    assert_eq!(published, enqueued);
    assert!(
        scene
            .kafka
            .state()
            .log
            .iter()
            .all(|it| it.headers.last("dt_meta").is_some())
    );

    scene.enqueue([("a", "later".to_owned())]).await;
    scene.until_empty().await;
    relay.stop().await.unwrap();
    assert_eq!(scene.kafka.log().len(), 101);
}

#[tokio::test]
async fn relays_share_the_buckets_and_one_that_ends_leaves_its_own_at_once() {
    let scene = Scene::new(4).await;
    let held = async |relays: i64| {
        let sql = "select count(distinct relay), count(relay) from keylane_outbox_buckets";
        let found: (i64, i64) = sqlx::query_as(sql).fetch_one(&scene.pool).await.unwrap();
        found == (relays, 4)
    };
    let long = |scene: &Scene| scene.builder().lease(Duration::from_secs(6));
    let first = scene.started(long(&scene)).await;
    wait_until("the first has all", async || held(1).await).await;
    let second = scene.started(long(&scene)).await;
    wait_until("both have some", async || held(2).await).await;
    let keys: Vec<String> = (0..40).map(|key| format!("key-{key}")).collect();
    scene
        .enqueue(keys.iter().map(|key| (&**key, "1".to_owned())))
        .await;
    scene.until_empty().await;
    first.stop().await.unwrap();
    // Not its lease is waited for: there is none. The other one may have taken some or all by now.
    let sql = "select count(*) from keylane_outbox_buckets
         where relay is not null and relay not in (select relay from keylane_outbox_relays)";
    let left: i64 = sqlx::query_scalar(sql)
        .fetch_one(&scene.pool)
        .await
        .unwrap();
    let relays: i64 = sqlx::query_scalar("select count(*) from keylane_outbox_relays")
        .fetch_one(&scene.pool)
        .await
        .unwrap();
    assert_eq!((left, relays), (0, 1));
    scene
        .enqueue(keys.iter().map(|key| (&**key, "2".to_owned())))
        .await;
    scene.until_empty().await;
    second.stop().await.unwrap();
    for key in &keys {
        assert_eq!(scene.kafka.values_of(key), ["1", "2"]);
    }
}

#[tokio::test]
async fn a_relay_whose_bucket_was_taken_publishes_nothing_until_it_has_it_again() {
    let scene = Scene::new(1).await;
    let relay = scene.start().await;
    scene.enqueue([("a", "0".to_owned())]).await;
    scene.until_empty().await;
    // Another one has the bucket: the row of its lease, and the transactional id.
    let sql =
        "update keylane_outbox_buckets set relay = 'other', token = token + 1, expires_at = 1e12";
    sqlx::query(sql).execute(&scene.pool).await.unwrap();
    scene.kafka.fence_all();
    scene
        .enqueue([("a", "1".to_owned()), ("a", "2".to_owned())])
        .await;
    let expires_at = async || {
        let sql = "select expires_at from keylane_outbox_relays";
        sqlx::query_scalar::<_, f64>(sql)
            .fetch_one(&scene.pool)
            .await
            .unwrap()
    };
    let before = expires_at().await;
    wait_until("the relay has renewed, and seen it", async || {
        expires_at().await > before
    })
    .await;
    assert_eq!(scene.kafka.values_of("a"), ["0"]);
    assert_eq!(scene.count("true").await, 2);

    let sql = "update keylane_outbox_buckets set expires_at = 0";
    sqlx::query(sql).execute(&scene.pool).await.unwrap();
    scene.until_empty().await;
    assert_eq!(scene.kafka.values_of("a"), numbers(3));
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn a_transaction_that_fails_is_repeated_in_order_and_one_without_an_answer_with_the_same_ids()
{
    let scene = Scene::new(1).await;
    let text = || "planted".to_owned();
    scene.kafka.state().failures.extend([
        (PublishError::Failed(text()), false),
        (PublishError::Lost(text()), false),
        (PublishError::Slow(text()), false),
        (PublishError::Unanswered(text()), true),
    ]);
    let numbers = numbers(10);
    scene
        .enqueue(numbers.iter().map(|number| ("a", number.clone())))
        .await;
    let relay = scene.started(scene.builder().batch(4)).await;
    scene.until_empty().await;
    relay.stop().await.unwrap();
    // After the slow one a transaction has half of the rows.
    let log = scene.kafka.log();
    let values: Vec<&str> = log.iter().map(|(_, value, _)| &**value).collect();
    assert_eq!(values[..4], ["0", "1", "0", "1"]);
    assert_eq!(values[2..], numbers);
    assert_eq!(log[..2], log[2..4], "both have the same id");
    assert!(scene.kafka.state().largest <= 4);
}

#[tokio::test]
async fn a_row_that_cannot_be_sent_holds_its_key_and_no_other_until_an_operator_acts() {
    for names in [true, false] {
        let scene = Scene::new(1).await;
        {
            let mut state = scene.kafka.state();
            state.names_the_refused = names;
            state.refused.extend(["a1", "c0"].map(str::to_owned));
        }
        let tasks = ["a0", "b0", "a1", "b1", "c0", "a2", "b2", "c1"];
        let tasks = tasks.map(|value| (&value[..1], value.to_owned()));
        let ids = scene.enqueue(tasks).await;
        let relay = scene.start().await;
        wait_until("two are set aside", async || {
            scene.count("set_aside_at is not null").await == 2
        })
        .await;
        wait_until("only held rows are left", async || {
            scene.count("true").await == 4
        })
        .await;
        assert_eq!(scene.kafka.values_of("a"), ["a0"]);
        assert_eq!(scene.kafka.values_of("b"), ["b0", "b1", "b2"]);
        assert_eq!(scene.kafka.values_of("c"), [""; 0]);

        let aside = scene.outbox.set_aside(10).await.unwrap();
        let found: Vec<OutboxId> = aside.iter().map(|row| row.id).collect();
        assert_eq!(found, [ids[2], ids[4]]);
        assert_eq!(
            (&*aside[0].reason, &*aside[0].topic),
            ("too large", "events")
        );
        assert_eq!(aside[0].payload_bytes, Some(2));
        assert_eq!(scene.outbox.set_aside(1).await.unwrap().len(), 1);

        scene.kafka.state().refused.clear();
        assert!(scene.outbox.retry(ids[2]).await.unwrap());
        assert!(
            scene
                .outbox
                .discard(ids[4], "the customer called")
                .await
                .unwrap()
        );
        assert!(!scene.outbox.discard(ids[4], "again").await.unwrap());
        scene.until_empty().await;
        assert!(!scene.outbox.retry(ids[2]).await.unwrap());
        assert_eq!(scene.kafka.values_of("a"), ["a0", "a1", "a2"]);
        assert_eq!(scene.kafka.values_of("c"), ["c1"]);
        relay.stop().await.unwrap();
    }
}

#[tokio::test]
async fn where_a_row_is_skipped_later_ones_of_its_key_go_on() {
    let scene = Scene::new(1).await;
    scene.kafka.state().refused.insert("1".to_owned());
    scene
        .enqueue(numbers(4).into_iter().map(|number| ("a", number)))
        .await;
    let relay = scene
        .started(scene.builder().unsendable(Unsendable::SkipRow))
        .await;
    wait_until("the others are sent", async || {
        scene.count("true").await == 1
    })
    .await;
    assert_eq!(scene.kafka.values_of("a"), ["0", "2", "3"]);
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn a_row_of_another_program_that_is_no_record_is_set_aside_and_a_plain_one_is_sent() {
    let scene = Scene::new(1).await;
    let insert = "insert into keylane_outbox (id, bucket, aggregatetype, aggregateid, payload, headers) values";
    for row in [
        "('01980000-0000-7000-8000-000000000001', 0, 'no topic', x'61', x'31', '[]')",
        "('01980000-0000-7000-8000-000000000002', 0, 'events', x'62', x'31', '{}')",
        "('01980000-0000-7000-8000-000000000003', 0, 'events', x'63', null, '[]')",
    ] {
        let sql = format!("{insert} {row}");
        sqlx::query(&sql).execute(&scene.pool).await.unwrap();
    }
    let relay = scene.start().await;
    wait_until("the good one is sent", async || {
        scene.kafka.log().len() == 1
    })
    .await;
    wait_until("two are set aside", async || {
        scene.count("set_aside_at is not null").await == 2
    })
    .await;
    let log = scene.kafka.log();
    assert_eq!(
        (&*log[0].0, &*log[0].2),
        ("c", "01980000-0000-7000-8000-000000000003")
    );
    assert_eq!(scene.kafka.state().log[0].value, None, "a tombstone");
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn while_a_topic_is_missing_its_rows_wait_and_those_of_others_go_on() {
    let scene = Scene::new(1).await;
    scene.kafka.state().missing.insert("later".to_owned());
    let mut transaction = scene.pool.begin().await.unwrap();
    for (topic, value) in [
        ("later", "0"),
        ("events", "1"),
        ("later", "2"),
        ("events", "3"),
    ] {
        let task = NewTask::new(value).key("a").topic(topic);
        scene.outbox.enqueue(&mut transaction, task).await.unwrap();
    }
    transaction.commit().await.unwrap();
    let relay = scene.start().await;
    wait_until("the others are sent", async || {
        scene.count("true").await == 2
    })
    .await;
    assert_eq!(scene.kafka.values_of("a"), ["1", "3"]);
    assert_eq!(scene.count("set_aside_at is not null").await, 0);
    scene.kafka.state().missing.clear();
    scene.until_empty().await;
    assert_eq!(scene.kafka.values_of("a"), ["1", "3", "0", "2"]);
    relay.stop().await.unwrap();
}

#[tokio::test]
async fn a_transaction_has_no_more_bytes_than_allowed_but_one_row_may() {
    let scene = Scene::new(1).await;
    let large = "x".repeat(2_000);
    let tasks = (0..6).map(|number| {
        (
            "a",
            if number == 3 {
                large.clone()
            } else {
                "y".repeat(300)
            },
        )
    });
    scene.enqueue(tasks).await;
    let relay = scene.started(scene.builder().batch_bytes(1_024)).await;
    scene.until_empty().await;
    relay.stop().await.unwrap();
    let state = scene.kafka.state();
    assert_eq!(state.log.len(), 6);
    assert!(state.largest <= 3, "{}", state.largest);
}

#[tokio::test]
async fn a_full_transaction_is_followed_at_once_and_a_stop_does_not_wait_for_more_rows() {
    let scene = Scene::new(1).await;
    let tasks = numbers(20).into_iter().map(|number| ("a", number));
    scene.enqueue(tasks).await;
    let builder = scene.builder().batch(1).linger(Duration::from_secs(10));
    let relay = scene.started(builder).await;
    // With a wait after each of them it would take 200 s.
    scene.until_empty().await;
    relay.stop().await.unwrap();
    assert_eq!(scene.kafka.values_of("a"), numbers(20));
    assert_eq!(scene.kafka.state().transactions, 20);
}

#[tokio::test]
async fn rows_that_are_kept_are_marked_and_deleted_after_their_time() {
    let scene = Scene::new(1).await;
    scene
        .enqueue(numbers(3).into_iter().map(|number| ("a", number)))
        .await;
    let relay = scene
        .started(scene.builder().keep_sent(Duration::from_secs(3600)))
        .await;
    wait_until("they are marked", async || {
        scene.count("sent_at is not null").await == 3
    })
    .await;
    relay.stop().await.unwrap();
    assert_eq!(
        scene.kafka.log().len(),
        3,
        "what is marked is not sent again"
    );
    sqlx::query("update keylane_outbox set sent_at = sent_at - 7200")
        .execute(&scene.pool)
        .await
        .unwrap();
    let relay = scene
        .started(scene.builder().keep_sent(Duration::from_secs(3600)))
        .await;
    scene.until_empty().await;
    relay.stop().await.unwrap();
    assert_eq!(scene.kafka.log().len(), 3);
}

#[tokio::test]
async fn a_table_that_is_missing_or_has_other_buckets_is_named_with_the_fix() {
    let scene = Scene::new(4).await;
    scene.outbox.migrate().await.unwrap();
    let other = Outbox::sqlite(scene.pool.clone()).buckets(5);
    let error = other.migrate().await.unwrap_err();
    assert!(
        matches!(
            error,
            OutboxError::Buckets {
                stored: 4,
                wanted: 5,
                ..
            }
        ),
        "{error}"
    );
    let invalid = Outbox::sqlite(scene.pool.clone())
        .buckets(0)
        .migrate()
        .await
        .unwrap_err();
    assert!(
        invalid.to_string().contains("between 1 and 256"),
        "{invalid}"
    );

    let missing = Outbox::sqlite(scene.pool.clone())
        .table("other")
        .unwrap()
        .topic("events");
    let mut transaction = scene.pool.begin().await.unwrap();
    let refused = missing
        .enqueue(&mut transaction, NewTask::new("x"))
        .await
        .unwrap_err();
    assert!(
        matches!(refused, OutboxError::NotMigrated { .. }),
        "{refused}"
    );
    // The transaction goes on.
    let without_topic = Outbox::sqlite(scene.pool.clone());
    let refused = without_topic
        .enqueue(&mut transaction, NewTask::new("x"))
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("topic"), "{refused}");
    scene
        .outbox
        .enqueue(&mut transaction, NewTask::new("x"))
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(scene.count("true").await, 1);
    let refused = missing.relay().start().await.unwrap_err();
    assert!(refused.to_string().contains("migrate"), "{refused}");
    let refused = scene.outbox.relay().batch(0).start().await.unwrap_err();
    assert!(refused.to_string().contains("batch"), "{refused}");
}
