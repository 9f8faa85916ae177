//! A pause by the user: when it may be relied upon.
#![cfg(feature = "embedded-broker")]
// Clippy allows it in test functions only, not in what they call.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use bytes::Bytes;
use common::{PATIENCE, eventually, producer};
use keylane::{
    EmbeddedBroker, EmbeddedBrokerOptions, NewTask, PartitionStatus, Raw, State, Subscription, Task, TaskError,
};

const RECORDS: usize = 100;

/// An owner in the middle of a turn, here held there by an attempt that blocks, does not know of a pause: others of that turn
/// start behind it. Whoever is told of a pause may rely on it that none does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_is_told_when_the_owner_has_seen_it_and_not_before() {
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
    broker.create_topic("tasks", 1).unwrap();
    let producer = producer(broker.bootstrap_servers(), "tasks").await;
    let (started, (closed, gate)) = (Arc::new(AtomicUsize::new(0)), mpsc::channel::<()>());
    let processor = {
        let (started, gate) = (started.clone(), Mutex::new(gate));
        move |_: Task<Bytes>| {
            started.fetch_add(1, Ordering::SeqCst);
            // Until the sender is dropped.
            let _open = gate.lock().unwrap().recv();
            async { Ok::<(), TaskError>(()) }
        }
    };
    let builder = Subscription::builder("group", "tasks").bootstrap_servers(broker.bootstrap_servers());
    // A member that gets no CPU for a while is not to be thrown out: nothing may come twice.
    let builder = builder.kafka_settings(EmbeddedBroker::client_settings()).kafka("session.timeout.ms", "6000");
    let member = builder.start(Raw, processor).await.unwrap();
    let partition = || member.status().partitions.first().cloned();
    let paused = |check: fn(&PartitionStatus) -> bool| partition().is_some_and(|partition| check(&partition));

    let tasks = (0..RECORDS).map(|number| NewTask::new("task").key(number.to_string()));
    assert!(producer.enqueue_all(tasks).await.iter().all(Result::is_ok));
    eventually("an attempt blocks", || started.load(Ordering::SeqCst) == 1).await;
    member.handle().pause();
    eventually("fetching is paused", || member.state() == State::Paused && paused(|partition| partition.paused)).await;
    assert!(!paused(|partition| partition.paused_by_user), "the owner cannot know");

    drop(closed);
    eventually("the pause is in force", || paused(|partition| partition.paused_by_user)).await;
    let by_then = started.load(Ordering::SeqCst);
    assert_eq!(partition().unwrap().running, 0);
    assert!(producer.enqueue(NewTask::new("late").key("0")).await.is_ok());
    eventually("its lag is seen", || partition().unwrap().lag_records > Some((RECORDS - by_then) as u64)).await;
    assert_eq!(started.load(Ordering::SeqCst), by_then);

    member.handle().resume();
    eventually("all are done", || started.load(Ordering::SeqCst) == RECORDS + 1).await;
    member.shutdown().await.unwrap();
    producer.close(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_runs_knows_its_partitions() {
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
    broker.create_topic("tasks", 4).unwrap();
    let builder = Subscription::builder("group", "tasks").bootstrap_servers(broker.bootstrap_servers());
    let processor = |_: Task<Bytes>| async { Ok::<(), TaskError>(()) };
    let member = builder.kafka_settings(EmbeddedBroker::client_settings()).start(Raw, processor).await.unwrap();
    eventually("it is a member", || member.state() == State::Running).await;
    assert_eq!(member.status().partitions.len(), 4);
    assert_eq!(member.handle().pause_partition("tasks", 3), Ok(()));
    member.shutdown().await.unwrap();
}
