//! Beside Decaton: the records are made by its wire format, here and not by Decaton itself.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use prost::Message as _;

use super::common::{PATIENCE, eventually};
use keylane::config::Backoff;
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
