//! A suspect that blocks its thread: its partition's owner has to stay awake, or neither its mark
//! nor its turn, for which the whole process is quiet, would ever be given back.
// Clippy allows it in test functions only, not in what they call.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
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
async fn the_owner_of_a_suspect_that_blocks_its_thread_still_has_its_turns() {
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
    broker.create_topic("tasks", 1).unwrap();
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
    let subscription = {
        let blocks = blocks.clone();
        Subscription::builder("group", "tasks")
            .bootstrap_servers(broker.bootstrap_servers())
            .kafka_settings(EmbeddedBroker::client_settings())
            .start(Json, move |_: Task<u32>| {
                blocks.store(true, Ordering::Relaxed);
                let _ = released.lock().unwrap().recv_timeout(2 * PATIENCE);
                async { Ok::<(), TaskError>(()) }
            })
            .await
            .unwrap()
    };
    eventually("the suspect runs", || blocks.load(Ordering::Relaxed)).await;
    eventually("its owner reports it", || {
        subscription
            .status()
            .partitions
            .iter()
            .any(|partition| partition.snapshot.running == 1)
    })
    .await;
    release.send(()).unwrap();
    subscription.shutdown().await.unwrap();
    producer.close(Duration::from_secs(10)).await.unwrap();
}
