//! Trials that others could keep from ending: the whole process waits for them.
//!
//! A suspect that blocks its thread: its partition's owner has to stay awake, or neither its name
//! nor its trial would ever be given back. A suspect beside attempts that hang in all places of
//! `max_in_flight`: it is tried all the same.
// Clippy allows it in test functions only, not in what they call.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use common::{PATIENCE, eventually};
use keylane::{Json, NewTask, Subscription, Task, TaskError};
use keylane_core::{
    Evidence, Instance, MAX_METADATA_BYTES, Named, Offset, Position, Suspect, commit_map,
};
use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{ClientConfig, TopicPartitionList};

/// It was named at a crash before, and the process that ran it ended again.
fn crashed() -> String {
    let named = Offset::new(0);
    let evidence = Evidence {
        running: Some(Instance::new(7)),
        named: Named::Nobody,
        unclean_starts: 2,
        suspects: vec![Suspect {
            offset: named,
            crashes: 1,
            survived: false,
        }],
    };
    commit_map::encode(Position::new(0), [], &evidence, MAX_METADATA_BYTES).text
}

/// Trials are the process's.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Commits for the partition what a crash left.
fn commit_a_crash(broker: &EmbeddedBroker, partition: i32) {
    let client: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap_servers())
        .set("group.id", "group")
        .create()
        .unwrap();
    let mut left = TopicPartitionList::new();
    let mut element = left.add_partition("tasks", partition);
    element.set_offset(rdkafka::Offset::Offset(0)).unwrap();
    element.set_metadata(crashed());
    client.commit(&left, CommitMode::Sync).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_suspect_is_tried_although_attempts_that_hang_have_all_places() {
    let _alone = ALONE.lock().await;
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
    broker.create_topic("tasks", 2).unwrap();
    let producer = common::producer(broker.bootstrap_servers(), "tasks").await;
    for partition in [0, 1] {
        let task = NewTask::json(&partition).unwrap().partition(partition);
        assert!(producer.enqueue(task).await.is_ok());
    }
    commit_a_crash(&broker, 1);
    let (hangs, tried) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    let subscription = {
        let (hangs, tried) = (hangs.clone(), tried.clone());
        Subscription::builder("group", "tasks")
            .bootstrap_servers(broker.bootstrap_servers())
            .kafka_settings(EmbeddedBroker::client_settings())
            .max_in_flight(1)
            .start(Json, move |task: Task<u32>| {
                let (hangs, tried) = (hangs.clone(), tried.clone());
                async move {
                    if task.partition() == 1 {
                        tried.store(true, Ordering::SeqCst);
                        return Ok::<(), TaskError>(());
                    }
                    hangs.store(true, Ordering::SeqCst);
                    std::future::pending().await
                }
            })
            .await
            .unwrap()
    };
    let handle = subscription.handle();
    // Before the assignment: so the other record is there first.
    handle.pause();
    eventually("both are assigned", || {
        handle.pause_partition("tasks", 1).is_ok() && subscription.status().partitions.len() == 2
    })
    .await;
    handle.resume();
    eventually("the place is taken for good", || {
        hangs.load(Ordering::SeqCst)
    })
    .await;
    handle.resume_partition("tasks", 1).unwrap();
    eventually("the suspect is tried", || tried.load(Ordering::SeqCst)).await;
    subscription.shutdown_within(Duration::ZERO).await.unwrap();
    producer.close(Duration::from_secs(10)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_partition_that_waits_for_a_place_keeps_its_turn_while_a_suspect_is_tried() {
    let _alone = ALONE.lock().await;
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
    broker.create_topic("tasks", 3).unwrap();
    let producer = common::producer(broker.bootstrap_servers(), "tasks").await;
    let write = async |partition: i32| {
        let task = NewTask::json(&partition).unwrap().partition(partition);
        assert!(producer.enqueue(task).await.is_ok());
    };
    for partition in [0, 2] {
        write(partition).await;
    }
    commit_a_crash(&broker, 2);
    let started: [Arc<AtomicBool>; 3] = std::array::from_fn(|_| Arc::default());
    let subscription = {
        let started = started.clone();
        Subscription::builder("group", "tasks")
            .bootstrap_servers(broker.bootstrap_servers())
            .kafka_settings(EmbeddedBroker::client_settings())
            .max_in_flight(1)
            .start(Json, move |task: Task<u32>| {
                started[task.partition() as usize].store(true, Ordering::SeqCst);
                std::future::pending::<Result<(), TaskError>>()
            })
            .await
            .unwrap()
    };
    let handle = subscription.handle();
    handle.pause();
    eventually("all are assigned", || {
        handle.pause_partition("tasks", 2).is_ok() && subscription.status().partitions.len() == 3
    })
    .await;
    handle.resume();
    let has_started = |partition: usize| started[partition].load(Ordering::SeqCst);
    eventually("the place is taken for good", || has_started(0)).await;
    let second = || {
        let partitions = subscription.status().partitions;
        partitions.into_iter().find(|p| p.partition == 1).unwrap()
    };
    write(1).await;
    eventually("the second waits for it", || second().waits_for_place).await;
    handle.resume_partition("tasks", 2).unwrap();
    eventually("the suspect is tried", || has_started(2)).await;
    write(1).await;
    eventually("the second has made a pass since", || {
        second().snapshot.pending == 2
    })
    .await;
    assert!(second().waits_for_place && !has_started(1));
    subscription.shutdown_within(Duration::ZERO).await.unwrap();
    producer.close(Duration::from_secs(10)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn while_a_suspect_blocks_its_thread_its_owner_reports_and_no_other_subscription_starts() {
    let _alone = ALONE.lock().await;
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
    broker.create_topic("tasks", 1).unwrap();
    broker.create_topic("others", 1).unwrap();
    let others = common::producer(broker.bootstrap_servers(), "others").await;
    let producer = common::producer(broker.bootstrap_servers(), "tasks").await;
    assert!(
        producer
            .enqueue(NewTask::json(&0).unwrap().key("k"))
            .await
            .is_ok()
    );
    commit_a_crash(&broker, 0);

    let (release, released) = mpsc::channel::<()>();
    let (blocks, released) = (
        Arc::new(AtomicBool::new(false)),
        std::sync::Mutex::new(released),
    );
    let (done, beside) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let other = {
        let (blocks, done, beside) = (blocks.clone(), done.clone(), beside.clone());
        Subscription::builder("others", "others")
            .bootstrap_servers(broker.bootstrap_servers())
            .kafka_settings(EmbeddedBroker::client_settings())
            .start(Json, move |_: Task<u32>| {
                beside.fetch_or(blocks.load(Ordering::SeqCst), Ordering::SeqCst);
                done.fetch_add(1, Ordering::SeqCst);
                async { Ok::<(), TaskError>(()) }
            })
            .await
            .unwrap()
    };
    let write = async || {
        let task = NewTask::json(&0).unwrap().key("k");
        assert!(others.enqueue(task).await.is_ok());
    };
    write().await;
    eventually("the other one has its mark", || {
        done.load(Ordering::SeqCst) == 1
    })
    .await;
    let subscription = {
        let blocks = blocks.clone();
        Subscription::builder("group", "tasks")
            .bootstrap_servers(broker.bootstrap_servers())
            .kafka_settings(EmbeddedBroker::client_settings())
            .start(Json, move |_: Task<u32>| {
                blocks.store(true, Ordering::SeqCst);
                let _ = released.lock().unwrap().recv_timeout(2 * PATIENCE);
                blocks.store(false, Ordering::SeqCst);
                async { Ok::<(), TaskError>(()) }
            })
            .await
            .unwrap()
    };
    eventually("the suspect runs", || blocks.load(Ordering::SeqCst)).await;
    eventually("its owner reports it", || {
        subscription
            .status()
            .partitions
            .iter()
            .any(|partition| partition.snapshot.running == 1)
    })
    .await;
    write().await;
    eventually("the other one has a record", || {
        let status = other.status();
        let mut partitions = status.partitions.iter();
        partitions.any(|partition| partition.snapshot.pending == 1)
            || done.load(Ordering::SeqCst) == 2
    })
    .await;
    release.send(()).unwrap();
    eventually("the other one goes on", || done.load(Ordering::SeqCst) == 2).await;
    assert!(!beside.load(Ordering::SeqCst), "it ran beside the trial");
    other.shutdown().await.unwrap();
    others.close(Duration::from_secs(10)).await.unwrap();
    subscription.shutdown().await.unwrap();
    producer.close(Duration::from_secs(10)).await.unwrap();
}
