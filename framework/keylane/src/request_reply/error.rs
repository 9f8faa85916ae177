//! What can go wrong with a question.

use std::time::Duration;

use crate::error::{EnqueueError, TaskProducerError};
use crate::kafka::config::ClientConfigError;
use crate::support::error_text::debug_is_display;

/// Why a requester could not start. Its `Debug` is its sentence, for a `main` that returns it.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum RequesterError {
    /// The producer of the questions could not start.
    #[error("the producer of questions: {0}")]
    Questions(#[from] TaskProducerError),
    /// A setting of the Kafka client cannot be used.
    #[error(transparent)]
    Kafka(#[from] ClientConfigError),
    /// A setting of the requester is out of its range.
    #[error("invalid {setting}: {reason}")]
    Invalid {
        /// The builder's method.
        setting: &'static str,
        /// What is wrong, and what is allowed.
        reason: String,
    },
    /// The answer topic cannot be read.
    #[error("the answers of {topic} cannot be read: {reason}")]
    Answers {
        /// The topic.
        topic: String,
        /// The client's or the broker's reason.
        reason: String,
    },
}

debug_is_display!(RequesterError);

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// Too many questions wait for their answers. It was not asked.
    #[error("{limit} questions wait for their answers; raise max_waiting, or ask fewer at once")]
    TooManyWaiting {
        /// The limit.
        limit: usize,
    },
    /// The question was not enqueued.
    #[error("the question was not asked: {0}")]
    NotAsked(#[from] EnqueueError),
    /// No answer came in time. **The question may have been processed, or may be later.**
    #[error("no answer within {waited:?}")]
    NoAnswer {
        /// How long it was waited for.
        waited: Duration,
    },
    /// The requester no longer reads answers: its thread has ended. Start another one.
    #[error("the requester no longer reads answers; start another one")]
    Ended,
}
