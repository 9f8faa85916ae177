//! What odd records, and holes between them, did to others.

use std::time::Duration;

use bytes::Bytes;
use keylane::{Backoff, DeadLetter, Exhausted, FailureReason, Raw, Retry, Task, TaskError};
use keylane_integration_tests::{
    claims::{claims, unclaimed},
    dead_letters::dead_letters,
    gate::Gate,
    journal::{Entry, Expect, Journal, Outcome, Produced, duplicates},
    kafka::{Kafka, NewRecord, Nodes},
    kafka_or_skip,
    load::numbered,
    member::journaled,
    protocol::Protocol,
    wait::{wait_for, wait_until},
};
use rdkafka::{
    ClientConfig,
    producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
};

use super::{DEADLINE, SESSION_MS, await_committed};

/// #184: entries were kept by key alone, so that one topic's records were held up, or taken for, another's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_two_topics_share_is_two_keys() {
    let kafka = kafka_or_skip!(Nodes::One);
    let (first, second, group) = (
        kafka.unique("regression"),
        kafka.unique("regression"),
        kafka.unique("group"),
    );
    for topic in [&first, &second] {
        kafka.create_topic(topic, 1, 1, &[]).await.unwrap();
        // The same key, partition and offsets.
        kafka.produce(topic, numbered(0..200, 1)).await.unwrap();
    }
    let (journal, gate) = (Journal::new(), Gate::closed());
    let processor = journaled(&journal, "a", {
        let (gate, first) = (gate.clone(), first.clone());
        move |task: Task<Bytes>| {
            let gate = (task.topic() == first).then(|| gate.clone());
            async move {
                if let Some(gate) = gate {
                    gate.passed().await;
                }
                Ok(())
            }
        }
    });
    let builder = Protocol::Cooperative
        .subscribe(kafka, &group, &first, SESSION_MS)
        .topic(&second);
    let member = builder.start(Raw, processor).await.unwrap();
    wait_until("the other topic's are processed", DEADLINE, || {
        journal.done() == 200
    })
    .await;
    assert!(journal.settled().iter().all(|place| place.topic == second));
    gate.open();
    wait_until("all are processed", DEADLINE, || journal.done() == 400).await;
    for topic in [&first, &second] {
        await_committed(kafka, &group, topic).await;
    }
    member.shutdown().await.unwrap();
    let mut produced = kafka.produced(&first).await.unwrap();
    produced.extend(kafka.produced(&second).await.unwrap());
    journal.check(&produced, Expect::Drained).assert_clean();
}

/// #318: with order by key, a record without one was taken up again and again. Each is attempted as often as it fails, in
/// place and through the retry topic, and not once more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_without_a_key_are_attempted_as_often_as_they_fail_and_once_more() {
    let kafka = kafka_or_skip!(Nodes::One);
    let (topic, group) = (kafka.unique("regression"), kafka.unique("group"));
    let (retry_topic, dead) = (format!("{topic}-retry"), format!("{topic}-dead"));
    for name in [&topic, &retry_topic, &dead] {
        kafka.create_topic(name, 1, 1, &[]).await.unwrap();
    }
    let keyless = |number: usize| NewRecord {
        value: Some(number.to_string().into_bytes()),
        ..NewRecord::default()
    };
    kafka
        .produce(&topic, (0..300).map(keyless).collect())
        .await
        .unwrap();
    let journal = Journal::new();
    // Every third succeeds at once, every third in the retry topic, every third never.
    let processor = journaled(&journal, "a", |task: Task<Bytes>| {
        let number: usize = std::str::from_utf8(task.payload())
            .unwrap()
            .parse()
            .unwrap();
        let good = [1, 3, u32::MAX][number % 3];
        let result = if task.attempt() >= good {
            Ok(())
        } else {
            Err(TaskError::retryable("not yet"))
        };
        async move { result }
    });
    let quick = Backoff::fixed(Duration::from_millis(5));
    let retry = Retry::in_place(1)
        .backoff(quick)
        .then_topic()
        .topic_backoff(quick)
        .topic_rounds(1);
    // A third of the records fails for good, which looks like an outage.
    let retry = retry.on(FailureReason::Exhausted, Exhausted::DeadLetter);
    let dead_letter = DeadLetter::topic(&dead);
    let builder = Protocol::Cooperative.subscribe(kafka, &group, &topic, SESSION_MS);
    let member = builder
        .retry(retry)
        .dead_letter(dead_letter)
        .start(Raw, processor)
        .await
        .unwrap();
    wait_until("all have had their end", DEADLINE, || journal.done() == 200).await;
    let dead_letters = wait_for("the dead letters are written", DEADLINE, async || {
        let found = dead_letters(kafka, &dead).await.ok()?;
        (found.len() == 100).then_some(found)
    })
    .await;
    for name in [&topic, &retry_topic] {
        await_committed(kafka, &group, name).await;
    }
    assert!(
        member
            .status()
            .partitions
            .iter()
            .all(|partition| partition.snapshot.pending == 0)
    );
    member.shutdown().await.unwrap();
    assert!(
        dead_letters.values().all(|letters| letters.len() == 1),
        "each is there once"
    );
    let entries = journal.entries();
    let attempts = entries
        .iter()
        .filter(|entry| matches!(entry, Entry::Started(_)))
        .count();
    // Once; twice in place and once in the retry topic; twice in place and twice in the retry
    // topic.
    let in_place_and_topic = |number: usize| [1, 3, 4][number % 3];
    assert_eq!(attempts, (0..300).map(in_place_and_topic).sum::<usize>());
}

/// Writes transactions of ten records each; every second one is aborted. Blocks.
fn transactions(servers: &str, topic: &str, count: usize) -> Vec<usize> {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("transactional.id", format!("{topic}-writer"))
        .create()
        .unwrap();
    producer.init_transactions(DEADLINE).unwrap();
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

/// A member whose attempts at `stuck` wait for an hour; it ends when all but `left` is claimed by
/// its commits.
async fn works_on_all_but(member: &Life<'_>, stuck: Option<i64>, left: &[i64]) {
    let processor = journaled(member.journal, member.name, move |task: Task<Bytes>| {
        let waits = Some(task.offset()) == stuck;
        let result = if waits {
            Err(TaskError::retry_after(
                "in an hour",
                Duration::from_secs(3_600),
            ))
        } else {
            Ok(())
        };
        async move { result }
    });
    let builder =
        Protocol::Cooperative.subscribe(member.kafka, member.group, member.topic, SESSION_MS);
    let subscription = builder
        .retry(Retry::forever())
        .start(Raw, processor)
        .await
        .unwrap();
    wait_for(
        "all but what waits is committed as settled",
        DEADLINE,
        async || {
            let unclaimed = unclaimed(
                &claims(member.kafka, member.group, member.topic)
                    .await
                    .ok()?,
                member.produced,
            );
            unclaimed
                .iter()
                .map(|place| place.offset)
                .eq(left.iter().copied())
                .then_some(())
        },
    )
    .await;
    subscription.shutdown().await.unwrap();
}

/// One life of a member.
#[derive(Clone, Copy)]
struct Life<'a> {
    kafka: &'a Kafka,
    group: &'a str,
    topic: &'a str,
    produced: &'a [Produced],
    journal: &'a Journal,
    name: &'a str,
}

fn started_by(journal: &Journal, member: &str) -> Vec<i64> {
    let entries = journal.entries();
    let offsets = entries.iter().filter_map(|entry| match entry {
        Entry::Started(work) if work.member == member => Some(work.offset),
        _ => None,
    });
    offsets.collect()
}

/// Two lives of a member over a log with holes: the first leaves a record unsettled, and what waits
/// behind it; the second gets those and no others.
async fn over_the_holes(kafka: &Kafka, topic: &str, produced: &[Produced]) -> Journal {
    let (group, journal) = (kafka.unique("group"), Journal::new());
    let stuck = &produced[produced.len() / 3];
    let lane = produced
        .iter()
        .filter(|record| record.key == stuck.key && record.offset >= stuck.offset);
    let lane: Vec<i64> = lane.map(|record| record.offset).collect();
    let first = Life {
        kafka,
        group: &group,
        topic,
        produced,
        journal: &journal,
        name: "first",
    };
    works_on_all_but(&first, Some(stuck.offset), &lane).await;
    works_on_all_but(
        &Life {
            name: "second",
            ..first
        },
        None,
        &[],
    )
    .await;
    assert_eq!(
        started_by(&journal, "second"),
        lane,
        "the stuck record and what waited behind it"
    );
    journal
}

/// #329: markers of transactions were counted as records that never come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_holes_of_transactions_are_no_records() {
    let kafka = kafka_or_skip!(Nodes::One);
    let topic = kafka.unique("regression");
    kafka.create_topic(&topic, 1, 1, &[]).await.unwrap();
    let (servers, name) = (kafka.bootstrap_servers().to_owned(), topic.clone());
    let kept = tokio::task::spawn_blocking(move || transactions(&servers, &name, 20))
        .await
        .unwrap();
    let produced = kafka.produced(&topic).await.unwrap();
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
        kafka.end_offsets(&topic).await.unwrap()[0] > 200,
        "no markers in the log"
    );

    let journal = over_the_holes(kafka, &topic, &produced).await;
    let report = journal.check(&produced, Expect::Crashes);
    report.assert_clean();
    assert_eq!(report.duplicates, []);
}

/// #409: offsets that compaction had taken were waited for, or counted as settled where they were not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_holes_of_compaction_are_no_records() {
    let kafka = kafka_or_skip!(Nodes::One);
    let topic = kafka.unique("regression");
    let compacted = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "200"),
        ("min.cleanable.dirty.ratio", "0.001"),
        ("min.compaction.lag.ms", "0"),
    ];
    kafka.create_topic(&topic, 1, 1, &compacted).await.unwrap();
    // Some keys are written once and stay, most are written over.
    let record = |number: usize| match number % 10 {
        0 => NewRecord::keyed(format!("once-{number}"), number.to_string()),
        _ => NewRecord::keyed(format!("often-{}", number % 7), number.to_string()),
    };
    kafka
        .produce(&topic, (0..2_000).map(record).collect())
        .await
        .unwrap();
    let mut next = 2_000;
    wait_for("most of it is compacted away", DEADLINE, async || {
        // A segment is closed by a record that comes later, and only closed ones are compacted.
        kafka.produce(&topic, vec![record(next)]).await.ok()?;
        next += 1;
        (kafka.read_all(&topic).await.ok()?.len() < 1_000).then_some(())
    })
    .await;
    // From here on it stays as it is.
    kafka
        .configure_topic(&topic, &[("cleanup.policy", "delete")])
        .await
        .unwrap();
    let produced = wait_for("compaction has ended", DEADLINE, async || {
        let before = kafka.produced(&topic).await.ok()?;
        (kafka.produced(&topic).await.ok()? == before).then_some(before)
    })
    .await;
    assert!(
        produced
            .windows(2)
            .any(|pair| pair[1].offset > pair[0].offset + 1),
        "no holes in the log"
    );

    let journal = over_the_holes(kafka, &topic, &produced).await;
    assert_eq!(duplicates(&journal.entries()), []);
    let done = |record: &Produced| {
        let entries = journal.entries();
        entries
            .iter()
            .any(|entry| matches!(entry, Entry::Ended(work, _, Outcome::Done) if work.offset == record.offset))
    };
    assert!(
        produced.iter().all(done),
        "a record that compaction left was passed over"
    );
}

async fn await_commit_at(kafka: &Kafka, group: &str, topic: &str, offset: i64) {
    wait_for(&format!("{offset} is committed"), DEADLINE, async || {
        let committed = kafka.committed(group, topic).await.ok()?;
        (committed.first()?.offset == Some(offset)).then_some(())
    })
    .await;
}

/// spring-kafka #1493: the position stayed in front of what retention had deleted. An empty log has
/// no record that could move it: the lag would be shown for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_was_emptied_is_read_on_from_its_end_and_that_is_committed() {
    let kafka = kafka_or_skip!(Nodes::One);
    let (topic, group) = (kafka.unique("regression"), kafka.unique("group"));
    kafka.create_topic(&topic, 1, 1, &[]).await.unwrap();
    let journal = Journal::new();
    let member = async |name: &str| {
        let builder = Protocol::Cooperative.subscribe(kafka, &group, &topic, SESSION_MS);
        builder
            .start(Raw, journaled(&journal, name, async |_| Ok(())))
            .await
            .unwrap()
    };
    kafka.produce(&topic, numbered(0..5, 5)).await.unwrap();
    let first = member("first").await;
    await_commit_at(kafka, &group, &topic, 5).await;
    first.shutdown().await.unwrap();

    // Nobody reads meanwhile.
    kafka.produce(&topic, numbered(5..500, 5)).await.unwrap();
    kafka.delete_records(&topic, 0, 500).await.unwrap();
    let second = member("second").await;
    await_commit_at(kafka, &group, &topic, 500).await;

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
    kafka.produce(&topic, numbered(500..600, 5)).await.unwrap();
    kafka.delete_records(&topic, 0, 600).await.unwrap();
    second.handle().resume();
    await_commit_at(kafka, &group, &topic, 600).await;
    kafka.produce(&topic, numbered(600..610, 5)).await.unwrap();
    wait_until("what comes then is processed", DEADLINE, || {
        journal.done() == 15
    })
    .await;
    await_committed(kafka, &group, &topic).await;
    second.shutdown().await.unwrap();
}

/// spring-kafka #110: without a commit the next start begins at an end that is later.
async fn an_idle_partition(protocol: Protocol) {
    let kafka = kafka_or_skip!(Nodes::One);
    let (topic, group) = (kafka.unique("regression"), kafka.unique("group"));
    kafka.create_topic(&topic, 1, 1, &[]).await.unwrap();
    kafka.produce(&topic, numbered(0..3, 5)).await.unwrap();
    let journal = Journal::new();
    let member = async |name: &str| {
        let builder = protocol
            .subscribe(kafka, &group, &topic, SESSION_MS)
            .kafka("auto.offset.reset", "latest");
        builder
            .start(Raw, journaled(&journal, name, async |_| Ok(())))
            .await
            .unwrap()
    };
    let first = member("first").await;
    await_commit_at(kafka, &group, &topic, 3).await;
    first.shutdown().await.unwrap();
    kafka.produce(&topic, numbered(3..8, 5)).await.unwrap();
    let second = member("second").await;
    wait_until("what was written meanwhile is processed", DEADLINE, || {
        journal.done() == 5
    })
    .await;
    await_committed(kafka, &group, &topic).await;
    second.shutdown().await.unwrap();
    assert_eq!(started_by(&journal, "first"), Vec::<i64>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_latest_an_idle_partition_is_read_on_from_where_it_began_cooperative() {
    an_idle_partition(Protocol::Cooperative).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_latest_an_idle_partition_is_read_on_from_where_it_began_eager() {
    an_idle_partition(Protocol::Range).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_latest_an_idle_partition_is_read_on_from_where_it_began_consumer() {
    an_idle_partition(Protocol::Consumer).await;
}

/// Holds a transaction open. Blocks.
fn open_transaction(servers: &str, topic: &str) -> ThreadedProducer<DefaultProducerContext> {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("transactional.id", format!("{topic}-writer"))
        .create()
        .unwrap();
    producer.init_transactions(DEADLINE).unwrap();
    producer.begin_transaction().unwrap();
    producer
        .send(BaseRecord::to(topic).key("open").payload("1000"))
        .map_err(|(error, _)| error)
        .unwrap();
    producer.flush(DEADLINE).unwrap();
    producer
}

/// klag-exporter #104: what lies behind an open transaction was no lag in seconds, and nobody could
/// see why nothing came.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_behind_an_open_transaction_are_lag_and_its_cause_is_shown() {
    let kafka = kafka_or_skip!(Nodes::One);
    let (topic, group) = (kafka.unique("regression"), kafka.unique("group"));
    kafka.create_topic(&topic, 1, 1, &[]).await.unwrap();
    kafka.produce(&topic, numbered(0..5, 5)).await.unwrap();
    let journal = Journal::new();
    let builder = Protocol::Cooperative.subscribe(kafka, &group, &topic, SESSION_MS);
    let member = builder
        .start(Raw, journaled(&journal, "a", async |_| Ok(())))
        .await
        .unwrap();
    wait_until("all are processed", DEADLINE, || journal.done() == 5).await;

    let (servers, name) = (kafka.bootstrap_servers().to_owned(), topic.clone());
    let writer = tokio::task::spawn_blocking(move || open_transaction(&servers, &name))
        .await
        .unwrap();
    kafka.produce(&topic, numbered(5..105, 5)).await.unwrap();
    let partition = || member.status().partitions.into_iter().next();
    let is_withheld =
        || partition().is_some_and(|it| it.withheld_records == 101 && it.lag_records == Some(101));
    wait_until(
        "what cannot be read is shown as withheld",
        DEADLINE,
        is_withheld,
    )
    .await;
    assert_eq!(journal.done(), 5);

    // The marker that ends it lies above them: an offset, and no lag in time.
    tokio::task::spawn_blocking(move || writer.abort_transaction(DEADLINE))
        .await
        .unwrap()
        .unwrap();
    wait_until("the others are processed", DEADLINE, || {
        journal.done() == 105
    })
    .await;
    wait_until("nothing is withheld", DEADLINE, || {
        partition().is_some_and(|it| it.withheld_records == 0)
    })
    .await;
    member.shutdown().await.unwrap();
}
