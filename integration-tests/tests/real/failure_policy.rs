//! The failure policy, end to end: in place, through the retry topic, and what comes after.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Deref,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use keylane::config::{Backoff, Exhausted};
use keylane::error::SubscriptionError;
use keylane::status::{OutageKind, Snapshot, State, TroubleKind};
use keylane::subscription::SubscriptionBuilder;
use keylane::{
    Json, NewTask, Processor, Raw, Retry, Subscription, Success, Task, TaskError, TaskProducer,
};
use keylane_integration_tests::{
    claims::{claims, unclaimed},
    gate::Gate,
    journal::{Expect, Journal},
    kafka::{Kafka, NewRecord, Nodes, StoredRecord},
    kafka_or_skip,
    load::numbered,
    member::journaled,
    protocol::Protocol,
    scene::{DEADLINE, FailureScene, Scene},
    wait::{wait_for, wait_until},
};

const HOUR: Duration = Duration::from_secs(3600);

/// Topics of one partition.
struct Policy(FailureScene<'static>);

impl Deref for Policy {
    type Target = FailureScene<'static>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Policy {
    async fn new(kafka: &'static Kafka) -> Self {
        Self(FailureScene::new(kafka, 1, Protocol::Cooperative).await)
    }

    async fn dead_letters(&self) -> BTreeMap<i64, Vec<StoredRecord>> {
        let dead = self.0.dead_letters().await;
        dead.into_iter()
            .map(|(place, records)| (place.offset, records))
            .collect()
    }

    /// The dead letters by offset, once there are so many; each must be there once.
    async fn await_dead(&self, count: usize) -> BTreeMap<i64, StoredRecord> {
        let dead = wait_for("the dead letters are written", DEADLINE, async || {
            let dead = self.dead_letters().await;
            (dead.len() >= count).then_some(dead)
        })
        .await;
        assert_eq!(dead.len(), count, "{dead:?}");
        dead.into_iter()
            .map(|(offset, mut records)| {
                assert_eq!(
                    records.len(),
                    1,
                    "{offset} was dead-lettered {} times",
                    records.len()
                );
                (offset, records.remove(0))
            })
            .collect()
    }
}

/// The attempts that were made, by payload.
#[derive(Clone, Default)]
struct Attempts(Arc<Mutex<HashMap<String, Vec<u32>>>>);

impl Attempts {
    fn note(&self, task: &Task<Bytes>) {
        self.0
            .lock()
            .unwrap()
            .entry(text(task))
            .or_default()
            .push(task.attempt());
    }

    fn of(&self, payload: &str) -> Vec<u32> {
        self.0
            .lock()
            .unwrap()
            .get(payload)
            .cloned()
            .unwrap_or_default()
    }
}

fn text(task: &Task<Bytes>) -> String {
    String::from_utf8_lossy(task.payload()).into_owned()
}

fn quick() -> Backoff {
    Backoff::fixed(Duration::from_millis(5))
}

fn never() -> Backoff {
    Backoff::fixed(HOUR)
}

/// A processor that notes each attempt, and then does as `fate` says.
fn noting(
    attempts: &Attempts,
    fate: impl Fn(&str, u32) -> Result<(), TaskError> + Send + Sync + 'static,
) -> impl Processor<Bytes> {
    let attempts = attempts.clone();
    move |task: Task<Bytes>| {
        attempts.note(&task);
        let result = fate(&text(&task), task.attempt());
        async move { result }
    }
}

async fn start(
    builder: SubscriptionBuilder,
    attempts: &Attempts,
    fate: impl Fn(&str, u32) -> Result<(), TaskError> + Send + Sync + 'static,
) -> Subscription {
    builder.start(Raw, noting(attempts, fate)).await.unwrap()
}

/// Waits until that topic's partition is assigned and stands like this.
async fn await_snapshot(
    member: &Subscription,
    topic: &str,
    what: &str,
    is_so: impl Fn(&Snapshot) -> bool,
) {
    wait_until(what, DEADLINE, || {
        let partitions = member.status().partitions;
        let mut of_topic = partitions.iter().filter(|of| &*of.topic == topic);
        of_topic.any(|of| is_so(&of.snapshot))
    })
    .await;
}

/// For [`await_snapshot`]: one record waits for its time, and no other is pending.
fn one_waits(of: &Snapshot) -> bool {
    (of.waiting, of.pending) == (1, 1)
}

/// Waits until so many records that are out of retries are held.
async fn await_held(member: &Subscription, count: u64) {
    wait_until(&format!("{count} are held"), DEADLINE, || {
        member.status().outage.map_or(0, |outage| outage.held) == count
    })
    .await;
}

/// A fate that is this error for one payload.
fn only(
    bad: &'static str,
    error: fn() -> TaskError,
) -> impl Fn(&str, u32) -> Result<(), TaskError> + Send + Sync + 'static {
    move |payload, _| if payload == bad { Err(error()) } else { Ok(()) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_in_place_counts_attempts_keeps_the_key_waiting_and_nobody_else() {
    let scene = Policy::new(kafka_or_skip!(Nodes::One)).await;
    scene
        .write(vec![
            NewRecord::keyed("a", "bad"),
            NewRecord::keyed("a", "behind"),
            NewRecord::keyed("b", "other"),
        ])
        .await;
    let (attempts, open) = (Attempts::default(), Arc::new(AtomicBool::new(false)));
    let fate = {
        let (attempts, open) = (attempts.clone(), open.clone());
        move |payload: &str, _| match payload {
            "bad" if !open.load(Ordering::SeqCst) => Err(TaskError::retryable("not yet")),
            "behind" => {
                assert!(
                    attempts.of("bad").len() >= 5,
                    "it overtook the record that is retried"
                );
                Ok(())
            }
            _ => Ok(()),
        }
    };
    let retry = Retry::forever().backoff(quick());
    let member = start(scene.subscribe().retry(retry), &attempts, fate).await;
    wait_until(
        "the other key is done and the first one was retried",
        DEADLINE,
        || attempts.of("other") == [1] && attempts.of("bad").len() >= 5,
    )
    .await;
    assert_eq!(attempts.of("behind"), [] as [u32; 0]);
    open.store(true, Ordering::SeqCst);
    wait_until("the key goes on", DEADLINE, || {
        !attempts.of("behind").is_empty()
    })
    .await;
    let bad = attempts.of("bad");
    assert_eq!(
        bad,
        (1..=u32::try_from(bad.len()).unwrap()).collect::<Vec<_>>()
    );
    assert_eq!(attempts.of("behind"), [1]);
    scene.all_claimed_of(&scene.topic).await;
    member.shutdown().await.unwrap();
    assert!(scene.dead_letters().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_delay_on_the_retry_topic_is_not_held_up_by_a_long_one() {
    let scene = Policy::new(kafka_or_skip!(Nodes::One)).await;
    scene.write(vec![NewRecord::keyed("k", "long")]).await;
    let attempts = Attempts::default();
    let fate = |payload: &str, attempt| match (payload, attempt) {
        ("long", _) => Err(TaskError::retry_after("in an hour", HOUR)),
        (_, 1) => Err(TaskError::retry_after("soon", Duration::from_millis(20))),
        _ => Ok(()),
    };
    let retry = Retry::none().then_topic();
    let member = start(scene.subscribe().retry(retry), &attempts, fate).await;
    await_snapshot(
        &member,
        &scene.retry,
        "the long delay waits in memory",
        one_waits,
    )
    .await;
    // The same key, so also the same partition of the retry topic, behind the long one.
    scene
        .write(
            (0..50)
                .map(|i| NewRecord::keyed("k", format!("short-{i}")))
                .collect(),
        )
        .await;
    wait_until("the short delays are over", DEADLINE, || {
        (0..50).all(|i| attempts.of(&format!("short-{i}")) == [1, 2])
    })
    .await;
    assert_eq!(attempts.of("long"), [1]);
    scene.all_claimed_of(&scene.topic).await;
    wait_for(
        "all of the retry topic but the long one is committed as settled",
        DEADLINE,
        async || {
            let produced = scene.kafka.produced(&scene.retry).await.unwrap();
            let left = unclaimed(&scene.claims_of(&scene.retry).await, &produced);
            (produced.len() == 51 && left.iter().map(|place| place.offset).eq([0])).then_some(())
        },
    )
    .await;
    member.shutdown().await.unwrap();
    // It is not due after a restart either, and what is settled behind it is not repeated.
    let member = start(
        scene.subscribe().retry(Retry::none().then_topic()),
        &attempts,
        |_, _| Ok(()),
    )
    .await;
    scene.write(vec![NewRecord::keyed("k", "last")]).await;
    wait_until("others go on", DEADLINE, || attempts.of("last") == [1]).await;
    await_snapshot(&member, &scene.retry, "it waits again", one_waits).await;
    assert_eq!(attempts.of("long"), [1]);
    assert!((0..50).all(|i| attempts.of(&format!("short-{i}")) == [1, 2]));
    member.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_place_and_topic_combine_and_every_attempt_is_counted_once() {
    let scene = Policy::new(kafka_or_skip!(Nodes::One)).await;
    scene
        .write(vec![
            NewRecord::keyed("k", "bad"),
            NewRecord::keyed("k", "good"),
        ])
        .await;
    let attempts = Attempts::default();
    let fate = only("bad", || TaskError::retryable("always"));
    let retry = Retry::in_place(2)
        .backoff(quick())
        .then_topic()
        .topic_rounds(2)
        .topic_backoff(quick());
    let member = start(scene.subscribe().retry(retry), &attempts, fate).await;
    let dead = scene.await_dead(1).await;
    let letter = &dead[&0];
    assert_eq!(attempts.of("bad"), (1..=9).collect::<Vec<_>>());
    assert_eq!(attempts.of("good"), [1]);
    assert_eq!(
        (
            letter.header("keylane-attempts"),
            letter.header("keylane-reason")
        ),
        (Some("9"), Some("exhausted"))
    );
    assert_eq!(letter.header("keylane-error"), Some("always"));
    assert!(
        letter
            .headers
            .iter()
            .all(|(name, _)| name != "keylane-retry-due" && name != "dt_meta"),
        "{letter:?}"
    );
    assert_eq!(
        scene.kafka.read_all(&scene.retry).await.unwrap().len(),
        2,
        "one record a round"
    );
    scene.all_claimed_of(&scene.topic).await;
    scene.all_claimed_of(&scene.retry).await;
    member.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delay_chosen_by_the_error_replaces_the_back_off_in_place() {
    let scene = Policy::new(kafka_or_skip!(Nodes::One)).await;
    scene
        .write(vec![
            NewRecord::keyed("a", "soon"),
            NewRecord::keyed("b", "late"),
            NewRecord::keyed("c", "by policy"),
        ])
        .await;
    let attempts = Attempts::default();
    let fate = |payload: &str, attempt| match (payload, attempt) {
        ("soon", 1..=3) => Err(TaskError::retry_after("busy", Duration::from_millis(5))),
        ("late", _) => Err(TaskError::retry_after("busy", HOUR)),
        ("by policy", _) => Err(TaskError::retryable("busy")),
        _ => Ok(()),
    };
    let retry = Retry::in_place(5).backoff(never());
    let member = start(scene.subscribe().retry(retry), &attempts, fate).await;
    wait_until("the short delay was taken", DEADLINE, || {
        attempts.of("soon") == [1, 2, 3, 4]
    })
    .await;
    await_snapshot(&member, &scene.topic, "the others wait", |of| {
        (of.waiting, of.pending) == (2, 2)
    })
    .await;
    assert_eq!(
        (attempts.of("late"), attempts.of("by policy")),
        (vec![1], vec![1])
    );
    member.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parked_record_holds_its_key_and_nothing_else_until_the_next_start() {
    let scene = Policy::new(kafka_or_skip!(Nodes::One)).await;
    let mut records = vec![
        NewRecord::keyed("a", "bad"),
        NewRecord::keyed("a", "behind"),
    ];
    records.extend((0..100).map(|i| NewRecord::keyed(format!("k{i}"), "other")));
    scene.write(records).await;
    let attempts = Attempts::default();
    let fate = only("bad", || TaskError::retryable("no"));
    let retry = || {
        Retry::in_place(1)
            .backoff(quick())
            .exhausted(Exhausted::Park)
    };
    let member = start(scene.subscribe().retry(retry()), &attempts, fate).await;
    wait_until("the other keys are done", DEADLINE, || {
        attempts.of("other").len() == 100
    })
    .await;
    await_snapshot(&member, &scene.topic, "the record is parked", |of| {
        (of.parked, of.pending) == (1, 2)
    })
    .await;
    assert_eq!(
        (attempts.of("bad"), attempts.of("behind")),
        (vec![1, 2], vec![])
    );
    let produced = scene.produced().await;
    wait_for(
        "all but the key of the parked record is committed as settled",
        DEADLINE,
        async || {
            let left = unclaimed(&scene.claims().await, &produced);
            left.iter()
                .map(|place| place.offset)
                .eq([0, 1])
                .then_some(())
        },
    )
    .await;
    member.shutdown().await.unwrap();

    let member = start(scene.subscribe().retry(retry()), &attempts, |_, _| Ok(())).await;
    wait_until("the key goes on", DEADLINE, || attempts.of("behind") == [1]).await;
    assert_eq!(attempts.of("bad"), [1, 2, 1]);
    assert_eq!(attempts.of("other").len(), 100);
    scene.all_claimed_of(&scene.topic).await;
    member.shutdown().await.unwrap();
    assert!(scene.dead_letters().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_policy_to_stop_ends_run_with_the_record_uncommitted() {
    let scene = Policy::new(kafka_or_skip!(Nodes::One)).await;
    let mut records = numbered(0..200, 20);
    records[77].value = Some(b"bad".to_vec());
    scene.write(records).await;
    let attempts = Attempts::default();
    let fate = only("bad", || TaskError::fatal("the disk is full"));
    let retry = Retry::default().exhausted(Exhausted::Stop);
    let member = start(scene.subscribe().retry(retry), &attempts, fate).await;
    let handle = member.handle();
    let ended = tokio::time::timeout(DEADLINE, member.run()).await.unwrap();
    match ended {
        Err(SubscriptionError::RetriesExhausted {
            topic,
            partition,
            offset,
            reason,
        }) => {
            assert_eq!(
                (topic, partition, offset, reason),
                (scene.topic.clone(), 0, 77, "fatal")
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(handle.state(), State::Failed);
    let claimed = scene.claims().await;
    assert!(!claimed[0].covers(77), "{claimed:?}");
    assert!(scene.dead_letters().await.is_empty());

    let member = start(scene.subscribe(), &attempts, |_, _| Ok(())).await;
    wait_until("everything is done after a restart", DEADLINE, || {
        attempts.of("bad") == [1, 1]
            && (0..200)
                .filter(|i| *i != 77)
                .all(|i| !attempts.of(&i.to_string()).is_empty())
    })
    .await;
    scene.all_claimed_of(&scene.topic).await;
    member.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_keeps_key_value_and_headers_bit_for_bit() {
    let scene = Policy::new(kafka_or_skip!(Nodes::One)).await;
    let headers = || {
        vec![
            ("trace".to_owned(), Some(b"1".to_vec())),
            ("bytes".to_owned(), Some(vec![0xff, 0x00, 0xfe])),
            ("null".to_owned(), None),
            ("empty".to_owned(), Some(Vec::new())),
            ("trace".to_owned(), Some(b"2".to_vec())),
            ("dt_meta".to_owned(), Some(vec![0xff, 0xff])),
            ("keylane-mine".to_owned(), Some(b"not keylane's".to_vec())),
        ]
    };
    let records: Vec<NewRecord> = [
        (Some(vec![0xff, 0x00]), Some(b"{ not json".to_vec())),
        (None, Some(vec![0xc3, 0x28])),
        (Some(Vec::new()), Some(Vec::new())),
        (Some(b"tombstone".to_vec()), None),
    ]
    .into_iter()
    .map(|(key, value)| NewRecord {
        key,
        value,
        headers: headers(),
        ..NewRecord::default()
    })
    .collect();
    scene.write(records.clone()).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = seen.clone();
    let processor = move |task: Task<u32>| {
        noted.lock().unwrap().push(*task.payload());
        async { Ok::<(), TaskError>(()) }
    };
    let member = scene.subscribe().start(Json, processor).await.unwrap();
    let dead = scene.await_dead(records.len()).await;
    let stored = scene.kafka.read_all(&scene.topic).await.unwrap();
    for (origin, record) in stored.iter().zip(&records) {
        let letter = &dead[&origin.offset];
        assert_eq!((&letter.key, &letter.value), (&record.key, &record.value));
        assert_eq!(letter.headers[..record.headers.len()], record.headers[..]);
        assert!(
            letter.timestamp_millis >= origin.timestamp_millis,
            "{letter:?}"
        );
        assert_eq!(letter.header("keylane-reason"), Some("undecodable"));
        assert_eq!(letter.header("keylane-attempts"), Some("1"));
        assert_eq!(letter.header("keylane-group"), Some(&*scene.group));
        let origin_time = origin.timestamp_millis.map(|millis| millis.to_string());
        assert_eq!(
            letter.header("keylane-origin-timestamp"),
            origin_time.as_deref()
        );
    }
    scene.all_claimed_of(&scene.topic).await;
    member.shutdown().await.unwrap();
    assert_eq!(*seen.lock().unwrap(), [] as [u32; 0]);
}

/// Points 10 and 11, with the defaults of Kafka 4 on the dead-letter topic: a record's own time
/// would be refused (more than an hour ahead), or its dead letter deleted (older than the
/// retention).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_of_records_ahead_of_the_clock_and_of_old_ones_land_and_stay() {
    let kafka = kafka_or_skip!(Nodes::One);
    let topic = kafka.unique("policy");
    let (retry, dead) = (format!("{topic}-retry"), format!("{topic}-dead"));
    let forever = [
        ("message.timestamp.after.max.ms", "9223372036854775807"),
        ("retention.ms", "-1"),
    ];
    kafka.create_topic(&topic, 1, 1, &forever).await.unwrap();
    // The second partition is for a witness.
    kafka.create_topic(&dead, 2, 1, &[]).await.unwrap();
    let scene = Policy(FailureScene {
        scene: Scene::of(kafka, topic),
        retry,
        dead,
    });
    let now = i64::try_from(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_millis(),
    )
    .unwrap();
    let hour = i64::try_from(HOUR.as_millis()).unwrap();
    let times = [now + 2 * hour, now - 8 * 24 * hour];
    let at = |time| NewRecord {
        timestamp_millis: Some(time),
        ..NewRecord::keyed("k", "bad")
    };
    scene.write(times.map(at).to_vec()).await;
    let fate = |_: &str, _| Err(TaskError::fatal("no"));
    let member = start(scene.subscribe(), &Attempts::default(), fate).await;
    scene.await_dead(times.len()).await;
    scene.all_claimed_of(&scene.topic).await;
    member.shutdown().await.unwrap();

    // Retention has looked at the topic since: it has taken away a record that is as old as the
    // second one.
    let witness = NewRecord {
        partition: Some(1),
        ..at(times[1])
    };
    kafka.produce(&scene.dead, vec![witness]).await.unwrap();
    wait_until_retention_takes(kafka, &scene.dead, 1).await;
    let letters = scene.await_dead(times.len()).await;
    for (letter, time) in letters.values().zip(times) {
        assert!(
            letter
                .timestamp_millis
                .is_some_and(|written| written >= now && written < now + hour),
            "{letter:?}"
        );
        assert_eq!(
            letter.header("keylane-origin-timestamp"),
            Some(&*time.to_string())
        );
    }
}

async fn wait_until_retention_takes(kafka: &Kafka, topic: &str, partition: i32) {
    wait_for("retention has deleted the witness", DEADLINE, async || {
        let all = kafka.read_all(topic).await.unwrap();
        all.iter()
            .all(|record| record.partition != partition)
            .then_some(())
    })
    .await;
}

/// Point 9: a record that the origin takes, between the 1,000,000 bytes that librdkafka hands on by
/// default and the 1,048,588 that Kafka takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_above_librdkafkas_limit_goes_through_retry_and_dead_letter_topics_with_kafkas_defaults()
 {
    let scene = Policy::new(kafka_or_skip!(Nodes::One)).await;
    let servers = scene.kafka.bootstrap_servers();
    let producer = TaskProducer::builder(&scene.topic)
        .bootstrap_servers(servers)
        .application_id("test")
        .start()
        .await
        .unwrap();
    let value = noise(1_020_000);
    producer
        .enqueue(NewTask::new(value.clone()).key("k"))
        .await
        .unwrap();
    let too_large = producer
        .enqueue(NewTask::new(noise(1_060_000)))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        too_large.contains("the topic's max.message.bytes"),
        "{too_large}"
    );
    producer.close(DEADLINE).await.unwrap();
    let retry = Retry::none()
        .then_topic()
        .topic_rounds(1)
        .topic_backoff(quick());
    let fate = |_: &str, _| Err(TaskError::retryable("no"));
    let member = start(scene.subscribe().retry(retry), &Attempts::default(), fate).await;
    let dead = scene.await_dead(1).await;
    assert!(dead[&0].value.as_ref() == Some(&value));
    assert_eq!(scene.kafka.read_all(&scene.retry).await.unwrap().len(), 1);
    scene.all_claimed_of(&scene.topic).await;
    member.shutdown().await.unwrap();
}

/// Point 9, at the exact edge: as large as the topic allows, so that no header fits, and somewhat
/// smaller.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_with_its_headers_is_dead_lettered_with_fewer_and_parked_where_none_fit()
{
    const LIMIT: usize = 20_000;
    let scene = Policy::new(kafka_or_skip!(Nodes::One)).await;
    let probes = scene.kafka.unique("probes");
    scene
        .kafka
        .create_topic(&probes, 1, 1, &[("max.message.bytes", &LIMIT.to_string())])
        .await
        .unwrap();
    for topic in [&scene.retry, &scene.dead] {
        scene.limit_bytes(topic, LIMIT).await;
    }
    // A batch has 61 bytes, a record with a key of one byte and such a value 12.
    let edge = LIMIT - 61 - 12;
    let sized = |bytes| vec![NewRecord::keyed("k", noise(bytes))];
    scene.kafka.produce(&probes, sized(edge)).await.unwrap();
    scene
        .kafka
        .produce(&probes, sized(edge + 1))
        .await
        .unwrap_err();

    // All headers are some 1,400 bytes with this error, without it 450, the fewest 250.
    let sizes = [edge - 2_500, edge - 700, edge - 350, edge];
    for (key, bytes) in ["a", "b", "c", "d"].into_iter().zip(sizes) {
        scene.write(vec![NewRecord::keyed(key, noise(bytes))]).await;
    }
    let retry = Retry::none()
        .then_topic()
        .topic_rounds(1)
        .topic_backoff(quick());
    let error: String = noise(450)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let fate = move |_: &str, _| Err(TaskError::retryable(error.clone()));
    let member = start(scene.subscribe().retry(retry), &Attempts::default(), fate).await;
    let dead = scene.await_dead(3).await;
    let headers = |offset: i64| {
        ["keylane-reason", "keylane-attempts", "keylane-error"]
            .map(|name| dead[&offset].header(name).is_some())
    };
    assert_eq!(
        [0, 1, 2].map(headers),
        [[true; 3], [true, true, false], [true, false, false]]
    );
    for (offset, bytes) in sizes.iter().enumerate().take(3) {
        let letter = &dead[&i64::try_from(offset).unwrap()];
        assert_eq!(
            (
                letter.value.as_ref().map(Vec::len),
                letter.header("keylane-group")
            ),
            (Some(*bytes), Some(&*scene.group))
        );
    }
    await_snapshot(
        &member,
        &scene.topic,
        "the one without any room is parked",
        |of| of.parked == 1,
    )
    .await;
    let through_the_topic = scene.kafka.read_all(&scene.retry).await.unwrap();
    assert_eq!(through_the_topic.len(), 1, "only the first one fits there");
    member.shutdown().await.unwrap();
    let claimed = scene.claims().await;
    assert!(
        !claimed[0].covers(3) && (0..3).all(|offset| claimed[0].covers(offset)),
        "{claimed:?}"
    );
}

/// Bytes that no compression makes smaller.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tombstones_reach_a_processor_of_options() {
    let scene = Policy::new(kafka_or_skip!(Nodes::One)).await;
    let tombstone = NewRecord {
        key: Some(b"k".to_vec()),
        ..NewRecord::default()
    };
    scene
        .write(vec![
            NewRecord::keyed("k", "7"),
            tombstone,
            NewRecord::keyed("k", "8"),
        ])
        .await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = seen.clone();
    let processor = move |task: Task<Option<u32>>| {
        noted
            .lock()
            .unwrap()
            .push((task.is_tombstone(), *task.payload()));
        async { Ok::<(), TaskError>(()) }
    };
    let member = scene.subscribe().start(Json, processor).await.unwrap();
    scene.all_claimed_of(&scene.topic).await;
    member.shutdown().await.unwrap();
    assert_eq!(
        *seen.lock().unwrap(),
        [(false, Some(7)), (true, None), (false, Some(8))]
    );
    assert!(scene.dead_letters().await.is_empty());
}

/// A retry policy that is used up while a test can wait for it, and not before five keys have
/// failed.
fn for_a_second() -> Retry {
    Retry::for_at_least(Duration::from_secs(1)).backoff(Backoff::fixed(Duration::from_millis(50)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_the_downstream_dead_letters_nothing() {
    let scene = Policy::new(kafka_or_skip!(Nodes::One)).await;
    scene.write(numbered(0..100, 100)).await;
    let (attempts, down) = (Attempts::default(), Arc::new(AtomicBool::new(false)));
    let fate = {
        let down = down.clone();
        move |_: &str, _| {
            if down.load(Ordering::SeqCst) {
                Err(TaskError::retryable("down"))
            } else {
                Ok(())
            }
        }
    };
    let member = start(scene.subscribe().retry(for_a_second()), &attempts, fate).await;
    scene.all_claimed_of(&scene.topic).await;
    down.store(true, Ordering::SeqCst);
    scene.write(numbered(100..300, 200)).await;
    await_held(&member, 200).await;
    let outage = member.status().outage.unwrap();
    assert!(
        outage
            .ongoing
            .iter()
            .any(|ongoing| ongoing.kind == OutageKind::Total),
        "{outage:?}"
    );
    assert!(scene.dead_letters().await.is_empty());
    down.store(false, Ordering::SeqCst);
    scene.all_claimed_of(&scene.topic).await;
    wait_until("nothing is held", DEADLINE, || {
        member.status().outage.is_none()
    })
    .await;
    member.shutdown().await.unwrap();
    assert!(scene.dead_letters().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fatal_records_are_dead_lettered_during_an_outage_and_the_operator_lets_the_others_go() {
    let scene = Policy::new(kafka_or_skip!(Nodes::One)).await;
    scene.write(numbered(0..30, 30)).await;
    let attempts = Attempts::default();
    let fate = |payload: &str, _| match payload.parse::<u32>().unwrap() % 2 {
        0 => Err(TaskError::fatal("wrong")),
        _ => Err(TaskError::retryable("down")),
    };
    let member = start(scene.subscribe().retry(for_a_second()), &attempts, fate).await;
    let dead = scene.await_dead(15).await;
    assert!(
        dead.values()
            .all(|letter| letter.header("keylane-reason") == Some("fatal"))
    );
    assert!(
        (0..30)
            .step_by(2)
            .all(|i| attempts.of(&i.to_string()) == [1]),
        "each was tried once"
    );
    await_held(&member, 15).await;
    assert_eq!(scene.dead_letters().await.len(), 15);
    member
        .handle()
        .release_held(keylane::subscription::OperatorNote::new("ann", "INC-7"));
    let dead = scene.await_dead(30).await;
    assert_eq!(
        dead.values()
            .filter(|letter| letter.header("keylane-reason") == Some("exhausted"))
            .count(),
        15
    );
    member.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn panics_and_time_outs_are_failures_of_their_record_alone() {
    let scene = Policy::new(kafka_or_skip!(Nodes::One)).await;
    let mut records = numbered(0..100, 10);
    records[10].value = Some(b"panic".to_vec());
    records[20].value = Some(b"late panic".to_vec());
    records[30].value = Some(b"hang".to_vec());
    scene.write(records).await;
    let journal = Journal::new();
    let processor = journaled(&journal, "a", |task: Task<Bytes>| async move {
        match &*text(&task) {
            "panic" => panic!("at once"),
            "late panic" => {
                tokio::task::yield_now().await;
                panic!("later");
            }
            "hang" => std::future::pending::<()>().await,
            _ => {}
        }
        Ok(())
    });
    let member = scene
        .subscribe()
        .retry(Retry::in_place(1).backoff(quick()))
        .attempt_timeout(Duration::from_millis(200))
        .start(Raw, processor)
        .await
        .unwrap();
    let dead = scene.await_dead(3).await;
    let reasons: Vec<_> = dead
        .iter()
        .map(|(offset, letter)| (*offset, letter.header("keylane-reason").unwrap()))
        .collect();
    assert_eq!(reasons, [(10, "panic"), (20, "panic"), (30, "timeout")]);
    assert!(
        dead.values()
            .all(|letter| letter.header("keylane-attempts") == Some("2"))
    );
    assert_eq!(
        dead[&20].header("keylane-error"),
        Some("the attempt panicked: later")
    );
    scene.all_claimed_of(&scene.topic).await;
    assert_eq!(member.state(), State::Running);
    member.shutdown().await.unwrap();
    let produced: Vec<_> = scene.produced().await;
    let others: Vec<_> = produced
        .into_iter()
        .filter(|record| ![10, 20, 30].contains(&record.offset))
        .collect();
    let settled = journal.settled();
    assert!(
        others
            .iter()
            .all(|record| settled.contains(&record.place()))
    );
    assert_eq!(settled.len(), others.len());
    assert!(!settled.contains(&scene.place(30)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn skipped_records_are_settled_and_go_nowhere() {
    let scene = Policy::new(kafka_or_skip!(Nodes::One)).await;
    scene.write(numbered(0..50, 5)).await;
    let attempts = Attempts::default();
    let noted = attempts.clone();
    let skip = move |task: Task<Bytes>| {
        noted.note(&task);
        async { Ok(Success::skipped("gone")) }
    };
    let member = scene.subscribe().start(Raw, skip).await.unwrap();
    scene.all_claimed_of(&scene.topic).await;
    member.shutdown().await.unwrap();
    assert!((0..50).all(|i| attempts.of(&i.to_string()) == [1]));
    assert!(scene.dead_letters().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_dead_letter_topic_nothing_is_dropped() {
    let kafka = kafka_or_skip!(Nodes::One);
    let scene = Policy::new(kafka).await;
    scene
        .write(vec![
            NewRecord::keyed("a", "not json"),
            NewRecord::keyed("b", "1"),
            NewRecord::keyed("c", "2"),
        ])
        .await;
    let tries = Arc::new(Mutex::new(0));
    let noted = tries.clone();
    let processor = move |task: Task<u32>| {
        let fatal = *task.payload() == 1;
        *noted.lock().unwrap() += u32::from(fatal);
        async move {
            if fatal {
                Err(TaskError::fatal("no"))
            } else {
                Ok(())
            }
        }
    };
    let member = Protocol::Cooperative
        .subscribe(kafka, &scene.group, &scene.topic, 10_000)
        .retry(Retry::in_place(1).backoff(quick()))
        .start(Json, processor)
        .await
        .unwrap();
    wait_until("the fatal one is tried again and again", DEADLINE, || {
        *tries.lock().unwrap() > 10
    })
    .await;
    await_snapshot(
        &member,
        &scene.topic,
        "the undecodable one is parked",
        |of| (of.parked, of.pending) == (1, 2),
    )
    .await;
    member.shutdown().await.unwrap();
    let claimed = claims(kafka, &scene.group, &scene.topic).await.unwrap();
    assert_eq!(
        [0, 1, 2].map(|offset| claimed[0].covers(offset)),
        [false, false, true]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_not_before_time_is_kept_with_the_order_of_its_key() {
    let scene = Policy::new(kafka_or_skip!(Nodes::One)).await;
    let producer = TaskProducer::builder(&scene.topic)
        .bootstrap_servers(scene.kafka.bootstrap_servers())
        .application_id("suite")
        .start()
        .await
        .unwrap();
    let (seen, due) = (Arc::new(Mutex::new(Vec::new())), Arc::new(OnceLock::new()));
    let (noted, due_then) = (seen.clone(), due.clone());
    let processor = move |task: Task<Bytes>| {
        assert_eq!(task.metadata().unwrap().source_application_id, "suite");
        noted
            .lock()
            .unwrap()
            .push((text(&task), SystemTime::now() >= *due_then.get().unwrap()));
        async { Ok::<(), TaskError>(()) }
    };
    let member = scene.subscribe().start(Raw, processor).await.unwrap();
    // Only what is delivered before it is due waits.
    await_snapshot(&member, &scene.topic, "it is assigned", |_| true).await;
    let due = *due.get_or_init(|| SystemTime::now() + Duration::from_secs(5));
    let tasks = vec![
        NewTask::new("later").key("a").not_before(due),
        NewTask::new("behind").key("a"),
        NewTask::new("other").key("b"),
        NewTask::new("tomorrow")
            .key("c")
            .not_before(due + 24 * HOUR),
    ];
    for result in producer.enqueue_all(tasks).await {
        result.unwrap();
    }
    producer.close(DEADLINE).await.unwrap();
    wait_until("three are done", DEADLINE, || {
        seen.lock().unwrap().len() >= 3
    })
    .await;
    let seen = seen.lock().unwrap().clone();
    let order: Vec<&str> = seen.iter().map(|(payload, _)| payload.as_str()).collect();
    assert_eq!(order, ["other", "later", "behind"]);
    assert!(seen[1].1 && seen[2].1, "too early: {seen:?}");
    await_snapshot(&member, &scene.topic, "the last one waits", one_waits).await;
    member.shutdown().await.unwrap();
}

/// `TaskMetadataProto` as Decaton writes it, byte by byte.
fn decaton(timestamp_millis: u64, retry_count: u64, scheduled_time_millis: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let mut number = |tag: u8, mut value: u64| {
        out.push(tag);
        while value >= 0x80 {
            out.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
            value >>= 7;
        }
        out.push(u8::try_from(value).unwrap());
    };
    number(0x08, timestamp_millis);
    number(0x20, retry_count);
    number(0x28, scheduled_time_millis);
    out.extend(b"\x12\x03app\x1a\x04host");
    out
}

fn with_metadata(key: &str, value: &str, metadata: Vec<u8>) -> NewRecord {
    NewRecord {
        headers: vec![("dt_meta".to_owned(), Some(metadata))],
        ..NewRecord::keyed(key, value)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_of_a_decaton_client_is_understood_and_retried_in_its_terms() {
    let scene = Policy::new(kafka_or_skip!(Nodes::One)).await;
    let now = u64::try_from(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_millis(),
    )
    .unwrap();
    scene
        .write(vec![
            with_metadata("a", "plain", decaton(now, 0, 0)),
            with_metadata("b", "for ever", decaton(now, 0, i64::MAX.cast_unsigned())),
            with_metadata("c", "negative", decaton(now, 0, i64::MIN.cast_unsigned())),
            with_metadata("d", "damaged", vec![0x08, 0xff]),
            NewRecord {
                headers: vec![
                    ("dt_meta".to_owned(), None),
                    ("dt_meta".to_owned(), Some(decaton(now, 0, 1))),
                ],
                ..NewRecord::keyed("e", "twice")
            },
        ])
        .await;
    // What Decaton itself has put on the retry topic: no headers of keylane's.
    scene
        .kafka
        .produce(
            &scene.retry,
            vec![with_metadata("f", "by decaton", decaton(now, 3, now))],
        )
        .await
        .unwrap();
    let (attempts, metadata) = (Attempts::default(), Arc::new(Mutex::new(HashMap::new())));
    let processor = {
        let (attempts, metadata) = (attempts.clone(), metadata.clone());
        move |task: Task<Bytes>| {
            attempts.note(&task);
            metadata
                .lock()
                .unwrap()
                .insert((text(&task), task.attempt()), task.metadata().cloned());
            let fails = matches!(
                (&*text(&task), task.attempt()),
                ("plain", 1) | ("by decaton", 4)
            );
            async move {
                if fails {
                    Err(TaskError::retryable("once"))
                } else {
                    Ok(())
                }
            }
        }
    };
    let retry = Retry::none().then_topic().topic_backoff(quick());
    let member = scene
        .subscribe()
        .retry(retry)
        .start(Raw, processor)
        .await
        .unwrap();
    wait_until("all but one are done", DEADLINE, || {
        attempts.of("plain") == [1, 2]
            && ["negative", "damaged", "twice"]
                .iter()
                .all(|payload| attempts.of(payload) == [1])
            && attempts.of("by decaton") == [4, 5]
    })
    .await;
    await_snapshot(
        &member,
        &scene.topic,
        "the one that is never due waits",
        one_waits,
    )
    .await;
    assert_eq!(member.state(), State::Running);
    assert_eq!(attempts.of("for ever"), [] as [u32; 0]);
    member.shutdown().await.unwrap();

    let metadata = metadata.lock().unwrap();
    let of = |payload: &str, attempt| metadata[&(payload.to_owned(), attempt)].clone();
    let first = of("plain", 1).unwrap();
    assert_eq!(
        (&*first.source_application_id, &*first.source_instance_id),
        ("app", "host")
    );
    assert_eq!(
        (first.timestamp_millis.cast_unsigned(), first.retry_count),
        (now, 0)
    );
    let second = of("plain", 2).unwrap();
    assert_eq!(
        (&*second.source_application_id, second.retry_count),
        ("app", 1)
    );
    assert!(second.scheduled_time_millis.cast_unsigned() >= now);
    assert_eq!(of("by decaton", 4).unwrap().retry_count, 3);
    assert_eq!(of("damaged", 1), None);
    assert_eq!(of("twice", 1).unwrap().scheduled_time_millis, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_without_a_key_wait_for_nobody() {
    let scene = Policy::new(kafka_or_skip!(Nodes::One)).await;
    let keyless = |value: String| NewRecord {
        value: Some(value.into_bytes()),
        ..NewRecord::default()
    };
    let mut records = vec![keyless("hang".into()), keyless("fail".into())];
    records.extend((0..100).map(|i| keyless(i.to_string())));
    scene.write(records).await;
    let journal = Journal::new();
    let open = Gate::closed();
    let gate = open.clone();
    let processor = journaled(&journal, "a", move |task: Task<Bytes>| {
        let gate = gate.clone();
        async move {
            match &*text(&task) {
                "hang" => gate.passed().await,
                "fail" if !gate.is_open() => return Err(TaskError::retryable("not yet")),
                _ => {}
            }
            Ok(())
        }
    });
    let retry = Retry::forever().backoff(quick());
    let member = scene
        .subscribe()
        .retry(retry)
        .start(Raw, processor)
        .await
        .unwrap();
    wait_until("all others are done", DEADLINE, || journal.done() == 100).await;
    open.open();
    scene.all_claimed_of(&scene.topic).await;
    member.shutdown().await.unwrap();
    journal
        .check(&scene.produced().await, Expect::Drained)
        .assert_clean();
}

/// The embedded broker cannot describe groups, so only this shows that members count, and that a
/// group can be gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_retry_is_left_to_a_group_with_members_and_held_where_the_group_is_gone() {
    let scene = Policy::new(kafka_or_skip!(Nodes::One)).await;
    // Members that have committed nothing of the retry topic, by each protocol.
    let elsewhere = scene.kafka.unique("elsewhere");
    scene
        .kafka
        .create_topic(&elsewhere, 1, 1, &[])
        .await
        .unwrap();
    let mut others = Vec::new();
    for protocol in Protocol::spoken([Protocol::Cooperative, Protocol::Consumer]) {
        let group = scene.kafka.unique("other");
        let builder = protocol.subscribe(scene.kafka, &group, &elsewhere, 10_000);
        let member = builder
            .start(Raw, |_: Task<Bytes>| async { Ok(()) })
            .await
            .unwrap();
        wait_until("it is a member", DEADLINE, || member.status().assigned).await;
        others.push((group, member));
    }
    let gone = scene.kafka.unique("gone");
    let groups = others.iter().map(|(group, _)| group).chain([&gone]);
    let retry_of = |group: &String| NewRecord {
        headers: vec![("keylane-group".to_owned(), Some(group.clone().into_bytes()))],
        ..NewRecord::keyed("k", group.as_str())
    };
    scene
        .kafka
        .produce(&scene.retry, groups.map(retry_of).collect())
        .await
        .unwrap();

    let attempts = Attempts::default();
    let start = async |retry| {
        scene
            .subscribe()
            .retry(retry)
            .start(Raw, noting(&attempts, |_, _| Ok(())))
            .await
            .unwrap()
    };
    let member = start(Retry::none().then_topic()).await;
    wait_until("the group that is gone is named", DEADLINE, || {
        let trouble = member
            .status()
            .trouble
            .filter(|trouble| trouble.kind == TroubleKind::ForeignRetries);
        trouble.is_some_and(|trouble| {
            trouble.message.contains(&gone) && trouble.message.contains("no members")
        })
    })
    .await;
    wait_for(
        "those of groups with members are committed as settled",
        DEADLINE,
        async || {
            let produced = scene.kafka.produced(&scene.retry).await.unwrap();
            let left = unclaimed(&scene.claims_of(&scene.retry).await, &produced);
            left.iter().map(|place| place.offset).eq([2]).then_some(())
        },
    )
    .await;
    member.shutdown().await.unwrap();
    for (group, other) in others {
        assert_eq!(attempts.of(&group), [] as [u32; 0]);
        other.shutdown().await.unwrap();
    }
    assert_eq!(attempts.of(&gone), [] as [u32; 0]);

    let member = start(Retry::none().then_topic().adopt([&gone])).await;
    scene.all_claimed_of(&scene.retry).await;
    assert_eq!(attempts.of(&gone), [1]);
    member.shutdown().await.unwrap();
}
