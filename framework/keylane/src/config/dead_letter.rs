//! Where records go that cannot be processed.

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
}

impl DeadLetter {
    /// Dead letters go to this topic.
    pub fn topic(topic: impl Into<String>) -> Self {
        Self {
            topic: topic.into(),
        }
    }
}

/// The form in a settings file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    topic: String,
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
    fn from(Stored { topic, .. }: Stored) -> Self {
        Self { topic }
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
}
