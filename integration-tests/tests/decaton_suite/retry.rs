//! The scenarios with a retry topic: every task is retried once, and nothing of it changes on the
//! way.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use keylane::config::{Backoff, LegacyTasks, Limits};
use keylane::error::DecodeError;
use keylane::record::Record;
use keylane::subscription::SubscriptionBuilder;
use keylane::{Decode, Raw, Retry, Task, TaskError};
use keylane_integration_tests::{
    for_protocols,
    gate::Gate,
    journal::{Entry, Outcome},
    kafka::{Extras, Kafka, NewRecord, Nodes},
    kafka_or_skip,
    protocol::Protocol,
    wait::{wait_for, wait_until},
};
use tokio::sync::Notify;

use crate::{
    some_work,
    suite::{DEADLINE, Order, Ran, Start, Suite, TASKS, run},
};

fn through_the_topic() -> Retry {
    Retry::none()
        .then_topic()
        .topic_backoff(Backoff::fixed(Duration::from_millis(20)))
}

fn retrying() -> Suite {
    Suite {
        retry: Some(through_the_topic()),
        order: Order::Left,
        ..Suite::default()
    }
}

/// The first attempt fails, the second does not.
fn result_of(attempt: u32) -> Result<(), TaskError> {
    if attempt == 1 {
        Err(TaskError::retryable("once"))
    } else {
        Ok(())
    }
}

/// Every task has failed once in its topic and succeeded once in the retry topic.
async fn assert_each_retried_once(kafka: &Kafka, ran: &Ran, tasks: usize) {
    assert_eq!(
        kafka.read_all(&ran.retry).await.unwrap().len(),
        tasks,
        "records in the retry topic"
    );
    let entries = ran.journal.entries();
    let ends = |wanted| {
        let ends = entries
            .iter()
            .filter(|entry| matches!(entry, Entry::Ended(_, _, outcome) if *outcome == wanted));
        ends.count()
    };
    let failed = ends(Outcome::Failed) + ends(Outcome::CutOff);
    assert_eq!(
        (failed, ends(Outcome::Done)),
        (tasks, tasks),
        "failures and successes"
    );
}

async fn once_through_the_topic(protocol: Protocol) {
    let kafka = kafka_or_skip!(Nodes::Three, Extras::patient());
    let suite = Suite {
        protocol,
        ..retrying()
    };
    let ran = run(kafka, suite.clone(), async |start: Start| {
        start
            .raw(|task| async move { result_of(task.attempt()) })
            .await
    })
    .await;
    assert_each_retried_once(kafka, &ran, suite.tasks).await;
}

for_protocols! { once_through_the_topic:
    every_task_goes_through_the_retry_topic_once_cooperative: Cooperative,
    every_task_goes_through_the_retry_topic_once_consumer: Consumer,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_task_goes_through_the_retry_topic_once_by_spawned_tasks() {
    let kafka = kafka_or_skip!(Nodes::Three, Extras::patient());
    let ran = run(kafka, retrying(), async |start: Start| {
        start
            .raw(|task| async move {
                let work = async move {
                    tokio::time::sleep(some_work(&task)).await;
                    result_of(task.attempt())
                };
                tokio::spawn(work).await.unwrap()
            })
            .await
    })
    .await;
    assert_each_retried_once(kafka, &ran, retrying().tasks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_task_that_times_out_goes_through_the_retry_topic() {
    let kafka = kafka_or_skip!(Nodes::Three, Extras::patient());
    let settings = |builder: SubscriptionBuilder| {
        builder
            .concurrency(16)
            .attempt_timeout(Duration::from_millis(100))
    };
    let suite = Suite {
        tasks: 100,
        settings,
        ..retrying()
    };
    let ran = run(kafka, suite, async |start: Start| {
        start
            .raw(|task| async move {
                if task.attempt() == 1 {
                    std::future::pending::<()>().await;
                }
                Ok(())
            })
            .await
    })
    .await;
    assert_each_retried_once(kafka, &ran, 100).await;
}

/// An hour before now.
fn an_hour_ago() -> Option<i64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from((now - Duration::from_secs(3_600)).as_millis()).ok()
}

/// The records are older than the retry topic's retention (Decaton's #101). A retry that kept their
/// time would be deleted before it is read: members hold few records in memory, and are held up
/// until retention has been at work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_of_old_records_outlive_the_retention_of_the_retry_topic() {
    const RETENTION: &[(&str, &str)] = &[("retention.ms", "600000")];
    let kafka = kafka_or_skip!(Nodes::Three, Extras::patient());
    let suite = Suite {
        tasks: 2_000,
        record: |number| NewRecord {
            timestamp_millis: an_hour_ago(),
            ..NewRecord::keyed(format!("key-{}", number % 100), number.to_string())
        },
        retry_topic: RETENTION,
        settings: |builder| {
            builder
                .concurrency(16)
                .limits(Limits::default().pause_at_records(20).resume_at_records(10))
        },
        ..retrying()
    };
    let (gate, failed) = (Gate::closed(), Arc::new(AtomicUsize::new(0)));
    let begun = Notify::new();
    let retention_has_run = async {
        // The run may have to wait for others.
        begun.notified().await;
        wait_until("retries are written", DEADLINE, || {
            failed.load(Ordering::SeqCst) >= 500
        })
        .await;
        // One record of that age on each broker, several times.
        let canary = kafka.unique("canary");
        kafka.create_topic(&canary, 9, 3, RETENTION).await.unwrap();
        let record = |partition| NewRecord {
            partition: Some(partition),
            timestamp_millis: an_hour_ago(),
            ..NewRecord::keyed("k", "v")
        };
        kafka
            .produce(&canary, (0..9).map(record).collect())
            .await
            .unwrap();
        wait_for(
            "retention has taken what is that old",
            DEADLINE,
            async || kafka.read_all(&canary).await.ok().filter(Vec::is_empty),
        )
        .await;
        gate.open();
    };
    let slow = async |start: Start| {
        begun.notify_one();
        let (gate, failed) = (gate.clone(), failed.clone());
        start
            .raw(move |task| {
                let (gate, failed) = (gate.clone(), failed.clone());
                async move {
                    if task.attempt() == 1 {
                        failed.fetch_add(1, Ordering::SeqCst);
                    } else {
                        gate.passed().await;
                    }
                    result_of(task.attempt())
                }
            })
            .await
    };
    let (ran, ()) = tokio::join!(run(kafka, suite, slow), retention_has_run);
    assert_each_retried_once(kafka, &ran, 2_000).await;
}

/// Values lie in the topic with their bits turned over.
struct TurnedOver;

impl Decode<usize> for TurnedOver {
    fn decode(&self, record: &Record) -> Result<usize, DecodeError> {
        let turned: Vec<u8> = record
            .value()
            .unwrap_or_default()
            .iter()
            .map(|byte| !byte)
            .collect();
        String::from_utf8(turned)
            .map_err(DecodeError::new)?
            .parse()
            .map_err(DecodeError::new)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decoder_that_transforms_the_value_sees_the_same_bytes_again() {
    let kafka = kafka_or_skip!(Nodes::Three, Extras::patient());
    let record = |number: usize| {
        let turned: Vec<u8> = number.to_string().bytes().map(|byte| !byte).collect();
        NewRecord::keyed(format!("key-{}", number % 100), turned)
    };
    let ran = run(
        kafka,
        Suite {
            record,
            ..retrying()
        },
        async |start: Start| {
            let builder = start.builder.clone();
            let processor = move |task: Task<usize>| {
                let running = start.begins(&task, task.payload().to_string());
                let result = result_of(task.attempt());
                running.finished(if result.is_ok() {
                    Outcome::Done
                } else {
                    Outcome::Failed
                });
                async move { result }
            };
            builder.start(TurnedOver, processor).await.unwrap()
        },
    )
    .await;
    assert_each_retried_once(kafka, &ran, *TASKS).await;
}

/// Text, no text at all, eight bytes of a number, nothing, none.
fn odd_key(number: usize) -> Option<Vec<u8>> {
    match number % 5 {
        0 => Some(format!("key-{}", number % 100).into_bytes()),
        1 => Some(vec![0xff, 0x00, 0xc3, (number % 100) as u8]),
        2 => Some(((number % 100) as i64 - 50).to_be_bytes().to_vec()),
        3 => Some(Vec::new()),
        _ => None,
    }
}

fn odd_value(number: usize) -> Option<Vec<u8>> {
    match number % 7 {
        0 => None,
        1 => Some(Vec::new()),
        2 => Some(vec![0x00, 0xff, 0xfe, 0x80]),
        _ => Some(number.to_be_bytes().to_vec()),
    }
}

/// The number is in a header, since keys and values are anything. Text in the key of a null value
/// is no evidence.
const NUMBER: &str = "number";

fn number_of<T>(task: &Task<T>) -> String {
    task.headers().last_str(NUMBER).unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_and_values_of_any_bytes_go_through_the_retry_topic_unchanged() {
    let kafka = kafka_or_skip!(Nodes::Three, Extras::patient());
    let record = |number: usize| NewRecord {
        key: odd_key(number),
        value: odd_value(number),
        headers: vec![(NUMBER.to_owned(), Some(number.to_string().into_bytes()))],
        ..NewRecord::default()
    };
    let suite = Suite {
        tasks: 5_000,
        record,
        ..retrying()
    };
    let ran = run(kafka, suite, async |start: Start| {
        let builder = start.builder.clone();
        let processor = move |task: Task<Option<Bytes>>| {
            let number = number_of(&task);
            let running = start.begins(&task, number.clone());
            let expected: usize = number.parse().unwrap();
            let same = task.key() == odd_key(expected).as_deref()
                && task.payload().as_deref() == odd_value(expected).as_deref();
            let result = if same {
                result_of(task.attempt())
            } else {
                Err(TaskError::retryable("changed"))
            };
            running.finished(if result.is_ok() {
                Outcome::Done
            } else {
                Outcome::Failed
            });
            async move { result }
        };
        builder.start(Raw, processor).await.unwrap()
    })
    .await;
    assert_each_retried_once(kafka, &ran, 5_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_headers_of_a_trace_go_through_the_retry_topic() {
    let kafka = kafka_or_skip!(Nodes::Three, Extras::patient());
    let record = |number: usize| NewRecord {
        headers: vec![
            (
                "traceparent".to_owned(),
                Some(format!("00-{number:032x}-{number:016x}-01").into_bytes()),
            ),
            ("tracestate".to_owned(), None),
        ],
        ..NewRecord::keyed(format!("key-{}", number % 100), number.to_string())
    };
    let suite = Suite {
        tasks: 2_000,
        record,
        ..retrying()
    };
    let seen: Arc<Mutex<BTreeMap<usize, u32>>> = Arc::default();
    run(kafka, suite, async |start: Start| {
        let seen = seen.clone();
        start
            .raw(move |task| {
                let number: usize = std::str::from_utf8(task.payload())
                    .unwrap()
                    .parse()
                    .unwrap();
                let parent = task.headers().last_str("traceparent");
                let states = task
                    .headers()
                    .iter()
                    .filter(|(name, value)| *name == "tracestate" && value.is_none());
                if parent == Some(&*format!("00-{number:032x}-{number:016x}-01"))
                    && states.count() == 1
                {
                    *seen.lock().unwrap().entry(number).or_default() += 1;
                }
                // Half of them are retried.
                let result = if number.is_multiple_of(2) {
                    result_of(task.attempt())
                } else {
                    Ok(())
                };
                async move { result }
            })
            .await
    })
    .await;
    let seen = seen.lock().unwrap();
    let wrong: Vec<usize> = (0..2_000)
        .filter(|number| seen.get(number) != Some(&(2 - *number as u32 % 2)))
        .collect();
    assert!(
        wrong.is_empty(),
        "tasks whose trace was not seen at every attempt: {wrong:?}"
    );
}

/// `TaskMetadataProto` of a task that `app` on `host` has made.
fn metadata() -> Vec<u8> {
    b"\x08\x01\x12\x03app\x1a\x04host".to_vec()
}

/// In turns: a plain record, one with Decaton's header, and one in the format of Decaton's clients
/// before 9.
fn mixed(number: usize) -> NewRecord {
    let (key, value) = (format!("key-{}", number % 100), number.to_string());
    match number % 3 {
        0 => NewRecord::keyed(key, value),
        1 => NewRecord {
            headers: vec![("dt_meta".to_owned(), Some(metadata()))],
            ..NewRecord::keyed(key, value)
        },
        _ => {
            let mut request = vec![0x0a, u8::try_from(metadata().len()).unwrap()];
            request.extend(metadata());
            request.extend([0x12, u8::try_from(value.len()).unwrap()]);
            request.extend(value.bytes());
            NewRecord::keyed(key, request)
        }
    }
}

/// The number that is the task.
struct Number;

impl Decode<usize> for Number {
    fn decode(&self, record: &Record) -> Result<usize, DecodeError> {
        let text = String::from_utf8_lossy(record.value().unwrap_or_default());
        text.parse().map_err(DecodeError::new)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn formats_of_decaton_are_mixed() {
    let kafka = kafka_or_skip!(Nodes::Three, Extras::patient());
    let ran = run(
        kafka,
        Suite {
            record: mixed,
            ..retrying()
        },
        async |start: Start| {
            let builder = start.builder.clone().legacy_tasks(LegacyTasks::Read);
            let processor = move |task: Task<usize>| {
                let number = *task.payload();
                let running = start.begins(&task, number.to_string());
                let source = task.metadata().map(|it| &*it.source_application_id);
                let right = match number % 3 {
                    // A retry adds metadata to what had none.
                    0 => source.is_none() || (source == Some("") && task.attempt() > 1),
                    _ => source == Some("app"),
                };
                let result = if right {
                    result_of(task.attempt())
                } else {
                    Err(TaskError::retryable("misread"))
                };
                running.finished(if result.is_ok() {
                    Outcome::Done
                } else {
                    Outcome::Failed
                });
                async move { result }
            };
            builder.start(Number, processor).await.unwrap()
        },
    )
    .await;
    assert_each_retried_once(kafka, &ran, *TASKS).await;
}
