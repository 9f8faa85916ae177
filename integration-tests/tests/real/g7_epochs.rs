//! G7, epochs: a member that the group has given up changes nothing more, and comes back by itself.

use std::{
    collections::{BTreeSet, HashMap},
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use keylane::Subscription;
use keylane::status::State;
use keylane_integration_tests::{
    commit_watch::CommitWatch,
    for_protocols,
    gate::Gate,
    journal::{Entry, Expect, Journal, Outcome, Place, Running, Work},
    kafka::{Committed, Extras, NewRecord, Nodes},
    kafka_or_skip,
    load::{Load, numbered},
    member::journaled,
    process::Process,
    protocol::Protocol,
    scene::{DEADLINE, Scene},
    threads::Threads,
    wait::{wait_for, wait_until},
};
use rustix::process::Signal;

async fn committed(scene: &Scene<'_>) -> Committed {
    scene.committed().await.remove(0)
}

/// An attempt that cannot be stopped outlives its epoch and succeeds; meanwhile the same member has
/// the partition again. The record must not run again before that attempt has ended, and its late
/// success must not settle it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_late_result_of_an_ended_epoch_settles_nothing() {
    let kafka = kafka_or_skip!(Nodes::One, Extras::quick_sessions());
    let scene = Scene::new(kafka, 2).await;
    let in_partition = |partition, records: Vec<NewRecord>| -> Vec<NewRecord> {
        records
            .into_iter()
            .map(|record| NewRecord {
                partition: Some(partition),
                ..record
            })
            .collect()
    };
    scene.write(in_partition(0, numbered(0..200, 20))).await;
    let journal = &scene.journal;
    let calls = Arc::new(AtomicUsize::new(0));
    let [end, release, others_done, blocks] = [(); 4].map(|()| Gate::closed());
    let at_end = end.open_at_end();
    let gates = (
        end.clone(),
        release.clone(),
        others_done.clone(),
        blocks.clone(),
    );
    let processor = journaled(journal, "a", move |task| {
        let (calls, gates) = (calls.clone(), gates.clone());
        async move {
            let (end, release, others_done, blocks) = gates;
            let first = task.partition() == 0 && task.offset() == 0;
            if first && calls.fetch_add(1, Ordering::SeqCst) == 0 {
                // In a task of its own, which cannot be aborted while it blocks. Not before the
                // others: the one thread that is blocked may be the one whose turn it is to run the
                // partition's owner.
                others_done.passed().await;
                blocks.open();
                end.block();
                assert!(task.is_cancelled(), "the partition was lost meanwhile");
            } else if first {
                release.passed().await;
            }
            Ok(())
        }
    });
    let builder = scene
        .subscribe()
        .commit_interval(Duration::from_millis(100));
    let threads = Threads::new(3);
    let member = threads.start(builder, processor).await;
    // All keys but the blocked one.
    scene.done(190).await;
    others_done.open();
    wait_until("it blocks its thread", DEADLINE, || blocks.is_open()).await;

    let id = scene.only_member().await;
    kafka.evict(&scene.group, &id).await.unwrap();
    scene.other_member(&id).await;
    scene.write(in_partition(1, numbered(200..220, 20))).await;
    // Another partition works in its new epoch.
    scene.done(210).await;
    wait_until("the blocked one has its records again", DEADLINE, || {
        member
            .status()
            .partitions
            .iter()
            .any(|p| p.partition == 0 && p.snapshot.pending > 0)
    })
    .await;
    let is_first = |work: &Work| (work.partition, work.offset) == (0, 0);
    let starts = || scene.started(is_first).len();
    assert_eq!(
        starts(),
        1,
        "broken promise: the record began again beside its own earlier attempt"
    );
    let at = committed(&scene).await;
    assert!(at.offset.is_none_or(|offset| offset == 0), "{at:?}");

    drop(at_end);
    wait_until("the record runs again, in the new epoch", DEADLINE, || {
        starts() == 2
    })
    .await;
    let ended = |e: &Entry| matches!(e, Entry::Ended(w, _, Outcome::Done) if (w.partition, w.offset) == (0, 0));
    assert!(
        journal.entries().iter().any(ended),
        "the attempt of the old epoch has succeeded before"
    );
    // What commits there are from here on speak of more records, and not of this one.
    let more = numbered(300..400, 20)
        .into_iter()
        .filter(|record| record.key.as_deref() != Some(b"key-0"))
        .collect();
    scene.write(in_partition(0, more)).await;
    scene.done(210 + 1 + 95).await;
    let later = wait_for(
        "the map of what is settled ahead is committed",
        DEADLINE,
        async || Some(committed(&scene).await).filter(|now| now.metadata != at.metadata),
    )
    .await;
    assert_eq!(
        later.offset,
        Some(0),
        "broken promise: the late result of an ended epoch was committed: {later:?}"
    );
    // Nor did it let the next record of its key begin.
    let of_key_0 = |work: &Work| work.partition == 0 && work.key.as_deref() == Some(b"key-0");
    let begun = scene.started(of_key_0);
    assert_eq!(
        begun,
        [0, 0],
        "broken promise: the next record of the key began"
    );

    release.open();
    scene.done(315).await;
    member.shutdown().await.unwrap();
    assert_eq!(committed(&scene).await.offset, Some(295));
    let report = journal.check(&scene.produced().await, Expect::Crashes);
    report.assert_nothing_lost();
    threads.end().await;
}

/// Thrown out again and again under load, the member comes back each time and misses nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_thrown_out_comes_back_by_itself_and_loses_nothing() {
    let kafka = kafka_or_skip!(Nodes::One, Extras::quick_sessions());
    let scene = Scene::new(kafka, 4).await;
    let member = member(&scene, "a").await;
    let load = Load::start(kafka, &scene.topic, 50, 0);
    scene.done(100).await;
    for _ in 0..3 {
        let id = scene.only_member().await;
        kafka.evict(&scene.group, &id).await.unwrap();
        scene.other_member(&id).await;
        scene.done(scene.journal.done() + 100).await;
    }
    load.stop().await;
    let produced = scene.all_done().await;
    assert_eq!(member.state(), State::Running);
    member.shutdown().await.unwrap();
    let report = scene.journal.check(&produced, Expect::Crashes);
    report.assert_nothing_lost();
    assert!(report.order.is_empty(), "broken promise: {report}");
    scene.assert_all_committed().await;
}

/// Its session is long: only the process that is stopped is to be thrown out.
async fn member(scene: &Scene<'_>, name: &str) -> Subscription {
    let builder = scene.subscribe().concurrency(16);
    scene.worker(builder, name, Duration::from_millis(10)).await
}

/// The tool `member`, with its lines in the journal. Lines of two processes come in no certain
/// order.
fn start_member(scene: &Scene<'_>) -> Process {
    let (journal, topic) = (scene.journal.clone(), scene.topic.clone());
    let mut child = Command::new(env!("CARGO_BIN_EXE_member"))
        .args([scene.kafka.bootstrap_servers(), &scene.group, &topic])
        .arg(scene.protocol.name())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    std::thread::spawn(move || {
        let mut running: HashMap<(i32, i64), Running> = HashMap::new();
        for line in lines.map_while(Result::ok) {
            note(&line, &topic, &journal, &mut running);
        }
    });
    Process { child }
}

fn note(line: &str, topic: &str, journal: &Journal, running: &mut HashMap<(i32, i64), Running>) {
    let words: Vec<&str> = line.split(' ').collect();
    let [what, partition, offset, attempt, key, value] = words[..] else {
        panic!("not a line of a member: {line}")
    };
    let place = (partition.parse().unwrap(), offset.parse().unwrap());
    if what == "done" {
        running.remove(&place).unwrap().finished(Outcome::Done);
        return;
    }
    let work = Work {
        member: "stalled".into(),
        topic: topic.into(),
        partition: place.0,
        offset: place.1,
        key: Some(key.into()),
        id: format!("{topic}/{value}"),
        attempt: attempt.parse().unwrap(),
    };
    running.insert(place, journal.started(work));
}

fn place_of(entry: &Entry) -> Place {
    let (Entry::Started(work) | Entry::Ended(work, ..)) = entry;
    work.place()
}

fn partitions_of(entries: &[Entry], member: &str) -> BTreeSet<i32> {
    let ends = entries.iter().filter_map(|entry| match entry {
        Entry::Ended(work, ..) if work.member == member => Some(work.partition),
        _ => None,
    });
    ends.collect()
}

/// A member that is stopped beyond its session time-out, as by a long pause of its machine.
async fn stalled(protocol: Protocol) {
    let kafka = kafka_or_skip!(Nodes::One, Extras::quick_sessions());
    let scene = Scene::new(kafka, 4).await.by(protocol);
    let journal = &scene.journal;
    let load = Load::start(kafka, &scene.topic, 50, 0);
    let mut process = start_member(&scene);
    wait_until("it works", DEADLINE, || {
        partitions_of(&journal.entries(), "stalled").len() == 4
    })
    .await;

    // From here on no commit of any member may go back.
    let commits = CommitWatch::start(kafka, &scene.group, &scene.topic);
    process.signal(Signal::STOP).unwrap();
    let other = member(&scene, "other").await;
    wait_until("another member does its work", DEADLINE, || {
        partitions_of(&journal.entries(), "other").len() == 4
    })
    .await;
    let continued_at = journal.entries().len();
    process.signal(Signal::CONT).unwrap();
    wait_until("it has a share again", DEADLINE, || {
        let status = other.status();
        status.state == State::Running && status.assigned && status.partitions.len() == 2
    })
    .await;
    let line = journal.entries().len();
    wait_until("it works again", DEADLINE, || {
        partitions_of(&journal.entries()[line..], "stalled").len() >= 2
    })
    .await;

    load.stop().await;
    let produced = scene.all_done().await;
    drop(process.child.stdin.take());
    let ended = tokio::task::spawn_blocking(move || process.child.wait().unwrap())
        .await
        .unwrap();
    assert!(ended.success(), "{ended}");
    other.shutdown().await.unwrap();

    scene.assert_all_committed().await;
    let (_, steps_back) = commits.steps_back(protocol).await.unwrap();
    assert!(steps_back.is_empty(), "{steps_back:?}");
    let report = journal.check(&produced, Expect::Unordered);
    report.assert_nothing_lost();
    // What the other member had done before it ran on, it did not begin again. The exception is
    // what was on its way to the processor at the moment when it was stopped: an attempt or two in
    // each partition.
    let entries = journal.entries();
    let done_by_other: BTreeSet<_> = entries[..continued_at]
        .iter()
        .filter(
            |entry| matches!(entry, Entry::Ended(work, _, Outcome::Done) if work.member == "other"),
        )
        .map(place_of)
        .collect();
    let begun = entries[continued_at..]
        .iter()
        .filter(|entry| matches!(entry, Entry::Started(w) if w.member == "stalled"));
    let begun_again: Vec<_> = begun
        .map(place_of)
        .filter(|place| done_by_other.contains(place))
        .collect();
    assert!(
        begun_again.len() <= 8,
        "{} begun again, first {:?}",
        begun_again.len(),
        begun_again[0]
    );
    // Repeated is only what the stalled member had begun before it had a share again and could not
    // commit, and that once: by the other member, or by itself where it has the partition again
    // before the other one has come to the record.
    let began_before: BTreeSet<_> = entries[..line]
        .iter()
        .filter_map(|entry| match entry {
            Entry::Started(work) if work.member == "stalled" => Some(&work.id),
            _ => None,
        })
        .collect();
    for twice in &report.duplicates {
        assert_eq!(twice.members.len(), 2, "{twice:?}");
        assert!(began_before.contains(&twice.id), "{twice:?}");
    }
}

for_protocols! { stalled:
    a_member_stopped_beyond_its_session_changes_nothing_and_comes_back_classic: Cooperative,
    a_member_stopped_beyond_its_session_changes_nothing_and_comes_back_range: Range,
    a_member_stopped_beyond_its_session_changes_nothing_and_comes_back_consumer: Consumer,
}
