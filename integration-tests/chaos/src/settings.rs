//! The settings of a member at its start.

use std::{path::PathBuf, time::Duration};

use clap::ValueEnum;
use keylane::config::{Backoff, Exhausted, FailureReason, Limits, Outage};
use keylane::subscription::SubscriptionBuilder;
use keylane::{DeadLetter, Retry, Subscription};
use serde::{Deserialize, Serialize};

/// How the group shares out its partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// The classic protocol with an eager assignor: every rebalance takes everything from
    /// everybody.
    Classic,
    /// The classic protocol, cooperative-sticky: keylane's default.
    Cooperative,
    /// `group.protocol=consumer` (KIP-848): the broker assigns.
    Consumer,
}

/// The topics of one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topics {
    /// What the producer writes.
    pub origin: String,
    /// The retry topic.
    pub retry: String,
    /// The dead letters.
    pub dead: String,
}

impl Topics {
    /// The three topics around the first one's name.
    pub fn named(origin: String) -> Self {
        Self {
            retry: format!("{origin}-retry"),
            dead: format!("{origin}-dead"),
            origin,
        }
    }

    /// All three.
    pub fn all(&self) -> [&str; 3] {
        [&self.origin, &self.retry, &self.dead]
    }
}

/// What all members of a run have in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Common {
    /// The brokers.
    pub bootstrap_servers: String,
    /// The group.
    pub group: String,
    /// The topics.
    pub topics: Topics,
    /// The group protocol.
    pub protocol: Protocol,
    /// The session time-out of members of the classic protocol.
    pub session_timeout_ms: u64,
    /// Whether failures go to the retry topic before they are dead letters.
    pub retry_topic: bool,
    /// Whether members keep their place in the group while they are started again
    /// (`instance_id`).
    pub static_members: bool,
    /// When an attempt is cut off.
    pub attempt_timeout_ms: u64,
    /// For how long a record is retried before it is given up; by count where there is none.
    #[serde(default)]
    pub retry_time_ms: Option<u64>,
}

impl Common {
    /// Those of a second group on the same topics. It has a dead-letter topic of its own.
    #[must_use]
    pub fn of_second_group(&self) -> Self {
        let topics = Topics {
            dead: format!("{}-second", self.topics.dead),
            ..self.topics.clone()
        };
        Self {
            group: format!("{}-second", self.group),
            topics,
            ..self.clone()
        }
    }
}

/// What a change of the configuration changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tuning {
    /// Attempts in flight of a partition.
    pub concurrency: usize,
    /// How often is committed.
    pub commit_interval_ms: u64,
    /// How long a revoked partition may take to finish.
    pub drain_timeout_ms: u64,
    /// Pending records of a partition at which it pauses.
    pub pause_at_records: usize,
    /// Settled records above the oldest unsettled one at which it pauses.
    pub settled_ahead: usize,
}

/// One member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// What it has in common with the others.
    pub common: Common,
    /// What it may differ in.
    pub tuning: Tuning,
    /// Its place in the group, kept over restarts.
    pub slot: usize,
    /// Its journal.
    pub journal: PathBuf,
    /// Where it is written what the processors wait for, and whether it is away.
    #[serde(default)]
    pub downstream: PathBuf,
}

impl Member {
    /// The subscription these settings describe.
    pub fn subscription(&self) -> SubscriptionBuilder {
        let Common {
            bootstrap_servers,
            group,
            topics,
            protocol,
            ..
        } = &self.common;
        let quick = Backoff::exponential(Duration::from_millis(50), Duration::from_millis(400));
        let slow = Backoff::exponential(Duration::from_millis(300), Duration::from_secs(2));
        let retry = match (self.common.retry_time_ms, self.common.retry_topic) {
            (Some(time), true) => self
                .by_time(time)
                .then_topic_named(&topics.retry)
                .topic_backoff(slow),
            (Some(time), false) => self.by_time(time),
            (None, true) => Retry::in_place(1)
                .then_topic_named(&topics.retry)
                .topic_rounds(3)
                .topic_backoff(slow),
            (None, false) => Retry::in_place(3),
        };
        // Many records of a plan fail for good, and each is to have its end within the run. What is
        // out of retries may be so because of an outage, and is left to the guard.
        let retry = [
            FailureReason::Undecodable,
            FailureReason::Fatal,
            FailureReason::Panic,
            FailureReason::Timeout,
        ]
        .into_iter()
        .fold(retry, |retry, reason| {
            retry.on(reason, Exhausted::DeadLetter)
        });
        let limits = Limits::default()
            .pause_at_records(self.tuning.pause_at_records)
            .resume_at_records(self.tuning.pause_at_records * 7 / 10)
            .settled_ahead(self.tuning.settled_ahead);
        let millis = Duration::from_millis;
        let mut builder = Subscription::builder(group, &topics.origin)
            .bootstrap_servers(bootstrap_servers)
            .concurrency(self.tuning.concurrency)
            .limits(limits)
            .commit_interval(millis(self.tuning.commit_interval_ms))
            .drain_timeout(millis(self.tuning.drain_timeout_ms))
            .shutdown_timeout(SHUTDOWN)
            .startup_timeout(Duration::from_secs(60))
            .attempt_timeout(millis(self.common.attempt_timeout_ms))
            .retry(retry.backoff(quick))
            .outage(Outage::default().patience(PATIENCE))
            .dead_letter(DeadLetter::topic(&topics.dead))
            .kafka("max.poll.interval.ms", "30000")
            .kafka("topic.metadata.refresh.interval.ms", "5000")
            .kafka("reconnect.backoff.max.ms", "1000");
        builder = match protocol {
            Protocol::Consumer => builder.kafka("group.protocol", "consumer"),
            Protocol::Classic => builder.kafka("partition.assignment.strategy", "range"),
            Protocol::Cooperative => builder,
        };
        if *protocol != Protocol::Consumer {
            builder = builder
                .kafka(
                    "session.timeout.ms",
                    self.common.session_timeout_ms.to_string(),
                )
                .kafka("heartbeat.interval.ms", "500");
        }
        if self.common.static_members {
            builder = builder.instance_id(format!("slot-{}", self.slot));
        }
        builder
    }

    fn by_time(&self, millis: u64) -> Retry {
        Retry::for_at_least(Duration::from_millis(millis)).in_place_first(1)
    }
}

/// For how long records that are out of retries are held while others succeed: longer than the
/// outages of a minute of trouble, and short enough for records that fail for good to have their
/// end within the run.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Longer than an attempt that hangs: an orderly shutdown drops nothing.
pub const SHUTDOWN: Duration = Duration::from_secs(8);
