//! The hot keys as the user sees them.

use std::cmp::Reverse;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::KeyHash;

/// The keys that stand out in a subscription's assigned partitions, by three measures: of each the
/// ten first of every partition, the highest first.
///
/// About the last minutes: what was seen a minute ago counts half, two minutes ago a quarter.
/// Attempts that still run, and records that still wait, are counted in. Records without a key are
/// not.
///
/// Found in bounded memory (64 keys for each measure and partition, some ten kilobytes), so a key
/// counts only as far as it is surely its own share: see [`HotKey::amount`]. Up to about 1,000
/// records a second in a partition each one is counted; of more a sample, in proportion to what
/// they weigh. A key with less than one part in 256 of its partition is left out.
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
    /// By the time their attempts took: what the places go to.
    pub by_time: Vec<HotKey<Duration>>,
    /// By the time their records waited from delivery to their first start: who suffers. Behind a
    /// slow record of its key, a failing one, or for a free place; not for a due time.
    pub by_waiting: Vec<HotKey<Duration>>,
}

/// A key that stands out in its partition. Its `Debug` output does not have the key itself.
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
    /// [`HotKeySettings::plain_keys`](crate::HotKeySettings::plain_keys) allows it.
    pub key: Option<Bytes>,
    /// What is surely this key's: records, or time.
    pub amount: A,
    /// What may be this key's at most. As a rule the same as [`amount`](Self::amount); of keys that
    /// came late among many it can be more.
    pub at_most: A,
    /// [`amount`](Self::amount) as a part of what all keys of the partition have, from 0 to 1.
    pub share: f64,
}

impl<A: Copy> HotKey<A> {
    /// A key that has this amount, which is all there is in its partition.
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
    /// Takes in those of another partition.
    pub(crate) fn extend(&mut self, other: &Self) {
        self.by_records.extend_from_slice(&other.by_records);
        self.by_time.extend_from_slice(&other.by_time);
        self.by_waiting.extend_from_slice(&other.by_waiting);
    }

    /// The highest first.
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
        // Nor as bytes.
        assert!(!shown.contains("118, 101"), "{shown}");
    }
}
