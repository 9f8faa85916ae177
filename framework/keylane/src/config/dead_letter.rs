//! Where records go that cannot be processed.

use serde::{Deserialize, Serialize};

/// The dead-letter topic of a subscription.
///
/// The original is settled only after the broker has acknowledged the write; while the topic cannot be written the record
/// stays unsettled and is tried again. A dead letter that is too large for the topic is written with fewer headers, and parked
/// where it is too large with the fewest; so is one that the broker refuses for good.
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
    /// How many dead letters may run ahead of successes before an outage is suspected (default 20).
    ///
    /// A record whose retries are exhausted needs a token to be dead-lettered; each success earns one token, up to this
    /// number. Without a token the record keeps waiting at the capped back-off, so that an outage does not empty the topic
    /// into the dead-letter topic. Fatal and undecodable records need no token.
    #[serde(default = "default_burst")]
    pub storm_burst: u32,
}

fn default_burst() -> u32 {
    20
}

impl DeadLetter {
    /// Dead letters go to this topic.
    pub fn topic(topic: impl Into<String>) -> Self {
        Self { topic: topic.into(), storm_burst: default_burst() }
    }

    /// Sets [`storm_burst`](Self::storm_burst).
    #[must_use]
    pub fn storm_burst(mut self, tokens: u32) -> Self {
        self.storm_burst = tokens;
        self
    }
}
