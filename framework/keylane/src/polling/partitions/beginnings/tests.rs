//! Starts that are confirmed, on the mock cluster: it takes the present leader's epoch for that of
//! each commit, and says where the last batch of an epoch ends.
// Clippy allows it in test functions only, not in what they call.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::mocking::MockCoordinator;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::status::{PausedBy, SubscriptionError};
use crate::{Json, NewTask, Subscription, Task, TaskError, TaskProducer};
use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions, EvictionGuard};

const PATIENCE: Duration = Duration::from_secs(60);

type Seen = Arc<Mutex<BTreeSet<(i32, u32)>>>;

fn broker(brokers: u8, partitions: i32) -> EmbeddedBroker {
    let options = EmbeddedBrokerOptions::default()
        .brokers(brokers)
        .eviction_guard(EvictionGuard::Off);
    let broker = EmbeddedBroker::start(options).unwrap();
    broker.create_topic("tasks", partitions).unwrap();
    broker
}

async fn producer(broker: &EmbeddedBroker) -> TaskProducer {
    let builder = TaskProducer::builder("tasks").bootstrap_servers(broker.bootstrap_servers());
    builder.application_id("test").start().await.unwrap()
}

async fn write(producer: &TaskProducer, partition: i32, numbers: std::ops::Range<u32>) {
    let tasks = numbers.map(|number| NewTask::json(&number).unwrap().partition(partition));
    assert!(producer.enqueue_all(tasks).await.iter().all(Result::is_ok));
}

async fn member(broker: &EmbeddedBroker, reset: &str, seen: &Seen) -> Subscription {
    let seen = seen.clone();
    let processor = move |task: Task<u32>| {
        seen.lock()
            .unwrap()
            .insert((task.partition(), *task.payload()));
        async { Ok::<(), TaskError>(()) }
    };
    Subscription::builder("group", "tasks")
        .bootstrap_servers(broker.bootstrap_servers())
        .kafka_settings(EmbeddedBroker::client_settings())
        // A member that gets no CPU for a while is not to be thrown out.
        .kafka("session.timeout.ms", "10000")
        .kafka("reconnect.backoff.max.ms", "100")
        .kafka("auto.offset.reset", reset)
        .start(Json, processor)
        .await
        .unwrap()
}

fn client(broker: &EmbeddedBroker) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", broker.bootstrap_servers())
        .set("group.id", "group");
    config.create().unwrap()
}

fn commit(client: &BaseConsumer, partitions: std::ops::Range<i32>, position: i64) {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition_offset("tasks", partition, Offset::Offset(position))
            .unwrap();
    }
    client.commit(&list, CommitMode::Sync).unwrap();
}

fn committed(client: &BaseConsumer) -> Offset {
    let mut list = TopicPartitionList::new();
    list.add_partition("tasks", 0);
    client.committed_offsets(list, PATIENCE).unwrap().elements()[0].offset()
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn is_confirmed(broker: &EmbeddedBroker, partitions: usize) -> bool {
    broker.requests(RDKafkaApiKey::OffsetForLeaderEpoch) >= partitions
}

/// The records 20 to 24 were read and lost; others are written in their place.
async fn what_is_written_anew_is_processed(reset: &str) {
    let broker = broker(1, 1);
    let producer = producer(&broker).await;
    write(&producer, 0, 0..20).await;
    let client = client(&broker);
    commit(&client, 0..1, 25);
    broker.remember_requests();
    let seen = Seen::default();
    let member = member(&broker, reset, &seen).await;
    eventually("the log is asked", || is_confirmed(&broker, 1)).await;
    write(&producer, 0, 20..40).await;
    eventually("the position reached is committed", || {
        committed(&client) == Offset::Offset(40)
    })
    .await;
    member.shutdown().await.unwrap();
    assert_eq!(
        *seen.lock().unwrap(),
        (20..40).map(|number| (0, number)).collect(),
        "and nothing else"
    );
    producer.close(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_anew_below_the_committed_position_is_processed() {
    what_is_written_anew_is_processed("earliest").await;
}

/// The client goes to where the log was cut, and not to its end: all from there on is new.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_reset_latest_too_what_is_written_anew_is_processed() {
    what_is_written_anew_is_processed("latest").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_the_leader_does_not_confirm_is_reported_until_it_does() {
    let broker = broker(1, 1);
    let producer = producer(&broker).await;
    write(&producer, 0, 0..20).await;
    commit(&client(&broker), 0..1, 5);
    let error = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    broker
        .cluster()
        .request_errors(RDKafkaApiKey::OffsetForLeaderEpoch, &[error; 1_000]);
    let seen = Seen::default();
    let member = member(&broker, "earliest", &seen).await;
    let says = |paused_by| {
        let status = member.status();
        status
            .partitions
            .first()
            .is_some_and(|partition| partition.paused_by == paused_by)
    };
    let lag = || {
        member
            .status()
            .partitions
            .first()
            .and_then(|partition| partition.lag_records)
    };
    eventually("it says so", || {
        lag() == Some(15) && says(Some(PausedBy::NoPosition))
    })
    .await;
    assert!(seen.lock().unwrap().is_empty());
    broker
        .cluster()
        .clear_request_errors(RDKafkaApiKey::OffsetForLeaderEpoch);
    eventually("all are processed", || seen.lock().unwrap().len() == 15).await;
    eventually("it is well", || says(None)).await;
    member.shutdown().await.unwrap();
    producer.close(PATIENCE).await.unwrap();
}

/// An assignment had no answer. The question after that blocks the polling thread, so its time is
/// short at first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_coordinator_is_heard_in_the_end() {
    let broker = broker(2, 1);
    broker
        .cluster()
        .partition_leader("tasks", 0, Some(1))
        .unwrap();
    broker
        .cluster()
        .coordinator(MockCoordinator::Group("group".into()), 2)
        .unwrap();
    let producer = producer(&broker).await;
    write(&producer, 0, 0..20).await;
    commit(&client(&broker), 0..1, 5);
    let error = RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED;
    broker
        .cluster()
        .request_errors(RDKafkaApiKey::OffsetFetch, &[error; 3]);
    let seen = Seen::default();
    let member = member(&broker, "earliest", &seen).await;
    let no_position = |partition: &crate::status::PartitionStatus| {
        partition.paused_by == Some(PausedBy::NoPosition)
    };
    eventually("it waits", || {
        member.status().partitions.iter().any(no_position)
    })
    .await;
    broker
        .cluster()
        .broker_round_trip_time(2, Duration::from_millis(700))
        .unwrap();
    broker
        .cluster()
        .clear_request_errors(RDKafkaApiKey::OffsetFetch);
    eventually("all are processed", || seen.lock().unwrap().len() == 15).await;
    broker
        .cluster()
        .broker_round_trip_time(2, Duration::ZERO)
        .unwrap();
    member.shutdown().await.unwrap();
    producer.close(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_reset_error_a_cut_log_ends_the_subscription_and_names_the_partition() {
    let broker = broker(1, 1);
    let producer = producer(&broker).await;
    write(&producer, 0, 0..20).await;
    commit(&client(&broker), 0..1, 25);
    let member = member(&broker, "error", &Seen::default()).await;
    let ended = tokio::time::timeout(PATIENCE, member.run()).await.unwrap();
    let is_clear = |why: &str| {
        ["tasks-0", "truncation", "set the group's offset"]
            .iter()
            .all(|word| why.contains(word))
    };
    assert!(
        matches!(&ended, Err(SubscriptionError::OffsetReset(why)) if is_clear(why)),
        "{ended:?}"
    );
    producer.close(PATIENCE).await.unwrap();
}

/// Both what waits for its leader and what does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_whose_leader_is_away_keeps_no_other_from_its_start_and_starts_when_it_is_back()
{
    let broker = broker(2, 2);
    broker
        .cluster()
        .partition_leader("tasks", 0, Some(2))
        .unwrap();
    broker
        .cluster()
        .partition_leader("tasks", 1, Some(1))
        .unwrap();
    let group = rdkafka::mocking::MockCoordinator::Group("group".into());
    broker.cluster().coordinator(group, 1).unwrap();
    let producer = producer(&broker).await;
    for partition in 0..2 {
        write(&producer, partition, 0..10).await;
    }
    commit(&client(&broker), 0..2, 5);
    broker.cluster().broker_down(2).unwrap();
    let seen = Seen::default();
    let member = member(&broker, "earliest", &seen).await;
    let read = |partition| {
        seen.lock()
            .unwrap()
            .iter()
            .filter(|(of, _)| *of == partition)
            .count()
    };
    eventually("the other is read", || read(1) == 5).await;
    assert_eq!(read(0), 0);
    broker.cluster().broker_up(2).unwrap();
    eventually("it is read when its leader is back", || read(0) == 5).await;
    member.shutdown().await.unwrap();
    producer.close(PATIENCE).await.unwrap();
}

/// All are asked for at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_partitions_are_confirmed_and_start() {
    const PARTITIONS: i32 = 200;
    let broker = broker(3, PARTITIONS);
    let producer = producer(&broker).await;
    for partition in 0..PARTITIONS {
        write(&producer, partition, 0..2).await;
    }
    commit(&client(&broker), 0..PARTITIONS, 1);
    broker.remember_requests();
    let seen = Seen::default();
    let member = member(&broker, "earliest", &seen).await;
    eventually("it is assigned", || {
        member.status().partitions.len() == PARTITIONS as usize
    })
    .await;
    eventually("all are read", || {
        seen.lock().unwrap().len() == PARTITIONS as usize
    })
    .await;
    assert!(is_confirmed(&broker, PARTITIONS as usize));
    let no_position = |partition: &crate::status::PartitionStatus| {
        partition.paused_by == Some(PausedBy::NoPosition)
    };
    eventually("all have a position", || {
        !member.status().partitions.iter().any(no_position)
    })
    .await;
    member.shutdown().await.unwrap();
    producer.close(PATIENCE).await.unwrap();
}
