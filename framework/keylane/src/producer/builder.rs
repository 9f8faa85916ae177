//! The settings of a task producer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::TaskProducer;
use super::raw::{Limits, RawProducer};
use super::topic_check;
use crate::client_config::{ClientConfigError, shown_servers, side_client_config};
use crate::topics::check_name;

const MAX_PENDING_RECORDS: usize = 10_000_000;
const MAX_PENDING_BYTES: usize = 1 << 40;
/// `dt_meta` travels with every task.
const MAX_ID_BYTES: usize = 1_024;
const MAX_START_TIMEOUT: Duration = Duration::from_secs(600);

/// Sets up a [`TaskProducer`]; made by [`TaskProducer::builder`].
#[derive(Clone)]
#[must_use]
pub struct TaskProducerBuilder {
    topic: String,
    bootstrap_servers: String,
    application_id: String,
    instance_id: Option<String>,
    kafka: BTreeMap<String, String>,
    max_pending_records: usize,
    max_pending_bytes: usize,
    start_timeout: Duration,
}

/// Why a task producer could not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskProducerError {
    /// A setting of the Kafka client cannot be used.
    #[error(transparent)]
    Kafka(#[from] ClientConfigError),
    /// A setting of the producer is out of its range.
    #[error("invalid {setting}: {reason}")]
    Invalid {
        /// The builder's method.
        setting: &'static str,
        /// What is wrong, and what is allowed.
        reason: String,
    },
    /// No broker answered in time.
    #[error(
        "no broker of {bootstrap_servers} answered within {within:?} ({reason}); check the address, the network and security.protocol"
    )]
    Unreachable {
        /// Where it was tried.
        bootstrap_servers: String,
        /// For how long.
        within: Duration,
        /// The last thing the client said.
        reason: String,
    },
    /// The brokers refuse this client, or it does not trust them.
    #[error("the brokers of {bootstrap_servers} refuse this client: {reason}; check the sasl.* and ssl.* settings")]
    Refused {
        /// Where it was tried.
        bootstrap_servers: String,
        /// What the client said.
        reason: String,
    },
    /// An ACL forbids this client to write to the topic.
    #[error("the cluster's ACLs do not let this client write to topic {topic} (WRITE); grant it")]
    Forbidden {
        /// The topic.
        topic: String,
    },
    /// The topic does not exist.
    #[error("topic {topic} does not exist; create it before tasks are enqueued")]
    MissingTopic {
        /// The topic.
        topic: String,
    },
    /// The topic is there but cannot be used.
    #[error("topic {topic} cannot be used: {reason}")]
    TopicUnusable {
        /// The topic.
        topic: String,
        /// What the broker said.
        reason: String,
    },
}

impl TaskProducerBuilder {
    pub(super) fn new(topic: String) -> Self {
        Self {
            topic,
            bootstrap_servers: String::new(),
            application_id: String::new(),
            instance_id: None,
            kafka: BTreeMap::new(),
            max_pending_records: 100_000,
            max_pending_bytes: 64 << 20,
            start_timeout: Duration::from_secs(10),
        }
    }

    /// The brokers to ask first, `HOST:PORT` separated by commas. Required. Kafka: `bootstrap.servers`.
    pub fn bootstrap_servers(mut self, servers: impl Into<String>) -> Self {
        self.bootstrap_servers = servers.into();
        self
    }

    /// The application that makes the tasks; it travels with each one. Required.
    pub fn application_id(mut self, id: impl Into<String>) -> Self {
        self.application_id = id.into();
        self
    }

    /// The instance of the application; it travels with each task. Default: the host's name.
    pub fn instance_id(mut self, id: impl Into<String>) -> Self {
        self.instance_id = Some(id.into());
        self
    }

    /// A setting of librdkafka, for connection, security and tuning. Settings that only concern consumers are passed
    /// over, so one map can serve a whole program. What the guarantees rest on (`acks`, `enable.idempotence`, …) is
    /// refused by [`build`](Self::build).
    ///
    /// keylane's own defaults: `partitioner=murmur2_random` (as Java clients), `message.timeout.ms=30000` (how long a
    /// task is tried), `batch.size=65536`, `topic.metadata.refresh.interval.ms=30000`, `compression.type=lz4`,
    /// `message.max.bytes=104792064` (so the topic's own limit decides what is too large).
    pub fn kafka(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.kafka.insert(key.into(), value.into());
        self
    }

    /// Many settings at once; see [`kafka`](Self::kafka).
    pub fn kafka_settings<K: Into<String>, V: Into<String>>(
        mut self,
        settings: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        self.kafka.extend(settings.into_iter().map(|(key, value)| (key.into(), value.into())));
        self
    }

    /// The most tasks without an answer. Default: 100,000. At the limit enqueuing fails with
    /// [`EnqueueError::Full`](crate::EnqueueError::Full).
    pub fn max_pending_records(mut self, records: usize) -> Self {
        self.max_pending_records = records;
        self
    }

    /// The most bytes (keys, values, headers) of tasks without an answer. Default: 64 MiB. A single task may exceed it
    /// where nothing else is pending.
    pub fn max_pending_bytes(mut self, bytes: usize) -> Self {
        self.max_pending_bytes = bytes;
        self
    }

    /// How long [`start`](Self::start) waits for a broker. Default: 10 s, at most 10 min.
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = timeout;
        self
    }

    /// Makes the producer without asking a broker: it connects in the background, and a missing topic shows when a task
    /// is not acknowledged. Prefer [`start`](Self::start).
    ///
    /// # Errors
    /// Settings that cannot be used.
    pub fn build(self) -> Result<TaskProducer, TaskProducerError> {
        self.validate()?;
        let limits = Limits { records: self.max_pending_records, bytes: self.max_pending_bytes };
        let raw = RawProducer::start(&self.bootstrap_servers, &self.kafka, limits, Arc::new(|_| ()))?;
        let instance_id = self.instance_id.unwrap_or_else(host_name);
        Ok(TaskProducer::new(raw, Arc::from(self.topic), self.application_id, instance_id))
    }

    /// Makes the producer after checking that a broker answers, and that the topic exists and may be written to (where
    /// the brokers say so). Never creates a topic.
    ///
    /// # Errors
    /// Settings that cannot be used, unreachable brokers, refused credentials, a missing or forbidden topic: within the start
    /// timeout.
    ///
    /// # Cancellation
    /// Dropping the future starts nothing; the check itself ends in the background within the start timeout.
    pub async fn start(self) -> Result<TaskProducer, TaskProducerError> {
        self.validate()?;
        let config = side_client_config(&self.bootstrap_servers, &self.kafka)?;
        topic_check::check(config, &self.topic, self.start_timeout).await?;
        self.build()
    }

    fn validate(&self) -> Result<(), TaskProducerError> {
        let invalid = |setting, reason: String| Err(TaskProducerError::Invalid { setting, reason });
        if let Err(reason) = check_name(&self.topic) {
            return invalid("topic", format!("{:?}: {reason}", self.topic));
        }
        if self.application_id.is_empty() {
            return invalid("application_id", "it is empty; name the application that makes the tasks".to_owned());
        }
        for (setting, id) in
            [("application_id", Some(&self.application_id)), ("instance_id", self.instance_id.as_ref())]
        {
            if id.is_some_and(|id| id.len() > MAX_ID_BYTES) {
                return invalid(setting, format!("it has more than {MAX_ID_BYTES} bytes, and travels with every task"));
            }
        }
        for (setting, value, most) in [
            ("max_pending_records", self.max_pending_records, MAX_PENDING_RECORDS),
            ("max_pending_bytes", self.max_pending_bytes, MAX_PENDING_BYTES),
        ] {
            if value == 0 || value > most {
                return invalid(setting, format!("{value} is not between 1 and {most}"));
            }
        }
        if self.start_timeout.is_zero() || self.start_timeout > MAX_START_TIMEOUT {
            return invalid("start_timeout", format!("{:?} is not between 1 ms and 10 min", self.start_timeout));
        }
        Ok(())
    }
}

impl std::fmt::Debug for TaskProducerBuilder {
    /// Names of the pass-through settings only: values may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskProducerBuilder")
            .field("topic", &self.topic)
            .field("bootstrap_servers", &shown_servers(&self.bootstrap_servers))
            .field("application_id", &self.application_id)
            .field("instance_id", &self.instance_id)
            .field("kafka", &self.kafka.keys())
            .field("max_pending_records", &self.max_pending_records)
            .field("max_pending_bytes", &self.max_pending_bytes)
            .field("start_timeout", &self.start_timeout)
            .finish()
    }
}

fn host_name() -> String {
    gethostname::gethostname().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valid() -> TaskProducerBuilder {
        TaskProducer::builder("parking-events").bootstrap_servers("127.0.0.1:1").application_id("car-park")
    }

    fn setting_refused(builder: TaskProducerBuilder) -> &'static str {
        match builder.build() {
            Err(TaskProducerError::Invalid { setting, .. }) => setting,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_setting_out_of_range_is_named() {
        for topic in ["", "..", "a b", "ä", &"t".repeat(250)] {
            assert_eq!(setting_refused(TaskProducer::builder(topic).application_id("a")), "topic");
        }
        assert_eq!(setting_refused(valid().application_id("")), "application_id");
        assert_eq!(setting_refused(valid().instance_id("i".repeat(1_025))), "instance_id");
        assert_eq!(setting_refused(valid().max_pending_records(0)), "max_pending_records");
        assert_eq!(setting_refused(valid().max_pending_bytes(usize::MAX)), "max_pending_bytes");
        assert_eq!(setting_refused(valid().start_timeout(Duration::ZERO)), "start_timeout");
    }

    #[test]
    fn settings_of_the_client_are_checked_and_consumer_settings_passed_over() {
        let error = valid().kafka("acks", "1").build().unwrap_err();
        assert!(matches!(error, TaskProducerError::Kafka(ClientConfigError::Owned { .. })), "{error:?}");
        let error = valid().bootstrap_servers("").build().unwrap_err();
        assert_eq!(error, TaskProducerError::Kafka(ClientConfigError::NoBootstrapServers));
        assert!(valid().kafka_settings([("session.timeout.ms", "1500"), ("linger.ms", "1")]).build().is_ok());
    }

    #[test]
    fn debug_shows_no_value_of_the_pass_through() {
        let builder = valid().kafka("sasl.password", "hunter2");
        assert!(!format!("{builder:?}").contains("hunter2"));
        assert!(!format!("{:?}", builder.build().unwrap()).contains("hunter2"));
    }
}
