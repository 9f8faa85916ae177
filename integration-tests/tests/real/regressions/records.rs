//! What odd records, and holes between them, did to others.

use std::time::Duration;

use bytes::Bytes;
use keylane::config::{Backoff, Exhausted, FailureReason};
use keylane::redrive::Letters;
use keylane::{DeadLetter, Retry, Task, TaskError};
use keylane_integration_tests::{
    dead_letters::dead_letters,
    for_protocols,
    gate::Gate,
    journal::{Expect, Produced, duplicates},
    kafka::{NewRecord, Nodes},
    kafka_or_skip,
    load::numbered,
    member::number,
    protocol::Protocol,
    scene::{DEADLINE, Scene},
    wait::{wait_for, wait_until},
};
use rdkafka::{
    ClientConfig,
    producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
};

const HOUR: Duration = Duration::from_secs(3_600);

/// #184: entries were kept by key alone, so that one topic's records were held up, or taken for, another's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_two_topics_share_is_two_keys() {
    let scene = Scene::new(kafka_or_skip!(Nodes::One), 1).await;
    let (first, second) = (&scene.topic, scene.another("second", 1).await);
    for topic in [first, &second] {
        // The same key, partition and offsets.
        let written = scene.kafka.produce(topic, numbered(0..200, 1)).await;
        written.unwrap();
    }
    let gate = Gate::closed();
    let of_first = first.clone();
    let waits = move |task: &Task<Bytes>| task.topic() == of_first;
    let builder = scene.subscribe().topic(&second);
    let member = scene.gated(builder, "a", &gate, waits).await;
    // The other topic's are processed.
    scene.done(200).await;
    let settled = scene.journal.settled();
    assert!(settled.iter().all(|place| place.topic == second));
    gate.open();
    scene.done(400).await;
    let mut produced = Vec::new();
    for topic in [first, &second] {
        scene.all_committed_of(topic).await;
        produced.extend(scene.kafka.produced(topic).await.unwrap());
    }
    member.shutdown().await.unwrap();
    scene.assert_drained(&produced);
}

/// #318: with order by key, a record without one was taken up again and again. Each is attempted as often as it fails, in
/// place and through the retry topic, and not once more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_without_a_key_are_attempted_as_often_as_they_fail_and_once_more() {
    let scene = Scene::new(kafka_or_skip!(Nodes::One), 1).await;
    let retry_topic = scene.another("retry", 1).await;
    let dead = scene.another("dead", 1).await;
    let keyless = |number: usize| NewRecord {
        value: Some(number.to_string().into_bytes()),
        ..NewRecord::default()
    };
    scene.write((0..300).map(keyless).collect()).await;
    // Every third succeeds at once, every third in the retry topic, every third never.
    let process = |task: Task<Bytes>| {
        let good = [1, 3, u32::MAX][number(&task) % 3];
        let result = match task.attempt() >= good {
            true => Ok(()),
            false => Err(TaskError::retryable("not yet")),
        };
        async move { result }
    };
    let quick = Backoff::fixed(Duration::from_millis(5));
    let retry = Retry::in_place(1)
        .backoff(quick)
        .then_topic()
        .topic_backoff(quick)
        .topic_rounds(1);
    // A third of the records fails for good, which looks like an outage.
    let retry = retry.on(FailureReason::Exhausted, Exhausted::DeadLetter);
    let builder = scene
        .subscribe()
        .retry(retry)
        .dead_letter(DeadLetter::topic(&dead));
    let member = scene.start(builder, "a", process).await;
    // All but the dead letters.
    scene.done(200).await;
    let dead_letters = wait_for("the dead letters are written", DEADLINE, async || {
        let found = dead_letters(scene.kafka, &dead).await.unwrap();
        (found.len() == 100).then_some(found)
    })
    .await;
    for name in [&scene.topic, &retry_topic] {
        scene.all_committed_of(name).await;
    }
    // The status is taken once in a while.
    wait_for("nothing is pending", DEADLINE, async || {
        let status = member.status();
        let mut pending = status.partitions.iter().map(|row| row.snapshot.pending);
        pending.all(|pending| pending == 0).then_some(())
    })
    .await;
    member.shutdown().await.unwrap();
    assert!(
        dead_letters.values().all(|letters| letters.len() == 1),
        "each is there once"
    );
    let attempts = scene.started(|_| true).len();
    // Once; twice in place and once in the retry topic; twice in place and twice in the retry
    // topic.
    let in_place_and_topic = |number: usize| [1, 3, 4][number % 3];
    assert_eq!(attempts, (0..300).map(in_place_and_topic).sum::<usize>());
}

fn transactional(servers: &str, topic: &str) -> ThreadedProducer<DefaultProducerContext> {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("transactional.id", format!("{topic}-writer"))
        .create()
        .unwrap();
    producer.init_transactions(DEADLINE).unwrap();
    producer
}

/// Writes transactions of ten records each; every second one is aborted. Blocks.
fn transactions(servers: &str, topic: &str, count: usize) -> Vec<usize> {
    let producer = transactional(servers, topic);
    let mut kept = Vec::new();
    for transaction in 0..count {
        producer.begin_transaction().unwrap();
        let numbers = 10 * transaction..10 * (transaction + 1);
        for number in numbers.clone() {
            let (key, value) = (format!("key-{}", number % 7), number.to_string());
            producer
                .send(BaseRecord::to(topic).key(&key).payload(&value))
                .map_err(|(error, _)| error)
                .unwrap();
        }
        producer.flush(DEADLINE).unwrap();
        if transaction % 2 == 0 {
            producer.commit_transaction(DEADLINE).unwrap();
            kept.extend(numbers);
        } else {
            producer.abort_transaction(DEADLINE).unwrap();
        }
    }
    kept
}

/// The life of a member whose attempts at `stuck` wait for an hour; it ends when all but `left` is
/// claimed by its commits.
async fn life(scene: &Scene<'_>, name: &str, stuck: Option<i64>, left: &[i64]) {
    let process = move |task: Task<Bytes>| {
        let result = match Some(task.offset()) == stuck {
            true => Err(TaskError::retry_after("in an hour", HOUR)),
            false => Ok(()),
        };
        async move { result }
    };
    let builder = scene.subscribe().retry(Retry::forever());
    let member = scene.start(builder, name, process).await;
    scene.unclaimed_at(left.iter().copied()).await;
    member.shutdown().await.unwrap();
}

/// Two lives of a member over a log with holes: the first leaves a record unsettled, and what waits
/// behind it; the second gets those and no others.
async fn over_the_holes(scene: &Scene<'_>, produced: &[Produced]) {
    let stuck = &produced[produced.len() / 3];
    let lane = produced
        .iter()
        .filter(|record| record.key == stuck.key && record.offset >= stuck.offset);
    let lane: Vec<i64> = lane.map(|record| record.offset).collect();
    life(scene, "first", Some(stuck.offset), &lane).await;
    life(scene, "second", None, &[]).await;
    assert_eq!(
        scene.started_by("second"),
        lane,
        "the stuck record and what waited behind it"
    );
}

/// #329: markers of transactions were counted as records that never come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_holes_of_transactions_are_no_records() {
    let kafka = kafka_or_skip!(Nodes::One);
    let scene = Scene::new(kafka, 1).await;
    let topic = &scene.topic;
    let (servers, name) = (kafka.bootstrap_servers().to_owned(), topic.clone());
    let kept = tokio::task::spawn_blocking(move || transactions(&servers, &name, 20))
        .await
        .unwrap();
    let produced = scene.produced().await;
    let ids: Vec<String> = kept
        .iter()
        .map(|number| format!("{topic}/{number}"))
        .collect();
    assert_eq!(
        produced
            .iter()
            .map(|record| record.id.clone())
            .collect::<Vec<_>>(),
        ids
    );
    assert!(
        kafka.end_offsets(topic).await.unwrap()[0] > 200,
        "no markers in the log"
    );

    over_the_holes(&scene, &produced).await;
    let report = scene.journal.check(&produced, Expect::Crashes);
    report.assert_clean();
    assert_eq!(report.duplicates, []);
}

/// #409: offsets that compaction had taken were waited for, or counted as settled where they were not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_holes_of_compaction_are_no_records() {
    let kafka = kafka_or_skip!(Nodes::One);
    let scene = Scene::new(kafka, 1).await;
    let topic = &scene.topic;
    let compacted = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "200"),
        ("min.cleanable.dirty.ratio", "0.001"),
        ("min.compaction.lag.ms", "0"),
    ];
    kafka.configure_topic(topic, &compacted).await.unwrap();
    // Some keys are written once and stay, most are written over.
    let record = |number: usize| match number % 10 {
        0 => NewRecord::keyed(format!("once-{number}"), number.to_string()),
        _ => NewRecord::keyed(format!("often-{}", number % 7), number.to_string()),
    };
    scene.write((0..2_000).map(record).collect()).await;
    let mut next = 2_000;
    wait_for("most of it is compacted away", DEADLINE, async || {
        // A segment is closed by a record that comes later, and only closed ones are compacted.
        kafka.produce(topic, vec![record(next)]).await.ok()?;
        next += 1;
        (kafka.read_all(topic).await.ok()?.len() < 1_000).then_some(())
    })
    .await;
    // From here on it stays as it is.
    kafka
        .configure_topic(topic, &[("cleanup.policy", "delete")])
        .await
        .unwrap();
    let produced = wait_for("compaction has ended", DEADLINE, async || {
        let before = kafka.produced(topic).await.ok()?;
        (kafka.produced(topic).await.ok()? == before).then_some(before)
    })
    .await;
    assert!(
        produced
            .windows(2)
            .any(|pair| pair[1].offset > pair[0].offset + 1),
        "no holes in the log"
    );

    over_the_holes(&scene, &produced).await;
    assert_eq!(duplicates(&scene.journal.entries()), []);
    let settled = scene.journal.settled();
    assert!(
        produced
            .iter()
            .all(|record| settled.contains(&record.place())),
        "a record that compaction left was passed over"
    );
}

/// spring-kafka #1493: the position stayed in front of what retention had deleted. An empty log has
/// no record that could move it: the lag would be shown for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_was_emptied_is_read_on_from_its_end_and_that_is_committed() {
    let kafka = kafka_or_skip!(Nodes::One);
    let scene = Scene::new(kafka, 1).await;
    let member = async |name: &str| {
        scene
            .start(scene.subscribe(), name, |_| async { Ok(()) })
            .await
    };
    scene.write(numbered(0..5, 5)).await;
    let first = member("first").await;
    scene.committed_at(5).await;
    first.shutdown().await.unwrap();

    // Nobody reads meanwhile.
    scene.write(numbered(5..500, 5)).await;
    kafka.delete_records(&scene.topic, 0, 500).await.unwrap();
    let second = member("second").await;
    scene.committed_at(500).await;

    // Nor in a pause.
    second.handle().pause();
    let is_paused = || {
        second
            .status()
            .partitions
            .iter()
            .all(|partition| partition.paused && partition.paused_by_user)
    };
    wait_until("the pause is in force", DEADLINE, is_paused).await;
    scene.write(numbered(500..600, 5)).await;
    kafka.delete_records(&scene.topic, 0, 600).await.unwrap();
    second.handle().resume();
    scene.committed_at(600).await;
    scene.write(numbered(600..610, 5)).await;
    scene.done(15).await;
    scene.all_committed().await;
    second.shutdown().await.unwrap();
}

/// spring-kafka #110: without a commit the next start begins at an end that is later.
async fn an_idle_partition(protocol: Protocol) {
    let kafka = kafka_or_skip!(Nodes::One);
    let scene = Scene::new(kafka, 1).await.by(protocol);
    scene.write(numbered(0..3, 5)).await;
    let member = async |name: &str| {
        let builder = scene.subscribe().kafka("auto.offset.reset", "latest");
        scene.start(builder, name, |_| async { Ok(()) }).await
    };
    let first = member("first").await;
    scene.committed_at(3).await;
    first.shutdown().await.unwrap();
    scene.write(numbered(3..8, 5)).await;
    let second = member("second").await;
    scene.done(5).await;
    scene.all_committed().await;
    second.shutdown().await.unwrap();
    assert_eq!(scene.started_by("first"), Vec::<i64>::new());
}

for_protocols! { an_idle_partition:
    with_latest_an_idle_partition_is_read_on_from_where_it_began_cooperative: Cooperative,
    with_latest_an_idle_partition_is_read_on_from_where_it_began_eager: Range,
    with_latest_an_idle_partition_is_read_on_from_where_it_began_consumer: Consumer,
}

/// Holds a transaction open. Blocks.
fn open_transaction(servers: &str, topic: &str) -> ThreadedProducer<DefaultProducerContext> {
    let producer = transactional(servers, topic);
    producer.begin_transaction().unwrap();
    producer
        .send(BaseRecord::to(topic).key("open").payload("1000"))
        .map_err(|(error, _)| error)
        .unwrap();
    producer.flush(DEADLINE).unwrap();
    producer
}

/// Markers of transactions have offsets and are no records, and what lies behind an open transaction
/// has to wait. Neither may keep a reader from the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_dead_letters_ends_at_markers_and_before_an_open_transaction() {
    let kafka = kafka_or_skip!(Nodes::One);
    let scene = Scene::new(kafka, 1).await;
    let (servers, name) = (kafka.bootstrap_servers().to_owned(), scene.topic.clone());
    let read = async || {
        let letters = Letters::of(&scene.topic).bootstrap_servers(kafka.bootstrap_servers());
        let mut letters = letters.patience(DEADLINE).read().await.unwrap();
        assert!(
            letters.next().await.is_none(),
            "there is no letter, and no error"
        );
        (letters.not_letters(), letters.ranges()[0].end)
    };
    let (to, of) = (servers.clone(), name.clone());
    let kept = tokio::task::spawn_blocking(move || transactions(&to, &of, 4).len());
    assert_eq!(kept.await.unwrap(), 20);
    assert_eq!(
        read().await,
        (20, 44),
        "the last offset is the marker of what was aborted"
    );

    let writer = tokio::task::spawn_blocking(move || open_transaction(&servers, &name));
    let writer = writer.await.unwrap();
    scene.write(numbered(0..5, 5)).await;
    assert_eq!(read().await, (20, 44));
    let commit = tokio::task::spawn_blocking(move || writer.commit_transaction(DEADLINE));
    commit.await.unwrap().unwrap();
    assert_eq!(read().await, (26, 51));
}

/// klag-exporter #104: what lies behind an open transaction was no lag in seconds, and nobody could
/// see why nothing came.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_behind_an_open_transaction_are_lag_and_its_cause_is_shown() {
    let kafka = kafka_or_skip!(Nodes::One);
    let scene = Scene::new(kafka, 1).await;
    scene.write(numbered(0..5, 5)).await;
    let member = scene
        .start(scene.subscribe(), "a", |_| async { Ok(()) })
        .await;
    scene.done(5).await;

    let (servers, name) = (kafka.bootstrap_servers().to_owned(), scene.topic.clone());
    let writer = tokio::task::spawn_blocking(move || open_transaction(&servers, &name))
        .await
        .unwrap();
    scene.write(numbered(5..105, 5)).await;
    let partition = || member.status().partitions.into_iter().next();
    let is_withheld =
        || partition().is_some_and(|it| it.withheld_records == 101 && it.lag_records == Some(101));
    wait_until(
        "what cannot be read is shown as withheld",
        DEADLINE,
        is_withheld,
    )
    .await;
    assert_eq!(scene.journal.done(), 5);

    // The marker that ends it lies above them: an offset, and no lag in time.
    tokio::task::spawn_blocking(move || writer.abort_transaction(DEADLINE))
        .await
        .unwrap()
        .unwrap();
    scene.done(105).await;
    wait_until("nothing is withheld", DEADLINE, || {
        partition().is_some_and(|it| it.withheld_records == 0)
    })
    .await;
    member.shutdown().await.unwrap();
}
