//! What a start does with the evidence that it finds, without any process being killed for it: the
//! evidence is committed from outside.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use keylane::config::Exhausted;
use keylane::error::SubscriptionError;
use keylane::subscription::SubscriptionBuilder;
use keylane::{
    DeadLetter, Raw, Retry, Subscription, Task, TaskError,
    metrics::{PrometheusEndpoint, serve_prometheus},
};
use keylane_core::{
    Evidence, Instance, MAX_METADATA_BYTES, Named, Offset, Position, Suspect, commit_map,
};
use keylane_integration_tests::{
    kafka::{self, Extras, Kafka, NewRecord, Nodes, StoredRecord},
    kafka_or_skip,
    wait::wait_for,
};

use super::suite::{DEADLINE, evidence, record};

/// A topic, its dead letters, and a group that has left evidence.
struct Scene<'a> {
    kafka: &'a Kafka,
    topic: String,
    group: String,
}

impl<'a> Scene<'a> {
    async fn new(kafka: &'a Kafka, name: &str, records: Vec<NewRecord>) -> Self {
        let partitions = records
            .iter()
            .filter_map(|record| record.partition)
            .max()
            .unwrap()
            + 1;
        let topic = kafka.unique(name);
        for topic in [&topic, &format!("{topic}-dead")] {
            kafka.create_topic(topic, partitions, 1, &[]).await.unwrap();
        }
        kafka.produce(&topic, records).await.unwrap();
        Self {
            kafka,
            group: topic.clone(),
            topic,
        }
    }

    /// At the beginning of partition 0: a process ended while it ran records there; `named` was
    /// named then, and at so many crashes before.
    async fn crashed(&self, unclean_starts: u32, named: Option<(i64, u32)>) {
        let suspects = named.filter(|&(_, crashes)| crashes > 0);
        let evidence = Evidence {
            running: Some(Instance::new(7)),
            named: named.map_or(Named::Nobody, |(offset, _)| {
                Named::Alone(Offset::new(offset))
            }),
            unclean_starts,
            suspects: suspects
                .map(|(offset, crashes)| Suspect {
                    offset: Offset::new(offset),
                    crashes,
                    survived: false,
                })
                .into_iter()
                .collect(),
        };
        let metadata = commit_map::encode(Position::new(0), [], &evidence, MAX_METADATA_BYTES).text;
        self.kafka
            .commit_from_outside(&self.group, &self.topic, 0, 0, &metadata)
            .await
            .unwrap();
    }

    fn subscribe(&self) -> SubscriptionBuilder {
        Subscription::builder(&self.group, &self.topic)
            .bootstrap_servers(self.kafka.bootstrap_servers())
            .dead_letter(DeadLetter::topic(format!("{}-dead", self.topic)))
            .concurrency(8)
            .commit_interval(Duration::from_millis(200))
            .kafka("auto.offset.reset", "earliest")
    }

    async fn dead(&self) -> Vec<StoredRecord> {
        let dead = format!("{}-dead", self.topic);
        wait_for("the dead letters are read", DEADLINE, async || {
            self.kafka.read_all(&dead).await.ok()
        })
        .await
    }

    /// The crashes are explained, and all that was in the log at the start is seen not to kill.
    async fn calm(&self) {
        wait_for("it is back to normal", DEADLINE, async || {
            (self.evidence().await.unclean_starts == 0).then_some(())
        })
        .await;
    }

    async fn evidence(&self) -> Evidence {
        let committed = async || self.kafka.committed(&self.group, &self.topic).await.ok();
        evidence(&wait_for("the coordinator answers", DEADLINE, committed).await[0]).unwrap()
    }

    /// The value of the series of this topic with that name and label.
    fn metric(&self, name: &str, label: &str) -> Option<f64> {
        let of = |line: &&str| {
            line.starts_with(name) && line.contains(&self.topic) && line.contains(label)
        };
        let text = recorder().handle().render();
        text.lines()
            .find(of)
            .map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
    }
}

fn recorder() -> &'static PrometheusEndpoint {
    static RECORDER: OnceLock<PrometheusEndpoint> = OnceLock::new();
    RECORDER.get_or_init(|| serve_prometheus(0).unwrap())
}

/// The offsets that were started.
type Ran = Arc<Mutex<BTreeSet<i64>>>;

fn noting(
    ran: &Ran,
) -> impl Fn(Task<Bytes>) -> std::future::Ready<Result<(), TaskError>> + Send + Sync + 'static {
    let ran = ran.clone();
    move |task| {
        ran.lock().unwrap().insert(task.offset());
        std::future::ready(Ok(()))
    }
}

/// Five records in partition 0, and the second is poison by its second crash; the fourth has its
/// key.
async fn condemned<'a>(kafka: &'a Kafka, name: &str) -> Scene<'a> {
    let keys = ["a", "poison", "b", "poison", "c"];
    let of = |(id, key): (usize, &&str)| record(0, key, format!("value-{id}"));
    let mut records: Vec<_> = keys.iter().enumerate().map(of).collect();
    records[1].headers = vec![("trace".to_owned(), Some(b"7".to_vec()))];
    let scene = Scene::new(kafka, name, records).await;
    scene.crashed(2, Some((1, 1))).await;
    scene
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poison_record_is_told_of_in_the_headers_of_its_dead_letter_and_in_the_metrics() {
    recorder();
    let scene = condemned(
        kafka_or_skip!(Nodes::One, Extras::quick_sessions()),
        "condemned",
    )
    .await;
    let ran = Ran::default();
    let member = scene.subscribe().start(Raw, noting(&ran)).await.unwrap();
    let dead = wait_for("all but the poison is done", DEADLINE, async || {
        let dead = scene.dead().await;
        (ran.lock().unwrap().len() == 4 && !dead.is_empty()).then_some(dead)
    })
    .await;
    assert_eq!(
        *ran.lock().unwrap(),
        BTreeSet::from([0, 2, 3, 4]),
        "it does not run again, and is not in the way"
    );
    let [poison] = &dead[..] else {
        panic!("{dead:?}")
    };
    let written = &scene.kafka.read_all(&scene.topic).await.unwrap()[1];
    assert_eq!((&poison.key, &poison.value), (&written.key, &written.value));
    let own_time = written.timestamp_millis.unwrap().to_string();
    assert_eq!(poison.header("keylane-origin-timestamp"), Some(&*own_time));
    assert_eq!(poison.headers[0], written.headers[0]);
    let header = |name: &str| {
        poison
            .header(name)
            .unwrap_or_else(|| panic!("no {name} in {poison:?}"))
    };
    assert_eq!(header("keylane-origin-topic"), scene.topic);
    assert_eq!(
        (
            header("keylane-origin-partition"),
            header("keylane-origin-offset")
        ),
        ("0", "1")
    );
    assert_eq!(
        (header("keylane-group"), header("keylane-attempts")),
        (&*scene.group, "2")
    );
    assert_eq!(header("keylane-reason"), "poison");
    assert_eq!(
        header("keylane-error"),
        "poison: the process ended 2 times while this record was being processed"
    );
    // When the crashes were is not known.
    assert_eq!(
        header("keylane-first-failure"),
        header("keylane-last-failure")
    );
    wait_for("the metrics show it", DEADLINE, async || {
        let seen = [
            scene.metric("keylane_poison_suspicions_total", "partition=\"0\""),
            scene.metric("keylane_dead_letters_total", "reason=\"poison\""),
        ];
        (seen == [Some(1.0); 2]).then_some(())
    })
    .await;
    scene.calm().await;
    member.shutdown().await.unwrap();
    assert_eq!(scene.evidence().await, Evidence::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_the_policy_to_stop_a_poison_record_ends_the_subscription_and_is_named() {
    let scene = condemned(kafka_or_skip!(Nodes::One, Extras::quick_sessions()), "stop").await;
    let ran = Ran::default();
    let member = scene
        .subscribe()
        .retry(Retry::in_place(1).exhausted(Exhausted::Stop));
    let member = member.start(Raw, noting(&ran)).await.unwrap();
    let error = tokio::time::timeout(DEADLINE, member.run())
        .await
        .unwrap()
        .unwrap_err();
    let SubscriptionError::RetriesExhausted {
        topic,
        partition,
        offset,
        reason,
    } = error
    else {
        panic!("{error}")
    };
    assert_eq!(
        (topic, partition, offset, reason),
        (scene.topic.clone(), 0, 1, "poison")
    );
    assert!(!ran.lock().unwrap().contains(&1) && scene.dead().await.is_empty());
    let (found, _) = scene.evidence().await.at_start(Instance::new(8));
    assert!(found.is_poison(Offset::new(1)), "the next start stops too");
}

/// The coordinator is away at the very moment when marks have to be committed, and no broker can
/// take its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_coordinator_a_healthy_partition_starts_after_a_while_and_a_suspicious_one_when_it_is_back()
 {
    let Some(kafka) = kafka::own(Nodes::Three) else {
        return;
    };
    for _ in 0..5 {
        if one_starts_and_one_waits(&kafka).await {
            return;
        }
    }
    panic!("each time a record ran before its member could be paused");
}

/// `false` where a record ran before the pause was in force.
async fn one_starts_and_one_waits(kafka: &Kafka) -> bool {
    let alone = |value: &str| vec![record(0, "k", value.to_owned())];
    let mut healthy = Scene::new(kafka, "healthy", alone("healthy")).await;
    let leader = leader_of(kafka, &healthy.topic, 0).await;
    let mut suspicious = loop {
        let scene = Scene::new(kafka, "suspicious", alone("suspicious")).await;
        if leader_of(kafka, &scene.topic, 0).await == leader {
            break scene;
        }
    };
    for scene in [&mut healthy, &mut suspicious] {
        scene.group = group_not_coordinated_by(kafka, leader).await;
    }
    suspicious.crashed(1, None).await;
    let (ran_healthy, ran_suspicious) = (Ran::default(), Ran::default());
    let mut members = Vec::new();
    for (scene, ran) in [(&healthy, &ran_healthy), (&suspicious, &ran_suspicious)] {
        let member = scene.subscribe().start(Raw, noting(ran)).await.unwrap();
        member.handle().pause();
        members.push(member);
    }
    for member in &members {
        let is_paused = async || {
            member
                .status()
                .partitions
                .first()?
                .paused_by_user
                .then_some(())
        };
        wait_for("the partition is assigned and paused", DEADLINE, is_paused).await;
    }
    let has_run = |ran: &Ran| !ran.lock().unwrap().is_empty();
    if has_run(&ran_healthy) || has_run(&ran_suspicious) {
        for member in members {
            member.shutdown().await.unwrap();
        }
        return false;
    }
    let others: Vec<_> = (0..3)
        .filter(|&node| Some(node) != kafka.node_of(leader))
        .collect();
    for &node in &others {
        kafka.suspend_node(node).await.unwrap();
    }
    members.iter().for_each(|member| member.handle().resume());
    wait_for(
        "the healthy one goes on without a mark",
        DEADLINE,
        async || has_run(&ran_healthy).then_some(()),
    )
    .await;
    assert!(
        !has_run(&ran_suspicious),
        "the broker cannot know what runs"
    );
    for &node in &others {
        kafka.continue_node(node).await.unwrap();
    }
    wait_for("the suspicious one goes on", DEADLINE, async || {
        has_run(&ran_suspicious).then_some(())
    })
    .await;
    // A coordinator that is not back yet would miss the last commit of a shutdown, which waits for
    // seconds only.
    for (scene, member) in [&healthy, &suspicious].into_iter().zip(&members) {
        let is_committed = async || {
            let committed = kafka.committed(&scene.group, &scene.topic).await.ok()?;
            (committed[0].offset == Some(1) && member.status().trouble.is_none()).then_some(())
        };
        wait_for(
            "the coordinator takes commits again",
            DEADLINE,
            is_committed,
        )
        .await;
    }
    for member in members {
        member.shutdown().await.unwrap();
    }
    for scene in [&healthy, &suspicious] {
        let committed = kafka
            .committed(&scene.group, &scene.topic)
            .await
            .unwrap()
            .remove(0);
        assert_eq!(
            (committed.offset, evidence(&committed)),
            (Some(1), Some(Evidence::default()))
        );
    }
    true
}

async fn leader_of(kafka: &Kafka, topic: &str, partition: usize) -> i32 {
    kafka.partitions(topic).await.unwrap()[partition]
        .leader
        .unwrap()
}

/// A group's coordinator leads the partition of the offsets topic that its name's hash chooses.
async fn group_not_coordinated_by(kafka: &Kafka, broker: i32) -> String {
    loop {
        let group = kafka.unique("group");
        // The first commit makes the topic where there is none.
        kafka.committed(&group, "__consumer_offsets").await.ok();
        let hash = group.bytes().fold(0_i32, |hash, byte| {
            hash.wrapping_mul(31).wrapping_add(i32::from(byte))
        });
        let partitions = kafka
            .partitions("__consumer_offsets")
            .await
            .unwrap_or_default();
        let chosen = usize::try_from(hash & i32::MAX)
            .unwrap()
            .checked_rem(partitions.len());
        if chosen.is_some_and(|chosen| {
            partitions[chosen]
                .leader
                .is_some_and(|leader| leader != broker)
        }) {
            return group;
        }
    }
}
