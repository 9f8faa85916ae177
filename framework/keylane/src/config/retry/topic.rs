//! The retry topic.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Backoff, DEFAULT_ROUNDS};

/// A retry topic.
///
/// # Examples
/// ```
/// use keylane::Retry;
///
/// let file = r#"{ "topic": { "name": "parking-notifier-retry" } }"#;
/// let retry: Retry = serde_json::from_str(file)?;
/// assert_eq!(retry.topic.map(|topic| topic.rounds), Some(10));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct RetryTopic {
    /// The topic's name (default `<origin>-retry`; required where a subscription has several
    /// origins). It must exist.
    pub name: Option<String>,
    /// How many rounds a record makes through the topic before it is exhausted (default 10), by
    /// count. By [time](super::Retry::for_at_least) there is no such limit, and another number than 10 is
    /// refused.
    pub rounds: u32,
    /// The delay of each round (default 10 s doubling to 10 min, ±20 %).
    ///
    /// Records not yet due wait in memory and count as pending (see
    /// [`Limits`](crate::config::Limits)).
    pub backoff: Backoff,
    /// What happens to retries of other groups that use the same topic (default:
    /// [`ForeignRetries::Settle`]).
    pub foreign: ForeignRetries,
    /// Groups whose retries are processed like this group's own (default none); 100 at most. See
    /// [`Retry::adopt`](super::Retry::adopt).
    pub adopt: Vec<String>,
    /// Whether the headers by which Spring Kafka retries are read (default no).
    pub spring_headers: SpringHeaders,
}

impl Default for RetryTopic {
    fn default() -> Self {
        Self {
            name: None,
            rounds: DEFAULT_ROUNDS,
            backoff: Backoff::exponential(Duration::from_secs(10), Duration::from_secs(600)),
            foreign: ForeignRetries::default(),
            adopt: Vec::new(),
            spring_headers: SpringHeaders::default(),
        }
    }
}

/// Whether the headers by which Spring Kafka's `@RetryableTopic` retries are read in the retry topic.
///
/// `retry_topic-backoff-timestamp` is the time before which the record is not tried, and
/// `retry_topic-attempts` the number of the next attempt. They count if that time lies behind the
/// due time in keylane's own headers and in `dt_meta`. keylane does not write them. A Spring consumer
/// on keylane's retry topic therefore ignores due times, and counts attempts from 1.
///
/// Spring reads its retry topic in a group of its own, `<group>-retry`. keylane reads it in the
/// subscription's group, and so begins that topic where that group has no offset: at its beginning,
/// by default.
///
/// # Examples
/// ```
/// use keylane::Retry;
/// use keylane::config::SpringHeaders;
///
/// let retry = Retry::default().then_topic().spring_headers(SpringHeaders::Read);
/// # let _ = retry;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SpringHeaders {
    /// They are kept, and have no effect.
    #[default]
    Ignore,
    /// They are kept and read.
    Read,
}

/// What happens to a record of the retry topic that another consumer group wrote.
///
/// Groups that read the same origin topic have the same retry topic by default, and each of them
/// reads every retry in it. A retry topic for each group ([`Retry::then_topic_named`](super::Retry::then_topic_named)) is cheaper:
/// then there are no foreign records to leave out.
///
/// A record is another group's if its header `keylane-group` names one, in 1 to 255 bytes without
/// control characters: keylane writes no other names. It is still processed here if another
/// program, such as Decaton, has requeued it since.
///
/// # Examples
/// ```
/// use keylane::config::ForeignRetries;
/// use keylane::Retry;
///
/// let retry = Retry::default().then_topic().foreign(ForeignRetries::Hold);
/// # let _ = retry;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ForeignRetries {
    /// Leaves the record to the group that wrote it, if that group is alive: the record is settled
    /// here as *foreign*, which is counted and logged. A group is alive if it has members or has
    /// committed offsets of this retry topic.
    ///
    /// If the group is gone, or the brokers do not answer, the record is *held*. It stays unsettled
    /// and takes no worker, and the commit waits for it. It keeps no other record waiting until the
    /// [limits](crate::config::Limits) are reached. [`SubscriptionStatus::trouble`] then states
    /// what to do. The group is queried again every 30 seconds.
    ///
    /// [`SubscriptionStatus::trouble`]: crate::status::SubscriptionStatus::trouble
    #[default]
    Settle,
    /// Holds the record, whether or not its group is alive.
    Hold,
    /// Processes the record, as if this group had written it. With several groups that fail, the
    /// copies of one record multiply with each round.
    Process,
}
