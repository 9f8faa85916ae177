//! Stuck work: what holds a partition up is named, and may be taken out of the way.

use std::{ops::Deref, time::Duration};

use bytes::Bytes;
use keylane::config::{Backoff, Blocker, Limits, Watchdog};
use keylane::record::KeyHash;
use keylane::status::{PartitionStatus, Position, RecordState};
use keylane::subscription::{ActTime, OperatorNote, SubscriptionBuilder};
use keylane::{DeadLetter, Retry, Subscription, Task, TaskError};
use keylane_integration_tests::{
    dead_letters::dead_letters,
    gate::Gate,
    journal::{Entry, Outcome},
    kafka::{Kafka, NewRecord, Nodes, StoredRecord},
    kafka_or_skip,
    load::numbered,
    member::journaled,
    scene::{DEADLINE, Scene},
    threads::Threads,
    wait::wait_for,
};

/// This many records may be settled ahead of a stuck one.
const WINDOW: usize = 1_000;
/// More than fit into the window.
const OTHERS: usize = 6_000;
const AFTER: Duration = Duration::from_millis(500);
const STUCK: &str = "stuck";
/// Records of the stuck key: the first one is stuck.
const OF_STUCK_KEY: usize = 3;

struct Stuck {
    scene: Scene<'static>,
    dead: String,
}

impl Deref for Stuck {
    type Target = Scene<'static>;

    fn deref(&self) -> &Self::Target {
        &self.scene
    }
}

impl Stuck {
    /// One partition: the first record is stuck, and more others follow than fit beside it.
    async fn new(kafka: &'static Kafka) -> Self {
        let scene = Scene::new(kafka, 1).await;
        let dead = scene.another("dead", 1).await;
        let mut records: Vec<_> = (0..OF_STUCK_KEY)
            .map(|n| NewRecord::keyed(STUCK, format!("stuck-{n}")))
            .collect();
        records.extend(numbered(0..OTHERS, 100));
        scene.write(records).await;
        Self { scene, dead }
    }

    fn builder(&self) -> SubscriptionBuilder {
        self.subscribe()
            .concurrency(8)
            .commit_interval(Duration::from_millis(200))
            .limits(
                Limits::default()
                    .settled_ahead(WINDOW)
                    .pause_at_records(500)
                    .resume_at_records(300),
            )
            .watchdog(Watchdog::default().slow_attempt(AFTER).stalled_after(AFTER))
            .dead_letter(DeadLetter::topic(&self.dead))
            .kafka("queued.min.messages", "100")
    }

    async fn committed(&self, offset: usize) {
        self.committed_at(offset as i64).await;
    }

    /// The one dead letter there is, once there is one.
    async fn dead_letter(&self) -> (i64, StoredRecord) {
        wait_for("a dead letter", DEADLINE, async || {
            let found = dead_letters(self.kafka, &self.dead).await.ok()?;
            assert!(found.len() <= 1, "dead letters of {:?}", found.keys());
            let (place, mut copies) = found.into_iter().next()?;
            assert_eq!(copies.len(), 1);
            Some((place.offset, copies.remove(0)))
        })
        .await
    }

    fn cut_off(&self) -> usize {
        let entries = self.journal.entries();
        entries
            .iter()
            .filter(|entry| matches!(entry, Entry::Ended(_, _, Outcome::CutOff)))
            .count()
    }
}

/// The record that is stuck, as far as the processor is concerned.
fn is_stuck(task: &Task<Bytes>) -> bool {
    task.key_str() == Some(STUCK) && task.offset() == 0
}

fn partition(member: &Subscription) -> Option<PartitionStatus> {
    member.status().partitions.into_iter().next()
}

fn is_clear(p: &PartitionStatus) -> bool {
    p.oldest.is_none()
        && (
            p.snapshot.pending,
            p.snapshot.slow_attempts,
            p.snapshot.stalled_for,
        ) == (0, 0, None)
}

async fn seen(
    what: &str,
    member: &Subscription,
    is_so: impl Fn(&PartitionStatus) -> bool,
) -> PartitionStatus {
    wait_for(what, DEADLINE, async || partition(member).filter(&is_so)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_hangs_for_ever_is_dead_lettered_before_its_partition_stands_still() {
    let kafka = kafka_or_skip!(Nodes::One);
    let scene = Stuck::new(kafka).await;
    let builder = scene.builder().blocker(Blocker::dead_letter().after(AFTER));
    let member = scene
        .start(builder, "a", |task: Task<Bytes>| async move {
            if is_stuck(&task) {
                std::future::pending().await
            } else {
                Ok(())
            }
        })
        .await;
    let (offset, letter) = scene.dead_letter().await;
    assert_eq!(
        (
            offset,
            letter.header("keylane-reason"),
            letter.header("keylane-attempts")
        ),
        (0, Some("blocker"), Some("1"))
    );
    let error = letter.header("keylane-error").unwrap();
    assert!(error.contains("held up the partition"), "{error}");
    assert_eq!(letter.key.as_deref(), Some(STUCK.as_bytes()));
    assert_eq!(
        scene.cut_off(),
        1,
        "the attempt had ended before the record was written"
    );
    // Its key goes on, and so does everything else.
    scene.done(OF_STUCK_KEY - 1 + OTHERS).await;
    scene.committed(OF_STUCK_KEY + OTHERS).await;
    seen("nothing is stuck", &member, is_clear).await;
    member.shutdown().await.unwrap();
    scene.dead_letter().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_waits_for_its_retry_is_dead_lettered_too_with_its_own_error() {
    let kafka = kafka_or_skip!(Nodes::One);
    let scene = Stuck::new(kafka).await;
    let builder = scene
        .builder()
        .retry(Retry::in_place(5).backoff(Backoff::fixed(Duration::from_secs(3_600))))
        .blocker(Blocker::dead_letter().after(AFTER));
    let member = scene
        .start(builder, "a", |task: Task<Bytes>| async move {
            if is_stuck(&task) {
                Err(TaskError::retryable("the gate is closed"))
            } else {
                Ok(())
            }
        })
        .await;
    let (offset, letter) = scene.dead_letter().await;
    assert_eq!(
        (offset, letter.header("keylane-reason")),
        (0, Some("blocker"))
    );
    assert_eq!(letter.header("keylane-error"), Some("the gate is closed"));
    scene.committed(OF_STUCK_KEY + OTHERS).await;
    member.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_has_the_record_dead_lettered_that_a_partition_stands_still_for_and_its_key_goes_on()
 {
    let kafka = kafka_or_skip!(Nodes::One);
    let scene = Stuck::new(kafka).await;
    let hour = Backoff::fixed(Duration::from_secs(3_600));
    let builder = scene.builder().retry(Retry::in_place(5).backoff(hour));
    let member = scene
        .start(builder, "a", |task: Task<Bytes>| async move {
            if is_stuck(&task) {
                Err(TaskError::retryable("the gate is closed"))
            } else {
                Ok(())
            }
        })
        .await;
    let status = seen("the partition stands still", &member, |p| {
        let oldest = p.oldest.as_ref();
        p.paused
            && p.snapshot.settled_ahead >= WINDOW as u64
            // Not in its attempt, whose end the order would wait for.
            && oldest.is_some_and(|it| it.state == RecordState::Waiting)
    })
    .await;
    let oldest = status.oldest.unwrap();
    let note = OperatorNote::new("ann", "INC-7");
    let (topic, number) = (&status.topic, status.partition);
    let handle = member.handle();
    let ordered = handle.dead_letter_now(topic, number, oldest.offset, note);
    assert_eq!(ordered.await, Ok(ActTime::Now));
    let (offset, letter) = scene.dead_letter().await;
    assert_eq!(
        (
            offset,
            letter.header("keylane-reason"),
            letter.header("keylane-attempts")
        ),
        (0, Some("operator"), Some("1"))
    );
    assert_eq!(
        letter.header("keylane-error"),
        Some("given up by an operator (ann): INC-7; last error: the gate is closed")
    );
    scene.done(OF_STUCK_KEY - 1 + OTHERS).await;
    scene.committed(OF_STUCK_KEY + OTHERS).await;
    seen("nothing is stuck", &member, is_clear).await;
    member.shutdown().await.unwrap();
    scene.dead_letter().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_default_the_partition_waits_and_its_status_names_the_record() {
    let kafka = kafka_or_skip!(Nodes::One);
    let scene = Stuck::new(kafka).await;
    let gate = Gate::closed();
    let inner = gate.clone();
    let member = scene
        .start(scene.builder(), "a", move |task: Task<Bytes>| {
            let gate = inner.clone();
            async move {
                if is_stuck(&task) {
                    gate.passed().await;
                }
                Ok(())
            }
        })
        .await;
    let is_stuck = |p: &PartitionStatus| {
        let is_full = p.paused && p.snapshot.settled_ahead >= WINDOW as u64;
        // A turn that came late passes for a thread that is blocked, with so short a patience.
        is_full
            && p.snapshot.stalled_for.is_some()
            && p.snapshot.slow_attempts == 1
            && p.oldest.is_some()
            && p.blocked_for.is_none()
    };
    let status = seen("the partition stands still", &member, is_stuck).await;
    let oldest = status.oldest.unwrap();
    assert_eq!(
        (oldest.offset, oldest.attempts, oldest.state),
        (0, 1, RecordState::Running)
    );
    assert_eq!(oldest.key_hash, Some(KeyHash::of(STUCK.as_bytes())));
    assert!(oldest.age >= AFTER && status.snapshot.stalled_for >= Some(AFTER));
    assert_eq!(
        (status.snapshot.watermark, status.blocked_for),
        (Some(Position::new(0)), None)
    );
    let done = scene.journal.done();
    assert!(done < OTHERS, "{done} done: nothing was held up");
    gate.open();
    scene.done(OF_STUCK_KEY + OTHERS).await;
    seen("nothing is stuck", &member, is_clear).await;
    member.shutdown().await.unwrap();
    assert!(dead_letters(kafka, &scene.dead).await.unwrap().is_empty());
}

/// The owner polls the attempt itself at first, and so is blocked with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_whose_processor_blocks_it_is_seen_from_outside() {
    let kafka = kafka_or_skip!(Nodes::One);
    let scene = Stuck::new(kafka).await;
    let threads = Threads::new(2);
    let gate = Gate::closed();
    let end = gate.open_at_end();
    let process = move |task: Task<Bytes>| {
        let gate = gate.clone();
        async move {
            if is_stuck(&task) {
                gate.block();
            }
            Ok(())
        }
    };
    let processor = journaled(&scene.journal, "a", process);
    let member = threads.start(scene.builder(), processor).await;
    let status = seen("it is blocked by its attempt", &member, |p| {
        p.blocked_for.is_some() && p.snapshot.slow_attempts == 1
    })
    .await;
    assert!(status.blocked_for >= Some(AFTER));
    drop(end);
    scene.done(OF_STUCK_KEY + OTHERS).await;
    seen("it is not blocked", &member, |p| {
        p.blocked_for.is_none() && p.snapshot.slow_attempts == 0
    })
    .await;
    member.shutdown().await.unwrap();
    threads.end().await;
}

/// Its effect could come after the dead letter.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_cannot_be_ended_is_not_written_while_it_runs() {
    let kafka = kafka_or_skip!(Nodes::One);
    let scene = Stuck::new(kafka).await;
    let threads = Threads::new(3);
    let gate = Gate::closed();
    let end = gate.open_at_end();
    // The others wait for it: the window fills only when it can no longer be ended.
    let blocks = Gate::closed();
    let process = move |task: Task<Bytes>| {
        let (gate, blocks) = (gate.clone(), blocks.clone());
        async move {
            if is_stuck(&task) {
                // From here on in a task of its own: the owner is not blocked.
                tokio::task::yield_now().await;
                blocks.open();
                gate.block();
            }
            blocks.passed().await;
            Ok(())
        }
    };
    let builder = scene.builder().blocker(Blocker::dead_letter().after(AFTER));
    let processor = journaled(&scene.journal, "a", process);
    let member = threads.start(builder, processor).await;
    // Long after it was found.
    let is_over_time = |p: &PartitionStatus| p.paused && p.snapshot.stalled_for > Some(6 * AFTER);
    seen("it holds up its partition", &member, is_over_time).await;
    assert!(dead_letters(kafka, &scene.dead).await.unwrap().is_empty());
    drop(end);
    scene.done(OF_STUCK_KEY + OTHERS).await;
    scene.committed(OF_STUCK_KEY + OTHERS).await;
    member.shutdown().await.unwrap();
    assert!(
        dead_letters(kafka, &scene.dead).await.unwrap().is_empty(),
        "it succeeded before it could be ended"
    );
    threads.end().await;
}
