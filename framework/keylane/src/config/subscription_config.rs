//! All settings of a subscription, as one serde struct.

use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::{
    Blocker, BootstrapServers, ControlTopic, DeadLetter, HotKeySettings, KafkaSettings,
    LegacyTasks, Limits, Outage, Retry, Tracing, Watchdog,
};

/// The settings of a subscription: what
/// [`SubscriptionBuilder`](crate::subscription::SubscriptionBuilder) fills in, and what a
/// configuration file holds. Durations are human-readable (`"250ms"`, `"5m"`), unknown fields are
/// refused.
///
/// # Examples
/// ```
/// let config: keylane::SubscriptionConfig = serde_json::from_str(r#"{
///     "group": "parking-notifier",
///     "topics": ["parking-events"],
///     "bootstrap_servers": "localhost:9092",
///     "attempt_timeout": "30s",
///     "retry": { "for_at_least": "15m", "backoff": { "initial": "200ms", "max": "5s" } },
///     "dead_letter": { "topic": "parking-events-dlq" }
/// }"#).unwrap();
/// assert_eq!(config.concurrency, 32);
/// ```
///
#[doc = include_str!("options.md")]
///
/// [`SubscriptionBuilder`]: crate::subscription::SubscriptionBuilder
/// [`LegacyTasks`]: crate::config::LegacyTasks
/// [`Retry`]: crate::Retry
/// [`ForeignRetries`]: crate::config::ForeignRetries
/// [`Outage`]: crate::config::Outage
/// [`ControlTopic`]: crate::config::ControlTopic
/// [unavailable]: crate::TaskError::unavailable
/// [`Blocker`]: crate::config::Blocker
/// [`SubscriptionHandle::hot_keys`]: crate::SubscriptionHandle::hot_keys
/// [`KafkaSettings`]: crate::config::KafkaSettings
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SubscriptionConfig {
    /// The consumer group (`group.id`).
    pub group: String,
    /// The origin topics, at least one. They must exist.
    pub topics: Vec<String>,
    /// Brokers to start from, `host:port` separated by commas (`bootstrap.servers`). Default
    /// `localhost:9092`.
    #[serde(default)]
    pub bootstrap_servers: BootstrapServers,
    /// The value of the `subscription` label of metrics, and the name in logs (default: the group).
    /// Of several with one name in a process, the metrics of the later ones have a number behind it.
    #[serde(default)]
    pub name: Option<String>,
    /// A name of this member that stays the same over restarts (`group.instance.id`; default none):
    /// static membership. Unique in the group; up to 249 letters, digits, `.`, `_` and `-`.
    ///
    /// After a kill, the member with the same name continues at once, with the classic protocol. With
    /// `group.protocol=consumer` the brokers refuse the name until the killed member's session has
    /// ended, and `run` ends with that error. Without a name, its partitions
    /// stand still until the session has timed out: 45 s, and up to twice that for some of them.
    #[serde(default)]
    pub instance_id: Option<String>,
    /// For how long a broker may hold back a fetch that would return little (default not at all):
    /// 1 ms to 1 s.
    ///
    /// It saves most of the CPU time of a topic with some hundred to some 10,000 records a second,
    /// and costs up to this time of latency.
    #[serde(default, with = "crate::config::duration::option")]
    pub fetch_linger: Option<Duration>,
    /// Attempts in flight per partition (default 32).
    ///
    /// A higher number puts more load on what the processor calls, times the number of partitions:
    /// [`Limits::max_in_flight`] is the limit over all of them. Records of one key never overlap at
    /// any number.
    #[serde(default = "defaults::concurrency")]
    pub concurrency: usize,
    /// Bounds on what is held in memory.
    #[serde(default)]
    pub limits: Limits,
    /// How long a settled record may stay uncommitted (default 1 s): what a crash repeats at most,
    /// besides the attempts in flight.
    #[serde(
        default = "defaults::commit_interval",
        with = "crate::config::duration"
    )]
    pub commit_interval: Duration,
    /// How long one attempt may take (default 5 min). Then its future is dropped and the attempt
    /// counts as failed.
    #[serde(
        default = "defaults::attempt_timeout",
        with = "crate::config::duration"
    )]
    pub attempt_timeout: Duration,
    /// How long a rebalance waits for the attempts in flight of the partitions given up (default 5
    /// s). What has not finished by then is dropped unsettled, and the next owner repeats it. No
    /// partition of this member receives new records while it drains. Must be below half of
    /// `max.poll.interval.ms`: beyond that the broker gives the partitions away.
    #[serde(default = "defaults::drain_timeout", with = "crate::config::duration")]
    pub drain_timeout: Duration,
    /// How long a shutdown waits for the attempts in flight (default 30 s).
    #[serde(
        default = "defaults::shutdown_timeout",
        with = "crate::config::duration"
    )]
    pub shutdown_timeout: Duration,
    /// How long start-up waits for the brokers to answer (default 10 s).
    #[serde(
        default = "defaults::startup_timeout",
        with = "crate::config::duration"
    )]
    pub startup_timeout: Duration,
    /// For how long `start` waits until the member has joined its group (default: it does not wait).
    ///
    /// With it, a group that refuses the member ends `start`. Without it, that is a
    /// [trouble](crate::status::Trouble), which ends when the members that are in the way have left.
    ///
    /// Create the streams of signals before `start`: a SIGTERM that comes meanwhile then ends
    /// [`run_until`](crate::Subscription::run_until) at once, and the group is left in order. Wait
    /// for less than your container's grace period: nothing answers before `start` has returned.
    #[serde(default, with = "crate::config::duration::option")]
    pub wait_for_membership: Option<Duration>,
    /// How records are taken out of the Kafka client (default in batches).
    #[serde(default)]
    pub reading: Reading,
    /// Whether tasks may be in the format of Decaton's clients before version 9 (default no).
    #[serde(default)]
    pub legacy_tasks: LegacyTasks,
    /// What happens after a failed attempt.
    #[serde(default)]
    pub retry: Retry,
    /// Where records that cannot be processed are written (default: nowhere; they are retried
    /// without end).
    #[serde(default)]
    pub dead_letter: Option<DeadLetter>,
    /// The topic by which operators pause the group and skip records (default: none).
    #[serde(default)]
    pub control_topic: Option<ControlTopic>,
    /// When failures count as an outage, and records are held rather than given up.
    #[serde(default)]
    pub outage: Outage,
    /// When stalled work is reported.
    #[serde(default)]
    pub watchdog: Watchdog,
    /// What happens to a record that holds up its partition (default: the partition waits for it).
    #[serde(default)]
    pub blocker: Blocker,
    /// How hot keys are named (default by a hash).
    #[serde(default)]
    pub hot_keys: HotKeySettings,
    /// What the spans of attempts contain (default: nothing of the key).
    #[serde(default)]
    pub tracing: Tracing,
    /// Settings passed through to the Kafka clients (`security.protocol`, …); those keylane owns
    /// are refused.
    #[serde(default)]
    pub kafka: KafkaSettings,
    /// The builder has it at the top level, a file among the limits.
    #[serde(default, skip_serializing, rename = "max_in_flight")]
    misplaced: Misplaced,
}

/// Refuses any value, with the place where it belongs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Misplaced;

impl<'de> Deserialize<'de> for Misplaced {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(D::Error::custom(
            "max_in_flight is one of the limits: write limits.max_in_flight",
        ))
    }
}

/// How records are taken out of the Kafka client. Both have the same guarantees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reading {
    /// Many at a time, from a fetch queue of keylane's own: costs the polling thread about half as
    /// much per record. Uses calls of librdkafka that rdkafka has no safe interface to.
    #[default]
    Batched,
    /// One by one, through rdkafka's `poll`.
    Polled,
}

impl SubscriptionConfig {
    /// The defaults for one group and one origin topic.
    pub fn new(group: impl Into<String>, topic: impl Into<String>) -> Self {
        Self {
            group: group.into(),
            topics: vec![topic.into()],
            bootstrap_servers: BootstrapServers::default(),
            name: None,
            instance_id: None,
            fetch_linger: None,
            concurrency: defaults::concurrency(),
            limits: Limits::default(),
            commit_interval: defaults::commit_interval(),
            attempt_timeout: defaults::attempt_timeout(),
            drain_timeout: defaults::drain_timeout(),
            shutdown_timeout: defaults::shutdown_timeout(),
            startup_timeout: defaults::startup_timeout(),
            wait_for_membership: None,
            reading: Reading::default(),
            legacy_tasks: LegacyTasks::default(),
            retry: Retry::default(),
            dead_letter: None,
            control_topic: None,
            outage: Outage::default(),
            watchdog: Watchdog::default(),
            blocker: Blocker::default(),
            hot_keys: HotKeySettings::default(),
            tracing: Tracing::default(),
            kafka: KafkaSettings::default(),
            misplaced: Misplaced,
        }
    }

    /// The `subscription` label.
    pub(crate) fn label(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.group)
    }

    /// The name of the retry topic, where the retry policy has one: the policy's own, or
    /// `<origin>-retry`.
    ///
    /// # Examples
    /// ```
    /// use keylane::{Retry, SubscriptionConfig};
    ///
    /// let mut config = SubscriptionConfig::new("parking-notifier", "parking-events");
    /// assert_eq!(config.retry_topic(), None);
    /// config.retry = Retry::in_place(3).then_topic();
    /// assert_eq!(config.retry_topic().as_deref(), Some("parking-events-retry"));
    /// ```
    pub fn retry_topic(&self) -> Option<String> {
        let topic = self.retry.topic.as_ref()?;
        topic
            .name
            .clone()
            .or_else(|| self.topics.first().map(|origin| format!("{origin}-retry")))
    }

    /// The name of the control topic, where there is one: its own, or `<group>-keylane-control`.
    pub fn control_topic_name(&self) -> Option<String> {
        let topic = self.control_topic.as_ref()?;
        let name = topic.name.clone();
        Some(name.unwrap_or_else(|| ControlTopic::name_for(&self.group)))
    }
}

mod defaults {
    use std::time::Duration;

    pub(super) fn concurrency() -> usize {
        32
    }

    pub(super) fn commit_interval() -> Duration {
        Duration::from_secs(1)
    }

    pub(super) fn attempt_timeout() -> Duration {
        Duration::from_secs(300)
    }

    pub(super) fn drain_timeout() -> Duration {
        Duration::from_secs(5)
    }

    pub(super) fn shutdown_timeout() -> Duration {
        Duration::from_secs(30)
    }

    pub(super) fn startup_timeout() -> Duration {
        Duration::from_secs(10)
    }
}
