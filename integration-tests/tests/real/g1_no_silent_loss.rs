//! G1, no silent loss: a record is settled, or its offset is never covered by a commit. Here the
//! writes to the retry and dead-letter topic fail, and subscriptions end in the middle of their
//! work.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use keylane::{
    Backoff, DeadLetter, PartitionStatus, Raw, Retry, Subscription, SubscriptionBuilder, Task,
    TaskError, TroubleKind, TroublePlace,
};
use keylane_integration_tests::{
    claims::{assert_honest, claims, unclaimed},
    dead_letters::dead_letters,
    gate::Gate,
    journal::{Entry, Journal, Outcome, Place, Produced, duplicates},
    kafka::{Kafka, NewRecord, Nodes, StoredRecord},
    kafka_or_skip,
    load::numbered,
    member::{journaled, spread},
    protocol::Protocol,
    wait::{wait_for, wait_until},
};

const DEADLINE: Duration = Duration::from_secs(90);

/// Warnings and errors that were logged, by all members of this process.
fn logged() -> &'static Mutex<Vec<u8>> {
    static LOGGED: OnceLock<&'static Mutex<Vec<u8>>> = OnceLock::new();
    LOGGED.get_or_init(|| {
        let logged: &'static Mutex<Vec<u8>> = Box::leak(Box::default());
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::WARN)
            .with_writer(move || Log(logged));
        subscriber.init();
        logged
    })
}

/// The lines that name the topic and say this.
fn logged_about(topic: &str, what: &str) -> Vec<String> {
    let log = logged()
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let log = String::from_utf8_lossy(&log).into_owned();
    // The name of one topic can begin another's.
    let topic = format!("{topic} ");
    log.lines()
        .filter(|line| line.contains(&topic) && line.contains(what))
        .map(str::to_owned)
        .collect()
}

/// Waits until keylane itself has seen a write fail: the client holds one back for a while by
/// itself.
async fn await_failed_writes(topic: &str) {
    wait_until("writes have failed", DEADLINE, || {
        !logged_about(topic, "the record stays unsettled").is_empty()
    })
    .await;
}

struct Log(&'static Mutex<Vec<u8>>);

impl io::Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An origin topic of two partitions with a retry and a dead-letter topic, and a group.
struct Scene {
    kafka: &'static Kafka,
    topic: String,
    retry: String,
    dead: String,
    group: String,
    journal: Journal,
}

impl Scene {
    async fn new(kafka: &'static Kafka) -> Self {
        logged();
        let topic = kafka.unique("g1");
        let (retry, dead) = (format!("{topic}-retry"), format!("{topic}-dead"));
        for name in [&topic, &retry, &dead] {
            kafka.create_topic(name, 2, 1, &[]).await.unwrap();
        }
        Self {
            kafka,
            topic,
            retry,
            dead,
            group: kafka.unique("group"),
            journal: Journal::new(),
        }
    }

    fn subscribe(&self, protocol: Protocol) -> SubscriptionBuilder {
        protocol
            .subscribe(self.kafka, &self.group, &self.topic, 10_000)
            .commit_interval(Duration::from_millis(50))
            .dead_letter(DeadLetter::topic(&self.dead))
            // So that keylane's own repetition of a write is seen as well, not only the client's.
            .kafka("message.timeout.ms", "2000")
            // A topic that was deleted is looked for again each second, not each five minutes.
            .kafka("topic.metadata.refresh.interval.ms", "1000")
    }

    /// Starts a member whose attempt number `n` at the record number `i` ends as `fate(i, n)` says.
    async fn start(
        &self,
        builder: SubscriptionBuilder,
        fate: impl Fn(usize, u32) -> Result<(), TaskError> + Send + Sync + 'static,
    ) -> Subscription {
        let processor = journaled(&self.journal, "a", move |task: Task<Bytes>| {
            let result = fate(number(task.payload()), task.attempt());
            async move { result }
        });
        builder.start(Raw, processor).await.unwrap()
    }

    async fn produced(&self) -> Vec<Produced> {
        self.kafka.produced(&self.topic).await.unwrap()
    }

    async fn dead_letters(&self) -> BTreeMap<Place, Vec<StoredRecord>> {
        dead_letters(self.kafka, &self.dead).await.unwrap()
    }

    /// Waits until the commits leave out exactly `numbers`, the fates of which hang on a topic.
    async fn await_unclaimed(&self, numbers: &BTreeSet<usize>) {
        let produced = self.produced().await;
        let expected: BTreeSet<Place> = produced
            .iter()
            .filter(|record| numbers.contains(&number_of(record)))
            .map(Produced::place)
            .collect();
        assert_eq!(expected.len(), numbers.len());
        wait_for("the commits cover everything else", DEADLINE, async || {
            let left = unclaimed(
                &claims(self.kafka, &self.group, &self.topic).await.unwrap(),
                &produced,
            );
            let covered: Vec<_> = expected.difference(&left).collect();
            assert!(
                covered.is_empty(),
                "broken promise: committed although they were written nowhere: {covered:?}"
            );
            (left == expected).then_some(())
        })
        .await;
    }
}

fn number(payload: &[u8]) -> usize {
    // Some payloads are made large with spaces.
    std::str::from_utf8(payload)
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}

fn number_of(record: &Produced) -> usize {
    record
        .id
        .rsplit('/')
        .next()
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}

fn every_tenth(numbers: usize) -> BTreeSet<usize> {
    (0..numbers).step_by(10).collect()
}

/// Keys of their own, so that nothing waits for a record whose write fails.
fn records(count: usize) -> Vec<NewRecord> {
    numbered(0..count, count)
}

fn parked(status: &[PartitionStatus]) -> u64 {
    status
        .iter()
        .map(|partition| partition.snapshot.parked)
        .sum()
}

async fn a_dead_letter_topic_goes_and_comes_back(protocol: Protocol) {
    let Some(kafka) = keylane_integration_tests::kafka::shared(Nodes::One) else {
        return;
    };
    if protocol == Protocol::Consumer && !kafka.group_protocols().contains(&"consumer") {
        return;
    }
    let scene = Scene::new(kafka).await;
    kafka_with(&scene, 200).await;
    let gate = Gate::closed();
    let member = {
        let gate = gate.clone();
        let processor = journaled(&scene.journal, "a", move |task: Task<Bytes>| {
            let gate = gate.clone();
            async move {
                gate.passed().await;
                if number(task.payload()).is_multiple_of(10) {
                    Err(TaskError::fatal("no"))
                } else {
                    Ok(())
                }
            }
        });
        scene
            .subscribe(protocol)
            .start(Raw, processor)
            .await
            .unwrap()
    };
    kafka.delete_topic(&scene.dead).await.unwrap();
    gate.open();
    scene.await_unclaimed(&every_tenth(200)).await;
    assert_eq!(scene.journal.done(), 180);
    // Others still go on, and a later commit does not go past either.
    kafka
        .produce(&scene.topic, numbered(201..210, 1_000))
        .await
        .unwrap();
    scene.await_unclaimed(&every_tenth(200)).await;

    await_failed_writes(&scene.topic).await;
    scene.await_unclaimed(&every_tenth(200)).await;
    let gone = (
        TroubleKind::MissingTopic,
        TroublePlace::WritesTo(scene.dead.clone()),
    );
    wait_until("the status names the topic that is gone", DEADLINE, || {
        member
            .status()
            .trouble
            .is_some_and(|trouble| (trouble.kind, trouble.place) == gone)
    })
    .await;
    // With fewer partitions than before (point 12): half of the records go elsewhere than they
    // would have.
    kafka.create_topic(&scene.dead, 1, 1, &[]).await.unwrap();
    scene.await_unclaimed(&BTreeSet::new()).await;
    wait_until("the trouble is over", DEADLINE, || {
        member.status().trouble.is_none()
    })
    .await;
    member.shutdown().await.unwrap();
    let dead = scene.dead_letters().await;
    assert_eq!(dead.len(), 20);
    // Twice where the broker took a write whose time was up by the client's clock.
    assert!(
        dead.values()
            .all(|records| (1..=2).contains(&records.len())),
        "each is there: {dead:?}"
    );
    assert_eq!(duplicates(&scene.journal.entries()), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_dead_letter_topic_is_gone_nothing_is_committed_past_and_then_each_is_there_once()
{
    a_dead_letter_topic_goes_and_comes_back(Protocol::Cooperative).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_holds_with_the_consumer_protocol() {
    a_dead_letter_topic_goes_and_comes_back(Protocol::Consumer).await;
}

async fn kafka_with(scene: &Scene, count: usize) {
    scene
        .kafka
        .produce(&scene.topic, records(count))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_retry_topic_loses_nothing_of_the_origin() {
    let scene = Scene::new(kafka_or_skip!(Nodes::One)).await;
    kafka_with(&scene, 200).await;
    let gate = Gate::closed();
    let retry = Retry::none()
        .then_topic()
        .topic_backoff(Backoff::fixed(Duration::from_millis(20)));
    let member = {
        let gate = gate.clone();
        let processor = journaled(&scene.journal, "a", move |task: Task<Bytes>| {
            let gate = gate.clone();
            async move {
                gate.passed().await;
                let fails = number(task.payload()).is_multiple_of(10) && task.attempt() == 1;
                if fails {
                    Err(TaskError::retryable("once"))
                } else {
                    Ok(())
                }
            }
        });
        scene
            .subscribe(Protocol::Cooperative)
            .retry(retry)
            .start(Raw, processor)
            .await
            .unwrap()
    };
    wait_until("both topics are assigned", DEADLINE, || {
        member.status().partitions.len() == 4
    })
    .await;
    scene.kafka.delete_topic(&scene.retry).await.unwrap();
    gate.open();
    scene.await_unclaimed(&every_tenth(200)).await;
    await_failed_writes(&scene.topic).await;
    scene.await_unclaimed(&every_tenth(200)).await;
    scene
        .kafka
        .create_topic(&scene.retry, 2, 1, &[])
        .await
        .unwrap();
    scene.await_unclaimed(&BTreeSet::new()).await;
    wait_until("each was processed after its retry", DEADLINE, || {
        let done: BTreeSet<usize> = done(&scene.journal);
        (0..200).all(|number| done.contains(&number))
    })
    .await;
    member.shutdown().await.unwrap();
}

/// The numbers that were processed, wherever they were read.
fn done(journal: &Journal) -> BTreeSet<usize> {
    let entries = journal.entries();
    let done = entries.iter().filter_map(|entry| match entry {
        Entry::Ended(work, _, Outcome::Done) => work.id.rsplit('/').next()?.trim().parse().ok(),
        _ => None,
    });
    done.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_that_is_refused_for_good_is_parked_loudly_and_goes_through_after_the_limit_is_raised()
 {
    let scene = Scene::new(kafka_or_skip!(Nodes::One)).await;
    // The record fits into the topic, but not with the headers that keylane adds.
    scene
        .kafka
        .configure_topic(&scene.dead, &[("max.message.bytes", "1000")])
        .await
        .unwrap();
    wait_for(
        "the dead-letter topic refuses large records",
        DEADLINE,
        async || {
            scene
                .kafka
                .produce(
                    &scene.dead,
                    vec![NewRecord::keyed("probe", vec![b'x'; 1_500])],
                )
                .await
                .err()
        },
    )
    .await;
    let mut all = records(300);
    all[0].value = Some(format!("{:>880}", 0).into_bytes());
    for small in (10..300).step_by(10) {
        all[small].key = Some(b"of the large one".to_vec());
    }
    scene.kafka.produce(&scene.topic, all).await.unwrap();
    let fate = |number, _| {
        if number % 10 == 0 {
            Err(TaskError::fatal("no"))
        } else {
            Ok(())
        }
    };
    // Its spaces would be compressed.
    let plain = scene
        .subscribe(Protocol::Cooperative)
        .kafka("compression.type", "none");
    let member = scene.start(plain, fate).await;
    scene.await_unclaimed(&BTreeSet::from([0])).await;
    wait_until("the status says so", DEADLINE, || {
        parked(&member.status().partitions) == 1
    })
    .await;
    let lines = logged_about(&scene.topic, "parked");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].contains("offset=0") && lines[0].contains("the topic's max.message.bytes"),
        "{lines:?}"
    );
    // Others go on beside it, and nobody tries it again and again.
    scene
        .kafka
        .produce(&scene.topic, numbered(301..310, 1_000))
        .await
        .unwrap();
    scene.await_unclaimed(&BTreeSet::from([0])).await;
    let attempts = |number| {
        let entries = scene.journal.entries();
        entries
            .iter()
            .filter(|entry| matches!(entry, Entry::Started(work) if work.id.ends_with(&format!(" {number}"))))
            .count()
    };
    assert_eq!(attempts(0), 1);
    assert_eq!(scene.dead_letters().await.len(), 29);
    member.shutdown().await.unwrap();

    scene.kafka.configure_topic(&scene.dead, &[]).await.unwrap();
    wait_for(
        "the dead-letter topic takes large records",
        DEADLINE,
        async || {
            scene
                .kafka
                .produce(
                    &scene.dead,
                    vec![NewRecord::keyed("probe", vec![b'x'; 1_500])],
                )
                .await
                .ok()
        },
    )
    .await;
    let member = scene
        .start(scene.subscribe(Protocol::Cooperative), fate)
        .await;
    scene.await_unclaimed(&BTreeSet::new()).await;
    member.shutdown().await.unwrap();
    let dead = scene.dead_letters().await;
    assert_eq!(dead.len(), 30);
    assert!(
        dead.values().all(|records| records.len() == 1),
        "each is there once"
    );
    assert_eq!(attempts(0), 2);
}

/// The ways to end a subscription without a drain.
#[derive(Debug, Clone, Copy)]
enum HardStop {
    Drop,
    NoTime,
    RuntimeGone,
}

async fn hard_stop(member: Subscription, runtime: tokio::runtime::Runtime, how: HardStop) {
    let handle = member.handle();
    match how {
        HardStop::Drop => drop(member),
        HardStop::NoTime => drop(member.shutdown_within(Duration::ZERO).await),
        HardStop::RuntimeGone => {}
    }
    if matches!(how, HardStop::RuntimeGone) {
        // Every owner and attempt is dropped wherever it is.
        runtime.shutdown_background();
        wait_until("the member has noticed", DEADLINE, || {
            handle.state() == keylane::State::Failed
        })
        .await;
        return;
    }
    let ended = |state| matches!(state, keylane::State::Stopped | keylane::State::Failed);
    wait_until("the member has ended", DEADLINE, || ended(handle.state())).await;
    runtime.shutdown_background();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hard_stops_lose_nothing_and_repeat_nothing_that_was_committed() {
    let kafka = kafka_or_skip!(Nodes::One);
    let scene = Scene::new(kafka).await;
    kafka
        .produce(&scene.topic, numbered(0..20_000, 400))
        .await
        .unwrap();
    let produced = scene.produced().await;
    let stops = [
        HardStop::Drop,
        HardStop::NoTime,
        HardStop::RuntimeGone,
        HardStop::Drop,
        HardStop::RuntimeGone,
    ];
    for (round, how) in stops.into_iter().enumerate() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let journal = scene.journal.clone();
        let builder = scene.subscribe(Protocol::Cooperative).concurrency(16);
        let member = runtime
            .spawn(async move {
                let processor = journaled(
                    &journal,
                    &format!("round {round}"),
                    |task: Task<Bytes>| async move {
                        tokio::time::sleep(spread(&task, Duration::from_millis(15))).await;
                        Ok(())
                    },
                );
                builder.start(Raw, processor).await.unwrap()
            })
            .await
            .unwrap();
        wait_until("some work is done", DEADLINE, || {
            scene.journal.done() > 800 * (round + 1)
        })
        .await;
        // What was done up to here is committed soon, while work goes on.
        let before = scene.journal.settled();
        wait_for("what was done is committed", DEADLINE, async || {
            let left = unclaimed(
                &claims(kafka, &scene.group, &scene.topic).await.unwrap(),
                &produced,
            );
            left.is_disjoint(&before).then_some(())
        })
        .await;
        hard_stop(member, runtime, how).await;
        let claims = claims(kafka, &scene.group, &scene.topic).await.unwrap();
        assert_honest(&claims, &produced, &scene.journal.settled(), &how);
        assert!(
            unclaimed(&claims, &produced).is_disjoint(&before),
            "{how:?} took a commit back"
        );
    }
    let entries = scene.journal.entries();
    let processor = journaled(&scene.journal, "last", |_| async { Ok(()) });
    let member = scene
        .subscribe(Protocol::Cooperative)
        .start(Raw, processor)
        .await
        .unwrap();
    scene.await_unclaimed(&BTreeSet::new()).await;
    member.shutdown().await.unwrap();
    assert_eq!(scene.journal.done(), 20_000);
    let cut_off = entries
        .iter()
        .filter(|entry| matches!(entry, Entry::Ended(_, _, Outcome::CutOff)))
        .count();
    assert!(
        cut_off >= stops.len(),
        "the stops were not that hard: {cut_off} attempts cut off"
    );
    // A stop in order, however short, commits what has ended; only a runtime that is gone leaves a
    // commit interval.
    let repeated = duplicates(&scene.journal.entries());
    let in_order = repeated.iter().filter(|repeated| {
        ["round 0", "round 1", "round 3"].contains(&repeated.members[0].as_str())
    });
    let (in_order, most) = (in_order.count(), 3 * 2 * 16);
    assert!(
        in_order <= most,
        "{in_order} repeated after stops in order, at most {most} were in flight"
    );
}
