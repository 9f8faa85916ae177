//! G9, loud failures: a fatal error ends `run()` with that error and leaves the group; any other
//! trouble shows and passes.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use keylane::config::{Backoff, Exhausted};
use keylane::error::SubscriptionError;
use keylane::status::{State, TroubleKind};
use keylane::subscription::SubscriptionBuilder;
use keylane::{DeadLetter, Raw, Retry, Subscription, Task, TaskError};
use keylane_integration_tests::{
    for_protocols,
    journal::{Expect, Journal},
    kafka::Nodes,
    kafka_or_skip,
    load::{Load, numbered},
    member::{journaled, spread},
    own_kafka_or_skip,
    protocol::Protocol,
    scene::{DEADLINE, SESSION_MS, Scene, no_trouble, trouble},
    threads::Threads,
    wait::{wait_for, wait_until},
};
use rdkafka::ClientConfig;
use rdkafka::consumer::{Consumer, StreamConsumer};

async fn start(scene: &Scene<'_>, builder: SubscriptionBuilder, member: &str) -> Subscription {
    scene
        .worker(builder, member, Duration::from_millis(5))
        .await
}

/// What ends the subscription, which must come by itself.
async fn end_of(member: Subscription) -> Result<(), SubscriptionError> {
    tokio::time::timeout(DEADLINE, member.run())
        .await
        .expect("the subscription goes on")
}

async fn exhausted_stop(protocol: Protocol) {
    let scene = Scene::new(kafka_or_skip!(Nodes::One), 4)
        .await
        .by(protocol)
        .session_ms(300_000);
    scene.write(numbered(0..400, 40)).await;
    // Long sessions: the other one gets the partitions only if this one leaves.
    let builder = scene.subscribe();
    let strict = builder.clone().retry(
        Retry::in_place(2)
            .backoff(Backoff::fixed(Duration::from_millis(10)))
            .exhausted(Exhausted::Stop),
    );
    let failing = |task: Task<Bytes>| async move {
        if task.payload() == "123" {
            Err(TaskError::retryable("always"))
        } else {
            Ok(())
        }
    };
    let member = scene.start(strict, "a", failing).await;
    let handle = member.handle();
    let error = end_of(member).await.unwrap_err();
    let produced = scene.produced().await;
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
                (&scene.topic, bad.partition, bad.offset, "exhausted")
            );
        }
        other => panic!("ended by {other:?}"),
    }
    assert_eq!(handle.state(), State::Failed);
    let committed = scene.committed().await;
    let of_bad = committed
        .iter()
        .find(|committed| committed.partition == bad.partition)
        .unwrap();
    assert!(
        of_bad.offset.is_none_or(|offset| offset <= bad.offset),
        "{of_bad:?} covers {bad:?}"
    );

    let second = start(&scene, builder, "b").await;
    scene.done(400).await;
    second.shutdown().await.unwrap();
    let report = scene.journal.check(&produced, Expect::Crashes);
    report.assert_clean();
}

for_protocols! { exhausted_stop:
    a_record_that_may_stop_the_subscription_does_and_another_member_takes_over_classic: Cooperative,
    a_record_that_may_stop_the_subscription_does_and_another_member_takes_over_consumer: Consumer,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_offset_and_with_reset_error_the_subscription_ends() {
    let kafka = kafka_or_skip!(Nodes::One);
    for protocol in Protocol::spoken([Protocol::Cooperative, Protocol::Consumer]) {
        let scene = Scene::new(kafka, 2).await.by(protocol);
        scene.write(numbered(0..10, 10)).await;
        let builder = scene.subscribe();
        let error = end_of(start(&scene, builder.kafka("auto.offset.reset", "error"), "a").await)
            .await
            .unwrap_err();
        assert!(
            matches!(error, SubscriptionError::OffsetReset(_)),
            "{error:?}"
        );
        assert_eq!(scene.journal.entries().len(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_an_offset_behind_the_log_and_reset_error_the_subscription_ends() {
    let kafka = kafka_or_skip!(Nodes::One);
    let scene = Scene::new(kafka, 1).await;
    scene.write(numbered(0..10, 10)).await;
    kafka
        .commit_from_outside(&scene.group, &scene.topic, 0, 1_000, "")
        .await
        .unwrap();
    let builder = scene.subscribe();
    let error = end_of(start(&scene, builder.kafka("auto.offset.reset", "error"), "a").await)
        .await
        .unwrap_err();
    assert!(
        matches!(error, SubscriptionError::OffsetReset(_)),
        "{error:?}"
    );
    let committed = scene.committed().await;
    assert_eq!(committed[0].offset, Some(1_000));
}

/// Two members with one `group.instance.id`: the brokers fence one of them, and it must not die
/// quietly.
async fn fenced(protocol: Protocol) {
    let scene = Scene::new(kafka_or_skip!(Nodes::One), 2).await.by(protocol);
    let builder = scene.subscribe().instance_id("twin");
    let first = start(&scene, builder.clone(), "a").await;
    scene.write(numbered(0..100, 10)).await;
    scene.done(100).await;
    let second = start(&scene, builder, "b").await;
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
    scene.write(numbered(100..200, 10)).await;
    wait_until("the other one goes on", DEADLINE, || {
        scene.journal.done() == 200 && scene.started_by(name).len() >= 100
    })
    .await;
    assert_eq!(survivor.state(), State::Running);
    survivor
        .shutdown_within(Duration::from_secs(10))
        .await
        .unwrap();
}

for_protocols! { fenced:
    of_two_members_with_one_instance_id_one_ends_with_the_error_classic: Cooperative,
    of_two_members_with_one_instance_id_one_ends_with_the_error_consumer: Consumer,
}

/// The threads that do the work are gone, the one that polls is not: it must not keep partitions
/// that nobody works on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_whose_tokio_runtime_ends_ends_with_an_error_and_leaves_the_group() {
    let scene = Scene::new(kafka_or_skip!(Nodes::One), 2)
        .await
        .session_ms(300_000);
    let builder = scene.subscribe();
    let threads = Threads::new(1);
    let processor = journaled(&scene.journal, "a", async |_| Ok(()));
    let member = threads.start(builder.clone(), processor).await;
    scene.write(numbered(0..100, 10)).await;
    scene.done(100).await;
    threads.end().await;

    let error = end_of(member).await.unwrap_err();
    assert!(error.to_string().contains("runtime"), "{error}");
    let second = start(&scene, builder, "b").await;
    scene.write(numbered(100..200, 10)).await;
    scene.done(200).await;
    second.shutdown().await.unwrap();
    scene
        .journal
        .check(&scene.produced().await, Expect::Crashes)
        .assert_clean();
}

/// One of two origin topics is deleted and made anew while the member runs.
async fn deleted_topic(protocol: Protocol) {
    let scene = Scene::new(kafka_or_skip!(Nodes::One), 2).await.by(protocol);
    let other = scene.another("other", 2).await;
    let Scene { kafka, topic, .. } = &scene;
    let builder = scene.subscribe().topic(&other);
    let builder = builder.kafka("topic.metadata.refresh.interval.ms", "1000");
    let member = start(&scene, builder, "a").await;
    scene.write(numbered(0..200, 20)).await;
    scene.done(200).await;
    // A commit under way while the topic is deleted can outlive it on the broker, and count for the
    // topic made anew.
    scene.all_committed().await;

    kafka.delete_topic(topic).await.unwrap();
    trouble(&member, TroubleKind::MissingTopic).await;
    // The other topic is not concerned.
    kafka.produce(&other, numbered(0..200, 20)).await.unwrap();
    scene.done(400).await;
    let gone = || {
        member
            .status()
            .partitions
            .iter()
            .all(|partition| *partition.topic != **topic)
    };
    wait_until("its partitions are given back", DEADLINE, gone).await;
    let so_far = scene.journal.done();

    // The new topic holds more than the old one did: nothing of the old one's positions may apply
    // to it.
    kafka.create_topic(topic, 2, 1, &[]).await.unwrap();
    scene.write(numbered(1_000..2_000, 20)).await;
    scene.done(so_far + 1_000).await;
    no_trouble(&member).await;
    assert_eq!(member.state(), State::Running);
    member.shutdown().await.unwrap();
}

for_protocols! { deleted_topic:
    a_deleted_topic_shows_and_one_made_anew_is_read_from_its_beginning_classic: Cooperative,
    a_deleted_topic_shows_and_one_made_anew_is_read_from_its_beginning_consumer: Consumer,
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
        let builder = builder.dead_letter(DeadLetter::topic(&dead));
        let work = journaled(journal, "a", |task| async move {
            tokio::time::sleep(spread(&task, Duration::from_millis(5))).await;
            Ok(())
        });
        members.push(builder.start(Raw, work).await.unwrap());
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
        let connection =
            |trouble: keylane::status::Trouble| trouble.kind == TroubleKind::Connection;
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

/// As a Java client before 3.0 does, and Decaton with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_with_another_assignor_is_trouble_until_its_members_have_left() {
    let scene = Scene::new(kafka_or_skip!(Nodes::One), 2).await;
    let group = scene.group.clone();
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", scene.kafka.bootstrap_servers())
        .set("group.id", &group)
        .set("partition.assignment.strategy", "range");
    let other: StreamConsumer = config.create().unwrap();
    other.subscribe(&[&scene.topic]).unwrap();
    wait_for("the other one has joined", DEADLINE, async || {
        // It is polled.
        let _ = tokio::time::timeout(Duration::from_millis(50), other.recv()).await;
        (other.assignment().unwrap().count() == 2).then_some(())
    })
    .await;
    let member = start(&scene, scene.subscribe(), "a").await;
    let message = trouble(&member, TroubleKind::GroupProtocol).await;
    assert!(
        message.contains("partition.assignment.strategy"),
        "{message}"
    );
    // One that waits for its membership does not start.
    let waiting = scene.subscribe().wait_for_membership(10 * DEADLINE);
    let waiting = waiting.start(Raw, |_: Task<Bytes>| async { Ok::<(), TaskError>(()) });
    let refused = tokio::time::timeout(DEADLINE, waiting).await;
    let refused = refused.expect("it waits on").unwrap_err().to_string();
    assert!(refused.contains(&message), "{refused}");
    // The other client leaves the group.
    tokio::task::spawn_blocking(move || drop(other))
        .await
        .unwrap();
    scene.write(numbered(0..100, 10)).await;
    scene.done(100).await;
    no_trouble(&member).await;
    member.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_time_out_below_the_brokers_limit_ends_run() {
    let scene = Scene::new(kafka_or_skip!(Nodes::One), 2).await;
    let builder = scene.subscribe().kafka("session.timeout.ms", "999");
    let builder = builder.kafka("heartbeat.interval.ms", "300");
    let error = end_of(start(&scene, builder, "a").await).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("session.timeout.ms=999: "), "{text}");
}
