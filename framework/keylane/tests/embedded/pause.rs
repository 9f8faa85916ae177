//! A pause by the user: when it may be relied upon.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::common::{PATIENCE, eventually, producer};
use bytes::Bytes;
use keylane::status::{PartitionStatus, State};
use keylane::{NewTask, Raw, Subscription, Task, TaskError};
use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};

/// Attempts block their thread while this is set; no longer when the test ends, or its runtime
/// would not.
struct Blocks(Arc<AtomicBool>);

impl Drop for Blocks {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// An owner in the middle of a pass, kept there by an attempt that blocks, has not read a pause
/// yet, and may start more. Once the status shows the pause, none starts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_is_told_when_the_owner_has_seen_it_and_not_before() {
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
    broker.create_topic("tasks", 1).unwrap();
    let producer = producer(broker.bootstrap_servers(), "tasks").await;
    let (started, blocks) = (
        Arc::new(AtomicUsize::new(0)),
        Blocks(Arc::new(AtomicBool::new(true))),
    );
    let processor = {
        let (started, blocks) = (started.clone(), blocks.0.clone());
        move |_: Task<Bytes>| {
            started.fetch_add(1, Ordering::SeqCst);
            while blocks.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
            async { Ok::<(), TaskError>(()) }
        }
    };
    let builder =
        Subscription::builder("group", "tasks").bootstrap_servers(broker.bootstrap_servers());
    // A member that gets no CPU for a while is not to be thrown out: nothing may come twice.
    let builder = builder
        .kafka_settings(EmbeddedBroker::client_settings())
        .kafka("session.timeout.ms", "6000");
    let member = builder.start(Raw, processor).await.unwrap();
    let partition = || member.status().partitions.first().cloned();
    let paused = |check: fn(&PartitionStatus) -> bool| {
        partition().is_some_and(|partition| check(&partition))
    };

    let mut records = 100;
    let tasks = (0..records).map(|number| NewTask::new("task").key(number.to_string()));
    assert!(producer.enqueue_all(tasks).await.iter().all(Result::is_ok));
    let mut by_then = 0;
    // The second time, the status has shown an earlier pause, which is over.
    for _ in 0..2 {
        eventually("an attempt blocks", || {
            started.load(Ordering::SeqCst) == by_then + 1
        })
        .await;
        member.handle().pause();
        eventually("fetching is paused", || {
            member.state() == State::Paused && paused(|it| it.paused)
        })
        .await;
        assert!(!paused(|it| it.paused_by_user), "the owner cannot know");

        blocks.0.store(false, Ordering::SeqCst);
        eventually("the pause is in force", || paused(|it| it.paused_by_user)).await;
        by_then = started.load(Ordering::SeqCst);
        assert_eq!(partition().unwrap().snapshot.running, 0);
        assert!(
            producer
                .enqueue(NewTask::new("late").key("0"))
                .await
                .is_ok()
        );
        records += 1;
        eventually("its lag is seen", || {
            partition().unwrap().lag_records == Some((records - by_then) as u64)
        })
        .await;
        assert_eq!(started.load(Ordering::SeqCst), by_then);
        blocks.0.store(true, Ordering::SeqCst);
        member.handle().resume();
    }
    blocks.0.store(false, Ordering::SeqCst);
    eventually("all are done", || started.load(Ordering::SeqCst) == records).await;
    member.shutdown().await.unwrap();
    producer.close(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_runs_knows_its_partitions() {
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
    broker.create_topic("tasks", 4).unwrap();
    let builder =
        Subscription::builder("group", "tasks").bootstrap_servers(broker.bootstrap_servers());
    let processor = |_: Task<Bytes>| async { Ok::<(), TaskError>(()) };
    let member = builder
        .kafka_settings(EmbeddedBroker::client_settings())
        .start(Raw, processor)
        .await
        .unwrap();
    eventually("it is a member", || member.state() == State::Running).await;
    assert_eq!(member.status().partitions.len(), 4);
    assert_eq!(member.handle().pause_partition("tasks", 3), Ok(()));
    member.shutdown().await.unwrap();
}

/// Nothing of it is read, and what waits in it counts all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_is_paused_before_its_first_record_shows_its_lag() {
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
    broker.create_topic("tasks", 2).unwrap();
    let producer = producer(broker.bootstrap_servers(), "tasks").await;
    for partition in [0, 1, 1] {
        let task = NewTask::new("early").partition(partition);
        assert!(producer.enqueue(task).await.is_ok());
    }
    let processor = |_: Task<Bytes>| std::future::pending::<Result<(), TaskError>>();
    let member = Subscription::builder("group", "tasks")
        .bootstrap_servers(broker.bootstrap_servers())
        .kafka_settings(EmbeddedBroker::client_settings())
        .start(Raw, processor)
        .await
        .unwrap();
    member.handle().pause();
    let lag = || {
        let partitions = member.status().partitions;
        partitions
            .iter()
            .map(|it| it.lag_records)
            .collect::<Vec<_>>()
    };
    eventually("its lag is seen", || lag() == [Some(1), Some(2)]).await;
    member.shutdown_within(Duration::ZERO).await.unwrap();
    producer.close(PATIENCE).await.unwrap();
}
