//! No secret appears in a log line, an error, a `Debug` output, a trouble or a metric, whatever
//! goes wrong and however much librdkafka is asked to log.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests stop the test as the tests do"
)]

use std::{
    fmt::Debug,
    io::{self, Read, Write},
    net::TcpStream,
    sync::{Mutex, Once},
    time::Duration,
};

use bytes::Bytes;
use keylane::status::{Position, TroubleKind};
use keylane::subscription::SubscriptionBuilder;
use keylane::{
    DeadLetter, NewTask, Raw, Retry, Subscription, Task, TaskError, TaskProducer,
    metrics::serve_prometheus,
    topics::{NewTopic, create_topics},
};
use keylane_integration_tests::{
    certificates::Authority,
    kafka::{Operation, Resource},
    scene::{no_trouble, trouble},
    secure::{SecureKafka, Settings},
    wait::wait_until,
};

const DEADLINE: Duration = Duration::from_secs(120);
const STARTUP: Duration = Duration::from_secs(3);
/// Part of each secret here that is not a private key.
const MARK: &str = "hunter2";

static SEEN: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Everything that is logged from here on, by us through `tracing` and by rdkafka through `log`, at
/// every level.
fn capture() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let everything = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false);
        everything.with_writer(|| Seen).init();
        log::set_logger(&Seen).unwrap();
        // librdkafka's level follows it.
        log::set_max_level(log::LevelFilter::Trace);
    });
}

struct Seen;

impl Write for Seen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        SEEN.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl log::Log for Seen {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        note(record.args().to_string());
    }

    fn flush(&self) {}
}

fn note(text: impl AsRef<str>) {
    let mut seen = SEEN.lock().unwrap();
    seen.extend(text.as_ref().as_bytes());
    seen.push(b'\n');
}

/// What the user may print of it.
fn show<T: Debug>(thing: &T) {
    note(format!("{thing:?}\n{thing:#?}"));
}

#[track_caller]
fn assert_unseen(secrets: &[String]) {
    let seen = String::from_utf8_lossy(&SEEN.lock().unwrap()).into_owned();
    for secret in secrets {
        if let Some(at) = seen.find(secret.as_str()) {
            let line = seen[..at].rfind('\n').map_or(0, |end| end + 1);
            let end = seen[at..].find('\n').map_or(seen.len(), |end| at + end);
            panic!("a secret was shown: {}", &seen[line..end]);
        }
    }
}

/// The lines of a private key, each of which would give a part of it away.
fn lines(pem: &str) -> impl Iterator<Item = String> {
    pem.lines()
        .filter(|line| !line.starts_with("-----"))
        .map(str::to_owned)
        .collect::<Vec<_>>()
        .into_iter()
}

async fn work(_: Task<Bytes>) -> Result<(), TaskError> {
    Err(TaskError::fatal("never"))
}

/// Starts everything that takes these settings, and shows all that comes of it. Nothing may start.
async fn try_all(settings: &Settings, servers: &str) {
    let subscription = Subscription::builder("group", "topic")
        .bootstrap_servers(servers)
        .startup_timeout(STARTUP);
    let subscription = subscription.kafka_settings(settings.clone());
    show(&subscription);
    let error = subscription.start(Raw, work).await.unwrap_err();
    note(format!("subscription: {error}"));
    show(&error);
    let producer = TaskProducer::builder("topic")
        .bootstrap_servers(servers)
        .application_id("a")
        .startup_timeout(STARTUP);
    let producer = producer.kafka_settings(settings.clone());
    show(&producer);
    if let Ok(built) = producer.clone().build() {
        show(&built);
    }
    let error = producer.start().await.unwrap_err();
    note(format!("producer: {error}"));
    show(&error);
    let settings = settings.clone().into_iter().collect();
    let error = create_topics(servers, &settings, &[NewTopic::new("topic", 1)])
        .await
        .unwrap_err();
    note(format!("admin: {error}"));
    show(&error);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_are_refused_do_not_show_their_secrets() {
    capture();
    let authority = Authority::new("authority").unwrap();
    let identity = authority.issue("client", None).unwrap();
    let (certificate, key) = (
        identity.certificate_pem().unwrap(),
        identity.key_pem().unwrap(),
    );
    let encrypted = identity.encrypted_key_pem("right").unwrap();
    let cut = key.replace("-----END PRIVATE KEY-----", "");
    let jaas =
        format!("org.apache.kafka.ScramLoginModule required username=\"u\" password=\"{MARK}\";");
    let oauth = [
        ("security.protocol", "sasl_plaintext"),
        ("sasl.mechanisms", "OAUTHBEARER"),
    ];
    let cases: &[&[(&str, &str)]] = &[
        &[("sasl.password", "hunter2\0")],
        &[("sasl.passwort", MARK)],
        &[("sasl.jaas.config", &jaas)],
        &[
            ("security.protocol", "sasl_ssl"),
            ("sasl.mechanisms", "SCRAM-SHA-512"),
            ("sasl.password", MARK),
        ],
        &[
            ("security.protocol", "sasl_ssl"),
            ("sasl.mechanisms", &jaas),
            ("sasl.password", MARK),
        ],
        &[("security.protocol", "ssl"), ("ssl.key.pem", MARK)],
        &[
            ("security.protocol", "ssl"),
            ("ssl.certificate.pem", MARK),
            ("ssl.key.pem", &key),
        ],
        &[
            ("security.protocol", "ssl"),
            ("ssl.certificate.pem", &certificate),
            ("ssl.key.pem", &cut),
        ],
        &[
            ("security.protocol", "ssl"),
            ("ssl.certificate.pem", &certificate),
            ("ssl.key.pem", &encrypted),
            ("ssl.key.password", MARK),
        ],
        &[
            ("security.protocol", "ssl"),
            ("ssl.key.location", "/no/such/file"),
            ("ssl.key.password", MARK),
        ],
        &[
            ("security.protocol", "ssl"),
            ("ssl.keystore.location", "/no/such/file"),
            ("ssl.keystore.password", MARK),
        ],
        &[oauth[0], oauth[1], ("sasl.oauthbearer.config", MARK)],
        &[
            oauth[0],
            oauth[1],
            ("sasl.oauthbearer.config", MARK),
            ("enable.sasl.oauthbearer.unsecure.jwt", "true"),
        ],
        &[
            oauth[0],
            oauth[1],
            ("sasl.oauthbearer.config", "principal=a lifeSeconds=hunter2"),
            ("enable.sasl.oauthbearer.unsecure.jwt", "true"),
        ],
        &[
            oauth[0],
            oauth[1],
            ("sasl.oauthbearer.method", "oidc"),
            ("sasl.oauthbearer.client.id", "id"),
            ("sasl.oauthbearer.client.secret", MARK),
            (
                "sasl.oauthbearer.token.endpoint.url",
                "http://127.0.0.1:1/token",
            ),
        ],
    ];
    for case in cases {
        let mut settings: Settings = case
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        settings.insert("debug".into(), "all".into());
        try_all(&settings, "127.0.0.1:1").await;
    }
    for servers in [
        "user:hunter2@127.0.0.1:1",
        "127.0.0.1:1,SASL_SSL://user:hunter2@127.0.0.1:1",
    ] {
        try_all(&Settings::new(), servers).await;
    }
    let mut secrets = vec![MARK.to_owned()];
    secrets.extend(lines(&key).chain(lines(&encrypted)));
    assert_unseen(&secrets);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_work_and_clients_that_are_refused_do_not_show_their_secrets() {
    capture();
    let Some(kafka) = SecureKafka::start() else {
        return;
    };
    let endpoint = serve_prometheus(0).unwrap();
    let (password, wrong, key_password) = ("hunter2-right", "hunter2-wrong", "hunter2-key");
    kafka.set_password("alice", password).await.unwrap();
    for topic in ["topic", "dead"] {
        kafka.create_topic(topic, 1, 1, &[]).await.unwrap();
        kafka
            .allow("alice", Operation::Write, Resource::Topic(topic))
            .await
            .unwrap();
    }
    kafka
        .allow("alice", Operation::Read, Resource::Topic("topic"))
        .await
        .unwrap();
    kafka
        .allow("alice", Operation::Read, Resource::Group("group"))
        .await
        .unwrap();
    let identity = kafka.authority().issue("alice", None).unwrap();
    let encrypted = identity.encrypted_key_pem(key_password).unwrap();
    let mut scram = kafka.scram("alice", password);
    scram.insert("debug".into(), "all".into());
    let mut tls = kafka.trusting();
    tls.insert("debug".into(), "all".into());
    tls.insert(
        "ssl.certificate.pem".into(),
        identity.certificate_pem().unwrap(),
    );
    tls.insert("ssl.key.pem".into(), encrypted.clone());
    tls.insert("ssl.key.password".into(), key_password.into());

    for (settings, listener) in [(&scram, "REAUTH"), (&tls, "TLS")] {
        let servers = kafka.at(listener);
        let builder = subscription(settings, &servers);
        show(&builder);
        let member = builder.start(Raw, work).await.unwrap();
        let producer = TaskProducer::builder("topic")
            .bootstrap_servers(&servers)
            .application_id("a");
        let producer = producer.kafka_settings(settings.clone());
        show(&producer);
        let producer = producer.start().await.unwrap();
        producer.enqueue(NewTask::new("x")).await.unwrap();
        let settled = || {
            member.status().partitions.iter().any(|partition| {
                partition.snapshot.watermark > Some(Position::new(0))
                    && partition.snapshot.pending == 0
            })
        };
        wait_until("it is a dead letter", DEADLINE, settled).await;
        if listener == "REAUTH" {
            kafka.set_password("alice", "hunter2-new").await.unwrap();
            trouble(&member, TroubleKind::Authentication).await;
            show(&member.status());
            kafka.set_password("alice", password).await.unwrap();
            // A record shows at once that it has passed; without one that takes a minute.
            producer.enqueue(NewTask::new("y")).await.unwrap();
            no_trouble(&member).await;
        }
        show(&member);
        show(&member.handle());
        show(&producer);
        show(&member.status());
        note(scrape(&endpoint.local_addr().to_string()));
        producer.close(DEADLINE).await.unwrap();
        member.shutdown().await.unwrap();
    }
    let mut refused = kafka.scram("alice", wrong);
    refused.insert("debug".into(), "security,broker,conf".into());
    try_all(&refused, &kafka.at("SCRAM")).await;

    let seen = String::from_utf8_lossy(&SEEN.lock().unwrap()).into_owned();
    for shown in [
        "Authenticated as alice",
        "keylane_settled_total",
        "Authentication failed",
        "sasl.password",
    ] {
        assert!(
            seen.contains(shown),
            "{shown:?} was not captured, so a secret would not be either"
        );
    }
    let mut secrets: Vec<String> = [MARK.to_owned()].into();
    secrets.extend(lines(&encrypted).chain(lines(&identity.key_pem().unwrap())));
    assert_unseen(&secrets);
}

fn subscription(settings: &Settings, servers: &str) -> SubscriptionBuilder {
    Subscription::builder("group", "topic")
        .bootstrap_servers(servers)
        .kafka_settings(settings.clone())
        .startup_timeout(Duration::from_secs(30))
        .retry(Retry::none())
        .dead_letter(DeadLetter::topic("dead"))
}

fn scrape(address: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
