//! What brokers that do not answer did to others.

use std::time::Duration;

use bytes::Bytes;
use keylane::Task;
use keylane::status::{State, TroubleKind};
use keylane_integration_tests::{
    for_protocols,
    gate::Gate,
    journal::Expect,
    kafka::Nodes,
    load::numbered,
    own_kafka_or_skip,
    protocol::Protocol,
    scene::{DEADLINE, Scene, no_trouble},
    wait::wait_until,
};

/// #833: a commit that timed out ended the consumer. The broker is frozen here, so that requests time out one after the
/// other, with records in memory that are settled meanwhile and cannot be committed.
async fn commits_time_out(protocol: Protocol) {
    let kafka = own_kafka_or_skip!(Nodes::One);
    let scene = Scene::new(&kafka, 2).await.by(protocol).session_ms(300_000);
    scene.write(numbered(0..1_000, 100)).await;
    let gate = Gate::closed();
    let builder = scene
        .subscribe()
        // A place for each: those that wait for the gate keep none from the others.
        .concurrency(1_000)
        .commit_interval(Duration::from_millis(100))
        .kafka("socket.timeout.ms", "1000");
    let waits = |task: &Task<Bytes>| task.offset() >= 100;
    let member = scene.gated(builder, "a", &gate, waits).await;
    let delivered = || {
        member
            .status()
            .partitions
            .iter()
            .map(|partition| partition.snapshot.pending)
            .sum::<u64>()
    };
    wait_until("the rest is in memory", DEADLINE, || {
        scene.journal.done() >= 200 && delivered() > 500
    })
    .await;

    kafka.suspend_node(0).await.unwrap();
    gate.open();
    // What is in memory is processed all the same.
    scene.done(1_000).await;
    wait_until("the trouble shows", DEADLINE, || {
        member.status().trouble.is_some_and(|trouble| {
            matches!(
                trouble.kind,
                TroubleKind::Connection | TroubleKind::Commit | TroubleKind::Membership
            )
        })
    })
    .await;
    assert!(
        matches!(member.state(), State::Running | State::Rebalancing),
        "{:?}",
        member.state()
    );
    kafka.continue_node(0).await.unwrap();

    scene.write(numbered(1_000..1_200, 100)).await;
    scene.done(1_200).await;
    scene.all_committed().await;
    no_trouble(&member).await;
    assert_eq!(member.state(), State::Running);
    member.shutdown().await.unwrap();
    // With the other protocol the broker may have given the member up while it was frozen itself.
    let expect = if protocol == Protocol::Consumer {
        Expect::Crashes
    } else {
        Expect::Drained
    };
    scene
        .journal
        .check(&scene.produced().await, expect)
        .assert_clean();
}

for_protocols! { commits_time_out:
    commits_that_time_out_end_nothing_and_are_made_up_for_classic: Cooperative,
    commits_that_time_out_end_nothing_and_are_made_up_for_consumer: Consumer,
}
