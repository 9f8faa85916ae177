//! Settings from a file, down to what the Kafka clients are made with.

use std::time::{Duration, Instant};

use crate::SubscriptionConfig;
use crate::kafka::config::{
    ConsumerSettings, ProducerSettings, consumer_config, producer_config, side_client_config,
};

const SECRET: &str = "hunter2-and-no-other-word";

/// Any bytes as a JSON file of settings.
pub fn subscription_config(bytes: &[u8]) {
    let Ok(mut config) = serde_json::from_slice::<SubscriptionConfig>(bytes) else {
        return;
    };
    assert_survives(&config);
    if config.validate().is_ok() {
        assert_usable(&config);
    }
    for (key, value) in config.kafka.clone() {
        if ["password", "secret", "pem", "jaas", "oauthbearer"]
            .iter()
            .any(|part| key.contains(part))
        {
            let nuls: String = value
                .chars()
                .filter(|character| *character == '\0')
                .collect();
            config.kafka.set(key, format!("{SECRET}{nuls}"));
        }
    }
    assert_silent(&config);
}

/// Written out and read again it is the same.
fn assert_survives(config: &SubscriptionConfig) {
    let text = serde_json::to_string(config).expect("settings can be written");
    let mut again: SubscriptionConfig =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    // JSON's fractions may change in their last digit on the way.
    let written = [&config.retry.backoff]
        .into_iter()
        .chain(config.retry.topic.as_ref().map(|topic| &topic.backoff));
    let read = [&mut again.retry.backoff]
        .into_iter()
        .chain(again.retry.topic.as_mut().map(|topic| &mut topic.backoff));
    for (written, read) in written.zip(read) {
        for (written, read) in [
            (written.multiplier, &mut read.multiplier),
            (written.jitter, &mut read.jitter),
        ] {
            assert!(
                (written - *read).abs() <= written.abs() * 1e-12,
                "{written} became {read}"
            );
            *read = written;
        }
    }
    assert_eq!(again, *config);
}

/// What passed the check does not end a thread later: every time it leads to can be told.
fn assert_usable(config: &SubscriptionConfig) {
    let policy = config.retry_policy();
    let backoffs = [policy.backoff]
        .into_iter()
        .chain(policy.topic.map(|topic| topic.backoff));
    for backoff in backoffs {
        let longest = backoff.max.mul_f64(1.0 + backoff.jitter);
        for retry in [0, 1, 30, u32::MAX] {
            for entropy in [0, u64::MAX] {
                let delay = backoff.delay(retry, entropy);
                assert!(
                    delay <= longest + Duration::from_millis(1),
                    "{delay:?} beyond {longest:?}"
                );
                assert_can_be_told(delay);
            }
        }
        assert_can_be_told(backoff.capped_delay(u64::MAX));
    }
    for time in [
        config.commit_interval,
        config.attempt_timeout,
        config.drain_timeout,
        config.shutdown_timeout,
        config.startup_timeout,
        config.wait_for_membership.unwrap_or_default(),
    ] {
        assert_can_be_told(time);
    }
    assert!(config.topics.iter().all(|topic| !topic.is_empty()) && config.concurrency > 0);
    assert_eq!(config.retry_topic().is_some(), config.retry.topic.is_some());
}

fn assert_can_be_told(time: Duration) {
    assert!(
        Instant::now().checked_add(time).is_some(),
        "{time:?} from now cannot be told"
    );
}

/// Nothing that is said about the settings quotes a secret.
fn assert_silent(config: &SubscriptionConfig) {
    let (bootstrap_servers, kafka) = (config.bootstrap_servers.as_str(), config.kafka.as_map());
    let consumer = ConsumerSettings {
        instance_id: None,
        fetch_linger: None,
        bootstrap_servers,
        group: &config.group,
    };
    let producer = ProducerSettings {
        bootstrap_servers,
        max_records: 1_000,
        max_bytes: 1 << 20,
    };
    let errors = [
        consumer_config(&consumer, kafka).err(),
        producer_config(&producer, kafka).err(),
        side_client_config(bootstrap_servers, kafka).err(),
    ];
    let refused = config.validate().err();
    for said in errors
        .iter()
        .flatten()
        .map(|error| format!("{error} {error:?}"))
    {
        assert!(!said.contains(SECRET), "{said}");
    }
    let said = format!("{config:?} {refused:?}");
    assert!(!said.contains(SECRET), "{said}");
}
