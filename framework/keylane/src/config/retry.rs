//! What happens after a failed attempt.

mod backoff;
mod given_up;
mod in_place;
mod topic;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use backoff::Backoff;
pub use given_up::{Exhausted, FailureReason};
pub use in_place::InPlace;
pub use topic::{ForeignRetries, RetryTopic, SpringHeaders};

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
    #[serde(with = "crate::config::duration::option")]
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
