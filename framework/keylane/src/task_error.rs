//! What a processor answers when an attempt failed.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::error_text;

/// Why an attempt failed, and what shall become of the record.
///
/// Every error converts into a *retryable* one with `?`, so the retry policy decides; the constructors say otherwise.
///
/// | made by | what happens |
/// |---|---|
/// | `?`, [`retryable`](Self::retryable) | retried by the policy of the subscription |
/// | [`retry_after`](Self::retry_after) | the same, with the delay chosen here (HTTP 429, 503) |
/// | [`fatal`](Self::fatal) | no further attempt: dead-lettered (or parked, or the subscription stops, as configured) |
/// | [`skip`](Self::skip) | settled as *skipped*, and counted |
///
/// # Examples
/// ```
/// use keylane::TaskError;
/// use std::time::Duration;
///
/// fn classify(status: u16, retry_after: Duration) -> Result<(), TaskError> {
///     match status {
///         200..=299 => Ok(()),
///         404 => Err(TaskError::skip("the device is gone")),
///         429 | 503 => Err(TaskError::retry_after("the gateway is busy", retry_after)),
///         400..=499 => Err(TaskError::fatal(format!("refused with {status}"))),
///         _ => Err(TaskError::retryable(format!("answered {status}"))),
///     }
/// }
/// # assert!(classify(500, Duration::ZERO).is_err());
/// ```
pub struct TaskError {
    pub(crate) disposition: Disposition,
    source: Box<dyn Error + Send + Sync>,
}

/// What the processor asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disposition {
    Retry,
    RetryAfter(Duration),
    Fatal,
    Skip,
}

impl TaskError {
    /// A failure that may pass: retried by the policy.
    pub fn retryable(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(Disposition::Retry, error)
    }

    /// A failure that asks for its own delay instead of the policy's back-off.
    ///
    /// The attempt counts as any other. A delay is at least 10 ms and at most one day.
    pub fn retry_after(error: impl Into<Box<dyn Error + Send + Sync>>, delay: Duration) -> Self {
        Self::new(Disposition::RetryAfter(delay), error)
    }

    /// A failure that no retry will mend.
    pub fn fatal(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(Disposition::Fatal, error)
    }

    /// Nothing to do for this record: settle it as skipped.
    pub fn skip(reason: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(Disposition::Skip, reason)
    }

    fn new(disposition: Disposition, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { disposition, source: error.into() }
    }

    /// The error with its causes, outermost first, separated by `: `; bounded, see [`error_text`].
    pub(crate) fn chain(&self) -> String {
        error_text::chain(&*self.source)
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for TaskError {
    fn from(error: E) -> Self {
        Self::retryable(error)
    }
}

// `TaskError` does not implement `Error`: the blanket `From` above needs that, and `?` is what users write.
/// The error without its causes; a text beyond 4 KiB is cut.
impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&error_text::text(&self.source))
    }
}

impl fmt::Debug for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskError").field("disposition", &self.disposition).field("source", &self.source).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_error_becomes_retryable() {
        let error: TaskError = std::io::Error::other("down").into();
        assert_eq!(error.disposition, Disposition::Retry);
        assert_eq!(error.to_string(), "down");
    }

    #[test]
    fn the_chain_names_every_source() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] std::io::Error);
        let error: TaskError = Outer(std::io::Error::other("inner")).into();
        assert_eq!(error.chain(), "outer: inner");
    }
}
