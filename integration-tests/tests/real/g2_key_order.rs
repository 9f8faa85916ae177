//! G2, key order: records of one (topic, partition, key) start in offset order and never overlap.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use keylane::config::Backoff;
use keylane::{Retry, Subscription, Task, TaskError};
use keylane_integration_tests::{
    for_protocols,
    gate::Gate,
    journal::{Entry, Expect, Journal, Outcome},
    kafka::Nodes,
    kafka_or_skip,
    load::{Load, numbered},
    member::spread,
    protocol::Protocol,
    scene::{DEADLINE, Scene},
    wait::wait_until,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_keep_their_order_while_completions_come_out_of_order() {
    let scene = Scene::new(kafka_or_skip!(Nodes::One), 4).await;
    scene.write(numbered(0..4_000, 100)).await;
    let builder = scene.subscribe().concurrency(16);
    let member = scene.worker(builder, "a", Duration::from_millis(5)).await;
    let produced = scene.all_done().await;
    member.shutdown().await.unwrap();
    let journal = &scene.journal;
    journal.check(&produced, Expect::Drained).assert_clean();

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
    let scene = Scene::new(kafka_or_skip!(Nodes::One), 2).await;
    scene.write(numbered(0..1_000, 20)).await;
    let builder = scene
        .subscribe()
        .concurrency(16)
        // Long: no other attempt may come near it.
        .attempt_timeout(Duration::from_secs(2))
        .retry(Retry::in_place(5).backoff(Backoff::fixed(Duration::from_millis(20))));
    let process = |task: Task<Bytes>| async move {
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
    };
    let member = scene.start(builder, "a", process).await;
    let produced = scene.all_done().await;
    member.shutdown().await.unwrap();
    let report = scene.journal.check(&produced, Expect::Drained);
    report.assert_clean();
    // 7 failed attempts in each 25 offsets.
    assert_eq!(report.attempts, 1_000 + 7 * 1_000 / 25);
}

/// Fails the first attempt of every fifth record, so that at any moment some lanes wait for a
/// back-off.
async fn unreliable(scene: &Scene<'_>, name: &str) -> Subscription {
    let builder = scene
        .subscribe()
        .concurrency(16)
        .retry(Retry::in_place(5).backoff(Backoff::fixed(Duration::from_millis(100))));
    let process = |task: Task<Bytes>| async move {
        tokio::time::sleep(spread(&task, Duration::from_millis(10))).await;
        if task.offset() % 5 == 0 && task.attempt() == 1 {
            return Err(TaskError::retryable("not yet"));
        }
        Ok(())
    };
    scene.start(builder, name, process).await
}

async fn order_holds_across_hand_overs(protocol: Protocol) {
    let kafka = kafka_or_skip!(Nodes::One);
    let scene = Scene::new(kafka, 4).await.by(protocol);
    let journal = &scene.journal;
    let load = Load::start(kafka, &scene.topic, 40, 0);
    let first = unreliable(&scene, "a").await;
    for round in 0..3 {
        let started = journal.entries().len();
        let name = format!("b{round}");
        let second = unreliable(&scene, &name).await;
        wait_until("both members work", DEADLINE, || {
            goes_on(journal, &name, 0) && goes_on(journal, "a", started)
        })
        .await;
        second.shutdown().await.unwrap();
    }
    load.stop().await;
    let produced = scene.all_done().await;
    first.shutdown().await.unwrap();
    // A record that waits for its back-off is handed over unsettled: the next owner tries it again.
    // Hence `Crashes`, but nothing that was done may be done again.
    let report = journal.check(&produced, Expect::Crashes);
    report.assert_clean();
    assert_eq!(report.duplicates, []);
}

/// Whether the member has finished anything after the given line.
fn goes_on(journal: &Journal, member: &str, after: usize) -> bool {
    let entries = journal.entries();
    entries[after..]
        .iter()
        .any(|entry| matches!(entry, Entry::Ended(work, ..) if work.member == member))
}

for_protocols! { order_holds_across_hand_overs:
    order_holds_across_hand_overs_with_retries_waiting_cooperative: Cooperative,
    order_holds_across_hand_overs_with_retries_waiting_range: Range,
    order_holds_across_hand_overs_with_retries_waiting_consumer: Consumer,
}

/// One key, many records: nothing may run beside another, whatever the concurrency.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_runs_one_record_at_a_time_in_each_partition_and_null_keys_run_together() {
    let kafka = kafka_or_skip!(Nodes::One);
    let scene = Scene::new(kafka, 1).await;
    scene.write(numbered(0..200, 1)).await;
    let mut unkeyed = numbered(200..400, 1);
    for record in &mut unkeyed {
        record.key = None;
    }
    scene.write(unkeyed).await;
    let (running, together) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let most = together.clone();
    let process = move |task: Task<Bytes>| {
        let (running, most) = (running.clone(), most.clone());
        async move {
            if task.key().is_none() {
                let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now, Ordering::SeqCst);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            if task.key().is_none() {
                running.fetch_sub(1, Ordering::SeqCst);
            }
            Ok(())
        }
    };
    let builder = scene.subscribe().concurrency(16);
    let member = scene.start(builder, "a", process).await;
    let produced = scene.all_done().await;
    member.shutdown().await.unwrap();
    scene.assert_drained(&produced);
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
    let scene = Scene::new(kafka, 2).await;
    scene.write(numbered(0..1_000, 50)).await;
    let gate = Gate::closed();
    let is_stuck = |task: &Task<Bytes>| task.key_str().is_some_and(|key| key.ends_with('7'));
    let first = scene.gated(scene.subscribe(), "a", &gate, is_stuck).await;
    // 5 of the 50 keys are stuck at their first record.
    scene.done(900).await;
    first
        .shutdown_within(Duration::from_millis(100))
        .await
        .unwrap();
    gate.open();
    scene.write(numbered(1_000..1_500, 50)).await;
    let second = scene.gated(scene.subscribe(), "b", &gate, is_stuck).await;
    let produced = scene.all_done().await;
    second.shutdown().await.unwrap();
    let journal = &scene.journal;
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
