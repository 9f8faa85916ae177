//! Refuses settings that cannot work, before anything connects.

use std::time::Duration;

use keylane_core::check_topic_name;

use super::NAME_LIMIT_BYTES;
use super::retry::DEFAULT_ROUNDS;
use super::{Backoff, BlockerAction, Exhausted, InPlace, SubscriptionConfig};

/// A setting that cannot work: which one, why, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {problem}")]
pub struct ConfigError {
    setting: &'static str,
    problem: String,
}

impl ConfigError {
    fn new(setting: &'static str, problem: impl Into<String>) -> Self {
        Self {
            setting,
            problem: problem.into(),
        }
    }

    /// The name of the setting, as in [`SubscriptionConfig`].
    pub fn setting(&self) -> &'static str {
        self.setting
    }
}

/// librdkafka's default for `max.poll.interval.ms`.
const DEFAULT_MAX_POLL_INTERVAL: Duration = Duration::from_millis(300_000);
/// The most failing lanes of one class that are counted separately.
const MAX_LANES: usize = 64;
/// The most groups whose retries may be adopted.
const MAX_ADOPTED: usize = 100;
/// What Kafka's own clients allow.
const MAX_INSTANCE_ID_BYTES: usize = 249;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl SubscriptionConfig {
    /// Checks what can be checked without a broker.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_names()?;
        self.validate_client_options()?;
        self.validate_limits()?;
        self.validate_times()?;
        self.validate_retry()?;
        self.validate_stuck_work()
    }

    fn validate_names(&self) -> Result<(), ConfigError> {
        if self.group.is_empty() {
            return Err(ConfigError::new(
                "group",
                "is empty; name the consumer group",
            ));
        }
        if self.topics.is_empty() || self.topics.iter().any(String::is_empty) {
            return Err(ConfigError::new(
                "topics",
                "name at least one origin topic, and no empty one",
            ));
        }
        if let Some(pattern) = self.topics.iter().find(|topic| topic.starts_with('^')) {
            return Err(ConfigError::new(
                "topics",
                format!("{pattern:?} is a pattern; name the topics one by one"),
            ));
        }
        if let Some(Err(rule)) = self
            .control_topic_name()
            .map(|name| check_topic_name(&name))
        {
            return Err(ConfigError::new(
                "control_topic.name",
                format!("{rule}; give a name where the group's makes none"),
            ));
        }
        if self.bootstrap_servers.as_str().trim().is_empty() {
            return Err(ConfigError::new(
                "bootstrap_servers",
                "is empty; give host:port of at least one broker",
            ));
        }
        Ok(())
    }

    /// Options that are settings of the Kafka client under another name.
    fn validate_client_options(&self) -> Result<(), ConfigError> {
        if let Some(id) = &self.instance_id {
            let legal = |it: char| it.is_ascii_alphanumeric() || "._-".contains(it);
            if id.is_empty() || id.len() > MAX_INSTANCE_ID_BYTES || !id.chars().all(legal) {
                return Err(ConfigError::new(
                    "instance_id",
                    format!(
                        "{id:?} is not 1 to {MAX_INSTANCE_ID_BYTES} letters, digits, '.', '_' or '-'"
                    ),
                ));
            }
            self.not_set_twice("instance_id", &["group.instance.id"])?;
        }
        if let Some(linger) = self.fetch_linger {
            let (min, max) = (Duration::from_millis(1), Duration::from_secs(1));
            duration("fetch_linger", linger, min, max)?;
            let of_client = ["fetch.wait.max.ms", "fetch.min.bytes"];
            self.not_set_twice("fetch_linger", &of_client)?;
        }
        Ok(())
    }

    fn not_set_twice(&self, option: &'static str, of_client: &[&str]) -> Result<(), ConfigError> {
        match of_client.iter().find(|key| self.kafka.get(key).is_some()) {
            Some(key) => Err(ConfigError::new(
                option,
                format!("sets {key}, which kafka sets too; leave one of them out"),
            )),
            None => Ok(()),
        }
    }

    fn validate_limits(&self) -> Result<(), ConfigError> {
        in_range("concurrency", self.concurrency, 1, 100_000)?;
        let limits = &self.limits;
        in_range(
            "limits.pause_at_records",
            limits.pause_at_records,
            1,
            10_000_000,
        )?;
        in_range("limits.pending_bytes", limits.pending_bytes, 1_024, 1 << 40)?;
        in_range("limits.settled_ahead", limits.settled_ahead, 1, 100_000_000)?;
        if let Some(attempts) = limits.max_in_flight {
            in_range("limits.max_in_flight", attempts, 1, 10_000_000)?;
        }
        if limits.resume_at_records >= limits.pause_at_records {
            return Err(ConfigError::new(
                "limits.resume_at_records",
                format!(
                    "{} must be below limits.pause_at_records ({})",
                    limits.resume_at_records, limits.pause_at_records
                ),
            ));
        }
        if self.concurrency > limits.pause_at_records {
            return Err(ConfigError::new(
                "concurrency",
                format!(
                    "{} can never be reached with limits.pause_at_records = {}; raise the latter",
                    self.concurrency, limits.pause_at_records
                ),
            ));
        }
        Ok(())
    }

    fn validate_times(&self) -> Result<(), ConfigError> {
        duration(
            "commit_interval",
            self.commit_interval,
            Duration::from_millis(10),
            Duration::from_secs(3600),
        )?;
        duration(
            "attempt_timeout",
            self.attempt_timeout,
            Duration::from_millis(1),
            7 * DAY,
        )?;
        duration(
            "shutdown_timeout",
            self.shutdown_timeout,
            Duration::ZERO,
            DAY,
        )?;
        duration(
            "startup_timeout",
            self.startup_timeout,
            Duration::from_millis(100),
            Duration::from_secs(600),
        )?;
        if let Some(wait) = self.wait_for_membership {
            duration(
                "wait_for_membership",
                wait,
                Duration::from_millis(100),
                Duration::from_secs(3600),
            )?;
        }
        let poll_interval = match self.kafka.get("max.poll.interval.ms") {
            None => DEFAULT_MAX_POLL_INTERVAL,
            Some(value) => Duration::from_millis(value.trim().parse().map_err(|_| {
                ConfigError::new(
                    "kafka.max.poll.interval.ms",
                    format!("{value:?} is not a number of milliseconds"),
                )
            })?),
        };
        if self.drain_timeout > poll_interval / 2 {
            return Err(ConfigError::new(
                "drain_timeout",
                format!(
                    "{:?} must be at most half of max.poll.interval.ms ({poll_interval:?}): a longer drain is cut short by the broker",
                    self.drain_timeout
                ),
            ));
        }
        Ok(())
    }

    fn validate_retry(&self) -> Result<(), ConfigError> {
        backoff("retry.backoff", &self.retry.backoff)?;
        if let Some(topic) = &self.retry.topic {
            backoff("retry.topic.backoff", &topic.backoff)?;
            in_range("retry.topic.rounds", topic.rounds as usize, 1, 10_000)?;
            if self.retry.for_at_least.is_some() && topic.rounds != DEFAULT_ROUNDS {
                return Err(ConfigError::new(
                    "retry.topic.rounds",
                    "has no effect with retry.for_at_least, which decides by time; leave one of them out",
                ));
            }
            in_range("retry.topic.adopt", topic.adopt.len(), 0, MAX_ADOPTED)?;
            if topic.adopt.iter().any(String::is_empty) {
                return Err(ConfigError::new(
                    "retry.topic.adopt",
                    "has an empty name; name consumer groups",
                ));
            }
            // The headers of retries name it, and other groups are to recognise it.
            if self.group.len() > NAME_LIMIT_BYTES || self.group.chars().any(char::is_control) {
                return Err(ConfigError::new(
                    "group",
                    format!(
                        "is longer than {NAME_LIMIT_BYTES} bytes or has control characters, which a retry topic does not allow"
                    ),
                ));
            }
            if topic.name.is_none() && self.topics.len() > 1 {
                return Err(ConfigError::new(
                    "retry.topic.name",
                    "is needed where a subscription has several topics",
                ));
            }
        }
        if let Some(time) = self.retry.for_at_least {
            duration(
                "retry.for_at_least",
                time,
                Duration::from_millis(1),
                30 * DAY,
            )?;
            if self.retry.in_place == InPlace::Forever {
                return Err(ConfigError::new(
                    "retry.in_place",
                    "is forever, which leaves retry.for_at_least no effect",
                ));
            }
        }
        self.validate_actions()?;
        if self
            .dead_letter
            .as_ref()
            .is_some_and(|dead_letter| dead_letter.topic.is_empty())
        {
            return Err(ConfigError::new(
                "dead_letter.topic",
                "is empty; name the topic or leave dead_letter out",
            ));
        }
        in_range("outage.lanes", self.outage.lanes, 2, MAX_LANES)?;
        duration(
            "outage.patience",
            self.outage.patience,
            Duration::from_millis(1),
            30 * DAY,
        )
    }
}

impl SubscriptionConfig {
    /// An action for one reason can be taken, and can occur.
    fn validate_actions(&self) -> Result<(), ConfigError> {
        for (reason, action) in &self.retry.on {
            let reason = reason.as_str();
            if *action == Exhausted::DeadLetter && self.dead_letter.is_none() {
                let problem = format!(
                    "has dead_letter for {reason}, which needs a dead-letter topic: set dead_letter"
                );
                return Err(ConfigError::new("retry.on", problem));
            }
        }
        let of_retries = self
            .retry
            .on
            .keys()
            .find(|reason| reason.is_out_of_retries());
        match (self.retry.in_place, of_retries) {
            (InPlace::Forever, Some(reason)) => Err(ConfigError::new(
                "retry.on",
                format!(
                    "has no effect for {}: retry.in_place is forever; leave one of them out",
                    reason.as_str()
                ),
            )),
            _ => Ok(()),
        }
    }

    fn validate_stuck_work(&self) -> Result<(), ConfigError> {
        let shortest = Duration::from_millis(100);
        duration(
            "watchdog.slow_attempt",
            self.watchdog.slow_attempt,
            shortest,
            7 * DAY,
        )?;
        duration(
            "watchdog.stalled_after",
            self.watchdog.stalled_after,
            shortest,
            7 * DAY,
        )?;
        duration("blocker.after", self.blocker.after, shortest, 7 * DAY)?;
        if self.blocker.action == BlockerAction::DeadLetter && self.dead_letter.is_none() {
            return Err(ConfigError::new(
                "blocker.action",
                "is dead_letter, which needs a dead-letter topic: set dead_letter",
            ));
        }
        Ok(())
    }
}

fn in_range(
    setting: &'static str,
    value: usize,
    min: usize,
    max: usize,
) -> Result<(), ConfigError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::new(
        setting,
        format!("{value} is not between {min} and {max}"),
    ))
}

fn duration(
    setting: &'static str,
    value: Duration,
    min: Duration,
    max: Duration,
) -> Result<(), ConfigError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::new(
        setting,
        format!("{value:?} is not between {min:?} and {max:?}"),
    ))
}

fn backoff(setting: &'static str, backoff: &Backoff) -> Result<(), ConfigError> {
    keylane_core::Backoff::from(*backoff)
        .validate()
        .map_err(|error| ConfigError::new(setting, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Blocker, DeadLetter, FailureReason, Retry};

    fn refused(change: impl FnOnce(&mut SubscriptionConfig)) -> &'static str {
        let mut config = SubscriptionConfig::new("g", "t");
        change(&mut config);
        config.validate().expect_err("must be refused").setting()
    }

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(SubscriptionConfig::new("g", "t").validate(), Ok(()));
    }

    #[test]
    fn each_bad_setting_is_named() {
        assert_eq!(refused(|c| c.group.clear()), "group");
        assert_eq!(refused(|c| c.topics.clear()), "topics");
        assert_eq!(refused(|c| c.topics.push("^all.*".into())), "topics");
        assert_eq!(
            refused(|c| c.bootstrap_servers = " ".into()),
            "bootstrap_servers"
        );
        assert_eq!(refused(|c| c.concurrency = 0), "concurrency");
        assert_eq!(refused(|c| c.concurrency = 50_000), "concurrency");
        assert_eq!(
            refused(|c| c.limits.max_in_flight = Some(0)),
            "limits.max_in_flight"
        );
        assert_eq!(
            refused(|c| c.limits.pause_at_records = 0),
            "limits.pause_at_records"
        );
        assert_eq!(
            refused(|c| c.limits.resume_at_records = 10_000),
            "limits.resume_at_records"
        );
        assert_eq!(
            refused(|c| c.limits.pending_bytes = 0),
            "limits.pending_bytes"
        );
        assert_eq!(
            refused(|c| c.limits.settled_ahead = 0),
            "limits.settled_ahead"
        );
        assert_eq!(
            refused(|c| c.commit_interval = Duration::ZERO),
            "commit_interval"
        );
        assert_eq!(
            refused(|c| c.attempt_timeout = Duration::ZERO),
            "attempt_timeout"
        );
        assert_eq!(
            refused(|c| c.drain_timeout = Duration::from_secs(200)),
            "drain_timeout"
        );
        assert_eq!(
            refused(|c| c.startup_timeout = Duration::ZERO),
            "startup_timeout"
        );
        assert_eq!(
            refused(|c| c.wait_for_membership = Some(Duration::ZERO)),
            "wait_for_membership"
        );
        assert_eq!(
            refused(|c| c.retry.backoff.max = Duration::MAX),
            "retry.backoff"
        );
        assert_eq!(refused(|c| c.retry.backoff.jitter = 2.0), "retry.backoff");
        assert_eq!(
            refused(|c| c.retry = Retry::none().then_topic().topic_rounds(0)),
            "retry.topic.rounds"
        );
        assert_eq!(
            refused(|c| c.retry = Retry::default().then_topic().topic_rounds(3)),
            "retry.topic.rounds"
        );
        assert_eq!(
            refused(|c| c.retry = Retry::for_at_least(Duration::ZERO)),
            "retry.for_at_least"
        );
        assert_eq!(
            refused(|c| c.retry.in_place = InPlace::Forever),
            "retry.in_place"
        );
        assert_eq!(refused(|c| c.outage.lanes = 1), "outage.lanes");
        assert_eq!(
            refused(|c| c.outage.patience = Duration::MAX),
            "outage.patience"
        );
        let retry = || Retry::none().then_topic();
        assert_eq!(
            refused(|c| c.retry = retry().adopt([""])),
            "retry.topic.adopt"
        );
        assert_eq!(
            refused(|c| c.retry = retry().adopt(vec!["old"; 101])),
            "retry.topic.adopt"
        );
        for group in ["a\nb".to_owned(), "x".repeat(256)] {
            let with_retry_topic = |c: &mut SubscriptionConfig| {
                c.retry = retry();
                c.group.clone_from(&group);
            };
            assert_eq!(refused(with_retry_topic), "group");
            assert_eq!(SubscriptionConfig::new(&group, "t").validate(), Ok(()));
        }
        assert_eq!(
            refused(|c| c.dead_letter = Some(DeadLetter::topic(""))),
            "dead_letter.topic"
        );
        assert_eq!(
            refused(|c| c.watchdog.slow_attempt = Duration::ZERO),
            "watchdog.slow_attempt"
        );
        assert_eq!(
            refused(|c| c.watchdog.stalled_after = Duration::MAX),
            "watchdog.stalled_after"
        );
        assert_eq!(
            refused(|c| c.blocker.after = Duration::ZERO),
            "blocker.after"
        );
        assert_eq!(
            refused(|c| c.blocker = Blocker::dead_letter()),
            "blocker.action"
        );
        assert_eq!(
            refused(|c| {
                c.topics.push("u".into());
                c.retry = Retry::none().then_topic();
            }),
            "retry.topic.name"
        );
        assert_eq!(
            refused(|c| {
                c.kafka.set("max.poll.interval.ms", "soon");
            }),
            "kafka.max.poll.interval.ms"
        );
    }

    #[test]
    fn an_action_for_a_reason_that_cannot_be_taken_is_refused() {
        let dead_letter = Exhausted::DeadLetter;
        for reason in [
            FailureReason::Undecodable,
            FailureReason::Fatal,
            FailureReason::Exhausted,
        ] {
            assert_eq!(
                refused(|c| c.retry = Retry::default().on(reason, dead_letter)),
                "retry.on"
            );
            let mut config = SubscriptionConfig::new("g", "t");
            config.retry = Retry::default().on(reason, dead_letter);
            config.dead_letter = Some(DeadLetter::topic("d"));
            assert_eq!(config.validate(), Ok(()));
        }
        for reason in [
            FailureReason::Exhausted,
            FailureReason::Panic,
            FailureReason::Timeout,
        ] {
            assert_eq!(
                refused(|c| c.retry = Retry::forever().on(reason, Exhausted::Park)),
                "retry.on"
            );
        }
        for reason in [FailureReason::Undecodable, FailureReason::Fatal] {
            let mut config = SubscriptionConfig::new("g", "t");
            config.retry = Retry::forever().on(reason, Exhausted::Park);
            assert_eq!(config.validate(), Ok(()));
        }
    }

    #[test]
    fn a_setting_of_the_client_is_set_by_one_name() {
        for id in ["", " ", "a b", "ä", "a/b", &"x".repeat(250)] {
            assert_eq!(refused(|c| c.instance_id = Some(id.into())), "instance_id");
        }
        let milliseconds = |it| Some(Duration::from_millis(it));
        for linger in [0, 1_001] {
            assert_eq!(
                refused(|c| c.fetch_linger = milliseconds(linger)),
                "fetch_linger"
            );
        }
        let both = |key: &'static str| {
            move |c: &mut SubscriptionConfig| {
                c.instance_id = Some("notifier-0".into());
                c.fetch_linger = milliseconds(5);
                c.kafka.set(key, "7");
            }
        };
        assert_eq!(refused(both("group.instance.id")), "instance_id");
        assert_eq!(refused(both("fetch.wait.max.ms")), "fetch_linger");
        assert_eq!(refused(both("fetch.min.bytes")), "fetch_linger");
        let mut config = SubscriptionConfig::new("g", "t");
        both("fetch.max.bytes")(&mut config);
        assert_eq!(config.validate(), Ok(()));
    }

    /// An error of a settings file states what to write instead.
    #[test]
    fn what_a_file_has_in_another_form_is_refused_with_the_right_one() {
        let error = |setting: &str| {
            let file = format!(r#"{{"group":"g","topics":["t"],{setting}}}"#);
            let config = serde_json::from_str::<SubscriptionConfig>(&file);
            config.expect_err(setting).to_string()
        };
        let duration = r#"a duration with its unit, such as "250ms", "30s" or "15m""#;
        for (setting, stated) in [
            (r#""dead_letter":"d""#, r#"{ "topic": "NAME" }"#),
            (r#""retry":"15m""#, r#"{ "for_at_least": "15m" }"#),
            (r#""retry":{"topic":"r"}"#, r#"{ "name": "NAME" }"#),
            (r#""attempt_timeout":"15""#, duration),
            (r#""attempt_timeout":15"#, duration),
            (r#""wait_for_membership":"15""#, duration),
            (r#""retry":{"for_at_least":"15"}"#, duration),
            (r#""max_in_flight":20"#, "write limits.max_in_flight"),
        ] {
            let text = error(setting);
            assert!(text.contains(stated), "{setting}: {text}");
        }
    }

    #[test]
    fn unknown_fields_are_refused_and_durations_are_readable() {
        let error = serde_json::from_str::<SubscriptionConfig>(
            r#"{"group":"g","topics":["t"],"concurency":3}"#,
        );
        assert!(error.unwrap_err().to_string().contains("concurency"));
        let config: SubscriptionConfig =
            serde_json::from_str(r#"{"group":"g","topics":["t"],"commit_interval":"250ms"}"#)
                .unwrap();
        assert_eq!(config.commit_interval, Duration::from_millis(250));
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(
            serde_json::from_str::<SubscriptionConfig>(&text).unwrap(),
            config
        );
    }
}
