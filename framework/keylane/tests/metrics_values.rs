//! What a scrape shows while things happen. A test binary of its own: the recorder is one for the
//! whole process.
#![cfg(feature = "prometheus")]
// Clippy allows it in test functions only, not in what they call.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, mpsc};
use std::time::{Duration, SystemTime};

use common::{PATIENCE, eventually};
use keylane::config::{Backoff, Limits, Watchdog};
use keylane::metrics::{PrometheusEndpoint, serve_prometheus};
use keylane::status::{PausedBy, Position};
use keylane::subscription::{ActTime, OperatorNote, SubscriptionBuilder};
use keylane::{DeadLetter, Json, NewTask, Retry, Subscription, Task, TaskError, TaskProducer};
use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::{ClientConfig, TopicPartitionList};

static ENDPOINT: LazyLock<PrometheusEndpoint> = LazyLock::new(|| serve_prometheus(0).unwrap());

/// The sum of the series with this name and these labels; `None` where there are none.
fn value(name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let labels: Vec<_> = labels
        .iter()
        .map(|(label, value)| format!("{label}=\"{value}\""))
        .collect();
    let text = ENDPOINT.handle().render();
    let found = text.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let has_labels = labels.iter().all(|label| series.contains(label.as_str()));
        (series.split('{').next() == Some(name) && has_labels)
            .then(|| value.parse::<f64>().unwrap())
    });
    found.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}

fn is(name: &str, labels: &[(&str, &str)], expected: f64) -> bool {
    value(name, labels) == Some(expected)
}

fn is_above_zero(name: &str, labels: &[(&str, &str)]) -> bool {
    value(name, labels).is_some_and(|value| value > 0.0)
}

fn broker(topics: &[&str]) -> EmbeddedBroker {
    LazyLock::force(&ENDPOINT);
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
    for topic in topics {
        broker.create_topic(topic, 1).unwrap();
    }
    broker
}

fn subscribe(broker: &EmbeddedBroker, name: &str, topic: &str) -> SubscriptionBuilder {
    Subscription::builder(name, topic)
        .bootstrap_servers(broker.bootstrap_servers())
        .kafka_settings(EmbeddedBroker::client_settings())
        // A member that gets no CPU for a while is not to be thrown out: nothing may come twice.
        .kafka("session.timeout.ms", "6000")
}

fn task(number: u32) -> NewTask {
    NewTask::json(&number).unwrap().key(number.to_string())
}

/// Two of one group, as one with more topics or more places would be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_subscriptions_of_one_group_do_not_write_the_same_series() {
    let broker = broker(&[]);
    broker.create_topic("twins", 2).unwrap();
    let start = async || {
        let processor = async |_: Task<u32>| Ok::<(), TaskError>(());
        let builder = subscribe(&broker, "twins", "twins");
        builder.start(Json, processor).await.unwrap()
    };
    let (first, second) = (start().await, start().await);
    let assigned = |name: &str| value("keylane_assigned_partitions", &[("subscription", name)]);
    eventually("each has one of the two partitions", || {
        (assigned("twins"), assigned("twins-2")) == (Some(1.0), Some(1.0))
    })
    .await;

    second.shutdown().await.unwrap();
    eventually("the first one has both", || {
        assigned("twins") == Some(2.0) && assigned("twins-2").unwrap_or(0.0) == 0.0
    })
    .await;
    let third = start().await;
    eventually("the name is free again", || {
        (assigned("twins"), assigned("twins-2")) == (Some(1.0), Some(1.0))
    })
    .await;
    assert_eq!(assigned("twins-3"), None);
    first.shutdown().await.unwrap();
    third.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waits_for_a_retry_are_told_by_tier_and_are_no_workable_lag() {
    let broker = broker(&["waits", "waits-retry"]);
    let producer = common::producer(broker.bootstrap_servers(), "waits").await;
    let (soon, late) = (Duration::from_millis(20), Duration::from_secs(3600));
    let subscription = subscribe(&broker, "waits", "waits")
        .retry(
            Retry::in_place(1)
                .backoff(Backoff::exponential(soon, soon))
                .then_topic()
                .topic_backoff(Backoff::exponential(late, late)),
        )
        .start(Json, |task: Task<u32>| async move {
            if *task.payload() == 1 {
                Err(TaskError::retryable("not yet"))
            } else {
                Ok(())
            }
        })
        .await
        .unwrap();
    // Delivered before it is due.
    eventually("both topics are read", || {
        subscription.status().partitions.len() == 2
    })
    .await;
    producer.enqueue(task(1)).await.unwrap();
    producer
        .enqueue(task(2).not_before(SystemTime::now() + Duration::from_secs(5)))
        .await
        .unwrap();
    let by_tier = |tier| [("subscription", "waits"), ("tier", tier)];
    eventually("one waits in the retry topic", || {
        is(
            "keylane_waiting_for_retry_records",
            &by_tier("topic_first"),
            1.0,
        )
    })
    .await;
    eventually(
        "the other one has run, and its time is counted in full",
        || {
            is(
                "keylane_settled_total",
                &[("topic", "waits"), ("outcome", "done")],
                1.0,
            ) && is(
                "keylane_due_lateness_seconds_count",
                &[("subscription", "waits")],
                1.0,
            )
        },
    )
    .await;
    for tier in ["in_place", "topic_first", "not_before"] {
        assert_eq!(
            value("keylane_retry_wait_seconds_count", &by_tier(tier)),
            Some(1.0),
            "{tier}"
        );
    }
    assert!(value("keylane_retry_wait_seconds_sum", &by_tier("topic_first")).unwrap() > 2000.0);
    assert_eq!(
        value("keylane_delivered_total", &[("topic", "waits")]),
        Some(2.0)
    );

    let waiting = [("topic", "waits-retry")];
    eventually(
        "lag in seconds counts what waits, and workable lag does not",
        || {
            is_above_zero("keylane_lag_seconds", &waiting)
                && is("keylane_workable_lag_seconds", &waiting, 0.0)
        },
    )
    .await;
    eventually("there is nothing to do", || {
        is_above_zero("keylane_starved_seconds_total", &[("topic", "waits")])
    })
    .await;
    for section in ["wait", "read", "hand_over", "pause", "commit", "rebalance"] {
        let labels = [("subscription", "waits"), ("section", section)];
        eventually("the polling thread's time is counted by section", || {
            is_above_zero("keylane_poll_duration_seconds_count", &labels)
                && is_above_zero("keylane_poll_duration_seconds_sum", &labels)
        })
        .await;
    }
    // A time of day, not an age.
    assert!(
        value(
            "keylane_last_poll_timestamp_seconds",
            &[("subscription", "waits")]
        )
        .unwrap()
            > 1.6e9
    );
    subscription.shutdown().await.unwrap();
    assert_eq!(
        value(
            "keylane_last_poll_timestamp_seconds",
            &[("subscription", "waits")]
        ),
        None
    );
    producer.close(PATIENCE).await.unwrap();
}

/// Also where more are skipped than may be pending: each gives back what it takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_operator_skips_is_counted_and_takes_no_room() {
    let broker = broker(&["skips"]);
    let producer = common::producer(broker.bootstrap_servers(), "skips").await;
    let done = Arc::new(AtomicBool::new(false));
    let limits = Limits::default().pause_at_records(5).resume_at_records(2);
    let last = done.clone();
    let subscription = subscribe(&broker, "skips", "skips")
        .limits(limits)
        .concurrency(2)
        .start(Json, move |task: Task<u32>| {
            last.fetch_or(*task.payload() == 30, Ordering::Relaxed);
            let fails = *task.payload() == 0;
            async move {
                match fails {
                    true => Err(TaskError::retry_after(
                        "not yet",
                        Duration::from_secs(3_600),
                    )),
                    false => Ok(()),
                }
            }
        })
        .await
        .unwrap();
    eventually("it has its partition", || {
        subscription.status().partitions.len() == 1
    })
    .await;
    let note = || OperatorNote::new("ann", "INC-7");
    let handle = subscription.handle();
    for offset in 1..30 {
        let skipped = handle.skip("skips", 0, offset, note()).await;
        assert_eq!(skipped, Ok(ActTime::AtItsDelivery));
    }
    for number in 0..=30 {
        producer.enqueue(task(number)).await.unwrap();
    }
    eventually("the one behind them is done", || {
        done.load(Ordering::Relaxed)
    })
    .await;
    eventually("the first one waits", || {
        let partitions = subscription.status().partitions;
        partitions.iter().any(|it| it.snapshot.waiting == 1)
    })
    .await;
    assert_eq!(handle.skip("skips", 0, 0, note()).await, Ok(ActTime::Now));
    let labels = [("topic", "skips"), ("outcome", "skipped_by_operator")];
    eventually("each is counted", || {
        is("keylane_settled_total", &labels, 30.0)
    })
    .await;
    subscription.shutdown().await.unwrap();
    producer.close(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_shows_with_its_kind_and_what_is_held_and_that_it_is_over() {
    let broker = broker(&["outage", "outage-dead"]);
    let producer = common::producer(broker.bootstrap_servers(), "outage").await;
    let is_down = Arc::new(AtomicBool::new(true));
    let soon = Duration::from_millis(50);
    let subscription = {
        let is_down = is_down.clone();
        subscribe(&broker, "outage", "outage")
            .retry(Retry::for_at_least(soon * 10).backoff(Backoff::exponential(soon, soon)))
            .dead_letter(DeadLetter::topic("outage-dead"))
            .start(Json, move |_: Task<u32>| {
                let is_down = is_down.load(Ordering::Relaxed);
                async move {
                    if is_down {
                        Err(TaskError::retryable("down"))
                    } else {
                        Ok(())
                    }
                }
            })
            .await
            .unwrap()
    };
    let this = [("subscription", "outage")];
    let total = [("subscription", "outage"), ("kind", "total")];
    eventually("there is none", || {
        is("keylane_outage", &this, 0.0) && is("keylane_held_records", &this, 0.0)
    })
    .await;
    assert_eq!(subscription.status().outage, None);
    for number in 0..5 {
        producer.enqueue(task(number)).await.unwrap();
    }
    eventually("it shows", || {
        is("keylane_outage", &total, 1.0) && is("keylane_held_records", &this, 5.0)
    })
    .await;
    assert!(is_above_zero("keylane_outage_holds_total", &this));
    is_down.store(false, Ordering::Relaxed);
    eventually("it is over", || {
        is("keylane_outage", &this, 0.0) && is("keylane_held_records", &this, 0.0)
    })
    .await;
    assert_eq!(subscription.status().outage, None);
    subscription.shutdown().await.unwrap();
    producer.close(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lies_in_the_dead_letter_topic_is_counted_from_any_writer_and_absent_where_it_is_unknown()
 {
    let broker = broker(&["counted", "uncounted", "counted-keylane-ops"]);
    broker.create_topic("counted-dead", 3).unwrap();
    let producer = common::producer(broker.bootstrap_servers(), "counted-dead").await;
    for number in 0..7 {
        let letter = task(number).partition((number % 3) as i32);
        producer.enqueue(letter).await.unwrap();
    }
    // Both letters of partition 1 are resolved, and one that does not exist.
    let resolved = |key: &str| {
        let value = r#"{"v":1,"who":"ada","why":"","at":"2026-11-30T14:00:00.000Z"}"#;
        NewTask::new(value).key(key.to_owned())
    };
    let operations = common::producer(broker.bootstrap_servers(), "counted-keylane-ops").await;
    for key in [
        "resolved/counted-dead/1/0/1",
        "resolved/counted-dead/1/100/100",
    ] {
        operations.enqueue(resolved(key)).await.unwrap();
    }
    operations.close(PATIENCE).await.unwrap();
    let start = async |topic: &str, dead_letter: Option<DeadLetter>| {
        let mut builder = subscribe(&broker, topic, topic);
        if let Some(dead_letter) = dead_letter {
            builder = builder.dead_letter(dead_letter);
        }
        builder
            .start(Json, |_: Task<u32>| async { Ok::<(), TaskError>(()) })
            .await
            .unwrap()
    };
    let with = start("counted", Some(DeadLetter::topic("counted-dead"))).await;
    let without = start("uncounted", None).await;
    let records = |name: &str| {
        value(
            "keylane_dead_letter_topic_records",
            &[("subscription", name)],
        )
    };
    let open = |name: &str| value("keylane_open_dead_letters", &[("subscription", name)]);
    eventually("they are counted", || records("counted") == Some(7.0)).await;
    eventually("those that are not resolved are counted", || {
        open("counted") == Some(5.0)
    })
    .await;
    eventually("the other one runs", || {
        without.status().partitions.len() == 1
    })
    .await;
    assert_eq!((records("uncounted"), open("uncounted")), (None, None));
    with.shutdown().await.unwrap();
    without.shutdown().await.unwrap();
    eventually("an end is no empty topic", || {
        records("counted").is_none() && open("counted").is_none()
    })
    .await;
    producer.close(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_records_not_due_keep_from_being_read_says_so() {
    let broker = broker(&["deaf"]);
    let producer = common::producer(broker.bootstrap_servers(), "deaf").await;
    let hour = SystemTime::now() + Duration::from_secs(3600);
    for number in 0..200 {
        producer
            .enqueue(task(number).not_before(hour))
            .await
            .unwrap();
    }
    let mut limits = Limits::default();
    (limits.pause_at_records, limits.resume_at_records) = (100, 70);
    let subscription = subscribe(&broker, "deaf", "deaf")
        .limits(limits)
        .start(Json, |_: Task<u32>| async { Ok::<(), TaskError>(()) })
        .await
        .unwrap();
    let this = [("topic", "deaf")];
    eventually("the metric shows it", || {
        is("keylane_paused_by_not_due", &this, 1.0)
    })
    .await;
    eventually("the status shows it", || {
        let status = subscription.status().partitions[0].clone();
        status.paused
            && status.paused_by == Some(PausedBy::NotDue)
            && status.snapshot.not_due >= 100
    })
    .await;
    // A pause by the user is its own cause.
    subscription.handle().pause();
    eventually("the user's pause comes first", || {
        subscription.status().partitions[0].paused_by == Some(PausedBy::User)
            && is("keylane_paused_by_not_due", &this, 0.0)
    })
    .await;
    subscription.shutdown().await.unwrap();
    producer.close(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_processor_that_blocks_its_thread_shows() {
    let broker = broker(&["blocks"]);
    let producer = common::producer(broker.bootstrap_servers(), "blocks").await;
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let short = Duration::from_millis(100);
    let subscription = subscribe(&broker, "blocks", "blocks")
        .watchdog(Watchdog::default().slow_attempt(short).stalled_after(short))
        .start(Json, move |_: Task<u32>| {
            let _ = released.lock().unwrap().recv_timeout(2 * PATIENCE);
            async { Ok::<(), TaskError>(()) }
        })
        .await
        .unwrap();
    producer.enqueue(task(1)).await.unwrap();
    let this = [("subscription", "blocks")];
    eventually("it is blocked", || {
        is_above_zero("keylane_blocked_seconds", &this)
    })
    .await;
    release.send(()).unwrap();
    eventually("it is no longer", || {
        is("keylane_blocked_seconds", &this, 0.0)
    })
    .await;
    subscription.shutdown().await.unwrap();
    producer.close(PATIENCE).await.unwrap();
}

/// Writes more than the mock keeps, which is 5 MB as they are sent.
async fn lose_records(broker: &MockCluster<'_, DefaultProducerContext>, topic: &str) {
    let producer = TaskProducer::builder(topic)
        .bootstrap_servers(broker.bootstrap_servers())
        .application_id("test")
        .kafka("compression.type", "none")
        .start()
        .await
        .unwrap();
    let tasks = (0..10).map(|_| NewTask::json(&"x".repeat(900_000)).unwrap());
    assert!(producer.enqueue_all(tasks).await.iter().all(Result::is_ok));
    producer.close(PATIENCE).await.unwrap();
}

fn first_offset(broker: &MockCluster<'_, DefaultProducerContext>, topic: &str) -> i64 {
    let mut config = ClientConfig::new();
    let client: BaseConsumer = config
        .set("bootstrap.servers", broker.bootstrap_servers())
        .create()
        .unwrap();
    client.fetch_watermarks(topic, 0, PATIENCE).unwrap().0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_are_deleted_before_a_start_or_in_a_pause_are_counted() {
    LazyLock::force(&ENDPOINT);
    let broker = MockCluster::new(1).unwrap();
    broker.create_topic("deleted", 1, 1).unwrap();
    let subscription = async |reset| {
        Subscription::builder("deleted", "deleted")
            .bootstrap_servers(broker.bootstrap_servers())
            .kafka_settings(EmbeddedBroker::client_settings())
            .kafka("session.timeout.ms", "10000")
            .kafka("auto.offset.reset", reset)
            .start(Json, async |_: Task<String>| Ok::<(), TaskError>(()))
            .await
            .unwrap()
    };
    let passed_over = || {
        value("keylane_passed_over_records_total", &[("topic", "deleted")]).unwrap_or(0.0) as i64
    };
    let watermark = |s: &Subscription| s.status().partitions.first()?.snapshot.watermark;

    let first = subscription("earliest").await;
    lose_records(&broker, "deleted").await;
    eventually("all that is there is read", || {
        watermark(&first) == Some(Position::new(10))
    })
    .await;
    first.shutdown().await.unwrap();
    assert_eq!(
        passed_over(),
        0,
        "what was read before it was deleted is not passed over"
    );

    // No member reads in this time.
    lose_records(&broker, "deleted").await;
    lose_records(&broker, "deleted").await;
    let gone = first_offset(&broker, "deleted") - 10;
    assert!(gone > 0, "the mock keeps more than it did");
    let second = subscription("earliest").await;
    eventually("what is left is read", || {
        watermark(&second) == Some(Position::new(30))
    })
    .await;
    assert_eq!(passed_over(), gone);

    second.handle().pause_partition("deleted", 0).unwrap();
    eventually("the pause is in force", || {
        second
            .status()
            .partitions
            .iter()
            .all(|p| p.paused_by_user && p.paused)
    })
    .await;
    lose_records(&broker, "deleted").await;
    lose_records(&broker, "deleted").await;
    let gone = gone + first_offset(&broker, "deleted") - 30;
    second.handle().resume_partition("deleted", 0).unwrap();
    eventually("what is left is read", || {
        watermark(&second) == Some(Position::new(50))
    })
    .await;
    second.shutdown().await.unwrap();
    assert_eq!(passed_over(), gone);

    // All that is left is left out as well; the end is committed.
    lose_records(&broker, "deleted").await;
    lose_records(&broker, "deleted").await;
    let third = subscription("latest").await;
    eventually("the end is known", || {
        watermark(&third) == Some(Position::new(70))
    })
    .await;
    third.shutdown().await.unwrap();
    assert_eq!(passed_over(), gone + 20);
}

/// The mock cluster takes the present leader's epoch for that of the commit, and that ends far
/// below the position.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_was_cut_below_the_committed_position_is_counted_once() {
    let broker = broker(&["cut"]);
    let producer = common::producer(broker.bootstrap_servers(), "cut").await;
    let write = async || assert!(producer.enqueue(NewTask::json(&"x").unwrap()).await.is_ok());
    write().await;
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", broker.bootstrap_servers())
        .set("group.id", "cut");
    tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = config.create().unwrap();
        let mut committed = TopicPartitionList::new();
        committed
            .add_partition_offset("cut", 0, rdkafka::Offset::Offset(1_000_000))
            .unwrap();
        consumer.commit(&committed, CommitMode::Sync).unwrap();
    })
    .await
    .unwrap();
    let subscription = subscribe(&broker, "cut", "cut")
        .start(Json, async |_: Task<String>| Ok::<(), TaskError>(()))
        .await
        .unwrap();
    let settled = || value("keylane_settled_total", &[("topic", "cut")]).unwrap_or(0.0);
    let deadline = std::time::Instant::now() + PATIENCE;
    // Those that are written before the query of the log lie below the cut.
    while settled() < 3.0 {
        assert!(
            std::time::Instant::now() < deadline,
            "not all are read: {:?}",
            subscription.status()
        );
        write().await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(is(
        "keylane_log_cuts_total",
        &[
            ("subscription", "cut"),
            ("topic", "cut"),
            ("partition", "0")
        ],
        1.0
    ));
    subscription.shutdown().await.unwrap();
    producer.close(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_that_is_left_to_another_group_is_counted_and_one_that_is_held_shows_as_what_the_commit_waits_for()
 {
    let broker = broker(&["theirs", "theirs-retry"]);
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", broker.bootstrap_servers())
        .set("group.id", "alive");
    tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = config.create().unwrap();
        let mut committed = TopicPartitionList::new();
        committed
            .add_partition_offset("theirs-retry", 0, rdkafka::Offset::Offset(0))
            .unwrap();
        consumer.commit(&committed, CommitMode::Sync).unwrap();
    })
    .await
    .unwrap();
    let retries = common::producer(broker.bootstrap_servers(), "theirs-retry").await;
    for group in ["alive", "alive", "unheard-of"] {
        retries
            .enqueue(task(1).header("keylane-group", group))
            .await
            .unwrap();
    }
    let subscription = subscribe(&broker, "theirs", "theirs")
        .retry(Retry::none().then_topic())
        .start(Json, |_: Task<u32>| async { Ok::<(), TaskError>(()) })
        .await
        .unwrap();
    let settled = |outcome| {
        value(
            "keylane_settled_total",
            &[("topic", "theirs-retry"), ("outcome", outcome)],
        )
        .unwrap_or(0.0) as u64
    };
    eventually("both are left to their group", || settled("foreign") == 2).await;
    let held = [("topic", "theirs-retry"), ("state", "held")];
    eventually("the other one is held", || {
        is("keylane_watermark_state", &held, 1.0)
    })
    .await;
    subscription.shutdown().await.unwrap();
    assert_eq!((settled("foreign"), settled("done")), (2, 0));
    retries.close(PATIENCE).await.unwrap();
}
