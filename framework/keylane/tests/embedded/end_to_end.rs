//! A subscription from enqueue to settlement, on the embedded broker: quick checks of what
//! `integration-tests` proves on a real Kafka.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::common::{self, PATIENCE, eventually};
use keylane::config::{Backoff, HeaderConvention, Reading};
use keylane::status::State;
use keylane::subscription::SubscriptionBuilder;
use keylane::{
    DeadLetter, Json, NewTask, Raw, Retry, Subscription, Success, Task, TaskError, TaskProducer,
};
use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

/// What a processor saw: per key, the payloads in order.
type Seen = Arc<Mutex<HashMap<String, Vec<u32>>>>;

fn broker(topics: &[&str]) -> EmbeddedBroker {
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
    for topic in topics {
        broker.create_topic(topic, 4).unwrap();
    }
    broker
}

fn subscribe(broker: &EmbeddedBroker, topic: &str) -> SubscriptionBuilder {
    Subscription::builder(format!("{topic}-group"), topic)
        .bootstrap_servers(broker.bootstrap_servers())
        .kafka_settings(EmbeddedBroker::client_settings())
        // A member that gets no CPU for a while is not to be thrown out: nothing may come twice.
        .kafka("session.timeout.ms", "6000")
}

async fn enqueue(broker: &EmbeddedBroker, topic: &str, tasks: Vec<NewTask>) {
    let producer = common::producer(broker.bootstrap_servers(), topic).await;
    for result in producer.enqueue_all(tasks).await {
        result.unwrap();
    }
    producer.close(PATIENCE).await.unwrap();
}

fn note(seen: &Seen, task: &Task<u32>) {
    let key = task.key_str().unwrap_or_default().to_owned();
    seen.lock()
        .unwrap()
        .entry(key)
        .or_default()
        .push(*task.payload());
}

fn count(seen: &Seen) -> usize {
    seen.lock().unwrap().values().map(Vec::len).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_task_is_processed_in_key_order_and_a_restart_repeats_nothing() {
    process_and_restart(Reading::Batched).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_holds_for_records_read_one_by_one() {
    process_and_restart(Reading::Polled).await;
}

async fn process_and_restart(reading: Reading) {
    let broker = broker(&["tasks"]);
    let tasks = (0..2_000)
        .map(|i: u32| NewTask::json(&i).unwrap().key(format!("k{}", i % 50)))
        .collect();
    enqueue(&broker, "tasks", tasks).await;
    let seen = Seen::default();
    let start = || async {
        let seen = seen.clone();
        subscribe(&broker, "tasks")
            .reading(reading)
            .start(Json, move |task: Task<u32>| {
                let seen = seen.clone();
                async move {
                    if task.payload().is_multiple_of(7) {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    note(&seen, &task);
                    Ok::<(), TaskError>(())
                }
            })
            .await
            .unwrap()
    };
    let subscription = start().await;
    eventually("all tasks are processed", || count(&seen) == 2_000).await;
    subscription.shutdown().await.unwrap();
    for (key, payloads) in seen.lock().unwrap().iter() {
        assert!(payloads.is_sorted(), "{key}: {payloads:?}");
    }

    let subscription = start().await;
    enqueue(
        &broker,
        "tasks",
        vec![NewTask::json(&5_000).unwrap().key("last")],
    )
    .await;
    eventually("the new task is processed", || {
        seen.lock().unwrap().contains_key("last")
    })
    .await;
    subscription.shutdown().await.unwrap();
    assert_eq!(count(&seen), 2_001);
}

/// Records that arrive with the assignment itself: taken out before their partition is opened, they
/// would be lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_record_that_arrives_with_an_assignment_is_missed_or_repeated() {
    let broker = broker(&["tasks"]);
    let seen = Seen::default();
    let enqueued = Arc::new(AtomicU32::new(0));
    let producer = TaskProducer::builder("tasks")
        .bootstrap_servers(broker.bootstrap_servers())
        .application_id("test")
        .kafka("linger.ms", "0")
        .start()
        .await
        .unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (stop, enqueued, producer) = (stop.clone(), enqueued.clone(), producer.clone());
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let number = enqueued.load(Ordering::Relaxed);
                producer
                    .enqueue(NewTask::json(&number).unwrap().key(number.to_string()))
                    .await
                    .unwrap();
                enqueued.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
    };
    for _ in 0..10 {
        let noted = seen.clone();
        let subscription = subscribe(&broker, "tasks")
            .start(Json, move |task: Task<u32>| {
                note(&noted, &task);
                async { Ok::<(), TaskError>(()) }
            })
            .await
            .unwrap();
        let target = enqueued.load(Ordering::Relaxed) + 50;
        eventually("some tasks are processed", || {
            count(&seen) >= target as usize
        })
        .await;
        subscription.shutdown().await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    writer.await.unwrap();
    let noted = seen.clone();
    let subscription = subscribe(&broker, "tasks")
        .start(Json, move |task: Task<u32>| {
            note(&noted, &task);
            async { Ok::<(), TaskError>(()) }
        })
        .await
        .unwrap();
    let all = enqueued.load(Ordering::Relaxed);
    eventually("all tasks are processed", || count(&seen) >= all as usize).await;
    subscription.shutdown().await.unwrap();
    let mut numbers: Vec<u32> = seen.lock().unwrap().values().flatten().copied().collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..all).collect::<Vec<_>>());
    producer.close(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_are_retried_in_place_and_then_dead_lettered_with_their_bytes() {
    let broker = broker(&["tasks", "dead"]);
    let mut tasks: Vec<_> = (0..20)
        .map(|i: u32| NewTask::json(&i).unwrap().key("k"))
        .collect();
    tasks.push(NewTask::new("not json").key("k"));
    enqueue(&broker, "tasks", tasks).await;
    let seen = Seen::default();
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let quick = Backoff::exponential(Duration::from_millis(1), Duration::from_millis(5));
    let subscription = {
        let (seen, attempts) = (seen.clone(), attempts.clone());
        subscribe(&broker, "tasks")
            .retry(Retry::in_place(2).backoff(quick))
            .dead_letter(DeadLetter::topic("dead"))
            .start(Json, move |task: Task<u32>| {
                let (seen, attempts) = (seen.clone(), attempts.clone());
                async move {
                    match task.payload() {
                        3 => panic!("three"),
                        5 => return Err(TaskError::fatal("five")),
                        7 if task.attempt() < 3 => {
                            return Err(std::io::Error::other("not yet").into());
                        }
                        9 => {
                            attempts.lock().unwrap().push(task.attempt());
                            return Err(TaskError::retryable("never"));
                        }
                        11 => return Ok(Success::skipped("eleven")),
                        _ => {}
                    }
                    note(&seen, &task);
                    Ok(Success::Done)
                }
            })
            .await
            .unwrap()
    };
    let dead = Arc::new(Mutex::new(Vec::new()));
    let dead_letters = {
        let dead = dead.clone();
        subscribe(&broker, "dead")
            .start(Raw, move |task: Task<bytes::Bytes>| {
                let dead = dead.clone();
                async move {
                    let header =
                        |name: &str| task.headers().last_str(name).unwrap_or("").to_owned();
                    let value = String::from_utf8(task.payload().to_vec()).unwrap();
                    dead.lock().unwrap().push((
                        value,
                        header("keylane-reason"),
                        header("keylane-attempts"),
                    ));
                    Ok::<(), TaskError>(())
                }
            })
            .await
            .unwrap()
    };
    eventually("all are settled", || {
        count(&seen) == 16 && dead.lock().unwrap().len() == 4
    })
    .await;
    subscription.shutdown().await.unwrap();
    dead_letters.shutdown().await.unwrap();
    let order = seen.lock().unwrap()["k"].clone();
    assert!(order.is_sorted(), "broken promise: {order:?}");
    assert_eq!(*attempts.lock().unwrap(), [1, 2, 3]);
    let mut dead = dead.lock().unwrap().clone();
    dead.sort();
    let dead: Vec<_> = dead
        .iter()
        .map(|(v, r, a)| (v.as_str(), r.as_str(), a.as_str()))
        .collect();
    assert_eq!(
        dead,
        [
            ("3", "panic", "3"),
            ("5", "fatal", "1"),
            ("9", "exhausted", "3"),
            ("not json", "undecodable", "1")
        ]
    );
}

/// Points 10 and 11: a topic refuses records ahead of its clock, and its retention deletes old
/// ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_has_the_time_of_its_writing_and_the_records_own_in_a_header() {
    const HOUR_MILLIS: i64 = 3_600_000;
    let broker = broker(&["tasks", "dead"]);
    let (begun, first) = (unix_millis(), SystemTime::now() - Duration::from_millis(1));
    let ahead = begun + 2 * HOUR_MILLIS;
    let old = begun - 8 * 24 * HOUR_MILLIS;
    let writer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap_servers())
        .create()
        .unwrap();
    for timestamp in [ahead, old] {
        let record = BaseRecord::<str, str>::to("tasks")
            .key("k")
            .payload("x")
            .timestamp(timestamp);
        writer.send(record).map_err(|(error, _)| error).unwrap();
    }
    writer.flush(PATIENCE).unwrap();
    let subscription = subscribe(&broker, "tasks")
        .dead_letter(DeadLetter::topic("dead"))
        .start(Raw, async |_: Task<bytes::Bytes>| {
            Err::<(), _>(TaskError::fatal("no"))
        })
        .await
        .unwrap();
    let dead = Arc::new(Mutex::new(Vec::new()));
    let noted = dead.clone();
    let dead_letters = subscribe(&broker, "dead")
        .start(Raw, move |task: Task<bytes::Bytes>| {
            let own = task
                .headers()
                .last_str("keylane-origin-timestamp")
                .map(str::to_owned);
            noted.lock().unwrap().push((task.timestamp(), own));
            async { Ok::<(), TaskError>(()) }
        })
        .await
        .unwrap();
    eventually("both dead letters are read", || {
        dead.lock().unwrap().len() == 2
    })
    .await;
    subscription.shutdown().await.unwrap();
    dead_letters.shutdown().await.unwrap();
    let dead = dead.lock().unwrap();
    for (written, _) in dead.iter() {
        assert!(
            written.is_some_and(|at| (first..=SystemTime::now()).contains(&at)),
            "{dead:?}"
        );
    }
    let own: Vec<_> = dead.iter().map(|(_, own)| own.clone()).collect();
    assert_eq!(own, [Some(ahead.to_string()), Some(old.to_string())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_after_a_round_has_the_headers_that_spring_reads() {
    let broker = broker(&["tasks", "tasks-retry", "dead"]);
    let producer = common::producer(broker.bootstrap_servers(), "tasks").await;
    producer
        .enqueue(NewTask::json(&1).unwrap().key("k"))
        .await
        .unwrap();
    let place = producer
        .enqueue(NewTask::json(&2).unwrap().key("k"))
        .await
        .unwrap();
    let quick = Backoff::fixed(Duration::from_millis(1));
    let retry = Retry::in_place(0).then_topic_named("tasks-retry");
    let subscription = subscribe(&broker, "tasks")
        .retry(retry.topic_rounds(1).topic_backoff(quick))
        .dead_letter(DeadLetter::topic("dead").headers([HeaderConvention::Spring]))
        .start(Json, async |task: Task<i32>| match task.payload() {
            2 => Err("no such vehicle".into()),
            _ => Ok(()),
        })
        .await
        .unwrap();
    let dead = Arc::new(Mutex::new(Vec::new()));
    let noted = dead.clone();
    let dead_letters = subscribe(&broker, "dead")
        .start(Raw, move |task: Task<bytes::Bytes>| {
            noted.lock().unwrap().push(task.headers().clone());
            async { Ok(()) }
        })
        .await
        .unwrap();
    eventually("the dead letter is read", || {
        dead.lock().unwrap().len() == 1
    })
    .await;
    subscription.shutdown().await.unwrap();
    dead_letters.shutdown().await.unwrap();
    let headers = &dead.lock().unwrap()[0];
    let spring = |name: &str| headers.last(&format!("kafka_dlt-{name}")).unwrap();
    assert_eq!(**spring("original-topic"), *b"tasks");
    assert_eq!(
        **spring("original-partition"),
        place.partition.to_be_bytes()
    );
    assert_eq!(**spring("original-offset"), 1_i64.to_be_bytes());
    let own = headers.last_str("keylane-origin-timestamp").unwrap();
    let millis: i64 = own.parse().unwrap();
    assert_eq!(**spring("original-timestamp"), millis.to_be_bytes());
    assert_eq!(**spring("exception-message"), *b"no such vehicle");
    assert_eq!(headers.last_str("keylane-error-class"), Some("&str"));
    assert_eq!(headers.last_str("keylane-retry-topic"), Some("tasks-retry"));
}

fn unix_millis() -> i64 {
    i64::try_from(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_millis(),
    )
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_through_the_topic_lets_the_key_go_on_and_comes_back() {
    let broker = broker(&["tasks", "tasks-retry"]);
    let tasks = (0..4)
        .map(|i: u32| NewTask::json(&i).unwrap().key("k"))
        .collect();
    enqueue(&broker, "tasks", tasks).await;
    let seen = Seen::default();
    let origins = Arc::new(Mutex::new(Vec::new()));
    let quick = Backoff::exponential(Duration::from_millis(300), Duration::from_millis(300));
    let subscription = {
        let (seen, origins) = (seen.clone(), origins.clone());
        subscribe(&broker, "tasks")
            .retry(Retry::none().then_topic().topic_backoff(quick))
            .start(Json, move |task: Task<u32>| {
                let (seen, origins) = (seen.clone(), origins.clone());
                async move {
                    if *task.payload() == 1 && task.attempt() < 3 {
                        return Err(TaskError::retryable("later"));
                    }
                    if *task.payload() == 1 {
                        origins.lock().unwrap().push((
                            task.origin(),
                            task.topic().to_owned(),
                            task.attempt(),
                        ));
                    }
                    note(&seen, &task);
                    Ok(Success::Done)
                }
            })
            .await
            .unwrap()
    };
    eventually("all are settled", || count(&seen) == 4).await;
    assert_eq!(subscription.state(), State::Running);
    subscription.shutdown().await.unwrap();
    assert_eq!(seen.lock().unwrap()["k"], [0, 2, 3, 1]);
    let origins = origins.lock().unwrap();
    let (origin, topic, attempt) = &origins[0];
    assert_eq!(
        (&*origin.topic, origin.offset, topic.as_str(), *attempt),
        ("tasks", 1, "tasks-retry", 3)
    );
}
