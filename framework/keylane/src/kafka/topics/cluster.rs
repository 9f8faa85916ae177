//! Queries a cluster about its topics.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::{ClientConfig, types::RDKafkaRespErr};

use super::error::{NamedTopic, TopicError};
use super::last_error::LastError;
use crate::kafka::config::creation_error;
use crate::kafka::describe::has_controller;
use crate::kafka::permissions::{self, Allowed};

/// The first wait for an answer. It doubles, so that a slow cluster does not get requests without
/// end.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The pause between two requests.
const PAUSE: Duration = Duration::from_millis(100);

/// The wait for an answer about permissions. A group's coordinator may have to be found first.
const PERMISSIONS_TIMEOUT: Duration = Duration::from_secs(3);

/// A short-lived client that joins no group, creates no topic and reports why it cannot connect.
/// Its calls block.
pub(crate) struct Cluster {
    client: BaseConsumer<LastError>,
    bootstrap_servers: String,
    has_controller: Cell<bool>,
}

/// A cluster's answer about a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    Found {
        partitions: i32,
    },
    Missing,
    /// This client may not even see whether it exists.
    Forbidden,
}

impl Cluster {
    /// A client with these settings; connects in the background.
    pub(crate) fn new(config: &ClientConfig) -> Result<Self, TopicError> {
        let bootstrap_servers = config
            .get("bootstrap.servers")
            .unwrap_or_default()
            .trim()
            .to_owned();
        if bootstrap_servers.is_empty() {
            return Err(TopicError::Settings {
                reason: "bootstrap.servers is empty: name at least one broker".into(),
            });
        }
        let mut config = config.clone();
        // A query must not create the topic, and the statistics of this client are not read.
        config
            .set("allow.auto.create.topics", "false")
            .set("statistics.interval.ms", "0");
        let client = config
            .create_with_context::<_, BaseConsumer<LastError>>(LastError::default())
            .map_err(|error| TopicError::Settings {
                reason: creation_error(error).to_string(),
            })?;
        Ok(Self {
            client,
            bootstrap_servers,
            has_controller: Cell::new(false),
        })
    }

    /// Whether the brokers named one of them as their controller, which gets librdkafka's queries
    /// for topic ids. Its mock cluster names one that does not exist.
    pub(in crate::kafka) fn has_controller(&self) -> bool {
        self.has_controller.get()
    }

    /// For queries of other kinds.
    pub(in crate::kafka) fn client(&self) -> &BaseConsumer<LastError> {
        &self.client
    }

    pub(super) fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }

    /// Waits until some broker answers a question about `topic`, whether the topic exists or not.
    pub(crate) fn reach(&self, topic: &str, timeout: Duration) -> Result<(), TopicError> {
        let started = Instant::now();
        self.metadata(topic, started, started + timeout).map(drop)
    }

    /// Whether a topic exists and how many partitions it has.
    pub(crate) fn look_up(
        &self,
        topic: &NamedTopic,
        started: Instant,
        deadline: Instant,
    ) -> Result<Lookup, TopicError> {
        loop {
            let metadata = self.metadata(&topic.name, started, deadline)?;
            let Some(found) = metadata
                .topics()
                .iter()
                .find(|found| found.name() == topic.name)
            else {
                return Ok(Lookup::Missing);
            };
            match found.error() {
                None => {
                    let partitions = i32::try_from(found.partitions().len()).unwrap_or(i32::MAX);
                    return Ok(Lookup::Found { partitions });
                }
                Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) => {
                    return Ok(Lookup::Missing);
                }
                // Just created: its leaders are still being elected.
                Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE)
                    if Instant::now() < deadline =>
                {
                    self.pause(deadline);
                }
                Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED) => {
                    return Ok(Lookup::Forbidden);
                }
                Some(error) => {
                    let cause = RDKafkaErrorCode::from(error).to_string();
                    return Err(TopicError::Unreadable {
                        topic: topic.clone(),
                        cause,
                    });
                }
            }
        }
    }

    /// What this client may do with topics that exist; those not mentioned are unknown.
    pub(crate) fn allowed_on(
        &self,
        topics: &[&str],
        deadline: Instant,
    ) -> BTreeMap<String, Allowed> {
        if !self.has_controller() {
            return BTreeMap::new();
        }
        permissions::on_topics(&self.client, topics, answer_within(deadline))
    }

    /// What this client may do with a group, whether it exists or not.
    pub(super) fn allowed_on_group(&self, group: &str, deadline: Instant) -> Allowed {
        if !self.has_controller() {
            return Allowed::Unknown;
        }
        permissions::on_group(&self.client, group, answer_within(deadline))
    }

    /// Waits a moment, and serves the client's events.
    pub(super) fn pause(&self, deadline: Instant) {
        let until = deadline.min(Instant::now() + PAUSE);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            // Errors reach the context; the consumer itself has no assignment and so no records.
            let _ = self.client.poll(left);
            if left.is_zero() {
                return;
            }
        }
    }

    fn metadata(
        &self,
        topic: &str,
        started: Instant,
        deadline: Instant,
    ) -> Result<Metadata, TopicError> {
        let mut wait = FIRST_WAIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let error = match self.client.fetch_metadata(Some(topic), wait.min(left)) {
                Ok(metadata) => {
                    let has_controller = has_controller(&self.client, &metadata);
                    self.has_controller.set(has_controller);
                    return Ok(metadata);
                }
                Err(error) => error,
            };
            self.pause(deadline);
            let last_error = self.client.context();
            if last_error.refused() {
                let cause = last_error.text().unwrap_or_else(|| reason(&error));
                return Err(TopicError::Refused {
                    bootstrap_servers: self.bootstrap_servers.clone(),
                    cause,
                });
            }
            if Instant::now() >= deadline {
                return Err(TopicError::Unreachable {
                    bootstrap_servers: self.bootstrap_servers.clone(),
                    waited: deadline.duration_since(started),
                    cause: last_error.text().unwrap_or_else(|| reason(&error)),
                });
            }
            wait *= 2;
        }
    }
}

/// No answer about permissions is no reason not to start, so not all the time is spent on it.
fn answer_within(deadline: Instant) -> Duration {
    deadline
        .saturating_duration_since(Instant::now())
        .min(PERMISSIONS_TIMEOUT)
}

/// An error's text without rdkafka's frame around it.
fn reason(error: &KafkaError) -> String {
    error
        .rdkafka_error_code()
        .map_or_else(|| error.to_string(), |code| code.to_string())
}
