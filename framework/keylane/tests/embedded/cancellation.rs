//! What work that an attempt has started elsewhere learns of its end, on the embedded broker.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::common::{self, PATIENCE, eventually};
use keylane::processing::Cancellation;
use keylane::subscription::SubscriptionBuilder;
use keylane::{Json, NewTask, Subscription, Task, TaskError};
use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};

async fn one_task() -> (EmbeddedBroker, SubscriptionBuilder) {
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
    broker.create_topic("tasks", 1).unwrap();
    let producer = common::producer(broker.bootstrap_servers(), "tasks").await;
    producer
        .enqueue(NewTask::json(&1).unwrap().key("key"))
        .await
        .unwrap();
    producer.close(PATIENCE).await.unwrap();
    let builder = Subscription::builder("group", "tasks")
        .bootstrap_servers(broker.bootstrap_servers())
        .kafka_settings(EmbeddedBroker::client_settings());
    (broker, builder)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_first_announces_its_deadline_and_then_cancels_what_still_runs() {
    let (_broker, builder) = one_task().await;
    let started = Instant::now();
    let running = Arc::new(AtomicU32::new(0));
    let elsewhere = Arc::new(Mutex::new(None));
    let (count, handle) = (running.clone(), elsewhere.clone());
    let subscription = builder
        .attempt_timeout(PATIENCE * 60)
        .start(Json, move |task: Task<u32>| {
            let cancellation = task.cancellation();
            assert!(!cancellation.is_draining() && !task.is_cancelled());
            let outlives = tokio::spawn(async move {
                cancellation.draining().await;
                let deadline = cancellation.deadline();
                cancellation.cancelled().await;
                deadline
            });
            *handle.lock().unwrap() = Some(outlives);
            count.fetch_add(1, Ordering::SeqCst);
            std::future::pending::<Result<(), TaskError>>()
        })
        .await
        .unwrap();
    eventually("the attempt runs", || running.load(Ordering::SeqCst) == 1).await;
    subscription
        .shutdown_within(Duration::from_millis(300))
        .await
        .unwrap();
    let outlives = elsewhere.lock().unwrap().take().unwrap();
    let deadline = tokio::time::timeout(PATIENCE, outlives)
        .await
        .expect("it was cancelled")
        .unwrap();
    // The attempt's own end would be an hour away.
    assert!(
        deadline.is_some_and(|deadline| deadline < started + PATIENCE * 30),
        "{deadline:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_takes_too_long_is_cancelled_and_the_next_one_is_not() {
    let (_broker, builder) = one_task().await;
    let handles: Arc<Mutex<Vec<Cancellation>>> = Arc::default();
    let seen = handles.clone();
    let subscription = builder
        .attempt_timeout(Duration::from_secs(2))
        .start(Json, move |task: Task<u32>| {
            seen.lock().unwrap().push(task.cancellation());
            async move {
                if task.attempt() == 1 {
                    std::future::pending::<()>().await;
                }
                assert!(!task.is_cancelled());
                Ok::<(), TaskError>(())
            }
        })
        .await
        .unwrap();
    eventually("it is tried again", || handles.lock().unwrap().len() == 2).await;
    let [first, second] = &handles.lock().unwrap().clone()[..] else {
        panic!("two attempts")
    };
    assert!(first.is_cancelled());
    assert!(first.deadline() < second.deadline());
    subscription.shutdown().await.unwrap();
    assert!(
        second.is_cancelled(),
        "the partition is no longer this member's"
    );
}
