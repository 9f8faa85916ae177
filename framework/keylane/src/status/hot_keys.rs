//! The hot keys of the public status.

use std::cmp::Reverse;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::record::KeyHash;

/// The heaviest keys in a subscription's assigned partitions, by three measures: for each measure
/// the ten first of every partition, the highest first.
///
/// The figures cover the last minutes: what is a minute old counts half, two minutes a quarter.
/// Attempts that still run, and records that still wait, are included. Records without a key are
/// not.
///
/// The memory is bounded (64 keys for each measure and partition, some ten kilobytes). So only what
/// is certainly a key's own share counts: see [`HotKey::amount`]. Up to about 1,000 records a
/// second in a partition each one is counted; above that a sample, in proportion to their weight. A
/// key with less than one part in 256 of its partition is left out.
///
/// # Examples
/// ```
/// use keylane::status::HotKeys;
///
/// fn report(hot_keys: &HotKeys) {
///     for key in &hot_keys.by_time {
///         let percent = key.share * 100.0;
///         println!("{}-{}: {} took {percent:.0} %", key.topic, key.partition, key.key_hash);
///     }
/// }
/// # report(&HotKeys::default());
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct HotKeys {
    /// By records delivered, repeated deliveries included: where the load comes from.
    pub by_records: Vec<HotKey<u64>>,
    /// By the time their attempts took: which keys occupy the places of `concurrency`.
    pub by_time: Vec<HotKey<Duration>>,
    /// By the time their records waited from delivery to their first start: which keys are delayed.
    /// A record waits behind a slow or failing record of its key, or for a free place. Waiting for
    /// a due time does not count.
    pub by_waiting: Vec<HotKey<Duration>>,
}

/// A heavy key of a partition. Its `Debug` output does not have the key itself.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct HotKey<A> {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The key, by its hash.
    pub key_hash: KeyHash,
    /// The key itself, up to its first 256 bytes, where
    /// [`HotKeySettings::plain_keys`](crate::config::HotKeySettings::plain_keys) allows it.
    pub key: Option<Bytes>,
    /// What is certainly this key's: records, or time.
    pub amount: A,
    /// The most that may be this key's. As a rule it is the same as [`amount`](Self::amount); for
    /// keys that came late among many it can be more.
    pub at_most: A,
    /// [`amount`](Self::amount) as a part of what all keys of the partition have, from 0 to 1.
    pub share: f64,
}

impl<A: Copy> HotKey<A> {
    /// A key with this amount, the only one in its partition.
    ///
    /// # Examples
    /// ```
    /// use keylane::record::KeyHash;
    /// use keylane::status::{HotKey, HotKeys};
    ///
    /// let mut hot_keys = HotKeys::default();
    /// let hash = KeyHash::of(b"vehicle-7");
    /// hot_keys.by_records.push(HotKey::new("parking-events", 0, hash, 42));
    /// ```
    pub fn new(topic: impl Into<Arc<str>>, partition: i32, key_hash: KeyHash, amount: A) -> Self {
        Self {
            topic: topic.into(),
            partition,
            key_hash,
            key: None,
            amount,
            at_most: amount,
            share: 1.0,
        }
    }
}

impl<A: fmt::Debug> fmt::Debug for HotKey<A> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            topic,
            partition,
            key_hash,
            key: _,
            amount,
            at_most,
            share,
        } = self;
        formatter
            .debug_struct("HotKey")
            .field("topic", topic)
            .field("partition", partition)
            .field("key_hash", key_hash)
            .field("amount", amount)
            .field("at_most", at_most)
            .field("share", share)
            .finish_non_exhaustive()
    }
}

impl HotKeys {
    /// Adds the keys of another partition.
    pub(crate) fn extend(&mut self, other: &Self) {
        self.by_records.extend_from_slice(&other.by_records);
        self.by_time.extend_from_slice(&other.by_time);
        self.by_waiting.extend_from_slice(&other.by_waiting);
    }

    /// Sorts each list, the highest first.
    pub(crate) fn sorted(mut self) -> Self {
        self.by_records.sort_by_key(|key| Reverse(key.amount));
        self.by_time.sort_by_key(|key| Reverse(key.amount));
        self.by_waiting.sort_by_key(|key| Reverse(key.amount));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_not_in_what_is_logged() {
        let key_hash = KeyHash::of(b"vehicle-4711");
        let key = Some("vehicle-4711".into());
        let hot = HotKey {
            topic: "tasks".into(),
            partition: 0,
            key_hash,
            key,
            amount: 1,
            at_most: 1,
            share: 0.5,
        };
        let shown = format!(
            "{hot:?} {:?}",
            HotKeys {
                by_records: vec![hot.clone()],
                ..HotKeys::default()
            }
        );
        assert!(
            shown.contains(&key_hash.to_string()) && !shown.contains("vehicle"),
            "{shown}"
        );
        // The key is not in it as bytes either.
        assert!(!shown.contains("118, 101"), "{shown}");
    }
}
