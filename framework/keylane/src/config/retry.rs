//! What happens after a failed attempt.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The retry policy: first in place, then through the retry topic, then [`Exhausted`].
///
/// *In place* the record waits in its lane: key order is kept, later records of the key wait, and
/// no others. *Retry topic*: the record is written to the retry topic with its due time and settled
/// here once the broker has acknowledged it. **Order is given up for that key**: later records of
/// the key go on at once.
///
/// # By time or by count?
/// [`for_at_least`](Self::for_at_least) gives a record up when it has failed for that long; it is
/// the default, with 15 minutes. [`in_place`](Self::in_place) gives it up after a number of
/// retries. Prefer time: a number of retries takes the sum of their delays, which is mostly less
/// than it seems. With the default back-off:
///
/// | retries in place | given up after |
/// |---|---|
/// | 3 | 0.7 s |
/// | 5 | 3.1 s |
/// | 7 | 12.7 s |
/// | 10 | 42.7 s |
/// | 15 | 92.7 s |
///
/// With a retry topic and its default back-off, ten rounds last 10 + 20 + 40 + 80 + 160 + 320 + 4 ×
/// 600 s. That is 50 min 30 s; the retries in place of each round come on top.
///
/// # What counts as retry time?
/// The time since the first failed attempt in which attempts were possible: back-offs, and the
/// planned delays of the retry topic. It does not count while the partition or subscription is
/// paused or stopped, while the record is held because of an [outage](crate::config::Outage), or
/// after a failure that was [unavailable](crate::TaskError::unavailable). In each delivery at least
/// three attempts are made before time alone gives a record up. The time travels through the retry
/// topic in a header. After a restart or a rebalance, the time used up in place since the record
/// was read does not count. A dead letter that is written back starts with its full retry time.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use keylane::config::Backoff;
/// use keylane::Retry;
///
/// let retry = Retry::for_at_least(Duration::from_secs(60 * 60))
///     .then_topic()
///     .topic_backoff(Backoff::exponential(Duration::from_secs(10), Duration::from_secs(600)));
/// # let _ = retry;
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, from = "super::stored_retry::Stored")]
#[non_exhaustive]
pub struct Retry {
    /// The minimum time a record is retried before it is given up (default 15 min). `None`: by
    /// count.
    ///
    /// In a settings file, `in_place` or `topic.rounds` without `for_at_least` makes the policy one
    /// by count.
    #[serde(with = "humantime_serde")]
    pub for_at_least: Option<Duration>,
    /// Retries in place per delivery (default 10), or `"forever"`. In a policy by time, this many
    /// come before the retry topic; without a retry topic it has no effect.
    pub in_place: InPlace,
    /// Back-off of retries in place (default 100 ms doubling to 10 s, ±20 %).
    pub backoff: Backoff,
    /// The retry topic (default none).
    pub topic: Option<RetryTopic>,
    /// What happens to a record that is given up (default: dead letter).
    pub exhausted: Exhausted,
    /// The same for one reason, in place of [`exhausted`](Self::exhausted) (default: for none).
    ///
    /// **An action named here is taken at once**: neither an [outage](crate::config::Outage) nor a
    /// bad deployment is suspected behind that reason, and nothing is held. An action that cannot
    /// be taken is refused at start. That is a dead letter without a dead-letter topic, and any
    /// action for records out of retries where they are retried without end.
    pub on: BTreeMap<FailureReason, Exhausted>,
}

pub(super) const DEFAULT_TIME: Duration = Duration::from_secs(15 * 60);
pub(super) const DEFAULT_IN_PLACE: InPlace = InPlace::Times(10);
pub(super) const DEFAULT_ROUNDS: u32 = 10;

impl Default for Retry {
    fn default() -> Self {
        Self {
            for_at_least: Some(DEFAULT_TIME),
            in_place: DEFAULT_IN_PLACE,
            backoff: Backoff::default(),
            topic: None,
            exhausted: Exhausted::DeadLetter,
            on: BTreeMap::new(),
        }
    }
}

impl Retry {
    /// Retries for at least this long after the first failure, and at least twice. Retries are in
    /// place, and then through the retry topic where there is [one](Self::then_topic).
    ///
    /// # Examples
    /// ```
    /// use keylane::Retry;
    /// use std::time::Duration;
    ///
    /// assert_eq!(Retry::for_at_least(Duration::from_secs(15 * 60)), Retry::default());
    /// ```
    pub fn for_at_least(time: Duration) -> Self {
        Self {
            for_at_least: Some(time),
            ..Self::default()
        }
    }

    /// Retries in place up to `times` times after the first attempt; 0 is none. For how long that
    /// is, see [above](Self#by-time-or-by-count): five retries give up after 3.1 s.
    pub fn in_place(times: u32) -> Self {
        Self {
            for_at_least: None,
            in_place: InPlace::Times(times),
            ..Self::default()
        }
    }

    /// Retries in place until it succeeds. The key's lane waits as long as that takes; nothing is
    /// ever dead-lettered for having failed too often.
    pub fn forever() -> Self {
        Self {
            for_at_least: None,
            in_place: InPlace::Forever,
            ..Self::default()
        }
    }

    /// No retry: the first failure is final.
    pub fn none() -> Self {
        Self::in_place(0)
    }

    /// How many retries in place come before the retry topic (default 10), by
    /// [time](Self::for_at_least). Has no effect without a retry topic, or by count:
    /// [`in_place`](Self::in_place) has the number then.
    ///
    /// # Examples
    /// ```
    /// use keylane::Retry;
    /// use std::time::Duration;
    ///
    /// let retry = Retry::for_at_least(Duration::from_secs(3600)).in_place_first(3).then_topic();
    /// # let _ = retry;
    /// ```
    #[must_use]
    pub fn in_place_first(mut self, times: u32) -> Self {
        if self.for_at_least.is_some() {
            self.in_place = InPlace::Times(times);
        }
        self
    }

    /// Sets the back-off of retries in place.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// After the retries in place, records go through the topic `<origin>-retry`: until the time is
    /// used up, or by count up to ten rounds. These records lose their place in the order of their
    /// key.
    #[must_use]
    pub fn then_topic(mut self) -> Self {
        self.topic = Some(RetryTopic::default());
        self
    }

    /// The same with a topic of another name: needed where a subscription has several origin
    /// topics.
    ///
    /// # Examples
    /// ```
    /// use keylane::Retry;
    ///
    /// let retry = Retry::default().then_topic_named("parking-notifier-retry");
    /// assert_eq!(retry.topic.unwrap().name.as_deref(), Some("parking-notifier-retry"));
    /// ```
    #[must_use]
    pub fn then_topic_named(mut self, name: impl Into<String>) -> Self {
        self.topic = Some(RetryTopic {
            name: Some(name.into()),
            ..RetryTopic::default()
        });
        self
    }

    /// How many rounds through the retry topic (default 10), by count. Has no effect without a
    /// retry topic; by [time](Self::for_at_least), another number than 10 is refused at start.
    #[must_use]
    pub fn topic_rounds(mut self, rounds: u32) -> Self {
        if let Some(topic) = &mut self.topic {
            topic.rounds = rounds;
        }
        self
    }

    /// The back-off between rounds (default 10 s doubling to 10 min, ±20 %). Has no effect without
    /// a retry topic.
    #[must_use]
    pub fn topic_backoff(mut self, backoff: Backoff) -> Self {
        if let Some(topic) = &mut self.topic {
            topic.backoff = backoff;
        }
        self
    }

    /// What happens to retries of other groups in the retry topic (default:
    /// [`ForeignRetries::Settle`]). Has no effect without a retry topic.
    #[must_use]
    pub fn foreign(mut self, foreign: ForeignRetries) -> Self {
        if let Some(topic) = &mut self.topic {
            topic.foreign = foreign;
        }
        self
    }

    /// Processes the retries of these groups like this group's own. Has no effect without a retry
    /// topic.
    ///
    /// For a group that was renamed: the new group adopts the old one, and so processes the retries
    /// that the old one has left. The old group must not run any longer.
    ///
    /// # Examples
    /// ```
    /// use keylane::Retry;
    ///
    /// let retry = Retry::default().then_topic().adopt(["billing-v1"]);
    /// # let _ = retry;
    /// ```
    #[must_use]
    pub fn adopt<I: IntoIterator<Item: Into<String>>>(mut self, groups: I) -> Self {
        if let Some(topic) = &mut self.topic {
            topic.adopt.extend(groups.into_iter().map(Into::into));
        }
        self
    }

    /// Whether the headers by which Spring Kafka retries are read (default no). Has no effect
    /// without a retry topic.
    #[must_use]
    pub fn spring_headers(mut self, spring_headers: SpringHeaders) -> Self {
        if let Some(topic) = &mut self.topic {
            topic.spring_headers = spring_headers;
        }
        self
    }

    /// What happens to a record that is given up.
    #[must_use]
    pub fn exhausted(mut self, exhausted: Exhausted) -> Self {
        self.exhausted = exhausted;
        self
    }

    /// What happens to a record that is given up for this reason: at once, whatever else fails.
    /// See [`on`](Self#structfield.on).
    #[must_use]
    pub fn on(mut self, reason: FailureReason, action: Exhausted) -> Self {
        self.on.insert(reason, action);
        self
    }
}

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
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Undecodable => "undecodable",
            Self::Fatal => "fatal",
            Self::Panic => "panic",
            Self::Timeout => "timeout",
            Self::Exhausted => "exhausted",
        }
    }

    pub(super) const fn is_out_of_retries(self) -> bool {
        matches!(self, Self::Panic | Self::Timeout | Self::Exhausted)
    }
}

/// How often a record is retried in place.
///
/// # Examples
/// ```
/// use keylane::config::InPlace;
/// use keylane::Retry;
///
/// assert_eq!(Retry::in_place(3).in_place, InPlace::Times(3));
/// assert_eq!(Retry::forever().in_place, InPlace::Forever);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InPlace {
    /// At most this many times after the first attempt of each delivery.
    Times(u32),
    /// Until it succeeds.
    Forever,
}

impl Serialize for InPlace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Times(times) => serializer.serialize_u32(*times),
            Self::Forever => serializer.serialize_str("forever"),
        }
    }
}

impl<'de> Deserialize<'de> for InPlace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Times(u32),
            Word(String),
        }
        match Either::deserialize(deserializer)
            .map_err(|_| D::Error::custom("in_place takes a number or \"forever\""))?
        {
            Either::Times(times) => Ok(Self::Times(times)),
            Either::Word(word) if word == "forever" => Ok(Self::Forever),
            Either::Word(word) => Err(D::Error::custom(format!(
                "in_place takes a number or \"forever\", not {word:?}"
            ))),
        }
    }
}

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
    /// count. By [time](Retry::for_at_least) there is no such limit, and another number than 10 is
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
    /// [`Retry::adopt`].
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
/// reads every retry in it. A retry topic for each group ([`Retry::then_topic_named`]) is cheaper:
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

/// An exponential back-off with a cap and jitter.
///
/// The n-th retry waits `initial × multiplier^(n-1)`, at most `max`, spread by ± `jitter`.
///
/// # Examples
/// ```
/// use keylane::config::Backoff;
/// use keylane::Retry;
/// use std::time::Duration;
///
/// let doubling =
///     Backoff::exponential(Duration::from_millis(200), Duration::from_secs(30)).jitter(0.5);
/// let retry = Retry::default()
///     .backoff(doubling)
///     .then_topic()
///     .topic_backoff(Backoff::fixed(Duration::from_secs(60)));
/// # let _ = retry;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Backoff {
    /// The first delay (default 100 ms).
    #[serde(with = "humantime_serde")]
    pub initial: Duration,
    /// The longest delay, before jitter (default 10 s); at most 30 days.
    #[serde(with = "humantime_serde")]
    pub max: Duration,
    /// The factor from one delay to the next (default 2).
    pub multiplier: f64,
    /// The random spread, as a fraction of the delay (default 0.2 = ±20 %). It keeps failures of
    /// one moment from being retried at one moment.
    pub jitter: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::exponential(Duration::from_millis(100), Duration::from_secs(10))
    }
}

impl Backoff {
    /// Doubles from `initial` to `max`, with ±20 % jitter.
    pub const fn exponential(initial: Duration, max: Duration) -> Self {
        Self {
            initial,
            max,
            multiplier: 2.0,
            jitter: 0.2,
        }
    }

    /// The same delay each time, with ±20 % jitter.
    pub const fn fixed(delay: Duration) -> Self {
        Self {
            initial: delay,
            max: delay,
            multiplier: 1.0,
            jitter: 0.2,
        }
    }

    /// Sets [`multiplier`](Self#structfield.multiplier).
    #[must_use]
    pub const fn multiplier(self, multiplier: f64) -> Self {
        Self { multiplier, ..self }
    }

    /// Sets [`jitter`](Self#structfield.jitter).
    #[must_use]
    pub const fn jitter(self, jitter: f64) -> Self {
        Self { jitter, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Retry {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn by_time_unless_only_a_count_is_given() {
        assert_eq!(read("{}"), Retry::default());
        assert_eq!(
            Retry::default().for_at_least,
            Some(Duration::from_secs(900))
        );
        assert_eq!(read(r#"{"in_place":3}"#), Retry::in_place(3));
        assert_eq!(read(r#"{"in_place":"forever"}"#), Retry::forever());
        let hour = Retry::for_at_least(Duration::from_secs(3600));
        assert_eq!(read(r#"{"for_at_least":"1h"}"#), hour);
        assert_eq!(
            read(r#"{"for_at_least":"1h","in_place":3}"#),
            hour.in_place_first(3)
        );
        assert_eq!(Retry::in_place(3).in_place_first(5), Retry::in_place(3));
    }

    /// By time a number of rounds would have no effect, and silently so.
    #[test]
    fn a_number_of_rounds_alone_is_by_count() {
        assert_eq!(
            read(r#"{"topic":{"rounds":3}}"#),
            Retry::in_place(10).then_topic().topic_rounds(3)
        );
        assert_eq!(
            read(r#"{"topic":{"rounds":10}}"#),
            Retry::in_place(10).then_topic()
        );
        assert_eq!(read(r#"{"topic":{}}"#), Retry::default().then_topic());
        let unknown = serde_json::from_str::<Retry>(r#"{"topic":{"round":3}}"#);
        assert!(
            unknown
                .unwrap_err()
                .to_string()
                .contains("unknown field `round`")
        );
    }

    #[test]
    fn what_is_written_reads_the_same() {
        let by_reason = Retry::none().on(FailureReason::Undecodable, Exhausted::Park);
        for retry in [
            Retry::default(),
            Retry::default().then_topic(),
            Retry::in_place(5),
            Retry::forever(),
            by_reason,
        ] {
            assert_eq!(read(&serde_json::to_string(&retry).unwrap()), retry);
        }
        let unknown = serde_json::from_str::<Retry>(r#"{"on":{"poison":"park"}}"#);
        assert!(unknown.unwrap_err().to_string().contains("poison"));
    }

    /// The documents name them.
    #[test]
    fn sums_of_delays_are_as_documented() {
        let sum = |backoff: Backoff, retries| -> Duration {
            let backoff = keylane_core::Backoff {
                jitter: 0.0,
                ..backoff.into()
            };
            (0..retries).map(|retry| backoff.delay(retry, 0)).sum()
        };
        let in_place = |retries| sum(Backoff::default(), retries).as_millis();
        assert_eq!(
            [3, 5, 7, 10, 15].map(in_place),
            [700, 3_100, 12_700, 42_700, 92_700]
        );
        assert_eq!(
            sum(RetryTopic::default().backoff, 10).as_secs(),
            50 * 60 + 30
        );
    }
}
