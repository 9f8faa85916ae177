//! G4, honest commits: the committed offset is at most the watermark, the metadata names settled
//! offsets only, and a restart delivers again only what was unsettled.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use keylane::{
    Backoff, DeadLetter, Processor, Raw, Retry, Subscription, SubscriptionBuilder, Task, TaskError,
};
use keylane_integration_tests::{
    claims::{Claim, assert_honest, claims, unclaimed},
    dead_letters::dead_letters,
    gate::Gate,
    journal::{Entry, Journal, Place, Produced, duplicates},
    kafka::{Kafka, NewRecord, Nodes},
    kafka_or_skip,
    load::numbered,
    member::{journaled, spread},
    protocol::Protocol,
    wait::wait_for,
};

const DEADLINE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const PROTOCOLS: [Protocol; 2] = [Protocol::Cooperative, Protocol::Consumer];

async fn topic(kafka: &Kafka, partitions: i32) -> String {
    let topic = kafka.unique("g4");
    kafka
        .create_topic(&topic, partitions, 1, &[])
        .await
        .unwrap();
    topic
}

fn subscribe(kafka: &Kafka, protocol: Protocol, group: &str, topic: &str) -> SubscriptionBuilder {
    protocol
        .subscribe(kafka, group, topic, 10_000)
        .commit_interval(Duration::from_millis(50))
}

/// Kafka 3.9 speaks only one of them.
fn protocols(kafka: &Kafka) -> impl Iterator<Item = Protocol> {
    let both = kafka.group_protocols().contains(&"consumer");
    PROTOCOLS
        .into_iter()
        .filter(move |protocol| both || *protocol != Protocol::Consumer)
}

fn number(task: &Task<Bytes>) -> usize {
    std::str::from_utf8(task.payload())
        .unwrap()
        .parse()
        .unwrap()
}

/// The offsets at which `member` began attempts in the partition 0.
fn started(journal: &Journal, member: &str) -> BTreeSet<i64> {
    let entries = journal.entries();
    let own = entries.iter().filter_map(|entry| match entry {
        Entry::Started(work) if work.member == member && work.partition == 0 => Some(work.offset),
        _ => None,
    });
    own.collect()
}

async fn await_unclaimed(
    kafka: &Kafka,
    group: &str,
    produced: &[Produced],
    expected: &BTreeSet<Place>,
) -> Vec<Claim> {
    wait_for("the commits say what is settled", DEADLINE, async || {
        let claims = claims(kafka, group, &produced[0].topic).await.unwrap();
        (unclaimed(&claims, produced) == *expected).then_some(claims)
    })
    .await
}

fn places(topic: &str, offsets: impl IntoIterator<Item = i64>) -> BTreeSet<Place> {
    offsets
        .into_iter()
        .map(|offset| Place {
            topic: topic.to_owned(),
            partition: 0,
            offset,
        })
        .collect()
}

async fn start(builder: SubscriptionBuilder, processor: impl Processor<Bytes>) -> Subscription {
    builder.start(Raw, processor).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_commit_seen_from_outside_covers_settled_records_only() {
    let kafka = kafka_or_skip!(Nodes::One);
    for protocol in protocols(kafka) {
        let (topic, dead, group) = (
            topic(kafka, 4).await,
            topic(kafka, 4).await,
            kafka.unique("group"),
        );
        kafka
            .produce(&topic, numbered(0..6_000, 300))
            .await
            .unwrap();
        let produced = kafka.produced(&topic).await.unwrap();
        let (journal, gate) = (Journal::new(), Gate::closed());
        let waits = gate.clone();
        let processor = journaled(&journal, "a", move |task: Task<Bytes>| {
            let gate = waits.clone();
            async move {
                tokio::time::sleep(spread(&task, Duration::from_millis(12))).await;
                // Some now and then are held back, so that many are settled ahead of them.
                if number(&task).is_multiple_of(97) {
                    gate.passed().await;
                }
                match number(&task) % 50 {
                    7 => Err(TaskError::fatal("seven")),
                    9 if task.attempt() == 1 => Err(TaskError::retryable("nine")),
                    _ => Ok(()),
                }
            }
        });
        let builder = subscribe(kafka, protocol, &group, &topic)
            .retry(Retry::in_place(1).backoff(Backoff::fixed(Duration::from_millis(20))))
            .dead_letter(DeadLetter::topic(&dead));
        let member = start(builder, processor).await;

        let mut with_map = 0;
        wait_for("everything is committed", DEADLINE, async || {
            let claims = claims(kafka, &group, &topic).await.unwrap();
            // After the claims: what is settled in between is no fault.
            let mut settled = journal.settled();
            settled.extend(dead_letters(kafka, &dead).await.unwrap().into_keys());
            assert_honest(&claims, &produced, &settled, &protocol);
            with_map += usize::from(claims.iter().any(|claim| !claim.ahead.is_empty()));
            // Otherwise the above would say little.
            if with_map >= 3 {
                gate.open();
            }
            unclaimed(&claims, &produced).is_empty().then_some(())
        })
        .await;
        member.shutdown().await.unwrap();
        assert_eq!(dead_letters(kafka, &dead).await.unwrap().len(), 120);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_with_one_stuck_record_delivers_that_one_again_and_no_other() {
    let kafka = kafka_or_skip!(Nodes::One);
    for protocol in protocols(kafka) {
        let (topic, group) = (topic(kafka, 1).await, kafka.unique("group"));
        let mut records = numbered(0..5_000, 50);
        records[0].key = Some(b"stuck".to_vec());
        kafka.produce(&topic, records).await.unwrap();
        let produced = kafka.produced(&topic).await.unwrap();
        let (journal, gate) = (Journal::new(), Gate::closed());
        let processor = |member: &'static str| {
            let gate = gate.clone();
            journaled(&journal, member, move |task: Task<Bytes>| {
                let gate = gate.clone();
                async move {
                    if number(&task) == 0 {
                        gate.passed().await;
                    }
                    Ok(())
                }
            })
        };
        let member = start(
            subscribe(kafka, protocol, &group, &topic),
            processor("first"),
        )
        .await;
        let claims = await_unclaimed(kafka, &group, &produced, &places(&topic, [0])).await;
        assert_eq!(claims[0].position, 0);
        member
            .shutdown_within(Duration::from_millis(100))
            .await
            .unwrap();

        let member = start(
            subscribe(kafka, protocol, &group, &topic),
            processor("second"),
        )
        .await;
        // It is delivered behind the others, so they would have been started before it if they were
        // delivered again.
        kafka
            .produce(&topic, numbered(5_000..5_001, 1))
            .await
            .unwrap();
        wait_for("what was written last is done", DEADLINE, async || {
            (journal.done() == 5_000).then_some(())
        })
        .await;
        assert_eq!(
            started(&journal, "second"),
            BTreeSet::from([0, 5_000]),
            "{protocol:?}"
        );
        gate.open();
        let produced = kafka.produced(&topic).await.unwrap();
        await_unclaimed(kafka, &group, &produced, &BTreeSet::new()).await;
        member.shutdown().await.unwrap();
        assert_eq!(
            (journal.done(), duplicates(&journal.entries())),
            (5_001, vec![]),
            "{protocol:?}"
        );
    }
}

/// Of `apart` records the first waits and the others are settled: one run of the map, and so on for
/// all `runs`. Returns what the second member began.
async fn restart_with_runs(runs: usize, apart: usize) -> Option<(BTreeSet<i64>, Claim)> {
    let kafka = keylane_integration_tests::kafka::shared(Nodes::One)?;
    let (topic, group) = (topic(kafka, 1).await, kafka.unique("group"));
    // A lane for each: nobody waits for a key.
    kafka
        .produce(&topic, numbered(0..runs * apart, runs * apart))
        .await
        .unwrap();
    let produced = kafka.produced(&topic).await.unwrap();
    let journal = Journal::new();
    let gate = Gate::closed();
    let processor = |member: &'static str| {
        let gate = gate.clone();
        journaled(&journal, member, move |task: Task<Bytes>| {
            let result = match number(&task).is_multiple_of(apart) && !gate.is_open() {
                true => Err(TaskError::retry_after("later", HOUR)),
                false => Ok(()),
            };
            async move { result }
        })
    };
    let builder =
        || subscribe(kafka, Protocol::Cooperative, &group, &topic).retry(Retry::forever());
    let member = start(builder(), processor("first")).await;
    wait_for(
        "one of each run waits and the others are done",
        DEADLINE,
        async || {
            let status = member.status().partitions.pop()?;
            (journal.done() == runs * (apart - 1)
                && usize::try_from(status.snapshot.waiting) == Ok(runs))
            .then_some(())
        },
    )
    .await;
    member.shutdown().await.unwrap();
    let claim = claims(kafka, &group, &topic).await.unwrap().remove(0);
    assert_honest(
        std::slice::from_ref(&claim),
        &produced,
        &journal.settled(),
        &group,
    );

    gate.open();
    let member = start(builder(), processor("second")).await;
    await_unclaimed(kafka, &group, &produced, &BTreeSet::new()).await;
    member.shutdown().await.unwrap();
    let settled = journal.settled();
    let lost = produced
        .iter()
        .filter(|record| !settled.contains(&record.place()))
        .count();
    assert_eq!(lost, 0, "broken promise: records are lost");
    Some((started(&journal, "second"), claim))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_map_of_a_thousand_runs_still_says_exactly_what_is_settled() {
    let Some((again, claim)) = restart_with_runs(1_000, 2).await else {
        return;
    };
    assert_eq!(claim.position, 0);
    assert_eq!(again, (0..2_000).step_by(2).collect());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_map_too_large_for_the_broker_is_cut_and_what_is_left_is_true() {
    // Runs of eight are those of which the fewest fit.
    let Some((again, claim)) = restart_with_runs(4_000, 9).await else {
        return;
    };
    let runs = claim.ahead.ranges().count();
    assert!((1_000..4_000).contains(&runs), "{runs} runs were committed");
    // All that waited, and of what was settled that which did not fit.
    assert_eq!(
        again,
        (0..36_000)
            .filter(|offset| !claim.covers(*offset))
            .collect()
    );
}

/// What `group` does with a commit at `offset` with this metadata: the offsets that are delivered,
/// of 100.
async fn delivered_after(kafka: &Kafka, topic: &str, offset: i64, metadata: &str) -> BTreeSet<i64> {
    let group = kafka.unique("group");
    kafka
        .commit_from_outside(&group, topic, 0, offset, metadata)
        .await
        .unwrap();
    assert_eq!(
        kafka.committed(&group, topic).await.unwrap()[0].metadata,
        metadata
    );
    let journal = Journal::new();
    let processor = journaled(&journal, "a", |_| async { Ok(()) });
    let member = start(
        subscribe(kafka, Protocol::Cooperative, &group, topic),
        processor,
    )
    .await;
    wait_for("all is committed", DEADLINE, async || {
        (kafka.committed(&group, topic).await.unwrap()[0].offset == Some(100)).then_some(())
    })
    .await;
    member.shutdown().await.unwrap();
    started(&journal, "a")
}

/// A real map at the offset 10 of a topic of 100: 10 and 12 are unsettled.
async fn with_a_map(kafka: &Kafka) -> (String, String) {
    let (topic, group) = (topic(kafka, 1).await, kafka.unique("group"));
    kafka.produce(&topic, numbered(0..100, 100)).await.unwrap();
    let journal = Journal::new();
    let processor = journaled(&journal, "a", |task: Task<Bytes>| async move {
        if [10, 12].contains(&number(&task)) {
            Err(TaskError::retry_after("later", HOUR))
        } else {
            Ok(())
        }
    });
    let member = start(
        subscribe(kafka, Protocol::Cooperative, &group, &topic),
        processor,
    )
    .await;
    let produced = kafka.produced(&topic).await.unwrap();
    await_unclaimed(kafka, &group, &produced, &places(&topic, [10, 12])).await;
    member.shutdown().await.unwrap();
    let committed = kafka.committed(&group, &topic).await.unwrap().remove(0);
    assert_eq!(committed.offset, Some(10));
    (topic, committed.metadata)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_of_others_and_damaged_metadata_is_passed_over() {
    let kafka = kafka_or_skip!(Nodes::One);
    let (topic, map) = with_a_map(kafka).await;
    assert_eq!(
        delivered_after(kafka, &topic, 10, &map).await,
        BTreeSet::from([10, 12]),
        "it is a good map"
    );

    let mut flipped = map.clone().into_bytes();
    let last = flipped.last_mut().unwrap();
    *last = if *last == b'A' { b'Q' } else { b'A' };
    let flipped = String::from_utf8(flipped).unwrap();
    let newer = map.replacen("kl1.", "kl2.", 1);
    let cut = &map[..map.len() - 2];
    for metadata in [
        "left by some tool",
        "kl1.",
        "kl1.!!",
        "{\"offsets\":[1,2]}",
        "é…",
        &flipped,
        &newer,
        cut,
    ] {
        assert_eq!(
            delivered_after(kafka, &topic, 10, metadata).await,
            (10..100).collect(),
            "{metadata:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_map_that_a_tool_has_copied_to_another_offset_is_passed_over() {
    let kafka = kafka_or_skip!(Nodes::One);
    let (topic, map) = with_a_map(kafka).await;
    for offset in [0, 9, 11, 50] {
        assert_eq!(
            delivered_after(kafka, &topic, offset, &map).await,
            (offset..100).collect(),
            "moved to {offset}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offset_beyond_the_end_skips_nothing_that_is_there() {
    let kafka = kafka_or_skip!(Nodes::One);
    let (topic, group) = (topic(kafka, 1).await, kafka.unique("group"));
    kafka
        .produce(&topic, vec![NewRecord::keyed("k", "0"); 20])
        .await
        .unwrap();
    kafka
        .commit_from_outside(&group, &topic, 0, 1_000, "")
        .await
        .unwrap();
    let journal = Journal::new();
    let processor = journaled(&journal, "a", |_| async { Ok(()) });
    let member = start(
        subscribe(kafka, Protocol::Cooperative, &group, &topic),
        processor,
    )
    .await;
    wait_for("the offset is set right", DEADLINE, async || {
        (kafka.committed(&group, &topic).await.unwrap()[0].offset == Some(20)).then_some(())
    })
    .await;
    member.shutdown().await.unwrap();
    assert_eq!(started(&journal, "a"), (0..20).collect());
}
