//! Groups that share a retry topic: each processes its own retries, and holds those that no other
//! group would process.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::common::{self, PATIENCE, eventually};
use keylane::config::{Backoff, Exhausted, FailureReason, ForeignRetries};
use keylane::status::{Position, RecordState, TroubleKind};
use keylane::subscription::{ActTime, OperatorNote, SubscriptionBuilder};
use keylane::{DeadLetter, Json, NewTask, Retry, Subscription, Task, TaskError};
use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};

const PARTITIONS: i32 = 2;

/// An origin topic, its retry topic and a dead-letter topic.
struct Scene {
    broker: EmbeddedBroker,
}

/// One subscription, and what its processor was called for.
struct Member {
    subscription: Subscription,
    calls: Arc<AtomicU64>,
    /// Payloads, in the order of their calls.
    seen: Arc<Mutex<Vec<u32>>>,
}

impl Scene {
    fn new() -> Self {
        let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
        for topic in ["tasks", "tasks-retry", "dead"] {
            broker.create_topic(topic, PARTITIONS).unwrap();
        }
        Self { broker }
    }

    async fn enqueue(&self, tasks: u32) {
        let producer = common::producer(self.broker.bootstrap_servers(), "tasks").await;
        let tasks = (0..tasks).map(|i| NewTask::json(&i).unwrap().key(i.to_string()));
        assert!(producer.enqueue_all(tasks).await.iter().all(Result::is_ok));
        producer.close(PATIENCE).await.unwrap();
    }

    fn subscribe(&self, group: &str, retry: Retry) -> SubscriptionBuilder {
        Subscription::builder(group, "tasks")
            .bootstrap_servers(self.broker.bootstrap_servers())
            .kafka_settings(EmbeddedBroker::client_settings())
            .kafka("session.timeout.ms", "6000")
            .commit_interval(Duration::from_millis(100))
            .dead_letter(DeadLetter::topic("dead"))
            // Every record fails, which looks like an outage.
            .retry(retry.on(FailureReason::Exhausted, Exhausted::DeadLetter))
    }

    /// A member whose processor fails the first attempts of each record.
    async fn member(&self, group: &str, retry: Retry, failures: u32) -> Member {
        let calls = Arc::new(AtomicU64::new(0));
        let seen = Arc::<Mutex<Vec<u32>>>::default();
        let processor = {
            let (calls, seen) = (calls.clone(), seen.clone());
            move |task: Task<u32>| {
                calls.fetch_add(1, Ordering::Relaxed);
                seen.lock().unwrap().push(*task.payload());
                let fails = task.attempt() <= failures;
                async move {
                    if fails {
                        Err(TaskError::retryable("not now"))
                    } else {
                        Ok(())
                    }
                }
            }
        };
        let subscription = self
            .subscribe(group, retry)
            .start(Json, processor)
            .await
            .unwrap();
        Member {
            subscription,
            calls,
            seen,
        }
    }

    /// Writes a record to partition 0 of the retry topic, as `group` would have.
    async fn write_retry(
        &self,
        payload: u32,
        group: Option<&str>,
        origin: &str,
        count_by_others: u8,
    ) {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.broker.bootstrap_servers());
        let producer: FutureProducer = config.create().unwrap();
        // The fields 4 and 5: how often it was retried, and when it was due.
        let metadata = [0x20, count_by_others, 0x28, 77];
        let ours: [(&str, &[u8]); 6] = [
            ("keylane-origin-topic", origin.as_bytes()),
            ("keylane-origin-partition", b"0"),
            ("keylane-origin-offset", b"5"),
            ("keylane-retry-round", b"1"),
            ("keylane-retry-due", b"77"),
            ("dt_meta", &metadata),
        ];
        let group = group.map(|group| ("keylane-group", group.as_bytes()));
        self.write_with(&producer, payload, ours.into_iter().chain(group))
            .await;
    }

    /// Writes a record to the retry topic as Decaton does: with its own header alone.
    async fn write_retry_of_decaton(&self, payload: u32) {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.broker.bootstrap_servers());
        let metadata: &[u8] = &[0x20, 1, 0x28, 77];
        self.write_with(&config.create().unwrap(), payload, [("dt_meta", metadata)])
            .await;
    }

    async fn write_with<'a>(
        &self,
        producer: &FutureProducer,
        payload: u32,
        all: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) {
        let insert = |to: OwnedHeaders, (key, value)| {
            to.insert(Header {
                key,
                value: Some(value),
            })
        };
        let headers = all.into_iter().fold(OwnedHeaders::new(), insert);
        let payload = payload.to_string();
        let record = FutureRecord::to("tasks-retry")
            .partition(0)
            .key("k")
            .payload(&payload)
            .headers(headers);
        producer.send(record, PATIENCE).await.unwrap();
    }

    /// How many records a topic has.
    async fn written(&self, topic: &'static str) -> i64 {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.broker.bootstrap_servers());
        let ends = move || {
            let client: BaseConsumer = config.create().unwrap();
            let end = |partition| {
                client
                    .fetch_watermarks(topic, partition, PATIENCE)
                    .unwrap()
                    .1
            };
            (0..PARTITIONS).map(end).sum()
        };
        tokio::task::spawn_blocking(ends).await.unwrap()
    }

    /// Waits until each member has settled all there is; nothing more can come then.
    async fn all_is_settled(&self, members: &[Member]) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let origin = self.written("tasks").await;
            let retries = self.written("tasks-retry").await;
            let settled = |member: &Member| {
                member.settled("tasks") == origin && member.settled("tasks-retry") == retries
            };
            // Once more: a record may have been written between the questions.
            if members.iter().all(settled) && self.written("tasks-retry").await == retries {
                return;
            }
            let seen: Vec<_> = members
                .iter()
                .map(|it| it.subscription.handle().status())
                .collect();
            assert!(
                tokio::time::Instant::now() < deadline,
                "not settled: {seen:#?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Member {
    /// How many records of a topic are settled, over its partitions.
    fn settled(&self, topic: &str) -> i64 {
        let status = self.subscription.handle().status();
        let partitions = status
            .partitions
            .iter()
            .filter(|partition| &*partition.topic == topic);
        partitions
            .map(|partition| partition.snapshot.watermark.map_or(0, Position::get))
            .sum()
    }

    fn seen(&self) -> Vec<u32> {
        self.seen.lock().unwrap().clone()
    }

    /// The trouble of held retries in the status.
    fn held(&self) -> Option<String> {
        let trouble = self.subscription.status().trouble?;
        (trouble.kind == TroubleKind::ForeignRetries).then_some(trouble.message)
    }

    /// The oldest unsettled record of the retry topic's first partition is held.
    fn holds_oldest(&self) -> bool {
        let status = self.subscription.status();
        let retries = status
            .partitions
            .iter()
            .find(|it| &*it.topic == "tasks-retry" && it.partition == 0);
        let oldest = retries.and_then(|partition| partition.oldest.clone());
        oldest.is_some_and(|oldest| oldest.state == RecordState::Held)
    }

    async fn waits_with(&self, words: &[&str]) {
        let says = |message: String| words.iter().all(|word| message.contains(word));
        eventually(&format!("records are held: {words:?}"), || {
            self.held().is_some_and(says)
        })
        .await;
        eventually("the oldest is held", || self.holds_oldest()).await;
    }

    async fn stop(self) {
        self.subscription.shutdown().await.unwrap();
    }

    fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }
}

fn rounds(rounds: u32) -> Retry {
    Retry::none()
        .then_topic()
        .topic_rounds(rounds)
        .topic_backoff(Backoff::fixed(Duration::from_millis(50)))
}

/// Each group fails one record for ever: what it costs each group, and dead letters in all.
async fn outage(groups: usize, topic_rounds: u32) {
    let scene = Scene::new();
    scene.enqueue(1).await;
    let mut members = Vec::new();
    for group in 0..groups {
        members.push(
            scene
                .member(&format!("group-{group}"), rounds(topic_rounds), u32::MAX)
                .await,
        );
    }
    scene.all_is_settled(&members).await;
    let calls: Vec<u64> = members.iter().map(Member::calls).collect();
    assert_eq!(
        calls,
        vec![u64::from(topic_rounds) + 1; groups],
        "calls, by group"
    );
    assert_eq!(scene.written("dead").await, groups as i64, "dead letters");
    for member in members {
        member.subscription.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_group_makes_its_rounds_and_one_dead_letter() {
    outage(1, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_groups_on_one_retry_topic_make_their_own_rounds_and_no_more() {
    outage(2, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_groups_on_one_retry_topic_make_their_own_rounds_and_no_more() {
    outage(3, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_groups_make_their_own_rounds_also_with_the_default_of_ten() {
    outage(2, 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_never_fails_processes_no_retries_of_another() {
    let scene = Scene::new();
    scene.enqueue(10).await;
    let members = [
        scene.member("billing", rounds(4), 1).await,
        scene.member("shipping", rounds(4), 0).await,
    ];
    scene.all_is_settled(&members).await;
    assert_eq!(members.each_ref().map(Member::calls), [20, 10]);
    assert_eq!(scene.written("dead").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_an_operator_has_settled_what_is_held_nothing_says_that_it_is_any_longer() {
    let scene = Scene::new();
    scene.write_retry(7, Some("old"), "tasks", 1).await;
    scene.write_retry(8, Some("old"), "tasks", 1).await;
    let member = scene.member("new", rounds(4), 0).await;
    member.waits_with(&["`old`"]).await;
    let handle = member.subscription.handle();
    let note = || OperatorNote::new("ann", "INC-7");
    eventually("both are read", || {
        let partitions = member.subscription.status().partitions;
        let mut retries = partitions.iter().filter(|it| &*it.topic == "tasks-retry");
        retries.any(|it| it.partition == 0 && it.snapshot.pending == 2)
    })
    .await;
    let written = handle.dead_letter_now("tasks-retry", 0, 1, note()).await;
    assert_eq!(written, Ok(ActTime::Now));
    let skipped = handle.skip("tasks-retry", 0, 0, note()).await;
    assert_eq!(skipped, Ok(ActTime::Now));
    scene.all_is_settled(std::slice::from_ref(&member)).await;
    eventually("it is no trouble", || member.held().is_none()).await;
    assert_eq!((member.seen(), scene.written("dead").await), (vec![], 1));
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_of_a_group_that_is_not_known_to_be_alive_is_held_until_it_is_adopted() {
    let scene = Scene::new();
    scene.write_retry(7, Some("old"), "tasks", 1).await;
    scene.write_retry(8, Some("new"), "tasks", 1).await;
    let member = scene.member("new", rounds(4), 0).await;
    member
        .waits_with(&["`old`", "Retry::adopt([\"old\"])", "`tasks-retry`"])
        .await;
    eventually("its own of the same key is not held up", || {
        member.seen() == [8]
    })
    .await;
    assert_eq!(member.settled("tasks-retry"), 0, "the commit waits for it");
    member.stop().await;

    let member = scene
        .member("new", rounds(4).adopt(["older", "old"]), 0)
        .await;
    scene.all_is_settled(std::slice::from_ref(&member)).await;
    assert_eq!(
        (member.seen(), member.held()),
        (vec![7], None),
        "each once, over both"
    );
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_retry_is_left_to_its_group_when_that_comes_back() {
    let scene = Scene::new();
    scene.write_retry(7, Some("old"), "tasks", 1).await;
    let member = scene.member("new", rounds(4), 0).await;
    member.waits_with(&["`old`"]).await;
    let old = scene.member("old", rounds(4), 0).await;
    let members = [member, old];
    scene.all_is_settled(&members).await;
    eventually("nothing is held any longer", || members[0].held().is_none()).await;
    assert_eq!(members.each_ref().map(Member::seen), [vec![], vec![7]]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_that_another_program_has_requeued_since_and_one_without_a_group_are_processed() {
    let scene = Scene::new();
    scene.write_retry(7, Some("old"), "tasks", 2).await;
    scene.write_retry(8, None, "tasks", 1).await;
    let member = scene.member("new", rounds(4), 0).await;
    scene.all_is_settled(std::slice::from_ref(&member)).await;
    assert_eq!((member.seen(), member.held()), (vec![7, 8], None));
}

/// It names no group and no origin; what is written back names this group, and the retry topic.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_of_decaton_that_fails_here_comes_back() {
    let scene = Scene::new();
    scene.write_retry_of_decaton(7).await;
    // One attempt was Decaton's.
    let member = scene.member("new", rounds(4), 2).await;
    scene.all_is_settled(std::slice::from_ref(&member)).await;
    eventually("it has come back", || member.seen() == [7, 7]).await;
    assert_eq!(member.held(), None);
}

/// No other group would ever process it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_of_the_same_group_and_of_a_topic_that_is_not_read_is_held() {
    let scene = Scene::new();
    scene.write_retry(7, Some("new"), "carts", 1).await;
    let member = scene.member("new", rounds(4), 0).await;
    member
        .waits_with(&["topic `carts`", "add it to `topics`"])
        .await;
    member.stop().await;

    let member = scene
        .member("new", rounds(4).foreign(ForeignRetries::Process), 0)
        .await;
    scene.all_is_settled(std::slice::from_ref(&member)).await;
    assert_eq!(member.seen(), [7]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_of_a_group_that_is_alive_are_held_or_processed_where_the_setting_says_so() {
    let scene = Scene::new();
    let old = scene.member("old", rounds(4), 1).await;
    scene.enqueue(1).await;
    scene.all_is_settled(std::slice::from_ref(&old)).await;
    // It has committed offsets of the retry topic by now.
    scene.write_retry(7, Some("old"), "tasks", 1).await;
    let member = scene
        .member("new", rounds(4).foreign(ForeignRetries::Hold), 0)
        .await;
    eventually("records are held by the setting", || {
        member
            .held()
            .is_some_and(|message| message.contains("retry.topic.foreign is \"hold\""))
    })
    .await;
    assert!(!member.seen().contains(&7));
    member.stop().await;

    let member = scene
        .member("new", rounds(4).foreign(ForeignRetries::Process), 0)
        .await;
    eventually("it is processed", || member.seen().contains(&7)).await;
    assert!(member.held().is_none());
}
