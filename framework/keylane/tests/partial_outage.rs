//! A part of the cluster is away: one trouble, as long as it lasts, and one line in the log.
// Clippy allows it in test functions only, not in what they call.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{PATIENCE, eventually};
use keylane::status::{TroubleKind, TroublePlace};
use keylane::{Json, NewTask, Subscription, Task, TaskError};
use keylane_embedded_broker::EmbeddedBroker;
use rdkafka::mocking::{MockCluster, MockCoordinator};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// keylane's own lines of a level above debug that have a kind of trouble.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<(Level, String)>>>);

struct Text {
    text: String,
    of_trouble: bool,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.of_trouble |= field.name() == "kind";
        self.text += &format!("{}={value:?} ", field.name());
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Text {
            text: String::new(),
            of_trouble: false,
        };
        event.record(&mut line);
        let level = *event.metadata().level();
        if line.of_trouble
            && level <= Level::INFO
            && event.metadata().target().starts_with("keylane")
        {
            self.0.lock().unwrap().push((level, line.text));
        }
    }
}

/// HOUSE D-C: 29 warnings and 29 all-clears in 28 s, and none shown in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_coordinator_is_away_and_two_brokers_deliver() {
    let lines = Lines::default();
    tracing_subscriber::registry().with(lines.clone()).init();
    let cluster = MockCluster::new(3).unwrap();
    cluster.create_topic("tasks", 2, 3).unwrap();
    for partition in 0..2 {
        cluster
            .partition_leader("tasks", partition, Some(partition + 2))
            .unwrap();
    }
    cluster
        .coordinator(MockCoordinator::Group("group".into()), 1)
        .unwrap();
    let done = Arc::new(AtomicUsize::new(0));
    let processor = {
        let done = done.clone();
        move |_: Task<u32>| {
            done.fetch_add(1, Ordering::Relaxed);
            async { Ok::<(), TaskError>(()) }
        }
    };
    let subscription = Subscription::builder("group", "tasks")
        .bootstrap_servers(cluster.bootstrap_servers())
        .kafka_settings(EmbeddedBroker::client_settings())
        // A mock made by rdkafka lets a group's first member wait for three seconds. And longer
        // than this takes.
        .kafka("session.timeout.ms", "300000")
        .kafka("reconnect.backoff.max.ms", "500")
        .commit_interval(Duration::from_millis(100))
        .start(Json, processor)
        .await
        .unwrap();
    let producer = common::producer(cluster.bootstrap_servers(), "tasks").await;
    let sent = AtomicU32::new(0);
    let one_more_is_processed = async || {
        let number = sent.fetch_add(1, Ordering::Relaxed);
        let task = NewTask::json(&number)
            .unwrap()
            .partition((number % 2) as i32);
        producer.enqueue(task).await.unwrap();
        eventually("the record is processed", || {
            done.load(Ordering::Relaxed) == number as usize + 1
        })
        .await;
    };
    one_more_is_processed().await;
    let place = || {
        subscription
            .status()
            .troubles
            .into_iter()
            .find(|it| it.place == TroublePlace::Coordinator)
    };
    assert_eq!(place(), None);

    cluster.broker_down(1).unwrap();
    eventually("the trouble shows", || place().is_some()).await;
    let since = place().unwrap().since;
    // Each delivery is a sign of health of a broker, and the client complains about the coordinator
    // all the time.
    for _ in 0..20 {
        one_more_is_processed().await;
        let trouble = place().expect("it lasts");
        assert_eq!(
            (trouble.kind, trouble.since),
            (TroubleKind::Connection, since)
        );
    }
    cluster.broker_up(1).unwrap();
    eventually("the coordinator is back", || place().is_none()).await;
    assert_eq!(subscription.status().trouble, None);
    let lines = std::mem::take(&mut *lines.0.lock().unwrap());
    let warnings = lines
        .iter()
        .filter(|(level, _)| *level == Level::WARN)
        .count();
    assert!(
        warnings == 1 && lines.len() <= 4,
        "a line for the outage, and at most one for each further place: {lines:#?}"
    );
    producer.close(PATIENCE).await.unwrap();
    subscription.shutdown().await.unwrap();
}
