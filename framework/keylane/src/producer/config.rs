//! All settings of a task producer, as one serde struct.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::TaskProducerError;
use crate::config::{BootstrapServers, KafkaSettings};

const MAX_PENDING_RECORDS: usize = 10_000_000;
const MAX_PENDING_BYTES: usize = 1 << 40;
const MAX_TOPICS: usize = 64;
/// `dt_meta` travels with every task.
const MAX_ID_BYTES: usize = 1_024;
const MAX_STARTUP_TIMEOUT: Duration = Duration::from_secs(600);

/// The settings of a task producer: what
/// [`TaskProducerBuilder`](crate::producer::TaskProducerBuilder) fills in, and what a configuration
/// file holds. Durations are human-readable (`"250ms"`, `"5m"`), unknown fields are refused.
///
/// # Examples
/// ```
/// use keylane::producer::TaskProducerConfig;
/// use keylane::TaskProducer;
///
/// let config: TaskProducerConfig = serde_json::from_str(r#"{
///     "topics": ["parking-events"],
///     "application_id": "car-park",
///     "bootstrap_servers": "localhost:9092",
///     "kafka": { "linger.ms": "5" }
/// }"#).unwrap();
/// assert_eq!(config.max_pending_records, 100_000);
/// let producer = TaskProducer::from_config(config).build().unwrap();
/// # let _ = producer;
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct TaskProducerConfig {
    /// The topics of the tasks, at most 64. They must exist. A task that names no topic goes to the
    /// first one; see [`NewTask::topic`](crate::NewTask::topic).
    pub topics: Vec<String>,
    /// The application that makes the tasks; it travels with each one. Required.
    pub application_id: String,
    /// The instance of the application; it travels with each task (default: the host's name).
    #[serde(default)]
    pub instance_id: Option<String>,
    /// How a task's metadata is written (default in a `dt_meta` header).
    #[serde(default)]
    pub format: TaskFormat,
    /// Whether tasks that name no [message id](crate::NewTask::message_id) get one (default
    /// `generated`).
    #[serde(default)]
    pub message_ids: MessageIds,
    /// Brokers to start from, `host:port` separated by commas (`bootstrap.servers`). Default
    /// `localhost:9092`.
    #[serde(default)]
    pub bootstrap_servers: BootstrapServers,
    /// The most tasks without an answer (default 100,000). At the limit enqueuing fails with
    /// [`EnqueueError::Full`](crate::error::EnqueueError::Full).
    #[serde(default = "defaults::max_pending_records")]
    pub max_pending_records: usize,
    /// The most bytes (keys, values, headers) of tasks without an answer (default 64 MiB). A single
    /// task may exceed it if nothing else is pending.
    #[serde(default = "defaults::max_pending_bytes")]
    pub max_pending_bytes: usize,
    /// How long start-up waits for the brokers to answer (default 10 s, at most 10 min).
    #[serde(
        default = "defaults::startup_timeout",
        with = "crate::config::duration"
    )]
    pub startup_timeout: Duration,
    /// Settings of librdkafka, for connection, security and tuning. Settings that only concern
    /// consumers are passed over, so one set can serve a whole program. What the guarantees rest on
    /// (`acks`, `enable.idempotence`, …) is refused.
    ///
    /// keylane's own defaults: `partitioner=murmur2_random` (as Java clients),
    /// `message.timeout.ms=30000` (how long a task is tried), `batch.size=65536`,
    /// `topic.metadata.refresh.interval.ms=30000`, `compression.type=lz4`,
    /// `message.max.bytes=104792064` (so the topic's own limit decides what is too large).
    #[serde(default)]
    pub kafka: KafkaSettings,
}

/// How the metadata of a task is written: which program made it, when, and when it is due.
///
/// # Examples
/// ```
/// use keylane::TaskProducer;
/// use keylane::producer::TaskFormat;
///
/// let producer = TaskProducer::builder("parking-events")
///     .application_id("car-park")
///     .format(TaskFormat::Legacy)
///     .build()?;
/// # let _ = producer;
/// # Ok::<(), keylane::error::TaskProducerError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TaskFormat {
    /// In the header `dt_meta`. Decaton reads it from version 9.0 on; its older processors drop such
    /// a task and commit it.
    #[default]
    Header,
    /// In a wrapper around the value, Decaton's `DecatonTaskRequest`, without a `dt_meta` header: for
    /// processors of Decaton before version 9, and for later ones and keylane where they read such
    /// tasks ([`LegacyTasks`](crate::config::LegacyTasks)). A tombstone has the header, because a
    /// wrapper cannot be null.
    Legacy,
}

/// Which tasks have a message id, in the header `keylane-message-id`.
///
/// # Examples
/// ```
/// use keylane::TaskProducer;
/// use keylane::producer::MessageIds;
///
/// let producer = TaskProducer::builder("parking-events")
///     .application_id("car-park")
///     .message_ids(MessageIds::OnlyGiven)
///     .build()?;
/// # let _ = producer;
/// # Ok::<(), keylane::error::TaskProducerError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MessageIds {
    /// Every task: a UUIDv7 where [`NewTask::message_id`](crate::NewTask::message_id) gives none.
    /// It makes a record 54 bytes larger.
    #[default]
    Generated,
    /// Those that are given one.
    OnlyGiven,
}

impl TaskProducerConfig {
    /// The defaults for one topic and one application.
    pub fn new(topic: impl Into<String>, application_id: impl Into<String>) -> Self {
        Self {
            topics: vec![topic.into()],
            application_id: application_id.into(),
            instance_id: None,
            format: TaskFormat::default(),
            message_ids: MessageIds::default(),
            bootstrap_servers: BootstrapServers::default(),
            max_pending_records: defaults::max_pending_records(),
            max_pending_bytes: defaults::max_pending_bytes(),
            startup_timeout: defaults::startup_timeout(),
            kafka: KafkaSettings::default(),
        }
    }

    pub(super) fn validate(&self) -> Result<(), TaskProducerError> {
        let invalid = |setting, reason: String| Err(TaskProducerError::Invalid { setting, reason });
        if self.topics.is_empty() || self.topics.len() > MAX_TOPICS {
            let count = self.topics.len();
            return invalid(
                "topics",
                format!("{count} topics are not between 1 and {MAX_TOPICS}"),
            );
        }
        for topic in &self.topics {
            if let Err(reason) = keylane_core::check_topic_name(topic) {
                return invalid("topics", format!("{topic:?}: {reason}"));
            }
        }
        if self.application_id.is_empty() {
            return invalid(
                "application_id",
                "it is empty; name the application that makes the tasks".to_owned(),
            );
        }
        for (setting, id) in [
            ("application_id", Some(&self.application_id)),
            ("instance_id", self.instance_id.as_ref()),
        ] {
            if id.is_some_and(|id| id.len() > MAX_ID_BYTES) {
                return invalid(
                    setting,
                    format!("it has more than {MAX_ID_BYTES} bytes, and travels with every task"),
                );
            }
        }
        for (setting, value, most) in [
            (
                "max_pending_records",
                self.max_pending_records,
                MAX_PENDING_RECORDS,
            ),
            (
                "max_pending_bytes",
                self.max_pending_bytes,
                MAX_PENDING_BYTES,
            ),
        ] {
            if value == 0 || value > most {
                return invalid(setting, format!("{value} is not between 1 and {most}"));
            }
        }
        if self.startup_timeout.is_zero() || self.startup_timeout > MAX_STARTUP_TIMEOUT {
            return invalid(
                "startup_timeout",
                format!("{:?} is not between 1 ms and 10 min", self.startup_timeout),
            );
        }
        Ok(())
    }
}

mod defaults {
    use std::time::Duration;

    pub(super) const fn max_pending_records() -> usize {
        100_000
    }

    pub(super) const fn max_pending_bytes() -> usize {
        64 << 20
    }

    pub(super) const fn startup_timeout() -> Duration {
        Duration::from_secs(10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_what_is_required_has_the_defaults() {
        let read: TaskProducerConfig =
            serde_json::from_str(r#"{"topics":["t"],"application_id":"a"}"#).unwrap();
        assert_eq!(read, TaskProducerConfig::new("t", "a"));
        let written = serde_json::to_string(&read).unwrap();
        assert_eq!(
            serde_json::from_str::<TaskProducerConfig>(&written).unwrap(),
            read
        );
        for refused in [
            r#"{"topics":["t"]}"#,
            r#"{"topics":["t"],"application_id":"a","acks":"1"}"#,
        ] {
            assert!(
                serde_json::from_str::<TaskProducerConfig>(refused).is_err(),
                "{refused}"
            );
        }
    }
}
