//! A topic that is deleted and made anew is another topic: no position of the old one may pass over its records (G1).

#![allow(clippy::unwrap_used, reason = "helpers of tests stop the test as the tests do")]

use std::{collections::BTreeSet, time::Duration};

use keylane::{Raw, State, Subscription, SubscriptionBuilder, SubscriptionError};
use keylane_core::{Position, commit_map};
use keylane_integration_tests::{
    journal::{Entry, Journal, Outcome},
    kafka::{Committed, Kafka, Nodes},
    kafka_or_skip,
    load::numbered,
    member::{journaled, spread},
    protocol::Protocol,
    wait::{wait_for, wait_until},
};

const DEADLINE: Duration = Duration::from_secs(120);
const SESSION_MS: u32 = 20_000;
const PARTITIONS: i32 = 2;
/// The old topic's records have lower numbers, the new one's these: more than the old one had, so that its positions are in
/// range.
const NEW: std::ops::Range<usize> = 10_000..11_000;

async fn start(builder: &SubscriptionBuilder, journal: &Journal, member: &str) -> Subscription {
    let work = journaled(journal, member, |task| async move {
        tokio::time::sleep(spread(&task, Duration::from_millis(5))).await;
        Ok(())
    });
    builder.clone().start(Raw, work).await.unwrap()
}

/// How many of the records with these numbers were processed, by `member`.
fn done(journal: &Journal, numbers: &std::ops::Range<usize>, member: &str) -> usize {
    let entries = journal.entries();
    let done = entries.iter().filter_map(|entry| match entry {
        Entry::Ended(work, _, Outcome::Done) if work.member.starts_with(member) => Some(work),
        _ => None,
    });
    let number = |id: &str| id.rsplit('/').next().unwrap().parse::<usize>().unwrap();
    done.map(|work| number(&work.id)).filter(|number| numbers.contains(number)).collect::<BTreeSet<_>>().len()
}

async fn make_anew(kafka: &Kafka, topic: &str) {
    kafka.delete_topic(topic).await.unwrap();
    kafka.create_topic(topic, PARTITIONS, 1, &[]).await.unwrap();
    kafka.produce(topic, numbered(NEW, 20)).await.unwrap();
}

/// Waits until the group's commits stand at the end of the topic and name none of the `old` logs, and returns them.
async fn committed_to_the_end(kafka: &Kafka, group: &str, topic: &str, old: &BTreeSet<[u8; 8]>) -> Vec<Committed> {
    let ends: Vec<_> = kafka.end_offsets(topic).await.unwrap().into_iter().map(Some).collect();
    wait_for("everything is committed", DEADLINE, async || {
        let committed = kafka.committed(group, topic).await.ok()?;
        let at_the_end = committed.iter().map(|committed| committed.offset).eq(ends.iter().copied());
        (at_the_end && logs(&committed).is_disjoint(old)).then_some(committed)
    })
    .await
}

/// The logs that commits name, as bytes.
fn logs(committed: &[Committed]) -> BTreeSet<[u8; 8]> {
    let log = |committed: &Committed| {
        let position = Position::new(committed.offset?);
        Some(commit_map::decode(position, &committed.metadata).unwrap().log.unwrap().to_bytes())
    };
    committed.iter().filter_map(log).collect()
}

/// Another run goes on where the last one ended: its commits are about the new topic.
async fn goes_on(kafka: &Kafka, builder: &SubscriptionBuilder, topic: &str, journal: &Journal) {
    let later = NEW.end..NEW.end + 100;
    let last = start(builder, journal, "last").await;
    kafka.produce(topic, numbered(later.clone(), 20)).await.unwrap();
    wait_until("later records are processed", DEADLINE, || done(journal, &later, "last") == 100).await;
    last.shutdown().await.unwrap();
    assert_eq!(done(journal, &NEW, "last"), 0, "records were read a second time");
}

async fn in_the_middle_of_work(protocol: Protocol) {
    let kafka = kafka_or_skip!(Nodes::One);
    let (topic, group, journal) = (kafka.unique("anew"), kafka.unique("group"), Journal::new());
    kafka.create_topic(&topic, PARTITIONS, 1, &[]).await.unwrap();
    // Commits all the time: one is likely to arrive after the deletion, and to be taken for the new topic.
    let builder = protocol.subscribe(kafka, &group, &topic, SESSION_MS).commit_interval(Duration::from_millis(20));
    let member = start(&builder, &journal, "a").await;
    kafka.produce(&topic, numbered(0..3_000, 20)).await.unwrap();
    wait_until("work has begun", DEADLINE, || journal.done() > 300).await;
    let old = wait_for("a commit names the topic", DEADLINE, async || {
        let old = logs(&kafka.committed(&group, &topic).await.ok()?);
        (!old.is_empty()).then_some(old)
    })
    .await;
    make_anew(kafka, &topic).await;
    wait_until("all of the new topic is processed", DEADLINE, || done(&journal, &NEW, "a") == NEW.len()).await;
    assert_eq!(member.state(), State::Running);
    committed_to_the_end(kafka, &group, &topic, &old).await;
    member.shutdown().await.unwrap();
    goes_on(kafka, &builder, &topic, &journal).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_made_anew_in_the_middle_of_work_is_read_from_its_beginning_classic() {
    in_the_middle_of_work(Protocol::Cooperative).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_made_anew_in_the_middle_of_work_is_read_from_its_beginning_eager() {
    in_the_middle_of_work(Protocol::Range).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_made_anew_in_the_middle_of_work_is_read_from_its_beginning_consumer() {
    in_the_middle_of_work(Protocol::Consumer).await;
}

/// A member that does not fetch sees nothing of it: its position in the old topic is in range in the new one.
async fn while_fetching_is_paused(protocol: Protocol) {
    let kafka = kafka_or_skip!(Nodes::One);
    let (topic, group, journal) = (kafka.unique("anew"), kafka.unique("group"), Journal::new());
    kafka.create_topic(&topic, PARTITIONS, 1, &[]).await.unwrap();
    let builder = protocol.subscribe(kafka, &group, &topic, SESSION_MS);
    let member = start(&builder, &journal, "a").await;
    kafka.produce(&topic, numbered(0..200, 20)).await.unwrap();
    wait_until("the old topic is processed", DEADLINE, || journal.done() == 200).await;
    let old = logs(&committed_to_the_end(kafka, &group, &topic, &BTreeSet::new()).await);
    member.handle().pause();
    wait_until("the member is paused", DEADLINE, || member.state() == State::Paused).await;
    make_anew(kafka, &topic).await;
    member.handle().resume();
    wait_until("all of the new topic is processed", DEADLINE, || done(&journal, &NEW, "a") == NEW.len()).await;
    committed_to_the_end(kafka, &group, &topic, &old).await;
    member.shutdown().await.unwrap();
    goes_on(kafka, &builder, &topic, &journal).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_made_anew_while_fetching_is_paused_is_read_from_its_beginning_classic() {
    while_fetching_is_paused(Protocol::Cooperative).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_made_anew_while_fetching_is_paused_is_read_from_its_beginning_consumer() {
    while_fetching_is_paused(Protocol::Consumer).await;
}

/// The member that saw the deletion stops before it can know, and hands its position on.
async fn across_a_restart(protocol: Protocol) {
    let kafka = kafka_or_skip!(Nodes::One);
    let (topic, group, journal) = (kafka.unique("anew"), kafka.unique("group"), Journal::new());
    kafka.create_topic(&topic, PARTITIONS, 1, &[]).await.unwrap();
    let builder = protocol.subscribe(kafka, &group, &topic, SESSION_MS);
    let member = start(&builder, &journal, "a").await;
    kafka.produce(&topic, numbered(0..200, 20)).await.unwrap();
    wait_until("the old topic is processed", DEADLINE, || journal.done() == 200).await;
    let old = logs(&committed_to_the_end(kafka, &group, &topic, &BTreeSet::new()).await);
    make_anew(kafka, &topic).await;
    member.shutdown().await.unwrap();
    let second = start(&builder, &journal, "b").await;
    wait_until("all of the new topic is processed", DEADLINE, || done(&journal, &NEW, "") == NEW.len()).await;
    committed_to_the_end(kafka, &group, &topic, &old).await;
    second.shutdown().await.unwrap();
    goes_on(kafka, &builder, &topic, &journal).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_starts_after_the_deletion_reads_the_new_topic_from_its_beginning_classic() {
    across_a_restart(Protocol::Cooperative).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_starts_after_the_deletion_reads_the_new_topic_from_its_beginning_consumer() {
    across_a_restart(Protocol::Consumer).await;
}

/// Deletes and makes anew the topic of a group without members, and leaves it the commits of the old one, as a commit under
/// way during the deletion does. Returns them.
async fn left_over_commits(
    kafka: &Kafka,
    builder: &SubscriptionBuilder,
    group: &str,
    topic: &str,
    journal: &Journal,
) -> Vec<Committed> {
    kafka.create_topic(topic, PARTITIONS, 1, &[]).await.unwrap();
    let first = start(builder, journal, "a").await;
    kafka.produce(topic, numbered(0..200, 20)).await.unwrap();
    wait_until("the old topic is processed", DEADLINE, || journal.done() == 200).await;
    first.shutdown().await.unwrap();
    let old = committed_to_the_end(kafka, group, topic, &BTreeSet::new()).await;
    make_anew(kafka, topic).await;
    // The brokers take their time to forget the old topic's commits, and must not take these for them.
    wait_for("the commits went with the topic", DEADLINE, async || {
        let committed = kafka.committed(group, topic).await.ok()?;
        committed.iter().all(|committed| committed.offset.is_none()).then_some(())
    })
    .await;
    for Committed { partition, offset, metadata } in &old {
        kafka.commit_from_outside(group, topic, *partition, offset.unwrap(), metadata).await.unwrap();
    }
    assert_eq!(kafka.committed(group, topic).await.unwrap(), old);
    old
}

async fn while_nobody_runs(protocol: Protocol) {
    let kafka = kafka_or_skip!(Nodes::One);
    let (topic, group, journal) = (kafka.unique("anew"), kafka.unique("group"), Journal::new());
    let builder = protocol.subscribe(kafka, &group, &topic, SESSION_MS);
    let old = left_over_commits(kafka, &builder, &group, &topic, &journal).await;
    let second = start(&builder, &journal, "b").await;
    wait_until("all of the new topic is processed", DEADLINE, || done(&journal, &NEW, "b") == NEW.len()).await;
    let new = committed_to_the_end(kafka, &group, &topic, &logs(&old)).await;
    assert_eq!(logs(&new).len(), 1, "{new:?}");
    second.shutdown().await.unwrap();
    let twice = journal.entries().iter().filter(|entry| matches!(entry, Entry::Started(_))).count();
    assert_eq!(twice, 200 + NEW.len(), "each record once: the new epoch began before anything was read");
    goes_on(kafka, &builder, &topic, &journal).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_names_another_log_is_left_classic() {
    while_nobody_runs(Protocol::Cooperative).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_names_another_log_is_left_consumer() {
    while_nobody_runs(Protocol::Consumer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_reset_error_a_commit_that_names_another_log_ends_the_subscription() {
    let kafka = kafka_or_skip!(Nodes::One);
    let (topic, group, journal) = (kafka.unique("anew"), kafka.unique("group"), Journal::new());
    let builder = Protocol::Cooperative.subscribe(kafka, &group, &topic, SESSION_MS);
    let old = left_over_commits(kafka, &builder, &group, &topic, &journal).await;
    let strict = start(&builder.kafka("auto.offset.reset", "error"), &journal, "b").await;
    let ended = tokio::time::timeout(DEADLINE, strict.run()).await.expect("the subscription goes on");
    assert!(
        matches!(&ended, Err(SubscriptionError::OffsetReset(why)) if why.contains(&topic) && why.contains("anew")),
        "{ended:?}"
    );
    assert_eq!(done(&journal, &NEW, "b"), 0);
    assert_eq!(kafka.committed(&group, &topic).await.unwrap(), old);
}
