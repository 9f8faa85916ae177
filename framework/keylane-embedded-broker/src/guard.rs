//! The watcher: reads what the brokers still have and what the readers have committed.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::eviction::{Eviction, Reader, ReaderKey, evictions};
use super::mock::Mock;
use super::{EmbeddedBrokerError, EvictionGuard};

const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// For each of a look's questions; an embedded broker answers in microseconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// A running watcher; it stops, after a last look, when this is dropped.
#[derive(Debug)]
pub(super) struct Guard {
    shared: Arc<Shared>,
    /// Closing it stops the thread.
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    mock: Arc<Mock>,
    on_loss: EvictionGuard,
    /// Held during a look, which blocks.
    watch: Mutex<Watch>,
    /// Topics by the group that reads them. Never held while something blocks, nor is `found`.
    expected: Mutex<BTreeMap<String, BTreeSet<String>>>,
    found: Mutex<Vec<Eviction>>,
}

impl Guard {
    pub(super) fn start(
        bootstrap_servers: &str,
        mock: Arc<Mock>,
        on_loss: EvictionGuard,
    ) -> Result<Option<Self>, EmbeddedBrokerError> {
        if on_loss == EvictionGuard::Off {
            return Ok(None);
        }
        let watch = Watch::new(bootstrap_servers).map_err(|error: KafkaError| {
            EmbeddedBrokerError::Start {
                reason: error.to_string(),
            }
        })?;
        let shared = Arc::new(Shared {
            mock,
            on_loss,
            watch: Mutex::new(watch),
            expected: Mutex::default(),
            found: Mutex::default(),
        });
        let (stop, stopped) = sync_channel(0);
        let watcher = shared.clone();
        let thread = std::thread::Builder::new()
            .name("keylane-embedded-broker".to_owned())
            .spawn(move || watcher.run(&stopped))
            .map_err(|error| EmbeddedBrokerError::Start {
                reason: format!("no thread for the watcher: {error}"),
            })?;
        Ok(Some(Self {
            shared,
            stop: Some(stop),
            thread: Some(thread),
        }))
    }

    pub(super) fn expect_reader(&self, group: &str, topic: &str) {
        lock(&self.shared.expected)
            .entry(group.to_owned())
            .or_default()
            .insert(topic.to_owned());
    }

    pub(super) fn evicted(&self) -> Vec<Eviction> {
        lock(&self.shared.found).clone()
    }

    pub(super) fn look(&self) -> Result<(), EmbeddedBrokerError> {
        self.shared
            .look()
            .map_err(|error| EmbeddedBrokerError::Guard {
                reason: error.to_string(),
            })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self
            .thread
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            tracing::error!(
                "the embedded broker's watcher panicked: records may have been dropped unread"
            );
        }
    }
}

impl Shared {
    fn run(&self, stopped: &Receiver<()>) {
        let mut failing = false;
        loop {
            let stop = !matches!(
                stopped.recv_timeout(LOOK_INTERVAL),
                Err(RecvTimeoutError::Timeout)
            );
            match catch_unwind(AssertUnwindSafe(|| self.look_on_thread())) {
                Ok(Ok(())) => failing = false,
                // Logged once. No loss is missed: the next look compares with the last one that
                // succeeded.
                Ok(Err(error)) if !failing => {
                    tracing::warn!(%error, "the embedded broker's watcher gets no answer");
                    failing = true;
                }
                Ok(Err(_)) => {}
                Err(payload) => tracing::error!(
                    panic = text(&*payload),
                    "the embedded broker's watcher panicked; it looks again"
                ),
            }
            if stop {
                return;
            }
        }
    }

    fn look_on_thread(&self) -> KafkaResult<()> {
        #[cfg(test)]
        crate::tests::panic_if_planted(&lock(&self.watch).bootstrap_servers);
        self.look()
    }

    fn look(&self) -> KafkaResult<()> {
        let expected = lock(&self.expected).clone();
        let mut watch = lock(&self.watch);
        let looked = watch.look(&expected);
        self.mock.serve();
        let found = evictions(&watch.readers);
        if !found.is_empty() && self.on_loss == EvictionGuard::RefuseWrites {
            self.mock.refuse_writes();
        }
        *lock(&self.found) = found;
        looked
    }
}

/// What is behind these locks is whole between two statements, whatever panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The words of a panic of our own thread.
fn text(payload: &(dyn Any + Send)) -> &str {
    let words = payload.downcast_ref::<&str>().copied();
    let words = words.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    words.unwrap_or("(no message)")
}

/// The clients, and what the last look saw.
struct Watch {
    bootstrap_servers: String,
    client: BaseConsumer,
    /// A client for each group, because a commit is read under the group's name. They never join
    /// it.
    groups: BTreeMap<String, BaseConsumer>,
    readers: BTreeMap<ReaderKey, Reader>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("readers", &self.readers)
            .finish_non_exhaustive()
    }
}

/// Offsets by topic and partition.
type Offsets = BTreeMap<(String, i32), i64>;

impl Watch {
    fn new(bootstrap_servers: &str) -> KafkaResult<Self> {
        let client = client(bootstrap_servers, None)?;
        let bootstrap_servers = bootstrap_servers.to_owned();
        Ok(Self {
            bootstrap_servers,
            client,
            groups: BTreeMap::new(),
            readers: BTreeMap::new(),
        })
    }

    /// The order matters: commits first, then what is left; see [`Reader`].
    fn look(&mut self, expected: &BTreeMap<String, BTreeSet<String>>) -> KafkaResult<()> {
        let partitions = self.partitions()?;
        let mut committed = BTreeMap::new();
        for (group, topics) in expected {
            let read: Vec<_> = partitions
                .iter()
                .filter(|(topic, _)| topics.contains(topic))
                .cloned()
                .collect();
            committed.insert(group, self.committed(group, &read)?);
        }
        let lows = self.lows(&partitions)?;

        for ((topic, partition), low) in lows {
            let groups: Vec<_> = expected
                .iter()
                .filter(|(_, topics)| topics.contains(&topic))
                .collect();
            if groups.is_empty() {
                self.look_at(topic, partition, None, 0, low);
                continue;
            }
            for (group, _) in groups {
                let offset = committed[group]
                    .get(&(topic.clone(), partition))
                    .copied()
                    .unwrap_or(0);
                self.look_at(topic.clone(), partition, Some(group), offset, low);
            }
        }
        Ok(())
    }

    fn look_at(
        &mut self,
        topic: String,
        partition: i32,
        group: Option<&String>,
        committed: i64,
        low: i64,
    ) {
        let key = (topic, partition, group.cloned());
        let reader = self.readers.entry(key.clone()).or_default();
        if reader.look(committed, low) {
            let (topic, partition, _) = key;
            tracing::error!(
                topic,
                partition,
                group,
                first_offset_left = low,
                committed,
                "the embedded broker dropped records that were not committed: it keeps 5 MiB per partition; \
                 use more partitions or let the producer wait for the consumers"
            );
        }
    }

    fn partitions(&self) -> KafkaResult<Vec<(String, i32)>> {
        let _ = self.client.poll(Duration::ZERO); // log lines
        let metadata = self.client.fetch_metadata(None, ANSWER_TIMEOUT)?;
        let topics = metadata.topics().iter();
        Ok(topics
            .flat_map(|topic| {
                topic
                    .partitions()
                    .iter()
                    .map(|p| (topic.name().to_owned(), p.id()))
            })
            .collect())
    }

    fn lows(&self, partitions: &[(String, i32)]) -> KafkaResult<Offsets> {
        if partitions.is_empty() {
            return Ok(Offsets::new());
        }
        // As a time, "beginning" means the first offset: one request to each broker instead of one
        // per partition.
        let wanted = list(partitions, Offset::Beginning)?;
        numbers(&self.client.offsets_for_times(wanted, ANSWER_TIMEOUT)?)
    }

    fn committed(&mut self, group: &str, partitions: &[(String, i32)]) -> KafkaResult<Offsets> {
        if partitions.is_empty() {
            return Ok(Offsets::new());
        }
        if !self.groups.contains_key(group) {
            self.groups.insert(
                group.to_owned(),
                client(&self.bootstrap_servers, Some(group))?,
            );
        }
        let client = &self.groups[group];
        let _ = client.poll(Duration::ZERO); // log lines
        numbers(&client.committed_offsets(list(partitions, Offset::Invalid)?, ANSWER_TIMEOUT)?)
    }
}

fn client(bootstrap_servers: &str, group: Option<&str>) -> KafkaResult<BaseConsumer> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap_servers);
    if let Some(group) = group {
        config.set("group.id", group);
    }
    config.create()
}

fn list(partitions: &[(String, i32)], offset: Offset) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for (topic, partition) in partitions {
        list.add_partition_offset(topic, *partition, offset)?;
    }
    Ok(list)
}

/// The plain offsets of a list; a partition without one (nothing committed) is left out.
fn numbers(list: &TopicPartitionList) -> KafkaResult<Offsets> {
    let mut numbers = Offsets::new();
    for element in list.elements() {
        element.error()?;
        if let Offset::Offset(offset) = element.offset() {
            numbers.insert((element.topic().to_owned(), element.partition()), offset);
        }
    }
    Ok(numbers)
}
