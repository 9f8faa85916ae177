//! Distinguishes a record that is handed out twice from another one at the same offset.

use std::collections::VecDeque;

use crate::offset::Offset;

/// The records a partition was read last, as many as one batch can hold.
///
/// librdkafka notes how far a partition was read only after a batch was taken out. A rebalance in
/// between makes it hand out records of that batch again. Those are to be ignored (guarantee G7),
/// while an offset that comes again with another record means that the log was cut and written
/// again.
#[derive(Debug)]
pub struct RecentReads {
    limit: usize,
    records: VecDeque<(Offset, u64)>,
}

impl RecentReads {
    /// The last `limit` records.
    pub const fn new(limit: usize) -> Self {
        Self {
            limit,
            records: VecDeque::new(),
        }
    }

    /// Notes a record that was taken in. Offsets rise.
    #[inline]
    pub fn note(&mut self, offset: Offset, print: u64) {
        if self.records.len() >= self.limit {
            self.records.pop_front();
        }
        self.records.push_back((offset, print));
    }

    /// Whether this very record is among them.
    pub fn contains(&self, offset: Offset, print: u64) -> bool {
        let place = self
            .records
            .binary_search_by_key(&offset, |(noted, _)| *noted);
        place.is_ok_and(|place| self.records[place].1 == print)
    }
}

/// What two records at one offset of different logs will hardly share: the time they were written,
/// to the millisecond, and their sizes.
#[inline]
pub fn fingerprint(timestamp_millis: Option<i64>, key: Option<&[u8]>, value: Option<&[u8]>) -> u64 {
    let size = |bytes: Option<&[u8]>| bytes.map_or(u64::MAX, |bytes| bytes.len() as u64);
    let sizes = size(key).rotate_left(40) ^ size(value).rotate_left(20);
    timestamp_millis.unwrap_or(i64::MIN).cast_unsigned() ^ sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_record_counts_as_a_repetition() {
        let mut recent = RecentReads::new(500);
        for offset in 0..1_000 {
            recent.note(
                Offset::new(offset * 2),
                fingerprint(Some(offset), Some(b"k"), Some(b"value")),
            );
        }
        let contains = |offset, time, key: Option<&[u8]>| {
            recent.contains(
                Offset::new(offset),
                fingerprint(Some(time), key, Some(b"value")),
            )
        };
        assert!(contains(1_998, 999, Some(b"k")));
        assert!(!contains(1_998, 1_000, Some(b"k")));
        assert!(!contains(1_998, 999, None));
        assert!(!contains(1_997, 999, Some(b"k")));
        assert!(contains(1_000, 500, Some(b"k")), "the oldest that is kept");
        assert!(!contains(998, 499, Some(b"k")));
    }

    #[test]
    fn each_part_of_a_record_makes_another_print() {
        let value = |bytes| fingerprint(Some(1), None, Some(bytes));
        assert_ne!(value(b"v"), value(b"vv"), "without a key");
        let time = |millis| fingerprint(Some(millis), None, Some(b"v"));
        assert_ne!(time(1), time(2), "without a key");
        let key = |bytes| fingerprint(Some(1), Some(bytes), None);
        assert_ne!(key(b"k"), key(b"kk"), "without a value");
        let both = |key, value| fingerprint(Some(1), Some(key), Some(value));
        assert_ne!(both(b"k", b"v"), both(b"kk", b"v"));
        assert_ne!(both(b"k", b"v"), both(b"k", b"vv"));
    }
}
