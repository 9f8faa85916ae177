//! G1, no silent loss: a record is settled, or its offset is never covered by a commit. Here the
//! writes to the retry and dead-letter topic fail, and subscriptions end in the middle of their
//! work.

use std::{
    collections::BTreeSet,
    io,
    ops::Deref,
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use keylane::config::Backoff;
use keylane::status::{PartitionStatus, TroubleKind, TroublePlace};
use keylane::subscription::SubscriptionBuilder;
use keylane::{Raw, Retry, Subscription, Task, TaskError};
use keylane_integration_tests::{
    claims::{assert_honest, unclaimed},
    for_protocols,
    gate::Gate,
    journal::{Entry, Outcome, Place, Produced, duplicates},
    kafka::{Kafka, NewRecord, Nodes},
    kafka_or_skip,
    load::numbered,
    member::{journaled, number, number_of, spread},
    protocol::Protocol,
    scene::{DEADLINE, FailureScene, no_trouble},
    wait::{wait_for, wait_until},
};

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

/// Topics of two partitions.
struct Writes(FailureScene<'static>);

impl Deref for Writes {
    type Target = FailureScene<'static>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Writes {
    async fn new(kafka: &'static Kafka, protocol: Protocol) -> Self {
        logged();
        Self(FailureScene::new(kafka, 2, protocol).await)
    }

    fn subscribe(&self) -> SubscriptionBuilder {
        self.0
            .subscribe()
            // So that keylane's own repetition of a write is seen as well, not only the client's.
            .kafka("message.timeout.ms", "2000")
            // A topic that was deleted is looked for again each second, not each five minutes.
            .kafka("topic.metadata.refresh.interval.ms", "1000")
    }

    /// A member whose attempts wait at the gate, and whose attempt number `n` at the record number
    /// `i` then ends as `fate(i, n)` says.
    async fn run(
        &self,
        builder: SubscriptionBuilder,
        gate: &Gate,
        fate: impl Fn(usize, u32) -> Result<(), TaskError> + Send + Sync + 'static,
    ) -> Subscription {
        let gate = gate.clone();
        let process = move |task: Task<Bytes>| {
            let (gate, result) = (gate.clone(), fate(number(&task), task.attempt()));
            async move {
                gate.passed().await;
                result
            }
        };
        self.start(builder, "a", process).await
    }

    /// Waits until the commits leave out exactly `numbers`, the fates of which hang on a topic.
    async fn await_unclaimed(&self, numbers: &BTreeSet<usize>) {
        let produced = self.produced().await;
        let expected: BTreeSet<Place> = produced
            .iter()
            .filter(|record| numbers.contains(&number_of(&record.id)))
            .map(Produced::place)
            .collect();
        assert_eq!(expected.len(), numbers.len());
        wait_for("the commits cover everything else", DEADLINE, async || {
            let left = unclaimed(&self.claims().await, &produced);
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
    let kafka = kafka_or_skip!(Nodes::One);
    let scene = Writes::new(kafka, protocol).await;
    scene.write(records(200)).await;
    let gate = Gate::closed();
    let fate = |number: usize, _| match number.is_multiple_of(10) {
        true => Err(TaskError::fatal("no")),
        false => Ok(()),
    };
    let member = scene.run(scene.subscribe(), &gate, fate).await;
    kafka.delete_topic(&scene.dead).await.unwrap();
    gate.open();
    scene.await_unclaimed(&every_tenth(200)).await;
    assert_eq!(scene.journal.done(), 180);
    // Others still go on, and a later commit does not go past either.
    scene.write(numbered(201..210, 1_000)).await;
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
    no_trouble(&member).await;
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

for_protocols! { a_dead_letter_topic_goes_and_comes_back:
    while_the_dead_letter_topic_is_gone_nothing_is_committed_past_and_then_each_is_there_once: Cooperative,
    the_same_holds_with_the_consumer_protocol: Consumer,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_retry_topic_loses_nothing_of_the_origin() {
    let scene = Writes::new(kafka_or_skip!(Nodes::One), Protocol::Cooperative).await;
    scene.write(records(200)).await;
    let gate = Gate::closed();
    let retry = Retry::none()
        .then_topic()
        .topic_backoff(Backoff::fixed(Duration::from_millis(20)));
    let fate = |number: usize, attempt| match number.is_multiple_of(10) && attempt == 1 {
        true => Err(TaskError::retryable("once")),
        false => Ok(()),
    };
    let builder = scene.subscribe().retry(retry);
    let member = scene.run(builder, &gate, fate).await;
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
        scene.numbers_done_by("a").len() == 200
    })
    .await;
    member.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_that_is_refused_for_good_is_parked_loudly_and_goes_through_after_the_limit_is_raised()
 {
    let scene = Writes::new(kafka_or_skip!(Nodes::One), Protocol::Cooperative).await;
    // The record fits into the topic, but not with the headers that keylane adds.
    scene.limit_bytes(&scene.dead, 1_000).await;
    let mut all = records(300);
    all[0].value = Some(format!("{:>880}", 0).into_bytes());
    for small in (10..300).step_by(10) {
        all[small].key = Some(b"of the large one".to_vec());
    }
    scene.kafka.produce(&scene.topic, all).await.unwrap();
    let gate = Gate::closed();
    gate.open();
    let fate = |number, _| {
        if number % 10 == 0 {
            Err(TaskError::fatal("no"))
        } else {
            Ok(())
        }
    };
    // Its spaces would be compressed.
    let plain = scene.subscribe().kafka("compression.type", "none");
    let member = scene.run(plain, &gate, fate).await;
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
    scene.write(numbered(301..310, 1_000)).await;
    scene.await_unclaimed(&BTreeSet::from([0])).await;
    let attempts = |number: usize| {
        let meant = scene.started(|work| work.id.ends_with(&format!(" {number}")));
        meant.len()
    };
    assert_eq!(attempts(0), 1);
    assert_eq!(scene.dead_letters().await.len(), 29);
    member.shutdown().await.unwrap();

    scene.lift_limit(&scene.dead, 1_000).await;
    let member = scene.run(scene.subscribe(), &gate, fate).await;
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
            handle.state() == keylane::status::State::Failed
        })
        .await;
        return;
    }
    let ended = |state| {
        matches!(
            state,
            keylane::status::State::Stopped | keylane::status::State::Failed
        )
    };
    wait_until("the member has ended", DEADLINE, || ended(handle.state())).await;
    runtime.shutdown_background();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hard_stops_lose_nothing_and_repeat_nothing_that_was_committed() {
    let kafka = kafka_or_skip!(Nodes::One);
    let scene = Writes::new(kafka, Protocol::Cooperative).await;
    scene.write(numbered(0..20_000, 400)).await;
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
        let builder = scene.subscribe().concurrency(16);
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
            let left = unclaimed(&scene.claims().await, &produced);
            left.is_disjoint(&before).then_some(())
        })
        .await;
        hard_stop(member, runtime, how).await;
        let claims = scene.claims().await;
        assert_honest(&claims, &produced, &scene.journal.settled(), &how);
        assert!(
            unclaimed(&claims, &produced).is_disjoint(&before),
            "{how:?} took a commit back"
        );
    }
    let entries = scene.journal.entries();
    let member = scene
        .start(scene.subscribe(), "last", |_| async { Ok(()) })
        .await;
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
