//! More members than partitions: one without partitions is a member too, and its status shows it.

use std::process::{Command, Stdio};

use keylane::Subscription;
use keylane::status::State;
use keylane_integration_tests::{
    for_protocols,
    kafka::{Extras, Nodes},
    kafka_or_skip,
    process::Process,
    protocol::Protocol,
    scene::{DEADLINE, Scene},
    wait::wait_until,
};
use rustix::process::Signal;

async fn member(scene: &Scene<'_>) -> Subscription {
    scene
        .start(scene.subscribe(), "a", |_| async { Ok(()) })
        .await
}

fn owned(member: &Subscription) -> usize {
    member.status().partitions.len()
}

async fn two_members_of_one_partition(protocol: Protocol) {
    let kafka = kafka_or_skip!(Nodes::One, Extras::quick_sessions());
    let scene = Scene::new(kafka, 1).await.by(protocol);
    let first = member(&scene).await;
    wait_until("the first member has the partition", DEADLINE, || {
        owned(&first) == 1
    })
    .await;
    let second = member(&scene).await;
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

for_protocols! { two_members_of_one_partition:
    a_cooperative_member_without_partitions_has_joined: Cooperative,
    an_eager_member_without_partitions_has_joined: Range,
    a_member_without_partitions_has_joined_where_the_broker_assigns: Consumer,
}

/// Where the broker assigns, no event informs a member that has lost everything that it is a member
/// again, with nothing.
async fn thrown_out_with_nothing_back(protocol: Protocol) {
    let kafka = kafka_or_skip!(Nodes::One, Extras::quick_sessions());
    let scene = Scene::new(kafka, 1).await.by(protocol);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("status");
    let child = Command::new(env!("CARGO_BIN_EXE_member"))
        .args([kafka.bootstrap_servers(), &scene.group, &scene.topic])
        .arg(protocol.name())
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
    let other = member(&scene).await;
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

for_protocols! { thrown_out_with_nothing_back:
    a_member_that_was_thrown_out_and_gets_nothing_back_has_joined_again: Consumer,
}
