//! How an attempt ended.

use keylane_core::Failure;

use crate::metrics::AttemptResult;
use crate::processing::{Cause, TaskErrorKind};
use crate::support::error_text;
use crate::{Success, TaskError};

/// How an attempt ended.
pub(crate) enum AttemptOutcome {
    Done,
    Skipped {
        reason: String,
    },
    Failed {
        failure: Failure,
        error: String,
        cause: Cause,
    },
}

impl AttemptOutcome {
    pub(crate) fn label(&self) -> AttemptResult {
        match self {
            Self::Done => AttemptResult::Ok,
            Self::Skipped { .. } => AttemptResult::Skip,
            Self::Failed { failure, .. } => match failure {
                Failure::Fatal => AttemptResult::Fatal,
                Failure::Undecodable => AttemptResult::Undecodable,
                Failure::Panicked => AttemptResult::Panic,
                Failure::TimedOut => AttemptResult::Timeout,
                _ => AttemptResult::Error,
            },
        }
    }

    /// The error's text, or the reason of a skip.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Done => None,
            Self::Skipped { reason: text } | Self::Failed { error: text, .. } => Some(text),
        }
    }

    pub(crate) fn of(answer: Result<impl Into<Success>, TaskError>) -> Self {
        let error = match answer.map(Into::into) {
            Ok(Success::Done) => return Self::Done,
            Ok(Success::Skipped { reason }) => {
                return Self::Skipped {
                    reason: error_text::text(reason),
                };
            }
            Err(error) => error,
        };
        let failure = match (error.kind(), error.delay()) {
            (TaskErrorKind::Fatal, _) => Failure::Fatal,
            (TaskErrorKind::Unavailable, retry_after) => Failure::Unavailable { retry_after },
            (TaskErrorKind::Retryable, None) if error.is_timeout() => Failure::TimedOut,
            (TaskErrorKind::Retryable, None) => Failure::Retryable,
            (TaskErrorKind::Retryable, Some(delay)) => Failure::RetryAfter(delay),
        };
        Self::Failed {
            failure,
            error: error.chain(),
            cause: error.cause,
        }
    }

    /// A failure that is not an answer of the processor: a class of its own.
    pub(crate) fn failed(failure: Failure, error: impl Into<String>) -> Self {
        Self::Failed {
            failure,
            error: error.into(),
            cause: Cause::of_class(failure.reason().as_str()),
        }
    }
}
