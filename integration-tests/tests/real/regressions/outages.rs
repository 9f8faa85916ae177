//! What brokers that do not answer did to others.

use std::time::Duration;

use bytes::Bytes;
use keylane::{Raw, State, Task, TroubleKind};
use keylane_integration_tests::{
    gate::Gate,
    journal::{Expect, Journal},
    kafka::Nodes,
    load::numbered,
    member::journaled,
    own_kafka_or_skip,
    protocol::Protocol,
    wait::wait_until,
};

use super::{DEADLINE, await_committed};

/// #833: a commit that timed out ended the consumer. The broker is frozen here, so that requests time out one after the
/// other, with records in memory that are settled meanwhile and cannot be committed.
async fn commits_time_out(protocol: Protocol) {
    let kafka = own_kafka_or_skip!(Nodes::One);
    let (topic, group) = (kafka.unique("regression"), kafka.unique("group"));
    kafka.create_topic(&topic, 2, 1, &[]).await.unwrap();
    kafka
        .produce(&topic, numbered(0..1_000, 100))
        .await
        .unwrap();
    let (journal, gate) = (Journal::new(), Gate::closed());
    let processor = journaled(&journal, "a", {
        let gate = gate.clone();
        move |task: Task<Bytes>| {
            let gate = (task.offset() >= 100).then(|| gate.clone());
            async move {
                if let Some(gate) = gate {
                    gate.passed().await;
                }
                Ok(())
            }
        }
    });
    let member = protocol
        .subscribe(&kafka, &group, &topic, 300_000)
        // A place for each: those that wait for the gate keep none from the others.
        .concurrency(1_000)
        .commit_interval(Duration::from_millis(100))
        .kafka("socket.timeout.ms", "1000")
        .start(Raw, processor)
        .await
        .unwrap();
    let delivered = || {
        member
            .status()
            .partitions
            .iter()
            .map(|partition| partition.snapshot.pending)
            .sum::<u64>()
    };
    wait_until("the rest is in memory", DEADLINE, || {
        journal.done() >= 200 && delivered() > 500
    })
    .await;

    kafka.suspend_node(0).await.unwrap();
    gate.open();
    wait_until(
        "what is in memory is processed all the same",
        DEADLINE,
        || journal.done() == 1_000,
    )
    .await;
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

    kafka
        .produce(&topic, numbered(1_000..1_200, 100))
        .await
        .unwrap();
    let count = || journal.done();
    wait_until("work goes on", DEADLINE, || count() == 1_200).await;
    await_committed(&kafka, &group, &topic).await;
    wait_until("the trouble has passed", DEADLINE, || {
        member.status().trouble.is_none()
    })
    .await;
    assert_eq!(member.state(), State::Running);
    member.shutdown().await.unwrap();
    // With the other protocol the broker may have given the member up while it was frozen itself.
    let expect = if protocol == Protocol::Consumer {
        Expect::Crashes
    } else {
        Expect::Drained
    };
    journal
        .check(&kafka.produced(&topic).await.unwrap(), expect)
        .assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_that_time_out_end_nothing_and_are_made_up_for_classic() {
    commits_time_out(Protocol::Cooperative).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_that_time_out_end_nothing_and_are_made_up_for_consumer() {
    commits_time_out(Protocol::Consumer).await;
}
