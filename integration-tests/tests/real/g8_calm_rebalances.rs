//! G8, calm rebalances: what is given up is drained, a drained hand-over repeats nothing, and
//! nobody can hold up the group.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use keylane::{Raw, Subscription, SubscriptionBuilder};
use keylane_integration_tests::{
    journal::{Entry, Expect, Journal, Outcome, Produced},
    kafka::{Kafka, Nodes},
    kafka_or_skip,
    load::{Load, numbered},
    member::{journaled, spread},
    protocol::Protocol,
    wait::wait_until,
};

const DEADLINE: Duration = Duration::from_secs(90);
/// Long: no member of an orderly test may fall out of the group because the machine is busy.
const SESSION_MS: u32 = 30_000;
const PARTITIONS: i32 = 8;

struct Fixture {
    kafka: &'static Kafka,
    protocol: Protocol,
    topic: String,
    group: String,
    journal: Journal,
}

impl Fixture {
    async fn new(kafka: &'static Kafka, protocol: Protocol, partitions: i32) -> Self {
        let (topic, group) = (kafka.unique("g8"), kafka.unique("group"));
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

    /// A member that works for 0-10 ms on each record.
    async fn member(&self, name: &str) -> Subscription {
        self.start(self.builder(), name).await
    }

    async fn start(&self, builder: SubscriptionBuilder, name: &str) -> Subscription {
        let work = journaled(&self.journal, name, |task| async move {
            tokio::time::sleep(spread(&task, Duration::from_millis(10))).await;
            Ok(())
        });
        builder.start(Raw, work).await.unwrap()
    }

    async fn works(&self, name: &str) {
        let count = || {
            self.journal
                .entries()
                .iter()
                .filter(|entry| is_end_of(entry, name))
                .count()
        };
        let before = count();
        wait_until(&format!("{name} works"), DEADLINE, || count() > before + 20).await;
    }

    async fn all_done(&self) -> Vec<Produced> {
        let produced = self.kafka.produced(&self.topic).await.unwrap();
        wait_until("all are processed", DEADLINE, || {
            self.journal.done() >= produced.len()
        })
        .await;
        produced
    }

    /// After all members have left: everything is committed.
    async fn assert_committed(&self, topic: &str) {
        let ends = self.kafka.end_offsets(topic).await.unwrap();
        let committed = self.kafka.committed(&self.group, topic).await.unwrap();
        for (committed, end) in committed.iter().zip(ends) {
            assert!(
                committed.offset == Some(end) || end == 0,
                "{committed:?}, the log ends at {end}"
            );
        }
    }
}

fn is_end_of(entry: &Entry, member: &str) -> bool {
    matches!(entry, Entry::Ended(work, ..) if work.member == member)
}

async fn rolling_restart(protocol: Protocol) {
    let kafka = kafka_or_skip!(Nodes::One);
    let fixture = Fixture::new(kafka, protocol, PARTITIONS).await;
    let load = Load::start(kafka, &fixture.topic, 200, 0);
    let mut members = BTreeMap::new();
    for name in ["a0", "b0", "c0"] {
        members.insert(name.to_owned(), fixture.member(name).await);
    }
    for name in ["a0", "b0", "c0"] {
        fixture.works(name).await;
    }
    for (old, new) in [("a0", "a1"), ("b0", "b1"), ("c0", "c1")] {
        members.remove(old).unwrap().shutdown().await.unwrap();
        members.insert(new.to_owned(), fixture.member(new).await);
        fixture.works(new).await;
    }
    load.stop().await;
    let produced = fixture.all_done().await;
    for (_, member) in members {
        member.shutdown().await.unwrap();
    }
    fixture
        .journal
        .check(&produced, Expect::Drained)
        .assert_clean();
    fixture.assert_committed(&fixture.topic).await;
}

async fn scaling(protocol: Protocol) {
    let kafka = kafka_or_skip!(Nodes::One);
    let fixture = Fixture::new(kafka, protocol, PARTITIONS).await;
    let load = Load::start(kafka, &fixture.topic, 200, 0);
    let (a, b, c) = tokio::join!(
        fixture.member("a"),
        fixture.member("b"),
        fixture.member("c")
    );
    for name in ["a", "b", "c"] {
        fixture.works(name).await;
    }
    // Down to one, both at once, and up again, both at once.
    let (left, leaving) = tokio::join!(b.shutdown(), c.shutdown());
    left.unwrap();
    leaving.unwrap();
    fixture.works("a").await;
    let (d, e) = tokio::join!(fixture.member("d"), fixture.member("e"));
    for name in ["d", "e", "a"] {
        fixture.works(name).await;
    }
    load.stop().await;
    let produced = fixture.all_done().await;
    for member in [a, d, e] {
        member.shutdown().await.unwrap();
    }
    fixture
        .journal
        .check(&produced, Expect::Drained)
        .assert_clean();
    fixture.assert_committed(&fixture.topic).await;
}

/// Joins and leaves in quick succession: rebalances that begin while another one is under way.
async fn flapping(protocol: Protocol) {
    let kafka = kafka_or_skip!(Nodes::One);
    let fixture = Fixture::new(kafka, protocol, PARTITIONS).await;
    let load = Load::start(kafka, &fixture.topic, 200, 0);
    let first = fixture.member("a").await;
    fixture.works("a").await;
    for round in 0..4 {
        let name = format!("b{round}");
        let member = fixture.member(&name).await;
        let joined = || !member.status().partitions.is_empty() || round % 2 == 1;
        wait_until("the member has its share", DEADLINE, joined).await;
        member.shutdown().await.unwrap();
    }
    fixture.works("a").await;
    load.stop().await;
    let produced = fixture.all_done().await;
    first.shutdown().await.unwrap();
    fixture
        .journal
        .check(&produced, Expect::Drained)
        .assert_clean();
    fixture.assert_committed(&fixture.topic).await;
}

/// How a processor does not come back.
#[derive(Clone, Copy, PartialEq)]
enum Hang {
    Pending,
    BlocksItsThread,
}

/// Opens when the test ends, however it ends: a blocked thread would keep its runtime from ending.
struct Gate(Arc<AtomicBool>);

impl Drop for Gate {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

async fn hand_over_beside_a_processor_that_never_returns(protocol: Protocol, hang: Hang) {
    let kafka = kafka_or_skip!(Nodes::One);
    let fixture = Fixture::new(kafka, protocol, 4).await;
    // The first record of each partition hangs on the first member, the others do not.
    kafka
        .produce(&fixture.topic, numbered(0..400, 40))
        .await
        .unwrap();
    let gate = Gate(Arc::new(AtomicBool::new(false)));
    let open = gate.0.clone();
    let hanging = journaled(&fixture.journal, "a", move |task| {
        let open = open.clone();
        async move {
            if task.offset() == 0 && hang == Hang::Pending {
                std::future::pending::<()>().await;
            }
            while task.offset() == 0 && !open.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(())
        }
    });
    // Its own threads, enough for four that are blocked.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(6)
        .enable_all()
        .build()
        .unwrap();
    let builder = fixture.builder().drain_timeout(Duration::from_secs(1));
    let first = runtime
        .spawn(builder.start(Raw, hanging))
        .await
        .unwrap()
        .unwrap();
    let hanging_now = || {
        let entries = fixture.journal.entries();
        entries
            .iter()
            .filter(|entry| matches!(entry, Entry::Started(work) if work.offset == 0))
            .count()
            == 4
    };
    wait_until("a record of each partition hangs", DEADLINE, hanging_now).await;
    if hang == Hang::Pending {
        wait_until("the others go on", DEADLINE, || {
            fixture.journal.done() >= 300
        })
        .await;
    }

    let second = fixture.start(fixture.builder(), "b").await;
    let handed_over = || {
        let entries = fixture.journal.entries();
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
    let produced = fixture.all_done().await;
    second.shutdown().await.unwrap();
    fixture.assert_committed(&fixture.topic).await;

    let entries = fixture.journal.entries();
    let report = fixture.journal.check(&produced, Expect::Crashes);
    report.assert_nothing_lost();
    assert!(report.duplicates.is_empty(), "{report}");
    // Only what hung was attempted twice.
    let mut attempts: BTreeMap<(i32, i64), usize> = BTreeMap::new();
    for entry in &entries {
        if let Entry::Started(work) = entry {
            *attempts.entry((work.partition, work.offset)).or_default() += 1;
        }
    }
    let repeated: Vec<_> = attempts
        .into_iter()
        .filter(|(_, count)| *count > 1)
        .map(|(place, _)| place)
        .collect();
    assert_eq!(repeated, [(0, 0), (1, 0), (2, 0), (3, 0)]);
    drop(gate);
    tokio::task::spawn_blocking(move || drop(runtime))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_three_members_repeats_nothing_cooperative() {
    rolling_restart(Protocol::Cooperative).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_three_members_repeats_nothing_range() {
    rolling_restart(Protocol::Range).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_three_members_repeats_nothing_consumer() {
    rolling_restart(Protocol::Consumer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scaling_to_one_and_back_to_three_under_load_repeats_nothing_cooperative() {
    scaling(Protocol::Cooperative).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scaling_to_one_and_back_to_three_under_load_repeats_nothing_range() {
    scaling(Protocol::Range).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scaling_to_one_and_back_to_three_under_load_repeats_nothing_consumer() {
    scaling(Protocol::Consumer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_comes_and_goes_in_quick_succession_repeats_nothing_cooperative() {
    flapping(Protocol::Cooperative).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_comes_and_goes_in_quick_succession_repeats_nothing_consumer() {
    flapping(Protocol::Consumer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_processor_that_never_returns_does_not_hold_up_a_rebalance_cooperative() {
    hand_over_beside_a_processor_that_never_returns(Protocol::Cooperative, Hang::Pending).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_processor_that_never_returns_does_not_hold_up_a_rebalance_consumer() {
    hand_over_beside_a_processor_that_never_returns(Protocol::Consumer, Hang::Pending).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_processor_that_blocks_its_thread_does_not_hold_up_a_rebalance_cooperative() {
    hand_over_beside_a_processor_that_never_returns(Protocol::Cooperative, Hang::BlocksItsThread)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_processor_that_blocks_its_thread_does_not_hold_up_a_rebalance_consumer() {
    hand_over_beside_a_processor_that_never_returns(Protocol::Consumer, Hang::BlocksItsThread)
        .await;
}

/// Two origin topics in one subscription, a member that joins and one that leaves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_joins_and_one_that_leaves_repeat_nothing_of_several_topics() {
    let kafka = kafka_or_skip!(Nodes::One);
    for protocol in [Protocol::Cooperative, Protocol::Consumer] {
        let fixture = Fixture::new(kafka, protocol, 3).await;
        let other = kafka.unique("g8-other");
        kafka.create_topic(&other, 5, 1, &[]).await.unwrap();
        let loads = [
            Load::start(kafka, &fixture.topic, 50, 0),
            Load::start(kafka, &other, 50, 0),
        ];
        let first = fixture.start(fixture.builder().topic(&other), "a").await;
        fixture.works("a").await;
        let second = fixture.start(fixture.builder().topic(&other), "b").await;
        fixture.works("b").await;
        first.shutdown().await.unwrap();
        fixture.works("b").await;
        for load in loads {
            load.stop().await;
        }
        let mut produced = kafka.produced(&fixture.topic).await.unwrap();
        produced.extend(kafka.produced(&other).await.unwrap());
        wait_until("all are processed", DEADLINE, || {
            fixture.journal.done() >= produced.len()
        })
        .await;
        second.shutdown().await.unwrap();
        fixture
            .journal
            .check(&produced, Expect::Drained)
            .assert_clean();
        fixture.assert_committed(&fixture.topic).await;
        fixture.assert_committed(&other).await;
    }
}

/// With `group.instance.id` a member that comes back takes up its partitions, and the others notice
/// nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_static_member_restarts_without_moving_the_partitions_of_others() {
    let kafka = kafka_or_skip!(Nodes::One);
    for protocol in [Protocol::Cooperative, Protocol::Consumer] {
        let fixture = Fixture::new(kafka, protocol, 6).await;
        let load = Load::start(kafka, &fixture.topic, 60, 0);
        let instance = |name: &str| fixture.builder().kafka("group.instance.id", name);
        let (a, b, c) = tokio::join!(
            fixture.start(instance("a"), "a"),
            fixture.start(instance("b"), "b"),
            fixture.start(instance("c"), "c")
        );
        let shared_out = || {
            [&a, &b, &c]
                .iter()
                .all(|member| partitions(member).len() == 2)
        };
        wait_until("each has two partitions", DEADLINE, shared_out).await;
        let (of_a, of_b, of_c) = (partitions(&a), partitions(&b), partitions(&c));
        let line = fixture.journal.entries().len();

        a.shutdown().await.unwrap();
        let a = fixture.start(instance("a"), "a again").await;
        fixture.works("a again").await;
        wait_until("its status is there", DEADLINE, || {
            partitions(&a).len() == 2
        })
        .await;
        assert_eq!(
            (partitions(&a), partitions(&b), partitions(&c)),
            (of_a.clone(), of_b, of_c)
        );

        load.stop().await;
        let produced = fixture.all_done().await;
        for member in [a, b, c] {
            member.shutdown().await.unwrap();
        }
        fixture
            .journal
            .check(&produced, Expect::Drained)
            .assert_clean();
        let entries = fixture.journal.entries();
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

fn partitions(member: &Subscription) -> BTreeSet<i32> {
    member
        .status()
        .partitions
        .iter()
        .map(|partition| partition.partition)
        .collect()
}
