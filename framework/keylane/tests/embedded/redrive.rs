//! Dead letters that are written back, through the real failure path.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::common::{PATIENCE, eventually};
use bytes::Bytes;
use keylane::config::{Backoff, Exhausted, FailureReason};
use keylane::dead_letter::Letter;
use keylane::redrive::{LetterRange, Letters, LettersError, RedriveError};
use keylane::subscription::SubscriptionBuilder;
use keylane::{DeadLetter, NewTask, Raw, Retry, Subscription, Task, TaskError, TaskProducer};
use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};

fn subscribe(broker: &EmbeddedBroker, group: &str, topic: &str) -> SubscriptionBuilder {
    Subscription::builder(group, topic)
        .bootstrap_servers(broker.bootstrap_servers())
        .kafka_settings(EmbeddedBroker::client_settings())
        .kafka("session.timeout.ms", "6000")
}

/// What the processor was called with: the attempt, and where the record was read first.
type Call = (u32, String);

/// Dead letter, redrive, retry in the group, dead letter: until the guard refuses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_never_succeeds_is_written_back_three_times_and_then_refused() {
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
    for topic in ["tasks", "tasks-retry", "dead"] {
        broker.create_topic(topic, 2).unwrap();
    }
    let producer = TaskProducer::builder("tasks")
        .topic("tasks-retry")
        .bootstrap_servers(broker.bootstrap_servers())
        .application_id("test")
        .start()
        .await
        .unwrap();

    let calls = Arc::<Mutex<Vec<Call>>>::default();
    let failing = {
        let calls = calls.clone();
        move |task: Task<Bytes>| {
            let origin = task.origin();
            let origin = format!("{}-{}@{}", origin.topic, origin.partition, origin.offset);
            calls.lock().unwrap().push((task.attempt(), origin));
            async move {
                Err::<(), _>(TaskError::retryable(format!(
                    "order {} failed",
                    task.offset()
                )))
            }
        }
    };
    let retry = Retry::none()
        .then_topic()
        .topic_rounds(1)
        .topic_backoff(Backoff::fixed(Duration::from_millis(20)))
        // Every record fails, which looks like an outage.
        .on(FailureReason::Exhausted, Exhausted::DeadLetter);
    let failing = subscribe(&broker, "notifier", "tasks")
        .retry(retry)
        .dead_letter(DeadLetter::topic("dead"))
        .start(Raw, failing)
        .await
        .unwrap();

    let letters = Arc::<Mutex<Vec<(Letter, Result<(), RedriveError>)>>>::default();
    let redriver = {
        let (letters, producer) = (letters.clone(), producer.clone());
        move |task: Task<Bytes>| {
            let (letters, producer) = (letters.clone(), producer.clone());
            async move {
                let letter = Letter::read(task.headers()).expect("a dead letter");
                let copy = NewTask::from_dead_letter(&task);
                letters
                    .lock()
                    .unwrap()
                    .push((letter, copy.clone().map(drop)));
                if let Ok(copy) = copy {
                    producer.enqueue(copy).await?;
                }
                Ok::<(), TaskError>(())
            }
        }
    };
    let redriver = subscribe(&broker, "redriver", "dead")
        .start(Raw, redriver)
        .await
        .unwrap();

    let task = NewTask::new("{}").key("k").header("tenant", "a");
    producer.enqueue(task.partition(1)).await.unwrap();
    eventually("the fourth letter is there", || {
        letters.lock().unwrap().len() == 4
    })
    .await;
    redriver.shutdown().await.unwrap();
    failing.shutdown().await.unwrap();
    producer.close(PATIENCE).await.unwrap();

    let letters = letters.lock().unwrap();
    for (count, (letter, copy)) in (0..).zip(letters.iter()) {
        assert_eq!(letter.redrive_count, count);
        assert_eq!(letter.redrive_id.is_some(), count > 0);
        assert_eq!(letter.attempts, Some(2), "they begin again");
        let origin = letter.origin.as_ref().unwrap();
        assert_eq!(
            (&*origin.topic, origin.partition, origin.offset),
            ("tasks", 1, 0)
        );
        assert_eq!(letter.group.as_deref(), Some("notifier"));
        let is_refused = matches!(copy, Err(RedriveError::TooOften { count: 3, .. }));
        assert_eq!(is_refused, count == 3, "{copy:?}");
    }
    assert_eq!(letters.len(), 4);
    let attempts = [1, 2, 1, 2, 1, 2, 1, 2].map(|attempt| (attempt, "tasks-1@0".to_owned()));
    assert_eq!(
        *calls.lock().unwrap(),
        attempts,
        "through the retry topic each time"
    );
}

/// More letters than are read ahead, in two partitions, among records that are none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_are_read_in_order_up_to_the_end_that_the_topic_had() {
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
    broker.create_topic("dead", 2).unwrap();
    let producer = super::common::producer(broker.bootstrap_servers(), "dead").await;
    let letter = |number: i32| {
        NewTask::new(number.to_string())
            .partition(number % 2)
            .header("keylane-group", "notifier")
            .header("keylane-reason", "fatal")
    };
    let write = |tasks: Vec<NewTask>| {
        let producer = producer.clone();
        async move { assert!(producer.enqueue_all(tasks).await.iter().all(Result::is_ok)) }
    };
    write((0..1_200).map(letter).collect()).await;
    write(vec![NewTask::new("no letter").partition(0)]).await;

    let read = || {
        Letters::of("dead")
            .bootstrap_servers(broker.bootstrap_servers())
            .patience(PATIENCE)
    };
    let mut letters = read().read().await.unwrap();
    write((1_200..1_210).map(letter).collect()).await;
    let mut numbers = [Vec::new(), Vec::new()];
    while let Some(letter) = letters.next().await {
        let letter = letter.unwrap();
        assert_eq!(letter.letter().reason.as_deref(), Some("fatal"));
        let value = std::str::from_utf8(letter.record().value().unwrap()).unwrap();
        numbers[letter.partition() as usize].push(value.parse::<i32>().unwrap());
    }
    for (parity, numbers) in (0..).zip(&numbers) {
        let expected: Vec<_> = (0..600).map(|number| 2 * number + parity).collect();
        assert_eq!(*numbers, expected);
    }
    assert_eq!(letters.not_letters(), 1);

    let ranges = letters.ranges().to_vec();
    assert_eq!(
        ranges.iter().map(|it| it.end).collect::<Vec<_>>(),
        [601, 600]
    );
    let mut again = read().ranges(ranges).read().await.unwrap();
    let mut offsets = BTreeSet::new();
    while let Some(letter) = again.next().await {
        let letter = letter.unwrap();
        offsets.insert((letter.partition(), letter.offset()));
    }
    assert_eq!(offsets.len(), 1_200, "the same letters");
    producer.close(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_end_at_once_where_there_are_none_and_a_wrong_setting_is_an_error() {
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
    broker.create_topic("dead", 2).unwrap();
    let read = Letters::of("dead").bootstrap_servers(broker.bootstrap_servers());
    let mut letters = read.clone().read().await.unwrap();
    assert!(letters.next().await.is_none());
    let error = read.kafka("group.id", "x").read().await.unwrap_err();
    assert!(matches!(error, LettersError::Kafka(_)), "{error}");
}

/// As a follower that lags behind the leader of which the end was asked, or a leader that came after
/// it. The embedded follower reports its own end once, and then goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_replica_that_lags_is_not_the_end_of_the_letters() {
    let options = EmbeddedBrokerOptions::default().brokers(2);
    let broker = EmbeddedBroker::start(options).unwrap();
    broker.create_topic("dead", 1).unwrap();
    let cluster = broker.cluster();
    cluster.partition_leader("dead", 0, Some(1)).unwrap();
    let producer = super::common::producer(broker.bootstrap_servers(), "dead").await;
    let letter = |number: i32| {
        NewTask::new(number.to_string())
            .header("keylane-group", "notifier")
            .header("keylane-reason", "fatal")
    };
    // It is asked for whole batches.
    for numbers in [0..4, 4..10] {
        let written = producer.enqueue_all(numbers.map(letter).collect::<Vec<_>>());
        assert!(written.await.iter().all(Result::is_ok));
    }
    cluster.partition_follower("dead", 0, 2).unwrap();
    cluster
        .follower_watermarks("dead", 0, None, Some(4))
        .unwrap();

    let read = |end, patience| {
        Letters::of("dead")
            .bootstrap_servers(broker.bootstrap_servers())
            .kafka("isolation.level", "read_uncommitted")
            .ranges([LetterRange::new(0, 0, end)])
            .patience(patience)
            .read()
    };
    let mut letters = read(10, PATIENCE).await.unwrap();
    for offset in 0..10 {
        let letter = letters.next().await.expect("all ten").unwrap();
        assert_eq!(letter.offset(), offset);
    }
    assert!(letters.next().await.is_none());

    let mut letters = read(12, Duration::from_secs(3)).await.unwrap();
    let mut last = None;
    while let Some(letter) = letters.next().await {
        last = Some(letter);
    }
    let Some(Err(error)) = last else {
        panic!("two letters are missing without an error: {last:?}");
    };
    assert!(
        matches!(error, LettersError::Stalled { partitions: 1, .. }),
        "{error}"
    );
    producer.close(PATIENCE).await.unwrap();
}
