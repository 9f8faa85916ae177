//! What is known about librdkafka's settings: whose side they are on, their second names, and which
//! ones keylane owns.
//!
//! The lists follow CONFIGURATION.md of librdkafka 2.12. A setting that is in none of them goes to
//! every client. That is right for what newer versions add for connections and security. It is
//! harmless elsewhere: librdkafka only warns about a setting of the other side.

/// Which client a setting is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Consumer,
    Producer,
    /// Every client.
    Any,
}

pub(super) fn role(canonical: &str) -> Role {
    if CONSUMER.contains(&canonical) {
        Role::Consumer
    } else if PRODUCER.contains(&canonical) {
        Role::Producer
    } else {
        Role::Any
    }
}

/// The one name under which a setting is handled: otherwise a user's value and a default would both
/// be set, and chance would decide.
pub(super) fn canonical(key: &str) -> &str {
    ALIASES
        .iter()
        .find(|(alias, _)| *alias == key)
        .map_or(key, |(_, name)| name)
}

/// Why a setting is not the user's, and what to do instead.
pub(super) fn ownership(canonical: &str) -> Option<(&'static str, &'static str)> {
    OWNED
        .iter()
        .find(|(keys, ..)| keys.contains(&canonical))
        .map(|(_, why, fix)| (*why, *fix))
}

/// Whether the value may be a secret. Better one too many: all that is lost is a detail of an error
/// message.
pub(super) fn is_secret(key: &str) -> bool {
    [
        "password",
        "passphrase",
        "secret",
        "pem",
        "ssl_",
        "oauthbearer",
        "jaas",
        "username",
    ]
    .iter()
    .any(|part| key.contains(part))
}

/// Whether a value holds a secret by its looks, such as a JAAS line under the name of another
/// setting.
pub(super) fn looks_secret(value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    ["password", "passphrase", "secret", "private key", "token"]
        .iter()
        .any(|part| value.contains(part))
}

const ALIASES: [(&str, &str); 14] = [
    ("metadata.broker.list", "bootstrap.servers"),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
    ("sasl.mechanism", "sasl.mechanisms"),
    (
        "sasl.oauthbearer.client.credentials.client.id",
        "sasl.oauthbearer.client.id",
    ),
    (
        "sasl.oauthbearer.client.credentials.client.secret",
        "sasl.oauthbearer.client.secret",
    ),
    ("auto.commit.enable", "enable.auto.commit"),
    ("max.partition.fetch.bytes", "fetch.message.max.bytes"),
    ("linger.ms", "queue.buffering.max.ms"),
    ("retries", "message.send.max.retries"),
    ("compression.type", "compression.codec"),
    ("request.required.acks", "acks"),
    ("delivery.timeout.ms", "message.timeout.ms"),
    ("ssl_certificate", "ssl.certificate.pem"),
    ("ssl_key", "ssl.key.pem"),
];

type Owned = (&'static [&'static str], &'static str, &'static str);

const REMOVE: &str = "remove it";

const OWNED: &[Owned] = &[
    (
        &["bootstrap.servers"],
        "all clients must use one cluster",
        "use the builder's bootstrap_servers (bootstrap_servers in a settings file)",
    ),
    (
        &["group.id"],
        "it names the subscription",
        "give the group name to the subscription",
    ),
    (
        &["group.protocol.type"],
        "a subscription is a consumer group",
        REMOVE,
    ),
    (
        &["enable.auto.commit", "enable.auto.offset.store"],
        "only settled records may be committed, or records would be lost",
        "remove it; commits need no configuration",
    ),
    (
        &["auto.commit.interval.ms"],
        "commits are timed by the subscription",
        "use its commit interval",
    ),
    (
        &["enable.partition.eof"],
        "with batch reads it makes librdkafka lose or replay records",
        "remove it; lag is in the metrics",
    ),
    (
        &[
            "offset.store.method",
            "offset.store.path",
            "offset.store.sync.interval.ms",
        ],
        "offsets are kept by the broker, with the map of settled records",
        REMOVE,
    ),
    (
        &["allow.auto.create.topics"],
        "a misspelt topic would be created instead of failing at start-up",
        "remove it and create the topics beforehand",
    ),
    (
        &[
            "acks",
            "enable.idempotence",
            "max.in.flight.requests.per.connection",
            "message.send.max.retries",
        ],
        "every write is idempotent and acknowledged by all in-sync replicas",
        "remove it; message.timeout.ms limits how long a write is tried",
    ),
    (
        &["queuing.strategy"],
        "records must be written in the order they were handed over",
        REMOVE,
    ),
    (
        &["enable.gapless.guarantee"],
        "one write that timed out would make the producer unusable",
        "remove it; failed writes are reported one by one",
    ),
    (
        &["delivery.report.only.error", "produce.offset.report"],
        "every write waits for the broker's answer and its offset",
        REMOVE,
    ),
    (
        &["queue.buffering.max.messages", "queue.buffering.max.kbytes"],
        "the producer's memory is bounded by keylane",
        "use max_pending_records and max_pending_bytes of the TaskProducer, or remove it",
    ),
    (
        &["transactional.id", "transaction.timeout.ms"],
        "keylane does not use transactions: a record is settled when its write is acknowledged",
        REMOVE,
    ),
    (
        &[
            "enabled_events",
            "log.queue",
            "consume.callback.max.messages",
            "background_event_cb",
        ],
        "it changes how the client hands over its events",
        REMOVE,
    ),
    (
        &["test.mock.num.brokers"],
        "it would silently replace the brokers by a mock",
        "remove it; the crate keylane-embedded-broker starts one on purpose",
    ),
];

const CONSUMER: &[&str] = &[
    "group.id",
    "group.instance.id",
    "partition.assignment.strategy",
    "session.timeout.ms",
    "heartbeat.interval.ms",
    "group.protocol.type",
    "group.protocol",
    "group.remote.assignor",
    "coordinator.query.interval.ms",
    "max.poll.interval.ms",
    "queued.min.messages",
    "queued.max.messages.kbytes",
    "fetch.wait.max.ms",
    "fetch.queue.backoff.ms",
    "fetch.message.max.bytes",
    "fetch.max.bytes",
    "fetch.min.bytes",
    // What it must be depends on fetch.max.bytes.
    "receive.message.max.bytes",
    "fetch.error.backoff.ms",
    "isolation.level",
    "check.crcs",
    "auto.offset.reset",
];

const PRODUCER: &[&str] = &[
    "queue.buffering.max.ms",
    "queue.buffering.backpressure.threshold",
    "compression.codec",
    "compression.level",
    "batch.num.messages",
    "batch.size",
    "sticky.partitioning.linger.ms",
    "request.timeout.ms",
    "message.timeout.ms",
    "partitioner",
];

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;
    use rdkafka::error::KafkaError;
    use rdkafka::types::RDKafkaConfRes;

    use super::*;

    /// A misspelt name in a list would be a setting that is silently not protected.
    #[test]
    fn every_listed_setting_is_known_to_librdkafka() {
        let owned = OWNED.iter().flat_map(|(keys, ..)| keys.iter());
        let aliases = ALIASES.iter().flat_map(|(alias, name)| [alias, name]);
        for key in owned.chain(aliases).chain(CONSUMER).chain(PRODUCER) {
            let set = ClientConfig::new().set(*key, "1").create_native_config();
            let unknown = matches!(
                set,
                Err(KafkaError::ClientConfig(
                    RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN,
                    ..
                ))
            );
            assert!(!unknown, "{key}");
        }
    }

    #[test]
    fn a_setting_has_one_side_and_lists_use_canonical_names() {
        for key in CONSUMER {
            assert!(!PRODUCER.contains(key), "{key}");
        }
        for key in CONSUMER
            .iter()
            .chain(PRODUCER)
            .chain(OWNED.iter().flat_map(|(keys, ..)| keys.iter()))
        {
            assert_eq!(canonical(key), *key);
        }
    }
}
