//! G3, isolation: a record that is stuck, slow, waiting or parked holds its lane and nothing else.
//! G5, live poll: whatever the processors do, the member keeps polling.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use keylane::{
    Backoff, Decode, DecodeError, Exhausted, Raw, Record, Retry, Subscription, Task, TaskError,
};
use keylane_integration_tests::{
    journal::{Entry, Expect, Journal, Produced},
    kafka::{Kafka, NewRecord, Nodes},
    kafka_or_skip,
    load::numbered,
    member::{journaled, spread},
    protocol::Protocol,
    wait::{wait_for, wait_until},
};
use tokio::sync::watch;

const DEADLINE: Duration = Duration::from_secs(60);
const SESSION_MS: u32 = 5_000;
/// A member that does not poll for so long is thrown out of its group.
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(5);

struct Fixture {
    kafka: &'static Kafka,
    topic: String,
    group: String,
    journal: Journal,
}

impl Fixture {
    async fn new(kafka: &'static Kafka, partitions: i32) -> Self {
        let (topic, group) = (kafka.unique("g3"), kafka.unique("group"));
        kafka
            .create_topic(&topic, partitions, 1, &[])
            .await
            .unwrap();
        Self {
            kafka,
            topic,
            group,
            journal: Journal::new(),
        }
    }

    /// Strict: a member that does not poll or send heartbeats loses its partitions within seconds.
    fn builder(&self, protocol: Protocol) -> keylane::SubscriptionBuilder {
        protocol
            .subscribe(self.kafka, &self.group, &self.topic, SESSION_MS)
            .kafka(
                "max.poll.interval.ms",
                MAX_POLL_INTERVAL.as_millis().to_string(),
            )
            .drain_timeout(Duration::from_secs(1))
            .commit_interval(Duration::from_millis(200))
    }

    async fn produced(&self) -> Vec<Produced> {
        self.kafka.produced(&self.topic).await.unwrap()
    }

    async fn done(&self, count: usize) {
        wait_until(&format!("{count} are processed"), DEADLINE, || {
            self.journal.done() >= count
        })
        .await;
    }

    /// Waits until the committed offset of each partition is its end, or the offset of the oldest
    /// of `held`.
    async fn committed_up_to(&self, held: &[Produced]) {
        let ends = self.kafka.end_offsets(&self.topic).await.unwrap();
        let expected: Vec<i64> = (0..)
            .zip(ends)
            .map(|(partition, end)| {
                let held = held
                    .iter()
                    .filter(|record| record.partition == partition)
                    .map(|record| record.offset);
                held.min().unwrap_or(end)
            })
            .collect();
        let what = format!("{expected:?} is committed");
        wait_for(&what, DEADLINE, async || {
            let committed = self.kafka.committed(&self.group, &self.topic).await.ok()?;
            (0..)
                .zip(&committed)
                .all(|(partition, committed)| {
                    let expected: i64 = expected[usize::try_from(partition).unwrap_or_default()];
                    // Nothing is committed for a partition without a settled record.
                    committed.offset == Some(expected)
                        || (committed.offset.is_none() && expected == 0)
                })
                .then_some(())
        })
        .await;
    }

    /// Keeps the member busy for longer than a member may live that has stopped polling; `first` is
    /// the first free number.
    async fn outlive_the_poll_interval(
        &self,
        first: usize,
        keys: usize,
        is_held: impl Fn(&NewRecord) -> bool,
    ) -> usize {
        let (began, mut next) = (Instant::now(), first);
        while began.elapsed() < MAX_POLL_INTERVAL.mul_f64(1.5) {
            let mut wave = numbered(next..next + 100, keys);
            next += 100;
            wave.retain(|record| !is_held(record));
            let (count, before) = (wave.len(), self.journal.done());
            self.kafka.produce(&self.topic, wave).await.unwrap();
            self.done(before + count).await;
        }
        next
    }

    fn starts_of(&self, key: &str) -> usize {
        let entries = self.journal.entries();
        let of_key = |entry: &&Entry| matches!(entry, Entry::Started(work) if work.key.as_deref() == Some(key.as_bytes()));
        entries.iter().filter(of_key).count()
    }
}

fn is_key(record: &NewRecord, key: &str) -> bool {
    record.key.as_deref() == Some(key.as_bytes())
}

async fn a_stuck_key_beside_999_busy_ones(protocol: Protocol) {
    let kafka = kafka_or_skip!(Nodes::One);
    let fixture = Fixture::new(kafka, 4).await;
    kafka
        .produce(&fixture.topic, numbered(0..5_000, 1_000))
        .await
        .unwrap();
    let (release, released) = watch::channel(false);
    let member = fixture
        .builder(protocol)
        .start(
            Raw,
            journaled(&fixture.journal, "a", move |task| {
                let mut released = released.clone();
                async move {
                    if task.key_str() == Some("key-0") {
                        released.wait_for(|released| *released).await.ok();
                    }
                    Ok(())
                }
            }),
        )
        .await
        .unwrap();

    // All others are processed while it is stuck, and commits go on: the stuck record's partition
    // keeps a map.
    fixture.done(4_995).await;
    let produced = fixture.produced().await;
    let stuck: Vec<_> = produced
        .iter()
        .filter(|record| record.key.as_deref() == Some(b"key-0"))
        .cloned()
        .collect();
    fixture.committed_up_to(&stuck).await;
    let partition = stuck[0].partition;
    wait_for(
        "the map of what is settled ahead is committed",
        DEADLINE,
        async || {
            let committed = kafka.committed(&fixture.group, &fixture.topic).await.ok()?;
            let own = committed
                .iter()
                .find(|committed| committed.partition == partition)?;
            (!own.metadata.is_empty()).then_some(())
        },
    )
    .await;

    // The member outlives the time after which one that does not poll is out, and keeps its
    // partitions.
    fixture
        .outlive_the_poll_interval(5_000, 1_000, |record| is_key(record, "key-0"))
        .await;
    let status = member.status();
    assert_eq!((status.partitions.len(), status.trouble), (4, None));
    assert_eq!(fixture.starts_of("key-0"), 1);

    release.send(true).unwrap();
    let produced = fixture.produced().await;
    fixture.done(produced.len()).await;
    member.shutdown().await.unwrap();
    // Were the member thrown out in between, records would have come again.
    fixture
        .journal
        .check(&produced, Expect::Drained)
        .assert_clean();
    fixture.committed_up_to(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_key_holds_up_none_of_999_others_nor_commits_nor_polling_cooperative() {
    a_stuck_key_beside_999_busy_ones(Protocol::Cooperative).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_key_holds_up_none_of_999_others_nor_commits_nor_polling_consumer() {
    a_stuck_key_beside_999_busy_ones(Protocol::Consumer).await;
}

/// Starts a member on one partition whose records of key-0 meet `fate`, and sees all others
/// processed and committed.
async fn held_back(
    retry: Retry,
    fate: fn() -> Result<(), TaskError>,
) -> Option<(Fixture, Subscription)> {
    let kafka = keylane_integration_tests::kafka::shared(Nodes::One)?;
    let fixture = Fixture::new(kafka, 1).await;
    kafka
        .produce(&fixture.topic, numbered(0..1_000, 100))
        .await
        .unwrap();
    let member = fixture
        .builder(Protocol::Cooperative)
        .concurrency(8)
        .retry(retry)
        .start(
            Raw,
            journaled(&fixture.journal, "a", move |task| async move {
                if task.key_str() == Some("key-0") {
                    fate()
                } else {
                    Ok(())
                }
            }),
        )
        .await
        .unwrap();
    fixture.done(990).await;
    fixture
        .committed_up_to(&[fixture.produced().await.remove(0)])
        .await;
    Some((fixture, member))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_waits_for_its_back_off_holds_its_lane_only_and_no_worker() {
    let retry = Retry::in_place(5).backoff(Backoff::fixed(Duration::from_secs(3_600)));
    let Some((fixture, member)) = held_back(retry, || Err(TaskError::retryable("later"))).await
    else {
        return;
    };
    let waiting = || {
        member
            .status()
            .partitions
            .iter()
            .any(|p| (p.snapshot.waiting, p.snapshot.running, p.snapshot.pending) == (1, 0, 10))
    };
    wait_until("one waits and nothing runs", DEADLINE, waiting).await;
    assert_eq!(fixture.starts_of("key-0"), 1);
    member.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parked_record_holds_its_lane_only_and_no_worker() {
    let retry = Retry::none().exhausted(Exhausted::Park);
    let Some((fixture, member)) = held_back(retry, || Err(TaskError::fatal("never"))).await else {
        return;
    };
    let parked = || {
        member
            .status()
            .partitions
            .iter()
            .any(|p| (p.snapshot.parked, p.snapshot.running, p.snapshot.pending) == (1, 0, 10))
    };
    wait_until("one is parked and nothing runs", DEADLINE, parked).await;
    assert_eq!(fixture.starts_of("key-0"), 1);
    member.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_fails_for_ever_holds_its_lane_only() {
    let retry = Retry::forever().backoff(Backoff::fixed(Duration::from_millis(5)));
    let Some((fixture, member)) = held_back(retry, || panic!("always")).await else {
        return;
    };
    wait_until("it is tried again and again", DEADLINE, || {
        fixture.starts_of("key-0") > 20
    })
    .await;
    let seen: BTreeSet<i64> = fixture
        .journal
        .entries()
        .iter()
        .filter_map(started_of_key_0)
        .collect();
    assert_eq!(
        seen.len(),
        1,
        "records behind the failing one started: {seen:?}"
    );
    member.shutdown().await.unwrap();
}

fn started_of_key_0(entry: &Entry) -> Option<i64> {
    match entry {
        Entry::Started(work) if work.key.as_deref() == Some(b"key-0") => Some(work.offset),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_keys_do_not_slow_the_quick_ones_beside_them() {
    let kafka = kafka_or_skip!(Nodes::One);
    let fixture = Fixture::new(kafka, 1).await;
    // Five slow keys of ten records each; on eight workers that leaves three.
    kafka
        .produce(&fixture.topic, numbered(0..1_000, 100))
        .await
        .unwrap();
    let (step, steps) = watch::channel(0_usize);
    let member = fixture
        .builder(Protocol::Cooperative)
        .concurrency(8)
        .start(
            Raw,
            journaled(&fixture.journal, "a", move |task: Task<Bytes>| {
                let mut steps = steps.clone();
                async move {
                    let slow = task.key_str().is_some_and(|key| {
                        ["key-0", "key-1", "key-2", "key-3", "key-4"].contains(&key)
                    });
                    if slow {
                        let turn = usize::try_from(task.offset()).unwrap_or_default() / 100;
                        steps.wait_for(|step| *step > turn).await.ok();
                    } else {
                        tokio::time::sleep(spread(&task, Duration::from_millis(2))).await;
                    }
                    Ok(())
                }
            }),
        )
        .await
        .unwrap();
    // Not one of the slow ones has finished, and all quick ones have.
    fixture.done(950).await;
    for turn in 1..=10 {
        assert_eq!(fixture.journal.done(), 950 + 5 * (turn - 1));
        step.send(turn).unwrap();
        fixture.done(950 + 5 * turn).await;
    }
    member.shutdown().await.unwrap();
    fixture
        .journal
        .check(&fixture.produced().await, Expect::Drained)
        .assert_clean();
}

/// Opens when the test ends, however it ends: a blocked thread would keep its runtime from ending.
struct Gate(Arc<AtomicBool>);

impl Drop for Gate {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Processors that block their threads, on a runtime with `threads` of them.
async fn blocked_threads(
    protocol: Protocol,
    threads: usize,
    is_blocked: fn(&Task<Bytes>) -> bool,
) -> Option<Blocked> {
    let kafka = keylane_integration_tests::kafka::shared(Nodes::One)?;
    let fixture = Fixture::new(kafka, 2).await;
    let in_each = |numbers: std::ops::Range<usize>| {
        let mut records = numbered(numbers, 10);
        for (number, record) in records.iter_mut().enumerate() {
            record.partition = Some(i32::from(number % 2 == 1));
        }
        records
    };
    kafka
        .produce(&fixture.topic, in_each(0..200))
        .await
        .unwrap();
    let gate = Gate(Arc::new(AtomicBool::new(false)));
    let open = gate.0.clone();
    let processor = journaled(&fixture.journal, "a", move |task| {
        let open = open.clone();
        async move {
            while is_blocked(&task) && !open.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(2));
            }
            Ok(())
        }
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .unwrap();
    let member = runtime
        .spawn(fixture.builder(protocol).start(Raw, processor))
        .await
        .unwrap()
        .unwrap();
    Some(Blocked {
        fixture,
        member,
        runtime,
        gate,
    })
}

struct Blocked {
    fixture: Fixture,
    member: Subscription,
    runtime: tokio::runtime::Runtime,
    gate: Gate,
}

impl Blocked {
    /// Lets the blocked ones go, and checks that nothing was lost or repeated meanwhile.
    async fn finish(self, count: usize) {
        let Self {
            fixture,
            member,
            runtime,
            gate,
        } = self;
        drop(gate);
        fixture.done(count).await;
        member.shutdown().await.unwrap();
        fixture
            .journal
            .check(&fixture.produced().await, Expect::Drained)
            .assert_clean();
        fixture.committed_up_to(&[]).await;
        tokio::task::spawn_blocking(move || drop(runtime))
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_processor_that_blocks_its_thread_holds_up_neither_other_partitions_nor_polling() {
    let blocked = |task: &Task<Bytes>| task.partition() == 0 && task.offset() == 0;
    let Some(blocked) = blocked_threads(Protocol::Cooperative, 4, blocked).await else {
        return;
    };
    let of_other = |journal: &Journal| {
        let done = journal.settled();
        done.iter().filter(|place| place.partition == 1).count()
    };
    wait_until("the other partition goes on", DEADLINE, || {
        of_other(&blocked.fixture.journal) == 100
    })
    .await;

    // And it goes on for longer than a member may live that has stopped polling.
    let (began, mut next) = (Instant::now(), 200);
    while began.elapsed() < MAX_POLL_INTERVAL.mul_f64(1.5) {
        let mut wave = numbered(next..next + 20, 10);
        wave.iter_mut()
            .for_each(|record| record.partition = Some(1));
        next += 20;
        blocked
            .fixture
            .kafka
            .produce(&blocked.fixture.topic, wave)
            .await
            .unwrap();
        let expected = 100 + next - 200;
        wait_until("the other partition goes on", DEADLINE, || {
            of_other(&blocked.fixture.journal) == expected
        })
        .await;
    }
    blocked.finish(next).await;
}

async fn all_threads_blocked(protocol: Protocol) {
    let Some(blocked) = blocked_threads(protocol, 2, |task| task.offset() == 0).await else {
        return;
    };
    let starts = || blocked.fixture.journal.entries().len();
    wait_until("both partitions are blocked", DEADLINE, || starts() == 2).await;
    // Longer than a member may live that has stopped polling.
    let began = Instant::now();
    let alive = || blocked.member.status().partitions.len() == 2;
    wait_until("the poll interval has passed", DEADLINE, || {
        alive() && began.elapsed() > MAX_POLL_INTERVAL.mul_f64(1.5)
    })
    .await;
    assert_eq!(blocked.member.status().trouble, None);
    blocked.finish(200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runtime_whose_threads_are_all_blocked_does_not_lose_the_member_its_group_cooperative() {
    all_threads_blocked(Protocol::Cooperative).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runtime_whose_threads_are_all_blocked_does_not_lose_the_member_its_group_consumer() {
    all_threads_blocked(Protocol::Consumer).await;
}

/// Notes which threads run the user's code.
#[derive(Clone, Default)]
struct Threads(Arc<Mutex<BTreeSet<String>>>);

impl Threads {
    fn note(&self) {
        let name = std::thread::current().name().unwrap_or("(none)").to_owned();
        self.0.lock().unwrap().insert(name);
    }
}

impl Decode<Bytes> for Threads {
    fn decode(&self, record: &Record) -> Result<Bytes, DecodeError> {
        self.note();
        Raw.decode(record)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_decoder_nor_processor_runs_on_the_thread_that_polls() {
    let kafka = kafka_or_skip!(Nodes::One);
    let fixture = Fixture::new(kafka, 2).await;
    kafka
        .produce(&fixture.topic, numbered(0..500, 10))
        .await
        .unwrap();
    let threads = Threads::default();
    let processing = threads.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("users")
        .enable_all()
        .build()
        .unwrap();
    let processor = journaled(&fixture.journal, "a", move |_| {
        processing.note();
        let processing = processing.clone();
        async move {
            tokio::task::yield_now().await;
            processing.note();
            Ok(())
        }
    });
    let builder = fixture.builder(Protocol::Cooperative);
    let member = runtime
        .spawn(builder.start(threads.clone(), processor))
        .await
        .unwrap()
        .unwrap();
    fixture.done(500).await;
    member.shutdown().await.unwrap();
    assert_eq!(
        *threads.0.lock().unwrap(),
        BTreeSet::from(["users".to_owned()])
    );
    tokio::task::spawn_blocking(move || drop(runtime))
        .await
        .unwrap();
}
