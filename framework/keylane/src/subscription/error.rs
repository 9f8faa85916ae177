//! What can go wrong at start-up, and when a partition is named that is not there.

use keylane_core::ActRefused;

use crate::config::ConfigError;
use crate::kafka::config::ClientConfigError;
use crate::kafka::topics::TopicError;
use crate::status::SubscriptionError;
use crate::support::error_text::debug_is_display;

/// Why a subscription did not start. Its `Debug` is its sentence, for a `main` that returns it.
///
/// # Examples
/// ```
/// use keylane::error::StartError;
/// use keylane::{Json, Subscription, Task, TaskError};
///
/// async fn start() -> Result<Subscription, StartError> {
///     let processor = async |_: Task<String>| Ok::<(), TaskError>(());
///     // The error names the setting, the topic or the permission.
///     Subscription::builder("parking-notifier", "parking-events")
///         .start(Json, processor)
///         .await
///         .inspect_err(|error| eprintln!("{error}"))
/// }
/// # let _ = start;
/// ```
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting that cannot work.
    #[error("invalid setting: {0}")]
    Config(#[from] ConfigError),
    /// A client setting that is unknown, or that keylane owns.
    #[error("invalid client setting: {0}")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The brokers cannot be reached, or a topic is missing or wrong.
    #[error("{0}")]
    Topics(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The Kafka client could not be created.
    #[error("cannot create the kafka client: {0}")]
    Create(String),
    /// The member did not join its group, and
    /// [`wait_for_membership`](crate::SubscriptionConfig::wait_for_membership) is set. It has left,
    /// or could not within 10 s; a static member stays until its session has ended.
    #[error("did not join consumer group `{group}`: {reason}")]
    NotJoined {
        /// The consumer group.
        group: String,
        /// What the group refuses and what to set, or what is missing at the time-out.
        reason: String,
    },
    /// The subscription ended before it joined its group, and
    /// [`wait_for_membership`](crate::SubscriptionConfig::wait_for_membership) is set.
    #[error("ended before it joined its consumer group: {0}")]
    Ended(#[source] SubscriptionError),
    /// `start` was called outside a tokio runtime.
    #[error("start must be called from within a tokio runtime: {0}")]
    NoRuntime(String),
}

debug_is_display!(StartError);

impl From<ClientConfigError> for StartError {
    fn from(error: ClientConfigError) -> Self {
        Self::Client(error.into())
    }
}

impl From<TopicError> for StartError {
    fn from(error: TopicError) -> Self {
        Self::Topics(error.into())
    }
}

/// The partition to pause or resume is not, or no longer, assigned to this member.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{topic}-{partition} is not assigned to this member: use the handle of the member that has it"
)]
#[non_exhaustive]
pub struct PartitionNotAssigned {
    /// The topic that was named.
    pub topic: String,
    /// The partition that was named.
    pub partition: i32,
}

/// Why an operator's act on a key or a record is refused. Nothing has changed, but for
/// [`TooMany`](Self::TooMany) of an act on a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ActError {
    /// The partition is not, or no longer, assigned to this member.
    #[error("{0}")]
    PartitionNotAssigned(#[from] PartitionNotAssigned),
    /// No partition is assigned to this member, or none of the topic.
    #[error("no such partition is assigned to this member")]
    NothingAssigned,
    /// The offset is settled, or has no record.
    #[error("{topic}-{partition}@{offset} is settled already, or there is no such record")]
    AlreadySettled {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset.
        offset: i64,
    },
    /// This member has not read the record yet.
    #[error("{topic}-{partition}@{offset} was not read yet")]
    NotRead {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset.
        offset: i64,
    },
    /// The record is being written to the retry or dead-letter topic.
    #[error("{topic}-{partition}@{offset} is being written to the retry or dead-letter topic")]
    BeingWritten {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset.
        offset: i64,
    },
    /// The subscription has no dead-letter topic.
    #[error("there is no dead-letter topic: configure one")]
    NoDeadLetterTopic,
    /// Too many acts wait for the owners of partitions, or too many orders are in force there. An act
    /// on a key is carried out in the others.
    #[error(
        "too many acts wait, or too many orders are in force, in {refused} partitions; it is done in {done} others"
    )]
    TooMany {
        /// The number of partitions in which it is done.
        done: usize,
        /// The number of partitions in which it is not.
        refused: usize,
    },
}

impl ActError {
    /// Of a record's partition, or of one of a key's.
    pub(crate) const fn too_many() -> Self {
        Self::TooMany {
            done: 0,
            refused: 1,
        }
    }

    pub(crate) fn of(refused: ActRefused, topic: &str, partition: i32, offset: i64) -> Self {
        let topic = topic.to_owned();
        match refused {
            ActRefused::AlreadySettled => Self::AlreadySettled {
                topic,
                partition,
                offset,
            },
            ActRefused::NotDelivered => Self::NotRead {
                topic,
                partition,
                offset,
            },
            ActRefused::BeingWritten => Self::BeingWritten {
                topic,
                partition,
                offset,
            },
            ActRefused::NoDeadLetterTopic => Self::NoDeadLetterTopic,
            ActRefused::Draining => PartitionNotAssigned { topic, partition }.into(),
            _ => Self::too_many(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::TaskProducerError;
    use crate::topics::CreateTopicsError;

    #[test]
    fn a_main_that_returns_an_error_shows_its_sentence() {
        let unreachable = TopicError::Unreachable {
            bootstrap_servers: "localhost:9092".to_owned(),
            waited: Duration::from_secs(10),
            cause: "Connection refused".to_owned(),
        };
        let start = format!("{:?}", StartError::from(unreachable));
        assert!(
            start.starts_with("no broker of `localhost:9092` answered within 10s"),
            "{start}"
        );
        let errors: [Box<dyn std::error::Error>; 3] = [
            Box::new(SubscriptionError::CloseTimedOut(Duration::from_secs(60))),
            Box::new(TaskProducerError::MissingTopic {
                topic: "t".to_owned(),
            }),
            Box::new(CreateTopicsError::TooManyTopics { count: 1_001 }),
        ];
        for error in errors {
            assert_eq!(format!("{error:?}"), error.to_string());
        }
    }
}
