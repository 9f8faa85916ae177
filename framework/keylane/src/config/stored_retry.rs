//! The retry policy as a settings file has it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::retry::{DEFAULT_IN_PLACE, DEFAULT_ROUNDS, DEFAULT_TIME};
use super::{
    Backoff, Exhausted, FailureReason, ForeignRetries, InPlace, Retry, RetryTopic, SpringHeaders,
};

/// What is left out decides whether it is by time or by count.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[serde(expecting = r#"the form { "for_at_least": "15m" }"#)]
pub(super) struct Stored {
    #[serde(with = "crate::config::duration::option")]
    for_at_least: Option<Duration>,
    in_place: Option<InPlace>,
    backoff: Backoff,
    topic: Option<StoredTopic>,
    exhausted: Exhausted,
    on: BTreeMap<FailureReason, Exhausted>,
}

impl Default for Stored {
    fn default() -> Self {
        let Retry {
            for_at_least: _,
            in_place: _,
            backoff,
            topic: _,
            exhausted,
            on,
        } = Retry::default();
        Self {
            for_at_least: None,
            in_place: None,
            backoff,
            topic: None,
            exhausted,
            on,
        }
    }
}

impl From<Stored> for Retry {
    fn from(stored: Stored) -> Self {
        let Stored {
            for_at_least,
            in_place,
            backoff,
            topic,
            exhausted,
            on,
        } = stored;
        let counts =
            in_place.is_some() || topic.as_ref().is_some_and(|topic| topic.rounds.is_some());
        let for_at_least = for_at_least.or_else(|| (!counts).then_some(DEFAULT_TIME));
        let topic = topic.map(RetryTopic::from);
        Self {
            for_at_least,
            in_place: in_place.unwrap_or(DEFAULT_IN_PLACE),
            backoff,
            topic,
            exhausted,
            on,
        }
    }
}

/// The same of the retry topic.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[serde(expecting = r#"the form { "name": "NAME" }, or { } for the default name"#)]
struct StoredTopic {
    name: Option<String>,
    rounds: Option<u32>,
    backoff: Backoff,
    foreign: ForeignRetries,
    adopt: Vec<String>,
    spring_headers: SpringHeaders,
}

impl Default for StoredTopic {
    fn default() -> Self {
        let RetryTopic {
            name,
            rounds: _,
            backoff,
            foreign,
            adopt,
            spring_headers,
        } = RetryTopic::default();
        Self {
            name,
            rounds: None,
            backoff,
            foreign,
            adopt,
            spring_headers,
        }
    }
}

impl From<StoredTopic> for RetryTopic {
    fn from(
        StoredTopic {
            name,
            rounds,
            backoff,
            foreign,
            adopt,
            spring_headers,
        }: StoredTopic,
    ) -> Self {
        Self {
            name,
            rounds: rounds.unwrap_or(DEFAULT_ROUNDS),
            backoff,
            foreign,
            adopt,
            spring_headers,
        }
    }
}
