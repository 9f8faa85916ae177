use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::*;

/// The brokers whose watcher panics at its next look.
static PLANTED: Mutex<Option<String>> = Mutex::new(None);

pub(crate) fn panic_if_planted(bootstrap_servers: &str) {
    let mut planted = PLANTED.lock().unwrap();
    let is_due = planted.take_if(|it| *it == bootstrap_servers).is_some();
    drop(planted);
    assert!(!is_due, "boom");
}

const DEADLINE: Duration = Duration::from_secs(30);

fn start() -> EmbeddedBroker {
    EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap()
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "still waiting: {what}");
        std::thread::yield_now();
    }
}

/// Runs what might hang on a thread of its own; the test fails instead of hanging.
fn within_deadline(what: &str, work: impl FnOnce() + Send + 'static) {
    let (done, finished) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        work();
        let _ = done.send(());
    });
    finished
        .recv_timeout(DEADLINE)
        .unwrap_or_else(|error| panic!("{what}: {error}"));
}

/// Counts the broker's answers about each record.
#[derive(Default)]
struct Acknowledged(std::sync::Mutex<(usize, Vec<KafkaError>)>);

impl ClientContext for Acknowledged {}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let mut told = self.0.lock().unwrap();
        match result {
            Ok(_) => told.0 += 1,
            Err((error, _)) => told.1.push(error.clone()),
        }
    }
}

fn producer(broker: &EmbeddedBroker) -> BaseProducer<Acknowledged> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", broker.bootstrap_servers())
        .set("enable.idempotence", "true");
    config.extend(EmbeddedBroker::producer_settings());
    config.create_with_context(Acknowledged::default()).unwrap()
}

/// Writes and waits for all answers of the broker: acknowledged, refused.
fn write(
    producer: &BaseProducer<Acknowledged>,
    topic: &str,
    records: usize,
    bytes: usize,
) -> (usize, Vec<KafkaError>) {
    let payload = vec![7; bytes];
    for _ in 0..records {
        producer
            .send(
                BaseRecord::<(), _>::to(topic)
                    .partition(0)
                    .payload(&payload),
            )
            .map_err(|(e, _)| e)
            .unwrap();
    }
    producer.flush(DEADLINE).unwrap();
    std::mem::take(&mut *producer.context().0.lock().unwrap())
}

fn is_policy_violation(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::PolicyViolation)
}

fn consumer(broker: &EmbeddedBroker, group: &str) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", broker.bootstrap_servers())
        .set("group.id", group);
    config
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.offset.store", "false");
    config.set("partition.assignment.strategy", "cooperative-sticky");
    config.extend(EmbeddedBroker::client_settings());
    config.create().unwrap()
}

fn commit(consumer: &BaseConsumer, topic: &str, next: i64) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Offset(next))
        .unwrap();
    consumer.commit(&list, CommitMode::Sync).unwrap();
}

#[test]
fn a_group_member_reads_what_was_written_and_the_handle_can_be_shared() {
    fn shareable<T: Send + Sync + 'static>(_: &T) {}
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default().brokers(3)).unwrap();
    shareable(&broker);
    assert_eq!(broker.bootstrap_servers().split(',').count(), 3);
    broker.create_topic("t", 2).unwrap();
    assert_eq!(write(&producer(&broker), "t", 10, 100), (10, vec![]));
    let consumer = consumer(&broker, "g");
    consumer.subscribe(&["t"]).unwrap();
    let mut offsets = Vec::new();
    wait_until("10 records", || {
        if let Some(record) = consumer.poll(Duration::from_millis(100)) {
            offsets.push(record.unwrap().offset());
        }
        offsets.len() == 10
    });
    assert_eq!(offsets, (0..10).collect::<Vec<_>>());
}

#[test]
fn topics_that_make_no_sense_are_refused() {
    let broker = start();
    broker.create_topic("t", 1).unwrap();
    assert_eq!(
        broker.create_topic("t", 1),
        Err(EmbeddedBrokerError::TopicExists {
            name: "t".to_owned()
        })
    );
    assert!(matches!(
        broker.create_topic("a\0b", 1),
        Err(EmbeddedBrokerError::TopicName { .. })
    ));
    for partitions in [i32::MIN, 0, 10_001] {
        assert!(matches!(
            broker.create_topic("u", partitions),
            Err(EmbeddedBrokerError::PartitionCount { .. })
        ));
    }
    for brokers in [0, 17] {
        let options = EmbeddedBrokerOptions::default().brokers(brokers);
        assert_eq!(
            EmbeddedBroker::start(options).unwrap_err(),
            EmbeddedBrokerError::BrokerCount { brokers }
        );
    }
}

#[test]
fn records_dropped_unread_are_reported_and_later_writes_refused() {
    let broker = start();
    broker.create_topic("t", 1).unwrap();
    broker.expect_reader("g", "t");
    let producer = producer(&broker);
    assert_eq!(write(&producer, "t", 40, 100_000), (40, vec![]));
    assert_eq!(broker.look_for_evictions(), Ok(vec![]), "4 MB fit");
    // The watcher may see it happen, and then the last of these are refused already.
    let (acknowledged, refused) = write(&producer, "t", 40, 100_000);
    assert_eq!(acknowledged + refused.len(), 40);
    assert!(refused.iter().all(is_policy_violation), "{refused:?}");

    let evicted = broker.look_for_evictions().unwrap();
    let [loss] = &evicted[..] else {
        panic!("one partition lost records: {evicted:?}")
    };
    assert_eq!(
        (loss.topic.as_str(), loss.partition, loss.group.as_deref()),
        ("t", 0, Some("g"))
    );
    assert_eq!(loss.first_offset, 0);
    let (low, _) = consumer(&broker, "other")
        .fetch_watermarks("t", 0, DEADLINE)
        .unwrap();
    assert_eq!(loss.records, u64::try_from(low).unwrap());

    let (acknowledged, refused) = write(&producer, "t", 3, 10);
    assert_eq!((acknowledged, refused.len()), (0, 3));
    assert!(refused.iter().all(is_policy_violation), "{refused:?}");
    assert_eq!(
        broker.look_for_evictions().unwrap(),
        evicted,
        "a loss is counted once and not forgotten"
    );
}

#[test]
fn the_watcher_finds_a_loss_by_itself() {
    let options = EmbeddedBrokerOptions::default().eviction_guard(EvictionGuard::Report);
    let broker = EmbeddedBroker::start(options).unwrap();
    let producer = producer(&broker);
    // The topic was not created and is not read: a loss all the same.
    assert_eq!(write(&producer, "sprung-up", 80, 100_000), (80, vec![]));
    wait_until("the watcher's report", || !broker.evicted().is_empty());
    assert_eq!(broker.evicted()[0].group, None);
    assert_eq!(
        write(&producer, "sprung-up", 1, 10),
        (1, vec![]),
        "only reported"
    );
}

#[test]
fn dropping_what_every_reader_has_committed_is_no_loss() {
    let options = EmbeddedBrokerOptions::default().eviction_guard(EvictionGuard::Report);
    let broker = EmbeddedBroker::start(options).unwrap();
    broker.create_topic("t", 1).unwrap();
    broker.expect_reader("fast", "t");
    broker.expect_reader("slow", "t");
    let producer = producer(&broker);
    let (fast, slow) = (consumer(&broker, "fast"), consumer(&broker, "slow"));
    for round in 1..=4 {
        assert_eq!(write(&producer, "t", 20, 100_000), (20, vec![]));
        commit(&fast, "t", round * 20);
        commit(&slow, "t", (round - 1) * 20);
        assert_eq!(broker.look_for_evictions(), Ok(vec![]), "round {round}");
    }
    assert!(
        fast.fetch_watermarks("t", 0, DEADLINE).unwrap().0 > 0,
        "the test must drop something to mean something"
    );
    write(&producer, "t", 60, 100_000);
    let losers: Vec<_> = broker
        .look_for_evictions()
        .unwrap()
        .into_iter()
        .filter_map(|loss| loss.group)
        .collect();
    assert_eq!(losers, ["fast", "slow"]);
}

#[test]
fn without_a_guard_nobody_claims_to_know() {
    let options = EmbeddedBrokerOptions::default().eviction_guard(EvictionGuard::Off);
    let broker = EmbeddedBroker::start(options).unwrap();
    broker.expect_reader("g", "t");
    assert_eq!(broker.evicted(), []);
    assert_eq!(
        broker.look_for_evictions(),
        Err(EmbeddedBrokerError::GuardOff)
    );
}

#[test]
fn clients_that_outlive_the_broker_can_still_be_closed() {
    let broker = start();
    broker.create_topic("t", 2).unwrap();
    let producer = producer(&broker);
    assert_eq!(write(&producer, "t", 5, 10), (5, vec![]));
    let consumer = consumer(&broker, "g");
    consumer.subscribe(&["t"]).unwrap();
    wait_until("a record", || {
        match consumer.poll(Duration::from_millis(100)) {
            Some(record) => {
                let record = record.unwrap();
                consumer
                    .store_offset(record.topic(), record.partition(), record.offset())
                    .unwrap();
                true
            }
            None => false,
        }
    });
    within_deadline("stopping the broker under its clients", move || {
        drop(broker)
    });
    // Its stored offset can no longer be committed; the session time-out bounds how long it tries.
    within_deadline("closing a consumer without its broker", move || {
        drop(consumer)
    });
    within_deadline("closing a producer without its broker", move || {
        drop(producer)
    });
}

#[test]
fn many_brokers_can_come_and_go_at_once() {
    let threads: Vec<_> = (0..8)
        .map(|_| {
            std::thread::spawn(|| {
                let broker = start();
                broker.create_topic("t", 1).unwrap();
                broker.look_for_evictions().unwrap();
            })
        })
        .collect();
    within_deadline("8 brokers", move || {
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap())
    });
}

#[test]
fn the_watcher_goes_on_after_a_panic() {
    let broker = start();
    broker.create_topic("t", 1).unwrap();
    *PLANTED.lock().unwrap() = Some(broker.bootstrap_servers().to_owned());
    wait_until("the panic", || PLANTED.lock().unwrap().is_none());
    *PLANTED.lock().unwrap() = Some(broker.bootstrap_servers().to_owned());
    wait_until("a look after it", || PLANTED.lock().unwrap().is_none());
    assert_eq!(broker.look_for_evictions(), Ok(vec![]));
}
