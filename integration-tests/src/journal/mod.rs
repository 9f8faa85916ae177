//! What the processors of all members saw, in one order, and checkers that compare it with what was
//! produced.
//!
//! ```
//! use keylane_integration_tests::journal::{Expect, Journal, Outcome, Produced, Work};
//!
//! let journal = Journal::new();
//! let work = Work { member: "a".into(), topic: "t".into(), partition: 0, offset: 5, key: None, id: "1".into(), attempt: 1 };
//! let running = journal.started(work);
//! running.finished(Outcome::Done); // dropped instead: the attempt was cut off
//!
//! let produced = [Produced { topic: "t".into(), partition: 0, offset: 5, key: None, id: "1".into() }];
//! journal.check(&produced, Expect::Drained).assert_clean();
//! ```

mod commits;
mod loss;
mod order;
mod overlap;
mod report;

use std::{
    collections::{BTreeSet, HashSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub use commits::{CommitPoint, CommittedUnsettled, committed_unsettled};
pub use loss::{Duplicate, duplicates, lost, unknown};
pub use order::{OrderFault, OrderFaultKind, Rewinds, order_faults};
pub use overlap::{Overlap, overlaps};
pub use report::{Expect, Report};

/// Where no further attempt is noted; those that run are noted to their end. That is about 2 GB: a
/// suite that comes near it needs a smaller load, not a larger journal.
const MAX_ENTRIES: usize = 10_000_000;

/// Where a record lies.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]@{}", self.topic, self.partition, self.offset)
    }
}

/// A record that the brokers have acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Produced {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// What the test calls the record; different for each.
    pub id: String,
}

impl Produced {
    /// Where the record lies.
    pub fn place(&self) -> Place {
        Place {
            topic: self.topic.clone(),
            partition: self.partition,
            offset: self.offset,
        }
    }
}

/// One attempt at one record by one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// The member of the group: a name that the test gave it. A member that is started again gets
    /// another name.
    pub member: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// What the test calls the record.
    pub id: String,
    /// Which attempt this is, counted from 1.
    pub attempt: u32,
}

impl Work {
    /// Where the record lies.
    pub fn place(&self) -> Place {
        Place {
            topic: self.topic.clone(),
            partition: self.partition,
            offset: self.offset,
        }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The processor succeeded: the record counts as processed.
    Done,
    /// The processor failed; the record is tried again or given up.
    Failed,
    /// The attempt was dropped before its end: a time-out, a panic, a member that went away.
    CutOff,
}

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// An attempt began.
    Started(Arc<Work>),
    /// An attempt ended. The number is the line at which it began.
    Ended(Arc<Work>, usize, Outcome),
}

/// An append-only journal that all members write. Clones write the same one.
#[derive(Debug, Clone, Default)]
pub struct Journal {
    lines: Arc<Mutex<Lines>>,
}

#[derive(Debug, Default)]
struct Lines {
    entries: Vec<Entry>,
    /// The ids that have been processed successfully, kept since tests ask again and again while
    /// attempts wait for the lock.
    done: HashSet<String>,
}

impl Journal {
    /// An empty journal.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that an attempt begins. Call it first in the processor, and keep the answer until the
    /// end.
    ///
    /// # Panics
    /// When the journal is full (10 million lines).
    #[must_use = "what is dropped at once counts as cut off"]
    pub fn started(&self, work: Work) -> Running {
        let work = Arc::new(work);
        let mut lines = self.lock();
        let entries = &mut lines.entries;
        assert!(
            entries.len() < MAX_ENTRIES,
            "the journal is full: {MAX_ENTRIES} lines"
        );
        let started = entries.len();
        entries.push(Entry::Started(Arc::clone(&work)));
        drop(lines);
        Running {
            journal: self.clone(),
            work,
            started,
            outcome: Outcome::CutOff,
        }
    }

    /// The lines up to now. A line that is written while this copies comes later.
    pub fn entries(&self) -> Vec<Entry> {
        self.lock().entries.clone()
    }

    /// How many different ids have been processed successfully.
    pub fn done(&self) -> usize {
        self.lock().done.len()
    }

    /// Where the successfully processed records lie: the settled ones, unless some were settled in
    /// another way.
    pub fn settled(&self) -> BTreeSet<Place> {
        self.lock()
            .entries
            .iter()
            .filter_map(done)
            .map(Work::place)
            .collect()
    }

    /// Compares the journal with what was produced; commits are checked apart, by
    /// [`committed_unsettled`].
    pub fn check(&self, produced: &[Produced], expect: Expect) -> Report {
        Report::of(&self.entries(), produced, expect)
    }

    /// A processor that panics must not hide what the others saw.
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An attempt that goes on. Dropping it notes that it was cut off.
#[derive(Debug)]
pub struct Running {
    journal: Journal,
    work: Arc<Work>,
    started: usize,
    outcome: Outcome,
}

impl Running {
    /// Notes how the attempt ended. Call it last in the processor.
    pub fn finished(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    /// The same for what a processor returns, which it returns.
    pub fn returned<E>(self, result: Result<(), E>) -> Result<(), E> {
        self.finished(if result.is_ok() {
            Outcome::Done
        } else {
            Outcome::Failed
        });
        result
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut lines = self.journal.lock();
        if self.outcome == Outcome::Done {
            lines.done.insert(self.work.id.clone());
        }
        lines.entries.push(Entry::Ended(
            Arc::clone(&self.work),
            self.started,
            self.outcome,
        ));
    }
}

/// The work of a line with "done".
fn done(entry: &Entry) -> Option<&Work> {
    match entry {
        Entry::Ended(work, _, Outcome::Done) => Some(work),
        _ => None,
    }
}

/// A key for messages: text if it is text.
fn show_key(key: &[u8]) -> String {
    std::str::from_utf8(key).map_or_else(|_| format!("{key:02x?}"), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::{Entry, Journal, Outcome, testing::work};

    #[test]
    fn an_attempt_that_is_dropped_was_cut_off() {
        let journal = Journal::new();
        drop(journal.started(work(0)));
        assert!(matches!(
            journal.entries()[..],
            [Entry::Started(_), Entry::Ended(_, 0, Outcome::CutOff)]
        ));
        assert_eq!((journal.done(), journal.settled().len()), (0, 0));
    }

    #[test]
    fn only_success_settles_and_each_id_counts_once() {
        let journal = Journal::new();
        journal.started(work(0)).finished(Outcome::Failed);
        journal.started(work(1)).finished(Outcome::Done);
        journal.started(work(1)).finished(Outcome::Done);
        assert_eq!(journal.done(), 1);
        assert_eq!(
            journal.settled().into_iter().collect::<Vec<_>>(),
            [work(1).place()]
        );
    }
}

/// Histories in few words, for the checkers' own tests.
#[cfg(test)]
mod testing {
    use super::{Entry, Journal, Outcome, Produced, Work};

    /// The key of every record here unless the test sets another.
    pub(super) const KEY: &[u8] = b"key";

    pub(super) fn work(offset: i64) -> Work {
        Work {
            member: "a".into(),
            topic: "t".into(),
            partition: 0,
            offset,
            key: Some(KEY.to_vec()),
            id: offset.to_string(),
            attempt: 1,
        }
    }

    pub(super) fn produced(offsets: impl IntoIterator<Item = i64>) -> Vec<Produced> {
        let record = |offset: i64| Produced {
            topic: "t".into(),
            partition: 0,
            offset,
            key: Some(KEY.to_vec()),
            id: offset.to_string(),
        };
        offsets.into_iter().map(record).collect()
    }

    /// A history of successful attempts, one after the other.
    pub(super) fn history(works: impl IntoIterator<Item = Work>) -> Vec<Entry> {
        let journal = Journal::new();
        for work in works {
            journal.started(work).finished(Outcome::Done);
        }
        journal.entries()
    }
}
