//! A panic of any of our threads and tasks ends `run()` with an error that names it (guarantee G9).
// Clippy allows it in test functions only, not in what they call.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::types::RDKafkaApiKey;

use super::{State, Subscription, SubscriptionBuilder, SubscriptionError};
use crate::panics::planted::plant;
use crate::{EmbeddedBroker, EmbeddedBrokerOptions, NewTask, Raw, Reading, Task, TaskError, TaskProducer};

/// Nothing here takes this long; a test that gets there has failed.
const DEADLINE: Duration = Duration::from_secs(60);

fn broker(topic: &str, partitions: i32) -> EmbeddedBroker {
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
    broker.create_topic(topic, partitions).unwrap();
    broker.remember_requests();
    broker
}

/// Writes records in one batch, so that one read finds several.
async fn write(broker: &EmbeddedBroker, topic: &str, partitions: usize) {
    let producer = TaskProducer::builder(topic).bootstrap_servers(broker.bootstrap_servers()).application_id("test");
    let producer = producer.start().await.unwrap();
    let task = |i| NewTask::new("work").key("key").partition((i % partitions) as i32);
    for enqueued in producer.enqueue_all((0..20).map(task)).await {
        enqueued.unwrap();
    }
    producer.close(DEADLINE).await.unwrap();
}

/// Named as its topic.
fn builder(broker: &EmbeddedBroker, topic: &str) -> SubscriptionBuilder {
    let builder = Subscription::builder(topic, topic).bootstrap_servers(broker.bootstrap_servers());
    builder.kafka_settings(EmbeddedBroker::client_settings())
}

async fn start(builder: SubscriptionBuilder) -> Subscription {
    builder.start(Raw, |_: Task<Bytes>| async { Ok::<(), TaskError>(()) }).await.unwrap()
}

/// Waits for the end; the error's text.
async fn internal_error(subscription: Subscription) -> String {
    let handle = subscription.handle();
    match tokio::time::timeout(DEADLINE, subscription.run()).await.expect("run() does not end") {
        Err(SubscriptionError::Internal(text)) => {
            assert_eq!(handle.state(), State::Failed);
            text
        }
        other => panic!("not the panic's error: {other:?}"),
    }
}

async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_the_polling_thread_ends_run_wherever_in_a_batch_it_happens() {
    for (reading, name) in [(Reading::Batched, "batched"), (Reading::Polled, "polled")] {
        for steps in [0, 1, 3] {
            let topic = format!("panic-{name}-{steps}");
            let broker = broker(&topic, 1);
            write(&broker, &topic, 1).await;
            plant("intake", &topic, steps);
            let subscription = start(builder(&broker, &topic).reading(reading)).await;
            assert_eq!(internal_error(subscription).await, "the polling thread panicked: boom");
            assert_eq!(broker.requests(RDKafkaApiKey::LeaveGroup), 1, "{topic}: the group is left");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_the_polling_thread_while_a_revoke_is_unanswered_ends_run() {
    for place in ["pass", "handover"] {
        for assignor in ["cooperative-sticky", "range"] {
            panic_while_a_revoke_is_unanswered(place, assignor).await;
        }
    }
}

async fn panic_while_a_revoke_is_unanswered(place: &'static str, assignor: &str) {
    let topic = &format!("panic-{assignor}-{place}");
    let broker = broker(topic, 2);
    write(&broker, topic, 2).await;
    let builder = || builder(&broker, topic).kafka("partition.assignment.strategy", assignor);
    let first = builder().drain_timeout(DEADLINE);
    // Its attempts hold up the hand-over.
    let first = first.start(Raw, |_: Task<Bytes>| std::future::pending::<Result<(), TaskError>>()).await.unwrap();
    let handle = first.handle();
    let running = || handle.status().partitions.iter().filter(|it| it.running == 1).count();
    wait_until("both partitions run an attempt", || running() == 2).await;
    let second = start(builder().name("another")).await;
    wait_until("a revoke is unanswered", || handle.state() == State::Rebalancing).await;
    plant(place, topic, 0);
    assert_eq!(internal_error(first).await, "the polling thread panicked: boom");
    second.shutdown().await.unwrap();
}

/// Their caller is C, where no panic may go.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_callback_of_the_client_ends_run() {
    for place in ["assign", "revoke"] {
        let topic = &format!("panic-callback-{place}");
        let broker = broker(topic, 2);
        plant(place, topic, 0);
        let subscription = start(builder(&broker, topic)).await;
        let handle = subscription.handle();
        let has_both = || handle.status().partitions.len() == 2;
        // Otherwise both may get their share at once, and nothing would be revoked.
        wait_until("it has both partitions", || place == "assign" || has_both()).await;
        let second = start(builder(&broker, topic).name("another")).await;
        assert_eq!(internal_error(subscription).await, "a callback of the kafka client panicked: boom");
        assert_eq!(handle.status().partitions, []);
        second.shutdown().await.unwrap();
    }
}
