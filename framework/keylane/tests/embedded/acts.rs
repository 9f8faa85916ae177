//! Operators' acts on keys and records, by the handle.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::common::{self, PATIENCE, eventually};
use keylane::config::Backoff;
use keylane::error::ActError;
use keylane::record::KeyHash;
use keylane::status::{PausedBy, RecordState};
use keylane::subscription::{ActTime, KeyResumed, OperatorNote};
use keylane::{DeadLetter, Json, NewTask, Retry, Subscription, Task, TaskError, TaskProducer};
use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// A record that fails waits for longer than a test.
const BACKOFF: Duration = Duration::from_secs(3_600);

struct Scene {
    broker: EmbeddedBroker,
    producer: TaskProducer,
    subscription: Subscription,
    /// In the order in which they were processed.
    done: Arc<Mutex<Vec<u32>>>,
    failing: Arc<Mutex<BTreeSet<u32>>>,
}

fn note() -> OperatorNote {
    OperatorNote::new("ann", "INC-7")
}

fn key(name: &str) -> KeyHash {
    KeyHash::of(name.as_bytes())
}

impl Scene {
    /// These records fail until they no longer are to.
    async fn new(failing: impl IntoIterator<Item = u32>, dead_letter: Option<DeadLetter>) -> Self {
        let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
        for topic in ["tasks", "dead"] {
            broker.create_topic(topic, 1).unwrap();
        }
        let producer = common::producer(broker.bootstrap_servers(), "tasks").await;
        let done: Arc<Mutex<Vec<u32>>> = Arc::default();
        let failing = Arc::new(Mutex::new(BTreeSet::from_iter(failing)));
        let processor = {
            let (done, failing) = (done.clone(), failing.clone());
            move |task: Task<u32>| {
                let number = *task.payload();
                let fails = failing.lock().unwrap().contains(&number);
                if !fails {
                    done.lock().unwrap().push(number);
                }
                async move {
                    match fails {
                        true => Err(TaskError::retryable("status 503")),
                        false => Ok(()),
                    }
                }
            }
        };
        let mut builder = Subscription::builder("group", "tasks")
            .bootstrap_servers(broker.bootstrap_servers())
            .kafka_settings(EmbeddedBroker::client_settings())
            // A member that gets no CPU for a while is not to be thrown out: nothing may come
            // twice. It stays alone: each rebalance after the first takes nearly as long.
            .kafka("session.timeout.ms", "30000")
            .retry(Retry::in_place(5).backoff(Backoff::fixed(BACKOFF)));
        if let Some(dead_letter) = dead_letter {
            builder = builder.dead_letter(dead_letter);
        }
        let subscription = builder.start(Json, processor).await.unwrap();
        eventually("it has its partition", || {
            !subscription.status().partitions.is_empty()
        })
        .await;
        Self {
            broker,
            producer,
            subscription,
            done,
            failing,
        }
    }

    async fn enqueue(&self, key: &str, numbers: impl IntoIterator<Item = u32>) {
        for number in numbers {
            let task = NewTask::json(&number).unwrap().key(key.to_owned());
            self.producer.enqueue(task).await.unwrap();
        }
    }

    async fn done(&self, numbers: &[u32]) {
        let all = || self.done.lock().unwrap().clone() == numbers;
        eventually(&format!("{numbers:?} are done"), all).await;
    }

    fn oldest_is(&self, offset: i64, state: RecordState) -> bool {
        let status = self.subscription.status();
        let oldest = status.partitions.first().and_then(|it| it.oldest.clone());
        oldest.is_some_and(|oldest| (oldest.offset, oldest.state) == (offset, state))
    }

    fn is_settled(&self) -> bool {
        let status = self.subscription.status();
        let snapshot = status.partitions.first().map(|it| it.snapshot);
        snapshot.is_some_and(|it| it.pending == 0)
    }

    /// The headers of the first dead letter.
    async fn dead_letter(&self) -> Vec<(String, String)> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.broker.bootstrap_servers())
            .set("group.id", "none");
        let read = move || {
            let client: BaseConsumer = config.create().unwrap();
            let mut from = TopicPartitionList::new();
            from.add_partition_offset("dead", 0, Offset::Beginning)
                .unwrap();
            client.assign(&from).unwrap();
            let message = client.poll(PATIENCE).expect("a dead letter").unwrap();
            let headers = message.headers().unwrap();
            headers
                .iter()
                .map(|header| {
                    let value = header.value.unwrap_or_default();
                    (
                        header.key.to_owned(),
                        String::from_utf8_lossy(value).into_owned(),
                    )
                })
                .collect()
        };
        tokio::task::spawn_blocking(read).await.unwrap()
    }

    async fn finish(self) {
        self.subscription.shutdown().await.unwrap();
        self.producer.close(PATIENCE).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_paused_key_nothing_starts_and_it_goes_on_in_its_order_when_it_is_resumed() {
    let scene = Scene::new([], None).await;
    let handle = scene.subscription.handle();
    assert_eq!(handle.pause_key(None, key("a"), note()).await, Ok(1));
    scene.enqueue("a", [1, 2]).await;
    scene.enqueue("b", [3]).await;
    scene.done(&[3]).await;
    eventually("the key is shown as paused", || {
        scene.oldest_is(0, RecordState::KeyPaused)
            && scene.subscription.status().partitions[0]
                .snapshot
                .paused_keys
                == 1
    })
    .await;
    let elsewhere = handle.resume_key(Some("other"), key("a"), note()).await;
    assert_eq!(elsewhere, Err(ActError::NothingAssigned));
    let resumed = handle.resume_key(Some("tasks"), key("a"), note()).await;
    assert_eq!(resumed, Ok(KeyResumed::Resumed));
    scene.done(&[3, 1, 2]).await;
    scene.finish().await;
}

/// The first position is not known for a while. When it is, the next epoch begins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_paused_before_its_partition_has_a_position_stays_paused() {
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
    broker.create_topic("tasks", 1).unwrap();
    let refusals = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 10_000];
    broker
        .cluster()
        .request_errors(RDKafkaApiKey::ListOffsets, &refusals);
    let done: Arc<Mutex<Vec<u32>>> = Arc::default();
    let member = {
        let done = done.clone();
        let builder = Subscription::builder("group", "tasks")
            .bootstrap_servers(broker.bootstrap_servers())
            .kafka_settings(EmbeddedBroker::client_settings())
            .kafka("session.timeout.ms", "30000")
            .kafka("auto.offset.reset", "latest");
        let processor = move |task: Task<u32>| {
            done.lock().unwrap().push(*task.payload());
            async { Ok::<(), TaskError>(()) }
        };
        builder.start(Json, processor).await.unwrap()
    };
    let first = || member.status().partitions.into_iter().next();
    eventually("it has no position", || {
        first().is_some_and(|it| it.paused_by == Some(PausedBy::NoPosition))
    })
    .await;
    let handle = member.handle();
    assert_eq!(handle.pause_key(None, key("a"), note()).await, Ok(1));
    broker
        .cluster()
        .clear_request_errors(RDKafkaApiKey::ListOffsets);
    eventually("it has one", || {
        first().is_some_and(|it| it.paused_by.is_none())
    })
    .await;
    let producer = common::producer(broker.bootstrap_servers(), "tasks").await;
    let tasks = [("a", 1), ("b", 2)];
    let tasks = tasks.map(|(key, number)| NewTask::json(&number).unwrap().key(key));
    assert!(producer.enqueue_all(tasks).await.iter().all(Result::is_ok));
    eventually("the other key is done, and this one waits", || {
        let paused = first().map(|it| it.snapshot.paused_keys);
        *done.lock().unwrap() == [2] && paused == Some(1)
    })
    .await;
    let resumed = handle.resume_key(None, key("a"), note()).await;
    assert_eq!(resumed, Ok(KeyResumed::Resumed));
    eventually("it goes on", || *done.lock().unwrap() == [2, 1]).await;
    member.shutdown().await.unwrap();
    producer.close(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_is_skipped_makes_way_for_the_next_of_its_key() {
    let scene = Scene::new([1], None).await;
    let handle = scene.subscription.handle();
    scene.enqueue("a", [1, 2]).await;
    eventually("it waits", || scene.oldest_is(0, RecordState::Waiting)).await;
    let skipped = handle.skip("tasks", 0, 0, note()).await;
    assert_eq!(skipped, Ok(ActTime::Now));
    scene.done(&[2]).await;
    eventually("all is settled", || scene.is_settled()).await;
    let again = handle.skip("tasks", 0, 0, note()).await;
    assert!(
        matches!(again, Err(ActError::AlreadySettled { offset: 0, .. })),
        "{again:?}"
    );
    // The next one is not read yet.
    let early = handle.skip("tasks", 0, 2, note()).await;
    assert_eq!(early, Ok(ActTime::AtItsDelivery));
    scene.enqueue("a", [4, 5]).await;
    scene.done(&[2, 5]).await;
    let elsewhere = handle.skip("tasks", 7, 0, note()).await;
    assert!(
        matches!(elsewhere, Err(ActError::PartitionNotAssigned(_))),
        "{elsewhere:?}"
    );
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_record_is_dead_lettered_by_an_order_that_the_letter_states_and_its_key_goes_on() {
    let scene = Scene::new([1], Some(DeadLetter::topic("dead"))).await;
    let handle = scene.subscription.handle();
    scene.enqueue("a", [1, 2]).await;
    eventually("it waits", || scene.oldest_is(0, RecordState::Waiting)).await;
    let ordered = handle.dead_letter_now("tasks", 0, 0, note()).await;
    assert_eq!(ordered, Ok(ActTime::Now));
    scene.done(&[2]).await;
    let headers = scene.dead_letter().await;
    let value = |name: &str| {
        let header = headers.iter().find(|(key, _)| key == name);
        header.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    assert_eq!(value("keylane-reason"), "operator");
    assert_eq!(value("keylane-attempts"), "1");
    let error = value("keylane-error");
    assert!(
        error.starts_with("given up by an operator (ann): INC-7") && error.contains("status 503"),
        "{error}"
    );
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_says_what_an_act_would_do_and_changes_nothing() {
    let scene = Scene::new([1], None).await;
    let handle = scene.subscription.handle();
    scene.enqueue("a", [1, 2]).await;
    scene.enqueue("b", [3]).await;
    scene.done(&[3]).await;
    eventually("it waits", || scene.oldest_is(0, RecordState::Waiting)).await;
    let dry = handle.dry_run();
    let found = dry.skip("tasks", 0, 0).await.unwrap();
    assert_eq!(
        (found.time, found.attempts, found.key_hash),
        (ActTime::Now, Some(1), Some(key("a")))
    );
    assert_eq!((found.of_key.pending, found.of_key.waiting), (2, 1));
    let behind = dry.skip("tasks", 0, 1).await.unwrap();
    assert_eq!((behind.attempts, behind.of_key), (Some(0), found.of_key));
    let early = dry.skip("tasks", 0, 7).await.unwrap();
    assert_eq!((early.time, early.attempts), (ActTime::AtItsDelivery, None));
    let found = dry.pause_key(None, key("a")).await.unwrap();
    assert_eq!((found.pending, found.is_paused), (2, false));
    let found = dry.retry_now(Some("tasks"), key("a")).await.unwrap();
    assert_eq!((found.pending, found.waiting, found.running), (2, 1, 0));
    // What the act refuses is refused.
    assert_eq!(
        dry.dead_letter_now("tasks", 0, 0).await,
        Err(ActError::NoDeadLetterTopic)
    );
    assert_eq!(
        dry.resume_key(Some("other"), key("a")).await,
        Err(ActError::NothingAssigned)
    );
    assert_eq!(dry.release_held(), 0);
    assert!(scene.oldest_is(0, RecordState::Waiting));
    handle.pause_key(None, key("a"), note()).await.unwrap();
    let found = dry.resume_key(None, key("a")).await.unwrap();
    assert_eq!((found.is_paused, found.is_paused_elsewhere), (true, false));
    assert_eq!(*scene.done.lock().unwrap(), [3]);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_is_refused_without_a_topic_for_it() {
    let scene = Scene::new([], None).await;
    let handle = scene.subscription.handle();
    let ordered = handle.dead_letter_now("tasks", 0, 0, note()).await;
    assert_eq!(ordered, Err(ActError::NoDeadLetterTopic));
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_its_back_off_is_retried_now_and_counts_its_attempts() {
    let scene = Scene::new([1, 3], None).await;
    let handle = scene.subscription.handle();
    scene.enqueue("a", [1, 2]).await;
    scene.enqueue("b", [3]).await;
    let waiting = |records| {
        let status = scene.subscription.status();
        let snapshot = status.partitions.first().map(|it| it.snapshot);
        snapshot.is_some_and(|it| it.waiting == records)
    };
    eventually("both wait", || waiting(2)).await;
    scene.failing.lock().unwrap().clear();
    let found = handle.retry_now(None, key("a"), note()).await.unwrap();
    assert_eq!((found.retried, found.pending), (1, 2));
    scene.done(&[1, 2]).await;
    eventually("the other waits on", || waiting(1)).await;
    let found = handle.retry_now(Some("tasks"), key("b"), note()).await;
    assert_eq!(found.unwrap().retried, 1);
    scene.done(&[1, 2, 3]).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_keeps_so_many_orders_of_dead_letters_and_no_more() {
    let scene = Scene::new([0], Some(DeadLetter::topic("dead"))).await;
    let handle = scene.subscription.handle();
    let tasks = (0..=1_001_u32).map(|number| NewTask::json(&number).unwrap().key("a"));
    let enqueued = scene.producer.enqueue_all(tasks).await;
    assert!(enqueued.iter().all(Result::is_ok));
    eventually("all are read, and the first one waits", || {
        let status = scene.subscription.status();
        let snapshot = status.partitions.first().map(|it| it.snapshot);
        snapshot.is_some_and(|it| it.pending == 1_002) && scene.oldest_is(0, RecordState::Waiting)
    })
    .await;
    for offset in 1..=1_000 {
        let ordered = handle.dead_letter_now("tasks", 0, offset, note()).await;
        assert_eq!(ordered, Ok(ActTime::AtItsTurn), "{offset}");
    }
    let one_more = handle.dead_letter_now("tasks", 0, 1_001, note()).await;
    assert!(
        matches!(one_more, Err(ActError::TooMany { .. })),
        "{one_more:?}"
    );
    scene.failing.lock().unwrap().clear();
    handle.retry_now(None, key("a"), note()).await.unwrap();
    scene.done(&[0, 1_001]).await;
    scene.finish().await;
}
