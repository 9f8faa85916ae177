//! What can go wrong at start-up, and what ends a running subscription.

use std::time::Duration;

use crate::ConfigError;
use crate::kafka::config::ClientConfigError;
use crate::kafka::topics::TopicError;

/// Why a subscription did not start.
///
/// # Examples
/// ```
/// use keylane::{Json, StartError, Subscription, Task, TaskError};
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
#[derive(Debug, thiserror::Error)]
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
    /// `start` was called outside a tokio runtime.
    #[error("start must be called from within a tokio runtime: {0}")]
    NoRuntime(String),
}

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

/// Why a running subscription ended (guarantee G9).
///
/// # Examples
/// ```
/// use keylane::SubscriptionError;
///
/// fn exit_code(ended: Result<(), SubscriptionError>) -> u8 {
///     match ended {
///         Ok(()) => 0,
///         Err(SubscriptionError::CloseTimedOut(_)) => 0, // what is settled was committed before
///         Err(error) => {
///             eprintln!("{error}");
///             1
///         }
///     }
/// }
/// # assert_eq!(exit_code(Ok(())), 0);
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubscriptionError {
    /// A record failed for good and the policy is [`Exhausted::Stop`](crate::Exhausted::Stop).
    #[error(
        "stopped by the retry policy: {topic}-{partition} at offset {offset} failed for good ({reason})"
    )]
    RetriesExhausted {
        /// The topic the record was read from.
        topic: String,
        /// Its partition.
        partition: i32,
        /// Its offset; it is not committed.
        offset: i64,
        /// Why it ended: `exhausted`, `fatal`, `undecodable`, `panic`, `timeout` or `poison`.
        reason: &'static str,
    },
    /// The Kafka client reported a fatal error.
    #[error("fatal error of the kafka client: {0}")]
    Fatal(String),
    /// The committed offset is not in the log, or about a log that was cut below it, or about a
    /// topic that was deleted and made anew, and `auto.offset.reset=error`.
    #[error("no valid offset to start from: {0}")]
    OffsetReset(String),
    /// Closing took longer than the deadline allows, or than a minute; the member may be left to
    /// its session time-out, and the client's threads and connections may stay until the process
    /// ends.
    #[error("the consumer did not close within {0:?}")]
    CloseTimedOut(Duration),
    /// A thread or a task of the subscription panicked, which is a defect of keylane, or the tokio
    /// runtime was shut down under the subscription. The text says which.
    #[error("the subscription broke down: {0}")]
    Internal(String),
}

/// A partition that this member does not have (any more) was to be paused or resumed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{topic}-{partition} is not assigned to this member: ask the one that has it")]
#[non_exhaustive]
pub struct PartitionNotAssigned {
    /// The topic that was named.
    pub topic: String,
    /// The partition that was named.
    pub partition: i32,
}
