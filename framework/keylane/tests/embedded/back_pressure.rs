//! Back-pressure costs no time of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::common::{PATIENCE, eventually, producer};
use bytes::Bytes;
use futures::future::join_all;
use keylane::config::Limits;
use keylane::{NewTask, Raw, Subscription, Task, TaskError};
use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};

/// Fetching pauses and resumes some hundred times. librdkafka's fetcher, with nothing but paused
/// partitions, goes to sleep each time, for up to a second unless it is woken; then patience ends
/// long before the records do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_is_resumed_is_fetched_at_once() {
    const RECORDS: usize = 20_000;
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
    broker.create_topic("tasks", 1).unwrap();
    let producer = producer(broker.bootstrap_servers(), "tasks").await;
    for first in (0..RECORDS).step_by(1_000) {
        let task = |number: usize| NewTask::new("task").key(number.to_string());
        let sent =
            join_all((first..first + 1_000).map(|number| producer.enqueue(task(number)))).await;
        assert!(sent.iter().all(Result::is_ok));
    }
    let done = Arc::new(AtomicUsize::new(0));
    let processor = {
        let done = done.clone();
        move |_: Task<Bytes>| {
            let done = done.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                done.fetch_add(1, Ordering::Relaxed);
                Ok::<(), TaskError>(())
            }
        }
    };
    let mut limits = Limits::default();
    (limits.pause_at_records, limits.resume_at_records) = (500, 300);
    let builder =
        Subscription::builder("group", "tasks").bootstrap_servers(broker.bootstrap_servers());
    let builder = builder
        .kafka_settings(EmbeddedBroker::client_settings())
        .concurrency(50)
        .limits(limits);
    let member = builder.start(Raw, processor).await.unwrap();
    eventually("all are processed", || {
        done.load(Ordering::Relaxed) >= RECORDS
    })
    .await;
    member.shutdown().await.unwrap();
    producer.close(PATIENCE).await.unwrap();
}
