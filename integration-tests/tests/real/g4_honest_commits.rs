//! G4, honest commits: the committed offset is at most the watermark, the metadata names settled
//! offsets only, and a restart delivers again only what was unsettled.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use keylane::config::Backoff;
use keylane::subscription::SubscriptionBuilder;
use keylane::{DeadLetter, Retry, Task, TaskError};
use keylane_integration_tests::{
    claims::{Claim, assert_honest, claims, unclaimed},
    dead_letters::dead_letters,
    gate::Gate,
    journal::{Journal, Work, duplicates},
    kafka::{self, Kafka, NewRecord, Nodes},
    kafka_or_skip,
    load::numbered,
    member::{number, spread},
    protocol::Protocol,
    scene::{DEADLINE, Scene},
    wait::wait_for,
};

const HOUR: Duration = Duration::from_secs(3600);
const PROTOCOLS: [Protocol; 2] = [Protocol::Cooperative, Protocol::Consumer];

fn subscribe(scene: &Scene<'_>) -> SubscriptionBuilder {
    scene.subscribe().commit_interval(Duration::from_millis(50))
}

/// A member that does all there is, and what it has begun in the end.
async fn read_to_the_end(scene: &Scene<'_>, end: i64) -> BTreeSet<i64> {
    let member = scene
        .start(subscribe(scene), "a", |_| async { Ok(()) })
        .await;
    scene.committed_at(end).await;
    member.shutdown().await.unwrap();
    begun(scene, "a")
}

/// The offsets at which `member` began attempts in the partition 0.
fn begun(scene: &Scene<'_>, member: &str) -> BTreeSet<i64> {
    let own = |work: &Work| work.member == member && work.partition == 0;
    scene.started(own).into_iter().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_commit_seen_from_outside_covers_settled_records_only() {
    let kafka = kafka_or_skip!(Nodes::One);
    for protocol in Protocol::spoken(PROTOCOLS) {
        let scene = Scene::new(kafka, 4).await.by(protocol);
        let dead = scene.another("dead", 4).await;
        scene.write(numbered(0..6_000, 300)).await;
        let produced = scene.produced().await;
        let gate = Gate::closed();
        let waits = gate.clone();
        let process = move |task: Task<Bytes>| {
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
        };
        let builder = subscribe(&scene)
            .retry(Retry::in_place(1).backoff(Backoff::fixed(Duration::from_millis(20))))
            .dead_letter(DeadLetter::topic(&dead));
        let member = scene.start(builder, "a", process).await;

        let mut with_map = 0;
        wait_for("everything is committed", DEADLINE, async || {
            let claims = claims(kafka, &scene.group, &scene.topic).await.unwrap();
            // After the claims: what is settled in between is no fault.
            let mut settled = scene.journal.settled();
            settled.extend(dead_letters(kafka, &dead).await.unwrap().into_keys());
            assert_honest(&claims, &produced, &settled, &protocol);
            with_map += usize::from(claims.iter().any(|claim| !claim.ahead.is_empty()));
            // Otherwise the above would show little.
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
    for protocol in Protocol::spoken(PROTOCOLS) {
        let scene = Scene::new(kafka, 1).await.by(protocol);
        let mut records = numbered(0..5_000, 50);
        records[0].key = Some(b"stuck".to_vec());
        scene.write(records).await;
        let gate = Gate::closed();
        let is_stuck = |task: &Task<Bytes>| number(task) == 0;
        let member = scene
            .gated(subscribe(&scene), "first", &gate, is_stuck)
            .await;
        let claims = scene.unclaimed_at([0]).await;
        assert_eq!(claims[0].position, 0);
        member
            .shutdown_within(Duration::from_millis(100))
            .await
            .unwrap();

        let member = scene
            .gated(subscribe(&scene), "second", &gate, is_stuck)
            .await;
        // It is delivered behind the others, so they would have been started before it if they were
        // delivered again.
        scene.write(numbered(5_000..5_001, 1)).await;
        scene.done(5_000).await;
        assert_eq!(
            begun(&scene, "second"),
            BTreeSet::from([0, 5_000]),
            "{protocol:?}"
        );
        gate.open();
        scene.unclaimed_at([]).await;
        member.shutdown().await.unwrap();
        assert_eq!(
            (scene.journal.done(), duplicates(&scene.journal.entries())),
            (5_001, vec![]),
            "{protocol:?}"
        );
    }
}

/// Of `apart` records the first waits and the others are settled: one run of the map, and so on for
/// all `runs`. Returns what the second member began.
async fn restart_with_runs(runs: usize, apart: usize) -> Option<(BTreeSet<i64>, Claim)> {
    let scene = Scene::new(kafka::shared(Nodes::One)?, 1).await;
    // A lane for each: no record waits for a key.
    scene.write(numbered(0..runs * apart, runs * apart)).await;
    let produced = scene.produced().await;
    let gate = Gate::closed();
    let start = async |member: &str| {
        let gate = gate.clone();
        let process = move |task: Task<Bytes>| {
            let result = match number(&task).is_multiple_of(apart) && !gate.is_open() {
                true => Err(TaskError::retry_after("later", HOUR)),
                false => Ok(()),
            };
            async move { result }
        };
        let builder = subscribe(&scene).retry(Retry::forever());
        scene.start(builder, member, process).await
    };
    let member = start("first").await;
    wait_for(
        "one of each run waits and the others are done",
        DEADLINE,
        async || {
            let status = member.status().partitions.pop()?;
            (scene.journal.done() == runs * (apart - 1)
                && usize::try_from(status.snapshot.waiting) == Ok(runs))
            .then_some(())
        },
    )
    .await;
    member.shutdown().await.unwrap();
    let claim = claims(scene.kafka, &scene.group, &scene.topic).await;
    let claim = claim.unwrap().remove(0);
    assert_honest(
        std::slice::from_ref(&claim),
        &produced,
        &scene.journal.settled(),
        &scene.group,
    );

    gate.open();
    let member = start("second").await;
    scene.unclaimed_at([]).await;
    member.shutdown().await.unwrap();
    let settled = scene.journal.settled();
    let lost = produced
        .iter()
        .filter(|record| !settled.contains(&record.place()))
        .count();
    assert_eq!(lost, 0, "broken promise: records are lost");
    Some((begun(&scene, "second"), claim))
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

/// What a group does that finds a commit at `offset` with this metadata: the offsets that are
/// delivered, of 100.
async fn delivered_after(map: &mut Scene<'_>, offset: i64, metadata: &str) -> BTreeSet<i64> {
    map.group = map.kafka.unique("group");
    map.journal = Journal::new();
    map.kafka
        .commit_from_outside(&map.group, &map.topic, 0, offset, metadata)
        .await
        .unwrap();
    assert_eq!(map.committed().await[0].metadata, metadata);
    read_to_the_end(map, 100).await
}

/// A real map at the offset 10 of a topic of 100: 10 and 12 are unsettled.
async fn with_a_map(kafka: &Kafka) -> (Scene<'_>, String) {
    let scene = Scene::new(kafka, 1).await;
    scene.write(numbered(0..100, 100)).await;
    let process = |task: Task<Bytes>| async move {
        if [10, 12].contains(&number(&task)) {
            Err(TaskError::retry_after("later", HOUR))
        } else {
            Ok(())
        }
    };
    let member = scene.start(subscribe(&scene), "a", process).await;
    scene.unclaimed_at([10, 12]).await;
    member.shutdown().await.unwrap();
    let committed = scene.committed().await.remove(0);
    assert_eq!(committed.offset, Some(10));
    (scene, committed.metadata)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_of_others_and_damaged_metadata_is_passed_over() {
    let (mut scene, map) = with_a_map(kafka_or_skip!(Nodes::One)).await;
    assert_eq!(
        delivered_after(&mut scene, 10, &map).await,
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
            delivered_after(&mut scene, 10, metadata).await,
            (10..100).collect(),
            "{metadata:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_map_that_a_tool_has_copied_to_another_offset_is_passed_over() {
    let (mut scene, map) = with_a_map(kafka_or_skip!(Nodes::One)).await;
    for offset in [0, 9, 11, 50] {
        assert_eq!(
            delivered_after(&mut scene, offset, &map).await,
            (offset..100).collect(),
            "moved to {offset}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offset_beyond_the_end_skips_nothing_that_is_there() {
    let kafka = kafka_or_skip!(Nodes::One);
    let scene = Scene::new(kafka, 1).await;
    scene.write(vec![NewRecord::keyed("k", "0"); 20]).await;
    kafka
        .commit_from_outside(&scene.group, &scene.topic, 0, 1_000, "")
        .await
        .unwrap();
    assert_eq!(read_to_the_end(&scene, 20).await, (0..20).collect());
}
