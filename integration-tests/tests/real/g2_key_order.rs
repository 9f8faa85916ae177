//! G2, key order: records of one (topic, partition, key) start in offset order and never overlap.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use keylane::{Backoff, Processor, Raw, Retry, Subscription, Task, TaskError};
use keylane_integration_tests::{
    journal::{Entry, Expect, Journal, Outcome, Report},
    kafka::{Kafka, Nodes},
    kafka_or_skip,
    load::{Load, numbered},
    member::{journaled, spread},
    protocol::Protocol,
    wait::{wait_for, wait_until},
};

const DEADLINE: Duration = Duration::from_secs(60);
const SESSION_MS: u32 = 10_000;

async fn topic(kafka: &Kafka, partitions: i32) -> String {
    let topic = kafka.unique("g2");
    kafka
        .create_topic(&topic, partitions, 1, &[])
        .await
        .unwrap();
    topic
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_keep_their_order_while_completions_come_out_of_order() {
    let kafka = kafka_or_skip!(Nodes::One);
    let topic = topic(kafka, 4).await;
    kafka
        .produce(&topic, numbered(0..4_000, 100))
        .await
        .unwrap();
    let journal = Journal::new();
    let member = Protocol::Cooperative
        .subscribe(kafka, &kafka.unique("group"), &topic, SESSION_MS)
        .concurrency(16)
        .start(
            Raw,
            journaled(&journal, "a", |task| async move {
                tokio::time::sleep(spread(&task, Duration::from_millis(5))).await;
                Ok(())
            }),
        )
        .await
        .unwrap();
    wait_until("all are processed", DEADLINE, || journal.done() == 4_000).await;
    member.shutdown().await.unwrap();
    journal
        .check(&kafka.produced(&topic).await.unwrap(), Expect::Drained)
        .assert_clean();

    // Otherwise the above would say nothing.
    let (most, out_of_order) = concurrency(&journal.entries());
    assert!(
        most > 4 && out_of_order > 0,
        "at most {most} at once, {out_of_order} out of order"
    );
    assert!(most <= 16, "{most} attempts in flight in one partition");
}

/// The most attempts in flight in one partition, and how often one ended after a record behind it
/// had.
fn concurrency(entries: &[Entry]) -> (usize, usize) {
    let mut running: HashMap<i32, usize> = HashMap::new();
    let mut ended: HashMap<i32, i64> = HashMap::new();
    let (mut most, mut out_of_order) = (0, 0);
    for entry in entries {
        match entry {
            Entry::Started(work) => {
                let running = running.entry(work.partition).or_default();
                *running += 1;
                most = most.max(*running);
            }
            Entry::Ended(work, ..) => {
                *running.entry(work.partition).or_default() -= 1;
                let furthest = ended.entry(work.partition).or_insert(-1);
                out_of_order += usize::from(*furthest > work.offset);
                *furthest = work.offset.max(*furthest);
            }
        }
    }
    (most, out_of_order)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_in_place_holds_its_lane_after_an_error_a_panic_and_a_time_out() {
    let kafka = kafka_or_skip!(Nodes::One);
    let topic = topic(kafka, 2).await;
    kafka.produce(&topic, numbered(0..1_000, 20)).await.unwrap();
    let journal = Journal::new();
    let member = Protocol::Cooperative
        .subscribe(kafka, &kafka.unique("group"), &topic, SESSION_MS)
        .concurrency(16)
        // Long: no other attempt may come near it.
        .attempt_timeout(Duration::from_secs(2))
        .retry(Retry::in_place(5).backoff(Backoff::fixed(Duration::from_millis(20))))
        .start(
            Raw,
            journaled(&journal, "a", |task| async move {
                match (task.offset() % 25, task.attempt()) {
                    (3, 1..=3) => return Err(TaskError::retryable("not yet")),
                    (7, 1) => panic!("at the first attempt"),
                    (11, 1) => std::future::pending().await,
                    (13, 1) => {
                        return Err(TaskError::retry_after("soon", Duration::from_millis(50)));
                    }
                    (17, 1) => {
                        tokio::task::yield_now().await;
                        panic!("later in the first attempt");
                    }
                    _ => tokio::time::sleep(spread(&task, Duration::from_millis(5))).await,
                }
                Ok(())
            }),
        )
        .await
        .unwrap();
    wait_until("all are processed", DEADLINE, || journal.done() == 1_000).await;
    member.shutdown().await.unwrap();
    let report = journal.check(&kafka.produced(&topic).await.unwrap(), Expect::Drained);
    report.assert_clean();
    // 7 failed attempts in each 25 offsets.
    assert_eq!(report.attempts, 1_000 + 7 * 1_000 / 25);
}

/// Fails the first attempt of every fifth record, so that at any moment some lanes wait for a
/// back-off.
fn unreliable(journal: &Journal, member: &str) -> impl Processor<Bytes> {
    journaled(journal, member, |task: Task<Bytes>| async move {
        tokio::time::sleep(spread(&task, Duration::from_millis(10))).await;
        if task.offset() % 5 == 0 && task.attempt() == 1 {
            return Err(TaskError::retryable("not yet"));
        }
        Ok(())
    })
}

async fn unreliable_member(
    protocol: Protocol,
    kafka: &Kafka,
    names: (&str, &str),
    journal: &Journal,
    member: &str,
) -> Subscription {
    protocol
        .subscribe(kafka, names.0, names.1, SESSION_MS)
        .concurrency(16)
        .retry(Retry::in_place(5).backoff(Backoff::fixed(Duration::from_millis(100))))
        .start(Raw, unreliable(journal, member))
        .await
        .unwrap()
}

async fn order_holds_across_hand_overs(protocol: Protocol) {
    let kafka = kafka_or_skip!(Nodes::One);
    let topic = topic(kafka, 4).await;
    let group = kafka.unique("group");
    let names = (group.as_str(), topic.as_str());
    let journal = Journal::new();
    let load = Load::start(kafka, &topic, 40, 0);
    let first = unreliable_member(protocol, kafka, names, &journal, "a").await;
    for round in 0..3 {
        let started = journal.entries().len();
        let name = format!("b{round}");
        let second = unreliable_member(protocol, kafka, names, &journal, &name).await;
        wait_until("both members work", DEADLINE, || {
            works(&journal, &name) && goes_on(&journal, "a", started)
        })
        .await;
        second.shutdown().await.unwrap();
    }
    load.stop().await;
    let produced = kafka.produced(&topic).await.unwrap();
    wait_until("all are processed", DEADLINE, || {
        journal.done() == produced.len()
    })
    .await;
    first.shutdown().await.unwrap();
    // A record that waits for its back-off is handed over unsettled: the next owner tries it again.
    // Hence `Crashes`, but nothing that was done may be done again.
    let report = Report::of(&journal.entries(), &produced, Expect::Crashes);
    report.assert_clean();
    assert_eq!(report.duplicates, []);
}

fn works(journal: &Journal, member: &str) -> bool {
    goes_on(journal, member, 0)
}

/// Whether the member has finished anything after the given line.
fn goes_on(journal: &Journal, member: &str, after: usize) -> bool {
    let entries = journal.entries();
    entries[after..]
        .iter()
        .any(|entry| matches!(entry, Entry::Ended(work, ..) if work.member == member))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_holds_across_hand_overs_with_retries_waiting_cooperative() {
    order_holds_across_hand_overs(Protocol::Cooperative).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_holds_across_hand_overs_with_retries_waiting_range() {
    order_holds_across_hand_overs(Protocol::Range).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_holds_across_hand_overs_with_retries_waiting_consumer() {
    order_holds_across_hand_overs(Protocol::Consumer).await;
}

/// One key, many records: nothing may run beside another, whatever the concurrency.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_runs_one_record_at_a_time_in_each_partition_and_null_keys_run_together() {
    let kafka = kafka_or_skip!(Nodes::One);
    let topic = topic(kafka, 1).await;
    kafka.produce(&topic, numbered(0..200, 1)).await.unwrap();
    let mut unkeyed = numbered(200..400, 1);
    for record in &mut unkeyed {
        record.key = None;
    }
    kafka.produce(&topic, unkeyed).await.unwrap();
    let journal = Journal::new();
    let (running, together) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let member = {
        let together = together.clone();
        Protocol::Cooperative
            .subscribe(kafka, &kafka.unique("group"), &topic, SESSION_MS)
            .concurrency(16)
            .start(
                Raw,
                journaled(&journal, "a", move |task| {
                    let (running, together) = (running.clone(), together.clone());
                    async move {
                        if task.key().is_none() {
                            together.fetch_max(
                                running.fetch_add(1, Ordering::SeqCst) + 1,
                                Ordering::SeqCst,
                            );
                        }
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        if task.key().is_none() {
                            running.fetch_sub(1, Ordering::SeqCst);
                        }
                        Ok(())
                    }
                }),
            )
            .await
            .unwrap()
    };
    wait_until("all are processed", DEADLINE, || journal.done() == 400).await;
    member.shutdown().await.unwrap();
    journal
        .check(&kafka.produced(&topic).await.unwrap(), Expect::Drained)
        .assert_clean();
    // One of the 16 belongs to the key while that has records.
    let together = together.load(Ordering::SeqCst);
    assert!(
        (8..=16).contains(&together),
        "{together} records without a key ran together"
    );
}

/// A restart with many records settled ahead of a stuck one: the keys go on where they were, in
/// order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_go_on_in_order_after_a_restart_with_records_settled_ahead() {
    let kafka = kafka_or_skip!(Nodes::One);
    let topic = topic(kafka, 2).await;
    let group = kafka.unique("group");
    kafka.produce(&topic, numbered(0..1_000, 50)).await.unwrap();
    let journal = Journal::new();
    let stuck: Arc<Mutex<bool>> = Arc::new(Mutex::new(true));
    let start = async |name: &str| {
        let stuck = stuck.clone();
        let processor = journaled(&journal, name, move |task: Task<Bytes>| {
            let stuck =
                *stuck.lock().unwrap() && task.key_str().is_some_and(|key| key.ends_with('7'));
            async move {
                if stuck {
                    std::future::pending::<()>().await;
                }
                Ok(())
            }
        });
        Protocol::Cooperative
            .subscribe(kafka, &group, &topic, SESSION_MS)
            .start(Raw, processor)
            .await
            .unwrap()
    };
    let first = start("a").await;
    // 5 of the 50 keys are stuck at their first record.
    wait_until("all others are processed", DEADLINE, || {
        journal.done() == 900
    })
    .await;
    first
        .shutdown_within(Duration::from_millis(100))
        .await
        .unwrap();
    *stuck.lock().unwrap() = false;
    kafka
        .produce(&topic, numbered(1_000..1_500, 50))
        .await
        .unwrap();
    let second = start("b").await;
    let produced = wait_for("the topic is read", DEADLINE, async || {
        kafka.produced(&topic).await.ok()
    })
    .await;
    wait_until("all are processed", DEADLINE, || journal.done() == 1_500).await;
    second.shutdown().await.unwrap();
    let report = journal.check(&produced, Expect::Crashes);
    report.assert_clean();
    assert_eq!(report.duplicates, []);
    // Only the five that were cut off were attempted twice.
    assert_eq!(report.attempts, 1_505);
    let cut_off = journal
        .entries()
        .iter()
        .filter(|e| matches!(e, Entry::Ended(_, _, Outcome::CutOff)))
        .count();
    assert_eq!(cut_off, 5);
}
