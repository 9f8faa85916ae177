//! What counts as a loss. Pure: the watcher brings the numbers.

use std::collections::BTreeMap;

/// Records that an embedded broker dropped before a reader had committed them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Eviction {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The reader; `None` where [`expect_reader`](super::EmbeddedBroker::expect_reader) named none
    /// for the topic.
    pub group: Option<String>,
    /// The first offset that was dropped uncommitted.
    pub first_offset: i64,
    /// How many offsets were, in all.
    pub records: u64,
}

/// One partition and one reader, from look to look.
///
/// A look reads the commit first and the first offset still there second. A record that this look
/// finds dropped was there at the end of the last one. So it was dropped *after* the commit that
/// the last look read. Comparing with that commit misses no loss, even where the reader has by now
/// skipped the hole and committed behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reader {
    committed: i64,
    low: i64,
    /// First offset lost and how many.
    lost: Option<(i64, u64)>,
}

impl Reader {
    /// Takes a look at the numbers; true if something was lost since the last.
    pub(super) fn look(&mut self, committed: i64, low: i64) -> bool {
        let safe_up_to = self.committed.max(self.low);
        let lost = u64::try_from(low.saturating_sub(safe_up_to)).unwrap_or(0);
        if lost > 0 {
            let (first, before) = self.lost.unwrap_or((safe_up_to, 0));
            self.lost = Some((first, before.saturating_add(lost)));
        }
        self.committed = self.committed.max(committed);
        self.low = self.low.max(low);
        lost > 0
    }
}

/// The name of a partition together with who reads it.
pub(super) type ReaderKey = (String, i32, Option<String>);

/// All losses of all readers. Bounded by partitions times readers.
pub(super) fn evictions(readers: &BTreeMap<ReaderKey, Reader>) -> Vec<Eviction> {
    let lost = readers
        .iter()
        .filter_map(|(key, reader)| Some((key, reader.lost?)));
    lost.map(
        |((topic, partition, group), (first_offset, records))| Eviction {
            topic: topic.clone(),
            partition: *partition,
            group: group.clone(),
            first_offset,
            records,
        },
    )
    .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dropping_what_was_committed_is_no_loss() {
        let mut reader = Reader::default();
        assert!(!reader.look(10, 0));
        assert!(!reader.look(20, 10));
        assert_eq!(reader.lost, None);
    }

    #[test]
    fn a_loss_that_the_reader_has_already_skipped_is_still_found() {
        let mut reader = Reader::default();
        assert!(!reader.look(10, 0));
        // 10..50 dropped, then the reader went on at 50 and committed 60, all since the last look.
        assert!(reader.look(60, 50));
        assert_eq!(reader.lost, Some((10, 40)));
        assert!(!reader.look(80, 50));
        assert!(!reader.look(90, 80));
        assert_eq!(reader.lost, Some((10, 40)));
    }

    /// One step of a partition's life.
    #[derive(Clone, Debug)]
    enum Step {
        Commit(i64),
        Drop(i64),
        Look,
    }

    proptest! {
        /// The model has the order of all events; the watcher has only what a look reads.
        #[test]
        fn no_loss_is_ever_missed(steps in proptest::collection::vec(
            prop_oneof![(1i64..50).prop_map(Step::Commit), (1i64..50).prop_map(Step::Drop), Just(Step::Look)], 0..40,
        )) {
            let (mut committed, mut low, mut lost) = (0, 0, false);
            let mut reader = Reader::default();
            for step in steps {
                match step {
                    // A reader below the first offset still there goes on from there.
                    Step::Commit(more) => committed = committed.max(low) + more,
                    Step::Drop(more) => {
                        low += more;
                        lost |= low > committed;
                    }
                    Step::Look => {
                        reader.look(committed, low);
                        prop_assert!(!lost || reader.lost.is_some());
                    }
                }
            }
            reader.look(committed, low);
            prop_assert!(!lost || reader.lost.is_some());
        }

        #[test]
        fn with_a_look_between_any_two_steps_there_is_no_false_alarm(steps in proptest::collection::vec(
            (any::<bool>(), 1i64..50), 0..40,
        )) {
            let (mut committed, mut low) = (0i64, 0i64);
            let mut reader = Reader::default();
            for (commits, more) in steps {
                if commits { committed += more } else { low = (low + more).min(committed) }
                prop_assert!(!reader.look(committed, low));
            }
        }
    }
}
