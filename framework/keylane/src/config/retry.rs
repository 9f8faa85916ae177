//! What happens after a failed attempt.

use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The retry policy: first in place, then through the retry topic, then [`Exhausted`].
///
/// *In place* the record waits in its lane: key order is kept, later records of the key wait, nobody else does.
/// *Retry topic*: the record is written to the retry topic with its due time and settled here once the broker has
/// acknowledged it. **Order is given up for that key**: later records of the key go on at once.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use keylane::{Backoff, Retry};
///
/// let retry = Retry::in_place(3)
///     .backoff(Backoff::exponential(Duration::from_millis(100), Duration::from_secs(5)))
///     .then_topic()
///     .topic_backoff(Backoff::exponential(Duration::from_secs(10), Duration::from_secs(600)));
/// # let _ = retry;
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Retries in place per delivery (default 10), or `"forever"`.
    pub in_place: InPlace,
    /// Back-off of retries in place (default 100 ms doubling to 10 s, ±20 %).
    pub backoff: Backoff,
    /// The retry topic (default none).
    pub topic: Option<RetryTopic>,
    /// What happens when all retries have failed (default: dead letter).
    pub exhausted: Exhausted,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            in_place: InPlace::Times(10),
            backoff: Backoff::default(),
            topic: None,
            exhausted: Exhausted::DeadLetter,
        }
    }
}

impl Retry {
    /// Retries so often in place after the first attempt; 0 is none.
    pub fn in_place(times: u32) -> Self {
        Self { in_place: InPlace::Times(times), ..Self::default() }
    }

    /// Retries in place until it succeeds. The key's lane waits as long as that takes; nothing is ever dead-lettered for
    /// having failed too often.
    pub fn forever() -> Self {
        Self { in_place: InPlace::Forever, ..Self::default() }
    }

    /// No retry: the first failure is final.
    pub fn none() -> Self {
        Self::in_place(0)
    }

    /// Sets the back-off of retries in place.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// After the retries in place, goes through the topic `<origin>-retry`, up to ten rounds. Gives up key order for the
    /// records that go there.
    #[must_use]
    pub fn then_topic(mut self) -> Self {
        self.topic = Some(RetryTopic::default());
        self
    }

    /// The same with a topic of another name: needed where a subscription has several origin topics.
    #[must_use]
    pub fn then_topic_named(mut self, name: impl Into<String>) -> Self {
        self.topic = Some(RetryTopic { name: Some(name.into()), ..RetryTopic::default() });
        self
    }

    /// How many rounds through the retry topic (default 10). Has no effect without a retry topic.
    #[must_use]
    pub fn topic_rounds(mut self, rounds: u32) -> Self {
        if let Some(topic) = &mut self.topic {
            topic.rounds = rounds;
        }
        self
    }

    /// The back-off between rounds (default 10 s doubling to 10 min, ±20 %). Has no effect without a retry topic.
    #[must_use]
    pub fn topic_backoff(mut self, backoff: Backoff) -> Self {
        if let Some(topic) = &mut self.topic {
            topic.backoff = backoff;
        }
        self
    }

    /// What happens to retries of other groups in the retry topic (default: [`ForeignRetries::Settle`]). Has no effect
    /// without a retry topic.
    #[must_use]
    pub fn foreign(mut self, foreign: ForeignRetries) -> Self {
        if let Some(topic) = &mut self.topic {
            topic.foreign = foreign;
        }
        self
    }

    /// Processes the retries of these groups like this group's own. Has no effect without a retry topic.
    ///
    /// For a group that was renamed: the new group adopts the old one, and so processes the retries that the old
    /// one has left. The old group must not run any longer.
    ///
    /// # Examples
    /// ```
    /// use keylane::Retry;
    ///
    /// let retry = Retry::in_place(3).then_topic().adopt(["billing-v1"]);
    /// # let _ = retry;
    /// ```
    #[must_use]
    pub fn adopt<I: IntoIterator<Item: Into<String>>>(mut self, groups: I) -> Self {
        if let Some(topic) = &mut self.topic {
            topic.adopt.extend(groups.into_iter().map(Into::into));
        }
        self
    }

    /// What happens when all retries have failed.
    #[must_use]
    pub fn exhausted(mut self, exhausted: Exhausted) -> Self {
        self.exhausted = exhausted;
        self
    }
}

/// How often a record is retried in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InPlace {
    /// So often after the first attempt of each delivery.
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
            Either::Word(word) => {
                Err(D::Error::custom(format!("in_place takes a number or \"forever\", not {word:?}")))
            }
        }
    }
}

/// A retry topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryTopic {
    /// The topic's name (default `<origin>-retry`; required where a subscription has several origins). It must exist.
    pub name: Option<String>,
    /// How many rounds a record makes through the topic before it is exhausted (default 10).
    pub rounds: u32,
    /// The delay of each round (default 10 s doubling to 10 min, ±20 %).
    ///
    /// Records not yet due wait in memory and count as pending (see [`Limits`](crate::Limits)).
    pub backoff: Backoff,
    /// What happens to retries of other groups that use the same topic (default: [`ForeignRetries::Settle`]).
    pub foreign: ForeignRetries,
    /// Groups whose retries are processed like this group's own (default none); 100 at most. See [`Retry::adopt`].
    pub adopt: Vec<String>,
}

impl Default for RetryTopic {
    fn default() -> Self {
        Self {
            name: None,
            rounds: 10,
            backoff: Backoff::exponential(Duration::from_secs(10), Duration::from_secs(600)),
            foreign: ForeignRetries::default(),
            adopt: Vec::new(),
        }
    }
}

/// What happens to a record of the retry topic that another consumer group wrote.
///
/// Groups that read the same origin topic have the same retry topic by default, and each of them reads every retry in it. A
/// retry topic for each group ([`Retry::then_topic_named`]) is cheaper: there is nothing to leave out then.
///
/// A record is another group's if its header `keylane-group` names one. It is processed here all the same if another
/// program, such as Decaton, has requeued it since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForeignRetries {
    /// Leaves the record to the group that wrote it, if that group is alive: the record is settled here as *foreign*, which is
    /// counted and logged. A group is alive if it has members or has committed offsets of this retry topic.
    ///
    /// If the group is gone, or the brokers do not say, the record is *held*: it stays unsettled, takes no worker and
    /// keeps no other record waiting, but the commit waits for it. [`SubscriptionStatus::trouble`] then says what to do. The group
    /// is asked about again every 30 seconds.
    ///
    /// [`SubscriptionStatus::trouble`]: crate::SubscriptionStatus::trouble
    #[default]
    Settle,
    /// Holds the record, whether or not its group is alive.
    Hold,
    /// Processes the record, as if this group had written it. With several groups that fail, the copies of one record
    /// multiply with each round.
    Process,
}

/// What happens to a record when all its retries have failed, or a failure is fatal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exhausted {
    /// Write it to the dead-letter topic. With none configured it is retried in place for ever at the capped back-off (an
    /// undecodable record is parked): keylane never drops a record.
    #[default]
    DeadLetter,
    /// Hold the record and its lane, unsettled, without using a worker. It is tried again after a restart or rebalance.
    Park,
    /// Stop the subscription: `run` returns the error, the record stays unsettled.
    Stop,
}

/// An exponential back-off with a cap and jitter.
///
/// The n-th retry waits `initial × multiplier^(n-1)`, at most `max`, spread by ± `jitter`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Backoff {
    /// The first delay (default 100 ms).
    #[serde(with = "humantime_serde")]
    pub initial: Duration,
    /// The longest delay, before jitter (default 10 s); at most 30 days.
    #[serde(with = "humantime_serde")]
    pub max: Duration,
    /// The factor from one delay to the next (default 2).
    pub multiplier: f64,
    /// The spread, as a fraction of the delay (default 0.2 = ±20 %), so that failures of one moment do not return as one.
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
        Self { initial, max, multiplier: 2.0, jitter: 0.2 }
    }

    /// The same delay each time, with ±20 % jitter.
    pub const fn fixed(delay: Duration) -> Self {
        Self { initial: delay, max: delay, multiplier: 1.0, jitter: 0.2 }
    }
}
