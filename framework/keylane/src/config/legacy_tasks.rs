//! Tasks in the format of Decaton's older clients.

use serde::{Deserialize, Serialize};

/// Whether tasks may be in the format of Decaton's clients before version 9: the value is a
/// protobuf wrapper, `DecatonTaskRequest`, of the task's metadata and the task itself, and there is
/// no `dt_meta` header.
///
/// Nothing marks such a record. So this is a setting of the subscription, as
/// `decaton.legacy.parse.fallback.enabled` is one of Decaton's.
///
/// # Which records are unwrapped
/// A record without a `dt_meta` header is unwrapped if the whole value reads as the wrapper: its
/// fields 1 (the metadata) and 2 (the task) and no others, and Decaton's five fields of metadata and
/// no others. Any other value goes to the decoder as it is, so a topic may hold plain records too.
/// A tombstone stays one. A protobuf message of another schema can read as the wrapper by chance:
/// do not set this for a topic that holds such messages without `dt_meta`.
///
/// The decoder and [`Record::value`](crate::record::Record::value) then have the task alone, and
/// [`Task::metadata`](crate::Task::metadata) has the wrapper's metadata. Its not-before time and
/// its retry count have the effect of those in a header.
///
/// # What is written
/// A *retry* has the task alone as its value, and complete metadata in a `dt_meta` header, which
/// Decaton reads from version 9.0 on; with [`Write`](Self::Write) it is a wrapper again. A *dead
/// letter* has value and headers as they came, if the task was never retried through a topic. If it
/// was, it has the task alone and a `dt_meta`.
///
/// # Examples
/// ```
/// use keylane::config::LegacyTasks;
/// use keylane::{Retry, Subscription};
///
/// let builder = Subscription::builder("parking-notifier", "parking-events")
///     .retry(Retry::default().then_topic())
///     .legacy_tasks(LegacyTasks::Read);
/// # let _ = builder;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LegacyTasks {
    /// Nothing is unwrapped.
    #[default]
    Off,
    /// Wrapped tasks are unwrapped.
    Read,
    /// Wrapped tasks are unwrapped, and retries are written wrapped, without a `dt_meta` header:
    /// for a retry topic that a Decaton before version 9 reads too. A retry of a tombstone keeps the
    /// header, because a wrapper cannot be null.
    ///
    /// Set it when all members of the group have [`Read`](Self::Read): one that has neither takes a
    /// wrapped retry for the task itself.
    ///
    /// [`TaskFormat::Legacy`](crate::producer::TaskFormat::Legacy) is the same for a
    /// [`TaskProducer`](crate::TaskProducer).
    Write,
}
