//! How many letters of a dead-letter topic are open, by what the operations topic of a group says.
//! Pure.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Handled, OpsState};
use crate::kafka::{LetterRange, OpenLetters};
use crate::record::Record;

/// What a member keeps of the operations topic of its group.
#[derive(Debug)]
pub(crate) struct OpenCount {
    topic: String,
    state: OpsState,
    /// Which letters need nothing more; `None` where that has to be worked out.
    handled: Option<Result<Handled, String>>,
}

impl OpenCount {
    /// Of this dead-letter topic.
    pub(crate) fn of(topic: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            state: OpsState::default(),
            handled: None,
        }
    }

    fn work_out(&self) -> Result<Handled, String> {
        if let Some(key) = self.state.newer().next() {
            return Err(format!(
                "it has records of a newer version of keylane, such as `{key}`; update this member"
            ));
        }
        self.state.known_handled(&self.topic)
    }
}

impl OpenLetters for OpenCount {
    fn begin_again(&mut self) {
        *self = Self::of(&self.topic);
    }

    fn take(&mut self, record: &Record) {
        // A slice would keep what was read beside it in memory.
        let value = record.value_as_read();
        let value = value.map(|value| Bytes::copy_from_slice(&value));
        self.state.apply_of_member(record.key(), value);
        self.handled = None;
    }

    fn count(&mut self, log: Option<String>, ranges: &[LetterRange]) -> Result<u64, String> {
        if self.state.log(&self.topic) != log.as_deref() {
            let logs = log.map(|log| (self.topic.clone(), log));
            self.state
                .set_logs(logs.into_iter().collect::<BTreeMap<_, _>>());
            self.handled = None;
        }
        let handled = self.handled.take().unwrap_or_else(|| self.work_out());
        let handled = self.handled.insert(handled).as_ref();
        let handled = handled.map_err(String::clone)?;
        Ok(ranges.iter().map(|it| open(handled, it)).sum())
    }
}

/// What was handled before the range begins was deleted, and is no part of its length.
fn open(handled: &Handled, range: &LetterRange) -> u64 {
    let all = range.end.saturating_sub(range.first);
    let all = u64::try_from(all).unwrap_or(0);
    all.saturating_sub(handled.count_within(range.partition, range.first, range.end))
}

#[cfg(test)]
mod tests {
    use keylane_core::Offset;
    use keylane_core::redrive::{Order, Turn};

    use super::super::records::{OpsKey, Place, Resolution, TaskProgress, TaskRecord, written};
    use super::*;
    use crate::record::Arena;
    use crate::redrive::copy::Target;

    /// Ten letters in each of two partitions; the first three of partition 0 were deleted.
    fn ranges() -> [LetterRange; 2] {
        [LetterRange::new(0, 3, 10), LetterRange::new(1, 0, 10)]
    }

    fn take(count: &mut OpenCount, key: &str, value: Option<&[u8]>) {
        let key = Some(key.as_bytes());
        count.take(&Record::new(
            &mut Arena::default(),
            0,
            None,
            key,
            value,
            None,
        ));
    }

    fn resolve(count: &mut OpenCount, log: Option<&str>, first: i64, last: i64) {
        let place = Place {
            topic: "dead".to_owned(),
            partition: 0,
            first,
            last,
        };
        let resolution = Resolution::new(log.map(str::to_owned), "ada", "refunded");
        let key = OpsKey::Resolved(place).text();
        take(count, &key, Some(&written(&resolution)));
    }

    /// A task that is to copy these letters of partition 1.
    fn begin(count: &mut OpenCount, topic: &str, offsets: &[i64]) {
        let turn = |offset: &i64| Turn {
            partition: 1,
            offset: Offset::new(*offset),
        };
        let order = Order::new(offsets.iter().map(turn).collect());
        for (number, chunk) in (0..).zip(order.chunks()) {
            let key = OpsKey::Order("a".to_owned(), number).text();
            take(count, &key, Some(&chunk));
        }
        let task = TaskRecord::new(topic, "billing", Target::RetryTopic, 3);
        take(count, "task/a", Some(&written(&task)));
    }

    fn progress(count: &mut OpenCount, done: u64, refused: Vec<u64>) {
        let progress = TaskProgress::new(done, 0, refused);
        take(count, "task/a/progress", Some(&written(&progress)));
    }

    #[test]
    fn letters_are_open_until_they_are_copied_or_resolved_and_deleted_ones_are_not_counted_twice() {
        let mut count = OpenCount::of("dead");
        let open = |count: &mut OpenCount| count.count(None, &ranges());
        assert_eq!(open(&mut count), Ok(17));
        // Of these, 1 and 2 were deleted.
        resolve(&mut count, None, 1, 4);
        assert_eq!(open(&mut count), Ok(15));
        begin(&mut count, "dead", &[9, 8, 7]);
        assert_eq!(open(&mut count), Ok(15));
        // The second one is passed over.
        progress(&mut count, 2, vec![1]);
        assert_eq!(open(&mut count), Ok(14));
        progress(&mut count, 3, vec![1]);
        assert_eq!(open(&mut count), Ok(13));
        take(&mut count, "resolved/dead/0/1/4", None);
        assert_eq!(open(&mut count), Ok(15));
        // Deleted are handled letters, then all.
        let deleted = [LetterRange::new(0, 10, 10), LetterRange::new(1, 8, 10)];
        assert_eq!(count.count(None, &deleted), Ok(1));
        count.begin_again();
        assert_eq!(count.count(None, &deleted), Ok(2));
    }

    #[test]
    fn what_is_about_another_topic_or_another_log_of_this_one_leaves_letters_open() {
        let mut count = OpenCount::of("dead");
        begin(&mut count, "other", &[9, 8, 7]);
        progress(&mut count, 3, Vec::new());
        assert_eq!(count.count(None, &ranges()), Ok(17));
        resolve(&mut count, Some("one"), 5, 9);
        for (log, open) in [(Some("one"), 12), (Some("two"), 17), (None, 12)] {
            assert_eq!(count.count(log.map(str::to_owned), &ranges()), Ok(open));
        }
    }

    #[test]
    fn where_it_is_not_known_what_was_done_there_is_no_number() {
        let mut count = OpenCount::of("dead");
        take(
            &mut count,
            "resolved/dead/0/5/6",
            Some(br#"{"v": 2, "who": "ada"}"#),
        );
        let reason = count.count(None, &ranges()).unwrap_err();
        assert!(reason.contains("resolved/dead/0/5/6"), "{reason}");
        resolve(&mut count, None, 5, 6);
        assert_eq!(count.count(None, &ranges()), Ok(15));
        begin(&mut count, "dead", &[9, 8]);
        take(&mut count, "task/a/order/0", Some(b"damaged"));
        progress(&mut count, 1, Vec::new());
        assert!(count.count(None, &ranges()).is_err());
        // Another program's.
        begin(&mut count, "dead", &[9, 8]);
        take(&mut count, "something", Some(b"else"));
        assert_eq!(count.count(None, &ranges()), Ok(14));
    }
}
