//! Where records go that cannot be processed.

use serde::{Deserialize, Serialize};

/// The dead-letter topic of a subscription.
///
/// The original is settled only after the broker has acknowledged the write; while the topic cannot be written the record
/// stays unsettled and is tried again. A dead letter that is too large for the topic is written with fewer headers, and parked
/// where it is too large with the fewest; so is one that the broker refuses for good.
///
/// A record that is out of retries is written there only where nothing speaks for an outage: see
/// [`Outage`](crate::Outage).
///
/// The topic must exist. With fewer partitions than the origin, partition numbers wrap around; the number of partitions is
/// read again while the subscription runs. A dead letter has the time of its writing, so a time-based retention counts from
/// there. The record's own timestamp is in its headers.
///
/// # What is in a dead letter
#[doc = include_str!("../dead_letter/headers.md")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeadLetter {
    /// The topic's name.
    pub topic: String,
}

impl DeadLetter {
    /// Dead letters go to this topic.
    pub fn topic(topic: impl Into<String>) -> Self {
        Self { topic: topic.into() }
    }
}
