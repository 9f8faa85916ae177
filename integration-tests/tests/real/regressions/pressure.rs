//! What more work than can be done did to others.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use keylane::config::{Backoff, Limits, Reading};
use keylane::{Retry, Subscription, Task, TaskError};
use keylane_integration_tests::{
    claims::{assert_honest, claims},
    gate::Gate,
    kafka::Nodes,
    kafka_or_skip,
    load::numbered,
    member::number,
    scene::{DEADLINE, Scene},
    wait::{wait_for, wait_until},
};

use super::on_a_thread;

const HOUR: Duration = Duration::from_secs(3_600);
/// A mark can be exceeded by what one read brings.
const ONE_READ: u64 = 1_000;

/// Waits, and checks in every look that no partition holds more than it may.
async fn bounded(
    what: &str,
    member: &Subscription,
    most: u64,
    mut condition: impl FnMut(&Subscription) -> bool,
) {
    wait_until(what, DEADLINE, || {
        let partitions = member.status().partitions;
        let over = partitions
            .iter()
            .find(|partition| partition.snapshot.pending > most);
        assert!(over.is_none(), "holds more than {most}: {over:?}");
        condition(member)
    })
    .await;
}

fn waiting(member: &Subscription, topic: &str) -> u64 {
    let partitions = member.status().partitions;
    partitions
        .iter()
        .filter(|partition| &*partition.topic == topic)
        .map(|partition| partition.snapshot.waiting)
        .sum()
}

/// #817, #832: records that wait for a retry were in no budget, and filled the memory. #857: they were in the budget of the
/// intake, and nothing else got in. Here they are in the budget while they wait in place; what can
/// afford to wait outside goes to the retry topic, which has a budget of its own and leaves the
/// origin topic's alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_that_pile_up_in_place_are_bounded_and_succeed_in_the_end() {
    let scene = Scene::new(kafka_or_skip!(Nodes::One), 2).await;
    scene.write(numbered(0..10_000, 10_000)).await;
    let gate = Gate::closed();
    let is_up = gate.clone();
    let process = move |_| {
        let result = match is_up.is_open() {
            true => Ok(()),
            false => Err(TaskError::retryable("down")),
        };
        async move { result }
    };
    let limits = Limits::default()
        .pause_at_records(500)
        .resume_at_records(200);
    let retry = Retry::forever().backoff(Backoff::fixed(Duration::from_millis(500)));
    let builder = scene.subscribe().limits(limits).retry(retry);
    let member = scene.start(builder, "a", process).await;
    let most = 500 + ONE_READ;
    bounded(
        "every record in memory was retried several times",
        &member,
        most,
        |_| scene.journal.entries().len() > 20_000,
    )
    .await;
    gate.open();
    bounded("all are processed", &member, most, |_| {
        scene.journal.done() == 10_000
    })
    .await;
    scene.all_committed().await;
    member.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_that_pile_up_in_the_retry_topic_are_bounded_and_hold_up_nobody() {
    let scene = Scene::new(kafka_or_skip!(Nodes::One), 1).await;
    let retry_topic = scene.another("retry", 1).await;
    scene.write(numbered(0..10_000, 10_000)).await;
    let process = |task: Task<Bytes>| {
        let result = match number(&task) {
            0..10_000 => Err(TaskError::retry_after("in an hour", HOUR)),
            _ => Ok(()),
        };
        async move { result }
    };
    let limits = Limits::default()
        .pause_at_records(500)
        .resume_at_records(200);
    let builder = scene
        .subscribe()
        .limits(limits)
        .retry(Retry::none().then_topic());
    let member = scene.start(builder, "a", process).await;
    let most = 500 + ONE_READ;
    bounded("the retry topic is at its limit", &member, most, |member| {
        waiting(member, &retry_topic) >= 500
    })
    .await;
    // All of the origin topic is behind us all the same, and what comes now is done at once.
    scene.write(numbered(10_000..10_100, 100)).await;
    bounded("what does not fail is processed", &member, most, |_| {
        scene.journal.done() == 100
    })
    .await;
    scene.all_committed().await;
    let retried = scene.kafka.end_offsets(&retry_topic).await;
    assert_eq!(retried.unwrap(), [10_000]);
    member.shutdown().await.unwrap();
}

/// #647: with one long gap and 500 events a second the map grew beyond what a commit can carry, and consumption stopped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumption_goes_on_where_the_map_of_what_is_settled_ahead_is_too_large() {
    let kafka = kafka_or_skip!(Nodes::One);
    let scene = Scene::new(kafka, 1).await;
    let gate = Gate::closed();
    let is_over = gate.clone();
    let process = move |task: Task<Bytes>| {
        // A gap at every ninth record: the worst there is for the map's code.
        let waits = task.offset() < 36_000 && task.offset() % 9 == 0 && !is_over.is_open();
        let result = match waits {
            true => Err(TaskError::retryable("not yet")),
            false => Ok(()),
        };
        async move { result }
    };
    let retry = Retry::forever().backoff(Backoff::fixed(Duration::from_secs(3)));
    let builder = scene
        .subscribe()
        .commit_interval(Duration::from_millis(100))
        .retry(retry);
    let member = scene.start(builder, "a", process).await;
    scene.write(numbered(0..36_000, 36_000)).await;
    scene.done(32_000).await;
    let cut = wait_for(
        "a map is committed that does not hold them all",
        DEADLINE,
        async || {
            let claim = claims(kafka, &scene.group, &scene.topic)
                .await
                .ok()?
                .pop()?;
            (claim.ahead.ranges().count() > 1_000).then_some(claim)
        },
    )
    .await;
    let settled = scene.journal.settled();
    assert!(cut.ahead.ranges().count() < 3_900, "all of it fits");
    assert_honest(&[cut], &scene.produced().await, &settled, &scene.group);

    // Others go on, for as long as it takes.
    for round in 0..5 {
        let first = 36_000 + 1_000 * round;
        scene.write(numbered(first..first + 1_000, 50_000)).await;
        scene.done(32_000 + 1_000 * (round + 1)).await;
    }
    assert_eq!(member.status().trouble, None);
    gate.open();
    scene.done(41_000).await;
    scene.all_committed().await;
    member.shutdown().await.unwrap();
    scene.assert_drained(&scene.produced().await);
}

/// arroyo: the message that the strategy refused was dropped when a pause, a rebalance or a
/// shutdown came before it was offered again. Here the limits, the user and a rebalance pause and
/// resume all the time.
async fn back_pressure(reading: Reading) {
    let scene = Scene::new(kafka_or_skip!(Nodes::One), 4).await;
    scene.write(numbered(0..12_000, 60)).await;
    let limits = Limits::default().pause_at_records(20).resume_at_records(10);
    let builder = scene.subscribe();
    let builder = builder.limits(limits).reading(reading).concurrency(8);
    let start = async |name: &str| {
        let most = Duration::from_millis(3);
        scene.worker(builder.clone(), name, most).await
    };
    let first = start("a").await;
    let stop = Arc::new(AtomicBool::new(false));
    let pausing = on_a_thread({
        let (handle, journal, stop) = (first.handle(), scene.journal.clone(), stop.clone());
        async move || {
            while !stop.load(Ordering::Relaxed) {
                handle.pause();
                let nothing_runs = || {
                    handle
                        .status()
                        .partitions
                        .iter()
                        .all(|partition| partition.snapshot.running == 0)
                };
                wait_until("nothing runs", DEADLINE, nothing_runs).await;
                handle.resume();
                let line = journal.entries().len();
                wait_until("work goes on", DEADLINE, || {
                    journal.entries().len() > line + 100 || stop.load(Ordering::Relaxed)
                })
                .await;
            }
        }
    });
    scene.done(2_000).await;
    let second = start("b").await;
    wait_until("it has its share", DEADLINE, || {
        second.status().partitions.len() == 2
    })
    .await;
    scene.done(4_000).await;
    second.shutdown().await.unwrap();
    scene.done(6_000).await;
    stop.store(true, Ordering::Relaxed);
    pausing.await.unwrap();
    scene.done(12_000).await;
    scene.all_committed().await;
    first.shutdown().await.unwrap();
    scene.assert_drained(&scene.produced().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn back_pressure_drops_nothing_and_repeats_nothing_batched() {
    back_pressure(Reading::Batched).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn back_pressure_drops_nothing_and_repeats_nothing_polled() {
    back_pressure(Reading::Polled).await;
}
