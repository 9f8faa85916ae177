//! The dead letters of a topic, from its beginning to its end as it is now.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::vec;

use tokio::sync::mpsc;

use crate::config::{BootstrapServers, KafkaSettings};
use crate::dead_letter::StoredLetter;
use crate::kafka::config::{ClientConfigError, ClientSettings, reader_config};
use crate::kafka::{LetterRange, Polled, TopicReader, ranges};
use crate::support::panics;

/// Batches that are read and not yet taken; another two are being filled and being taken from.
const READ_AHEAD: usize = 2;
/// A batch has no more letters. To hand over each by itself would cost more than to read it.
const BATCH_LETTERS: usize = 256;
/// A batch that has as many bytes gets no further letter.
const BATCH_BYTES: usize = 1024 * 1024;
/// One poll; also how soon a reader that is no longer wanted ends.
const POLL: Duration = Duration::from_millis(100);

/// The dead letters of a topic, as they are read. It joins no group, commits nothing, and changes
/// nothing.
///
/// Its end is that of the topic when reading began: what is written later is not read, copies that
/// failed again included. Letters of one partition are in order; partitions come as the brokers
/// answer. With `isolation.level=read_committed`, librdkafka's default, letters behind an open
/// transaction are not read.
///
/// # Memory
/// 1,024 letters, or as many as have 4 MiB; 32 more while they are read; and what the client has
/// fetched ahead: it fetches no more above 16 MiB (`queued.max.messages.kbytes`). That is no hard
/// bound: an answer that is on its way comes on top, of each broker (`fetch.max.bytes`, and a single
/// larger batch). Nothing more is read until they are taken.
///
/// # Examples
/// How often which error:
///
/// ```no_run
/// use std::collections::BTreeMap;
/// use keylane::redrive::Letters;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut letters = Letters::of("parking-events-dlq").bootstrap_servers("localhost:9092").read().await?;
/// let mut counts = BTreeMap::new();
/// while let Some(letter) = letters.next().await {
///     *counts.entry(letter?.fingerprint()).or_insert(0) += 1;
/// }
/// println!("{counts:#?}, and {} other records", letters.not_letters());
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Letters {
    batches: mpsc::Receiver<Result<Vec<StoredLetter>, LettersError>>,
    batch: vec::IntoIter<StoredLetter>,
    ranges: Vec<LetterRange>,
    not_letters: Arc<AtomicU64>,
}

/// Puts together what is read; made by [`Letters::of`].
#[derive(Clone, Debug)]
#[must_use = "nothing is read until `read`"]
pub struct LettersBuilder {
    topic: String,
    bootstrap_servers: BootstrapServers,
    kafka: KafkaSettings,
    ranges: Option<Vec<LetterRange>>,
    patience: Duration,
}

/// Why dead letters cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LettersError {
    /// A setting of the Kafka client cannot be used.
    #[error(transparent)]
    Kafka(#[from] ClientConfigError),
    /// The topic cannot be read.
    #[error("the dead letters of {topic} cannot be read: {reason}")]
    Unreadable {
        /// The topic.
        topic: String,
        /// The client's reason.
        reason: String,
    },
    /// The brokers gave nothing more.
    #[error(
        "no more dead letters of {topic} arrived within {waited:?}, and {partitions} of its partitions are not read to \
         the end: {reason}; check the brokers, and read again"
    )]
    Stalled {
        /// The topic.
        topic: String,
        /// How long nothing arrived.
        waited: Duration,
        /// How many partitions are left.
        partitions: usize,
        /// The client's last error.
        reason: String,
    },
}

impl Letters {
    /// Those of this topic.
    pub fn of(topic: impl Into<String>) -> LettersBuilder {
        LettersBuilder {
            topic: topic.into(),
            bootstrap_servers: BootstrapServers::default(),
            kafka: KafkaSettings::new(),
            ranges: None,
            patience: Duration::from_secs(60),
        }
    }

    /// The next one; `None` at the end. After an error comes the end.
    ///
    /// # Cancellation
    /// A call that is dropped loses no letter.
    pub async fn next(&mut self) -> Option<Result<StoredLetter, LettersError>> {
        loop {
            if let Some(letter) = self.batch.next() {
                return Some(Ok(letter));
            }
            match self.batches.recv().await? {
                Ok(batch) => self.batch = batch.into_iter(),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// What is read, by partition: the topic as it was when reading began. A later reader of the
    /// same letters takes it by [`LettersBuilder::ranges`].
    pub fn ranges(&self) -> &[LetterRange] {
        &self.ranges
    }

    /// How many records were read until now that are no dead letters.
    pub fn not_letters(&self) -> u64 {
        self.not_letters.load(Ordering::Relaxed)
    }
}

impl LettersBuilder {
    /// Brokers to start from. Default: `localhost:9092`.
    pub fn bootstrap_servers(mut self, servers: impl Into<BootstrapServers>) -> Self {
        self.bootstrap_servers = servers.into();
        self
    }

    /// One setting of the Kafka client, by librdkafka's name.
    pub fn kafka(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.kafka.set(name, value);
        self
    }

    /// Several settings of the Kafka client, added to those already there.
    pub fn kafka_settings<K: Into<String>, V: Into<String>>(
        mut self,
        settings: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        for (name, value) in settings {
            self.kafka.set(name, value);
        }
        self
    }

    /// Reads these ranges. Default: all partitions, from the beginning to the end.
    pub fn ranges(mut self, ranges: impl IntoIterator<Item = LetterRange>) -> Self {
        self.ranges = Some(ranges.into_iter().collect());
        self
    }

    /// How long to wait for the brokers, at the start and while nothing is read. Default: 60 s.
    ///
    /// Records that are passed over, as those of transactions that were aborted, count as read. That is
    /// noticed once a second (`statistics.interval.ms`), so use no less than a few seconds.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Queries the ends of the topic, and begins to read on a thread of its own, `keylane-letters`.
    /// It ends with the last letter, or when the [`Letters`] are dropped.
    ///
    /// # Errors
    /// [`LettersError`] where a setting cannot be used, no broker answers, or the topic is not there.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn read(self) -> Result<Letters, LettersError> {
        let config = reader_config(self.bootstrap_servers.as_str(), self.kafka.as_map())?;
        let topic = self.topic.clone();
        let opened = tokio::task::spawn_blocking(move || self.open(config)).await;
        opened.unwrap_or_else(|error| Err(unreadable(&topic, error)))
    }

    fn open(self, config: ClientSettings) -> Result<Letters, LettersError> {
        let Self {
            topic, patience, ..
        } = self;
        let ranges = match self.ranges {
            Some(ranges) => ranges,
            None => ranges(&config, &topic, patience).map_err(|error| unreadable(&topic, error))?,
        };
        let reader = TopicReader::open(&config, &topic, &ranges);
        let reader = reader.map_err(|reason| unreadable(&topic, reason))?;
        let (sender, batches) = mpsc::channel(READ_AHEAD);
        let not_letters = Arc::<AtomicU64>::default();
        let sorter = Sorter {
            topic: topic.as_str().into(),
            patience,
            sender: sender.clone(),
            not_letters: not_letters.clone(),
        };
        std::thread::Builder::new()
            .name("keylane-letters".into())
            .spawn(move || {
                let read = panics::caught(|| sorter.read(reader));
                let read = read.unwrap_or_else(|text| Err(unreadable(&sorter.topic, text)));
                if let Err(error) = read {
                    // Where it fails, nobody reads any longer.
                    let _ = sender.blocking_send(Err(error));
                }
            })
            .map_err(|error| unreadable(&topic, error))?;
        Ok(Letters {
            batches,
            batch: Vec::new().into_iter(),
            ranges,
            not_letters,
        })
    }
}

/// The reader's side.
struct Sorter {
    topic: Arc<str>,
    patience: Duration,
    sender: mpsc::Sender<Result<Vec<StoredLetter>, LettersError>>,
    not_letters: Arc<AtomicU64>,
}

impl Sorter {
    fn read(&self, mut reader: TopicReader) -> Result<(), LettersError> {
        let mut batch = Batch::default();
        let read = self.read_into(&mut batch, &mut reader);
        // Also before an error: what was read is handed over.
        self.hand_over(&mut batch);
        read
    }

    fn read_into(&self, batch: &mut Batch, reader: &mut TopicReader) -> Result<(), LettersError> {
        let mut waiting = Waiting::since(Instant::now());
        while !self.sender.is_closed() {
            // Letters that are read do not wait for further ones.
            let timeout = match batch.letters.is_empty() {
                true => POLL.min(self.patience),
                false => Duration::ZERO,
            };
            let polled = reader.poll(timeout);
            match polled.map_err(|reason| unreadable(&self.topic, reason))? {
                Polled::End => return Ok(()),
                Polled::Nothing if !batch.letters.is_empty() => {
                    self.hand_over(batch);
                    waiting.since = Instant::now();
                }
                Polled::Nothing => {
                    let waited = waiting.at(Instant::now(), reader.progress());
                    if waited < self.patience {
                        continue;
                    }
                    let reason = reader.last_error();
                    return Err(LettersError::Stalled {
                        topic: self.topic.to_string(),
                        waited: self.patience,
                        partitions: reader.left(),
                        reason: reason.unwrap_or_else(|| "the brokers gave none".to_owned()),
                    });
                }
                Polled::Record { partition, record } => {
                    match StoredLetter::new(self.topic.clone(), partition, record) {
                        Some(letter) => batch.push(letter),
                        None => {
                            self.not_letters.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    if batch.is_full() {
                        self.hand_over(batch);
                    }
                    waiting.since = Instant::now();
                }
            }
        }
        Ok(())
    }

    /// Waits for a place. Where there is no reader any longer, the loop ends by itself.
    fn hand_over(&self, batch: &mut Batch) {
        let Batch { letters, .. } = std::mem::take(batch);
        if !letters.is_empty() {
            let _ = self.sender.blocking_send(Ok(letters));
        }
    }
}

/// Letters that are read and not yet handed over.
#[derive(Default)]
struct Batch {
    letters: Vec<StoredLetter>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, letter: StoredLetter) {
        if self.letters.is_empty() {
            self.letters.reserve_exact(BATCH_LETTERS);
        }
        self.bytes += letter.record().size();
        self.letters.push(letter);
    }

    fn is_full(&self) -> bool {
        self.letters.len() >= BATCH_LETTERS || self.bytes >= BATCH_BYTES
    }
}

/// Since when the client has read no further.
struct Waiting {
    since: Instant,
    progress: i64,
}

impl Waiting {
    fn since(since: Instant) -> Self {
        Self { since, progress: 0 }
    }

    /// How long by now, with this [`TopicReader::progress`].
    fn at(&mut self, now: Instant, progress: i64) -> Duration {
        if progress != self.progress {
            *self = Self {
                since: now,
                progress,
            };
        }
        now.saturating_duration_since(self.since)
    }
}

fn unreadable(topic: &str, reason: impl ToString) -> LettersError {
    LettersError::Unreadable {
        topic: topic.to_owned(),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_without_records_does_not_end_patience_while_the_client_reads_on() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut waiting = Waiting::since(start);
        assert_eq!(waiting.at(after(5), 0), Duration::from_secs(5));
        assert_eq!(waiting.at(after(50), 7), Duration::ZERO);
        assert_eq!(waiting.at(after(100), 8), Duration::ZERO);
        assert_eq!(waiting.at(after(130), 8), Duration::from_secs(30));
    }
}
