//! Errors of the broker while records are fetched: nothing is passed over.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::common::{self, PATIENCE, eventually};
use keylane::config::Reading;
use keylane::status::{TroubleKind, TroublePlace};
use keylane::{Json, NewTask, Subscription, Task, TaskError, TaskProducer};
use keylane_embedded_broker::EmbeddedBroker;
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

/// librdkafka hands an error of a partition out among its records, with the offset of the next one.
async fn a_refused_fetch_before_a_pause_passes_no_record_over(reading: Reading) {
    let broker = MockCluster::new(1).unwrap();
    broker.create_topic("tasks", 8, 1).unwrap();
    let producer = common::producer(broker.bootstrap_servers(), "tasks").await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let subscription = {
        let seen = seen.clone();
        Subscription::builder("group", "tasks")
            .bootstrap_servers(broker.bootstrap_servers())
            .kafka_settings(EmbeddedBroker::client_settings())
            // A mock made by rdkafka lets a group's first member wait for three seconds.
            .kafka("session.timeout.ms", "6000")
            .reading(reading)
            .start(Json, move |task: Task<u32>| {
                seen.lock().unwrap().push(*task.payload());
                async { Ok::<(), TaskError>(()) }
            })
            .await
            .unwrap()
    };
    let enqueue = |from: u32| {
        producer.enqueue_all(
            (from..from + 40).map(|i| NewTask::json(&i).unwrap().partition(i as i32 % 8)),
        )
    };
    assert!(enqueue(0).await.iter().all(Result::is_ok));
    eventually("the first records are processed", || {
        seen.lock().unwrap().len() == 40
    })
    .await;

    broker.request_errors(
        RDKafkaApiKey::Fetch,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED],
    );
    let trouble = || subscription.status().trouble.map(|trouble| trouble.kind);
    eventually("the refused fetch is reported", || {
        trouble() == Some(TroubleKind::Authorization)
    })
    .await;
    let paused = || {
        subscription
            .status()
            .partitions
            .iter()
            .all(|partition| partition.paused)
    };
    subscription.handle().pause();
    eventually("fetching is paused", paused).await;
    assert!(enqueue(40).await.iter().all(Result::is_ok));
    subscription.handle().resume();

    // The last of each partition: what comes before it in its partition is fetched before it.
    eventually("the last records are processed", || {
        (72..80).all(|i| seen.lock().unwrap().contains(&i))
    })
    .await;
    subscription.shutdown().await.unwrap();
    let mut seen = seen.lock().unwrap().clone();
    seen.sort_unstable();
    assert_eq!(seen, (0..80).collect::<Vec<_>>(), "each record once");
    producer.close(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_fetch_before_a_pause_passes_no_record_over_in_batches() {
    a_refused_fetch_before_a_pause_passes_no_record_over(Reading::Batched).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_fetch_before_a_pause_passes_no_record_over_one_by_one() {
    a_refused_fetch_before_a_pause_passes_no_record_over(Reading::Polled).await;
}

/// The broker hands a batch out whole, however large. The client treats it as invalid, breaks the
/// connection, and fetches again, without end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_above_what_the_client_receives_is_trouble_as_long_as_it_lasts() {
    const LIMIT: &str = "65536";
    let broker = MockCluster::new(2).unwrap();
    for (topic, leader) in [("tasks", 1), ("others", 2)] {
        broker.create_topic(topic, 1, 1).unwrap();
        broker.partition_leader(topic, 0, Some(leader)).unwrap();
    }
    let large = TaskProducer::builder("tasks")
        .bootstrap_servers(broker.bootstrap_servers())
        .application_id("test")
        .kafka("compression.type", "none");
    let large = large.start().await.unwrap();
    let others = common::producer(broker.bootstrap_servers(), "others").await;
    assert!(
        large
            .enqueue(NewTask::json(&"x".repeat(200_000)).unwrap())
            .await
            .is_ok()
    );
    let seen = Arc::new(AtomicUsize::new(0));
    let subscription = {
        let seen = seen.clone();
        Subscription::builder("group", "tasks")
            .topic("others")
            .bootstrap_servers(broker.bootstrap_servers())
            .kafka_settings(EmbeddedBroker::client_settings())
            .kafka("session.timeout.ms", "6000")
            .kafka("message.max.bytes", "50000")
            .kafka("fetch.max.bytes", "50000")
            .kafka("receive.message.max.bytes", LIMIT)
            .start(Json, move |_: Task<String>| {
                seen.fetch_add(1, Ordering::Relaxed);
                async { Ok::<(), TaskError>(()) }
            })
            .await
            .unwrap()
    };
    let told = || {
        let troubles = subscription.status().troubles;
        troubles
            .into_iter()
            .find(|it| it.message.contains("receive.message.max.bytes"))
    };
    eventually("it is reported", || told().is_some()).await;
    // Records of another broker, and commits, are no evidence about it.
    for count in 1..=20 {
        assert!(others.enqueue(NewTask::json(&"x").unwrap()).await.is_ok());
        eventually("the other topic is read", || {
            seen.load(Ordering::Relaxed) == count
        })
        .await;
        let told = told().expect("it lasts");
        assert!(
            told.place == TroublePlace::Broker(1) && told.message.contains("max.message.bytes"),
            "{told:?}"
        );
    }
    subscription.shutdown().await.unwrap();
    for producer in [large, others] {
        producer.close(PATIENCE).await.unwrap();
    }
}
