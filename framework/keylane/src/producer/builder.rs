//! The settings of a task producer.

use std::sync::Arc;
use std::time::Duration;

use super::raw::{PendingLimits, RawProducer};
use super::topic_check;
use super::{MessageIds, TaskFormat, TaskProducer, TaskProducerConfig, TaskSource};
use crate::config::BootstrapServers;
use crate::kafka::config::{ClientConfigError, side_client_config};
use crate::support::error_text::debug_is_display;

/// Puts a [`TaskProducerConfig`] together and starts it; made by [`TaskProducer::builder`]. Each
/// method sets the field of the same name; its documentation gives the default and the effect.
///
/// # Examples
/// ```
/// use keylane::TaskProducer;
/// use std::time::Duration;
///
/// let builder = TaskProducer::builder("parking-events")
///     .bootstrap_servers("localhost:9092")
///     .application_id("car-park")
///     .max_pending_records(10_000)
///     .kafka("linger.ms", "20")
///     .startup_timeout(Duration::from_secs(30));
/// # let _ = builder;
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `start` or `build`"]
pub struct TaskProducerBuilder {
    config: TaskProducerConfig,
}

impl From<TaskProducerConfig> for TaskProducerBuilder {
    fn from(config: TaskProducerConfig) -> Self {
        Self { config }
    }
}

/// Why a task producer could not start. Its `Debug` is its sentence, for a `main` that returns it.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
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
        "no broker of {bootstrap_servers} answered within {waited:?} ({reason}); check the address, the network and security.protocol"
    )]
    Unreachable {
        /// Where it was tried.
        bootstrap_servers: String,
        /// How long it was tried.
        waited: Duration,
        /// The client's last error.
        reason: String,
    },
    /// The brokers refuse this client, or it does not trust them.
    #[error(
        "the brokers of {bootstrap_servers} refuse this client: {reason}; check the sasl.* and ssl.* settings"
    )]
    Refused {
        /// Where it was tried.
        bootstrap_servers: String,
        /// The client's error.
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
        /// The broker's reason.
        reason: String,
    },
}

debug_is_display!(TaskProducerError);

impl TaskProducerBuilder {
    /// One more topic; see [`TaskProducerConfig::topics`].
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.config.topics.push(topic.into());
        self
    }

    /// See [`TaskProducerConfig::bootstrap_servers`].
    pub fn bootstrap_servers(mut self, servers: impl Into<BootstrapServers>) -> Self {
        self.config.bootstrap_servers = servers.into();
        self
    }

    /// See [`TaskProducerConfig::application_id`].
    pub fn application_id(mut self, id: impl Into<String>) -> Self {
        self.config.application_id = id.into();
        self
    }

    /// See [`TaskProducerConfig::instance_id`].
    pub fn instance_id(mut self, id: impl Into<String>) -> Self {
        self.config.instance_id = Some(id.into());
        self
    }

    /// See [`TaskProducerConfig::format`].
    pub fn format(mut self, format: TaskFormat) -> Self {
        self.config.format = format;
        self
    }

    /// See [`TaskProducerConfig::message_ids`].
    pub fn message_ids(mut self, message_ids: MessageIds) -> Self {
        self.config.message_ids = message_ids;
        self
    }

    /// One setting of the Kafka client; see [`TaskProducerConfig::kafka`].
    pub fn kafka(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.config.kafka.set(name, value);
        self
    }

    /// Several settings of the Kafka client, added to those already there.
    pub fn kafka_settings<K: Into<String>, V: Into<String>>(
        mut self,
        settings: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        self.config.kafka.extend(settings);
        self
    }

    /// See [`TaskProducerConfig::max_pending_records`].
    pub fn max_pending_records(mut self, records: usize) -> Self {
        self.config.max_pending_records = records;
        self
    }

    /// See [`TaskProducerConfig::max_pending_bytes`].
    pub fn max_pending_bytes(mut self, bytes: usize) -> Self {
        self.config.max_pending_bytes = bytes;
        self
    }

    /// See [`TaskProducerConfig::startup_timeout`].
    pub fn startup_timeout(mut self, timeout: Duration) -> Self {
        self.config.startup_timeout = timeout;
        self
    }

    /// The settings as they are now.
    pub fn config(&self) -> &TaskProducerConfig {
        &self.config
    }

    /// Makes the producer without a request to a broker. It connects in the background, and a
    /// missing topic shows when a task is not acknowledged. Prefer [`start`](Self::start).
    ///
    /// # Errors
    /// Settings that cannot be used.
    pub fn build(self) -> Result<TaskProducer, TaskProducerError> {
        let config = self.config;
        config.validate()?;
        let limits = PendingLimits {
            records: config.max_pending_records,
            bytes: config.max_pending_bytes,
        };
        let (servers, kafka) = (config.bootstrap_servers.as_str(), config.kafka.as_map());
        let raw = RawProducer::start(servers, kafka, limits, Arc::new(|_| ()))?;
        let source = TaskSource {
            application_id: config.application_id,
            instance_id: config.instance_id.unwrap_or_else(host_name),
            format: config.format,
            message_ids: config.message_ids,
        };
        let topics = config.topics.into_iter().map(Arc::from).collect();
        Ok(TaskProducer::new(raw, topics, source))
    }

    /// Makes the producer after checking that a broker answers, and that each topic exists and may
    /// be written to (where the brokers report that). Never creates a topic.
    ///
    /// # Errors
    /// Settings that cannot be used, unreachable brokers, refused credentials, a missing or
    /// forbidden topic: within the start-up timeout.
    ///
    /// # Cancellation
    /// Dropping the future starts nothing; the check itself ends in the background within the
    /// start-up timeout.
    pub async fn start(self) -> Result<TaskProducer, TaskProducerError> {
        let config = &self.config;
        config.validate()?;
        let client = side_client_config(config.bootstrap_servers.as_str(), config.kafka.as_map())?;
        topic_check::check(client, config.topics.clone(), config.startup_timeout).await?;
        self.build()
    }
}

fn host_name() -> String {
    gethostname::gethostname().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valid() -> TaskProducerBuilder {
        TaskProducer::builder("parking-events")
            .bootstrap_servers("127.0.0.1:1")
            .application_id("car-park")
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
            assert_eq!(
                setting_refused(TaskProducer::builder(topic).application_id("a")),
                "topics"
            );
            assert_eq!(setting_refused(valid().topic(topic)), "topics");
        }
        let many = (0..64).fold(valid(), |builder, n| builder.topic(format!("topic-{n}")));
        assert_eq!(setting_refused(many), "topics");
        let mut none = valid();
        none.config.topics.clear();
        assert_eq!(setting_refused(none), "topics");
        assert_eq!(
            setting_refused(valid().application_id("")),
            "application_id"
        );
        assert_eq!(
            setting_refused(valid().instance_id("i".repeat(1_025))),
            "instance_id"
        );
        assert_eq!(
            setting_refused(valid().max_pending_records(0)),
            "max_pending_records"
        );
        assert_eq!(
            setting_refused(valid().max_pending_bytes(usize::MAX)),
            "max_pending_bytes"
        );
        assert_eq!(
            setting_refused(valid().startup_timeout(Duration::ZERO)),
            "startup_timeout"
        );
    }

    #[test]
    fn settings_of_the_client_are_checked_and_consumer_settings_passed_over() {
        let error = valid().kafka("acks", "1").build().unwrap_err();
        assert!(
            matches!(
                error,
                TaskProducerError::Kafka(ClientConfigError::Owned { .. })
            ),
            "{error:?}"
        );
        let error = valid().bootstrap_servers("").build().unwrap_err();
        assert_eq!(
            error,
            TaskProducerError::Kafka(ClientConfigError::NoBootstrapServers)
        );
        assert!(
            valid()
                .kafka_settings([("session.timeout.ms", "1500"), ("linger.ms", "1")])
                .build()
                .is_ok()
        );
    }

    #[test]
    fn debug_shows_no_value_of_the_pass_through() {
        let builder = valid().kafka("sasl.password", "hunter2");
        assert!(!format!("{builder:?}").contains("hunter2"));
        assert!(!format!("{:?}", builder.build().unwrap()).contains("hunter2"));
    }
}
