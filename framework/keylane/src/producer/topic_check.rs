//! Whether the brokers answer, and the topics are there and may be written to.

use std::time::{Duration, Instant};

use super::TaskProducerError;
use crate::kafka::Operation;
use crate::kafka::config::{ClientConfigError, ClientSettings};
use crate::kafka::topics::{Cluster, Lookup, NamedTopic, TopicError, TopicRole};

/// Queries the topics, on a thread for blocking work.
///
/// A consumer sends the request: a producer's own could create the topic.
///
/// # Errors
/// See [`TaskProducerError`].
pub(super) async fn check(
    config: ClientSettings,
    topics: Vec<String>,
    within: Duration,
) -> Result<(), TaskProducerError> {
    let asked = tokio::task::spawn_blocking(move || ask(&config, &topics, within)).await;
    asked.unwrap_or_else(|error| {
        Err(TaskProducerError::TopicUnusable {
            topic: String::new(),
            reason: format!("the check failed: {error}"),
        })
    })
}

fn ask(
    config: &ClientSettings,
    topics: &[String],
    within: Duration,
) -> Result<(), TaskProducerError> {
    let started = Instant::now();
    let deadline = started + within;
    let forbidden = |topic: &str| TaskProducerError::Forbidden {
        topic: topic.to_owned(),
    };
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    let cluster = Cluster::new(config).map_err(|error| own_error(error, &names.join(", ")))?;
    for topic in &names {
        let named = NamedTopic {
            role: TopicRole::Origin,
            name: (*topic).to_owned(),
        };
        match cluster
            .look_up(&named, started, deadline)
            .map_err(|error| own_error(error, topic))?
        {
            Lookup::Found { .. } => {}
            Lookup::Missing => {
                return Err(TaskProducerError::MissingTopic {
                    topic: (*topic).to_owned(),
                });
            }
            Lookup::Forbidden => return Err(forbidden(topic)),
        }
    }
    let allowed = cluster.allowed_on(&names, deadline);
    let may_not_write = |topic: &&&str| {
        let allowed = allowed.get(**topic);
        allowed.is_some_and(|allowed| allowed.forbids(Operation::Write))
    };
    match names.iter().find(may_not_write) {
        Some(topic) => Err(forbidden(topic)),
        None => Ok(()),
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
