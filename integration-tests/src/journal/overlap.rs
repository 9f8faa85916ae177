//! G2, the other half: attempts at records of one key never overlap, in any members.

use std::{collections::HashMap, fmt, sync::Arc};

use super::{Entry, Work, show_key};

/// Two attempts at records of one key that ran at the same time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlap {
    /// The one that had not ended.
    pub running: Arc<Work>,
    /// The one that started meanwhile.
    pub started: Arc<Work>,
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (running, started) = (&self.running, &self.started);
        let Work {
            topic,
            partition,
            offset,
            member,
            key,
            ..
        } = &**started;
        let key = show_key(key.as_deref().unwrap_or_default());
        write!(
            f,
            "{topic}[{partition}]@{offset} of key {key} started on {member} "
        )?;
        write!(f, "while @{} ran on {}", running.offset, running.member)
    }
}

/// A running attempt, and the line at which it began.
type Attempt<'a> = (usize, &'a Arc<Work>);

/// Every start within a running attempt of the same topic, partition and key. Null keys are free to
/// overlap. An attempt without an end runs for ever.
pub fn overlaps(entries: &[Entry]) -> Vec<Overlap> {
    let mut lanes: HashMap<(&str, i32, &[u8]), Vec<Attempt<'_>>> = HashMap::new();
    let mut found = Vec::new();
    for (line, entry) in entries.iter().enumerate() {
        let (Entry::Started(work) | Entry::Ended(work, ..)) = entry;
        let Some(key) = &work.key else { continue };
        let lane = lanes.entry((&work.topic, work.partition, key)).or_default();
        match entry {
            Entry::Started(_) => {
                if let Some((_, other)) = lane.last() {
                    found.push(Overlap {
                        running: Arc::clone(other),
                        started: Arc::clone(work),
                    });
                }
                lane.push((line, work));
            }
            Entry::Ended(_, started, _) => lane.retain(|(line, _)| line != started),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Journal, Outcome, Work, testing::work},
        overlaps,
    };

    #[test]
    fn one_after_the_other_is_no_overlap() {
        let journal = Journal::new();
        journal.started(work(0)).finished(Outcome::Done);
        drop(journal.started(work(1)));
        journal.started(work(1)).finished(Outcome::Failed);
        assert_eq!(overlaps(&journal.entries()), []);
    }

    #[test]
    fn a_start_before_the_end_of_another_is_an_overlap_also_across_members() {
        let journal = Journal::new();
        let first = journal.started(work(0));
        let second = journal.started(Work {
            member: "b".into(),
            ..work(1)
        });
        first.finished(Outcome::Done);
        second.finished(Outcome::Done);
        let found = overlaps(&journal.entries());
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].running.offset, found[0].started.offset), (0, 1));
        assert!(
            found[0]
                .to_string()
                .contains("@1 of key key started on b while @0 ran on a"),
            "{}",
            found[0]
        );
    }

    #[test]
    fn an_attempt_without_an_end_overlaps_all_that_follows() {
        let journal = Journal::new();
        let stuck = journal.started(work(0));
        journal.started(work(1)).finished(Outcome::Done);
        journal.started(work(2)).finished(Outcome::Done);
        assert_eq!(overlaps(&journal.entries()).len(), 2);
        drop(stuck);
    }

    #[test]
    fn other_keys_other_partitions_and_null_keys_may_run_together() {
        let journal = Journal::new();
        let free = [
            work(0),
            Work {
                key: Some(b"other".to_vec()),
                ..work(1)
            },
            Work {
                partition: 1,
                ..work(0)
            },
            Work {
                topic: "u".into(),
                ..work(0)
            },
            Work {
                key: None,
                ..work(2)
            },
            Work {
                key: None,
                ..work(3)
            },
        ];
        let running: Vec<_> = free.into_iter().map(|work| journal.started(work)).collect();
        assert_eq!(overlaps(&journal.entries()), []);
        drop(running);
    }
}
