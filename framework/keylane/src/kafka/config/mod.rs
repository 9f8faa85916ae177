//! From a user's settings to the configuration of a Kafka client.
//!
//! The pass-through takes librdkafka's properties by name. One map may serve all clients of a
//! program: a consumer takes the consumer's keys of it, a producer the producer's, and both what
//! concerns every client (connection, security, logging). The side belongs to the key, as
//! CONFIGURATION.md of librdkafka lists it (`C`, `P` or `*`); see [`keys`].
//!
//! Three layers, the later one wins: librdkafka's default, keylane's tuned default, the user's
//! value. What keylane owns is in neither of the last two: a user's value for it is an error with
//! the reason and what to use instead.
//!
//! **Invariant:** no error and no log line of this module carries a value of a key that may hold a
//! secret.

mod keys;

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use keylane_core::Reset;
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;

use crate::support::without_secrets;
use keys::{Role, canonical, is_secret, looks_secret, ownership, role};

/// The settings of one of our clients. Other modules hand them on, and do not name rdkafka's type.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientSettings(ClientConfig);

impl Deref for ClientSettings {
    type Target = ClientConfig;

    fn deref(&self) -> &ClientConfig {
        &self.0
    }
}

impl DerefMut for ClientSettings {
    fn deref_mut(&mut self) -> &mut ClientConfig {
        &mut self.0
    }
}

impl ClientSettings {
    /// `auto.offset.reset`. The client takes three names for each of the first two.
    pub(crate) fn reset(&self) -> Reset {
        let reset = self.get("auto.offset.reset");
        match reset.map(|it| it.trim().to_ascii_lowercase()).as_deref() {
            Some("largest" | "latest" | "end") => Reset::Latest,
            Some("error") => Reset::Error,
            _ => Reset::Earliest,
        }
    }

    /// `group.protocol=consumer`.
    pub(crate) fn broker_assigns(&self) -> bool {
        let protocol = self.get("group.protocol");
        protocol.is_some_and(|it| it.eq_ignore_ascii_case("consumer"))
    }
}

/// What a consumer needs beyond the pass-through.
pub(crate) struct ConsumerSettings<'a> {
    pub(crate) bootstrap_servers: &'a str,
    pub(crate) group: &'a str,
    pub(crate) instance_id: Option<&'a str>,
    pub(crate) fetch_linger: Option<Duration>,
}

/// What a producer needs beyond the pass-through.
pub(crate) struct ProducerSettings<'a> {
    pub(crate) bootstrap_servers: &'a str,
    /// The most records librdkafka may hold.
    pub(crate) max_records: usize,
    /// The most bytes librdkafka may hold.
    pub(crate) max_bytes: usize,
}

/// A setting that cannot be used. The message names the key and the fix, and never a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientConfigError {
    /// No broker address was given.
    #[error("bootstrap_servers is empty; give at least one HOST:PORT")]
    NoBootstrapServers,
    /// An address with an `@`, as in `user:password@host`. Not shown: it may hold a secret.
    #[error(
        "bootstrap_servers holds an @ (not shown: it may be a secret); give HOST:PORT only, and the credentials as \
         sasl.username and sasl.password"
    )]
    CredentialsInAddress,
    /// No group was given.
    #[error("the consumer group is empty; give the subscription a group name")]
    NoGroup,
    /// A setting that keylane needs for itself.
    #[error("the kafka setting {key} belongs to keylane: {why}; {fix}")]
    Owned {
        /// The setting.
        key: String,
        /// What would break.
        why: &'static str,
        /// What to do instead.
        fix: &'static str,
    },
    /// Two names of one setting.
    #[error(
        "the kafka settings {first} and {second} are two names of one setting; remove one of them"
    )]
    Repeated {
        /// One of the names.
        first: String,
        /// The other.
        second: String,
    },
    /// A setting that the group protocol `consumer` (KIP-848) leaves to the broker.
    #[error(
        "the kafka setting {key} is not available with group.protocol=consumer, where the broker decides it; remove it"
    )]
    DecidedByBroker {
        /// The setting.
        key: String,
    },
    /// A name that librdkafka does not know.
    #[error(
        "unknown kafka setting {key}; check the spelling against librdkafka's CONFIGURATION.md"
    )]
    Unknown {
        /// The setting.
        key: String,
    },
    /// A value that librdkafka refuses.
    #[error("invalid value for the kafka setting {key}: {reason}")]
    Invalid {
        /// The setting.
        key: String,
        /// librdkafka's reason; without details where the value may be a secret.
        reason: String,
    },
    /// Settings that do not fit together, or a feature this build of librdkafka lacks.
    #[error("the kafka settings cannot be used together: {reason}")]
    Refused {
        /// librdkafka's reason.
        reason: String,
    },
}

/// Small fetches and a short queue: what the consumer's shape needs. librdkafka's defaults cost a
/// factor of four in throughput and seconds after a resume.
const CONSUMER_DEFAULTS: [(&str, &str); 6] = [
    // librdkafka's `largest` silently passes over what was written before a new group's first
    // start.
    ("auto.offset.reset", "earliest"),
    ("client.id", CLIENT_ID),
    // The two go together: large fetches with a short queue starve partitions.
    ("fetch.message.max.bytes", "262144"),
    ("queued.min.messages", "5000"),
    ("fetch.queue.backoff.ms", "5"),
    ("fetch.wait.max.ms", "100"),
];

/// Only the classic group protocol has these; with the other one librdkafka refuses them.
const CLASSIC_GROUP_DEFAULTS: [(&str, &str); 3] = [
    ("partition.assignment.strategy", "cooperative-sticky"),
    // Shorter, and a restarted coordinator finds the group gone.
    ("session.timeout.ms", "45000"),
    ("heartbeat.interval.ms", "1000"),
];

const PRODUCER_DEFAULTS: [(&str, &str); 7] = [
    ("client.id", CLIENT_ID),
    // What Java clients do: a key goes to the same partition from every producer.
    ("partitioner", "murmur2_random"),
    // Long enough for the election of a new leader (about 11 s), short enough for an answer.
    ("message.timeout.ms", "30000"),
    // A batch that a topic finds too large fails as a whole and its records are written again one
    // by one: with small batches that is rare.
    ("batch.size", "65536"),
    // The broker judges what is too large, with the topic's own limit. librdkafka's default of
    // 1,000,000 bytes is below Kafka's 1,048,588, so a record that a topic takes could not be
    // written again with headers. Batches are no larger for it: they have their own limit. Beyond a
    // broker's `socket.request.max.bytes` (100 MiB by default), less what a request adds, a broker
    // closes the connection instead of an answer.
    ("message.max.bytes", "104792064"),
    // The least CPU of them, and every client of Kafka reads it. A dead letter with headers is
    // mostly smaller by it than its record was.
    ("compression.codec", "lz4"),
    // A topic that once refused a write for lack of permission stays refused until the next
    // refresh: 5 min by default.
    ("topic.metadata.refresh.interval.ms", "30000"),
];

/// What a reader without a limit of its own fetches ahead.
const READER_KILOBYTES: &str = "16384";
/// The statistics show that a reader's client goes on where it passes over records. librdkafka
/// updates what is in them once a second.
const READER_STATISTICS_MILLIS: &str = "1000";

/// Some hundred records of usual size: a busy topic has them at once, and is not held back.
const ENOUGH_BYTES: usize = 100_000;

const CLIENT_ID: &str = "keylane";

/// The configuration of a subscription's consumer.
///
/// # Errors
/// The first setting, by name, that cannot be used.
pub(crate) fn consumer_config(
    settings: &ConsumerSettings<'_>,
    kafka: &BTreeMap<String, String>,
) -> Result<ClientSettings, ClientConfigError> {
    if settings.group.trim().is_empty() {
        return Err(ClientConfigError::NoGroup);
    }
    let given = checked(settings.bootstrap_servers, kafka)?;
    let mut config = base(settings.bootstrap_servers);
    set_all(&mut config, &CONSUMER_DEFAULTS);
    if given
        .get("group.protocol")
        .is_some_and(|protocol| protocol.eq_ignore_ascii_case("consumer"))
    {
        let mut decided_by_broker = CLASSIC_GROUP_DEFAULTS.iter().map(|(key, _)| *key);
        if let Some(key) = decided_by_broker.find(|key| given.contains_key(key)) {
            return Err(ClientConfigError::DecidedByBroker {
                key: key.to_owned(),
            });
        }
    } else {
        set_all(&mut config, &CLASSIC_GROUP_DEFAULTS);
    }
    apply(&mut config, &given, Role::Consumer);
    if let Some(id) = settings.instance_id {
        config.set("group.instance.id", id);
    }
    if let Some(linger) = settings.fetch_linger {
        hold_back(&mut config, linger);
    }
    config
        .set("group.id", settings.group)
        // librdkafka's own commits are not answered, and may come after later ones.
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "false");
    Ok(ClientSettings(config))
}

/// The configuration of a producer: idempotent, acknowledged by all in-sync replicas, bounded in
/// memory.
///
/// Serves the enqueue helper and, with the subscription's pass-through, the retry and dead-letter
/// writes.
///
/// # Errors
/// The first setting, by name, that cannot be used.
pub(crate) fn producer_config(
    settings: &ProducerSettings<'_>,
    kafka: &BTreeMap<String, String>,
) -> Result<ClientSettings, ClientConfigError> {
    let given = checked(settings.bootstrap_servers, kafka)?;
    let mut config = base(settings.bootstrap_servers);
    set_all(&mut config, &PRODUCER_DEFAULTS);
    apply(&mut config, &given, Role::Producer);
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("max.in.flight.requests.per.connection", "5")
        .set("delivery.report.only.error", "false")
        .set(
            "queue.buffering.max.messages",
            settings.max_records.clamp(1, i32::MAX as usize).to_string(),
        )
        .set(
            "queue.buffering.max.kbytes",
            settings
                .max_bytes
                .div_ceil(1024)
                .clamp(1, i32::MAX as usize)
                .to_string(),
        );
    Ok(ClientSettings(config))
}

/// The configuration of a client that queries metadata and watermarks: no group, and of the
/// pass-through only what concerns every client.
///
/// # Errors
/// The first setting, by name, that cannot be used.
pub(crate) fn side_client_config(
    bootstrap_servers: &str,
    kafka: &BTreeMap<String, String>,
) -> Result<ClientSettings, ClientConfigError> {
    let given = checked(bootstrap_servers, kafka)?;
    let mut config = base(bootstrap_servers);
    config.set("client.id", CLIENT_ID);
    apply(&mut config, &given, Role::Any);
    // This client is not polled, so its statistics would pile up.
    config.remove("statistics.interval.ms");
    Ok(ClientSettings(config))
}

/// The configuration of a consumer that reads a topic to its end: it joins no group and commits
/// nothing.
///
/// # Errors
/// The first setting, by name, that cannot be used.
pub(crate) fn reader_config(
    bootstrap_servers: &str,
    kafka: &BTreeMap<String, String>,
) -> Result<ClientSettings, ClientConfigError> {
    let settings = ConsumerSettings {
        bootstrap_servers,
        // The client takes no assignment without one.
        group: "keylane-dead-letters",
        instance_id: None,
        fetch_linger: None,
    };
    let mut config = consumer_config(&settings, kafka)?;
    config.remove("group.protocol");
    config
        .set("auto.offset.reset", "earliest")
        .set("enable.partition.eof", "true");
    let defaults = [
        ("queued.max.messages.kbytes", READER_KILOBYTES),
        ("statistics.interval.ms", READER_STATISTICS_MILLIS),
    ];
    for (key, default) in defaults {
        if config.get(key).is_none() {
            config.set(key, default);
        }
    }
    Ok(config)
}

/// An error of creating a client, as one of ours.
pub(crate) fn creation_error(error: KafkaError) -> ClientConfigError {
    match error {
        KafkaError::ClientConfig(_, reason, key, value) => invalid(key, &value, reason),
        KafkaError::ClientCreation(reason) => ClientConfigError::Refused {
            reason: without_secrets(&reason).into(),
        },
        other => ClientConfigError::Refused {
            reason: other.to_string(),
        },
    }
}

/// A broker answers a fetch when it has [`ENOUGH_BYTES`], or after `linger`.
///
/// What one fetch may bring is a limit of that: a broker would hold back each full one otherwise.
fn hold_back(config: &mut ClientConfig, linger: Duration) {
    let most = ["fetch.message.max.bytes", "fetch.max.bytes"].map(|key| {
        let bytes = config.get(key).and_then(|it| it.trim().parse().ok());
        bytes.unwrap_or(ENOUGH_BYTES)
    });
    let enough = most.into_iter().fold(ENOUGH_BYTES, usize::min);
    config
        .set("fetch.min.bytes", enough.max(1).to_string())
        .set("fetch.wait.max.ms", linger.as_millis().to_string());
}

fn base(bootstrap_servers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap_servers.trim())
        // A producer's default is true: a misspelt dead-letter topic would spring into being.
        .set("allow.auto.create.topics", "false");
    config
}

fn set_all(config: &mut ClientConfig, defaults: &[(&str, &str)]) {
    for (key, value) in defaults {
        config.set(*key, *value);
    }
}

/// The user's settings by their canonical names, each one known to librdkafka, none of them
/// keylane's.
///
/// The whole map is judged whichever client it is for: a mistake must not depend on which client
/// starts first.
fn checked<'a>(
    bootstrap_servers: &str,
    kafka: &'a BTreeMap<String, String>,
) -> Result<BTreeMap<&'a str, &'a str>, ClientConfigError> {
    if bootstrap_servers.trim().is_empty() {
        return Err(ClientConfigError::NoBootstrapServers);
    }
    if bootstrap_servers.contains('@') {
        return Err(ClientConfigError::CredentialsInAddress);
    }
    let mut given = BTreeMap::new();
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    for (key, value) in kafka {
        let name = canonical(key);
        if let Some((why, fix)) = ownership(name) {
            return Err(ClientConfigError::Owned {
                key: key.clone(),
                why,
                fix,
            });
        }
        if let Some(first) = names.insert(name, key) {
            return Err(ClientConfigError::Repeated {
                first: first.to_owned(),
                second: key.clone(),
            });
        }
        let native = ClientConfig::new()
            .set(key, value)
            .create_native_config()
            .map_err(|error| match error {
                KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..) => {
                    ClientConfigError::Unknown { key: key.clone() }
                }
                KafkaError::ClientConfig(_, reason, ..) => invalid(key.clone(), value, reason),
                // A NUL inside: its error would quote the value.
                _ => invalid(key.clone(), "", "it holds a NUL character".to_owned()),
            })?;
        if let Some(reason) = native
            .get(key)
            .ok()
            .and_then(|read| misread(name, value, &read))
        {
            return Err(invalid(key.clone(), value, reason));
        }
        if name == "message.timeout.ms" && value.trim() == "0" {
            return Err(invalid(
                key.clone(),
                "",
                "0 waits for ever; give a time in milliseconds".to_owned(),
            ));
        }
        given.insert(name, value.as_str());
    }
    Ok(given)
}

/// What is wrong with a number that librdkafka has read as another one: it takes the digits in
/// front, and leaves out what follows.
fn misread(name: &str, value: &str, read: &str) -> Option<String> {
    let number = |text: &str| text.trim().parse::<f64>().ok();
    let taken = number(read).filter(|_| value != read)?;
    if number(value) == Some(taken) {
        return None;
    }
    let duration = name
        .ends_with(".ms")
        .then(|| humantime::parse_duration(value).ok());
    let advice = match duration.flatten() {
        Some(duration) => format!("give {}, in milliseconds", duration.as_millis()),
        None => "give a plain number".to_owned(),
    };
    Some(format!(
        "librdkafka would take {value:?} for {read}; {advice}"
    ))
}

/// Lays the user's settings for one side over the defaults.
fn apply(config: &mut ClientConfig, given: &BTreeMap<&str, &str>, side: Role) {
    for (key, value) in given {
        let role = role(key);
        if role == Role::Any || role == side {
            config.set(*key, *value);
        }
    }
}

fn invalid(key: String, value: &str, reason: String) -> ClientConfigError {
    let may_be_secret = is_secret(&key) || looks_secret(value);
    let reason = if may_be_secret {
        "librdkafka refuses it (not shown: it may be a secret)".to_owned()
    } else {
        reason
    };
    ClientConfigError::Invalid { key, reason }
}

#[cfg(test)]
mod tests;
