//! Bad input at start-up: one error that names the thing and the fix, in time.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::FutureExt;
use keylane::config::{ControlTopic, Limits, Outage};
use keylane::error::StartError;
use keylane::subscription::SubscriptionBuilder;
use keylane::{DeadLetter, Raw, Retry, Subscription, SubscriptionConfig, Task, TaskError};
use keylane_integration_tests::{
    kafka::{Kafka, NewRecord, Nodes},
    kafka_or_skip,
    wait::wait_for,
};

const STARTUP: Duration = Duration::from_secs(5);
/// What a busy machine may add.
const GENEROUS: Duration = Duration::from_secs(20);
const DEADLINE: Duration = Duration::from_secs(60);

async fn start(builder: SubscriptionBuilder) -> Result<Subscription, StartError> {
    builder
        .start(Raw, |_: Task<Bytes>| async { Ok::<(), TaskError>(()) })
        .await
}

/// The error of a start that must fail, and in time.
#[track_caller]
fn refusal(began: Instant, result: Result<Subscription, StartError>, named: &[&str]) -> StartError {
    let error = result.expect_err("the subscription started");
    let text = error.to_string();
    for name in named {
        assert!(text.contains(name), "{name:?} is not named: {text}");
    }
    assert!(!text.contains('\n'), "one line: {text}");
    assert!(
        began.elapsed() < STARTUP + GENEROUS,
        "an answer after {:?}: {text}",
        began.elapsed()
    );
    error
}

async fn refused(builder: SubscriptionBuilder, named: &[&str]) -> StartError {
    let began = Instant::now();
    let result = start(builder.startup_timeout(STARTUP)).await;
    refusal(began, result, named)
}

fn nowhere() -> SubscriptionBuilder {
    Subscription::builder("group", "topic").bootstrap_servers("127.0.0.1:1")
}

async fn on(kafka: &Kafka, topics: &[&str]) -> SubscriptionBuilder {
    for topic in topics {
        kafka.create_topic(topic, 2, 1, &[]).await.unwrap();
    }
    let topic = topics.first().copied().unwrap_or("nothing-here");
    Subscription::builder(kafka.unique("group"), topic).bootstrap_servers(kafka.bootstrap_servers())
}

#[tokio::test]
async fn brokers_that_refuse_connections_are_named() {
    let error = refused(nowhere(), &["127.0.0.1:1", "bootstrap"]).await;
    assert!(matches!(error, StartError::Topics(_)), "{error:?}");
}

#[tokio::test]
async fn brokers_whose_name_does_not_resolve_are_named() {
    refused(
        nowhere().bootstrap_servers("no-such-host.invalid:9092"),
        &["no-such-host.invalid:9092", "bootstrap"],
    )
    .await;
}

#[tokio::test]
async fn a_broker_that_accepts_and_never_answers_is_named() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    refused(nowhere().bootstrap_servers(&address), &[&address]).await;
}

#[tokio::test]
async fn something_that_is_no_kafka_is_named() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        use std::io::Write;
        for connection in server.incoming() {
            let _ = connection
                .and_then(|mut stream| stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
        }
    });
    refused(nowhere().bootstrap_servers(&address), &[&address]).await;
}

#[tokio::test]
async fn a_plain_port_asked_for_tls_or_credentials_is_an_error() {
    let kafka = kafka_or_skip!(Nodes::One);
    let topic = kafka.unique("start");
    let builder = on(kafka, &[&topic])
        .await
        .kafka("security.protocol", "sasl_plaintext")
        .kafka("sasl.mechanisms", "PLAIN");
    let builder = builder
        .kafka("sasl.username", "user")
        .kafka("sasl.password", "hunter2");
    let error = refused(builder, &[]).await;
    assert!(
        !format!("{error} {error:?}").contains("hunter2"),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_missing_origin_topic_is_named() {
    let kafka = kafka_or_skip!(Nodes::One);
    let (there, missing) = (kafka.unique("there"), kafka.unique("missing"));
    let builder = on(kafka, &[&there]).await;
    refused(
        builder.clone().topic(&missing),
        &[&missing, "origin topic", "create"],
    )
    .await;
    // And it does not spring into being.
    assert!(kafka.partitions(&missing).await.is_err());
}

#[tokio::test]
async fn a_control_topic_that_loses_orders_is_named_with_the_fix() {
    let kafka = kafka_or_skip!(Nodes::One);
    let topic = kafka.unique("tasks");
    let control = kafka.unique("control");
    let builder = on(kafka, &[&topic]).await;
    let builder = builder.control_topic(ControlTopic::named(&control));
    let fix = ["control topic", &control, "keylane control create"];
    refused(builder.clone(), &fix).await;
    kafka.create_topic(&control, 1, 1, &[]).await.unwrap();
    let fix = [&*control, "cleanup.policy=delete", "kafka-configs.sh"];
    refused(builder.clone(), &fix).await;
    let compact = [("cleanup.policy", "compact")];
    kafka.configure_topic(&control, &compact).await.unwrap();
    // The broker accepts a policy before it shows it.
    let member = wait_for("the policy is shown", DEADLINE, async || {
        start(builder.clone()).await.ok()
    })
    .await;
    member.shutdown().await.unwrap();
}

#[tokio::test]
async fn missing_retry_and_dead_letter_topics_are_named_together() {
    let kafka = kafka_or_skip!(Nodes::One);
    let topic = kafka.unique("start");
    let (retry, dead) = (format!("{topic}-retry"), kafka.unique("dead"));
    let builder = on(kafka, &[&topic])
        .await
        .retry(Retry::none().then_topic())
        .dead_letter(DeadLetter::topic(&dead));
    refused(
        builder,
        &["retry topic", &retry, "dead-letter topic", &dead, "create"],
    )
    .await;
}

#[tokio::test]
async fn topics_that_feed_themselves_are_refused() {
    let kafka = kafka_or_skip!(Nodes::One);
    let (topic, retry) = (kafka.unique("start"), kafka.unique("retry"));
    let builder = on(kafka, &[&topic, &retry]).await;
    refused(
        builder
            .clone()
            .retry(Retry::none().then_topic_named(&topic)),
        &["retry topic", &topic, "own"],
    )
    .await;
    refused(
        builder.clone().dead_letter(DeadLetter::topic(&topic)),
        &["dead-letter topic", &topic, "own"],
    )
    .await;
    let both = builder
        .clone()
        .retry(Retry::none().then_topic_named(&retry))
        .dead_letter(DeadLetter::topic(&retry));
    refused(both, &["dead-letter topic", &retry, "own"]).await;
    refused(builder.topic(&topic), &[&topic, "twice"]).await;
}

#[tokio::test]
async fn a_topic_name_that_kafka_does_not_allow_is_named() {
    refused(nowhere().topic("no spaces here"), &["no spaces here"]).await;
    refused(nowhere().topic("^pattern.*"), &["^pattern.*"]).await;
    refused(nowhere().topic(""), &["topics"]).await;
    refused(
        nowhere().dead_letter(DeadLetter::topic("dead/letters")),
        &["dead/letters"],
    )
    .await;
}

/// Fewer partitions than the origin has: the numbers wrap around, nothing fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_topic_with_too_few_partitions_is_used_all_the_same() {
    let kafka = kafka_or_skip!(Nodes::One);
    let (topic, dead) = (kafka.unique("wide"), kafka.unique("narrow"));
    kafka.create_topic(&topic, 5, 1, &[]).await.unwrap();
    let builder = on(kafka, &[&dead]).await;
    let mut config = builder.config().clone();
    config.topics = vec![topic.clone()];
    let records = (0..5).map(|partition| NewRecord {
        partition: Some(partition),
        ..NewRecord::keyed("k", "v")
    });
    kafka.produce(&topic, records.collect()).await.unwrap();
    let member = Subscription::from_config(config)
        .dead_letter(DeadLetter::topic(&dead))
        .start(Raw, |_: Task<Bytes>| async {
            Err::<(), _>(TaskError::fatal("never"))
        })
        .await
        .unwrap();
    let letters = wait_for("five dead letters", DEADLINE, async || {
        kafka
            .read_all(&dead)
            .await
            .ok()
            .filter(|letters| letters.len() == 5)
    })
    .await;
    member.shutdown().await.unwrap();
    let mut places: Vec<(i32, &str)> = letters
        .iter()
        .map(|letter| {
            (
                letter.partition,
                letter.header("keylane-origin-partition").unwrap(),
            )
        })
        .collect();
    places.sort_unstable();
    assert_eq!(places, [(0, "0"), (0, "2"), (0, "4"), (1, "1"), (1, "3")]);
}

#[tokio::test]
async fn client_settings_that_keylane_owns_are_refused_with_the_fix() {
    for (key, fix) in [
        ("enable.auto.commit", "remove it"),
        ("auto.commit.enable", "remove it"),
        ("enable.auto.offset.store", "remove it"),
        ("enable.partition.eof", "remove it"),
        ("group.id", "subscription"),
        ("bootstrap.servers", "bootstrap_servers"),
        ("metadata.broker.list", "bootstrap_servers"),
        ("auto.commit.interval.ms", "commit interval"),
        ("allow.auto.create.topics", "remove it"),
        ("acks", "remove it"),
        ("transactional.id", "remove it"),
    ] {
        let error = refused(nowhere().kafka(key, "true"), &[key, fix]).await;
        assert!(matches!(error, StartError::Client(_)), "{key}: {error:?}");
    }
}

#[tokio::test]
async fn unknown_and_unusable_client_settings_are_named() {
    refused(
        nowhere().kafka("sesion.timeout.ms", "6000"),
        &["sesion.timeout.ms", "spelling"],
    )
    .await;
    refused(
        nowhere().kafka("session.timeout.ms", "soon"),
        &["session.timeout.ms"],
    )
    .await;
    refused(
        nowhere().kafka("group.protocol", "consummer"),
        &["group.protocol"],
    )
    .await;
    let consumer = nowhere().kafka("group.protocol", "consumer");
    refused(
        consumer.kafka("session.timeout.ms", "6000"),
        &["session.timeout.ms", "group.protocol=consumer", "remove"],
    )
    .await;
}

/// What only librdkafka can judge, on a broker that is there: the client is created after the
/// topics were looked at.
#[tokio::test]
async fn client_settings_that_do_not_fit_together_are_an_error() {
    let kafka = kafka_or_skip!(Nodes::One);
    let topic = kafka.unique("start");
    let builder = on(kafka, &[&topic])
        .await
        .kafka("session.timeout.ms", "400000");
    refused(builder, &["max.poll.interval.ms"]).await;
}

#[tokio::test]
async fn zero_and_absurd_limits_are_named() {
    let limits = |change: fn(&mut Limits)| {
        let mut limits = Limits::default();
        change(&mut limits);
        nowhere().limits(limits)
    };
    for (builder, name) in [
        (nowhere().concurrency(0), "concurrency"),
        (nowhere().concurrency(1_000_000_000), "concurrency"),
        (limits(|l| l.pause_at_records = 0), "pause_at_records"),
        (
            limits(|l| l.resume_at_records = 10_000),
            "resume_at_records",
        ),
        (limits(|l| l.pending_bytes = 0), "pending_bytes"),
        (limits(|l| l.pending_bytes = usize::MAX), "pending_bytes"),
        (limits(|l| l.settled_ahead = 0), "settled_ahead"),
        (nowhere().commit_interval(Duration::ZERO), "commit_interval"),
        (nowhere().attempt_timeout(Duration::ZERO), "attempt_timeout"),
        (nowhere().attempt_timeout(Duration::MAX), "attempt_timeout"),
        (nowhere().drain_timeout(Duration::MAX), "drain_timeout"),
        (
            nowhere().shutdown_timeout(Duration::MAX),
            "shutdown_timeout",
        ),
        (
            nowhere().retry(Retry::none().then_topic().topic_rounds(0)),
            "rounds",
        ),
        (
            nowhere().retry(Retry::for_at_least(Duration::ZERO)),
            "for_at_least",
        ),
        (nowhere().outage(Outage::default().lanes(0)), "outage.lanes"),
        (
            nowhere().outage(Outage::default().patience(Duration::MAX)),
            "outage.patience",
        ),
        (Subscription::builder("", "topic"), "group"),
        (nowhere().bootstrap_servers(""), "bootstrap_servers"),
        (
            nowhere().topic("other").retry(Retry::none().then_topic()),
            "retry.topic.name",
        ),
    ] {
        let error = refused(builder, &[name]).await;
        assert!(matches!(error, StartError::Config(_)), "{name}: {error:?}");
    }
    for startup in [Duration::ZERO, Duration::MAX] {
        refusal(
            Instant::now(),
            start(nowhere().startup_timeout(startup)).await,
            &["startup_timeout"],
        );
    }
}

#[test]
fn unknown_fields_of_a_settings_file_are_named() {
    for (text, field) in [
        (
            r#"{"group":"g","topics":["t"],"concurency":3}"#,
            "concurency",
        ),
        (
            r#"{"group":"g","topics":["t"],"limits":{"pause_at":3}}"#,
            "pause_at",
        ),
        (
            r#"{"group":"g","topics":["t"],"retry":{"in_palce":3}}"#,
            "in_palce",
        ),
        (
            r#"{"group":"g","topics":["t"],"retry":{"topic":{"round":3}}}"#,
            "round",
        ),
        (
            r#"{"group":"g","topics":["t"],"retry":{"backoff":{"first":"1s"}}}"#,
            "first",
        ),
        (
            r#"{"group":"g","topics":["t"],"dead_letter":{"topic":"d","burst":3}}"#,
            "burst",
        ),
        (r#"{"topics":["t"]}"#, "group"),
        (
            r#"{"group":"g","topics":["t"],"commit_interval":"soon"}"#,
            "soon",
        ),
    ] {
        let error = serde_json::from_str::<SubscriptionConfig>(text)
            .unwrap_err()
            .to_string();
        assert!(error.contains(field), "{field}: {error}");
    }
}

#[test]
fn a_start_outside_of_a_runtime_is_an_error_that_says_so() {
    let result = start(nowhere())
        .now_or_never()
        .expect("it waits for something");
    let error = result.expect_err("it started");
    assert!(
        matches!(error, StartError::NoRuntime(_)) && error.to_string().contains("tokio"),
        "{error:?}"
    );
}
