//! G6, bounds: what is delivered and unsettled stays within the limits, and reading goes on when
//! there is room again.

use bytes::Bytes;
use keylane::{Limits, PartitionStatus, Position, State, Subscription, Task};
use keylane_integration_tests::{
    for_protocols,
    gate::Gate,
    journal::duplicates,
    kafka::{NewRecord, Nodes},
    kafka_or_skip,
    load::numbered,
    protocol::Protocol,
    scene::{DEADLINE, Scene},
    wait::wait_until,
};

/// A mark can be exceeded by what one read brings.
const READ_BATCH: u64 = 1_000;

/// A member whose attempts wait at the gate where `waits` says so.
async fn start(
    scene: &Scene<'_>,
    limits: Limits,
    gate: &Gate,
    waits: impl Fn(&Task<Bytes>) -> bool + Send + Sync + 'static,
) -> Subscription {
    scene
        .gated(scene.subscribe().limits(limits), "a", gate, waits)
        .await
}

/// Waits until `condition` holds of the status, and checks `bound` in every look until then.
async fn watch(
    what: &str,
    member: &Subscription,
    bound: impl Fn(&[PartitionStatus]) -> bool,
    condition: impl Fn(&[PartitionStatus]) -> bool,
) {
    wait_until(what, DEADLINE, || {
        let status = member.status().partitions;
        assert!(bound(&status), "over the limit: {status:?}");
        condition(&status)
    })
    .await;
}

async fn finish(scene: &Scene<'_>, member: Subscription, count: usize) {
    scene.done(count).await;
    member.shutdown().await.unwrap();
    assert_eq!(duplicates(&scene.journal.entries()), []);
}

async fn a_stuck_consumer_is_bounded(protocol: Protocol) {
    let scene = Scene::new(kafka_or_skip!(Nodes::One), 1).await.by(protocol);
    scene.write(numbered(0..20_000, 20_000)).await;
    let limits = Limits::default()
        .pause_at_records(600)
        .resume_at_records(300);
    let gate = Gate::closed();
    let member = start(&scene, limits, &gate, |_| true).await;
    let bound = |status: &[PartitionStatus]| {
        status
            .iter()
            .all(|partition| partition.snapshot.pending <= 600 + READ_BATCH)
    };
    let held = |status: &[PartitionStatus]| {
        status.iter().any(|partition| {
            partition.paused
                && partition.snapshot.pending >= 600
                && partition.lag_records == Some(20_000)
        })
    };
    watch("it is paused with the lag known", &member, bound, held).await;
    assert_eq!(member.state(), State::Running);
    gate.open();
    watch("it has caught up", &member, bound, |status| {
        status[0].lag_records == Some(0)
    })
    .await;
    finish(&scene, member, 20_000).await;
}

for_protocols! { a_stuck_consumer_is_bounded:
    a_stuck_consumer_holds_no_more_than_its_limit_and_one_read_and_goes_on_afterwards: Cooperative,
    the_same_holds_with_the_consumer_protocol: Consumer,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_byte_budget_counts_over_all_partitions() {
    const SIZE: usize = 10_000;
    const BUDGET: usize = 2_000_000;
    let scene = Scene::new(kafka_or_skip!(Nodes::One), 4).await;
    let large = |number: usize| NewRecord {
        partition: Some(i32::try_from(number % 4).unwrap()),
        ..NewRecord::keyed(format!("k{number}"), format!("{number:>SIZE$}"))
    };
    scene.write((0..2_000).map(large).collect()).await;
    // Larger than the budget by itself: it must get through all the same.
    let huge = NewRecord {
        partition: Some(0),
        ..NewRecord::keyed("huge", vec![b' '; 900_000])
    };
    scene.write(vec![huge]).await;
    let limits = Limits::default().pending_bytes(BUDGET);
    let gate = Gate::closed();
    let member = start(&scene, limits, &gate, |_| true).await;
    let pending = |status: &[PartitionStatus]| {
        status
            .iter()
            .map(|partition| partition.snapshot.pending)
            .sum::<u64>()
    };
    let most = u64::try_from(BUDGET / SIZE).unwrap() + READ_BATCH;
    let bound = |status: &[PartitionStatus]| pending(status) <= most;
    let held = |status: &[PartitionStatus]| {
        status.len() == 4
            && status.iter().all(|partition| partition.paused)
            && pending(status) * 10_000 >= 2_000_000
    };
    watch("all partitions are paused", &member, bound, held).await;
    gate.open();
    watch("it has caught up", &member, bound, |status| {
        status.iter().all(|p| p.lag_records == Some(0))
    })
    .await;
    finish(&scene, member, 2_001).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_settled_ahead_of_a_stuck_record_is_limited_and_reading_goes_on_when_it_is_done() {
    let scene = Scene::new(kafka_or_skip!(Nodes::One), 1).await;
    scene.write(numbered(0..20_000, 20_000)).await;
    let limits = Limits::default()
        .settled_ahead(2_000)
        .pause_at_records(500)
        .resume_at_records(300);
    let gate = Gate::closed();
    let stuck = |task: &Task<Bytes>| task.offset() == 0;
    let member = start(&scene, limits, &gate, stuck).await;
    let bound = |status: &[PartitionStatus]| {
        status.iter().all(|partition| {
            partition.snapshot.settled_ahead <= 2_000 + 500 + READ_BATCH || gate.is_open()
        })
    };
    watch("it is paused", &member, bound, |status| {
        // The oldest figure is that of the pause.
        let is_full = |p: &PartitionStatus| {
            p.paused
                && p.snapshot.settled_ahead >= 2_000
                && p.snapshot.pending == 1
                && p.snapshot.watermark == Some(Position::new(0))
        };
        status.iter().any(is_full)
    })
    .await;
    assert!(
        (2_000..20_000 - 1).contains(&scene.journal.done()),
        "{} done",
        scene.journal.done()
    );
    gate.open();
    finish(&scene, member, 20_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_is_paused_by_its_limit_stops_no_other() {
    let scene = Scene::new(kafka_or_skip!(Nodes::One), 4).await;
    let spread = |number: usize| NewRecord {
        partition: Some(i32::try_from(number % 4).unwrap()),
        ..NewRecord::keyed(format!("k{number}"), number.to_string())
    };
    scene.write((0..12_000).map(spread).collect()).await;
    let limits = Limits::default()
        .pause_at_records(200)
        .resume_at_records(100);
    let gate = Gate::closed();
    let stuck = |task: &Task<Bytes>| task.partition() == 0;
    let member = start(&scene, limits, &gate, stuck).await;
    scene.done(9_000).await;
    watch(
        "the stuck one is paused",
        &member,
        |_| true,
        |status| {
            status
                .iter()
                .any(|partition| partition.partition == 0 && partition.paused)
        },
    )
    .await;
    gate.open();
    finish(&scene, member, 12_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_by_the_user_starts_nothing_and_a_resume_goes_on_where_it_was() {
    let scene = Scene::new(kafka_or_skip!(Nodes::One), 2).await;
    scene.write(numbered(0..5_000, 500)).await;
    let gate = Gate::closed();
    let waits = |task: &Task<Bytes>| task.offset() == 100;
    let member = start(&scene, Limits::default(), &gate, waits).await;
    scene.done(100).await;
    member.handle().pause();
    // What runs may finish.
    gate.open();
    wait_until("it is paused and nothing runs", DEADLINE, || {
        let status = member.status();
        status.state == State::Paused
            && status.partitions.len() == 2
            && status
                .partitions
                .iter()
                .all(|partition| partition.paused_by_user && partition.snapshot.running == 0)
    })
    .await;
    let started = || scene.started(|_| true).len();
    let before = started();
    scene.write(numbered(5_000..7_000, 500)).await;
    wait_until("the lag of the new records is seen", DEADLINE, || {
        member
            .status()
            .partitions
            .iter()
            .filter_map(|partition| partition.lag_records)
            .sum::<u64>()
            >= 2_000
    })
    .await;
    assert_eq!((started(), member.state()), (before, State::Paused));
    member.handle().resume();
    finish(&scene, member, 7_000).await;
}
