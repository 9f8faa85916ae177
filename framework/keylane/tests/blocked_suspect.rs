//! A suspect that blocks its thread: its partition's owner has to stay awake, or neither its name
//! nor its trial, which the whole process waits for, would ever be given back.
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

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn while_a_suspect_blocks_its_thread_its_owner_reports_and_no_other_subscription_starts() {
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
    let client: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap_servers())
        .set("group.id", "group")
        .create()
        .unwrap();
    let mut left = TopicPartitionList::new();
    let mut element = left.add_partition("tasks", 0);
    element.set_offset(rdkafka::Offset::Offset(0)).unwrap();
    element.set_metadata(crashed());
    client.commit(&left, CommitMode::Sync).unwrap();

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
