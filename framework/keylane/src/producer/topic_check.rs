//! Whether the brokers answer, and the topic is there and may be written to.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;

use super::TaskProducerError;
use crate::kafka::Operation;
use crate::kafka::config::ClientConfigError;
use crate::kafka::topics::{Cluster, Lookup, NamedTopic, Role, TopicError};

/// Queries the topic, on a thread for blocking work.
///
/// A consumer sends the request: a producer's own could create the topic.
///
/// # Errors
/// See [`TaskProducerError`].
pub(super) async fn check(
    config: ClientConfig,
    topic: &str,
    within: Duration,
) -> Result<(), TaskProducerError> {
    let topic = topic.to_owned();
    let asked = tokio::task::spawn_blocking(move || ask(&config, &topic, within)).await;
    asked.unwrap_or_else(|error| {
        Err(TaskProducerError::TopicUnusable {
            topic: String::new(),
            reason: format!("the check failed: {error}"),
        })
    })
}

fn ask(config: &ClientConfig, topic: &str, within: Duration) -> Result<(), TaskProducerError> {
    let started = Instant::now();
    let deadline = started + within;
    let forbidden = || TaskProducerError::Forbidden {
        topic: topic.to_owned(),
    };
    let cluster = Cluster::new(config).map_err(|error| own_error(error, topic))?;
    let named = NamedTopic {
        role: Role::Origin,
        name: topic.to_owned(),
    };
    match cluster
        .look_up(&named, started, deadline)
        .map_err(|error| own_error(error, topic))?
    {
        Lookup::Found { .. } => {}
        Lookup::Missing => {
            return Err(TaskProducerError::MissingTopic {
                topic: topic.to_owned(),
            });
        }
        Lookup::Forbidden => return Err(forbidden()),
    }
    match cluster.allowed_on(&[topic], deadline).get(topic) {
        Some(allowed) if allowed.forbids(Operation::Write) => Err(forbidden()),
        _ => Ok(()),
    }
}

fn own_error(error: TopicError, topic: &str) -> TaskProducerError {
    match error {
        TopicError::Unreachable {
            bootstrap_servers,
            waited,
            cause,
        } => TaskProducerError::Unreachable {
            bootstrap_servers,
            waited,
            reason: cause,
        },
        TopicError::Refused {
            bootstrap_servers,
            cause,
        } => TaskProducerError::Refused {
            bootstrap_servers,
            reason: cause,
        },
        TopicError::Settings { reason } => ClientConfigError::Refused { reason }.into(),
        TopicError::Unreadable { cause, .. } => TaskProducerError::TopicUnusable {
            topic: topic.to_owned(),
            reason: cause,
        },
        other => TaskProducerError::TopicUnusable {
            topic: topic.to_owned(),
            reason: other.to_string(),
        },
    }
}
