//! G8, calm rebalances: what is given up is drained, a drained hand-over repeats nothing, and
//! nobody can hold up the group.

use std::{collections::BTreeMap, time::Duration};

use keylane::Subscription;
use keylane::subscription::SubscriptionBuilder;
use keylane_integration_tests::{
    for_protocols,
    gate::Gate,
    journal::{Entry, Expect, Outcome},
    kafka::Nodes,
    kafka_or_skip,
    load::{Load, numbered},
    member::journaled,
    protocol::Protocol,
    scene::{DEADLINE, Scene, partitions},
    threads::Threads,
    wait::wait_until,
};

const PARTITIONS: i32 = 8;

fn subscribe(scene: &Scene<'_>) -> SubscriptionBuilder {
    scene.subscribe().concurrency(16)
}

async fn member(scene: &Scene<'_>, name: &str) -> Subscription {
    working(scene, subscribe(scene), name).await
}

async fn working(scene: &Scene<'_>, builder: SubscriptionBuilder, name: &str) -> Subscription {
    scene.worker(builder, name, Duration::from_millis(10)).await
}

async fn rolling_restart(protocol: Protocol) {
    let scene = Scene::new(kafka_or_skip!(Nodes::One), PARTITIONS)
        .await
        .by(protocol);
    let load = Load::start(scene.kafka, &scene.topic, 200, 0);
    let mut members = BTreeMap::new();
    for name in ["a0", "b0", "c0"] {
        members.insert(name.to_owned(), member(&scene, name).await);
    }
    for name in ["a0", "b0", "c0"] {
        scene.works(name).await;
    }
    for (old, new) in [("a0", "a1"), ("b0", "b1"), ("c0", "c1")] {
        members.remove(old).unwrap().shutdown().await.unwrap();
        members.insert(new.to_owned(), member(&scene, new).await);
        scene.works(new).await;
    }
    load.stop().await;
    scene.end_drained(members.into_values()).await;
}

async fn hand_over_beside_a_blocked_thread(protocol: Protocol) {
    let scene = Scene::new(kafka_or_skip!(Nodes::One), 4).await.by(protocol);
    // The first record of each partition hangs on the first member, the others do not.
    scene.write(numbered(0..400, 40)).await;
    let gate = Gate::closed();
    let end = gate.open_at_end();
    let hanging = journaled(&scene.journal, "a", move |task| {
        let gate = gate.clone();
        async move {
            if task.offset() == 0 {
                gate.block();
            }
            Ok(())
        }
    });
    // Enough for four that are blocked.
    let threads = Threads::new(6);
    let builder = subscribe(&scene).drain_timeout(Duration::from_secs(1));
    let first = threads.start(builder, hanging).await;
    let hanging_now = || scene.started(|work| work.offset == 0).len() == 4;
    wait_until("a record of each partition hangs", DEADLINE, hanging_now).await;
    let second = member(&scene, "b").await;
    let handed_over = || {
        let entries = scene.journal.entries();
        let done = |e: &&Entry| matches!(e, Entry::Ended(w, _, Outcome::Done) if w.member == "b" && w.offset == 0);
        entries.iter().filter(done).count() >= 1
    };
    wait_until(
        "the new member has a record that hung",
        DEADLINE,
        handed_over,
    )
    .await;

    // Leaving works as well, and the rest goes to the other member.
    first
        .shutdown_within(Duration::from_millis(500))
        .await
        .unwrap();
    let produced = scene.all_done().await;
    second.shutdown().await.unwrap();
    scene.assert_all_committed().await;

    let entries = scene.journal.entries();
    let report = scene.journal.check(&produced, Expect::Crashes);
    report.assert_nothing_lost();
    assert!(report.duplicates.is_empty(), "{report}");
    // Only what hung was attempted twice.
    let mut attempts: BTreeMap<(i32, i64), usize> = BTreeMap::new();
    for entry in &entries {
        if let Entry::Started(work) = entry {
            *attempts.entry((work.partition, work.offset)).or_default() += 1;
        }
    }
    attempts.retain(|_, count| *count > 1);
    assert!(
        attempts
            .into_keys()
            .eq((0..4).map(|partition| (partition, 0)))
    );
    drop(end);
    threads.end().await;
}

for_protocols! { rolling_restart:
    a_rolling_restart_of_three_members_repeats_nothing_cooperative: Cooperative,
    a_rolling_restart_of_three_members_repeats_nothing_range: Range,
    a_rolling_restart_of_three_members_repeats_nothing_consumer: Consumer,
}

for_protocols! { hand_over_beside_a_blocked_thread:
    a_processor_that_blocks_its_thread_does_not_hold_up_a_rebalance_cooperative: Cooperative,
    a_processor_that_blocks_its_thread_does_not_hold_up_a_rebalance_consumer: Consumer,
}

/// Two origin topics in one subscription, a member that joins and one that leaves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_joins_and_one_that_leaves_repeat_nothing_of_several_topics() {
    let kafka = kafka_or_skip!(Nodes::One);
    for protocol in Protocol::spoken([Protocol::Cooperative, Protocol::Consumer]) {
        let scene = Scene::new(kafka, 3).await.by(protocol);
        let other = scene.another("other", 5).await;
        let loads = [
            Load::start(scene.kafka, &scene.topic, 50, 0),
            Load::start(kafka, &other, 50, 0),
        ];
        let first = working(&scene, subscribe(&scene).topic(&other), "a").await;
        scene.works("a").await;
        let second = working(&scene, subscribe(&scene).topic(&other), "b").await;
        scene.works("b").await;
        first.shutdown().await.unwrap();
        scene.works("b").await;
        for load in loads {
            load.stop().await;
        }
        let mut produced = scene.produced().await;
        produced.extend(kafka.produced(&other).await.unwrap());
        scene.done(produced.len()).await;
        second.shutdown().await.unwrap();
        scene.assert_drained(&produced);
        scene.assert_all_committed().await;
        scene.assert_all_committed_of(&other).await;
    }
}

/// With `instance_id` a member that comes back takes up its partitions, and the others notice
/// nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_static_member_restarts_without_moving_the_partitions_of_others() {
    let kafka = kafka_or_skip!(Nodes::One);
    for protocol in Protocol::spoken([Protocol::Cooperative, Protocol::Consumer]) {
        let scene = Scene::new(kafka, 6).await.by(protocol);
        let load = Load::start(scene.kafka, &scene.topic, 60, 0);
        let instance = |name: &str| subscribe(&scene).instance_id(name);
        let (a, b, c) = tokio::join!(
            working(&scene, instance("a"), "a"),
            working(&scene, instance("b"), "b"),
            working(&scene, instance("c"), "c")
        );
        let shared_out = || {
            [&a, &b, &c]
                .iter()
                .all(|member| partitions(member).len() == 2)
        };
        wait_until("each has two partitions", DEADLINE, shared_out).await;
        let (of_a, of_b, of_c) = (partitions(&a), partitions(&b), partitions(&c));
        let line = scene.journal.entries().len();

        a.shutdown().await.unwrap();
        let a = working(&scene, instance("a"), "a again").await;
        scene.works("a again").await;
        wait_until("its status is there", DEADLINE, || {
            partitions(&a).len() == 2
        })
        .await;
        assert_eq!(
            (partitions(&a), partitions(&b), partitions(&c)),
            (of_a.clone(), of_b, of_c)
        );

        load.stop().await;
        scene.end_drained([a, b, c]).await;
        let entries = scene.journal.entries();
        let strangers = entries[line..].iter().filter(|entry| {
            matches!(entry, Entry::Started(work) if of_a.contains(&work.partition) && !work.member.starts_with('a'))
        });
        assert_eq!(
            strangers.count(),
            0,
            "somebody else worked on the partitions {of_a:?} meanwhile"
        );
    }
}
