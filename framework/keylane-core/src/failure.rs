//! How an attempt fails, and the word for why a record ends.

use std::fmt;
use std::time::Duration;

/// How an attempt failed.
///
/// # Examples
/// ```
/// use keylane_core::{Failure, Reason};
///
/// assert_eq!(Failure::TimedOut.reason(), Reason::TimedOut);
/// assert_eq!(Failure::Unavailable { retry_after: None }.reason(), Reason::Exhausted);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It may work the next time.
    Retryable,
    /// It may work after this long, which replaces the back-off's delay; at most
    /// [`MAX_RETRY_AFTER`].
    RetryAfter(Duration),
    /// Something it depends on is not available. It burns neither retries nor retry time, and never
    /// gives the record up.
    Unavailable {
        /// How long to wait instead of the back-off's delay; at most [`MAX_RETRY_AFTER`].
        retry_after: Option<Duration>,
    },
    /// It will never work: no retry.
    Fatal,
    /// The record cannot be decoded: no retry.
    Undecodable,
    /// The processor panicked; retried like any failure.
    Panicked,
    /// The attempt took too long; retried like any failure.
    TimedOut,
}

/// The shortest delay an attempt may set: a processor that sets none must not keep a core busy with
/// one record.
pub const MIN_RETRY_AFTER: Duration = Duration::from_millis(10);

/// The longest delay an attempt may ask for with [`Failure::RetryAfter`]; longer ones are cut to
/// it.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

impl Failure {
    /// Why a record ends whose last attempt failed like this.
    pub const fn reason(self) -> Reason {
        match self {
            Self::Retryable | Self::RetryAfter(_) | Self::Unavailable { .. } => Reason::Exhausted,
            Self::Fatal => Reason::Fatal,
            Self::Undecodable => Reason::Undecodable,
            Self::Panicked => Reason::Panicked,
            Self::TimedOut => Reason::TimedOut,
        }
    }

    pub(crate) const fn is_retryable(self) -> bool {
        !matches!(self, Self::Fatal | Self::Undecodable)
    }

    /// The delay that the attempt set, if any.
    pub(crate) fn retry_after(self) -> Option<Duration> {
        match self {
            Self::RetryAfter(delay)
            | Self::Unavailable {
                retry_after: Some(delay),
            } => Some(delay.clamp(MIN_RETRY_AFTER, MAX_RETRY_AFTER)),
            _ => None,
        }
    }
}

/// Why a record ends without success. Ends up in headers and labels as [`as_str`](Self::as_str).
///
/// # Examples
/// ```
/// use keylane_core::Reason;
///
/// assert_eq!(Reason::Panicked.as_str(), "panic");
/// assert!(Reason::Panicked.may_be_an_outage() && !Reason::Poison.may_be_an_outage());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// It failed and its retries are used up.
    Exhausted,
    /// It failed for good.
    Fatal,
    /// It could not be decoded.
    Undecodable,
    /// Its retries are used up and the last attempt panicked.
    Panicked,
    /// Its retries are used up and the last attempt took too long.
    TimedOut,
    /// It has ended the process again and again.
    Poison,
    /// It held up its partition.
    Blocker,
    /// An operator ordered it.
    Operator,
}

impl Reason {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 8] = [
        Self::Exhausted,
        Self::Fatal,
        Self::Undecodable,
        Self::Panicked,
        Self::TimedOut,
        Self::Poison,
        Self::Blocker,
        Self::Operator,
    ];

    /// The word for headers and labels: `exhausted`, `fatal`, `undecodable`, `panic`, `timeout`,
    /// `poison`, `blocker` or `operator`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exhausted => "exhausted",
            Self::Fatal => "fatal",
            Self::Undecodable => "undecodable",
            Self::Panicked => "panic",
            Self::TimedOut => "timeout",
            Self::Poison => "poison",
            Self::Blocker => "blocker",
            Self::Operator => "operator",
        }
    }

    /// Whether an outage may be at fault rather than the record.
    pub const fn may_be_an_outage(self) -> bool {
        matches!(
            self,
            Self::Exhausted | Self::Panicked | Self::TimedOut | Self::Blocker
        )
    }

    /// Whether a deployment that cannot process the records may be at fault rather than the record.
    pub const fn may_be_a_bad_deployment(self) -> bool {
        matches!(self, Self::Fatal | Self::Undecodable | Self::Panicked)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// They are in the headers of dead letters and in metrics: a changed word breaks alerts.
    #[test]
    fn the_words_for_reasons_do_not_change() {
        assert!(
            Reason::ALL
                .into_iter()
                .enumerate()
                .all(|(at, reason)| reason as usize == at)
        );
        let failures = [
            Failure::Retryable,
            Failure::Fatal,
            Failure::Undecodable,
            Failure::Panicked,
            Failure::TimedOut,
        ];
        let words = failures.map(|failure| failure.reason().to_string());
        assert_eq!(
            words,
            ["exhausted", "fatal", "undecodable", "panic", "timeout"]
        );
        assert_eq!(
            Failure::RetryAfter(Duration::ZERO).reason(),
            Reason::Exhausted
        );
        assert_eq!(Reason::Poison.to_string(), "poison");
        assert!(!Reason::Poison.may_be_an_outage());
        assert_eq!(Reason::Blocker.to_string(), "blocker");
        assert_eq!(Reason::Operator.to_string(), "operator");
        assert!(
            !Reason::Operator.may_be_an_outage() && !Reason::Operator.may_be_a_bad_deployment()
        );
    }

    #[test]
    fn only_fatal_and_undecodable_failures_are_not_retried() {
        assert!(!Failure::Fatal.is_retryable() && !Failure::Undecodable.is_retryable());
        let retried = [
            Failure::Retryable,
            Failure::RetryAfter(Duration::MAX),
            Failure::Panicked,
            Failure::TimedOut,
        ];
        assert!(retried.into_iter().all(Failure::is_retryable));
        assert_eq!(
            Failure::RetryAfter(Duration::MAX).retry_after(),
            Some(MAX_RETRY_AFTER)
        );
    }
}
