//! Reads the dead-letter topic back, with keylane itself, to see what really arrived there.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use keylane::error::EnqueueError;
use keylane::{Headers, NewTask, Processor, Task, TaskError, TaskProducer};
use tokio::sync::watch;

use crate::tally::Tally;

/// Every task carries it: the run and the task's index in the plan, as `run/index`. A dead letter
/// keeps the headers that the record had, so it names the event even of an undecodable record.
pub(crate) const EVENT_HEADER: &str = "car-park-event";
/// A record with this header is no dead letter. It marks the end of a partition for the run that it
/// names.
const FENCE_HEADER: &str = "car-park-fence";

/// What was read from the dead-letter topic. Holds at most one dead letter per event.
#[derive(Debug)]
pub(crate) struct DeadLetters {
    run: String,
    tally: Arc<Tally>,
    read: Mutex<BTreeMap<usize, DeadLetter>>,
    fences: watch::Sender<BTreeSet<i32>>,
}

/// A dead letter of this run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeadLetter {
    pub(crate) headers: Headers,
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Bytes,
}

impl DeadLetters {
    pub(crate) fn new(run: &str, tally: Arc<Tally>) -> Arc<Self> {
        let fences = watch::Sender::new(BTreeSet::new());
        Arc::new(Self {
            run: run.to_owned(),
            tally,
            read: Mutex::default(),
            fences,
        })
    }

    /// The dead letters found, by the index of their event.
    pub(crate) fn read(&self) -> BTreeMap<usize, DeadLetter> {
        self.book().clone()
    }

    /// Waits until everything has been read that is on these partitions now.
    ///
    /// Writes a marker to the end of each and waits until it comes out at the other side. It must
    /// have one reader with a concurrency of one: that reads a partition in its order.
    pub(crate) async fn read_to_the_end(
        &self,
        producer: &TaskProducer,
        partitions: &BTreeSet<i32>,
        within: Duration,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let fence = |partition: &i32| {
            NewTask::tombstone()
                .header(FENCE_HEADER, self.run.clone())
                .partition(*partition)
        };
        let answers = producer.enqueue_all(partitions.iter().map(fence)).await;
        answers
            .into_iter()
            .collect::<Result<Vec<_>, EnqueueError>>()?;
        let mut fences = self.fences.subscribe();
        let all = fences.wait_for(|seen| seen.is_superset(partitions));
        match tokio::time::timeout(within, all).await {
            Ok(_) => Ok(()),
            Err(_) => Err(format!("its end was not reached within {} s", within.as_secs()).into()),
        }
    }

    fn note(&self, partition: i32, headers: &Headers, key: Option<Bytes>, value: Bytes) {
        if headers.last_str(FENCE_HEADER) == Some(&self.run) {
            self.fences.send_if_modified(|seen| seen.insert(partition));
        } else if let Some(index) = self.event_of(headers) {
            let first = self
                .book()
                .insert(
                    index,
                    DeadLetter {
                        headers: headers.clone(),
                        key,
                        value,
                    },
                )
                .is_none();
            if first {
                self.tally.count_dead_lettered();
            }
        }
    }

    /// The event's index, unless an earlier run left the record on the topic.
    fn event_of(&self, headers: &Headers) -> Option<usize> {
        let (run, index) = headers.last_str(EVENT_HEADER)?.split_once('/')?;
        (run == self.run).then(|| index.parse().ok()).flatten()
    }

    // Nothing panics while it holds the lock, so a poisoned book would still be whole.
    fn book(&self) -> MutexGuard<'_, BTreeMap<usize, DeadLetter>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The processor of the dead-letter topic.
pub(crate) struct Reader(pub(crate) Arc<DeadLetters>);

impl Processor<Bytes> for Reader {
    async fn process(&self, task: Task<Bytes>) -> Result<(), TaskError> {
        let key = task.key().map(Bytes::copy_from_slice);
        self.0.note(
            task.partition(),
            task.headers(),
            key,
            task.payload().clone(),
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(of: &[(&str, &str)]) -> Headers {
        of.iter()
            .map(|(name, value)| (*name, value.to_string()))
            .collect()
    }

    #[test]
    fn a_dead_letter_of_this_run_counts_once_and_one_of_another_run_does_not() {
        let tally = Arc::new(Tally::default());
        let dead_letters = DeadLetters::new("r1", tally.clone());
        for event in ["r1/7", "r1/7", "r0/8", "nonsense"] {
            dead_letters.note(0, &headers(&[(EVENT_HEADER, event)]), None, Bytes::new());
        }
        dead_letters.note(0, &Headers::new(), None, Bytes::new());
        assert_eq!(dead_letters.read().into_keys().collect::<Vec<_>>(), [7]);
        assert_eq!(tally.counts().dead_lettered, 1);
    }

    #[test]
    fn a_fence_of_this_run_marks_its_partition_and_is_no_dead_letter() {
        let dead_letters = DeadLetters::new("r1", Arc::default());
        dead_letters.note(0, &headers(&[(FENCE_HEADER, "r0")]), None, Bytes::new());
        dead_letters.note(3, &headers(&[(FENCE_HEADER, "r1")]), None, Bytes::new());
        assert_eq!(*dead_letters.fences.borrow(), BTreeSet::from([3]));
        assert!(dead_letters.read().is_empty());
    }
}
