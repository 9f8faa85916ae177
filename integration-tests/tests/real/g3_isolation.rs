//! G3, isolation: a record that is stuck, slow, waiting or parked holds its lane and nothing else.
//! G5, live poll: whatever the processors do, the member keeps polling.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use keylane::config::{Backoff, Exhausted};
use keylane::error::DecodeError;
use keylane::record::Record;
use keylane::subscription::SubscriptionBuilder;
use keylane::{Decode, Raw, Retry, Subscription, Task, TaskError};
use keylane_integration_tests::{
    for_protocols,
    gate::{Gate, OpenAtEnd},
    journal::{Journal, Produced, Work},
    kafka::{self, Kafka, NewRecord, Nodes},
    kafka_or_skip,
    load::numbered,
    member::{journaled, spread},
    protocol::Protocol,
    scene::{DEADLINE, Scene},
    threads::Threads,
    wait::{wait_for, wait_until},
};
use tokio::sync::watch;

/// A member that does not poll for so long is thrown out of its group.
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(5);

/// Strict: a member that does not poll or send heartbeats loses its partitions within seconds.
fn subscribe(scene: &Scene<'_>) -> SubscriptionBuilder {
    let interval = MAX_POLL_INTERVAL.as_millis().to_string();
    scene
        .subscribe()
        .kafka("max.poll.interval.ms", interval)
        .drain_timeout(Duration::from_secs(1))
        .commit_interval(Duration::from_millis(200))
}

async fn scene(kafka: &'static Kafka, partitions: i32) -> Scene<'static> {
    Scene::new(kafka, partitions).await.session_ms(5_000)
}

/// Waits until the committed offset of each partition is its end, or the offset of the oldest
/// of `held`.
async fn committed_up_to(scene: &Scene<'_>, held: &[Produced]) {
    let ends = scene.kafka.end_offsets(&scene.topic).await.unwrap();
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
        let committed = scene.committed().await;
        (0..)
            .zip(&committed)
            .all(|(partition, committed)| {
                let expected: i64 = expected[usize::try_from(partition).unwrap_or_default()];
                // Nothing is committed for a partition without a settled record.
                committed.offset == Some(expected) || (committed.offset.is_none() && expected == 0)
            })
            .then_some(())
    })
    .await;
}

/// Keeps the member busy for longer than a member may live that has stopped polling; `first` is
/// the first free number.
async fn outlive_the_poll_interval(
    scene: &Scene<'_>,
    first: usize,
    keys: usize,
    is_held: impl Fn(&NewRecord) -> bool,
) -> usize {
    let (began, mut next) = (Instant::now(), first);
    while began.elapsed() < MAX_POLL_INTERVAL.mul_f64(1.5) {
        let mut wave = numbered(next..next + 100, keys);
        next += 100;
        wave.retain(|record| !is_held(record));
        let (count, before) = (wave.len(), scene.journal.done());
        scene.write(wave).await;
        scene.done(before + count).await;
    }
    next
}

fn starts_of(scene: &Scene<'_>, key: &str) -> usize {
    let of_key = |work: &Work| work.key.as_deref() == Some(key.as_bytes());
    scene.started(of_key).len()
}

fn is_key(record: &NewRecord, key: &str) -> bool {
    record.key.as_deref() == Some(key.as_bytes())
}

async fn a_stuck_key_beside_999_busy_ones(protocol: Protocol) {
    let scene = scene(kafka_or_skip!(Nodes::One), 4).await.by(protocol);
    scene.write(numbered(0..5_000, 1_000)).await;
    let gate = Gate::closed();
    let is_stuck = |task: &Task<Bytes>| task.key_str() == Some("key-0");
    let member = scene.gated(subscribe(&scene), "a", &gate, is_stuck).await;

    // All others are processed while it is stuck, and commits go on: the stuck record's partition
    // keeps a map.
    scene.done(4_995).await;
    let produced = scene.produced().await;
    let stuck: Vec<_> = produced
        .iter()
        .filter(|record| record.key.as_deref() == Some(b"key-0"))
        .cloned()
        .collect();
    committed_up_to(&scene, &stuck).await;
    let partition = stuck[0].partition;
    wait_for(
        "the map of what is settled ahead is committed",
        DEADLINE,
        async || {
            let committed = scene.committed().await;
            let own = committed
                .iter()
                .find(|committed| committed.partition == partition)?;
            (!own.metadata.is_empty()).then_some(())
        },
    )
    .await;

    // The member outlives the time after which one that does not poll is out, and keeps its
    // partitions.
    outlive_the_poll_interval(&scene, 5_000, 1_000, |record| is_key(record, "key-0")).await;
    let status = member.status();
    assert_eq!((status.partitions.len(), status.trouble), (4, None));
    assert_eq!(starts_of(&scene, "key-0"), 1);

    gate.open();
    let produced = scene.all_done().await;
    member.shutdown().await.unwrap();
    // Were the member thrown out in between, records would have come again.
    scene.assert_drained(&produced);
    committed_up_to(&scene, &[]).await;
}

for_protocols! { a_stuck_key_beside_999_busy_ones:
    a_stuck_key_holds_up_none_of_999_others_nor_commits_nor_polling_cooperative: Cooperative,
    a_stuck_key_holds_up_none_of_999_others_nor_commits_nor_polling_consumer: Consumer,
}

/// Starts a member on one partition whose records of key-0 meet `fate`, and sees all others
/// processed and committed.
async fn held_back(
    retry: Retry,
    fate: fn() -> Result<(), TaskError>,
) -> Option<(Scene<'static>, Subscription)> {
    let scene = scene(kafka::shared(Nodes::One)?, 1).await;
    scene.write(numbered(0..1_000, 100)).await;
    let builder = subscribe(&scene).concurrency(8).retry(retry);
    let process = move |task: Task<Bytes>| async move {
        if task.key_str() == Some("key-0") {
            fate()
        } else {
            Ok(())
        }
    };
    let member = scene.start(builder, "a", process).await;
    scene.done(990).await;
    committed_up_to(&scene, &[scene.produced().await.remove(0)]).await;
    Some((scene, member))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_waits_for_its_back_off_holds_its_lane_only_and_no_worker() {
    let retry = Retry::in_place(5).backoff(Backoff::fixed(Duration::from_secs(3_600)));
    let Some((scene, member)) = held_back(retry, || Err(TaskError::retryable("later"))).await
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
    assert_eq!(starts_of(&scene, "key-0"), 1);
    member.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parked_record_holds_its_lane_only_and_no_worker() {
    let retry = Retry::none().exhausted(Exhausted::Park);
    let Some((scene, member)) = held_back(retry, || Err(TaskError::fatal("never"))).await else {
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
    assert_eq!(starts_of(&scene, "key-0"), 1);
    member.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_fails_for_ever_holds_its_lane_only() {
    let retry = Retry::forever().backoff(Backoff::fixed(Duration::from_millis(5)));
    let Some((scene, member)) = held_back(retry, || panic!("always")).await else {
        return;
    };
    wait_until("it is tried again and again", DEADLINE, || {
        starts_of(&scene, "key-0") > 20
    })
    .await;
    let of_key_0 = |work: &Work| work.key.as_deref() == Some(b"key-0");
    let seen: BTreeSet<i64> = scene.started(of_key_0).into_iter().collect();
    assert_eq!(
        seen.len(),
        1,
        "records behind the failing one started: {seen:?}"
    );
    member.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_keys_do_not_slow_the_quick_ones_beside_them() {
    let scene = scene(kafka_or_skip!(Nodes::One), 1).await;
    // Five slow keys of ten records each; on eight workers that leaves three.
    scene.write(numbered(0..1_000, 100)).await;
    let (step, steps) = watch::channel(0_usize);
    let process = move |task: Task<Bytes>| {
        let mut steps = steps.clone();
        async move {
            let slow = ["key-0", "key-1", "key-2", "key-3", "key-4"];
            if task.key_str().is_some_and(|key| slow.contains(&key)) {
                let turn = usize::try_from(task.offset()).unwrap_or_default() / 100;
                steps.wait_for(|step| *step > turn).await.ok();
            } else {
                tokio::time::sleep(spread(&task, Duration::from_millis(2))).await;
            }
            Ok(())
        }
    };
    let builder = subscribe(&scene).concurrency(8);
    let member = scene.start(builder, "a", process).await;
    // Not one of the slow ones has finished, and all quick ones have.
    scene.done(950).await;
    for turn in 1..=10 {
        assert_eq!(scene.journal.done(), 950 + 5 * (turn - 1));
        step.send(turn).unwrap();
        scene.done(950 + 5 * turn).await;
    }
    member.shutdown().await.unwrap();
    scene.assert_drained(&scene.produced().await);
}

/// Processors that block their threads, on a runtime with `threads` of them.
async fn blocked_threads(
    protocol: Protocol,
    threads: usize,
    is_blocked: fn(&Task<Bytes>) -> bool,
) -> Option<Blocked> {
    let scene = scene(kafka::shared(Nodes::One)?, 2).await.by(protocol);
    let in_each = |numbers: std::ops::Range<usize>| {
        let mut records = numbered(numbers, 10);
        for (number, record) in records.iter_mut().enumerate() {
            record.partition = Some(i32::from(number % 2 == 1));
        }
        records
    };
    scene.write(in_each(0..200)).await;
    let gate = Gate::closed();
    let end = gate.open_at_end();
    let processor = journaled(&scene.journal, "a", move |task| {
        let gate = gate.clone();
        async move {
            if is_blocked(&task) {
                gate.block();
            }
            Ok(())
        }
    });
    let threads = Threads::new(threads);
    let member = threads.start(subscribe(&scene), processor).await;
    Some(Blocked {
        scene,
        member,
        threads,
        end,
    })
}

struct Blocked {
    scene: Scene<'static>,
    member: Subscription,
    threads: Threads,
    end: OpenAtEnd,
}

impl Blocked {
    /// Lets the blocked ones go, and checks that nothing was lost or repeated meanwhile.
    async fn finish(self, count: usize) {
        let Self {
            scene,
            member,
            threads,
            end,
        } = self;
        drop(end);
        scene.done(count).await;
        member.shutdown().await.unwrap();
        scene.assert_drained(&scene.produced().await);
        committed_up_to(&scene, &[]).await;
        threads.end().await;
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
        of_other(&blocked.scene.journal) == 100
    })
    .await;

    // And it goes on for longer than a member may live that has stopped polling.
    let (began, mut next) = (Instant::now(), 200);
    while began.elapsed() < MAX_POLL_INTERVAL.mul_f64(1.5) {
        let mut wave = numbered(next..next + 20, 10);
        wave.iter_mut()
            .for_each(|record| record.partition = Some(1));
        next += 20;
        blocked.scene.write(wave).await;
        let expected = 100 + next - 200;
        wait_until("the other partition goes on", DEADLINE, || {
            of_other(&blocked.scene.journal) == expected
        })
        .await;
    }
    blocked.finish(next).await;
}

async fn all_threads_blocked(protocol: Protocol) {
    let Some(blocked) = blocked_threads(protocol, 2, |task| task.offset() == 0).await else {
        return;
    };
    let starts = || blocked.scene.journal.entries().len();
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

for_protocols! { all_threads_blocked:
    a_runtime_whose_threads_are_all_blocked_does_not_lose_the_member_its_group_cooperative: Cooperative,
    a_runtime_whose_threads_are_all_blocked_does_not_lose_the_member_its_group_consumer: Consumer,
}

/// Notes which threads run the user's code.
#[derive(Clone, Default)]
struct Names(Arc<Mutex<BTreeSet<String>>>);

impl Names {
    fn note(&self) {
        let name = std::thread::current().name().unwrap_or("(none)").to_owned();
        self.0.lock().unwrap().insert(name);
    }
}

impl Decode<Bytes> for Names {
    fn decode(&self, record: &Record) -> Result<Bytes, DecodeError> {
        self.note();
        Raw.decode(record)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_decoder_nor_processor_runs_on_the_thread_that_polls() {
    let scene = scene(kafka_or_skip!(Nodes::One), 2).await;
    scene.write(numbered(0..500, 10)).await;
    let names = Names::default();
    let processing = names.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("users")
        .enable_all()
        .build()
        .unwrap();
    let processor = journaled(&scene.journal, "a", move |_| {
        processing.note();
        let processing = processing.clone();
        async move {
            tokio::task::yield_now().await;
            processing.note();
            Ok(())
        }
    });
    let builder = subscribe(&scene);
    let member = runtime
        .spawn(builder.start(names.clone(), processor))
        .await
        .unwrap()
        .unwrap();
    scene.done(500).await;
    member.shutdown().await.unwrap();
    assert_eq!(
        *names.0.lock().unwrap(),
        BTreeSet::from(["users".to_owned()])
    );
    tokio::task::spawn_blocking(move || drop(runtime))
        .await
        .unwrap();
}
