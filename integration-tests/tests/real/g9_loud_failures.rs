//! G9, loud failures: a fatal error ends `run()` with that error and leaves the group; any other
//! trouble shows and passes.

use std::{sync::Arc, time::Duration};

use keylane::{
    Backoff, DeadLetter, Exhausted, Raw, Retry, State, Subscription, SubscriptionBuilder,
    SubscriptionError, TaskError, TroubleKind,
};
use keylane_integration_tests::{
    journal::{Entry, Expect, Journal},
    kafka::{Kafka, Nodes},
    kafka_or_skip,
    load::{Load, numbered},
    member::{journaled, spread},
    own_kafka_or_skip,
    protocol::Protocol,
    wait::{wait_for, wait_until},
};

const DEADLINE: Duration = Duration::from_secs(120);
const SESSION_MS: u32 = 20_000;

async fn topic(kafka: &Kafka, partitions: i32) -> String {
    let topic = kafka.unique("g9");
    kafka
        .create_topic(&topic, partitions, 1, &[])
        .await
        .unwrap();
    topic
}

async fn start(builder: SubscriptionBuilder, journal: &Journal, member: &str) -> Subscription {
    let work = journaled(journal, member, |task| async move {
        tokio::time::sleep(spread(&task, Duration::from_millis(5))).await;
        Ok(())
    });
    builder.start(Raw, work).await.unwrap()
}

/// What ends the subscription, which must come by itself.
async fn end_of(member: Subscription) -> Result<(), SubscriptionError> {
    tokio::time::timeout(DEADLINE, member.run())
        .await
        .expect("the subscription goes on")
}

fn started_by(journal: &Journal, member: &str) -> usize {
    journal
        .entries()
        .iter()
        .filter(|entry| matches!(entry, Entry::Started(work) if work.member == member))
        .count()
}

async fn exhausted_stop(protocol: Protocol) {
    let kafka = kafka_or_skip!(Nodes::One);
    let (topic, group) = (topic(kafka, 4).await, kafka.unique("group"));
    kafka.produce(&topic, numbered(0..400, 40)).await.unwrap();
    let journal = Journal::new();
    // Long sessions: the other one gets the partitions only if this one leaves.
    let builder = protocol.subscribe(kafka, &group, &topic, 300_000);
    let strict = builder.clone().retry(
        Retry::in_place(2)
            .backoff(Backoff::fixed(Duration::from_millis(10)))
            .exhausted(Exhausted::Stop),
    );
    let failing = journaled(&journal, "a", |task| async move {
        if task.payload() == "123" {
            Err(TaskError::retryable("always"))
        } else {
            Ok(())
        }
    });
    let member = strict.start(Raw, failing).await.unwrap();
    let handle = member.handle();
    let error = end_of(member).await.unwrap_err();
    let produced = kafka.produced(&topic).await.unwrap();
    let bad = produced
        .iter()
        .find(|record| record.id.ends_with("/123"))
        .unwrap();
    match &error {
        SubscriptionError::RetriesExhausted {
            topic: of,
            partition,
            offset,
            reason,
        } => {
            assert_eq!(
                (of, *partition, *offset, *reason),
                (&topic, bad.partition, bad.offset, "exhausted")
            );
        }
        other => panic!("ended by {other:?}"),
    }
    assert_eq!(handle.state(), State::Failed);
    let committed = kafka.committed(&group, &topic).await.unwrap();
    let of_bad = committed
        .iter()
        .find(|committed| committed.partition == bad.partition)
        .unwrap();
    assert!(
        of_bad.offset.is_none_or(|offset| offset <= bad.offset),
        "{of_bad:?} covers {bad:?}"
    );

    let second = start(builder, &journal, "b").await;
    wait_until("all are processed by the other", DEADLINE, || {
        journal.done() == 400
    })
    .await;
    second.shutdown().await.unwrap();
    let report = journal.check(&produced, Expect::Crashes);
    report.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_may_stop_the_subscription_does_and_another_member_takes_over_classic() {
    exhausted_stop(Protocol::Cooperative).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_may_stop_the_subscription_does_and_another_member_takes_over_consumer() {
    exhausted_stop(Protocol::Consumer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_offset_and_with_reset_error_the_subscription_ends() {
    let kafka = kafka_or_skip!(Nodes::One);
    for protocol in [Protocol::Cooperative, Protocol::Consumer] {
        let topic = topic(kafka, 2).await;
        kafka.produce(&topic, numbered(0..10, 10)).await.unwrap();
        let builder = protocol.subscribe(kafka, &kafka.unique("group"), &topic, SESSION_MS);
        let journal = Journal::new();
        let error = end_of(start(builder.kafka("auto.offset.reset", "error"), &journal, "a").await)
            .await
            .unwrap_err();
        assert!(
            matches!(error, SubscriptionError::OffsetReset(_)),
            "{error:?}"
        );
        assert_eq!(journal.entries().len(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_an_offset_behind_the_log_and_reset_error_the_subscription_ends() {
    let kafka = kafka_or_skip!(Nodes::One);
    let (topic, group) = (topic(kafka, 1).await, kafka.unique("group"));
    kafka.produce(&topic, numbered(0..10, 10)).await.unwrap();
    kafka
        .commit_from_outside(&group, &topic, 0, 1_000, "")
        .await
        .unwrap();
    let builder = Protocol::Cooperative.subscribe(kafka, &group, &topic, SESSION_MS);
    let journal = Journal::new();
    let error = end_of(start(builder.kafka("auto.offset.reset", "error"), &journal, "a").await)
        .await
        .unwrap_err();
    assert!(
        matches!(error, SubscriptionError::OffsetReset(_)),
        "{error:?}"
    );
    let committed = kafka.committed(&group, &topic).await.unwrap();
    assert_eq!(committed[0].offset, Some(1_000));
}

/// Two members with one `group.instance.id`: the brokers fence one of them, and it must not die
/// quietly.
async fn fenced(protocol: Protocol) {
    let kafka = kafka_or_skip!(Nodes::One);
    let (topic, group) = (topic(kafka, 2).await, kafka.unique("group"));
    let journal = Journal::new();
    let builder = protocol
        .subscribe(kafka, &group, &topic, SESSION_MS)
        .kafka("group.instance.id", "twin");
    let first = start(builder.clone(), &journal, "a").await;
    kafka.produce(&topic, numbered(0..100, 10)).await.unwrap();
    wait_until("the first member works", DEADLINE, || journal.done() == 100).await;
    let second = start(builder, &journal, "b").await;
    let (a, b) = (first.handle(), second.handle());
    // Which of the two, the protocol decides. (One that is dropped would be shut down.)
    let (mut first, mut second) = (tokio::spawn(end_of(first)), tokio::spawn(end_of(second)));
    let (error, survivor, name) = tokio::select! {
        ended = &mut first => (ended.unwrap(), b, "b"),
        ended = &mut second => (ended.unwrap(), a, "a"),
    };
    let error = error.unwrap_err();
    assert!(matches!(error, SubscriptionError::Fatal(_)), "{error:?}");
    assert!(
        error.to_string().to_lowercase().contains("instance"),
        "{error}"
    );
    kafka.produce(&topic, numbered(100..200, 10)).await.unwrap();
    wait_until("the other one goes on", DEADLINE, || {
        journal.done() == 200 && started_by(&journal, name) >= 100
    })
    .await;
    assert_eq!(survivor.state(), State::Running);
    survivor
        .shutdown_within(Duration::from_secs(10))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_members_with_one_instance_id_one_ends_with_the_error_classic() {
    fenced(Protocol::Cooperative).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_members_with_one_instance_id_one_ends_with_the_error_consumer() {
    fenced(Protocol::Consumer).await;
}

/// The threads that do the work are gone, the one that polls is not: it must not keep partitions
/// that nobody works on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_whose_tokio_runtime_ends_ends_with_an_error_and_leaves_the_group() {
    let kafka = kafka_or_skip!(Nodes::One);
    let (topic, group) = (topic(kafka, 2).await, kafka.unique("group"));
    let journal = Journal::new();
    let builder = Protocol::Cooperative.subscribe(kafka, &group, &topic, 300_000);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let member = {
        let (builder, journal) = (builder.clone(), journal.clone());
        runtime
            .spawn(async move { start(builder, &journal, "a").await })
            .await
            .unwrap()
    };
    kafka.produce(&topic, numbered(0..100, 10)).await.unwrap();
    wait_until("the first member works", DEADLINE, || journal.done() == 100).await;
    tokio::task::spawn_blocking(move || drop(runtime))
        .await
        .unwrap();

    let error = end_of(member).await.unwrap_err();
    assert!(error.to_string().contains("runtime"), "{error}");
    let second = start(builder, &journal, "b").await;
    kafka.produce(&topic, numbered(100..200, 10)).await.unwrap();
    wait_until("the other one goes on", DEADLINE, || journal.done() == 200).await;
    second.shutdown().await.unwrap();
    journal
        .check(&kafka.produced(&topic).await.unwrap(), Expect::Crashes)
        .assert_clean();
}

/// When a deleted topic is made anew.
#[derive(Clone, Copy, PartialEq)]
enum Anew {
    /// After the member has given its partitions back.
    Later,
    /// Before the member's next look at the topics.
    AtOnce,
}

/// One of two origin topics is deleted and made anew while the member runs.
async fn deleted_topic(protocol: Protocol, anew: Anew) {
    let kafka = kafka_or_skip!(Nodes::One);
    let (topic, other, group) = (
        topic(kafka, 2).await,
        topic(kafka, 2).await,
        kafka.unique("group"),
    );
    let journal = Journal::new();
    let builder = protocol
        .subscribe(kafka, &group, &topic, SESSION_MS)
        .topic(&other);
    let member = start(
        builder.kafka("topic.metadata.refresh.interval.ms", "1000"),
        &journal,
        "a",
    )
    .await;
    kafka.produce(&topic, numbered(0..200, 20)).await.unwrap();
    wait_until("the topic's records are processed", DEADLINE, || {
        journal.done() == 200
    })
    .await;
    // A commit under way while the topic is deleted can outlive it on the broker, and count for the
    // topic made anew.
    let ends: Vec<_> = kafka
        .end_offsets(&topic)
        .await
        .unwrap()
        .into_iter()
        .map(Some)
        .collect();
    wait_for("they are committed", DEADLINE, async || {
        let committed = kafka.committed(&group, &topic).await.ok()?;
        committed
            .iter()
            .map(|committed| committed.offset)
            .eq(ends.iter().copied())
            .then_some(())
    })
    .await;

    kafka.delete_topic(&topic).await.unwrap();
    if anew == Anew::Later {
        wait_until("the state shows the missing topic", DEADLINE, || {
            member
                .status()
                .trouble
                .is_some_and(|trouble| trouble.kind == TroubleKind::MissingTopic)
        })
        .await;
        // The other topic is not concerned.
        kafka.produce(&other, numbered(0..200, 20)).await.unwrap();
        wait_until("the other topic's records are processed", DEADLINE, || {
            journal.done() == 400
        })
        .await;
        let gone = || {
            member
                .status()
                .partitions
                .iter()
                .all(|partition| *partition.topic != *topic)
        };
        wait_until("its partitions are given back", DEADLINE, gone).await;
    }
    let so_far = journal.done();

    // The new topic holds more than the old one did: nothing of the old one's positions may apply
    // to it.
    kafka.create_topic(&topic, 2, 1, &[]).await.unwrap();
    kafka
        .produce(&topic, numbered(1_000..2_000, 20))
        .await
        .unwrap();
    wait_until("the new topic's records are processed", DEADLINE, || {
        journal.done() == so_far + 1_000
    })
    .await;
    wait_until("the trouble has passed", DEADLINE, || {
        member.status().trouble.is_none()
    })
    .await;
    assert_eq!(member.state(), State::Running);
    member.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_topic_shows_and_one_made_anew_is_read_from_its_beginning_classic() {
    deleted_topic(Protocol::Cooperative, Anew::Later).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_topic_shows_and_one_made_anew_is_read_from_its_beginning_consumer() {
    deleted_topic(Protocol::Consumer, Anew::Later).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_deleted_and_made_anew_at_once_is_read_from_its_beginning_classic() {
    deleted_topic(Protocol::Cooperative, Anew::AtOnce).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_deleted_and_made_anew_at_once_is_read_from_its_beginning_consumer() {
    deleted_topic(Protocol::Consumer, Anew::AtOnce).await;
}

/// First one broker of three is lost under load, then all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_loss_of_brokers_shows_and_passes_and_loses_nothing() {
    let kafka = Arc::new(own_kafka_or_skip!(Nodes::Three));
    let (topic, dead) = (kafka.unique("g9"), kafka.unique("dead"));
    for name in [&topic, &dead] {
        kafka
            .create_topic(name, 6, 3, &[("min.insync.replicas", "2")])
            .await
            .unwrap();
    }
    let journals = [Journal::new(), Journal::new()];
    let mut members = Vec::new();
    for (protocol, journal) in [Protocol::Cooperative, Protocol::Consumer]
        .into_iter()
        .zip(&journals)
    {
        let builder = protocol.subscribe(&kafka, &kafka.unique("group"), &topic, SESSION_MS);
        members.push(start(builder.dead_letter(DeadLetter::topic(&dead)), journal, "a").await);
    }
    let done = || journals.iter().map(Journal::done).min().unwrap_or(0);
    let load = Load::start(kafka.clone(), &topic, 100, 0);
    wait_until("work has begun", DEADLINE, || done() > 500).await;

    let leader = kafka.partitions(&topic).await.unwrap()[0].leader.unwrap();
    let lost = kafka.node_of(leader).unwrap();
    kafka.kill_node(lost).await.unwrap();
    let written = load.written();
    wait_until("writing goes on without the broker", DEADLINE, || {
        load.written() > written + 500
    })
    .await;
    let so_far = done();
    wait_until("work goes on without the broker", DEADLINE, || {
        done() > so_far + 500
    })
    .await;

    for node in 0..3 {
        kafka.kill_node(node).await.unwrap();
    }
    wait_until("both show that the brokers are gone", DEADLINE, || {
        let connection = |trouble: keylane::Trouble| trouble.kind == TroubleKind::Connection;
        members
            .iter()
            .all(|member| member.status().trouble.is_some_and(connection))
    })
    .await;
    let starts = (0..3).map(|node| kafka.start_node(node));
    for started in futures::future::join_all(starts).await {
        started.unwrap();
    }
    let so_far = done();
    wait_until("work goes on with the brokers back", DEADLINE, || {
        done() > so_far + 500
    })
    .await;
    load.stop().await;
    let produced = wait_for("the topic is read", DEADLINE, async || {
        kafka.produced(&topic).await.ok()
    })
    .await;
    wait_until("all are processed", DEADLINE, || done() >= produced.len()).await;
    wait_until("the trouble has passed", DEADLINE, || {
        members.iter().all(|m| m.status().trouble.is_none())
    })
    .await;
    for member in members {
        assert_eq!(member.state(), State::Running);
        member.shutdown().await.unwrap();
    }
    for journal in &journals {
        journal.check(&produced, Expect::Crashes).assert_clean();
    }
}
