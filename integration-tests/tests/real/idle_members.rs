//! More members than partitions: who gets nothing is a member all the same, and says so.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use keylane::{Raw, State, Subscription, Task, TaskError};
use keylane_integration_tests::{
    kafka::{Extras, Kafka, Nodes},
    kafka_or_skip,
    process::Process,
    protocol::Protocol,
    wait::wait_until,
};
use rustix::process::Signal;

const DEADLINE: Duration = Duration::from_secs(90);
const SESSION_MS: u32 = 30_000;

async fn member(kafka: &Kafka, protocol: Protocol, group: &str, topic: &str) -> Subscription {
    let builder = protocol.subscribe(kafka, group, topic, SESSION_MS);
    builder
        .start(Raw, |_: Task<Bytes>| async { Ok::<(), TaskError>(()) })
        .await
        .unwrap()
}

fn owned(member: &Subscription) -> usize {
    member.status().partitions.len()
}

async fn two_members_of_one_partition(protocol: Protocol) {
    let kafka = kafka_or_skip!(Nodes::One, Extras::quick_sessions());
    let (topic, group) = (kafka.unique("idle"), kafka.unique("group"));
    kafka.create_topic(&topic, 1, 1, &[]).await.unwrap();
    let first = member(kafka, protocol, &group, &topic).await;
    wait_until("the first member has the partition", DEADLINE, || {
        owned(&first) == 1
    })
    .await;
    let second = member(kafka, protocol, &group, &topic).await;
    let is_member = |member: &Subscription| {
        let status = member.status();
        status.state == State::Running && status.joined && status.assigned
    };
    wait_until("both are members, and one has nothing", DEADLINE, || {
        is_member(&first) && is_member(&second) && owned(&first) + owned(&second) == 1
    })
    .await;
    for member in [first, second] {
        member.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_cooperative_member_without_partitions_has_joined() {
    two_members_of_one_partition(Protocol::Cooperative).await;
}

#[tokio::test]
async fn an_eager_member_without_partitions_has_joined() {
    two_members_of_one_partition(Protocol::Range).await;
}

#[tokio::test]
async fn a_member_without_partitions_has_joined_where_the_broker_assigns() {
    two_members_of_one_partition(Protocol::Consumer).await;
}

/// Where the broker assigns, nothing tells a member that has lost everything that it is a member
/// again, with nothing.
#[tokio::test]
async fn a_member_that_was_thrown_out_and_gets_nothing_back_has_joined_again() {
    let kafka = kafka_or_skip!(Nodes::One, Extras::quick_sessions());
    let (topic, group) = (kafka.unique("idle"), kafka.unique("group"));
    kafka.create_topic(&topic, 1, 1, &[]).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("status");
    let child = Command::new(env!("CARGO_BIN_EXE_member"))
        .args([kafka.bootstrap_servers(), &group, &topic, "consumer"])
        .arg(&file)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn();
    let thrown_out = Process {
        child: child.unwrap(),
    };
    // Whether it is assigned, and of how many partitions.
    let told = || {
        let text = std::fs::read_to_string(&file).ok()?;
        let (assigned, partitions) = text.split_once(' ')?;
        Some((
            assigned.parse::<bool>().ok()?,
            partitions.parse::<usize>().ok()?,
        ))
    };
    wait_until("it has the partition", DEADLINE, || {
        told() == Some((true, 1))
    })
    .await;
    let other = member(kafka, Protocol::Consumer, &group, &topic).await;
    thrown_out.signal(Signal::STOP).unwrap();
    wait_until("the other one has the partition", DEADLINE, || {
        owned(&other) == 1
    })
    .await;
    thrown_out.signal(Signal::CONT).unwrap();
    wait_until("it has seen its loss", DEADLINE, || {
        told().is_some_and(|(_, partitions)| partitions == 0)
    })
    .await;
    wait_until("both are members, and one has nothing", DEADLINE, || {
        told().is_some_and(|(assigned, partitions)| assigned && partitions + owned(&other) == 1)
    })
    .await;
    other.shutdown().await.unwrap();
}
