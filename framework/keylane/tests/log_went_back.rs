//! A log that is shorter than what was committed: cut by an unclean election, or re-created.
// Clippy allows it in test functions only, not in what they call.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{PATIENCE, eventually};
use keylane::{Json, NewTask, Subscription, Task, TaskError};
use keylane_core::commit_map::{self, About};
use keylane_core::{Evidence, LeaderEpoch, MAX_METADATA_BYTES, Position, SettledRange};
use keylane_embedded_broker::EmbeddedBroker;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::RDKafkaApiKey;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// A broker that keeps no leader epochs with commits, as older ones did: a position is taken as it
/// is.
fn without_epochs() -> MockCluster<'static, DefaultProducerContext> {
    let broker = MockCluster::new(1).unwrap();
    broker
        .apiversion(RDKafkaApiKey::OffsetFetch, Some(0), Some(4))
        .unwrap();
    broker
}

fn committed(client: &BaseConsumer) -> Offset {
    let mut partition = TopicPartitionList::new();
    partition.add_partition("tasks", 0);
    client
        .committed_offsets(partition, Duration::from_secs(10))
        .unwrap()
        .elements()[0]
        .offset()
}

/// Otherwise the records between the position reached and the old one would be passed over by a
/// restart after a crash.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_below_the_committed_one_is_committed_while_the_subscription_runs() {
    let broker = without_epochs();
    broker.create_topic("tasks", 1, 1).unwrap();
    let producer = common::producer(broker.bootstrap_servers(), "tasks").await;
    let tasks = (0..20).map(|i: u32| NewTask::json(&i).unwrap().key("k"));
    assert!(producer.enqueue_all(tasks).await.iter().all(Result::is_ok));
    let client: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap_servers())
        .set("group.id", "group")
        .create()
        .unwrap();
    let mut earlier = TopicPartitionList::new();
    earlier
        .add_partition_offset("tasks", 0, Offset::Offset(1_000))
        .unwrap();
    client.commit(&earlier, CommitMode::Sync).unwrap();

    let seen = Arc::new(AtomicUsize::new(0));
    let subscription = {
        let seen = seen.clone();
        Subscription::builder("group", "tasks")
            .bootstrap_servers(broker.bootstrap_servers())
            .kafka_settings(EmbeddedBroker::client_settings())
            // A member that gets no CPU for a while is not to be thrown out: nothing may come
            // twice.
            .kafka("session.timeout.ms", "10000")
            .start(Json, move |_: Task<u32>| {
                seen.fetch_add(1, Ordering::Relaxed);
                async { Ok::<(), TaskError>(()) }
            })
            .await
            .unwrap()
    };
    eventually("the log is read from its start", || {
        seen.load(Ordering::Relaxed) == 20
    })
    .await;
    eventually("the position reached is committed", || {
        committed(&client) == Offset::Offset(20)
    })
    .await;
    subscription.shutdown().await.unwrap();
    producer.close(PATIENCE).await.unwrap();
}

/// `latest` makes up the end, also where that lies below what was committed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_latest_a_shorter_log_is_read_from_its_end_which_is_committed() {
    let broker = without_epochs();
    broker.create_topic("tasks", 1, 1).unwrap();
    let producer = common::producer(broker.bootstrap_servers(), "tasks").await;
    let tasks = (0..20).map(|i: u32| NewTask::json(&i).unwrap().key("k"));
    assert!(producer.enqueue_all(tasks).await.iter().all(Result::is_ok));
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", broker.bootstrap_servers())
        .set("group.id", "group");
    let client: BaseConsumer = config.create().unwrap();
    let mut earlier = TopicPartitionList::new();
    earlier
        .add_partition_offset("tasks", 0, Offset::Offset(1_000))
        .unwrap();
    client.commit(&earlier, CommitMode::Sync).unwrap();

    let seen = Arc::new(AtomicUsize::new(0));
    let processor = {
        let seen = seen.clone();
        move |task: Task<u32>| {
            seen.fetch_add(*task.payload() as usize, Ordering::Relaxed);
            async { Ok::<(), TaskError>(()) }
        }
    };
    let subscription = Subscription::builder("group", "tasks")
        .bootstrap_servers(broker.bootstrap_servers())
        .kafka_settings(EmbeddedBroker::client_settings())
        .kafka("session.timeout.ms", "10000")
        .kafka("auto.offset.reset", "latest")
        .start(Json, processor)
        .await
        .unwrap();
    eventually("the end is committed", || {
        committed(&client) == Offset::Offset(20)
    })
    .await;
    assert!(
        producer
            .enqueue(NewTask::json(&1_000).unwrap().key("k"))
            .await
            .is_ok()
    );
    eventually("what comes then is read", || {
        committed(&client) == Offset::Offset(21)
    })
    .await;
    subscription.shutdown().await.unwrap();
    assert_eq!(seen.load(Ordering::Relaxed), 1_000, "and nothing else");
    producer.close(PATIENCE).await.unwrap();
}

/// A member that had read 20 records was killed; 10 of them were lost with their leader, and 10
/// others written in their place. The log is as long as before, and its map names offsets of both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_anew_under_another_leader_is_not_taken_for_settled() {
    let broker = MockCluster::new(1).unwrap();
    broker.create_topic("tasks", 1, 1).unwrap();
    let producer = common::producer(broker.bootstrap_servers(), "tasks").await;
    let write = async |numbers: std::ops::Range<u32>| {
        let tasks = numbers.map(|i| NewTask::json(&i).unwrap().key(i.to_string()));
        assert!(producer.enqueue_all(tasks).await.iter().all(Result::is_ok));
    };
    write(0..10).await;
    broker.partition_leader("tasks", 0, Some(1)).unwrap();
    write(10..20).await;
    let client: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap_servers())
        .set("group.id", "group")
        .create()
        .unwrap();
    let at = keylane_core::Offset::new;
    let ranges = [SettledRange {
        first: at(6),
        last: at(19),
    }];
    let about = About {
        log: None,
        leader_epoch: Some(LeaderEpoch::new(0)),
    };
    let metadata = commit_map::encode_for(
        about,
        Position::new(5),
        ranges,
        &Evidence::default(),
        MAX_METADATA_BYTES,
    )
    .text;
    let mut earlier = TopicPartitionList::new();
    let mut element = earlier.add_partition("tasks", 0);
    element.set_offset(Offset::Offset(5)).unwrap();
    element.set_metadata(&metadata);
    client.commit(&earlier, CommitMode::Sync).unwrap();

    let seen: Arc<Mutex<BTreeSet<u32>>> = Arc::default();
    let (release, released) = tokio::sync::watch::channel(false);
    let processor = {
        let seen = seen.clone();
        move |task: Task<u32>| {
            let (seen, mut released) = (seen.clone(), released.clone());
            async move {
                assert!(seen.lock().unwrap().insert(*task.payload()), "twice");
                if *task.payload() == 5 {
                    released
                        .wait_for(|released| *released)
                        .await
                        .map_err(TaskError::retryable)?;
                }
                Ok::<(), TaskError>(())
            }
        }
    };
    let subscription = Subscription::builder("group", "tasks")
        .bootstrap_servers(broker.bootstrap_servers())
        .kafka_settings(EmbeddedBroker::client_settings())
        .kafka("session.timeout.ms", "10000")
        .start(Json, processor)
        .await
        .unwrap();
    eventually("all but what was settled before is processed", || {
        seen.lock().unwrap().len() == 11
    })
    .await;
    let read = || {
        let mut partition = TopicPartitionList::new();
        partition.add_partition("tasks", 0);
        let committed = client.committed_offsets(partition, PATIENCE).unwrap();
        commit_map::decode(Position::new(5), committed.elements()[0].metadata()).unwrap()
    };
    // Of the next leader: what is settled now was read under it.
    let is_told =
        || read().leader_epoch == Some(LeaderEpoch::new(1)) && read().settled.contains(at(19));
    eventually(
        "the next commit has the leader epoch it was read under",
        is_told,
    )
    .await;
    release.send(true).unwrap();
    eventually("the position reached is committed", || {
        committed(&client) == Offset::Offset(20)
    })
    .await;
    subscription.shutdown().await.unwrap();
    assert_eq!(
        *seen.lock().unwrap(),
        [5].into_iter().chain(10..20).collect()
    );
    producer.close(PATIENCE).await.unwrap();
}

/// Stops the polling thread where it begins to look for the next position in the topic `cut`.
#[derive(Clone, Default)]
struct Gate {
    reached: Arc<AtomicBool>,
    open: Arc<AtomicBool>,
}

#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0 += &format!("{}={value:?} ", field.name());
    }
}

impl<S: Subscriber> Layer<S> for Gate {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        if text.0.contains("is outside of the log") && text.0.contains("topic=cut ") {
            self.reached.store(true, Ordering::Release);
            let since = std::time::Instant::now();
            while !self.open.load(Ordering::Acquire) && since.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// The log was cut below the position, and had grown past it before its end was known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_latest_a_log_that_was_cut_and_grew_again_is_read_on_from_the_position() {
    let gate = Gate::default();
    tracing_subscriber::registry().with(gate.clone()).init();
    let broker = without_epochs();
    broker.create_topic("cut", 1, 1).unwrap();
    let producer = common::producer(broker.bootstrap_servers(), "cut").await;
    let write = async |numbers: std::ops::Range<u32>| {
        let tasks = numbers.map(|i| NewTask::json(&i).unwrap().key("k"));
        assert!(producer.enqueue_all(tasks).await.iter().all(Result::is_ok));
    };
    write(0..20).await;
    let client: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap_servers())
        .set("group.id", "group")
        .create()
        .unwrap();
    let mut earlier = TopicPartitionList::new();
    earlier
        .add_partition_offset("cut", 0, Offset::Offset(25))
        .unwrap();
    client.commit(&earlier, CommitMode::Sync).unwrap();

    let seen: Arc<Mutex<Vec<u32>>> = Arc::default();
    let processor = {
        let seen = seen.clone();
        move |task: Task<u32>| {
            seen.lock().unwrap().push(*task.payload());
            async { Ok::<(), TaskError>(()) }
        }
    };
    let subscription = Subscription::builder("group", "cut")
        .bootstrap_servers(broker.bootstrap_servers())
        .kafka_settings(EmbeddedBroker::client_settings())
        .kafka("session.timeout.ms", "10000")
        .kafka("auto.offset.reset", "latest")
        .start(Json, processor)
        .await
        .unwrap();
    eventually("the log is seen to be shorter", || {
        gate.reached.load(Ordering::Acquire)
    })
    .await;
    write(20..30).await;
    gate.open.store(true, Ordering::Release);
    let watermark = || {
        subscription
            .status()
            .partitions
            .iter()
            .find_map(|p| p.snapshot.watermark)
    };
    eventually("the end is reached", || {
        watermark() == Some(Position::new(30))
    })
    .await;
    subscription.shutdown().await.unwrap();
    assert_eq!(*seen.lock().unwrap(), [25, 26, 27, 28, 29]);
    producer.close(PATIENCE).await.unwrap();
}
