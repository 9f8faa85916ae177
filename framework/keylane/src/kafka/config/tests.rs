use super::*;

fn kafka(settings: &[(&str, &str)]) -> BTreeMap<String, String> {
    settings
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect()
}

fn consumer(settings: &[(&str, &str)]) -> Result<ClientSettings, ClientConfigError> {
    let own = ConsumerSettings {
        bootstrap_servers: "broker:9092",
        group: "group",
        instance_id: None,
        fetch_linger: None,
    };
    consumer_config(&own, &kafka(settings))
}

fn lingering(
    linger_ms: u64,
    settings: &[(&str, &str)],
) -> Result<ClientSettings, ClientConfigError> {
    let own = ConsumerSettings {
        bootstrap_servers: "broker:9092",
        group: "group",
        instance_id: Some("notifier-0"),
        fetch_linger: Some(Duration::from_millis(linger_ms)),
    };
    consumer_config(&own, &kafka(settings))
}

fn producer(settings: &[(&str, &str)]) -> Result<ClientSettings, ClientConfigError> {
    let own = ProducerSettings {
        bootstrap_servers: "broker:9092",
        max_records: 1_000,
        max_bytes: 1_000_000,
    };
    producer_config(&own, &kafka(settings))
}

fn side(settings: &[(&str, &str)]) -> Result<ClientSettings, ClientConfigError> {
    side_client_config("broker:9092", &kafka(settings))
}

/// Every setting DESIGN gives to keylane, by all of its names.
const OWNED: [&str; 27] = [
    "bootstrap.servers",
    "metadata.broker.list",
    "group.id",
    "enable.auto.commit",
    "auto.commit.enable",
    "enable.auto.offset.store",
    "auto.commit.interval.ms",
    "enable.partition.eof",
    "offset.store.method",
    "acks",
    "request.required.acks",
    "enable.idempotence",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "retries",
    "message.send.max.retries",
    "queuing.strategy",
    "enable.gapless.guarantee",
    "delivery.report.only.error",
    "queue.buffering.max.messages",
    "queue.buffering.max.kbytes",
    "transactional.id",
    "allow.auto.create.topics",
    "enabled_events",
    "log.queue",
    "test.mock.num.brokers",
    "group.protocol.type",
];

#[test]
fn what_keylane_owns_is_refused_by_every_client_with_the_name_the_user_wrote() {
    for key in OWNED {
        for result in [
            consumer(&[(key, "1")]),
            producer(&[(key, "1")]),
            side(&[(key, "1")]),
        ] {
            match result.map(|_| ()) {
                Err(ClientConfigError::Owned { key: named, .. }) => assert_eq!(named, key),
                other => panic!("{key}: {other:?}"),
            }
        }
    }
}

#[test]
fn the_tuned_defaults_give_way_to_the_user_under_either_name() {
    let config = consumer(&[]).unwrap();
    assert_eq!(config.get("auto.offset.reset"), Some("earliest"));
    assert_eq!(
        config.get("partition.assignment.strategy"),
        Some("cooperative-sticky")
    );
    assert_eq!(config.get("fetch.message.max.bytes"), Some("262144"));

    let config = consumer(&[
        ("max.partition.fetch.bytes", "99"),
        ("auto.offset.reset", "latest"),
    ])
    .unwrap();
    assert_eq!(config.get("auto.offset.reset"), Some("latest"));
    assert_eq!(config.get("fetch.message.max.bytes"), Some("99"));
    assert_eq!(config.get("max.partition.fetch.bytes"), None);
    assert_eq!(
        producer(&[("delivery.timeout.ms", "7")])
            .unwrap()
            .get("message.timeout.ms"),
        Some("7")
    );
    let config = producer(&[("compression.type", "none"), ("message.max.bytes", "7000")]).unwrap();
    assert_eq!(
        (
            config.get("compression.codec"),
            config.get("message.max.bytes")
        ),
        (Some("none"), Some("7000"))
    );
    let config = producer(&[]).unwrap();
    let socket_request_max_bytes = 100 << 20;
    let limit: usize = config.get("message.max.bytes").unwrap().parse().unwrap();
    assert_eq!(
        (config.get("compression.codec"), limit),
        (Some("lz4"), socket_request_max_bytes - (64 << 10))
    );
}

#[test]
fn an_instance_id_and_a_fetch_linger_become_settings_of_the_client() {
    let set = |config: &ClientSettings| {
        ["group.instance.id", "fetch.wait.max.ms", "fetch.min.bytes"]
            .map(|key| config.get(key).map(str::to_owned))
    };
    let some = |it: &str| Some(it.to_owned());
    assert_eq!(set(&consumer(&[]).unwrap()), [None, some("100"), None]);
    let config = lingering(5, &[]).unwrap();
    assert_eq!(
        set(&config),
        [some("notifier-0"), some("5"), some("100000")]
    );
}

#[test]
fn a_fetch_that_is_full_is_not_held_back() {
    let enough = |settings: &[(&str, &str)]| {
        let config = lingering(5, settings).unwrap();
        config.get("fetch.min.bytes").map(str::to_owned)
    };
    for key in ["max.partition.fetch.bytes", "fetch.message.max.bytes"] {
        assert_eq!(enough(&[(key, "5000")]).as_deref(), Some("5000"));
    }
    assert_eq!(
        enough(&[("fetch.max.bytes", "7000"), ("message.max.bytes", "7000")]).as_deref(),
        Some("7000")
    );
    assert_eq!(
        enough(&[("fetch.message.max.bytes", "1000000")]).as_deref(),
        Some("100000")
    );
}

#[test]
fn two_names_of_one_setting_are_refused() {
    let error = producer(&[("linger.ms", "1"), ("queue.buffering.max.ms", "2")]).unwrap_err();
    assert_eq!(
        error,
        ClientConfigError::Repeated {
            first: "linger.ms".into(),
            second: "queue.buffering.max.ms".into()
        }
    );
}

#[test]
fn what_safety_rests_on_is_always_set() {
    let config = consumer(&[]).unwrap();
    for (key, value) in [
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("enable.partition.eof", "false"),
        ("group.id", "group"),
        ("bootstrap.servers", "broker:9092"),
    ] {
        assert_eq!(config.get(key), Some(value), "{key}");
    }
    let config = producer(&[]).unwrap();
    for (key, value) in [
        ("enable.idempotence", "true"),
        ("acks", "all"),
        ("allow.auto.create.topics", "false"),
        ("queue.buffering.max.messages", "1000"),
        ("queue.buffering.max.kbytes", "977"),
        ("partitioner", "murmur2_random"),
    ] {
        assert_eq!(config.get(key), Some(value), "{key}");
    }
}

#[test]
fn a_client_takes_only_the_settings_of_its_side() {
    let shared = [
        ("session.timeout.ms", "6000"),
        ("compression.type", "lz4"),
        ("security.protocol", "plaintext"),
        ("statistics.interval.ms", "5000"),
    ];
    let side_keys = [
        "session.timeout.ms",
        "compression.codec",
        "security.protocol",
        "statistics.interval.ms",
    ];
    let taken = |config: ClientSettings| side_keys.map(|key| config.get(key).is_some());
    assert_eq!(taken(consumer(&shared).unwrap()), [true, false, true, true]);
    assert_eq!(taken(producer(&shared).unwrap()), [false, true, true, true]);
    assert_eq!(taken(side(&shared).unwrap()), [false, false, true, false]);
}

#[test]
fn the_group_protocol_consumer_leaves_its_timing_to_the_broker() {
    let config = consumer(&[("group.protocol", "consumer")]).unwrap();
    for (key, _) in CLASSIC_GROUP_DEFAULTS {
        assert_eq!(config.get(key), None, "{key}");
        let error = consumer(&[("group.protocol", "consumer"), (key, "1000")]).unwrap_err();
        // A value librdkafka refuses by itself is also an error, but not this one.
        if key != "partition.assignment.strategy" {
            assert_eq!(
                error,
                ClientConfigError::DecidedByBroker { key: key.into() }
            );
        }
    }
    let error = consumer(&[
        ("group.protocol", "consumer"),
        ("partition.assignment.strategy", "range"),
    ])
    .unwrap_err();
    assert_eq!(
        error,
        ClientConfigError::DecidedByBroker {
            key: "partition.assignment.strategy".into()
        }
    );
}

/// librdkafka's own check of what fits together runs when a client is made.
#[test]
fn librdkafka_accepts_what_is_built() {
    use rdkafka::consumer::BaseConsumer;
    use rdkafka::producer::BaseProducer;

    for config in [
        consumer(&[]),
        consumer(&[("group.protocol", "consumer")]),
        lingering(1_000, &[]),
        lingering(1, &[("group.protocol", "consumer")]),
        side(&[]),
    ] {
        config.unwrap().create::<BaseConsumer>().unwrap();
    }
    producer(&[]).unwrap().create::<BaseProducer>().unwrap();
}

#[test]
fn unknown_names_and_invalid_values_are_named() {
    assert_eq!(
        consumer(&[("fetch.wat", "1")]).unwrap_err(),
        ClientConfigError::Unknown {
            key: "fetch.wat".into()
        }
    );
    let error = consumer(&[("fetch.wait.max.ms", "soon")])
        .unwrap_err()
        .to_string();
    assert!(error.contains("fetch.wait.max.ms"), "{error}");
    let error = producer(&[("delivery.timeout.ms", "0")])
        .unwrap_err()
        .to_string();
    assert!(error.contains("delivery.timeout.ms"), "{error}");
    assert_eq!(
        side_client_config(" ", &kafka(&[])).unwrap_err(),
        ClientConfigError::NoBootstrapServers
    );
}

#[test]
fn what_looks_like_a_secret_is_not_shown_wherever_it_stands() {
    let jaas = "ScramLoginModule required password=\"hunter2\";";
    let error = consumer(&[("sasl.mechanisms", "magic"), ("socket.timeout.ms", jaas)]).unwrap_err();
    assert!(
        error.to_string().contains("socket.timeout.ms")
            && !format!("{error:?}").contains("hunter2"),
        "{error:?}"
    );
    let error = side_client_config("u:hunter2@broker:9092", &kafka(&[])).unwrap_err();
    assert_eq!(error, ClientConfigError::CredentialsInAddress);
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    let words = "no token: Unrecognized sasl.oauthbearer.config beginning at: hunter2";
    assert!(without_secrets(words).starts_with("no token: Unrecognized sasl.oauthbearer.config ("));
    assert!(!without_secrets(words).contains("hunter2"));
    assert_eq!(without_secrets("plain"), "plain");
}

#[test]
fn a_secret_never_reaches_an_error() {
    for key in [
        "sasl.password",
        "sasl.oauthbearer.config",
        "ssl.key.password",
        "ssl.key.pem",
        "sasl.mechanisms.secret",
    ] {
        for value in ["hunter2\0", "hunter2"] {
            if let Err(error) = consumer(&[(key, value)]) {
                assert!(
                    !format!("{error} {error:?}").contains("hunter2"),
                    "{error:?}"
                );
            }
        }
    }
    let native = KafkaError::ClientConfig(
        RDKafkaConfRes::RD_KAFKA_CONF_INVALID,
        "Invalid value \"hunter2\"".into(),
        "sasl.password".into(),
        "hunter2".into(),
    );
    let error = creation_error(native);
    assert!(
        !format!("{error} {error:?}").contains("hunter2"),
        "{error:?}"
    );
}

/// librdkafka reads the digits in front and leaves out the rest: a session of 6 ms.
#[test]
fn a_number_with_a_unit_is_refused_by_every_client_with_the_number_to_use() {
    for (key, value, advice) in [
        (
            "session.timeout.ms",
            "6s",
            "for 6; give 6000, in milliseconds",
        ),
        ("session.timeout.ms", "45s", "give 45000, in milliseconds"),
        ("max.poll.interval.ms", "1m", "give 60000, in milliseconds"),
        ("fetch.wait.max.ms", "500ms", "give 500, in milliseconds"),
        ("linger.ms", "5ms", "give 5, in milliseconds"),
        (
            "message.timeout.ms",
            "1m 30s",
            "give 90000, in milliseconds",
        ),
        ("session.timeout.ms", "6_000", "for 6; give a plain number"),
        ("fetch.max.bytes", "50MB", "for 50; give a plain number"),
        ("session.timeout.ms", "6.5", "for 6; give a plain number"),
    ] {
        for result in [
            consumer(&[(key, value)]),
            producer(&[(key, value)]),
            side(&[(key, value)]),
        ] {
            let error = result.map(|_| ()).expect_err(value);
            assert!(
                matches!(error, ClientConfigError::Invalid { .. }),
                "{error:?}"
            );
            let text = error.to_string();
            assert!(
                text.contains(key) && text.contains(value) && text.ends_with(advice),
                "{text}"
            );
        }
    }
    for (key, value) in [
        ("session.timeout.ms", " 6000"),
        ("linger.ms", "0.50"),
        ("linger.ms", "5.0"),
        ("client.id", "5 apples"),
        ("client.id", "007"),
        ("log_level", "7"),
        ("debug", "cgrp,topic"),
        ("socket.keepalive.enable", "TRUE"),
        ("compression.level", "-1"),
    ] {
        consumer(&[(key, value)]).unwrap_or_else(|error| panic!("{key}: {error}"));
    }
}
