//! The producer against librdkafka's mock cluster.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures::future::join_all;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers as _, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::new_task::Metadata;
use super::pending::NotAdmitted;
use super::raw::{OutgoingRecord, PendingLimits, RawProducer};
use super::write_error::{SizeLimit, WriteErrorKind, WriteFailure};
use super::*;
use crate::Headers;
use crate::NewTask;
use crate::record::{TaskMetadata, legacy_task, message_id};
use crate::support::panics::planted::plant;

const TOPIC: &str = "parking-events";
/// Nothing here takes this long; a test that gets there has failed.
const DEADLINE: Duration = Duration::from_secs(60);

type Cluster = MockCluster<'static, DefaultProducerContext>;

fn cluster(partitions: i32) -> Cluster {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, partitions, 1).unwrap();
    cluster
}

fn builder(cluster: &Cluster) -> TaskProducerBuilder {
    TaskProducer::builder(TOPIC)
        .bootstrap_servers(cluster.bootstrap_servers())
        .application_id("car-park")
        .instance_id("gate-1")
        // Fast reconnects: some tests take the broker down.
        .kafka("reconnect.backoff.max.ms", "100")
}

fn raw(cluster: &Cluster, kafka: &[(&str, &str)]) -> RawProducer {
    let kafka: BTreeMap<_, _> = kafka
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect();
    RawProducer::start(
        &cluster.bootstrap_servers(),
        &kafka,
        PendingLimits {
            records: 1_000,
            bytes: 10 << 20,
        },
        Arc::new(|_| ()),
    )
    .unwrap()
}

fn record(value: &'static str) -> OutgoingRecord {
    OutgoingRecord {
        topic: TOPIC.into(),
        partition: Some(0),
        key: None,
        value: Some(Bytes::from_static(value.as_bytes())),
        headers: Headers::new(),
        timestamp_millis: None,
    }
}

struct Read {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Headers,
    timestamp_millis: Option<i64>,
}

impl Read {
    fn text(&self) -> &str {
        std::str::from_utf8(self.value.as_deref().unwrap()).unwrap()
    }
}

/// The first `count` records of a partition.
fn read(cluster: &Cluster, partition: i32, count: usize) -> Vec<Read> {
    read_of(cluster, TOPIC, partition, count)
}

fn read_of(cluster: &Cluster, topic: &str, partition: i32, count: usize) -> Vec<Read> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("group.id", "reader")
        .set("fetch.wait.max.ms", "10")
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Beginning)
        .unwrap();
    consumer.assign(&list).unwrap();
    let deadline = Instant::now() + DEADLINE;
    let mut found = Vec::new();
    while found.len() < count {
        assert!(
            Instant::now() < deadline,
            "only {} of {count} records",
            found.len()
        );
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(20)) else {
            continue;
        };
        let mut headers = Headers::new();
        for header in message
            .headers()
            .into_iter()
            .flat_map(|headers| headers.iter())
        {
            match header.value {
                Some(value) => headers.push(header.key, value.to_vec()),
                None => headers.push_null(header.key),
            }
        }
        found.push(Read {
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers,
            timestamp_millis: message.timestamp().to_millis(),
        });
    }
    found
}

#[tokio::test]
async fn offsets_are_acknowledged_in_call_order_whatever_the_order_of_awaiting() {
    let cluster = cluster(1);
    let producer = builder(&cluster).start().await.unwrap();
    let mut answers: Vec<_> = (0..500)
        .map(|n| producer.enqueue(NewTask::new(n.to_string()).key("k")))
        .collect();
    answers.reverse();
    let mut enqueued = join_all(answers).await;
    enqueued.reverse();
    for (n, enqueued) in enqueued.into_iter().enumerate() {
        let expected = Enqueued {
            topic: TOPIC.into(),
            partition: 0,
            offset: n as i64,
        };
        assert_eq!(enqueued.unwrap(), expected);
    }
    for (n, read) in read(&cluster, 0, 500).iter().enumerate() {
        assert_eq!(read.text(), n.to_string());
    }
}

#[tokio::test]
async fn a_task_arrives_with_key_headers_and_metadata() {
    let cluster = cluster(2);
    let producer = builder(&cluster).start().await.unwrap();
    let due = SystemTime::UNIX_EPOCH + Duration::from_millis(4_102_444_800_000);
    let mut own = Headers::new();
    own.push_null("null");
    let task = NewTask::json(&["left"])
        .unwrap()
        .key("v")
        .headers(&own)
        .header("empty", "")
        .not_before(due)
        .partition(1);
    assert_eq!(producer.enqueue(task).await.unwrap().partition, 1);
    producer
        .enqueue(NewTask::tombstone().key("v").partition(1))
        .await
        .unwrap();
    producer
        .enqueue(NewTask::new("").partition(1))
        .await
        .unwrap();

    let read = read(&cluster, 1, 3);
    assert_eq!(read[0].text(), "[\"left\"]");
    assert_eq!(read[0].key.as_deref(), Some(&b"v"[..]));
    let names: Vec<_> = read[0]
        .headers
        .iter()
        .map(|(name, value)| (name, value.map(Bytes::len)))
        .collect();
    assert_eq!(names[..2], [("null", None), ("empty", Some(0))]);
    let metadata = TaskMetadata::decode(read[0].headers.last("dt_meta").unwrap()).unwrap();
    let expected = TaskMetadata {
        timestamp_millis: read[0].timestamp_millis.unwrap(),
        source_application_id: "car-park".into(),
        source_instance_id: "gate-1".into(),
        retry_count: 0,
        scheduled_time_millis: 4_102_444_800_000,
    };
    assert_eq!(metadata, expected);
    assert_eq!(
        (&read[1].value, read[1].key.as_deref()),
        (&None, Some(&b"v"[..])),
        "a tombstone"
    );
    assert_eq!(
        (read[2].value.as_deref(), &read[2].key),
        (Some(&b""[..]), &None),
        "an empty value is not a tombstone"
    );
}

/// `Utils.toPositive(Utils.murmur2(key)) % 4` of Kafka's Java client for these keys.
#[tokio::test]
async fn a_key_goes_to_the_partition_a_java_client_chooses() {
    let cluster = cluster(4);
    let producer = builder(&cluster).start().await.unwrap();
    for (key, partition) in [
        ("21", murmur2_partition(b"21", 4)),
        ("vehicle-7", murmur2_partition(b"vehicle-7", 4)),
    ] {
        assert_eq!(
            producer
                .enqueue(NewTask::new("x").key(key))
                .await
                .unwrap()
                .partition,
            partition,
            "{key}"
        );
    }
    // From the tests of Kafka's Java client: UtilsTest.testMurmur2.
    assert_eq!(murmur2(b"21"), -973_932_308);
    assert_eq!(murmur2(b"foobar"), -790_332_482);
}

fn murmur2_partition(key: &[u8], partitions: i32) -> i32 {
    (murmur2(key) & 0x7fff_ffff) % partitions
}

/// A second implementation, after Kafka's Java client.
fn murmur2(data: &[u8]) -> i32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c_u32 ^ data.len() as u32;
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = u32::from_le_bytes(chunk.try_into().unwrap()).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let rest = chunks.remainder();
    for (at, byte) in rest.iter().enumerate() {
        hash ^= u32::from(*byte) << (8 * at);
    }
    if !rest.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    (hash ^ (hash >> 15)) as i32
}

#[tokio::test]
async fn each_task_goes_to_the_topic_that_it_names_and_to_the_first_one_without() {
    let cluster = cluster(1);
    for topic in ["reminders", "not-ours"] {
        cluster.create_topic(topic, 1, 1).unwrap();
    }
    let producer = builder(&cluster).topic("reminders").start().await.unwrap();
    let to = |value: &'static str, topic| NewTask::new(value).topic(topic);
    let tasks = [
        NewTask::new("a"),
        to("b", "reminders"),
        to("c", "not-ours"),
        to("d", TOPIC),
    ];
    let mut answers = producer.enqueue_all(tasks).await;
    answers.push(producer.enqueue(to("e", "reminders")).await);
    answers.push(producer.enqueue(to("f", "not-ours")).await);
    let seen: Vec<_> = answers
        .iter()
        .map(|answer| match answer {
            Ok(enqueued) => (&*enqueued.topic, Some(enqueued.offset)),
            Err(EnqueueError::UnknownTopic { topic, .. }) => (&**topic, None),
            Err(error) => panic!("{error}"),
        })
        .collect();
    let expected = [
        (TOPIC, Some(0)),
        ("reminders", Some(0)),
        ("not-ours", None),
        (TOPIC, Some(1)),
        ("reminders", Some(1)),
        ("not-ours", None),
    ];
    assert_eq!(seen, expected);
    for (topic, values) in [(TOPIC, ["a", "d"]), ("reminders", ["b", "e"])] {
        let there = read_of(&cluster, topic, 0, 2);
        assert_eq!(there.iter().map(Read::text).collect::<Vec<_>>(), values);
    }
    assert!(producer.topics().eq([TOPIC, "reminders"]));
}

/// Each answer names its own topic, also where the one before it found the producer full.
#[tokio::test]
async fn a_full_producer_names_the_topic_of_each_task() {
    let cluster = cluster(1);
    cluster.create_topic("reminders", 1, 1).unwrap();
    let producer = builder(&cluster)
        .topic("reminders")
        .max_pending_bytes(1_000)
        .start()
        .await
        .unwrap();
    let task = |bytes| NewTask::new(vec![b'x'; bytes]);
    let tasks = [task(600), task(600), task(1).topic("reminders")];
    let answers = producer.enqueue_all(tasks).await;
    let full = |answer: &Result<Enqueued, EnqueueError>| match answer {
        Err(EnqueueError::Full { topic, .. }) => topic.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(answers[0].is_ok(), "{:?}", answers[0]);
    assert_eq!(full(&answers[1]), TOPIC);
    assert_eq!(full(&answers[2]), "reminders");
}

#[tokio::test]
async fn what_has_no_answer_is_reported_with_all_topics() {
    let cluster = cluster(1);
    cluster.create_topic("reminders", 1, 1).unwrap();
    let producer = builder(&cluster).topic("reminders").start().await.unwrap();
    cluster.broker_down(1).unwrap();
    let answer = producer.enqueue(NewTask::new("a").topic("reminders"));
    let flushed = producer.flush(Duration::from_millis(1)).await.unwrap_err();
    let closed = producer.close(Duration::from_millis(1)).await.unwrap_err();
    for error in [flushed.to_string(), closed.to_string()] {
        assert!(
            error.starts_with("1 tasks to parking-events, reminders "),
            "{error}"
        );
    }
    assert!(matches!(
        answer.await,
        Err(EnqueueError::NotAcknowledged { topic, .. }) if &*topic == "reminders"
    ));
}

#[tokio::test]
async fn a_batch_has_one_result_per_task_in_order() {
    let cluster = cluster(1);
    let producer = builder(&cluster)
        .kafka("message.max.bytes", "2000")
        .start()
        .await
        .unwrap();
    let tasks = [
        NewTask::new("a"),
        NewTask::new("b").header("dt_meta", "mine"),
        NewTask::new("c"),
        NewTask::new(vec![0; 3_000]),
        NewTask::new("d"),
    ];
    let results = producer.enqueue_all(tasks).await;
    assert_eq!(results.len(), 5);
    assert_eq!(results[0].as_ref().unwrap().offset, 0);
    assert!(matches!(results[1], Err(EnqueueError::Invalid { .. })));
    assert_eq!(results[2].as_ref().unwrap().offset, 1);
    let Err(EnqueueError::TooLarge {
        bytes: 3_000..,
        limit,
        ..
    }) = &results[3]
    else {
        panic!("{:?}", results[3])
    };
    assert!(
        limit.contains("client's message.max.bytes (2000)"),
        "{limit}"
    );
    assert_eq!(results[4].as_ref().unwrap().offset, 2);
}

#[tokio::test]
async fn a_full_producer_says_which_limit_and_takes_tasks_again_when_answers_came() {
    let cluster = cluster(1);
    let producer = builder(&cluster)
        .max_pending_records(3)
        .start()
        .await
        .unwrap();
    cluster.broker_down(1).unwrap();
    let taken: Vec<_> = (0..3)
        .map(|n| producer.enqueue(NewTask::new(n.to_string())))
        .collect();
    let error = producer.enqueue(NewTask::new("3")).await.unwrap_err();
    assert!(
        matches!(
            error,
            EnqueueError::Full {
                limit: 3,
                unit: "records",
                ..
            }
        ),
        "{error:?}"
    );
    assert!(
        error.to_string().contains("raise max_pending_records"),
        "{error}"
    );
    assert_eq!(producer.pending(), 3);
    let left = error.into_task().unwrap();

    cluster.broker_up(1).unwrap();
    tokio::time::timeout(DEADLINE, producer.room())
        .await
        .unwrap();
    for answer in join_all(taken).await {
        answer.unwrap();
    }
    assert_eq!(producer.enqueue(left).await.unwrap().offset, 3);
}

/// Whatever the error is: nothing taken, nothing acknowledged, or not even possible.
#[tokio::test]
async fn an_error_gives_the_task_back_as_it_was() {
    for format in [TaskFormat::Header, TaskFormat::Legacy] {
        gives_back(format).await;
    }
    let unwritten = EnqueueError::Encode {
        source: "no".into(),
    };
    assert!(unwritten.into_task().is_err());
}

async fn gives_back(format: TaskFormat) {
    let cluster = cluster(1);
    let producer = builder(&cluster)
        .format(format)
        .kafka("message.max.bytes", "2000")
        .max_pending_records(3)
        .start()
        .await
        .unwrap();
    let task = || {
        NewTask::new("a")
            .key("k")
            .header("gate", "north")
            .not_before(SystemTime::UNIX_EPOCH + Duration::from_secs(1))
    };
    // A record that is written again, in the wrapper that it came in, or with the metadata it had.
    let again = |metadata| {
        let value = legacy_task::wrap(&mut Headers::new(), b"a");
        NewTask {
            metadata: Metadata::Kept(metadata),
            ..NewTask::new(value).header("x", vec![b'x'; 3_000])
        }
    };
    // All errors of these, each with the task that it is about.
    let assert_given_back = |given: Vec<NewTask>, answers: Vec<Result<Enqueued, EnqueueError>>| {
        assert_eq!(given.len(), answers.len());
        let mut names = Vec::new();
        for (given, answer) in given.iter().zip(answers) {
            let error = answer.unwrap_err();
            let shown = format!("{error:?}");
            assert!(!shown.contains("north"), "{shown}");
            let name = shown.split(' ').next().unwrap_or_default();
            let mut back = error.into_task().unwrap();
            // It keeps the id that it was to be written with.
            let id = message_id::read(&back.headers).map(str::to_owned);
            let is_new = matches!(given.metadata, Metadata::Own);
            assert_eq!(id.is_some(), is_new && name != "UnknownTopic");
            if let Some(id) = id {
                assert_eq!(back.ensure_message_id(), id);
            }
            back.headers.remove(message_id::HEADER);
            assert_eq!(format!("{back:?}"), format!("{given:?}"));
            names.push(name.to_owned());
        }
        names
    };
    let bad = || {
        vec![
            task().topic("elsewhere"),
            task().partition(-1),
            task().header("dt_meta", "mine"),
            task().header("x", vec![b'x'; 3_000]),
            again(None),
            again(Some(TaskMetadata::default())),
        ]
    };
    let names = assert_given_back(bad(), producer.enqueue_all(bad()).await);
    assert_eq!(names[..3], ["UnknownTopic", "Invalid", "Invalid"]);
    assert_eq!(names[3..], ["TooLarge"; 3]);

    cluster.broker_down(1).unwrap();
    // Of a batch that does not fit, what was taken and what was not.
    let batch = || {
        vec![
            task(),
            task().topic(TOPIC).partition(0),
            NewTask::tombstone().key("k"),
            NewTask::new(""),
            task().header("x", "y"),
        ]
    };
    let mut unanswered = Box::pin(producer.enqueue_all(batch()));
    assert!(futures::poll!(&mut unanswered).is_pending());
    let _ = producer.close(Duration::from_millis(1)).await;
    let names = assert_given_back(batch(), unanswered.await);
    let (lost, full) = ("NotAcknowledged", "Full");
    assert_eq!(names, [lost, lost, lost, full, full]);
    let answer = producer.enqueue(task()).await;
    assert_eq!(assert_given_back(vec![task()], vec![answer]), ["Closed"]);
}

#[tokio::test]
async fn what_does_not_fit_is_the_end_of_a_batch() {
    let cluster = cluster(1);
    let producer = builder(&cluster)
        .max_pending_bytes(1_000)
        .start()
        .await
        .unwrap();
    // The third is too much; the fourth would fit, and must not overtake it.
    let tasks = [400, 400, 400, 1].map(|bytes| NewTask::new(vec![b'x'; bytes]));
    let results = producer.enqueue_all(tasks).await;
    assert!(results[0].is_ok() && results[1].is_ok(), "{results:?}");
    for result in &results[2..] {
        assert!(
            matches!(
                result,
                Err(EnqueueError::Full {
                    limit: 1_000,
                    unit: "bytes",
                    ..
                })
            ),
            "{result:?}"
        );
    }
}

#[tokio::test]
async fn a_task_is_written_once_when_the_broker_is_back() {
    let cluster = cluster(1);
    let producer = builder(&cluster).start().await.unwrap();
    producer.enqueue(NewTask::new("before")).await.unwrap();
    cluster.broker_down(1).unwrap();
    let answer = tokio::spawn(producer.enqueue(NewTask::new("while down")));
    assert_eq!(producer.flush(Duration::ZERO).await.unwrap_err().pending, 1);
    cluster.broker_up(1).unwrap();
    producer.flush(DEADLINE).await.unwrap();
    assert_eq!(answer.await.unwrap().unwrap().offset, 1);
    assert_eq!(
        producer
            .enqueue(NewTask::new("after"))
            .await
            .unwrap()
            .offset,
        2
    );
}

#[tokio::test]
async fn a_task_the_brokers_never_answer_is_not_acknowledged() {
    let cluster = cluster(1);
    let producer = builder(&cluster)
        .kafka("message.timeout.ms", "300")
        .start()
        .await
        .unwrap();
    cluster.broker_down(1).unwrap();
    let error = producer.enqueue(NewTask::new("x")).await.unwrap_err();
    assert!(
        matches!(error, EnqueueError::NotAcknowledged { .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("message.timeout.ms"), "{error}");
    assert_eq!(producer.pending(), 0);
}

#[tokio::test]
async fn close_waits_for_answers_and_takes_nothing_more() {
    let cluster = cluster(1);
    let producer = builder(&cluster).start().await.unwrap();
    let answers: Vec<_> = (0..100)
        .map(|n| producer.enqueue(NewTask::new(n.to_string())))
        .collect();
    producer.clone().close(DEADLINE).await.unwrap();
    for answer in join_all(answers).await {
        answer.unwrap();
    }
    let error = producer.enqueue(NewTask::new("late")).await.unwrap_err();
    assert!(matches!(error, EnqueueError::Closed { .. }), "{error:?}");
    producer.close(DEADLINE).await.unwrap();
    assert_eq!(read(&cluster, 0, 100)[99].text(), "99");
}

#[tokio::test]
async fn close_counts_what_it_gives_up_and_every_future_ends() {
    let cluster = cluster(1);
    let producer = builder(&cluster).start().await.unwrap();
    cluster.broker_down(1).unwrap();
    let answers: Vec<_> = (0..5)
        .map(|n| producer.enqueue(NewTask::new(n.to_string())))
        .collect();
    assert_eq!(
        producer
            .close(Duration::ZERO)
            .await
            .unwrap_err()
            .unacknowledged,
        5
    );
    let answers = tokio::time::timeout(DEADLINE, join_all(answers))
        .await
        .unwrap();
    for answer in answers {
        assert!(
            matches!(answer, Err(EnqueueError::NotAcknowledged { .. })),
            "{answer:?}"
        );
    }
    assert_eq!(producer.pending(), 0);
}

#[tokio::test]
async fn a_dropped_producer_still_delivers_what_was_queued() {
    let cluster = cluster(1);
    let producer = builder(&cluster)
        .kafka("linger.ms", "200")
        .start()
        .await
        .unwrap();
    let answer = producer.enqueue(NewTask::new("x"));
    drop(producer);
    assert_eq!(
        tokio::time::timeout(DEADLINE, answer)
            .await
            .unwrap()
            .unwrap()
            .offset,
        0
    );
}

#[tokio::test]
async fn a_producer_dropped_without_a_broker_ends_every_future() {
    let cluster = cluster(1);
    let producer = builder(&cluster).start().await.unwrap();
    producer.enqueue(NewTask::new("connected")).await.unwrap();
    cluster.broker_down(1).unwrap();
    let answers: Vec<_> = (0..5)
        .map(|n| producer.enqueue(NewTask::new(n.to_string())))
        .collect();
    drop(producer);
    for answer in tokio::time::timeout(DEADLINE, join_all(answers))
        .await
        .unwrap()
    {
        assert!(
            matches!(answer, Err(EnqueueError::NotAcknowledged { .. })),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn start_names_a_missing_topic_and_does_not_create_it() {
    let cluster = cluster(1);
    for _ in 0..2 {
        let servers = cluster.bootstrap_servers();
        let started = TaskProducer::builder("typo")
            .bootstrap_servers(servers)
            .application_id("a")
            .start()
            .await;
        assert_eq!(
            started.unwrap_err(),
            TaskProducerError::MissingTopic {
                topic: "typo".into()
            }
        );
        // Of several, each is looked up.
        assert_eq!(
            builder(&cluster).topic("typo").start().await.unwrap_err(),
            TaskProducerError::MissingTopic {
                topic: "typo".into()
            }
        );
    }
}

#[tokio::test]
async fn start_says_why_brokers_are_unreachable() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let started = TaskProducer::builder(TOPIC)
        .bootstrap_servers(format!("127.0.0.1:{port}"))
        .application_id("a")
        .startup_timeout(Duration::from_secs(5))
        .start()
        .await;
    match started.unwrap_err() {
        TaskProducerError::Unreachable { reason, .. } => {
            assert!(reason.contains("refused"), "{reason}")
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_write_to_a_missing_topic_may_be_tried_again_and_creates_nothing() {
    let cluster = cluster(1);
    // Unknown topics are waited for this long, in case their creation has not spread yet.
    let raw = raw(
        &cluster,
        &[
            ("topic.metadata.propagation.max.ms", "100"),
            ("message.timeout.ms", "2000"),
        ],
    );
    for _ in 0..2 {
        let error = raw
            .send(OutgoingRecord {
                topic: "typo".into(),
                ..record("x")
            })
            .await
            .unwrap_err();
        assert_eq!(error.kind(), WriteErrorKind::Transient, "{error}");
        assert!(error.to_string().contains("topic typo"), "{error}");
    }
}

#[tokio::test]
async fn what_is_refused_in_a_batch_and_alone_is_refused_for_good() {
    let cluster = cluster(1);
    let raw = raw(&cluster, &[]);
    raw.send(record("first")).await.unwrap();
    cluster.request_errors(
        RDKafkaApiKey::Produce,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE; 2],
    );
    let error = raw
        .send(record("too large for the topic"))
        .await
        .unwrap_err();
    let too_large = WriteFailure::TooLarge {
        bytes: 23,
        limit: SizeLimit::Topic,
    };
    assert_eq!(
        (error.kind(), error.failure),
        (WriteErrorKind::TooLarge, too_large)
    );
    assert_eq!(raw.send(record("after")).await.unwrap().offset, 1);
}

/// Point 9: by default Kafka takes 1,048,588 bytes, and librdkafka hands on 1,000,000.
#[tokio::test]
async fn what_is_too_large_is_for_the_broker_to_say() {
    let cluster = cluster(1);
    let producer = builder(&cluster).start().await.unwrap();
    let noise = || {
        (0..1_040_000)
            .map(|_| fastrand::u8(..))
            .collect::<Vec<u8>>()
    };
    producer.enqueue(NewTask::new(noise())).await.unwrap();
    let errors = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE; 2];
    cluster.request_errors(RDKafkaApiKey::Produce, &errors);
    let error = producer
        .enqueue(NewTask::new(noise()))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("the topic's max.message.bytes"), "{error}");
}

#[tokio::test]
async fn what_keylane_writes_is_compressed() {
    let cluster = cluster(1);
    // The mock keeps 5 MiB as they came: of ten such tasks it would drop half.
    let producer = builder(&cluster).start().await.unwrap();
    for _ in 0..10 {
        producer
            .enqueue(NewTask::new(vec![b'x'; 900_000]))
            .await
            .unwrap();
    }
    assert_eq!(read(&cluster, 0, 10).len(), 10);
}

#[tokio::test]
async fn neighbours_of_a_refused_record_are_written_all_the_same() {
    for refusal in [
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_RECORD,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
    ] {
        neighbours_are_written(refusal).await;
    }
}

async fn neighbours_are_written(refusal: RDKafkaRespErr) {
    let cluster = cluster(1);
    let producer = builder(&cluster)
        .kafka("linger.ms", "100")
        .start()
        .await
        .unwrap();
    // The broker refuses the batch as a whole, then nothing.
    cluster.request_errors(RDKafkaApiKey::Produce, &[refusal]);
    let results = producer
        .enqueue_all((0..20).map(|n| NewTask::new(n.to_string())))
        .await;
    let mut offsets: Vec<_> = results
        .into_iter()
        .map(|result| result.unwrap().offset)
        .collect();
    offsets.sort_unstable();
    assert_eq!(offsets, (0..20).collect::<Vec<_>>());
    assert_eq!(producer.pending(), 0);
}

#[tokio::test]
async fn writes_go_on_after_a_missing_permission_was_granted() {
    let cluster = cluster(1);
    let raw = raw(&cluster, &[("topic.metadata.refresh.interval.ms", "100")]);
    raw.send(record("first")).await.unwrap();
    cluster.request_errors(
        RDKafkaApiKey::Produce,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED],
    );
    let error = raw.send(record("no permission")).await.unwrap_err();
    assert_eq!(error.kind(), WriteErrorKind::Transient, "{error}");
    assert!(
        error.to_string().contains("allow this client to write"),
        "{error}"
    );
    assert_eq!(written(&raw).await.offset, 1);
}

/// Tries as a retry would: each failure may be tried again, none ends the producer.
async fn written(raw: &RawProducer) -> raw::Acknowledged {
    let tries = async {
        loop {
            match raw.send(record("x")).await {
                Ok(acknowledged) => return acknowledged,
                Err(error) => assert_eq!(error.kind(), WriteErrorKind::Transient, "{error}"),
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, tries).await.unwrap()
}

#[tokio::test]
async fn a_write_that_fails_for_a_moment_is_repeated_without_a_duplicate() {
    let cluster = cluster(1);
    let raw = raw(&cluster, &[]);
    let errors = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS; 3];
    cluster.request_errors(RDKafkaApiKey::Produce, &errors);
    assert_eq!(raw.send(record("x")).await.unwrap().offset, 0);
    assert_eq!(raw.send(record("y")).await.unwrap().offset, 1);
}

#[tokio::test]
async fn writes_go_on_after_a_fatal_error() {
    let cluster = cluster(1);
    cluster.request_errors(
        RDKafkaApiKey::InitProducerId,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED; 2],
    );
    let raw = raw(&cluster, &[("message.timeout.ms", "5000")]);
    let hit = (0..50).map(|_| raw.send(record("hit by it")));
    for answer in tokio::time::timeout(DEADLINE, join_all(hit)).await.unwrap() {
        assert_eq!(answer.unwrap_err().kind(), WriteErrorKind::Transient);
    }
    assert_eq!(raw.pending(), 0, "room was lost");
    assert_eq!(written(&raw).await.offset, 0);
    assert_eq!(raw.fatal_error(), None);
}

#[tokio::test]
async fn a_dropped_future_recalls_nothing() {
    let cluster = cluster(1);
    let raw = raw(&cluster, &[]);
    drop(raw.send(record("unheard")));
    raw.flush(DEADLINE).await.unwrap();
    assert_eq!(raw.pending(), 0);
    assert_eq!(read(&cluster, 0, 1)[0].text(), "unheard");
}

#[tokio::test]
async fn a_record_keeps_its_timestamp_and_headers() {
    let cluster = cluster(1);
    let raw = raw(&cluster, &[]);
    let headers: Headers = [("a", "1"), ("b", ""), ("a", "2")].into_iter().collect();
    let sent = OutgoingRecord {
        headers: headers.clone(),
        timestamp_millis: Some(1_000_000),
        ..record("x")
    };
    raw.send(sent).await.unwrap();
    raw.send(OutgoingRecord {
        timestamp_millis: Some(-1),
        ..record("y")
    })
    .await
    .unwrap();
    let read = read(&cluster, 0, 2);
    assert_eq!(read[0].headers, headers);
    assert_eq!(read[0].timestamp_millis, Some(1_000_000));
    assert!(
        read[1].timestamp_millis.unwrap() > 1_600_000_000_000,
        "no timestamp is now"
    );
}

#[tokio::test]
async fn a_closed_raw_producer_and_a_negative_partition_are_refused_without_a_broker() {
    let kafka = BTreeMap::new();
    let raw = RawProducer::start(
        "127.0.0.1:1",
        &kafka,
        PendingLimits {
            records: 1,
            bytes: 1,
        },
        Arc::new(|_| ()),
    )
    .unwrap();
    let error = raw
        .send(OutgoingRecord {
            partition: Some(-1),
            ..record("x")
        })
        .await
        .unwrap_err();
    assert_eq!(error.kind(), WriteErrorKind::Refused, "{error}");
    raw.close(DEADLINE).await.unwrap();
    let error = raw.send(record("x")).await.unwrap_err();
    assert_eq!(
        error.failure,
        WriteFailure::NotAdmitted(NotAdmitted::Closed)
    );
}

/// Nothing may wait for an answer that no thread would serve.
#[tokio::test]
async fn after_a_panic_of_its_thread_what_is_on_its_way_fails_and_nothing_more_is_taken() {
    let cluster = cluster(1);
    let servers = cluster.bootstrap_servers();
    let heard = Arc::new(Mutex::new(String::new()));
    let limits = PendingLimits {
        records: 1,
        bytes: 10 << 20,
    };
    let on_panic: raw::OnPanic = {
        let heard = heard.clone();
        Arc::new(move |text: &str| text.clone_into(&mut heard.lock().unwrap()))
    };
    // No broker answers.
    cluster.broker_down(1).unwrap();
    let raw = RawProducer::start(&servers, &BTreeMap::new(), limits, on_panic).unwrap();
    let on_its_way = raw.send(record("early"));
    assert_eq!(raw.pending(), 1);
    plant("producer", &servers, 0);
    let error = tokio::time::timeout(DEADLINE, on_its_way)
        .await
        .expect("it has an answer")
        .unwrap_err();
    assert_eq!(error.kind(), WriteErrorKind::Transient);
    assert_eq!(*heard.lock().unwrap(), "boom");
    tokio::time::timeout(DEADLINE, raw.room())
        .await
        .expect("a call that waits for room ends");
    let error = raw.send(record("late")).await.unwrap_err();
    assert_eq!(
        error.failure,
        WriteFailure::NotAdmitted(NotAdmitted::Broken)
    );
    assert_eq!(raw.pending(), 0);
    assert!(matches!(
        EnqueueError::from(error),
        EnqueueError::Broken { .. }
    ));
}
