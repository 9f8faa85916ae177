//! Records that are given up: why, and what happens to them.

use serde::{Deserialize, Serialize};

/// Why a record is given up: the word that its dead letter has in `keylane-reason`.
///
/// # Examples
/// ```
/// use keylane::config::{Exhausted, FailureReason};
/// use keylane::Retry;
///
/// let retry = Retry::default()
///     .on(FailureReason::Undecodable, Exhausted::Park)
///     .on(FailureReason::Panic, Exhausted::Stop);
/// # let _ = retry;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureReason {
    /// Its value cannot be decoded.
    Undecodable,
    /// The processor answered [`fatal`](crate::TaskError::fatal).
    Fatal,
    /// It is out of retries, and the last attempt panicked.
    Panic,
    /// It is out of retries, and the last attempt took too long.
    Timeout,
    /// It is out of retries, and the last attempt failed in another way.
    Exhausted,
}

impl FailureReason {
    pub(in crate::config) const fn as_str(self) -> &'static str {
        match self {
            Self::Undecodable => "undecodable",
            Self::Fatal => "fatal",
            Self::Panic => "panic",
            Self::Timeout => "timeout",
            Self::Exhausted => "exhausted",
        }
    }

    pub(in crate::config) const fn is_out_of_retries(self) -> bool {
        matches!(self, Self::Panic | Self::Timeout | Self::Exhausted)
    }
}

/// What happens to a record that is given up: its retries have failed, or a failure is fatal.
///
/// # Examples
/// ```
/// use keylane::config::Exhausted;
/// use keylane::Retry;
///
/// let retry = Retry::in_place(5).exhausted(Exhausted::Park);
/// # let _ = retry;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Exhausted {
    /// Write it to the dead-letter topic. Without such a topic it is retried in place without end,
    /// at the capped back-off; an undecodable record is parked. keylane never drops a record.
    #[default]
    DeadLetter,
    /// Hold the record and its lane, unsettled, without using a worker. It is tried again after a
    /// restart or rebalance.
    Park,
    /// Stop the subscription: `run` returns the error, the record stays unsettled.
    Stop,
}
