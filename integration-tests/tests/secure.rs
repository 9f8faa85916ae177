//! TLS with client certificates, SASL/SCRAM and ACLs against a Kafka that demands them: everything
//! works with the right credentials, everything else ends in an error that names the cause and the
//! fix, and what changes at run time loses nothing.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests stop the test as the tests do"
)]

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use bytes::Bytes;
use keylane::config::{Backoff, ControlTopic, Exhausted, FailureReason};
use keylane::error::{SubscriptionError, TaskProducerError};
use keylane::producer::TaskProducerBuilder;
use keylane::status::TroubleKind;
use keylane::subscription::SubscriptionBuilder;
use keylane::{
    DeadLetter, NewTask, Raw, Retry, Subscription, Task, TaskError, TaskProducer,
    topics::{NewTopic, TopicCreation, create_topics},
};
use keylane_integration_tests::{
    certificates::Authority,
    commands,
    dead_letters::dead_letters,
    journal::{Entry, Expect, Journal},
    kafka::{NewRecord, Operation, Resource},
    load::numbered,
    member::journaled,
    protocol::Protocol,
    scene::{no_trouble, trouble},
    secure::{SecureKafka, Settings},
    wait::{wait_for, wait_until},
};

const DEADLINE: Duration = Duration::from_secs(120);
const STARTUP: Duration = Duration::from_secs(15);
/// What a busy machine may add.
const GENEROUS: Duration = Duration::from_secs(20);
const PARTITIONS: i32 = 2;
const RETRY: Duration = Duration::from_millis(10);

/// The Kafka that the tests of this file share; they use users, topics and groups of their own.
fn kafka() -> Option<&'static SecureKafka> {
    static KAFKA: OnceLock<Option<SecureKafka>> = OnceLock::new();
    KAFKA.get_or_init(SecureKafka::start).as_ref()
}

macro_rules! kafka_or_skip {
    () => {
        match kafka() {
            Some(kafka) => kafka,
            None => return,
        }
    };
}

/// A user with three topics and a group.
struct Site {
    kafka: &'static SecureKafka,
    user: String,
    origin: String,
    retry: String,
    dead: String,
    group: String,
    settings: Settings,
    servers: String,
}

impl Site {
    /// On a listener with client certificates; nothing is allowed yet.
    async fn bare(kafka: &'static SecureKafka) -> Self {
        let user = kafka.unique("user");
        let (settings, servers) = (kafka.tls(&user), kafka.at("TLS"));
        Self::of(kafka, user, settings, servers).await
    }

    /// The same with all that a subscription with a retry topic and dead letters needs.
    async fn tls(kafka: &'static SecureKafka) -> Self {
        let site = Self::bare(kafka).await;
        site.allow_all().await;
        site
    }

    async fn scram(kafka: &'static SecureKafka, listener: &str) -> Self {
        let user = kafka.unique("user");
        kafka.set_password(&user, "right").await.unwrap();
        let (settings, servers) = (kafka.scram(&user, "right"), kafka.at(listener));
        let site = Self::of(kafka, user, settings, servers).await;
        site.allow_all().await;
        site
    }

    async fn of(
        kafka: &'static SecureKafka,
        user: String,
        settings: Settings,
        servers: String,
    ) -> Self {
        let origin = kafka.unique("origin");
        let (retry, dead, group) = (
            format!("{origin}-retry"),
            format!("{origin}-dlq"),
            kafka.unique("group"),
        );
        for topic in [&origin, &retry, &dead] {
            kafka.create_topic(topic, PARTITIONS, 1, &[]).await.unwrap();
        }
        Self {
            kafka,
            user,
            origin,
            retry,
            dead,
            group,
            settings,
            servers,
        }
    }

    async fn allow_all(&self) {
        for operation in [Operation::Read, Operation::Write] {
            for topic in [&self.origin, &self.retry, &self.dead] {
                self.allow(operation, Resource::Topic(topic)).await;
            }
        }
        self.allow(Operation::Read, Resource::Group(&self.group))
            .await;
    }

    async fn allow(&self, operation: Operation, on: Resource<'_>) {
        self.kafka.allow(&self.user, operation, on).await.unwrap();
    }

    async fn forbid(&self, operation: Operation, on: Resource<'_>) {
        self.kafka.forbid(&self.user, operation, on).await.unwrap();
    }

    fn subscription(&self) -> SubscriptionBuilder {
        self.subscription_by(Protocol::Cooperative)
    }

    fn subscription_by(&self, protocol: Protocol) -> SubscriptionBuilder {
        protocol
            .subscribe(self.kafka, &self.group, &self.origin, 20_000)
            .bootstrap_servers(&self.servers)
            .kafka_settings(self.settings.clone())
            .startup_timeout(Duration::from_secs(30))
            .commit_interval(Duration::from_millis(200))
    }

    /// Retries go through the topic at once, and there are dead letters.
    fn complete(&self) -> SubscriptionBuilder {
        let retry = Retry::in_place(0)
            .then_topic_named(&self.retry)
            .topic_rounds(1);
        self.subscription()
            .retry(retry.topic_backoff(Backoff::fixed(RETRY)))
            .dead_letter(DeadLetter::topic(&self.dead))
    }

    fn producer(&self) -> TaskProducerBuilder {
        TaskProducer::builder(&self.origin)
            .bootstrap_servers(&self.servers)
            .application_id("secure")
            .kafka_settings(self.settings.clone())
            .startup_timeout(Duration::from_secs(30))
    }

    async fn produce(&self, numbers: std::ops::Range<usize>) {
        self.kafka
            .produce(&self.origin, numbered(numbers, 10))
            .await
            .unwrap();
    }

    async fn assert_all_done_once(&self, journal: &Journal) {
        let produced = self.kafka.produced(&self.origin).await.unwrap();
        journal.check(&produced, Expect::Crashes).assert_clean();
    }
}

async fn start(builder: SubscriptionBuilder, journal: &Journal) -> Subscription {
    builder
        .start(Raw, journaled(journal, "a", |_| async { Ok(()) }))
        .await
        .unwrap()
}

/// Waits until so many different records are processed.
async fn done(journal: &Journal, count: usize) {
    wait_until(&format!("{count} are processed"), DEADLINE, || {
        journal.done() == count
    })
    .await;
}

/// Producer, consumer, retries, dead letters, commits, end offsets.
async fn everything_works(site: &Site) {
    let producer = site.producer().start().await.unwrap();
    for number in 0..100_u32 {
        producer
            .enqueue(NewTask::new(number.to_string()).key((number % 10).to_string()))
            .await
            .unwrap();
    }
    producer.close(DEADLINE).await.unwrap();

    let journal = Journal::new();
    let processor = journaled(&journal, "a", |task: Task<Bytes>| async move {
        match &task.payload()[..] {
            b"7" => Err(TaskError::fatal("never")),
            b"8" if task.attempt() == 1 => Err(TaskError::retryable("not yet")),
            _ => Ok(()),
        }
    });
    let member = site.complete().start(Raw, processor).await.unwrap();
    // The 8 comes back by the retry topic.
    done(&journal, 99).await;
    wait_for("the dead letter", DEADLINE, async || {
        (dead_letters(site.kafka, &site.dead).await.unwrap().len() == 1).then_some(())
    })
    .await;
    assert_eq!(site.kafka.read_all(&site.retry).await.unwrap().len(), 1);
    wait_for("all is committed", DEADLINE, async || {
        let committed = site
            .kafka
            .committed(&site.group, &site.origin)
            .await
            .unwrap();
        let ends = site.kafka.end_offsets(&site.origin).await.unwrap();
        committed
            .iter()
            .zip(&ends)
            .all(|(committed, end)| committed.offset == Some(*end))
            .then_some(())
    })
    .await;

    // Fetching is paused, so only the client for end offsets can know.
    member.handle().pause();
    let of_origin = || {
        member
            .status()
            .partitions
            .into_iter()
            .filter(|partition| *partition.topic == *site.origin)
    };
    wait_until("the partitions are paused", DEADLINE, || {
        of_origin().all(|partition| partition.paused)
    })
    .await;
    site.kafka
        .produce(&site.origin, numbered(0..50, 10))
        .await
        .unwrap();
    let lag = || {
        of_origin()
            .map(|partition| partition.lag_records.unwrap_or(0))
            .sum::<u64>()
    };
    wait_until("the lag is known", DEADLINE, || lag() == 50).await;
    member.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_works_over_tls_with_a_client_certificate() {
    let site = Site::tls(kafka_or_skip!()).await;
    everything_works(&site).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_works_over_sasl_ssl_with_scram() {
    let site = Site::scram(kafka_or_skip!(), "SCRAM").await;
    everything_works(&site).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encrypted_key_with_its_password_is_taken() {
    let kafka = kafka_or_skip!();
    let mut site = Site::bare(kafka).await;
    let identity = kafka.authority().issue(&site.user, None).unwrap();
    site.settings.insert(
        "ssl.certificate.pem".into(),
        identity.certificate_pem().unwrap(),
    );
    site.settings.insert(
        "ssl.key.pem".into(),
        identity.encrypted_key_pem("open sesame").unwrap(),
    );
    site.settings
        .insert("ssl.key.password".into(), "open sesame".into());
    site.allow(Operation::Write, Resource::Topic(&site.origin))
        .await;
    let producer = site.producer().start().await.unwrap();
    producer.enqueue(NewTask::new("x")).await.unwrap();
}

#[tokio::test]
async fn topics_are_created_with_leave_and_refused_without() {
    let kafka = kafka_or_skip!();
    let site = Site::bare(kafka).await;
    let topic = kafka.unique("new");
    let settings = site.settings.clone().into_iter().collect();
    let create =
        async || create_topics(&site.servers, &settings, &[NewTopic::new(&topic, 1)]).await;
    let error = create().await.unwrap_err().to_string();
    assert!(
        error.contains(&topic) && error.contains("authorization failed"),
        "{error}"
    );
    site.allow(Operation::Create, Resource::Topic(&topic)).await;
    assert_eq!(
        create().await.unwrap(),
        [(topic.clone(), TopicCreation::Created)]
    );
}

/// Starts a subscription and a task producer with these settings, beside each other: both must
/// fail, in time, and name this.
async fn refused(site: &Site, settings: Settings, servers: &str, named: &[&str]) {
    let began = Instant::now();
    let subscription = Subscription::builder(&site.group, &site.origin)
        .bootstrap_servers(servers)
        .kafka_settings(settings.clone())
        .startup_timeout(STARTUP)
        .start(Raw, |_: Task<Bytes>| async { Ok::<(), TaskError>(()) });
    let producer = TaskProducer::builder(&site.origin)
        .bootstrap_servers(servers)
        .application_id("secure")
        .kafka_settings(settings)
        .startup_timeout(STARTUP)
        .start();
    let (subscription, producer) = tokio::join!(subscription, producer);
    let errors = [
        subscription.err().map(|error| error.to_string()),
        producer.err().map(|error| error.to_string()),
    ];
    for error in errors {
        check_refusal(began, error, named);
    }
}

#[track_caller]
fn check_refusal(began: Instant, error: Option<String>, named: &[&str]) {
    let text = error.expect("it started");

    for name in named {
        assert!(text.contains(name), "{name:?} is not named: {text}");
    }
    assert!(!text.contains('\n'), "one line: {text}");
    assert!(
        began.elapsed() < STARTUP + GENEROUS,
        "an answer after {:?}: {text}",
        began.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_and_an_unknown_user_are_named() {
    let kafka = kafka_or_skip!();
    let site = Site::scram(kafka, "SCRAM").await;
    let named = [
        &site.servers[..],
        "refuse this client",
        "Authentication failed",
        "sasl.*",
    ];
    refused(
        &site,
        kafka.scram(&site.user, "wrong"),
        &site.servers,
        &named,
    )
    .await;
    refused(&site, kafka.scram("nobody", "right"), &site.servers, &named).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_signed_by_an_authority_that_is_not_trusted_is_named() {
    let kafka = kafka_or_skip!();
    let site = Site::bare(kafka).await;
    let mut settings = site.settings.clone();
    settings.insert(
        "ssl.ca.pem".into(),
        Authority::new("somebody else").unwrap().pem().unwrap(),
    );
    refused(
        &site,
        settings,
        &site.servers,
        &[&site.servers, "certificate verify failed", "ssl.ca"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_client_certificate_and_one_that_the_broker_does_not_trust_are_named() {
    let kafka = kafka_or_skip!();
    let site = Site::bare(kafka).await;
    refused(
        &site,
        kafka.trusting(),
        &site.servers,
        &[&site.servers, "certificate", "ssl."],
    )
    .await;
    let mut settings = site.settings.clone();
    let stranger = Authority::new("somebody else")
        .unwrap()
        .issue(&site.user, None)
        .unwrap();
    settings.insert(
        "ssl.certificate.pem".into(),
        stranger.certificate_pem().unwrap(),
    );
    settings.insert("ssl.key.pem".into(), stranger.key_pem().unwrap());
    refused(
        &site,
        settings,
        &site.servers,
        &[&site.servers, "certificate", "ssl."],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_for_another_host_is_named() {
    let kafka = kafka_or_skip!();
    let site = Site::bare(kafka).await;
    let by_address = site.servers.replace("localhost", "127.0.0.1");
    refused(
        &site,
        site.settings.clone(),
        &by_address,
        &[&by_address, "certificate verify failed", "ssl."],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wrong_protocol_for_a_listener_ends_in_time_and_names_it() {
    let kafka = kafka_or_skip!();
    let site = Site::bare(kafka).await;
    let (plain, scram) = (kafka.bootstrap_servers(), kafka.at("SCRAM"));
    let with = |settings: &Settings, servers: &str| {
        let (site, settings, servers) = (&site, settings.clone(), servers.to_owned());
        async move { refused(site, settings, &servers, &[&servers, "security.protocol"]).await }
    };
    tokio::join!(
        with(&Settings::new(), &site.servers),
        with(&site.settings, plain),
        with(&site.settings, &scram)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_permission_that_is_missing_at_the_start_is_named() {
    let site = Site::tls(kafka_or_skip!()).await;
    let (origin, retry, dead) = (
        Resource::Topic(&site.origin),
        Resource::Topic(&site.retry),
        Resource::Topic(&site.dead),
    );
    let group = Resource::Group(&site.group);
    // The topic can be described all the same, unless it is hidden entirely.
    for topic in [&site.origin, &site.retry, &site.dead] {
        site.allow(Operation::Describe, Resource::Topic(topic))
            .await;
    }
    site.allow(Operation::Describe, group).await;
    let cases = [
        (
            Operation::Read,
            origin,
            format!("read origin topic `{}` (READ)", site.origin),
        ),
        (
            Operation::Read,
            retry,
            format!("read retry topic `{}` (READ)", site.retry),
        ),
        (
            Operation::Write,
            retry,
            format!("write to retry topic `{}` (WRITE)", site.retry),
        ),
        (
            Operation::Write,
            dead,
            format!("write to dead-letter topic `{}` (WRITE)", site.dead),
        ),
        (
            Operation::Read,
            group,
            format!("use consumer group `{}` (READ)", site.group),
        ),
    ];
    for (operation, on, named) in &cases {
        site.forbid(*operation, *on).await;
        assert_eq!(
            forbidden(&site, &named[..]).await,
            format!("the cluster's ACLs do not let this client {named}; grant it")
        );
        site.allow(*operation, *on).await;
    }
    wait_for("it starts", DEADLINE, async || {
        site.complete()
            .start(Raw, |_: Task<Bytes>| async { Ok::<(), TaskError>(()) })
            .await
            .ok()
    })
    .await
    .shutdown()
    .await
    .unwrap();
}

/// The error of a start that is refused for this; the broker may need a moment to know that it is
/// forbidden.
async fn forbidden(site: &Site, named: &str) -> String {
    wait_for(named, DEADLINE, async || {
        let processor = |_: Task<Bytes>| async { Ok::<(), TaskError>(()) };
        match site.complete().start(Raw, processor).await {
            Ok(member) => {
                member.shutdown().await.unwrap();
                None
            }
            // The one before may still be forbidden.
            Err(error) => Some(error.to_string())
                .filter(|text| text.contains(named) && !text.contains(", nor ")),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_is_hidden_is_named_in_one_error() {
    let site = Site::bare(kafka_or_skip!()).await;
    let processor = |_: Task<Bytes>| async { Ok::<(), TaskError>(()) };
    let error = site
        .complete()
        .start(Raw, processor)
        .await
        .unwrap_err()
        .to_string();
    for name in [&site.origin, &site.retry, &site.dead, &site.group] {
        assert!(
            error.contains(&format!("`{name}`")),
            "{name} is not named: {error}"
        );
    }
    let error = site.producer().start().await.unwrap_err();
    assert_eq!(
        error,
        TaskProducerError::Forbidden {
            topic: site.origin.clone()
        }
    );
    // That it may be read is not enough.
    site.allow(Operation::Read, Resource::Topic(&site.origin))
        .await;
    let error = site.producer().start().await.unwrap_err();
    assert_eq!(
        error,
        TaskProducerError::Forbidden {
            topic: site.origin.clone()
        }
    );
    // Of several topics each one is asked about, and written to.
    site.allow(Operation::Write, Resource::Topic(&site.origin))
        .await;
    let two_topics = || site.producer().topic(&site.retry);
    assert_eq!(
        two_topics().start().await.unwrap_err(),
        TaskProducerError::Forbidden {
            topic: site.retry.clone()
        }
    );
    site.allow(Operation::Write, Resource::Topic(&site.retry))
        .await;
    let producer = two_topics().start().await.unwrap();
    for topic in [&site.origin, &site.retry] {
        let enqueued = producer.enqueue(NewTask::new("x").topic(topic)).await;
        assert_eq!(*enqueued.unwrap().topic, **topic);
    }
}

/// G12: a redrive that may not do all that it needs writes nothing, and names the ACL.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_permission_that_a_redrive_needs_is_named_and_nothing_is_written_without_it() {
    let site = Site::bare(kafka_or_skip!()).await;
    let letters = (0..3).map(|number| {
        let headers = [
            ("keylane-origin-topic", &*site.origin),
            ("keylane-origin-partition", "0"),
            ("keylane-origin-offset", "7"),
            ("keylane-group", &*site.group),
            ("keylane-reason", "exhausted"),
            ("keylane-retry-topic", &*site.retry),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), Some(value.into())));
        NewRecord {
            headers: headers.to_vec(),
            ..NewRecord::keyed(format!("key-{number}"), "x")
        }
    });
    let kafka = site.kafka;
    kafka.produce(&site.dead, letters.collect()).await.unwrap();
    let ops = format!("{}-keylane-ops", site.group);
    let lock = format!("keylane-redrive/{}/{}", site.group, site.dead);
    let (ops_topic, lock) = (Resource::Topic(&ops), Resource::TransactionalId(&lock));
    let (dead, retry) = (Resource::Topic(&site.dead), Resource::Topic(&site.retry));
    // What READ and WRITE include: a topic that is hidden has other errors.
    for on in [ops_topic, dead, retry, lock] {
        site.allow(Operation::Describe, on).await;
    }
    for on in [dead, ops_topic] {
        site.allow(Operation::Read, on).await;
    }
    for on in [ops_topic, retry, lock] {
        site.allow(Operation::Write, on).await;
    }
    let environment = site.settings.iter().map(|(name, value)| {
        let name = name.to_ascii_uppercase().replace('.', "_");
        (format!("KEYLANE_CLIENT_{name}"), value.clone())
    });
    let redrive = async || {
        let arguments = ["dlq", "redrive", &*site.dead, "--yes"];
        commands::keylane(&site.servers, environment.clone().collect(), &arguments).await
    };
    // The command plans first, and a broker may need a moment to know what is forbidden.
    let refused = async |words: [&str; 2]| {
        wait_for(words[1], DEADLINE, async || {
            let (code, _, messages) = redrive().await;
            let is_named = words.iter().all(|it| messages.contains(it));
            eprintln!("{code}: {messages}");
            (code == 1 && is_named).then_some(())
        })
        .await;
        let copies = kafka.read_all(&site.retry).await.unwrap();
        assert_eq!(copies, [], "{words:?}");
    };
    refused([&ops, "allow this client CREATE on it"]).await;
    let policy = [("cleanup.policy", "compact")];
    kafka.create_topic(&ops, 1, 1, &policy).await.unwrap();
    let ids = "allow this client WRITE and DESCRIBE on transactional ids that begin with keylane-redrive/";
    for (operation, on, words) in [
        (Operation::Write, lock, ["transactional id", ids]),
        (Operation::Write, ops_topic, [&ops, "allow READ and WRITE"]),
        (Operation::Read, ops_topic, [&ops, "allow READ"]),
        (Operation::Read, dead, [&site.dead, "allow READ on it"]),
        (Operation::Write, retry, [&site.retry, "allow WRITE"]),
    ] {
        site.forbid(operation, on).await;
        refused(words).await;
        site.allow(operation, on).await;
    }
    for operation in [Operation::Write, Operation::Describe] {
        site.forbid(operation, lock).await;
    }
    refused(["transactional id", ids]).await;
    assert_eq!(kafka.read_all(&ops).await.unwrap(), []);
    site.allow(Operation::Write, lock).await;
    wait_for("it is allowed", DEADLINE, async || {
        let (code, _, messages) = redrive().await;
        eprintln!("{code}: {messages}");
        (code == 0).then_some(())
    })
    .await;
    assert_eq!(kafka.read_all(&site.retry).await.unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_changed_at_run_time_shows_and_passes() {
    let site = Site::scram(kafka_or_skip!(), "REAUTH").await;
    let journal = Journal::new();
    let member = start(site.subscription(), &journal).await;
    let producer = site.producer().start().await.unwrap();
    producer.enqueue(NewTask::new("0/0")).await.unwrap();
    done(&journal, 1).await;
    site.kafka.set_password(&site.user, "new").await.unwrap();
    trouble(&member, TroubleKind::Authentication).await;
    let late = producer.enqueue(NewTask::new("0/1"));
    site.kafka.set_password(&site.user, "right").await.unwrap();
    late.await.unwrap();
    done(&journal, 2).await;
    no_trouble(&member).await;
    member.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_may_not_be_read_for_a_while_is_read_without_a_gap() {
    for protocol in Protocol::spoken([Protocol::Cooperative, Protocol::Consumer]) {
        let site = Site::tls(kafka_or_skip!()).await;
        let read = Operation::Read;
        let journal = Journal::new();
        let member = start(site.subscription_by(protocol), &journal).await;
        site.produce(0..100).await;
        done(&journal, 100).await;
        site.forbid(read, Resource::Topic(&site.origin)).await;
        site.produce(100..200).await;
        let message = trouble(&member, TroubleKind::Authorization).await;
        assert!(message.contains(&site.origin), "{message}");
        // A pause moves the client's position to where it believes to be.
        member.handle().pause();
        let paused =
            |paused| move |partition: &keylane::status::PartitionStatus| partition.paused == paused;
        wait_until("it is paused", DEADLINE, || {
            member.status().partitions.iter().all(paused(true))
        })
        .await;
        member.handle().resume();
        wait_until("it goes on", DEADLINE, || {
            member.status().partitions.iter().all(paused(false))
        })
        .await;
        site.allow(read, Resource::Topic(&site.origin)).await;
        done(&journal, 200).await;
        no_trouble(&member).await;
        // No record shows that this is over.
        site.forbid(read, Resource::Topic(&site.origin)).await;
        trouble(&member, TroubleKind::Authorization).await;
        site.allow(read, Resource::Topic(&site.origin)).await;
        no_trouble(&member).await;
        member.shutdown().await.unwrap();
        site.assert_all_done_once(&journal).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_may_not_be_used_for_a_while_loses_nothing() {
    let site = Site::tls(kafka_or_skip!()).await;
    let group = Resource::Group(&site.group);
    let journal = Journal::new();
    let member = start(site.subscription(), &journal).await;
    site.produce(0..100).await;
    done(&journal, 100).await;
    site.forbid(Operation::Read, group).await;
    site.produce(100..200).await;
    let message = trouble(&member, TroubleKind::Authorization).await;
    assert!(message.contains(&site.group), "{message}");
    site.allow(Operation::Read, group).await;
    done(&journal, 200).await;
    no_trouble(&member).await;
    member.shutdown().await.unwrap();
    site.assert_all_done_once(&journal).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_may_not_be_used_ends_a_member_whose_assignment_the_broker_makes() {
    let site = Site::tls(kafka_or_skip!()).await;
    let group = Resource::Group(&site.group);
    let journal = Journal::new();
    let member = start(site.subscription_by(Protocol::Consumer), &journal).await;
    site.produce(0..100).await;
    done(&journal, 100).await;
    site.forbid(Operation::Read, group).await;
    let error = tokio::time::timeout(DEADLINE, member.run())
        .await
        .expect("it goes on")
        .unwrap_err();
    assert!(matches!(error, SubscriptionError::Fatal(_)), "{error:?}");
    site.allow(Operation::Read, group).await;
    site.produce(100..200).await;
    let member = start(site.subscription_by(Protocol::Consumer), &journal).await;
    done(&journal, 200).await;
    member.shutdown().await.unwrap();
    site.assert_all_done_once(&journal).await;
}

/// Every record fails for good, and its dead letter cannot be written for a while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_topic_that_may_not_be_written_for_a_while_loses_nothing() {
    let site = Site::tls(kafka_or_skip!()).await;
    let dead = Resource::Topic(&site.dead);
    let fails = |_: Task<Bytes>| async { Err::<(), _>(TaskError::fatal("never")) };
    // Nothing succeeds, which looks like a bad deployment.
    let retry = Retry::none().on(FailureReason::Fatal, Exhausted::DeadLetter);
    let member = site
        .complete()
        .retry(retry)
        .start(Raw, fails)
        .await
        .unwrap();
    let dead_letters = async || dead_letters(site.kafka, &site.dead).await.unwrap().len();
    site.produce(0..10).await;
    wait_for("the first dead letters", DEADLINE, async || {
        (dead_letters().await == 10).then_some(())
    })
    .await;
    site.forbid(Operation::Write, dead).await;
    // The client may still write for a moment, on what it knows.
    site.produce(10..100).await;
    let named = || {
        member
            .status()
            .trouble
            .filter(|trouble| trouble.kind == TroubleKind::Authorization)
    };
    let trouble = wait_for("the trouble shows", DEADLINE, async || named()).await;
    assert!(
        trouble.message.contains(&site.dead)
            && trouble.message.contains("allow this client to write"),
        "{trouble:?}"
    );
    site.allow(Operation::Write, dead).await;
    wait_for("all dead letters", DEADLINE, async || {
        (dead_letters().await == 100).then_some(())
    })
    .await;
    no_trouble(&member).await;
    member.shutdown().await.unwrap();
    let committed = site
        .kafka
        .committed(&site.group, &site.origin)
        .await
        .unwrap();
    let ends = site.kafka.end_offsets(&site.origin).await.unwrap();
    assert!(
        committed
            .iter()
            .zip(&ends)
            .all(|(committed, end)| committed.offset == Some(*end)),
        "{committed:?} {ends:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_topic_that_may_not_be_written_for_a_while_loses_nothing() {
    let site = Site::tls(kafka_or_skip!()).await;
    let journal = Journal::new();
    let once = journaled(&journal, "a", |task: Task<Bytes>| async move {
        if task.attempt() == 1 {
            Err(TaskError::retryable("not yet"))
        } else {
            Ok(())
        }
    });
    let member = site.complete().start(Raw, once).await.unwrap();
    site.produce(0..10).await;
    done(&journal, 10).await;
    site.forbid(Operation::Write, Resource::Topic(&site.retry))
        .await;
    site.produce(10..100).await;
    let named = || {
        member
            .status()
            .trouble
            .filter(|trouble| trouble.kind == TroubleKind::Authorization)
    };
    let trouble = wait_for("the trouble shows", DEADLINE, async || named()).await;
    assert!(trouble.message.contains(&site.retry), "{trouble:?}");
    site.allow(Operation::Write, Resource::Topic(&site.retry))
        .await;
    done(&journal, 100).await;
    no_trouble(&member).await;
    member.shutdown().await.unwrap();
    assert_eq!(site.kafka.read_all(&site.retry).await.unwrap().len(), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_retry_of_a_group_that_may_not_be_asked_about_is_held_and_the_permission_is_named()
 {
    let site = Site::tls(kafka_or_skip!()).await;
    let other = site.kafka.unique("other");
    let retry = NewRecord {
        headers: vec![("keylane-group".to_owned(), Some(other.clone().into_bytes()))],
        ..NewRecord::keyed("k", "theirs")
    };
    site.kafka.produce(&site.retry, vec![retry]).await.unwrap();
    let processor =
        |_: Task<Bytes>| async { Err::<(), _>(TaskError::fatal("it is not to be processed")) };
    let member = site.complete().start(Raw, processor).await.unwrap();
    let says = |words: &str| {
        let trouble = member
            .status()
            .trouble
            .filter(|trouble| trouble.kind == TroubleKind::ForeignRetries);
        trouble.is_some_and(|trouble| {
            trouble.message.contains(&other) && trouble.message.contains(words)
        })
    };
    wait_until("the permission is named", DEADLINE, || {
        says("grant this client DESCRIBE")
    })
    .await;
    site.allow(Operation::Describe, Resource::Group(&other))
        .await;
    wait_until(
        "it is asked again, and the group is known to be gone",
        DEADLINE,
        || says("no members"),
    )
    .await;
    member.shutdown().await.unwrap();
    assert!(
        dead_letters(site.kafka, &site.dead)
            .await
            .unwrap()
            .is_empty()
    );
}

/// G12: a pause that is acknowledged before an assignment is in force when the partition moves. The
/// one that takes it over cannot read the control topic at that time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_that_the_survivor_has_not_read_holds_for_the_partition_that_moves_to_it() {
    let site = Site::tls(kafka_or_skip!()).await;
    let control = format!("{}-keylane-control", site.group);
    let policy = [("cleanup.policy", "compact")];
    let topic = Resource::Topic(&control);
    site.kafka
        .create_topic(&control, 1, 1, &policy)
        .await
        .unwrap();
    for operation in [Operation::Read, Operation::Write] {
        site.allow(operation, topic).await;
    }
    let steered = || site.subscription().control_topic(ControlTopic::default());
    let journal = Journal::new();
    let survivor = start(steered(), &journal).await;
    let other = start(steered(), &journal).await;
    wait_until("each has a partition", DEADLINE, || {
        let counts = [&survivor, &other].map(|it| it.status().partitions.len());
        counts == [1, 1]
    })
    .await;
    let own = survivor.status().partitions[0].partition;
    let moved = 1 - own;
    let of = |partition: i32| {
        let entries = journal.entries();
        entries
            .iter()
            .filter(|it| matches!(it, Entry::Started(work) if work.partition == partition))
            .count() as i64
    };
    site.produce(0..100).await;
    done(&journal, 100).await;
    let before = of(moved);

    // WRITE stays, and with it the permission to ask for the end.
    site.forbid(Operation::Read, topic).await;
    let is_readable = || survivor.status().control.is_some_and(|it| it.readable);
    wait_until("it is not readable", DEADLINE, || !is_readable()).await;
    let key = format!("pause/{}/{moved}", site.origin);
    let pause = NewRecord::keyed(key.clone(), r#"{"v": 1, "by": "ann", "why": "INC-7"}"#);
    site.kafka.produce(&control, vec![pause]).await.unwrap();
    other.shutdown().await.unwrap();
    site.produce(100..200).await;
    let ends = site.kafka.end_offsets(&site.origin).await.unwrap();
    wait_until("the one that stayed goes on", DEADLINE, || {
        of(own) >= ends[own as usize]
    })
    .await;
    let partitions = || survivor.status().partitions;
    wait_until("the other one has moved, and has a lag", DEADLINE, || {
        let mut found = partitions().into_iter();
        found.any(|it| it.partition == moved && it.lag_records.is_some_and(|lag| lag > 0))
    })
    .await;
    assert_eq!(of(moved), before, "broken promise: it was paused");
    site.allow(Operation::Read, topic).await;
    wait_until("the pause is read", DEADLINE, || {
        let mut found = partitions().into_iter();
        is_readable() && found.any(|it| it.partition == moved && it.paused_by_control.is_some())
    })
    .await;
    assert_eq!(of(moved), before, "broken promise: it was paused");
    let resume = NewRecord {
        key: Some(key.into()),
        ..NewRecord::default()
    };
    site.kafka.produce(&control, vec![resume]).await.unwrap();
    done(&journal, 200).await;
    survivor.shutdown().await.unwrap();
    site.assert_all_done_once(&journal).await;
}
