//! The inbox of `keylane-sql`: on a real PostgreSQL, and once with a real Kafka. Time passes by what is
//! written to the tables, and never by waiting.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use keylane::{
    Raw, Retry, Subscription, Task, TaskError, config::Backoff, subscription::CommittedLog,
    testing::TestTask,
};
use keylane_integration_tests::{
    kafka::{NewRecord, Nodes},
    kafka_or_skip,
    postgres::Postgres,
    wait::wait_for,
};
use keylane_sql::inbox::{Begun, Inbox, InboxError, Once};
use sqlx::{PgPool, Postgres as Db, Transaction};

const DEADLINE: Duration = Duration::from_secs(90);
const SECOND: Duration = Duration::from_secs(1);
const LOG: u64 = 7;

/// Records through the table that has to stay small: few in CI, and 1,000,000 by night.
fn records() -> i64 {
    let records = std::env::var("KEYLANE_INBOX_RECORDS").ok();
    records
        .and_then(|records| records.parse().ok())
        .unwrap_or(4_000)
}

fn record(offset: i64) -> Task<()> {
    let task = TestTask::new(()).at("parking", 0, offset).log(LOG, 1);
    task.message_id(format!("message-{offset}")).build()
}

async fn count(pool: &PgPool, of: &str) -> i64 {
    let sql = format!("select count(*) from {of}");
    sqlx::query_scalar(&sql).fetch_one(pool).await.unwrap()
}

/// What is marked and noted becomes older, by more than any wait.
async fn pass(pool: &PgPool) {
    for sql in [
        "update keylane_inbox set marked_at = marked_at - 100000",
        "update keylane_inbox_positions set seen_at = seen_at - 100000",
    ] {
        sqlx::query(sql).execute(pool).await.unwrap();
    }
}

/// Until a session waits for a lock of another one.
async fn one_waits(pool: &PgPool) {
    wait_for("a transaction waits for the other", DEADLINE, async || {
        let sql = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'";
        let waiting: i64 = sqlx::query_scalar(sql).fetch_one(pool).await.unwrap();
        (waiting > 0).then_some(())
    })
    .await;
}

/// What a second duplicate gets that came while the first was under way.
async fn beside(
    pool: &PgPool,
    inbox: &Inbox<Db>,
    offset: i64,
    isolation: &str,
    commits: bool,
) -> Result<Once, InboxError> {
    let mut first = pool.begin().await.unwrap();
    let once = inbox.once(&mut first, &record(offset)).await.unwrap();
    assert_eq!(once, Once::First);
    let second = {
        let (pool, inbox, isolation) = (pool.clone(), inbox.clone(), isolation.to_owned());
        tokio::spawn(async move {
            let mut second: Transaction<'_, Db> = pool.begin().await.unwrap();
            let sql = format!("set transaction isolation level {isolation}");
            sqlx::query(&sql).execute(&mut *second).await.unwrap();
            inbox.once(&mut second, &record(offset)).await
        })
    };
    one_waits(pool).await;
    match commits {
        true => first.commit().await.unwrap(),
        false => first.rollback().await.unwrap(),
    }
    second.await.unwrap()
}

#[tokio::test]
async fn of_two_duplicates_at_once_one_has_its_effect_on_postgresql() {
    let Some(postgres) = Postgres::start().await else {
        return;
    };
    let pool = postgres.pool(20);
    let migrate = || Inbox::postgres(pool.clone(), "notifier").migrate();
    let (one, other) = tokio::join!(migrate(), migrate());
    other.unwrap();
    let inbox = one.unwrap();

    let committed = "read committed";
    let seen = beside(&pool, &inbox, 1, committed, true).await;
    assert_eq!(seen.unwrap(), Once::Seen);
    let rolled_back = beside(&pool, &inbox, 2, committed, false).await;
    assert_eq!(rolled_back.unwrap(), Once::First);
    for (offset, isolation) in [(3, "repeatable read"), (4, "serializable")] {
        let refused = beside(&pool, &inbox, offset, isolation, true).await;
        let Err(InboxError::Database { source, .. }) = refused else {
            panic!("{isolation}: {refused:?}")
        };
        let code = source.as_database_error().and_then(|it| it.code());
        assert_eq!(code.as_deref(), Some("40001"), "{isolation}");
        let mut again = pool.begin().await.unwrap();
        let once = inbox.once(&mut again, &record(offset)).await.unwrap();
        assert_eq!(once, Once::Seen);
    }

    // Ten records, each twenty times at once.
    sqlx::query("create table effects (id text)")
        .execute(&pool)
        .await
        .unwrap();
    let attempts = (0..200_i64).map(|number| {
        let (pool, inbox) = (pool.clone(), inbox.clone());
        tokio::spawn(async move {
            let task = record(100 + number % 10);
            let mut transaction = pool.begin().await.unwrap();
            let by_message = number % 2 == 0;
            let once = match by_message {
                true => inbox
                    .once_by(&mut transaction, &task, DEADLINE)
                    .await
                    .map(Option::unwrap),
                false => inbox.once(&mut transaction, &task).await,
            };
            if once.unwrap() == Once::First {
                let sql = "insert into effects values ($1)";
                let query = sqlx::query(sql).bind(format!("{by_message} {}", task.offset()));
                query.execute(&mut *transaction).await.unwrap();
            }
            transaction.commit().await.unwrap();
        })
    });
    for attempt in Vec::from_iter(attempts) {
        attempt.await.unwrap();
    }
    assert_eq!(count(&pool, "effects").await, 10);
    assert_eq!(
        count(&pool, "(select distinct id from effects) as ids").await,
        10
    );

    let begin = async || inbox.begin(&record(5), "push", DEADLINE).await.unwrap();
    let Begun::First(killed) = begin().await else {
        panic!("it is the first")
    };
    sqlx::query("update keylane_inbox set lease_until = 0 where effect = 'push'")
        .execute(&pool)
        .await
        .unwrap();
    let Begun::TakenOver(effect) = begin().await else {
        panic!("its lease is over")
    };
    assert!(matches!(
        killed.complete().await,
        Err(InboxError::LeaseLost { .. })
    ));
    effect.complete().await.unwrap();
    assert!(matches!(begin().await, Begun::Done));

    stays_small(&pool, &inbox).await;
}

/// As many records as there are to be, with a position that follows them, leave no more in the table
/// than came within the wait. Each comes twice at once.
async fn stays_small(pool: &PgPool, inbox: &Inbox<Db>) {
    const ROUND: i64 = 1_000;
    pass(pool).await;
    sqlx::query("create table made (number bigint primary key)")
        .execute(pool)
        .await
        .unwrap();
    let before = count(pool, "keylane_inbox").await;
    let began = std::time::Instant::now();
    let (mut offset, mut most) = (1_000, 0);
    while offset < records() + 1_000 {
        let workers = (0..8).map(|worker| {
            let (pool, inbox) = (pool.clone(), inbox.clone());
            tokio::spawn(async move {
                for number in (offset..offset + ROUND).filter(|it| it % 4 == worker % 4) {
                    let mut transaction = pool.begin().await.unwrap();
                    let task = record(number);
                    if inbox.once(&mut transaction, &task).await.unwrap() == Once::First {
                        let query = sqlx::query("insert into made values ($1)").bind(number);
                        query.execute(&mut *transaction).await.unwrap();
                    }
                    transaction.commit().await.unwrap();
                }
            })
        });
        for worker in Vec::from_iter(workers) {
            worker.await.unwrap();
        }
        offset += ROUND;
        let committed = CommittedLog {
            topic: "parking".to_owned(),
            partition: 0,
            committed: Some((offset, Some(LOG))),
            topic_id: Some(LOG),
        };
        inbox.sweep_by(&[committed]).await.unwrap();
        most = most.max(count(pool, "keylane_inbox").await);
        let young = "update keylane_inbox set marked_at = marked_at - 100000 where marked_at > 1e9";
        sqlx::query(young).execute(pool).await.unwrap();
        sqlx::query("update keylane_inbox_positions set seen_at = seen_at - 100000")
            .execute(pool)
            .await
            .unwrap();
    }
    let made = count(pool, "made").await;
    assert_eq!(made, (offset - 1_000), "each record once");
    assert!(most <= 2 * ROUND + before, "{most} rows");
    let attempts = 2 * made;
    let each = began.elapsed().as_secs_f64() / f64::from(i32::try_from(attempts).unwrap());
    println!(
        "{made} records, each twice: at most {most} rows; {:.0} µs for each attempt",
        each * 1e6
    );
}

/// Whose answers are lost: each third record fails after its transaction has committed.
fn is_lost(value: &str) -> bool {
    value.parse::<u32>().is_ok_and(|number| number % 3 == 0)
}

#[tokio::test]
async fn retries_and_a_recreated_topic_have_each_effect_once_and_the_brokers_position_frees_the_table()
 {
    const RECORDS: usize = 60;
    let kafka = kafka_or_skip!(Nodes::One);
    let Some(postgres) = Postgres::start().await else {
        return;
    };
    let [topic, retries, group] =
        ["inbox", "inbox-retry", "inbox-group"].map(|it| kafka.unique(it));
    kafka.create_topic(&topic, 2, 1, &[]).await.unwrap();
    kafka.create_topic(&retries, 2, 1, &[]).await.unwrap();
    let pool = postgres.pool(20);
    sqlx::query("create table effects (id text)")
        .execute(&pool)
        .await
        .unwrap();
    let inbox = Inbox::postgres(pool.clone(), &*group).sweep_every(SECOND / 5);
    let inbox = inbox.migrate().await.unwrap();
    let seen = Arc::new(AtomicUsize::new(0));
    let process = {
        let (pool, inbox, seen) = (pool.clone(), inbox.clone(), seen.clone());
        move |task: Task<Bytes>| {
            let (pool, inbox, seen) = (pool.clone(), inbox.clone(), seen.clone());
            async move {
                let value = String::from_utf8_lossy(task.payload()).into_owned();
                let mut transaction = pool.begin().await?;
                if inbox.once(&mut transaction, &task).await? == Once::Seen {
                    seen.fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                }
                let query = sqlx::query("insert into effects values ($1)").bind(&value);
                query.execute(&mut *transaction).await?;
                transaction.commit().await?;
                match is_lost(&value) {
                    true => Err(TaskError::retryable("the answer of the commit was lost")),
                    false => Ok(()),
                }
            }
        }
    };
    let retry = Retry::none()
        .then_topic_named(&*retries)
        .topic_rounds(100)
        .topic_backoff(Backoff::fixed(Duration::from_millis(100)));
    let subscription = Subscription::builder(&*group, &*topic)
        .bootstrap_servers(kafka.bootstrap_servers())
        .commit_interval(Duration::from_millis(200))
        .retry(retry)
        .start(Raw, process)
        .await
        .unwrap();
    inbox.sweep(&subscription.handle()).unwrap();

    let lost = (0..RECORDS).filter(|it| is_lost(&it.to_string())).count();
    for round in 1..=2 {
        let records =
            (0..RECORDS).map(|it| NewRecord::keyed(format!("key-{}", it % 7), it.to_string()));
        kafka.produce(&topic, records.collect()).await.unwrap();
        wait_for(
            "every record had its effect, and every lost one was seen",
            DEADLINE,
            async || {
                let made = count(&pool, "effects").await >= i64::try_from(RECORDS * round).unwrap();
                (made && seen.load(Ordering::Relaxed) >= lost * round).then_some(())
            },
        )
        .await;
        let others =
            format!("(select id from effects group by id having count(*) <> {round}) as others");
        assert_eq!(count(&pool, &others).await, 0, "in round {round}");
        if round == 1 {
            // The same offsets, keys and values in another log.
            kafka.delete_topic(&topic).await.unwrap();
            kafka.create_topic(&topic, 2, 1, &[]).await.unwrap();
        }
    }
    wait_for("the table is empty", DEADLINE, async || {
        pass(&pool).await;
        (count(&pool, "keylane_inbox").await == 0).then_some(())
    })
    .await;
    subscription.shutdown().await.unwrap();
    let made = i64::try_from(RECORDS * 2).unwrap();
    assert_eq!(count(&pool, "effects").await, made);
}
