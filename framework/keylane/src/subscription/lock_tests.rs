//! A log line is written while no lock is held that others wait for: what writes it may take its
//! time.
// Clippy allows it in test functions only, not in what they call.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::Subscription;
use crate::config::{Blocker, Limits};
use crate::status::{Control, SubscriptionError};
use crate::support::lock;
use crate::{DeadLetter, NewTask, Raw, Task, TaskError, TaskProducer};
use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};

/// Nothing here takes this long; a test that gets there has failed.
const DEADLINE: Duration = Duration::from_secs(60);

/// Counts the lines of this thread that have certain words, and checks at each whether a lock is
/// free.
#[derive(Clone)]
struct Lines {
    words: &'static str,
    control: Arc<RwLock<Option<Arc<Control>>>>,
    seen: Arc<AtomicUsize>,
    locked: Arc<AtomicUsize>,
}

impl Lines {
    fn with(words: &'static str) -> (Self, DefaultGuard) {
        let lines = Self {
            words,
            control: Arc::default(),
            seen: Arc::default(),
            locked: Arc::default(),
        };
        let subscriber = tracing_subscriber::registry().with(lines.clone());
        (lines, tracing::subscriber::set_default(subscriber))
    }

    fn watch(&self, control: Arc<Control>) {
        *self.control.write().unwrap() = Some(control);
    }

    /// How many there were, and how many under a lock.
    fn counts(&self) -> (usize, usize) {
        (
            self.seen.load(Ordering::SeqCst),
            self.locked.load(Ordering::SeqCst),
        )
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        if !text.0.contains(self.words) {
            return;
        }
        self.seen.fetch_add(1, Ordering::SeqCst);
        let control = lock::read(&self.control);
        let is_locked = || control.as_ref().is_none_or(|control| control.is_locked());
        // Another thread may have it for a moment.
        let until = Instant::now() + Duration::from_secs(5);
        while is_locked() {
            if Instant::now() >= until {
                self.locked.fetch_add(1, Ordering::SeqCst);
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

#[test]
fn the_error_that_ends_a_subscription_is_logged_without_a_lock() {
    let (lines, _guard) = Lines::with("the subscription ends");
    let control = Arc::new(Control::new(Duration::ZERO));
    lines.watch(control.clone());
    for text in ["first", "second"] {
        control.fail(SubscriptionError::Internal(text.to_owned()));
    }
    assert_eq!(lines.counts(), (1, 0));
}

/// On one thread, so that the owner's lines are seen.
#[tokio::test]
async fn a_blocker_is_logged_without_the_lock_of_the_outage_guard() {
    let (lines, _guard) = Lines::with("holds up its partition");
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
    for topic in ["blocked", "blocked-dead"] {
        broker.create_topic(topic, 1).unwrap();
    }
    let producer = TaskProducer::builder("blocked").bootstrap_servers(broker.bootstrap_servers());
    let producer = producer.application_id("test").start().await.unwrap();
    let task = |number: u32| {
        NewTask::new("work").key(if number == 0 {
            "stuck".into()
        } else {
            number.to_string()
        })
    };
    for enqueued in producer.enqueue_all((0..30).map(task)).await {
        enqueued.unwrap();
    }
    producer.close(DEADLINE).await.unwrap();
    let processor = |task: Task<Bytes>| async move {
        if task.record().key() == Some(b"stuck") {
            std::future::pending().await
        } else {
            Ok::<(), TaskError>(())
        }
    };
    let subscription = Subscription::builder("blocked", "blocked")
        .bootstrap_servers(broker.bootstrap_servers())
        .kafka_settings(EmbeddedBroker::client_settings())
        .limits(Limits::default().settled_ahead(10))
        .dead_letter(DeadLetter::topic("blocked-dead"))
        .blocker(Blocker::dead_letter().after(Duration::from_millis(100)))
        .start(Raw, processor)
        .await
        .unwrap();
    lines.watch(subscription.handle().control.clone());
    let until = Instant::now() + DEADLINE;
    while lines.counts().0 == 0 {
        assert!(
            Instant::now() < until,
            "no blocker: {:?}",
            subscription.handle().status()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(lines.counts(), (1, 0));
    subscription.shutdown().await.unwrap();
}
