//! What rebalances did to others.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use keylane::{Limits, Raw, Subscription, SubscriptionBuilder, Task};
use keylane_integration_tests::{
    commit_watch::CommitWatch,
    gate::Gate,
    journal::{Entry, Expect, Journal, Outcome},
    kafka::{Kafka, Nodes},
    kafka_or_skip,
    load::{Load, numbered},
    member::{journaled, spread},
    protocol::Protocol,
    wait::wait_until,
};
use tokio::task::JoinHandle;

use super::{DEADLINE, SESSION_MS, await_committed, on_a_thread};

/// A topic, a group, and what its members did.
struct Scene {
    kafka: &'static Kafka,
    protocol: Protocol,
    topic: String,
    group: String,
    journal: Journal,
}

impl Scene {
    async fn new(kafka: &'static Kafka, protocol: Protocol, partitions: i32) -> Self {
        let (topic, group) = (kafka.unique("regression"), kafka.unique("group"));
        kafka
            .create_topic(&topic, partitions, 1, &[])
            .await
            .unwrap();
        Self {
            kafka,
            protocol,
            topic,
            group,
            journal: Journal::new(),
        }
    }

    fn builder(&self) -> SubscriptionBuilder {
        self.protocol
            .subscribe(self.kafka, &self.group, &self.topic, SESSION_MS)
            .concurrency(16)
    }

    /// A member whose attempts wait at the gate, where `waits` says so.
    async fn gated(
        &self,
        builder: SubscriptionBuilder,
        name: &str,
        gate: &Gate,
        waits: fn(&Task<Bytes>) -> bool,
    ) -> Subscription {
        let gate = gate.clone();
        let processor = journaled(&self.journal, name, move |task: Task<Bytes>| {
            let gate = waits(&task).then(|| gate.clone());
            async move {
                if let Some(gate) = gate {
                    gate.passed().await;
                }
                Ok(())
            }
        });
        builder.start(Raw, processor).await.unwrap()
    }

    async fn all_done(&self) {
        let produced = self.kafka.produced(&self.topic).await.unwrap();
        wait_until("all are processed", DEADLINE, || {
            self.journal.done() >= produced.len()
        })
        .await;
    }

    /// With `last`, once everything is processed.
    async fn ends_without_repeats(&self, last: Subscription) {
        await_committed(self.kafka, &self.group, &self.topic).await;
        last.shutdown().await.unwrap();
        let produced = self.kafka.produced(&self.topic).await.unwrap();
        let report = self.journal.check(&produced, Expect::Crashes);
        report.assert_clean();
        assert_eq!(report.duplicates, []);
    }
}

fn partitions(member: &Subscription) -> BTreeSet<i32> {
    member
        .status()
        .partitions
        .iter()
        .map(|status| status.partition)
        .collect()
}

fn all_paused(member: &Subscription, count: usize) -> bool {
    let partitions = member.status().partitions;
    partitions.len() == count && partitions.iter().all(|partition| partition.paused)
}

/// #857: with every partition paused by back-pressure, a rebalance left some of them paused for good.
async fn paused_during_a_rebalance(protocol: Protocol) {
    let scene = Scene::new(kafka_or_skip!(Nodes::One), protocol, 4).await;
    scene
        .kafka
        .produce(&scene.topic, numbered(0..8_000, 8_000))
        .await
        .unwrap();
    let gate = Gate::closed();
    let builder = || {
        let limits = Limits::default().pause_at_records(50).resume_at_records(20);
        scene
            .builder()
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
    scene.ends_without_repeats(first).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_paused_during_a_rebalance_go_on_afterwards_cooperative() {
    paused_during_a_rebalance(Protocol::Cooperative).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_paused_during_a_rebalance_go_on_afterwards_range() {
    paused_during_a_rebalance(Protocol::Range).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_paused_during_a_rebalance_go_on_afterwards_consumer() {
    paused_during_a_rebalance(Protocol::Consumer).await;
}

/// #875: a partition came back to a member that still had entries of its earlier assignment, and the record that was
/// delivered again was taken for one of those: dropped, and in the end skipped.
async fn a_partition_comes_back(protocol: Protocol) {
    let scene = Scene::new(kafka_or_skip!(Nodes::One), protocol, 2).await;
    scene
        .kafka
        .produce(&scene.topic, numbered(0..400, 20))
        .await
        .unwrap();
    let gate = Gate::closed();
    let builder = || scene.builder().drain_timeout(Duration::from_millis(200));
    let waits: fn(&Task<Bytes>) -> bool = |task| task.offset() == 0;
    let started = |member: &str, partition: i32| {
        let entries = scene.journal.entries();
        let start = |entry: &&Entry| matches!(entry, Entry::Started(work) if work.offset == 0 && work.partition == partition && work.member == member);
        entries.iter().filter(start).count()
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
    scene.ends_without_repeats(first).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_of_a_new_assignment_is_not_taken_for_a_stale_one_cooperative() {
    a_partition_comes_back(Protocol::Cooperative).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_of_a_new_assignment_is_not_taken_for_a_stale_one_consumer() {
    a_partition_comes_back(Protocol::Consumer).await;
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
    fn of(members: usize, scene: &Scene, builder: SubscriptionBuilder) -> Self {
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
    let scene = Scene::new(kafka_or_skip!(Nodes::One), protocol, 8).await;
    let load = Load::start(scene.kafka, &scene.topic, 100, 0);
    let storm = Storm::of(3, &scene, scene.builder());
    for round in 0..4 {
        let member = start(&scene.builder(), &scene.journal, &format!("closed {round}")).await;
        storm.goes_on_for(2).await;
        // An error says that it did not end in time: the storm goes on for longer.
        member
            .shutdown_within(Duration::from_secs(30))
            .await
            .unwrap();
    }
    load.stop().await;
    storm.end().await;
    let last = start(&scene.builder(), &scene.journal, "last").await;
    scene.all_done().await;
    await_committed(scene.kafka, &scene.group, &scene.topic).await;
    last.shutdown().await.unwrap();
    scene
        .journal
        .check(
            &scene.kafka.produced(&scene.topic).await.unwrap(),
            Expect::Drained,
        )
        .assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_can_be_closed_in_a_storm_of_rebalances_cooperative() {
    closed_in_a_storm(Protocol::Cooperative).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_can_be_closed_in_a_storm_of_rebalances_consumer() {
    closed_in_a_storm(Protocol::Consumer).await;
}

/// #894: a partition that was taken and given back in quick succession lost its committed offset, and was read from where
/// `auto.offset.reset` says. `latest` makes that a loss here.
async fn frequent_rebalances(protocol: Protocol) {
    let scene = Scene::new(kafka_or_skip!(Nodes::One), protocol, 4).await;
    for partition in 0..4 {
        scene
            .kafka
            .commit_from_outside(&scene.group, &scene.topic, partition, 0, "")
            .await
            .unwrap();
    }
    let builder = scene.builder().kafka("auto.offset.reset", "latest");
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
    scene.all_done().await;
    await_committed(scene.kafka, &scene.group, &scene.topic).await;
    steady.shutdown().await.unwrap();
    scene
        .journal
        .check(
            &scene.kafka.produced(&scene.topic).await.unwrap(),
            Expect::Drained,
        )
        .assert_clean();
    let (looks, steps_back) = commits.steps_back(protocol).await.unwrap();
    assert!(looks > 10, "hardly looked: {looks} times");
    assert!(steps_back.is_empty(), "{steps_back:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frequent_rebalances_neither_reset_an_offset_nor_take_a_commit_back_cooperative() {
    frequent_rebalances(Protocol::Cooperative).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frequent_rebalances_neither_reset_an_offset_nor_take_a_commit_back_consumer() {
    frequent_rebalances(Protocol::Consumer).await;
}
