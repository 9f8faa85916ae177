//! Tests of the harness: what it reports about a Kafka is true, what it breaks is broken, and
//! nothing of it outlives the tests.

use std::{
    io::{BufRead, BufReader, ErrorKind},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use keylane_integration_tests::{
    kafka::{Found, Group, HarnessError, Kafka, NewRecord, Nodes, PartitionState, again},
    kafka_or_skip, own_kafka_or_skip,
    wait::{wait_for, wait_until},
};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
    types::RDKafkaErrorCode,
};
use rustix::process::{Pid, Signal, kill_process};

const DEADLINE: Duration = Duration::from_secs(60);

fn records(count: usize) -> Vec<NewRecord> {
    (0..count)
        .map(|id| NewRecord::keyed(format!("key-{}", id % 7), format!("{id}")))
        .collect()
}

fn refusal(error: &HarnessError) -> Option<RDKafkaErrorCode> {
    match error {
        HarnessError::Client { source, .. } => match source {
            rdkafka::error::KafkaError::AdminOp(code) => Some(*code),
            other => other.rdkafka_error_code(),
        },
        _ => None,
    }
}

#[tokio::test]
async fn what_is_written_is_read_back_with_keys_headers_and_order() {
    let kafka = kafka_or_skip!(Nodes::One);
    let topic = kafka.unique("round-trip");
    kafka.create_topic(&topic, 3, 1, &[]).await.unwrap();

    let mut written = records(500);
    written.push(NewRecord {
        partition: Some(2),
        headers: vec![
            ("reason".into(), Some(b"test".to_vec())),
            ("empty".into(), None),
        ],
        ..NewRecord::default()
    });
    let places = kafka.produce(&topic, written.clone()).await.unwrap();
    let read = kafka.read_all(&topic).await.unwrap();

    assert_eq!(read.len(), written.len());
    for ((partition, offset), expected) in places.iter().zip(&written) {
        let found = read
            .iter()
            .find(|record| (record.partition, record.offset) == (*partition, *offset))
            .unwrap();
        assert_eq!(
            (&found.key, &found.value, &found.headers),
            (&expected.key, &expected.value, &expected.headers)
        );
    }
    let tombstone = read.iter().find(|record| record.value.is_none()).unwrap();
    assert_eq!(
        (tombstone.header("reason"), tombstone.header("empty")),
        (Some("test"), None)
    );

    let ends = kafka.end_offsets(&topic).await.unwrap();
    assert_eq!(ends.len(), 3);
    assert_eq!(ends.iter().sum::<i64>(), 501);
}

#[tokio::test]
async fn a_new_topic_is_complete_and_a_deleted_one_is_unknown() {
    let kafka = kafka_or_skip!(Nodes::One);
    let topic = kafka.unique("short-lived");
    kafka.create_topic(&topic, 4, 1, &[]).await.unwrap();
    let partitions = kafka.partitions(&topic).await.unwrap();
    assert_eq!(
        partitions
            .iter()
            .map(|state| state.partition)
            .collect::<Vec<_>>(),
        [0, 1, 2, 3]
    );
    assert!(
        partitions
            .iter()
            .all(|state| state.leader.is_some() && state.in_sync.len() == 1)
    );

    let again = kafka.create_topic(&topic, 4, 1, &[]).await.unwrap_err();
    assert_eq!(refusal(&again), Some(RDKafkaErrorCode::TopicAlreadyExists));

    kafka.delete_topic(&topic).await.unwrap();
    let unknown = kafka.partitions(&topic).await.unwrap_err();
    assert_eq!(
        refusal(&unknown),
        Some(RDKafkaErrorCode::UnknownTopicOrPartition)
    );
}

#[tokio::test]
async fn a_topic_refuses_writes_while_it_is_configured_to() {
    let kafka = kafka_or_skip!(Nodes::One);
    let topic = kafka.unique("refusing");
    kafka.create_topic(&topic, 1, 1, &[]).await.unwrap();
    let large = || vec![NewRecord::keyed("key", vec![b'x'; 2_000])];
    kafka.produce(&topic, large()).await.unwrap();

    kafka
        .configure_topic(&topic, &[("max.message.bytes", "1000")])
        .await
        .unwrap();
    wait_for("the topic refuses large records", DEADLINE, async || {
        let error = kafka.produce(&topic, large()).await.err()?;
        (refusal(&error) == Some(RDKafkaErrorCode::MessageSizeTooLarge)).then_some(())
    })
    .await;

    kafka.configure_topic(&topic, &[]).await.unwrap();
    wait_for(
        "the topic takes large records again",
        DEADLINE,
        async || kafka.produce(&topic, large()).await.ok(),
    )
    .await;
}

#[tokio::test]
async fn commits_are_seen_with_their_metadata_on_all_group_protocols() {
    let kafka = kafka_or_skip!(Nodes::One);
    for &protocol in kafka.group_protocols() {
        let (topic, group) = (kafka.unique("commits"), kafka.unique("group"));
        kafka.create_topic(&topic, 2, 1, &[]).await.unwrap();
        kafka.produce(&topic, records(100)).await.unwrap();
        assert_eq!(kafka.group(&group).await.unwrap(), Group::default());
        let before = kafka.committed(&group, &topic).await.unwrap();
        assert!(
            before.iter().all(|committed| committed.offset.is_none()),
            "{before:?}"
        );

        let (servers, to, member) = (
            kafka.bootstrap_servers().to_owned(),
            topic.clone(),
            group.clone(),
        );
        let consumer = tokio::task::spawn_blocking(move || {
            consume_and_commit(&servers, &member, protocol, &to, 100)
        });
        let consumer = consumer.await.unwrap();

        let committed = kafka.committed(&group, &topic).await.unwrap();
        let ends = kafka.end_offsets(&topic).await.unwrap();
        assert_eq!(
            committed
                .iter()
                .map(|committed| committed.offset.unwrap())
                .collect::<Vec<_>>(),
            ends
        );
        assert!(
            committed
                .iter()
                .all(|committed| committed.metadata == "left by the test"),
            "{committed:?}"
        );
        if protocol == "classic" {
            let group = kafka.group(&group).await.unwrap();
            assert_eq!(
                (group.state.as_str(), group.assignor.as_str()),
                ("Stable", "cooperative-sticky")
            );
            assert_eq!(group.members.len(), 1);
            assert_eq!(group.members[0].client_id, "harness-suite");
        }
        tokio::task::spawn_blocking(move || drop(consumer))
            .await
            .unwrap();
    }
}

/// Joins the group, reads `count` records and commits the end of each partition; the member stays
/// in the group.
fn consume_and_commit(
    servers: &str,
    group: &str,
    protocol: &str,
    topic: &str,
    count: usize,
) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", servers)
        .set("client.id", "harness-suite")
        .set("group.id", group)
        .set("group.protocol", protocol)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false");
    if protocol == "classic" {
        config.set("partition.assignment.strategy", "cooperative-sticky");
    }
    let consumer: BaseConsumer = config.create().unwrap();
    consumer.subscribe(&[topic]).unwrap();
    let mut next = [0_i64; 2];
    let mut read = 0;
    let started = std::time::Instant::now();
    while read < count {
        assert!(
            started.elapsed() < DEADLINE,
            "read {read} of {count} records by the {protocol} protocol"
        );
        if let Some(message) = consumer.poll(Duration::from_millis(200)) {
            let message = message.unwrap();
            next[usize::try_from(message.partition()).unwrap()] = message.offset() + 1;
            read += 1;
        }
    }
    let mut offsets = TopicPartitionList::new();
    for (partition, next) in (0..).zip(next) {
        let mut element = offsets.add_partition(topic, partition);
        element.set_offset(Offset::Offset(next)).unwrap();
        element.set_metadata("left by the test");
    }
    again(|| consumer.commit(&offsets, CommitMode::Sync)).unwrap();
    consumer
}

#[tokio::test]
async fn a_topic_survives_the_kill_of_its_leader_and_the_node_comes_back_in_sync() {
    let kafka = own_kafka_or_skip!(Nodes::Three);
    let topic = kafka.unique("survivor");
    kafka
        .create_topic(&topic, 1, 3, &[("min.insync.replicas", "2")])
        .await
        .unwrap();
    kafka.produce(&topic, records(100)).await.unwrap();

    let first_leader = kafka.partitions(&topic).await.unwrap()[0].leader.unwrap();
    let killed = kafka.node_of(first_leader).unwrap();
    kafka.kill_node(killed).await.unwrap();
    assert_eq!(kafka.pids().len(), 2);
    wait_for("another node leads", DEADLINE, async || {
        let leader = kafka.partitions(&topic).await.ok()?[0].leader?;
        (leader != first_leader).then_some(())
    })
    .await;
    kafka.produce(&topic, records(100)).await.unwrap();

    kafka.start_node(killed).await.unwrap();
    wait_for("all three replicas are in sync", DEADLINE, async || {
        (kafka.partitions(&topic).await.ok()?[0].in_sync.len() == 3).then_some(())
    })
    .await;
    assert_eq!(kafka.read_all(&topic).await.unwrap().len(), 200);
    assert!(matches!(
        kafka.start_node(killed).await,
        Err(HarnessError::WrongState { .. })
    ));
    assert!(matches!(
        kafka.kill_node(3).await,
        Err(HarnessError::NoSuchNode { index: 3, nodes: 3 })
    ));
}

#[tokio::test]
async fn a_lone_node_can_be_frozen_stopped_and_started_and_keeps_its_records() {
    let kafka = own_kafka_or_skip!(Nodes::One);
    let topic = kafka.unique("frozen");
    kafka.create_topic(&topic, 1, 1, &[]).await.unwrap();
    kafka.produce(&topic, records(10)).await.unwrap();

    kafka.suspend_node(0).await.unwrap();
    let client: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka.bootstrap_servers())
        .create()
        .unwrap();
    let look = move || {
        client
            .fetch_metadata(None, Duration::from_millis(500))
            .is_err()
    };
    assert!(
        tokio::task::spawn_blocking(look).await.unwrap(),
        "a frozen broker answered"
    );
    assert!(matches!(
        kafka.suspend_node(0).await,
        Err(HarnessError::WrongState { .. })
    ));
    kafka.continue_node(0).await.unwrap();
    assert_eq!(kafka.read_all(&topic).await.unwrap().len(), 10);

    kafka.stop_node(0).await.unwrap();
    assert!(kafka.pids().is_empty());
    kafka.start_node(0).await.unwrap();
    assert_eq!(kafka.read_all(&topic).await.unwrap().len(), 10);

    let data = kafka.data_dir().unwrap().to_owned();
    assert!(data.exists());
    drop(kafka);
    assert!(!data.exists(), "the data of a dropped kafka is still there");
}

#[tokio::test]
async fn brokers_die_with_a_process_that_is_killed() {
    let mut parent = Command::new(env!("CARGO_BIN_EXE_kafka"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the tool was built with this test");
    let mut lines = BufReader::new(parent.stdout.take().unwrap()).lines();
    let Some(servers) = lines.next() else {
        parent.wait().unwrap();
        let kafka = own_kafka_or_skip!(Nodes::One);
        panic!("the tool failed where the harness did not: {kafka:?}");
    };
    let (servers, data, pid) = (
        servers.unwrap(),
        lines.next().unwrap().unwrap(),
        lines.next().unwrap().unwrap(),
    );
    let address: SocketAddr = servers.parse().unwrap();
    assert!(TcpStream::connect(address).is_ok());
    assert!(Path::new(&data).exists());
    // A frozen broker cannot end by itself, as a running one does when its data vanishes; its port
    // stays open.
    kill_process(Pid::from_raw(pid.parse().unwrap()).unwrap(), Signal::STOP).unwrap();

    parent.kill().unwrap();
    parent.wait().unwrap();

    // Nothing short of a refusal will do: a frozen broker whose queue of connections is full does
    // not answer either.
    let refused = || {
        TcpStream::connect_timeout(&address, Duration::from_secs(1))
            .is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused)
    };
    wait_until("nothing listens on the broker's port", DEADLINE, refused).await;
    wait_until("the broker's data is removed", DEADLINE, || {
        !Path::new(&data).exists()
    })
    .await;
}

#[tokio::test]
async fn an_external_kafka_serves_requests_and_cannot_be_killed() {
    let kafka = kafka_or_skip!(Nodes::One);
    let Found::Running(external) = Kafka::connect(kafka.bootstrap_servers(), Nodes::One) else {
        panic!("the running kafka was not found");
    };
    let topic = external.unique("external");
    external.create_topic(&topic, 1, 1, &[]).await.unwrap();
    assert_eq!(external.end_offsets(&topic).await.unwrap(), [0]);

    let refused = external.kill_node(0).await.unwrap_err().to_string();
    assert!(
        refused.contains("external") && refused.contains("KAFKA_BOOTSTRAP"),
        "{refused}"
    );
    assert_eq!((external.own_nodes(), external.data_dir()), (0, None));
}

#[test]
fn a_kafka_that_does_not_answer_is_unavailable_and_named() {
    let reason = match Kafka::connect("127.0.0.1:1", Nodes::One) {
        Found::Unavailable(reason) => reason,
        Found::Running(kafka) => panic!("found {kafka:?}"),
    };
    assert!(reason.contains("127.0.0.1:1"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_move_to_the_next_replica() {
    let kafka = own_kafka_or_skip!(Nodes::Three);
    let topic = kafka.unique("leaders");
    kafka.create_topic(&topic, 4, 3, &[]).await.unwrap();
    let before = kafka.partitions(&topic).await.unwrap();
    kafka.move_leaders(&topic, 1).await.unwrap();
    wait_for(
        "every partition has the next replica as its leader",
        DEADLINE,
        async || {
            let after = kafka.partitions(&topic).await.ok()?;
            let moved = |(before, after): (&PartitionState, &PartitionState)| {
                after.leader == Some(before.replicas[1])
            };
            before.iter().zip(&after).all(moved).then_some(())
        },
    )
    .await;
}
