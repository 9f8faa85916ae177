//! A log that lost its end with its leader, and was written anew past the committed position while
//! no member ran.

use std::{collections::BTreeSet, ops::Range, time::Duration};

use bytes::Bytes;
use keylane::{Raw, Subscription, Task};
use keylane_integration_tests::{
    gate::Gate,
    journal::{Entry, Journal, Outcome},
    kafka::{Kafka, Nodes},
    load::numbered,
    member::journaled,
    own_kafka_or_skip,
    protocol::Protocol,
    scene::{DEADLINE, SESSION_MS},
    wait::{wait_for, wait_until},
};

use super::super::metrics;

/// Of records with these numbers each has a key of its own.
const KEYS: usize = 10_000;
/// Those that both replicas had, those that are lost, and those that are written in their place,
/// and beyond.
const KEPT: Range<usize> = 0..100;
const LOST: Range<usize> = 100..200;
const ANEW: Range<usize> = 1_000..1_150;
/// The one that is not settled where the commit has a map.
const STUCK: usize = 50;

/// A group that has read the old log.
struct Reader {
    protocol: Protocol,
    group: String,
    /// Of the record [`STUCK`].
    gate: Gate,
    journal: Journal,
}

impl Reader {
    fn new(kafka: &Kafka, protocol: Protocol, is_stuck: bool) -> Self {
        let gate = Gate::closed();
        if !is_stuck {
            gate.open();
        }
        Self {
            protocol,
            group: kafka.unique("group"),
            gate,
            journal: Journal::new(),
        }
    }

    async fn start(&self, kafka: &Kafka, topic: &str, member: &str) -> Subscription {
        let gate = self.gate.clone();
        let processor = journaled(&self.journal, member, move |task: Task<Bytes>| {
            let gate = (task.payload() == STUCK.to_string().as_bytes()).then(|| gate.clone());
            async move {
                if let Some(gate) = gate {
                    gate.passed().await;
                }
                Ok(())
            }
        });
        let builder = self
            .protocol
            .subscribe(kafka, &self.group, topic, SESSION_MS);
        builder
            .shutdown_timeout(Duration::from_secs(1))
            .start(Raw, processor)
            .await
            .unwrap()
    }

    /// The numbers of what `member` has processed.
    fn done(&self, member: &str) -> BTreeSet<usize> {
        let entries = self.journal.entries();
        let done = entries.iter().filter_map(|entry| match entry {
            Entry::Ended(work, _, Outcome::Done) if work.member == member => Some(&work.id),
            _ => None,
        });
        done.map(|id| id.rsplit('/').next().unwrap().parse().unwrap())
            .collect()
    }

    async fn is_committed(&self, kafka: &Kafka, topic: &str, position: i64) {
        wait_for("the position is committed", DEADLINE, async || {
            let committed = kafka.committed(&self.group, topic).await.ok()?;
            (committed.first()?.offset == Some(position)).then_some(())
        })
        .await;
    }

    fn cuts(&self) -> f64 {
        metrics::value("keylane_log_cuts_total", &self.group).unwrap_or(0.0)
    }
}

/// librdkafka #5158, zio-kafka #1760: an unclean election. Position 200 committed with nothing
/// pending: 100 of 150 new records were passed over. Position 50 with a map over 51 to 199: 85 of
/// 150 were taken for settled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_was_cut_while_no_member_ran_is_read_on_from_the_cut() {
    metrics::record();
    let kafka = own_kafka_or_skip!(Nodes::Three);
    let topic = kafka.unique("cut");
    let unclean = [
        ("unclean.leader.election.enable", "true"),
        ("min.insync.replicas", "1"),
    ];
    kafka.create_topic(&topic, 1, 2, &unclean).await.unwrap();
    kafka.produce(&topic, numbered(KEPT, KEYS)).await.unwrap();
    let state = kafka.partitions(&topic).await.unwrap().remove(0);
    let leader = state.leader.unwrap();
    let follower = state
        .replicas
        .into_iter()
        .find(|replica| *replica != leader)
        .unwrap();
    kafka
        .stop_node(kafka.node_of(follower).unwrap())
        .await
        .unwrap();
    kafka.produce(&topic, numbered(LOST, KEYS)).await.unwrap();

    let mut readers = Vec::new();
    for protocol in Protocol::spoken([Protocol::Cooperative, Protocol::Consumer]) {
        for is_stuck in [false, true] {
            let reader = Reader::new(&kafka, protocol, is_stuck);
            let member = reader.start(&kafka, &topic, "a").await;
            readers.push((reader, is_stuck, member));
        }
    }
    let mut ended = Vec::new();
    for (reader, is_stuck, member) in readers {
        let expected = LOST.end - usize::from(is_stuck);
        wait_until("the old log is processed", DEADLINE, || {
            reader.done("a").len() == expected
        })
        .await;
        // Where a record is stuck the drain takes its time, and its attempt is dropped.
        let _ = member.shutdown().await;
        let position = if is_stuck {
            STUCK as i64
        } else {
            LOST.end as i64
        };
        reader.is_committed(&kafka, &topic, position).await;
        reader.gate.open();
        ended.push((reader, is_stuck));
    }

    kafka
        .kill_node(kafka.node_of(leader).unwrap())
        .await
        .unwrap();
    kafka
        .start_node(kafka.node_of(follower).unwrap())
        .await
        .unwrap();
    wait_for("the other replica leads", DEADLINE, async || {
        let state = kafka.partitions(&topic).await.ok()?;
        (state.first()?.leader == Some(follower)).then_some(())
    })
    .await;
    assert_eq!(
        kafka.end_offsets(&topic).await.unwrap(),
        [KEPT.end as i64],
        "the log was cut"
    );
    kafka.produce(&topic, numbered(ANEW, KEYS)).await.unwrap();

    let mut again = Vec::new();
    for (reader, is_stuck) in ended {
        let member = reader.start(&kafka, &topic, "b").await;
        again.push((reader, is_stuck, member));
    }
    for (reader, is_stuck, member) in again {
        let expected: BTreeSet<usize> = ANEW.chain(is_stuck.then_some(STUCK)).collect();
        let all_done = || reader.done("b").len() >= expected.len();
        wait_until("all that was written anew is processed", DEADLINE, all_done).await;
        reader
            .is_committed(&kafka, &topic, (KEPT.end + ANEW.len()) as i64)
            .await;
        member.shutdown().await.unwrap();
        let (protocol, cuts) = (reader.protocol, reader.cuts());
        assert_eq!(
            reader.done("b"),
            expected,
            "{protocol:?}, stuck: {is_stuck}: and nothing else"
        );
        assert!(
            (cuts - 1.0).abs() < f64::EPSILON,
            "{protocol:?}, stuck: {is_stuck}: {cuts} cuts"
        );
    }
}
