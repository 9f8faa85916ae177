//! Beside Decaton: the records are made by its wire format, here and not by Decaton itself.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use prost::Message as _;

use super::common::{PATIENCE, eventually};
use keylane::config::{Backoff, LegacyTasks};
use keylane::subscription::SubscriptionBuilder;
use keylane::{DeadLetter, Raw, Retry, Subscription, Task, TaskError};
use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers as _, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};

/// `TaskMetadataProto`.
#[derive(Clone, PartialEq, prost::Message)]
struct Metadata {
    #[prost(int64, tag = "1")]
    timestamp_millis: i64,
    #[prost(string, tag = "2")]
    source_application_id: String,
    #[prost(string, tag = "3")]
    source_instance_id: String,
    #[prost(int64, tag = "4")]
    retry_count: i64,
    #[prost(int64, tag = "5")]
    scheduled_time_millis: i64,
}

/// `DecatonTaskRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct Request {
    #[prost(message, optional, tag = "1")]
    metadata: Option<Metadata>,
    #[prost(bytes = "vec", tag = "2")]
    serialized_task: Vec<u8>,
}

fn metadata(retry_count: i64, scheduled_time_millis: i64) -> Metadata {
    Metadata {
        timestamp_millis: 5,
        source_application_id: "gate".to_owned(),
        source_instance_id: "gate-1".to_owned(),
        retry_count,
        scheduled_time_millis,
    }
}

/// A record, to be written or as it is in a topic.
#[derive(Clone, Debug, PartialEq)]
struct Written {
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Written {
    fn new(value: impl Into<Vec<u8>>) -> Self {
        Self {
            value: Some(value.into()),
            headers: Vec::new(),
        }
    }

    /// As Decaton's clients before version 9 write a task.
    fn wrapped(task: &str, metadata: Metadata) -> Self {
        let request = Request {
            metadata: Some(metadata),
            serialized_task: task.into(),
        };
        Self::new(request.encode_to_vec())
    }

    fn unwrap(&self) -> Request {
        Request::decode(self.value.as_deref().unwrap()).unwrap()
    }

    /// Decaton puts one `dt_meta` in the place of all others.
    fn with_metadata(mut self, metadata: &Metadata) -> Self {
        self.headers.retain(|(name, _)| name != "dt_meta");
        let header = ("dt_meta".to_owned(), Some(metadata.encode_to_vec()));
        self.headers.push(header);
        self
    }

    fn all_metadata(&self) -> Vec<Metadata> {
        let of = |(name, value): &(String, Option<Vec<u8>>)| {
            (name == "dt_meta").then(|| Metadata::decode(value.as_deref().unwrap()).unwrap())
        };
        self.headers.iter().filter_map(of).collect()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().rfind(|(it, _)| it == name)?;
        value.as_deref().map(|it| std::str::from_utf8(it).unwrap())
    }
}

/// What a processor was called with.
#[derive(Clone, Debug, PartialEq)]
struct Call {
    value: Option<Bytes>,
    attempt: u32,
    source: Option<String>,
    at_millis: i64,
}

/// An origin topic, its retry topic and a dead-letter topic, of one partition each.
struct Scene {
    broker: EmbeddedBroker,
}

impl Scene {
    fn new() -> Self {
        let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
        for topic in ["tasks", "tasks-retry", "dead"] {
            broker.create_topic(topic, 1).unwrap();
        }
        Self { broker }
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.broker.bootstrap_servers());
        config
    }

    async fn write(&self, topic: &str, records: impl IntoIterator<Item = Written>) {
        let producer: FutureProducer = self.client().create().unwrap();
        for record in records {
            let insert = |to: OwnedHeaders, (name, value): &(String, Option<Vec<u8>>)| {
                to.insert(Header {
                    key: name,
                    value: value.as_ref(),
                })
            };
            let headers = record.headers.iter().fold(OwnedHeaders::new(), insert);
            let mut to = FutureRecord::to(topic).key("k").headers(headers);
            if let Some(value) = &record.value {
                to = to.payload(value);
            }
            producer.send(to, PATIENCE).await.unwrap();
        }
    }

    /// The first `count` records of a topic.
    async fn read(&self, topic: &'static str, count: usize) -> Vec<Written> {
        let mut config = self.client();
        config.set("group.id", "reader");
        let read = move || {
            let consumer: BaseConsumer = config.create().unwrap();
            let mut assignment = TopicPartitionList::new();
            assignment
                .add_partition_offset(topic, 0, Offset::Beginning)
                .unwrap();
            consumer.assign(&assignment).unwrap();
            (0..count)
                .map(|number| {
                    let message = consumer.poll(PATIENCE);
                    let message = message.unwrap_or_else(|| panic!("{topic} has {number} only"));
                    let message = message.unwrap().detach();
                    let headers = message.headers().into_iter().flat_map(|it| it.iter());
                    Written {
                        value: message.payload().map(<[u8]>::to_vec),
                        headers: headers
                            .map(|it| (it.key.to_owned(), it.value.map(<[u8]>::to_vec)))
                            .collect(),
                    }
                })
                .collect()
        };
        tokio::task::spawn_blocking(read).await.unwrap()
    }

    fn subscribe(&self, retry: Retry) -> SubscriptionBuilder {
        Subscription::builder("group", "tasks")
            .bootstrap_servers(self.broker.bootstrap_servers())
            .kafka_settings(EmbeddedBroker::client_settings())
            .kafka("session.timeout.ms", "6000")
            .commit_interval(Duration::from_millis(100))
            .dead_letter(DeadLetter::topic("dead"))
            .retry(retry)
    }
}

/// What a processor answers at its `attempt`-th call for a record.
type Answer = fn(u32) -> Result<(), TaskError>;

async fn start(builder: SubscriptionBuilder, answer: Answer) -> (Subscription, Calls) {
    let calls = Calls::default();
    let seen = calls.clone();
    let processor = move |task: Task<Option<Bytes>>| {
        let call = Call {
            value: task.payload().clone(),
            attempt: task.attempt(),
            source: task.metadata().map(|it| it.source_application_id.clone()),
            at_millis: now(),
        };
        let result = answer(call.attempt);
        seen.0.lock().unwrap().push(call);
        async move { result }
    };
    (builder.start(Raw, processor).await.unwrap(), calls)
}

#[derive(Clone, Default)]
struct Calls(Arc<Mutex<Vec<Call>>>);

impl Calls {
    async fn all(&self, count: usize) -> Vec<Call> {
        eventually(&format!("{count} calls"), || {
            self.0.lock().unwrap().len() >= count
        })
        .await;
        self.0.lock().unwrap().clone()
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

fn by_topic(delay: Duration) -> Retry {
    Retry::none()
        .then_topic()
        .topic_rounds(10)
        .topic_backoff(Backoff::fixed(delay))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_decaton_requeued_after_keylane_waits_for_decatons_time_and_keeps_its_metadata() {
    let scene = Scene::new();
    let task = Written::new("pay").with_metadata(&metadata(0, 0));
    scene.write("tasks", [task]).await;
    let later = by_topic(Duration::from_secs(3_600));
    let fails: Answer = |_| Err(TaskError::retryable("busy"));
    let (ours, calls) = start(scene.subscribe(later.clone()), fails).await;
    calls.all(1).await;
    let retry = scene.read("tasks-retry", 1).await.remove(0);
    ours.shutdown().await.unwrap();
    assert_eq!(retry.header("keylane-retry-round"), Some("1"));

    // An hour earlier than keylane's time, and later than now.
    let due = now() + 2_000;
    let requeued = metadata(2, due);
    scene
        .write("tasks-retry", [retry.with_metadata(&requeued)])
        .await;
    let fatal: Answer = |_| Err(TaskError::fatal("gone"));
    let (ours, calls) = start(scene.subscribe(later), fatal).await;
    let call = calls.all(1).await.remove(0);
    assert_eq!((call.attempt, call.source.as_deref()), (3, Some("gate")));
    assert!(call.at_millis >= due, "{} ms early", due - call.at_millis);

    let dead = scene.read("dead", 1).await.remove(0);
    assert_eq!(dead.all_metadata(), [requeued]);
    assert_eq!(dead.header("keylane-attempts"), Some("3"));
    assert_eq!(dead.header("keylane-origin-topic"), Some("tasks"));
    ours.shutdown().await.unwrap();
}

/// In turns: a wrapped task, one with a header, a plain record, and a tombstone.
fn mixed() -> [Written; 4] {
    [
        Written::wrapped("wrapped", metadata(0, 0)),
        Written::new("new").with_metadata(&metadata(0, 0)),
        Written::new("plain"),
        Written {
            value: None,
            headers: Vec::new(),
        },
    ]
}

/// What a dead letter has of its task.
fn left(it: &Written) -> (Option<Vec<u8>>, Vec<Metadata>) {
    (it.value.clone(), it.all_metadata())
}

/// Values and sources of the calls of one attempt.
fn seen(calls: &[Call], attempt: u32) -> Vec<(Option<&str>, Option<&str>)> {
    let of_attempt = calls.iter().filter(|call| call.attempt == attempt);
    of_attempt
        .map(|call| {
            let value = call.value.as_deref();
            let text = value.map(|it| std::str::from_utf8(it).unwrap());
            (text, call.source.as_deref())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrapped_tasks_among_others_are_unwrapped_and_leave_bare_through_the_retry_topic() {
    let scene = Scene::new();
    scene.write("tasks", mixed()).await;
    let builder = scene
        .subscribe(by_topic(Duration::from_millis(50)))
        .legacy_tasks(LegacyTasks::Read);
    let second_fails: Answer = |attempt| match attempt {
        1 => Err(TaskError::retryable("busy")),
        _ => Err(TaskError::fatal("gone")),
    };
    let (ours, calls) = start(builder, second_fails).await;
    let calls = calls.all(8).await;
    let gate = Some("gate");
    assert_eq!(
        seen(&calls, 1),
        [
            (Some("wrapped"), gate),
            (Some("new"), gate),
            (Some("plain"), None),
            (None, None)
        ]
    );
    // keylane adds metadata to what had none.
    let mut again = seen(&calls, 2);
    again.sort();
    assert_eq!(
        again,
        [
            (None, Some("")),
            (Some("new"), gate),
            (Some("plain"), Some("")),
            (Some("wrapped"), gate)
        ]
    );

    for retry in scene.read("tasks-retry", 4).await {
        let all = retry.all_metadata();
        let last = all.last().unwrap();
        let due = retry.header("keylane-retry-due").unwrap();
        assert_eq!(
            (last.retry_count, last.scheduled_time_millis),
            (1, due.parse().unwrap())
        );
        match retry.value.as_deref() {
            Some(b"wrapped") => assert_eq!(
                (&all[0], last),
                (&metadata(0, 0), &metadata(1, last.scheduled_time_millis)),
                "complete, and the producer's own before it"
            ),
            other => assert!([Some(&b"new"[..]), Some(b"plain"), None].contains(&other)),
        }
    }
    let mut dead = scene.read("dead", 4).await;
    dead.sort_by_key(|it| it.value.clone());
    assert_eq!(
        dead.iter().map(left).collect::<Vec<_>>(),
        [
            (None, vec![]),
            (Some(b"new".to_vec()), vec![metadata(0, 0)]),
            (Some(b"plain".to_vec()), vec![]),
            (Some(b"wrapped".to_vec()), vec![metadata(0, 0)])
        ]
    );
    ours.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrapped_task_waits_for_its_time_and_leaves_as_it_came_if_it_was_never_retried() {
    let scene = Scene::new();
    let due = now() + 2_000;
    let delayed = Written::wrapped("delayed", metadata(0, due));
    let mut retried = Written::wrapped("retried", metadata(2, due));
    retried
        .headers
        .push(("own".to_owned(), Some(b"1".to_vec())));
    scene.write("tasks", [delayed.clone()]).await;
    // As a Decaton with `decaton.retry.task.in.legacy.format` writes it.
    scene.write("tasks-retry", [retried]).await;
    let builder = scene
        .subscribe(by_topic(Duration::from_millis(50)))
        .legacy_tasks(LegacyTasks::Read);
    let fatal: Answer = |_| Err(TaskError::fatal("gone"));
    let (ours, calls) = start(builder, fatal).await;
    let mut calls = calls.all(2).await;
    calls.sort_by_key(|call| call.attempt);
    assert_eq!(
        calls.iter().map(|it| it.attempt).collect::<Vec<_>>(),
        [1, 3]
    );
    assert!(
        calls.iter().all(|call| call.at_millis >= due),
        "early: {calls:?}"
    );

    let mut dead = scene.read("dead", 2).await;
    dead.sort_by_key(|it| it.header("keylane-attempts").map(str::to_owned));
    assert_eq!(
        (&dead[0].value, dead[0].all_metadata()),
        (&delayed.value, vec![])
    );
    assert_eq!(dead[1].value.as_deref(), Some(&b"retried"[..]));
    assert_eq!(dead[1].all_metadata(), [metadata(2, due)]);
    assert_eq!(dead[1].header("own"), Some("1"));
    ours.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_in_the_legacy_format_are_wrapped_without_a_header_and_read_back() {
    let scene = Scene::new();
    scene.write("tasks", mixed()).await;
    let builder = scene
        .subscribe(by_topic(Duration::from_millis(50)))
        .legacy_tasks(LegacyTasks::Write);
    let third_fails: Answer = |attempt| match attempt {
        1 | 2 => Err(TaskError::retryable("busy")),
        _ => Err(TaskError::fatal("gone")),
    };
    let (ours, calls) = start(builder, third_fails).await;
    assert_eq!(
        calls.all(12).await.iter().map(|it| it.attempt).max(),
        Some(3)
    );

    let retries = scene.read("tasks-retry", 8).await;
    let mut tasks = Vec::new();
    for retry in &retries {
        let round = retry
            .header("keylane-retry-round")
            .unwrap()
            .parse()
            .unwrap();
        let due = retry.header("keylane-retry-due").unwrap().parse().unwrap();
        let inside = match &retry.value {
            None => retry.all_metadata().remove(0),
            Some(_) => {
                assert_eq!(retry.all_metadata(), []);
                tasks.push((
                    String::from_utf8(retry.unwrap().serialized_task).unwrap(),
                    round,
                ));
                retry.unwrap().metadata.unwrap()
            }
        };
        assert_eq!(
            (inside.retry_count, inside.scheduled_time_millis),
            (round, due)
        );
    }
    tasks.sort();
    let expected =
        ["new", "plain", "wrapped"].map(|task| [(task.to_owned(), 1), (task.to_owned(), 2)]);
    assert_eq!(tasks, expected.concat());
    let mut dead = scene.read("dead", 4).await;
    dead.sort_by_key(|it| it.value.clone());
    assert_eq!(
        dead.iter().map(left).collect::<Vec<_>>(),
        [
            (None, vec![]),
            (Some(b"new".to_vec()), vec![metadata(0, 0)]),
            (Some(b"plain".to_vec()), vec![]),
            (Some(b"wrapped".to_vec()), vec![metadata(0, 0)])
        ]
    );
    assert!(
        dead.iter()
            .all(|it| it.header("keylane-attempts") == Some("3"))
    );
    ours.shutdown().await.unwrap();
}
