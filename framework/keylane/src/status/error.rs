//! What ends a running subscription.

use std::time::Duration;

use crate::support::error_text::debug_is_display;

/// Why a running subscription ended (guarantee G9). Its `Debug` is its sentence, for a `main` that
/// returns it.
///
/// # Examples
/// ```
/// use keylane::error::SubscriptionError;
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
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SubscriptionError {
    /// A record failed for good and the policy is
    /// [`Exhausted::Stop`](crate::config::Exhausted::Stop).
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
    /// The group's coordinator will not accept a client setting, however long it is tried.
    #[error(
        "the group's coordinator does not accept the kafka setting {setting}={value}: {reason}"
    )]
    SettingRefused {
        /// The setting.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What limits it.
        reason: &'static str,
    },
    /// With `auto.offset.reset=error`: the committed offset is not in the log, or belongs to a log
    /// that was cut below it, or to a topic that was deleted and re-created.
    #[error("no valid offset to start from: {0}")]
    OffsetReset(String),
    /// Closing took longer than the deadline allows, or than a minute. The group may keep the
    /// member until its session times out. The client's threads and connections may stay until the
    /// process ends.
    #[error("the consumer did not close within {0:?}")]
    CloseTimedOut(Duration),
    /// A thread or a task of the subscription panicked, which is a defect of keylane, or the tokio
    /// runtime was shut down before the subscription. The text states which.
    #[error("the subscription broke down: {0}")]
    Internal(String),
}

debug_is_display!(SubscriptionError);
