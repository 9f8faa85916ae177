//! What is not a record's fault gives no record up: outages, whole and partial, and a bad
//! deployment.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::common::{self, PATIENCE, eventually};
use keylane::config::{Backoff, Exhausted, FailureReason, Limits};
use keylane::status::{OutageKind, OutageStatus};
use keylane::subscription::SubscriptionBuilder;
use keylane::{DeadLetter, Json, NewTask, Retry, Subscription, Task, TaskError, TaskProducer};
use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// What a bad deployment gives up.
const GIVEN_UP: usize = 20;

struct Scene {
    broker: EmbeddedBroker,
    producer: TaskProducer,
    /// Payloads that were processed.
    done: Arc<Mutex<BTreeSet<u32>>>,
    is_down: Arc<AtomicBool>,
}

impl Scene {
    async fn new() -> Self {
        let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
        for topic in ["tasks", "tasks-retry", "dead"] {
            broker.create_topic(topic, 1).unwrap();
        }
        let producer = common::producer(broker.bootstrap_servers(), "tasks").await;
        Self {
            broker,
            producer,
            done: Arc::default(),
            is_down: Arc::new(AtomicBool::new(true)),
        }
    }

    fn subscribe(&self, group: &str, topic: &str) -> SubscriptionBuilder {
        Subscription::builder(group, topic)
            .bootstrap_servers(self.broker.bootstrap_servers())
            .kafka_settings(EmbeddedBroker::client_settings())
            // A member that gets no CPU for a while is not to be thrown out: nothing may come
            // twice.
            .kafka("session.timeout.ms", "6000")
            .dead_letter(DeadLetter::topic("dead"))
    }

    /// A member whose records fail with `error` while the downstream is down, if `needs_it` holds.
    async fn start(
        &self,
        retry: Retry,
        needs_it: fn(u32) -> bool,
        error: fn() -> TaskError,
    ) -> Subscription {
        let builder = self.subscribe("outages", "tasks").retry(retry);
        self.start_as(builder, needs_it, error).await
    }

    async fn start_as(
        &self,
        builder: SubscriptionBuilder,
        needs_it: fn(u32) -> bool,
        error: fn() -> TaskError,
    ) -> Subscription {
        let (done, is_down) = (self.done.clone(), self.is_down.clone());
        let processor = move |task: Task<u32>| {
            let number = *task.payload();
            let fails = needs_it(number) && is_down.load(Ordering::Relaxed);
            if !fails {
                done.lock().unwrap().insert(number);
            }
            async move { if fails { Err(error()) } else { Ok(()) } }
        };
        builder.start(Json, processor).await.unwrap()
    }

    async fn enqueue(&self, numbers: impl IntoIterator<Item = u32>) {
        for number in numbers {
            self.producer
                .enqueue(NewTask::json(&number).unwrap().key(number.to_string()))
                .await
                .unwrap();
        }
    }

    fn all_done(&self, numbers: u32) -> bool {
        (0..numbers).all(|number| self.done.lock().unwrap().contains(&number))
    }

    fn comes_back(&self) {
        self.is_down.store(false, Ordering::Relaxed);
    }

    /// The reasons of the dead letters written until now. Without a group, whose join would take
    /// seconds.
    async fn dead_letters(&self) -> Vec<String> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.broker.bootstrap_servers())
            .set("group.id", "none");
        let read = move || {
            let client: BaseConsumer = config.create().unwrap();
            let (_, end) = client.fetch_watermarks("dead", 0, PATIENCE).unwrap();
            let mut from = TopicPartitionList::new();
            from.add_partition_offset("dead", 0, Offset::Beginning)
                .unwrap();
            client.assign(&from).unwrap();
            let mut reasons = Vec::new();
            while (reasons.len() as i64) < end {
                let message = client.poll(PATIENCE).expect("a dead letter").unwrap();
                let reason = message
                    .headers()
                    .unwrap()
                    .iter()
                    .find(|header| header.key == "keylane-reason")
                    .unwrap();
                reasons.push(String::from_utf8(reason.value.unwrap().to_vec()).unwrap());
            }
            reasons
        };
        tokio::task::spawn_blocking(read).await.unwrap()
    }

    /// The same once there are this many.
    async fn await_dead_letters(&self, count: usize) -> Vec<String> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let found = self.dead_letters().await;
            if found.len() >= count {
                return found;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{} of {count} dead letters",
                found.len()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn finish(self, subscription: Subscription) {
        subscription.shutdown().await.unwrap();
        self.producer.close(PATIENCE).await.unwrap();
    }
}

/// A retry time that a test can wait for, and that five keys have failed in.
fn shortly() -> Retry {
    Retry::for_at_least(Duration::from_millis(500))
        .backoff(Backoff::fixed(Duration::from_millis(20)))
}

fn held(subscription: &Subscription) -> u64 {
    subscription.status().outage.map_or(0, |outage| outage.held)
}

fn kinds(outage: &OutageStatus) -> Vec<OutageKind> {
    outage.ongoing.iter().map(|ongoing| ongoing.kind).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_with_fifteen_keys_dead_letters_none_and_the_first_success_ends_it() {
    let scene = Scene::new().await;
    scene.enqueue(0..15).await;
    let subscription = scene
        .start(shortly(), |_| true, || TaskError::retryable("down"))
        .await;
    eventually("all are out of retries and held", || {
        held(&subscription) == 15
    })
    .await;
    let outage = subscription.status().outage.unwrap();
    assert!(kinds(&outage).contains(&OutageKind::Total), "{outage:?}");
    scene.comes_back();
    eventually("all are done, and nothing is held", || {
        scene.all_done(15) && subscription.status().outage.is_none()
    })
    .await;
    assert_eq!(scene.dead_letters().await, Vec::<String>::new());
    scene.finish(subscription).await;
}

/// Nothing would succeed any longer, and the outage that is suspected would not end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_bad_keys_with_a_full_window_behind_them_do_not_keep_good_records_from_being_read() {
    let scene = Scene::new().await;
    // Of the five, four fail after the last success.
    scene.enqueue((0..1).chain(10..20).chain(1..5)).await;
    let builder = scene
        .subscribe("outages", "tasks")
        .retry(shortly())
        .concurrency(1)
        .limits(Limits::default().settled_ahead(5));
    let subscription = scene
        .start_as(
            builder,
            |number| number < 10,
            || TaskError::retryable("bad"),
        )
        .await;
    eventually("the five are held", || held(&subscription) == 5).await;
    scene.enqueue([20]).await;
    eventually("the record behind them is done", || {
        scene.done.lock().unwrap().contains(&20)
    })
    .await;
    scene.finish(subscription).await;
}

/// The case of a push provider that is away while the others work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_half_of_the_keys_dead_letters_none_while_the_others_succeed() {
    let scene = Scene::new().await;
    let subscription = scene
        .start(
            shortly(),
            |number| number % 2 == 1 && number < 40,
            || TaskError::retryable("the provider is away"),
        )
        .await;
    scene.enqueue(0..40).await;
    let mut next = 40;
    // Each success paid for a dead letter once.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while held(&subscription) < 20 || next < 400 {
        assert!(
            tokio::time::Instant::now() < deadline,
            "{:?}",
            subscription.status()
        );
        scene.enqueue(next..next + 10).await;
        next += 10;
    }
    let outage = subscription.status().outage.unwrap();
    let class = outage
        .ongoing
        .iter()
        .find(|ongoing| ongoing.kind == OutageKind::Class);
    assert_eq!(
        class.and_then(|ongoing| ongoing.class.as_deref()),
        Some("&str"),
        "{outage:?}"
    );
    scene.comes_back();
    eventually("all are done", || scene.all_done(next)).await;
    assert_eq!(scene.dead_letters().await, Vec::<String>::new());
    scene.finish(subscription).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_a_named_place_is_told_by_its_name() {
    let scene = Scene::new().await;
    let subscription = scene
        .start(
            shortly(),
            |number| number < 10,
            || TaskError::retryable("refused").at("sms gateway"),
        )
        .await;
    scene.enqueue(0..20).await;
    eventually("ten are held", || held(&subscription) == 10).await;
    scene.enqueue(20..30).await;
    eventually("the others are done", || {
        scene.done.lock().unwrap().len() == 20
    })
    .await;
    let outage = subscription.status().outage.unwrap();
    let place = outage
        .ongoing
        .iter()
        .find(|ongoing| ongoing.kind == OutageKind::Place);
    assert_eq!(
        place.and_then(|ongoing| ongoing.place.as_deref()),
        Some("sms gateway"),
        "{outage:?}"
    );
    scene.comes_back();
    eventually("all are done", || scene.all_done(30)).await;
    assert_eq!(scene.dead_letters().await, Vec::<String>::new());
    scene.finish(subscription).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_unavailable_uses_up_no_retries_even_for_one_key() {
    let scene = Scene::new().await;
    scene.enqueue(0..3).await;
    let unavailable =
        || TaskError::unavailable("maintenance").with_delay(Duration::from_millis(10));
    let no_retry = Retry::none().backoff(Backoff::fixed(Duration::from_millis(10)));
    let subscription = scene
        .start(no_retry, |number| number == 1, unavailable)
        .await;
    eventually("it was tried again and again", || {
        let oldest = subscription
            .status()
            .partitions
            .first()
            .and_then(|partition| partition.oldest.clone());
        oldest.is_some_and(|oldest| oldest.attempts > 5)
    })
    .await;
    eventually("it shows", || {
        subscription
            .status()
            .outage
            .is_some_and(|outage| kinds(&outage) == [OutageKind::Unavailable])
    })
    .await;
    scene.comes_back();
    eventually("it is done", || scene.all_done(3)).await;
    assert_eq!(scene.dead_letters().await, Vec::<String>::new());
    scene.finish(subscription).await;
}

/// Fewer than five keys are no outage: each has its retry time and no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_bad_records_are_given_up_after_their_retry_time_also_through_the_retry_topic() {
    let scene = Scene::new().await;
    let soon = Backoff::fixed(Duration::from_millis(100));
    // A few rounds, since the time goes with the record.
    let retry = shortly().in_place_first(1).then_topic().topic_backoff(soon);
    let subscription = scene
        .start(retry, |number| number < 2, || TaskError::retryable("bad"))
        .await;
    scene.enqueue(0..10).await;
    assert_eq!(
        scene.await_dead_letters(2).await,
        ["exhausted", "exhausted"]
    );
    eventually("the others are done", || {
        scene.done.lock().unwrap().len() == 8
    })
    .await;
    scene.finish(subscription).await;
}

/// A schema that the consumer does not know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_deployment_gives_up_twenty_records_and_holds_the_rest_until_one_decodes() {
    let scene = Scene::new().await;
    let mut written = Vec::new();
    for number in 0..2_000 {
        let record =
            NewTask::new(format!("{{\"vehicle\": {number}}}")).key((number % 100).to_string());
        written.push(scene.producer.enqueue(record));
    }
    for record in written {
        record.await.unwrap();
    }
    let subscription = scene
        .start(shortly(), |_| false, || TaskError::fatal("not reached"))
        .await;
    let is_held = || held(&subscription) >= 90;
    eventually("the records behind are held", is_held).await;
    let outage = subscription.status().outage.unwrap();
    assert!(
        kinds(&outage).contains(&OutageKind::BadDeployment),
        "{outage:?}"
    );
    assert_eq!(scene.dead_letters().await, vec!["undecodable"; GIVEN_UP]);

    scene.enqueue([7_777]).await;
    eventually("the one that decodes is done", || {
        scene.done.lock().unwrap().contains(&7_777)
    })
    .await;
    scene.await_dead_letters(GIVEN_UP + 1).await;
    scene.finish(subscription).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_lets_go_what_is_held_and_an_action_by_reason_holds_nothing() {
    let scene = Scene::new().await;
    scene.enqueue(0..15).await;
    let subscription = scene
        .start(shortly(), |_| true, || TaskError::retryable("bad"))
        .await;
    eventually("all are held", || held(&subscription) == 15).await;
    subscription
        .handle()
        .release_held(keylane::subscription::OperatorNote::new("ann", "INC-7"));
    assert_eq!(scene.await_dead_letters(15).await, vec!["exhausted"; 15]);
    subscription.shutdown().await.unwrap();

    scene.enqueue(0..15).await;
    let at_once = Retry::none().on(FailureReason::Exhausted, Exhausted::DeadLetter);
    let subscription = scene
        .start(at_once, |_| true, || TaskError::retryable("bad"))
        .await;
    assert_eq!(scene.await_dead_letters(30).await, vec!["exhausted"; 30]);
    scene.finish(subscription).await;
}
