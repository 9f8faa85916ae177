//! Where records go that cannot be processed.

use std::collections::BTreeSet;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// The dead-letter topic of a subscription.
///
/// The original is settled only after the broker has acknowledged the write. While the topic cannot
/// be written, the record stays unsettled and the write is tried again. A dead letter that is too
/// large for the topic is written with fewer headers. It is parked where it is too large with the
/// fewest, and where the broker refuses it for good.
///
/// A record that is out of retries is written there only where nothing indicates an outage: see
/// [`Outage`](crate::config::Outage).
///
/// The topic must exist. With fewer partitions than the origin, partition numbers wrap around; the
/// number of partitions is read again while the subscription runs. A dead letter has the time of
/// its writing, so a time-based retention counts from there. The record's own timestamp is in its
/// headers.
///
/// # What is in a dead letter
#[doc = include_str!("../dead_letter/headers.md")]
///
/// [`ForeignRetries`]: crate::config::ForeignRetries
/// [`LegacyTasks`]: crate::config::LegacyTasks
/// [`redrive`]: crate::redrive
///
/// # Examples
/// ```
/// use keylane::{DeadLetter, Subscription};
///
/// let builder = Subscription::builder("parking-notifier", "parking-events")
///     .dead_letter(DeadLetter::topic("parking-events-dlq"));
/// # let _ = builder;
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, from = "Stored")]
#[non_exhaustive]
pub struct DeadLetter {
    /// The topic's name.
    pub topic: String,
    /// The conventions of other programs in whose headers a dead letter is written too.
    pub headers: BTreeSet<HeaderConvention>,
}

impl DeadLetter {
    /// Dead letters go to this topic.
    pub fn topic(topic: impl Into<String>) -> Self {
        Self {
            topic: topic.into(),
            headers: BTreeSet::new(),
        }
    }

    /// Dead letters have the headers of these conventions too, so that programs that know only
    /// those can read them. Each convention adds up to 2.5 KiB to a dead letter.
    ///
    /// # Examples
    /// ```
    /// use keylane::DeadLetter;
    /// use keylane::config::HeaderConvention;
    ///
    /// let dead_letter = DeadLetter::topic("parking-events-dlq").headers([HeaderConvention::Spring]);
    /// # let _ = dead_letter;
    /// ```
    pub fn headers(mut self, conventions: impl IntoIterator<Item = HeaderConvention>) -> Self {
        self.headers = conventions.into_iter().collect();
        self
    }
}

/// The dead-letter headers of another program: which names, and in which encoding. They are in the
/// table of [`DeadLetter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum HeaderConvention {
    /// Those of Kafka's share groups, `__dlq.errors.*` (KIP-1191).
    #[serde(rename = "kip-1191")]
    Kip1191,
    /// Those of Spring Kafka, `kafka_dlt-*`: its listeners read them as `KafkaHeaders.DLT_…`.
    Spring,
    /// Those of Kafka Connect, `__connect.errors.*`.
    Connect,
}

impl HeaderConvention {
    pub(crate) const ALL: [Self; 3] = [Self::Kip1191, Self::Spring, Self::Connect];

    /// Its name in a settings file and in the header `keylane-headers`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kip1191 => "kip-1191",
            Self::Spring => "spring",
            Self::Connect => "connect",
        }
    }
}

/// The form in a settings file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = r#"the form { "topic": "NAME" }"#)]
struct Stored {
    topic: String,
    #[serde(default)]
    headers: BTreeSet<HeaderConvention>,
    #[serde(rename = "storm_burst")]
    _storm_burst: Option<Gone>,
}

/// A setting of earlier versions: any value is refused, with what there is in its place.
struct Gone;

impl<'de> Deserialize<'de> for Gone {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(D::Error::custom(
            "dead_letter.storm_burst is gone: `outage` sets when records are held instead of given up, and `retry.on` \
             gives them up whatever else fails",
        ))
    }
}

impl From<Stored> for DeadLetter {
    fn from(Stored { topic, headers, .. }: Stored) -> Self {
        Self { topic, headers }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_names_what_is_in_its_place() {
        let error = serde_json::from_str::<DeadLetter>(r#"{"topic":"d","storm_burst":20}"#)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("storm_burst")
                && error.contains("`outage`")
                && error.contains("`retry.on`"),
            "{error}"
        );
        assert_eq!(
            serde_json::from_str::<DeadLetter>(r#"{"topic":"d"}"#).unwrap(),
            DeadLetter::topic("d")
        );
    }

    #[test]
    fn a_file_names_conventions_as_the_headers_do() {
        let stored = r#"{"topic":"d","headers":["spring","kip-1191","connect"]}"#;
        let all = serde_json::from_str::<DeadLetter>(stored).unwrap();
        assert_eq!(all, DeadLetter::topic("d").headers(HeaderConvention::ALL));
        let names = HeaderConvention::ALL.map(HeaderConvention::as_str);
        assert_eq!(
            serde_json::to_value(&all).unwrap()["headers"],
            serde_json::json!(names)
        );
    }
}
