//! A topic that is deleted and re-created is another topic: no position of the old one may pass
//! over its records (G1).

use std::{
    collections::BTreeSet,
    ops::{Deref, Range},
    time::Duration,
};

use keylane::Subscription;
use keylane::error::SubscriptionError;
use keylane::status::State;
use keylane::subscription::SubscriptionBuilder;
use keylane_core::{Position, commit_map};
use keylane_integration_tests::{
    for_protocols,
    kafka::{Committed, Kafka, Nodes},
    kafka_or_skip,
    load::numbered,
    protocol::Protocol,
    scene::{DEADLINE, Scene, reach},
    wait::{wait_for, wait_until},
};

const PARTITIONS: i32 = 2;
/// The old topic's records have lower numbers, the new one's these: more than the old one had, so
/// that its positions are in range.
const NEW: Range<usize> = 10_000..11_000;

/// A group that reads a topic which is re-created.
struct Reread {
    scene: Scene<'static>,
    builder: SubscriptionBuilder,
}

impl Deref for Reread {
    type Target = Scene<'static>;

    fn deref(&self) -> &Self::Target {
        &self.scene
    }
}

impl Reread {
    async fn new(kafka: &'static Kafka, protocol: Protocol) -> Self {
        let scene = Scene::new(kafka, PARTITIONS).await.by(protocol);
        let builder = scene.subscribe();
        Self { scene, builder }
    }

    async fn start(&self, member: &str) -> Subscription {
        self.worker(self.builder.clone(), member, Duration::from_millis(5))
            .await
    }

    /// A member, `a`, that has processed the old topic.
    async fn read_the_old_one(&self) -> Subscription {
        let member = self.start("a").await;
        self.write(numbered(0..200, 20)).await;
        self.done(200).await;
        member
    }

    async fn make_anew(&self) {
        self.kafka.delete_topic(&self.topic).await.unwrap();
        self.kafka
            .create_topic(&self.topic, PARTITIONS, 1, &[])
            .await
            .unwrap();
        self.write(numbered(NEW, 20)).await;
    }

    /// How many of the records with these numbers were processed, by `member`.
    fn done_of(&self, numbers: &Range<usize>, member: &str) -> usize {
        let done = self.numbers_done_by(member);
        done.iter()
            .filter(|number| numbers.contains(number))
            .count()
    }

    async fn the_new_one_is_done(&self, member: &str) {
        wait_until("all of the new topic is processed", DEADLINE, || {
            self.done_of(&NEW, member) == NEW.len()
        })
        .await;
    }

    /// Waits until the group's commits stand at the end of the topic and name none of the `old`
    /// logs, and returns them.
    async fn committed_to_the_end(&self, old: &Logs) -> Vec<Committed> {
        let ends = self.kafka.end_offsets(&self.topic).await.unwrap();
        wait_for("everything is committed", DEADLINE, async || {
            let committed = self.committed().await;
            let is_new = logs(&committed).is_disjoint(old);
            (is_new && reach(&committed, &ends)).then_some(committed)
        })
        .await
    }

    /// Everything is committed, none of it in the name of an `old` log, and the next run goes on
    /// from there.
    async fn ends(&self, last: Subscription, old: &Logs) {
        self.committed_to_the_end(old).await;
        last.shutdown().await.unwrap();
        self.goes_on().await;
    }

    /// Another run goes on where the last one ended: its commits are about the new topic.
    async fn goes_on(&self) {
        let later = NEW.end..NEW.end + 100;
        let last = self.start("last").await;
        self.write(numbered(later.clone(), 20)).await;
        wait_until("later records are processed", DEADLINE, || {
            self.done_of(&later, "last") == 100
        })
        .await;
        last.shutdown().await.unwrap();
        assert_eq!(
            self.done_of(&NEW, "last"),
            0,
            "records were read a second time"
        );
    }
}

/// Names of logs, as bytes.
type Logs = BTreeSet<[u8; 8]>;

/// The logs that commits name; the first ones may not, where the brokers were slow to answer with
/// the topic's id.
fn logs(committed: &[Committed]) -> Logs {
    let log = |committed: &Committed| {
        let position = Position::new(committed.offset?);
        Some(
            commit_map::decode(position, &committed.metadata)
                .unwrap()
                .log?
                .to_bytes(),
        )
    };
    committed.iter().filter_map(log).collect()
}

async fn in_the_middle_of_work(protocol: Protocol) {
    let mut scene = Reread::new(kafka_or_skip!(Nodes::One), protocol).await;
    // Commits all the time: one is likely to arrive after the deletion, and to be taken for the new
    // topic.
    scene.builder = scene.builder.commit_interval(Duration::from_millis(20));
    let member = scene.start("a").await;
    scene.write(numbered(0..3_000, 20)).await;
    scene.done(300).await;
    let old = wait_for("a commit names the topic", DEADLINE, async || {
        let old = logs(&scene.committed().await);
        (!old.is_empty()).then_some(old)
    })
    .await;
    scene.make_anew().await;
    scene.the_new_one_is_done("a").await;
    assert_eq!(member.state(), State::Running);
    scene.ends(member, &old).await;
}

for_protocols! { in_the_middle_of_work:
    a_topic_made_anew_in_the_middle_of_work_is_read_from_its_beginning_classic: Cooperative,
    a_topic_made_anew_in_the_middle_of_work_is_read_from_its_beginning_eager: Range,
    a_topic_made_anew_in_the_middle_of_work_is_read_from_its_beginning_consumer: Consumer,
}

/// A member that does not fetch does not notice it: its position in the old topic is in range in
/// the new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_made_anew_while_fetching_is_paused_is_read_from_its_beginning() {
    let scene = Reread::new(kafka_or_skip!(Nodes::One), Protocol::Cooperative).await;
    let member = scene.read_the_old_one().await;
    let old = logs(&scene.committed_to_the_end(&Logs::new()).await);
    member.handle().pause();
    wait_until("the member is paused", DEADLINE, || {
        member.state() == State::Paused
    })
    .await;
    scene.make_anew().await;
    member.handle().resume();
    scene.the_new_one_is_done("a").await;
    scene.ends(member, &old).await;
}

/// The member that saw the deletion stops before it can know, and hands its position on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_starts_after_the_deletion_reads_the_new_topic_from_its_beginning() {
    let scene = Reread::new(kafka_or_skip!(Nodes::One), Protocol::Cooperative).await;
    let member = scene.read_the_old_one().await;
    let old = logs(&scene.committed_to_the_end(&Logs::new()).await);
    scene.make_anew().await;
    member.shutdown().await.unwrap();
    let second = scene.start("b").await;
    scene.the_new_one_is_done("").await;
    scene.ends(second, &old).await;
}

/// Deletes and re-creates the topic of a group without members, and leaves it the commits of the
/// old one, as a commit under way during the deletion does. Returns them.
async fn left_over_commits(scene: &Reread) -> Vec<Committed> {
    scene.read_the_old_one().await.shutdown().await.unwrap();
    let old = scene.committed_to_the_end(&Logs::new()).await;
    scene.make_anew().await;
    // The brokers take their time to forget the old topic's commits, and must not take these for
    // them.
    wait_for("the commits went with the topic", DEADLINE, async || {
        scene
            .committed()
            .await
            .iter()
            .all(|committed| committed.offset.is_none())
            .then_some(())
    })
    .await;
    for Committed {
        partition,
        offset,
        metadata,
    } in &old
    {
        let Scene { group, topic, .. } = &scene.scene;
        let commit =
            scene
                .kafka
                .commit_from_outside(group, topic, *partition, offset.unwrap(), metadata);
        commit.await.unwrap();
    }
    assert_eq!(scene.committed().await, old);
    old
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_names_another_log_is_left() {
    let scene = Reread::new(kafka_or_skip!(Nodes::One), Protocol::Cooperative).await;
    let old = left_over_commits(&scene).await;
    let second = scene.start("b").await;
    scene.the_new_one_is_done("b").await;
    let new = scene.committed_to_the_end(&logs(&old)).await;
    assert_eq!(logs(&new).len(), 1, "{new:?}");
    second.shutdown().await.unwrap();
    assert_eq!(
        scene.started(|_| true).len(),
        200 + NEW.len(),
        "each record once: the new epoch began before anything was read"
    );
    scene.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_reset_error_a_commit_that_names_another_log_ends_the_subscription() {
    let mut scene = Reread::new(kafka_or_skip!(Nodes::One), Protocol::Cooperative).await;
    let old = left_over_commits(&scene).await;
    scene.builder = scene.builder.kafka("auto.offset.reset", "error");
    let strict = scene.start("b").await;
    let ended = tokio::time::timeout(DEADLINE, strict.run())
        .await
        .expect("the subscription goes on");
    assert!(
        matches!(&ended, Err(SubscriptionError::OffsetReset(why)) if why.contains(&scene.topic) && why.contains("re-created")),
        "{ended:?}"
    );
    assert_eq!(scene.done_of(&NEW, "b"), 0);
    assert_eq!(scene.committed().await, old);
}

/// librdkafka#4362: deleted while the start of its partitions is being looked up, which an idle
/// topic's are half a second after the assignment. The client went on with those that the new topic
/// does not have, and did not close.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_made_anew_with_fewer_partitions_keeps_no_shutdown_waiting() {
    let kafka = kafka_or_skip!(Nodes::One);
    let scene = Scene::new(kafka, 2).await;
    let (stays, shrinks) = (&scene.topic, scene.another("shrinks", 6).await);
    let builder = scene.subscribe().topic(&shrinks);
    let builder = builder.kafka("topic.metadata.refresh.interval.ms", "1000");
    let member = scene.start(builder, "a", |_| async { Ok(()) }).await;
    let of = |topic: &str| {
        member
            .status()
            .partitions
            .iter()
            .filter(|partition| &*partition.topic == topic)
            .count()
    };
    wait_until("it is assigned", DEADLINE, || {
        of(stays) == 2 && of(&shrinks) == 6
    })
    .await;
    kafka.delete_topic(&shrinks).await.unwrap();
    wait_until("the topic's partitions are given back", DEADLINE, || {
        of(&shrinks) == 0
    })
    .await;
    kafka.create_topic(&shrinks, 1, 1, &[]).await.unwrap();
    kafka.produce(&shrinks, numbered(0..10, 20)).await.unwrap();
    scene.done(10).await;
    member.shutdown().await.unwrap();
}
