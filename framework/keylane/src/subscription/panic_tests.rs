//! A panic of any of our threads and tasks ends `run()` with an error that names it (guarantee G9).
// Clippy allows it in test functions only, not in what they call.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::types::RDKafkaApiKey;

use super::SubscriptionBuilder;
use crate::Subscription;
use crate::config::Reading;
use crate::status::{State, SubscriptionError};
use crate::support::panics::planted::plant;
use crate::{DeadLetter, NewTask, Raw, Retry, Task, TaskError, TaskProducer};
use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};

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
    let producer = TaskProducer::builder(topic)
        .bootstrap_servers(broker.bootstrap_servers())
        .application_id("test");
    let producer = producer.start().await.unwrap();
    let task = |i| {
        NewTask::new("work")
            .key("key")
            .partition((i % partitions) as i32)
    };
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
    builder
        .start(Raw, |_: Task<Bytes>| async { Ok::<(), TaskError>(()) })
        .await
        .unwrap()
}

/// Waits for the end; the error's text.
async fn internal_error(subscription: Subscription) -> String {
    let handle = subscription.handle();
    match tokio::time::timeout(DEADLINE, subscription.run())
        .await
        .expect("run() does not end")
    {
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
            plant("batching", &topic, steps);
            let subscription = start(builder(&broker, &topic).reading(reading)).await;
            assert_eq!(
                internal_error(subscription).await,
                "the polling thread panicked: boom"
            );
            assert_eq!(
                broker.requests(RDKafkaApiKey::LeaveGroup),
                1,
                "{topic}: the group is left"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_the_polling_thread_while_a_revoke_is_unanswered_ends_run() {
    for place in ["pass in a hand-over", "hand-over"] {
        for assignor in ["cooperative-sticky", "range"] {
            panic_while_a_revoke_is_unanswered(place, assignor).await;
        }
    }
}

async fn panic_while_a_revoke_is_unanswered(place: &'static str, assignor: &str) {
    let topic = &format!("panic-{assignor}-{}", place.len());
    let broker = broker(topic, 2);
    write(&broker, topic, 2).await;
    // A session that is over before the panic would leave nothing to be revoked.
    let settings = [
        ("partition.assignment.strategy", assignor),
        ("session.timeout.ms", "3000"),
    ];
    let builder = || builder(&broker, topic).kafka_settings(settings);
    let first = builder().drain_timeout(DEADLINE);
    // Its attempts hold up the hand-over.
    let first = first
        .start(Raw, |_: Task<Bytes>| {
            std::future::pending::<Result<(), TaskError>>()
        })
        .await
        .unwrap();
    let handle = first.handle();
    let running = || {
        handle
            .status()
            .partitions
            .iter()
            .filter(|it| it.snapshot.running == 1)
            .count()
    };
    wait_until("both partitions run an attempt", || running() == 2).await;
    plant(place, topic, 0);
    let second = start(builder().name("another")).await;
    assert_eq!(
        internal_error(first).await,
        "the polling thread panicked: boom"
    );
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
        assert_eq!(
            internal_error(subscription).await,
            "a callback of the kafka client panicked: boom"
        );
        assert_eq!(handle.status().partitions, []);
        second.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_an_owner_or_of_its_tasks_ends_run() {
    for (place, who) in [("owner", "the owner"), ("write", "a task of the owner")] {
        let topic = &format!("panic-{place}");
        let (broker, dead) = (broker(topic, 1), format!("{topic}-dead"));
        broker.create_topic(&dead, 1).unwrap();
        write(&broker, topic, 1).await;
        let builder = builder(&broker, topic).dead_letter(DeadLetter::topic(&dead));
        plant(place, topic, 1);
        let fails = |_: Task<Bytes>| async { Err::<(), _>(TaskError::fatal("no")) };
        let subscription = builder.start(Raw, fails).await.unwrap();
        assert_eq!(
            internal_error(subscription).await,
            format!("{who} of {topic}-0 panicked: boom")
        );
        assert_eq!(
            broker.requests(RDKafkaApiKey::LeaveGroup),
            1,
            "{topic}: the group is left"
        );
    }
}

/// Also where the owner was ordered to end, so that its end is expected.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_an_owner_during_a_shutdown_is_its_error() {
    let topic = "panic-shutdown";
    let broker = broker(topic, 1);
    write(&broker, topic, 1).await;
    let never = |_: Task<Bytes>| std::future::pending::<Result<(), TaskError>>();
    let subscription = builder(&broker, topic).start(Raw, never).await.unwrap();
    let handle = subscription.handle();
    wait_until("an attempt runs", || {
        handle
            .status()
            .partitions
            .iter()
            .any(|it| it.snapshot.running == 1)
    })
    .await;
    plant("owner", topic, 0);
    let ended = tokio::time::timeout(DEADLINE, subscription.shutdown_within(DEADLINE))
        .await
        .expect("it ends");
    let text = ended.unwrap_err().to_string();
    assert!(
        text.ends_with("the owner of panic-shutdown-0 panicked: boom"),
        "{text}"
    );
}

/// What was settled is committed by then, but whether the group was left is not known.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_while_the_client_is_closed_is_the_shutdowns_error() {
    let topic = "panic-close";
    let broker = broker(topic, 1);
    plant("close", topic, 0);
    let subscription = start(builder(&broker, topic)).await;
    let handle = subscription.handle();
    let ended = tokio::time::timeout(DEADLINE, subscription.shutdown_within(DEADLINE))
        .await
        .expect("it ends");
    let text = ended.unwrap_err().to_string();
    assert!(
        text.ends_with("the thread that closes the client panicked: boom"),
        "{text}"
    );
    assert_eq!(handle.state(), State::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_the_producers_thread_ends_run() {
    let (topic, dead) = ("panic-producer", "panic-producer-dead");
    let broker = broker(topic, 1);
    broker.create_topic(dead, 1).unwrap();
    plant("producer", broker.bootstrap_servers(), 0);
    let subscription = start(builder(&broker, topic).dead_letter(DeadLetter::topic(dead))).await;
    assert_eq!(
        internal_error(subscription).await,
        "the producer's thread panicked: boom"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_the_thread_that_asks_for_end_offsets_ends_run() {
    let topic = "panic-end-offsets";
    let broker = broker(topic, 1);
    plant("end offsets", broker.bootstrap_servers(), 0);
    let subscription = start(builder(&broker, topic)).await;
    // A partition that does not fetch is queried.
    subscription.handle().pause();
    assert_eq!(
        internal_error(subscription).await,
        "the thread that queries end offsets panicked: boom"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_the_thread_that_asks_about_other_groups_ends_run() {
    let broker = broker("panic-foreign", 1);
    broker.create_topic("panic-foreign-retry", 1).unwrap();
    let producer =
        TaskProducer::builder("panic-foreign-retry").bootstrap_servers(broker.bootstrap_servers());
    let producer = producer.application_id("test").start().await.unwrap();
    producer
        .enqueue(NewTask::new("work").header("keylane-group", "another"))
        .await
        .unwrap();
    producer.close(DEADLINE).await.unwrap();
    plant("foreign", "panic-foreign-retry", 0);
    let subscription =
        start(builder(&broker, "panic-foreign").retry(Retry::none().then_topic())).await;
    let error = internal_error(subscription).await;
    assert_eq!(error, "the thread that queries other groups panicked: boom");
    assert_eq!(
        broker.requests(RDKafkaApiKey::LeaveGroup),
        1,
        "the group is left"
    );
}
