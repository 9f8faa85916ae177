//! Records that keep coming while a group goes through something.

use std::{
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tokio::task::JoinHandle;

use crate::{
    journal::Produced,
    kafka::{HarnessError, Kafka, NewRecord},
};

/// Records of one write: enough that a member has work in flight at almost any moment.
const BATCH: usize = 400;

/// A producer that writes batch after batch until it is stopped, with ids that count on from
/// `first`.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Load {
    /// Starts to write records of `keys` keys to `topic`. Writes that fail, since a broker is down,
    /// are written again.
    pub fn start<K>(kafka: K, topic: &str, keys: usize, first: usize) -> Self
    where
        K: Deref<Target = Kafka> + Send + Sync + 'static,
    {
        let (stop, written) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let (stopped, count, topic) = (stop.clone(), written.clone(), topic.to_owned());
        let task = tokio::spawn(async move {
            let mut next = first;
            while !stopped.load(Ordering::Relaxed) {
                let batch = numbered(next..next + BATCH, keys);
                next += BATCH;
                if kafka.produce(&topic, batch).await.is_ok() {
                    count.fetch_add(BATCH, Ordering::Relaxed);
                }
            }
        });
        Self {
            stop,
            written,
            task,
        }
    }

    /// How many records the brokers have acknowledged.
    pub fn written(&self) -> usize {
        self.written.load(Ordering::Relaxed)
    }

    /// Stops after the batch that is being written.
    ///
    /// # Panics
    /// When the writing task has panicked.
    pub async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Err(error) = self.task.await {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

/// Records whose value is their number, and whose keys take turns.
pub fn numbered(numbers: std::ops::Range<usize>, keys: usize) -> Vec<NewRecord> {
    numbers
        .map(|number| NewRecord::keyed(format!("key-{}", number % keys), number.to_string()))
        .collect()
}

impl Kafka {
    /// What lies in `topic`, in the form of the journal's checkers; a record's id is the topic's
    /// name and its value.
    ///
    /// # Errors
    /// As [`Kafka::read_all`].
    pub async fn produced(&self, topic: &str) -> Result<Vec<Produced>, HarnessError> {
        let stored = self.read_all(topic).await?;
        let produced = stored.into_iter().map(|record| Produced {
            topic: topic.to_owned(),
            partition: record.partition,
            offset: record.offset,
            key: record.key,
            id: id(topic, record.value.as_deref().unwrap_or_default()),
        });
        Ok(produced.collect())
    }
}

/// What the journal calls a record.
pub(crate) fn id(topic: &str, value: &[u8]) -> String {
    format!("{topic}/{}", String::from_utf8_lossy(value))
}
