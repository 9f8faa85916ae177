//! G7, epochs: a member that the group has given up changes nothing more, and comes back by itself.

use std::{
    collections::{BTreeSet, HashMap},
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use keylane::{Raw, State, Subscription};
use keylane_integration_tests::{
    commit_watch::CommitWatch,
    journal::{Entry, Expect, Journal, Outcome, Place, Running, Work},
    kafka::{Committed, Extras, Kafka, NewRecord, Nodes},
    kafka_or_skip,
    load::{Load, numbered},
    member::{journaled, spread},
    process::Process,
    protocol::Protocol,
    wait::{wait_for, wait_until},
};
use rustix::process::Signal;
use tokio::sync::watch;

const DEADLINE: Duration = Duration::from_secs(90);

/// Opens when the test ends, however it ends: a blocked thread would keep its runtime from ending.
struct Gate(Arc<AtomicBool>);

impl Drop for Gate {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

async fn committed(kafka: &Kafka, group: &str, topic: &str) -> Committed {
    wait_for("the coordinator answers", DEADLINE, async || {
        kafka.committed(group, topic).await.ok()
    })
    .await
    .remove(0)
}

fn started_of_key_0(entry: &Entry) -> Option<i64> {
    match entry {
        Entry::Started(work) if work.partition == 0 && work.key.as_deref() == Some(b"key-0") => {
            Some(work.offset)
        }
        _ => None,
    }
}

/// An attempt that cannot be stopped outlives its epoch and succeeds; meanwhile the same member has
/// the partition again. The record must not run again before that attempt has ended, and its late
/// success must not settle it.
async fn late_result(protocol: Protocol) {
    let kafka = kafka_or_skip!(Nodes::One, Extras::quick_sessions());
    let (topic, group) = (kafka.unique("g7"), kafka.unique("group"));
    kafka.create_topic(&topic, 2, 1, &[]).await.unwrap();
    let in_partition = |partition, records: Vec<NewRecord>| -> Vec<NewRecord> {
        records
            .into_iter()
            .map(|record| NewRecord {
                partition: Some(partition),
                ..record
            })
            .collect()
    };
    kafka
        .produce(&topic, in_partition(0, numbered(0..200, 20)))
        .await
        .unwrap();
    let journal = Journal::new();
    let (gate, calls) = (
        Gate(Arc::new(AtomicBool::new(false))),
        Arc::new(AtomicUsize::new(0)),
    );
    let (release, released) = watch::channel(false);
    let (others_done, others) = watch::channel(false);
    let blocks = Arc::new(AtomicBool::new(false));
    let (open, blocking) = (gate.0.clone(), blocks.clone());
    let processor = journaled(&journal, "a", move |task| {
        let (open, blocking, calls) = (open.clone(), blocking.clone(), calls.clone());
        let (mut released, mut others) = (released.clone(), others.clone());
        async move {
            let first = task.partition() == 0 && task.offset() == 0;
            if first && calls.fetch_add(1, Ordering::SeqCst) == 0 {
                // In a task of its own, which cannot be aborted while it blocks. Not before the
                // others: the one thread that is blocked may be the one whose turn it is to run the
                // partition's owner.
                others.wait_for(|done| *done).await.ok();
                blocking.store(true, Ordering::SeqCst);
                while !open.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(2));
                }
                assert!(task.is_cancelled(), "the partition was lost meanwhile");
            } else if first {
                released.wait_for(|released| *released).await.ok();
            }
            Ok(())
        }
    });
    let builder = protocol
        .subscribe(kafka, &group, &topic, 30_000)
        .commit_interval(Duration::from_millis(100));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(3)
        .enable_all()
        .build()
        .unwrap();
    let member = runtime
        .spawn(builder.start(Raw, processor))
        .await
        .unwrap()
        .unwrap();
    // All keys but the blocked one.
    wait_until("the other keys are processed", DEADLINE, || {
        journal.done() == 190
    })
    .await;
    others_done.send(true).unwrap();
    wait_until("it blocks its thread", DEADLINE, || {
        blocks.load(Ordering::SeqCst)
    })
    .await;

    let id = kafka.group(&group).await.unwrap().members.remove(0).id;
    kafka.evict(&group, &id).await.unwrap();
    wait_for("it is a new member", DEADLINE, async || {
        kafka
            .group(&group)
            .await
            .ok()?
            .members
            .first()
            .filter(|member| member.id != id)
            .map(drop)
    })
    .await;
    kafka
        .produce(&topic, in_partition(1, numbered(200..220, 20)))
        .await
        .unwrap();
    wait_until("another partition works in its new epoch", DEADLINE, || {
        journal.done() == 210
    })
    .await;
    wait_until("the blocked one has its records again", DEADLINE, || {
        member
            .status()
            .partitions
            .iter()
            .any(|p| p.partition == 0 && p.snapshot.pending > 0)
    })
    .await;
    let starts = || {
        let entries = journal.entries();
        entries
            .iter()
            .filter(
                |e| matches!(e, Entry::Started(work) if work.partition == 0 && work.offset == 0),
            )
            .count()
    };
    assert_eq!(
        starts(),
        1,
        "broken promise: the record began again beside its own earlier attempt"
    );
    let at = committed(kafka, &group, &topic).await;
    assert!(at.offset.is_none_or(|offset| offset == 0), "{at:?}");

    drop(gate);
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
    kafka.produce(&topic, in_partition(0, more)).await.unwrap();
    wait_until("more is processed", DEADLINE, || {
        journal.done() >= 210 + 1 + 95
    })
    .await;
    let later = wait_for(
        "the map of what is settled ahead is committed",
        DEADLINE,
        async || {
            Some(committed(kafka, &group, &topic).await).filter(|now| now.metadata != at.metadata)
        },
    )
    .await;
    assert_eq!(
        later.offset,
        Some(0),
        "broken promise: the late result of an ended epoch was committed: {later:?}"
    );
    // Nor did it let the next record of its key begin.
    let entries = journal.entries();
    let begun: Vec<i64> = entries.iter().filter_map(started_of_key_0).collect();
    assert_eq!(
        begun,
        [0, 0],
        "broken promise: the next record of the key began"
    );

    release.send(true).unwrap();
    wait_until("all are processed", DEADLINE, || journal.done() == 315).await;
    member.shutdown().await.unwrap();
    assert_eq!(committed(kafka, &group, &topic).await.offset, Some(295));
    let report = journal.check(&kafka.produced(&topic).await.unwrap(), Expect::Crashes);
    report.assert_nothing_lost();
    tokio::task::spawn_blocking(move || drop(runtime))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_late_result_of_an_ended_epoch_settles_nothing_cooperative() {
    late_result(Protocol::Cooperative).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_late_result_of_an_ended_epoch_settles_nothing_range() {
    late_result(Protocol::Range).await;
}

/// Thrown out again and again under load, the member comes back each time and misses nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_thrown_out_comes_back_by_itself_and_loses_nothing() {
    let kafka = kafka_or_skip!(Nodes::One, Extras::quick_sessions());
    for protocol in [Protocol::Cooperative, Protocol::Range] {
        let (topic, group) = (kafka.unique("g7"), kafka.unique("group"));
        kafka.create_topic(&topic, 4, 1, &[]).await.unwrap();
        let journal = Journal::new();
        let member = start(protocol, kafka, (&group, &topic), &journal, "a").await;
        let load = Load::start(kafka, &topic, 50, 0);
        wait_until("it works", DEADLINE, || journal.done() > 100).await;
        for _ in 0..3 {
            let id = wait_for("it is a member", DEADLINE, async || {
                let described = kafka.group(&group).await.ok()?;
                described.members.first().map(|member| member.id.clone())
            })
            .await;
            kafka.evict(&group, &id).await.unwrap();
            wait_for("it is a new member", DEADLINE, async || {
                let described = kafka.group(&group).await.ok()?;
                described
                    .members
                    .first()
                    .filter(|member| member.id != id)
                    .map(drop)
            })
            .await;
            let before = journal.done();
            wait_until("it works again", DEADLINE, || journal.done() > before + 100).await;
        }
        load.stop().await;
        let produced = kafka.produced(&topic).await.unwrap();
        wait_until("all are processed", DEADLINE, || {
            journal.done() >= produced.len()
        })
        .await;
        assert_eq!(member.state(), State::Running);
        member.shutdown().await.unwrap();
        let report = journal.check(&produced, Expect::Crashes);
        report.assert_nothing_lost();
        assert!(report.order.is_empty(), "broken promise: {report}");
        assert_committed(kafka, &group, &topic).await;
    }
}

async fn start(
    protocol: Protocol,
    kafka: &Kafka,
    (group, topic): (&str, &str),
    journal: &Journal,
    name: &str,
) -> Subscription {
    let work = journaled(journal, name, |task| async move {
        tokio::time::sleep(spread(&task, Duration::from_millis(10))).await;
        Ok(())
    });
    // Long: only the process that is stopped is to be thrown out.
    protocol
        .subscribe(kafka, group, topic, 30_000)
        .concurrency(16)
        .start(Raw, work)
        .await
        .unwrap()
}

async fn assert_committed(kafka: &Kafka, group: &str, topic: &str) {
    let committed = kafka.committed(group, topic).await.unwrap();
    let ends = kafka.end_offsets(topic).await.unwrap();
    for (committed, end) in committed.iter().zip(ends) {
        assert!(
            committed.offset == Some(end) || end == 0,
            "{committed:?}, the log ends at {end}"
        );
    }
}

/// The tool `member`, with its lines in the journal. Lines of two processes come in no certain
/// order.
fn start_member(
    kafka: &Kafka,
    group: &str,
    topic: &str,
    protocol: &str,
    journal: &Journal,
) -> Process {
    let mut child = Command::new(env!("CARGO_BIN_EXE_member"))
        .args([kafka.bootstrap_servers(), group, topic, protocol])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (journal, topic) = (journal.clone(), topic.to_owned());
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
async fn stalled(protocol: Protocol, name: &str) {
    let kafka = kafka_or_skip!(Nodes::One, Extras::quick_sessions());
    let (topic, group) = (kafka.unique("g7"), kafka.unique("group"));
    kafka.create_topic(&topic, 4, 1, &[]).await.unwrap();
    let journal = Journal::new();
    let load = Load::start(kafka, &topic, 50, 0);
    let mut process = start_member(kafka, &group, &topic, name, &journal);
    wait_until("it works", DEADLINE, || {
        partitions_of(&journal.entries(), "stalled").len() == 4
    })
    .await;

    // From here on no commit may go back, whoever makes it.
    let commits = CommitWatch::start(kafka, &group, &topic);
    process.signal(Signal::STOP).unwrap();
    let other = start(protocol, kafka, (&group, &topic), &journal, "other").await;
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
    let produced = kafka.produced(&topic).await.unwrap();
    wait_until("all are processed", DEADLINE, || {
        journal.done() >= produced.len()
    })
    .await;
    drop(process.child.stdin.take());
    let ended = tokio::task::spawn_blocking(move || process.child.wait().unwrap())
        .await
        .unwrap();
    assert!(ended.success(), "{ended}");
    other.shutdown().await.unwrap();

    assert_committed(kafka, &group, &topic).await;
    let (_, steps_back) = commits.steps_back(protocol).await.unwrap();
    assert!(steps_back.is_empty(), "{steps_back:?}");
    let report = journal.check(&produced, Expect::Unordered);
    report.assert_nothing_lost();
    // What the other member had done before it ran on it did not begin any more, but for what was
    // on its way to the processor at the very moment when it was stopped: an attempt or two in each
    // partition.
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_stopped_beyond_its_session_changes_nothing_and_comes_back_classic() {
    stalled(Protocol::Cooperative, "classic").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_stopped_beyond_its_session_changes_nothing_and_comes_back_range() {
    stalled(Protocol::Range, "range").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_stopped_beyond_its_session_changes_nothing_and_comes_back_consumer() {
    stalled(Protocol::Consumer, "consumer").await;
}
