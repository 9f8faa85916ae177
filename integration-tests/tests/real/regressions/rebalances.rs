//! What rebalances did to others.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use keylane::config::Limits;
use keylane::subscription::SubscriptionBuilder;
use keylane::{Raw, Subscription, Task};
use keylane_integration_tests::{
    commit_watch::CommitWatch,
    for_protocols,
    gate::Gate,
    journal::{Entry, Expect, Journal, Outcome},
    kafka::Nodes,
    kafka_or_skip,
    load::{Load, numbered},
    member::{journaled, spread},
    protocol::Protocol,
    scene::{DEADLINE, Scene, partitions},
    wait::wait_until,
};
use tokio::task::JoinHandle;

use super::on_a_thread;

fn subscribe(scene: &Scene<'_>) -> SubscriptionBuilder {
    scene.subscribe().concurrency(16)
}

/// With `last`, once everything is processed.
async fn ends_without_repeats(scene: &Scene<'_>, last: Subscription) {
    scene.all_committed().await;
    last.shutdown().await.unwrap();
    let report = scene
        .journal
        .check(&scene.produced().await, Expect::Crashes);
    report.assert_clean();
    assert_eq!(report.duplicates, []);
}

fn all_paused(member: &Subscription, count: usize) -> bool {
    let partitions = member.status().partitions;
    partitions.len() == count && partitions.iter().all(|partition| partition.paused)
}

/// #857: with every partition paused by back-pressure, a rebalance left some of them paused for good.
async fn paused_during_a_rebalance(protocol: Protocol) {
    let scene = Scene::new(kafka_or_skip!(Nodes::One), 4).await.by(protocol);
    scene.write(numbered(0..8_000, 8_000)).await;
    let gate = Gate::closed();
    let builder = || {
        let limits = Limits::default().pause_at_records(50).resume_at_records(20);
        subscribe(&scene)
            .limits(limits)
            .drain_timeout(Duration::from_millis(200))
    };
    let first = scene.gated(builder(), "a", &gate, |_| true).await;
    wait_until("everything is paused", DEADLINE, || all_paused(&first, 4)).await;
    let second = scene.gated(builder(), "b", &gate, |_| true).await;
    wait_until("both have half, and it is paused", DEADLINE, || {
        all_paused(&first, 2) && all_paused(&second, 2)
    })
    .await;
    second.shutdown_within(Duration::ZERO).await.unwrap();
    wait_until(
        "the first has everything again, and it is paused",
        DEADLINE,
        || all_paused(&first, 4),
    )
    .await;
    gate.open();
    scene.all_done().await;
    wait_until("nothing is paused", DEADLINE, || {
        first
            .status()
            .partitions
            .iter()
            .all(|partition| !partition.paused)
    })
    .await;
    ends_without_repeats(&scene, first).await;
}

for_protocols! { paused_during_a_rebalance:
    partitions_paused_during_a_rebalance_go_on_afterwards_cooperative: Cooperative,
    partitions_paused_during_a_rebalance_go_on_afterwards_range: Range,
    partitions_paused_during_a_rebalance_go_on_afterwards_consumer: Consumer,
}

/// #875: a partition came back to a member that still had entries of its earlier assignment, and the record that was
/// delivered again was taken for one of those: dropped, and in the end skipped.
async fn a_partition_comes_back(protocol: Protocol) {
    let scene = Scene::new(kafka_or_skip!(Nodes::One), 2).await.by(protocol);
    scene.write(numbered(0..400, 20)).await;
    let gate = Gate::closed();
    let builder = || subscribe(&scene).drain_timeout(Duration::from_millis(200));
    let waits: fn(&Task<Bytes>) -> bool = |task| task.offset() == 0;
    let started = |member: &str, partition: i32| {
        let meant = scene.started(|work| {
            work.offset == 0 && work.partition == partition && work.member == member
        });
        meant.len()
    };
    let first = scene.gated(builder(), "a", &gate, waits).await;
    wait_until("it is stuck in both partitions", DEADLINE, || {
        started("a", 0) == 1 && started("a", 1) == 1
    })
    .await;
    for round in 0..3 {
        let name = format!("b{round}");
        let second = scene.gated(builder(), &name, &gate, waits).await;
        wait_until("the other one is stuck in one of them", DEADLINE, || {
            started(&name, 0) + started(&name, 1) == 1
                && partitions(&second).len() == 1
                && partitions(&first).len() == 1
        })
        .await;
        let moved = *partitions(&second).first().unwrap();
        let before = started("a", moved);
        second.shutdown_within(Duration::ZERO).await.unwrap();
        wait_until(
            "the record begins anew where it came back",
            DEADLINE,
            || started("a", moved) == before + 1,
        )
        .await;
    }
    gate.open();
    scene.all_done().await;
    ends_without_repeats(&scene, first).await;
}

for_protocols! { a_partition_comes_back:
    a_record_of_a_new_assignment_is_not_taken_for_a_stale_one_cooperative: Cooperative,
    a_record_of_a_new_assignment_is_not_taken_for_a_stale_one_consumer: Consumer,
}

/// Whether a member whose name begins like this has done something.
fn has_worked(journal: &Journal, name: &str) -> bool {
    let done = |entry: &Entry| matches!(entry, Entry::Ended(work, _, Outcome::Done) if work.member.starts_with(name));
    journal.entries().iter().rev().any(done)
}

/// Members that come and go without an end in sight.
struct Storm {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicUsize>,
    members: Vec<JoinHandle<()>>,
}

impl Storm {
    fn of(members: usize, scene: &Scene<'_>, builder: SubscriptionBuilder) -> Self {
        let (stop, rounds) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let member = |number: usize| {
            let (stop, rounds, journal, builder) = (
                stop.clone(),
                rounds.clone(),
                scene.journal.clone(),
                builder.clone(),
            );
            on_a_thread(async move || {
                while !stop.load(Ordering::Relaxed) {
                    let round = rounds.fetch_add(1, Ordering::Relaxed);
                    let name = format!("storm {number}.{round}");
                    let member = start(&builder, &journal, &name).await;
                    // Some leave before they have a share, some as soon as they have one, and some
                    // after work.
                    let satisfied = || match round % 3 {
                        0 => true,
                        1 => !partitions(&member).is_empty(),
                        _ => stop.load(Ordering::Relaxed) || has_worked(&journal, &name),
                    };
                    wait_until("it has what it came for", DEADLINE, satisfied).await;
                    member.shutdown().await.unwrap();
                }
            })
        };
        let members = (0..members).map(member).collect();
        Self {
            stop,
            rounds,
            members,
        }
    }

    async fn goes_on_for(&self, rounds: usize) {
        let before = self.rounds.load(Ordering::Relaxed);
        wait_until("members come and go", DEADLINE, || {
            self.rounds.load(Ordering::Relaxed) >= before + rounds
        })
        .await;
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for member in self.members {
            member.await.unwrap();
        }
    }
}

async fn start(builder: &SubscriptionBuilder, journal: &Journal, name: &str) -> Subscription {
    let work = journaled(journal, name, |task| async move {
        tokio::time::sleep(spread(&task, Duration::from_millis(5))).await;
        Ok(())
    });
    builder.clone().start(Raw, work).await.unwrap()
}

/// #787: close waited for a rebalance to end, and there was always another one.
async fn closed_in_a_storm(protocol: Protocol) {
    let scene = Scene::new(kafka_or_skip!(Nodes::One), 8).await.by(protocol);
    let load = Load::start(scene.kafka, &scene.topic, 100, 0);
    let storm = Storm::of(3, &scene, subscribe(&scene));
    for round in 0..4 {
        let member = start(
            &subscribe(&scene),
            &scene.journal,
            &format!("closed {round}"),
        )
        .await;
        storm.goes_on_for(2).await;
        // An error says that it did not end in time: the storm goes on for longer.
        member
            .shutdown_within(Duration::from_secs(30))
            .await
            .unwrap();
    }
    load.stop().await;
    storm.end().await;
    let last = start(&subscribe(&scene), &scene.journal, "last").await;
    scene.end_drained([last]).await;
}

for_protocols! { closed_in_a_storm:
    a_member_can_be_closed_in_a_storm_of_rebalances_cooperative: Cooperative,
    a_member_can_be_closed_in_a_storm_of_rebalances_consumer: Consumer,
}

/// #894: a partition that was taken and given back in quick succession lost its committed offset, and was read from where
/// `auto.offset.reset` says. `latest` makes that a loss here.
async fn frequent_rebalances(protocol: Protocol) {
    let scene = Scene::new(kafka_or_skip!(Nodes::One), 4).await.by(protocol);
    for partition in 0..4 {
        scene
            .kafka
            .commit_from_outside(&scene.group, &scene.topic, partition, 0, "")
            .await
            .unwrap();
    }
    let builder = subscribe(&scene).kafka("auto.offset.reset", "latest");
    let steady = start(&builder, &scene.journal, "steady").await;
    let load = Load::start(scene.kafka, &scene.topic, 100, 0);
    let commits = CommitWatch::start(scene.kafka, &scene.group, &scene.topic);
    let storm = Storm::of(2, &scene, builder);
    storm.goes_on_for(10).await;
    wait_until("partitions have moved", DEADLINE, || {
        has_worked(&scene.journal, "storm")
    })
    .await;
    storm.end().await;
    load.stop().await;
    scene.end_drained([steady]).await;
    let (looks, steps_back) = commits.steps_back(protocol).await.unwrap();
    assert!(looks > 10, "hardly looked: {looks} times");
    assert!(steps_back.is_empty(), "{steps_back:?}");
}

for_protocols! { frequent_rebalances:
    frequent_rebalances_neither_reset_an_offset_nor_take_a_commit_back_cooperative: Cooperative,
    frequent_rebalances_neither_reset_an_offset_nor_take_a_commit_back_consumer: Consumer,
}
