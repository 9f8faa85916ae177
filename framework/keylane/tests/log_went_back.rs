//! A log that is shorter than what was committed: cut by an unclean election, or made anew.
#![cfg(feature = "embedded-broker")]
// Clippy allows it in test functions only, not in what they call.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{PATIENCE, eventually};
use keylane::{EmbeddedBroker, EmbeddedBrokerOptions, Json, NewTask, Subscription, Task, TaskError};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

fn committed(client: &BaseConsumer) -> Offset {
    let mut partition = TopicPartitionList::new();
    partition.add_partition("tasks", 0);
    client.committed_offsets(partition, Duration::from_secs(10)).unwrap().elements()[0].offset()
}

/// Otherwise the records between the position reached and the old one would be passed over by a restart after a crash.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_below_the_committed_one_is_committed_while_the_subscription_runs() {
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
    broker.create_topic("tasks", 1).unwrap();
    let producer = common::producer(broker.bootstrap_servers(), "tasks").await;
    let tasks = (0..20).map(|i: u32| NewTask::json(&i).unwrap().key("k"));
    assert!(producer.enqueue_all(tasks).await.iter().all(Result::is_ok));
    let client: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap_servers())
        .set("group.id", "group")
        .create()
        .unwrap();
    let mut earlier = TopicPartitionList::new();
    earlier.add_partition_offset("tasks", 0, Offset::Offset(1_000)).unwrap();
    client.commit(&earlier, CommitMode::Sync).unwrap();

    let seen = Arc::new(AtomicUsize::new(0));
    let subscription = {
        let seen = seen.clone();
        Subscription::builder("group", "tasks")
            .bootstrap_servers(broker.bootstrap_servers())
            .kafka_settings(EmbeddedBroker::client_settings())
            // A member that gets no CPU for a while is not to be thrown out: nothing may come twice.
            .kafka("session.timeout.ms", "6000")
            .start(Json, move |_: Task<u32>| {
                seen.fetch_add(1, Ordering::Relaxed);
                async { Ok::<(), TaskError>(()) }
            })
            .await
            .unwrap()
    };
    eventually("the log is read from its start", || seen.load(Ordering::Relaxed) == 20).await;
    eventually("the position reached is committed", || committed(&client) == Offset::Offset(20)).await;
    subscription.shutdown().await.unwrap();
    producer.close(PATIENCE).await.unwrap();
}

/// `latest` makes up the end, also where that lies below what was committed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_latest_a_shorter_log_is_read_from_its_end_which_is_committed() {
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
    broker.create_topic("tasks", 1).unwrap();
    let producer = common::producer(broker.bootstrap_servers(), "tasks").await;
    let tasks = (0..20).map(|i: u32| NewTask::json(&i).unwrap().key("k"));
    assert!(producer.enqueue_all(tasks).await.iter().all(Result::is_ok));
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.bootstrap_servers()).set("group.id", "group");
    let client: BaseConsumer = config.create().unwrap();
    let mut earlier = TopicPartitionList::new();
    earlier.add_partition_offset("tasks", 0, Offset::Offset(1_000)).unwrap();
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
        .kafka("session.timeout.ms", "6000")
        .kafka("auto.offset.reset", "latest")
        .start(Json, processor)
        .await
        .unwrap();
    eventually("the end is committed", || committed(&client) == Offset::Offset(20)).await;
    assert!(producer.enqueue(NewTask::json(&1_000).unwrap().key("k")).await.is_ok());
    eventually("what comes then is read", || committed(&client) == Offset::Offset(21)).await;
    subscription.shutdown().await.unwrap();
    assert_eq!(seen.load(Ordering::Relaxed), 1_000, "and nothing else");
    producer.close(PATIENCE).await.unwrap();
}
