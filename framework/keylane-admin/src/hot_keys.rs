//! Hot keys, as JSON.

use std::time::Duration;

use keylane::status::{HotKey, HotKeys};
use serde::Serialize;

/// How keys are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    Hashed,
    /// The keys themselves, where they are kept.
    Plain,
}

#[derive(Serialize)]
pub(crate) struct HotKeyLists {
    by_records: Vec<HotByRecords>,
    by_time: Vec<HotBySeconds>,
    by_waiting: Vec<HotBySeconds>,
}

#[derive(Serialize)]
struct HotByRecords {
    #[serde(flatten)]
    key: Key,
    records: u64,
    records_at_most: u64,
}

#[derive(Serialize)]
struct HotBySeconds {
    #[serde(flatten)]
    key: Key,
    seconds: f64,
    seconds_at_most: f64,
}

#[derive(Serialize)]
struct Key {
    topic: String,
    partition: i32,
    key_hash: String,
    /// Where `hot_keys.plain_keys` allows it, and the request had the token.
    key: Option<String>,
    share: f64,
}

impl HotKeyLists {
    /// The first of each list.
    pub(crate) fn of(found: &HotKeys, limit: usize, keys: Keys) -> Self {
        let by_records = found.by_records.iter().take(limit).map(|hot| HotByRecords {
            key: Key::of(hot, keys),
            records: hot.amount,
            records_at_most: hot.at_most,
        });
        Self {
            by_records: by_records.collect(),
            by_time: by_seconds(&found.by_time, limit, keys),
            by_waiting: by_seconds(&found.by_waiting, limit, keys),
        }
    }
}

fn by_seconds(found: &[HotKey<Duration>], limit: usize, keys: Keys) -> Vec<HotBySeconds> {
    let first = found.iter().take(limit).map(|hot| HotBySeconds {
        key: Key::of(hot, keys),
        seconds: hot.amount.as_secs_f64(),
        seconds_at_most: hot.at_most.as_secs_f64(),
    });
    first.collect()
}

impl Key {
    fn of<A>(hot: &HotKey<A>, keys: Keys) -> Self {
        let plain = hot.key.as_ref().filter(|_| keys == Keys::Plain);
        Self {
            topic: hot.topic.to_string(),
            partition: hot.partition,
            key_hash: hot.key_hash.to_string(),
            key: plain.map(|key| String::from_utf8_lossy(key).into_owned()),
            share: hot.share,
        }
    }
}
