//! Tells a record that is handed out twice from another one at the same offset.

use std::collections::VecDeque;

use crate::kafka::READ_LIMIT;

/// The records a partition was read last, as many as one batch can hold.
///
/// librdkafka notes how far a partition was read only after a batch was taken out. A rebalance in
/// between makes it hand out records of that batch again. Those are to be ignored (guarantee G7),
/// while an offset that comes again with another record means that the log was cut and written
/// anew.
#[derive(Debug, Default)]
pub(crate) struct Recent(VecDeque<(i64, u64)>);

impl Recent {
    pub(crate) fn note(&mut self, offset: i64, print: u64) {
        if self.0.len() == READ_LIMIT {
            self.0.pop_front();
        }
        self.0.push_back((offset, print));
    }

    pub(crate) fn contains(&self, offset: i64, print: u64) -> bool {
        let place = self.0.binary_search_by_key(&offset, |(noted, _)| *noted);
        place.is_ok_and(|place| self.0[place].1 == print)
    }
}

/// What two records at one offset of different logs will hardly share: the time they were written,
/// to the millisecond, and their sizes.
pub(crate) fn fingerprint(
    timestamp_millis: Option<i64>,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
) -> u64 {
    let size = |bytes: Option<&[u8]>| bytes.map_or(u64::MAX, |bytes| bytes.len() as u64);
    let sizes = size(key).rotate_left(40) ^ size(value).rotate_left(20);
    timestamp_millis.unwrap_or(i64::MIN).cast_unsigned() ^ sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_record_counts_as_a_repetition() {
        let mut recent = Recent::default();
        for offset in 0..2 * READ_LIMIT as i64 {
            recent.note(
                offset * 2,
                fingerprint(Some(offset), Some(b"k"), Some(b"value")),
            );
        }
        let last = READ_LIMIT as i64 * 2 - 1;
        assert!(recent.contains(
            last * 2,
            fingerprint(Some(last), Some(b"k"), Some(b"value"))
        ));
        assert!(!recent.contains(
            last * 2,
            fingerprint(Some(last + 1), Some(b"k"), Some(b"value"))
        ));
        assert!(!recent.contains(last * 2, fingerprint(Some(last), None, Some(b"value"))));
        assert!(!recent.contains(
            last * 2 - 1,
            fingerprint(Some(last), Some(b"k"), Some(b"value"))
        ));
        assert!(!recent.contains(0, fingerprint(Some(0), Some(b"k"), Some(b"value"))));
    }
}
