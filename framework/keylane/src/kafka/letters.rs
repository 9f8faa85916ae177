//! Reads the records of a topic from their beginning to its end, without a group.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::{ClientContext, Offset, Statistics, TopicPartitionList};

use super::assigned::{Assigned, Fetching};
use super::message::NativeMessage;
use super::read::FailedFetch;
use super::topics::{Cluster, LastError, Lookup, NamedTopic, TopicError, TopicRole};
use crate::kafka::config::ClientSettings;
use crate::record::{Arena, Record, RecordHeaders};

const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// The most records of one read: they are in memory twice, for as long as it takes to copy them.
const AT_ONCE: usize = 32;

/// What is read of a partition: from the first offset to before the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LetterRange {
    /// The partition of the dead-letter topic.
    pub partition: i32,
    /// The first offset.
    pub first: i64,
    /// The offset behind the last one.
    pub end: i64,
}

impl LetterRange {
    /// One range.
    pub fn new(partition: i32, first: i64, end: i64) -> Self {
        Self {
            partition,
            first,
            end,
        }
    }
}

/// What one poll gave.
pub(crate) enum Polled {
    Record {
        partition: i32,
        record: Record,
    },
    Nothing,
    /// Every range is read.
    End,
}

/// Its calls block.
pub(crate) struct TopicReader {
    assigned: Assigned<ReaderContext>,
    topic: String,
    /// The ends of partitions that are not read to them.
    left: BTreeMap<i32, i64>,
    /// Read and not yet taken: no more than one read takes.
    ahead: VecDeque<(i32, Record)>,
    /// The last partition whose end was before that of its range.
    ended_early: Option<String>,
    arena: Arena,
}

#[derive(Debug, Default)]
pub(super) struct ReaderContext {
    last_error: LastError,
    /// The offsets that are fetched next, over all partitions.
    positions: AtomicI64,
}

impl ClientContext for ReaderContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.last_error.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.last_error.error(error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        let topics = statistics.topics.values();
        let next = topics.flat_map(|it| it.partitions.values().map(|it| it.next_offset.max(0)));
        let positions = next.fold(0_i64, i64::saturating_add);
        self.positions.store(positions, Ordering::Relaxed);
    }
}

impl ConsumerContext for ReaderContext {}

impl ReaderContext {
    /// Grows while the client reads on, also where it passes over records: those of transactions
    /// that were aborted, and markers. The client reports it about once a second.
    pub(super) fn progress(&self) -> i64 {
        self.positions.load(Ordering::Relaxed)
    }

    pub(super) fn last_error(&self) -> Option<String> {
        self.last_error.text()
    }
}

/// The ranges of all partitions as they are now. With `read_committed`, the default, they end
/// before the first open transaction.
pub(crate) fn ranges(
    config: &ClientSettings,
    topic: &str,
    within: Duration,
) -> Result<Vec<LetterRange>, TopicError> {
    ranges_by(&Cluster::new(config)?, topic, within)
}

/// The same of a topic with answers.
pub(crate) fn answer_ranges(
    config: &ClientSettings,
    topic: &str,
    within: Duration,
) -> Result<Vec<LetterRange>, TopicError> {
    ranges_as(TopicRole::Answers, &Cluster::new(config)?, topic, within)
}

/// The same, by a client that is there.
pub(crate) fn ranges_by(
    cluster: &Cluster,
    topic: &str,
    within: Duration,
) -> Result<Vec<LetterRange>, TopicError> {
    ranges_as(TopicRole::DeadLetter, cluster, topic, within)
}

fn ranges_as(
    role: TopicRole,
    cluster: &Cluster,
    topic: &str,
    within: Duration,
) -> Result<Vec<LetterRange>, TopicError> {
    let started = Instant::now();
    let named = NamedTopic {
        role,
        name: topic.to_owned(),
    };
    let unreadable = |cause: String| TopicError::Unreadable {
        topic: named.clone(),
        cause,
    };
    let partitions = match cluster.look_up(&named, started, started + within)? {
        Lookup::Found { partitions } => partitions,
        Lookup::Missing => return Err(unreadable("it does not exist".to_owned())),
        Lookup::Forbidden => {
            let reason = "the cluster's ACLs do not let this client read it; allow READ on it";
            return Err(unreadable(reason.to_owned()));
        }
    };
    let client = cluster.client();
    let range = |partition| {
        let range = client.fetch_watermarks(topic, partition, ANSWER_WITHIN);
        range.map(|(first, end)| LetterRange {
            partition,
            first,
            end,
        })
    };
    let ranges: Result<Vec<_>, _> = (0..partitions).map(range).collect();
    ranges.map_err(|error| unreadable(format!("its ends are not known: {error}")))
}

impl TopicReader {
    /// Begins to read these ranges.
    pub(crate) fn open(
        config: &ClientSettings,
        topic: &str,
        ranges: &[LetterRange],
    ) -> Result<Self, String> {
        let ranges = ranges.iter().filter(|range| range.first < range.end);
        let from = |it: &LetterRange| (it.partition, Offset::Offset(it.first));
        let partitions = ranges.clone().map(from);
        let assigned = Assigned::open(config, topic, partitions, Fetching::AtOnce, AT_ONCE)?;
        let left = ranges.map(|range| (range.partition, range.end)).collect();
        Ok(Self {
            assigned,
            topic: topic.to_owned(),
            left,
            ahead: VecDeque::new(),
            ended_early: None,
            arena: Arena::default(),
        })
    }

    /// The next record of the ranges. What is gone by now is passed over.
    pub(crate) fn poll(&mut self, timeout: Duration) -> Result<Polled, String> {
        if let Some((partition, record)) = self.ahead.pop_front() {
            return Ok(Polled::Record { partition, record });
        }
        if self.left.is_empty() {
            return Ok(Polled::End);
        }
        let Self {
            assigned,
            left,
            ahead,
            arena,
            ..
        } = self;
        let mut finished = Vec::new();
        let read = assigned.read(timeout, |message| {
            let (partition, offset) = (message.partition(), message.offset());
            let Some(end) = left.get(&partition).copied() else {
                return;
            };
            if offset < end {
                ahead.push_back((partition, record(message, arena)));
            }
            if offset.saturating_add(1) >= end {
                finished.push(partition);
            }
        });
        if !self.ahead.is_empty() {
            self.ended_early = None;
        }
        for FailedFetch {
            partition,
            offset,
            is_end,
            ..
        } in read.failed_fetches
        {
            match self.left.get(&partition) {
                Some(end) if offset >= *end => finished.push(partition),
                // It is the end of a replica that has not got so far: it goes on.
                Some(end) if is_end => {
                    self.ended_early = Some(format!(
                        "for its broker partition {partition} ends at offset {offset}, before {end}"
                    ));
                }
                _ => {}
            }
        }
        for partition in finished {
            self.leave(partition);
        }
        match read.error {
            Some(error) if is_lasting(&error) => return Err(reason(&error)),
            Some(error) if !is_end(&error) => {
                tracing::debug!(topic = %self.topic, %error, "dead letters cannot be read just now");
            }
            _ => {}
        }
        Ok(match self.ahead.pop_front() {
            Some((partition, record)) => Polled::Record { partition, record },
            None => Polled::Nothing,
        })
    }

    /// See [`ReaderContext::progress`].
    pub(crate) fn progress(&self) -> i64 {
        self.assigned.client.context().progress()
    }

    /// How many partitions are not read to the end of their range.
    pub(crate) fn left(&self) -> usize {
        self.left.len()
    }

    /// Why there is nothing to read, where the client says it.
    pub(crate) fn last_error(&self) -> Option<String> {
        let ended_early = self.ended_early.clone();
        ended_early.or_else(|| self.assigned.client.context().last_error())
    }

    fn leave(&mut self, partition: i32) {
        if self.left.remove(&partition).is_none() {
            return;
        }
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, partition);
        // It would only be fetched for nothing.
        if let Err(error) = self.assigned.client.pause(&list) {
            tracing::debug!(topic = %self.topic, partition, %error, "cannot be paused");
        }
    }
}

pub(super) fn record(message: &NativeMessage<'_>, arena: &mut Arena) -> Record {
    let headers = message.headers().map(|all| RecordHeaders {
        all,
        ..RecordHeaders::default()
    });
    let (key, value) = (message.key(), message.value());
    let at = message.timestamp_millis();
    Record::new(arena, message.offset(), at, key, value, headers)
}

/// The client has read a partition to its end.
pub(super) fn is_end(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(Code::PartitionEOF)
}

/// Others pass, or the reader's patience ends.
pub(super) fn is_lasting(error: &KafkaError) -> bool {
    match error {
        KafkaError::MessageConsumptionFatal(_) => true,
        KafkaError::MessageConsumption(code) => matches!(
            code,
            Code::TopicAuthorizationFailed
                | Code::UnknownTopicOrPartition
                | Code::UnknownTopic
                | Code::UnknownPartition
                | Code::AutoOffsetReset
        ),
        _ => false,
    }
}

/// An error that lasts, with the fix where it is known.
pub(super) fn reason(error: &KafkaError) -> String {
    match error.rdkafka_error_code() {
        Some(Code::TopicAuthorizationFailed) => {
            format!("{error}; the cluster's ACLs do not let this client read it: allow READ on it")
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};

    use super::*;
    use crate::kafka::config::reader_config;
    use crate::{NewTask, TaskProducer};

    /// What aborted transactions leave behind moves a reader on without a record, and is shown by
    /// this alone.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_reader_shows_how_far_its_client_has_read() {
        let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
        broker.create_topic("dead", 1).unwrap();
        let producer = TaskProducer::builder("dead")
            .bootstrap_servers(broker.bootstrap_servers())
            .application_id("test")
            .start()
            .await
            .unwrap();
        let tasks: Vec<_> = (0..5).map(|at| NewTask::new(at.to_string())).collect();
        let written = producer.enqueue_all(tasks).await;
        assert!(written.iter().all(Result::is_ok));

        let config = reader_config(broker.bootstrap_servers(), &BTreeMap::new()).unwrap();
        // It ends behind the topic's end: the reader waits there.
        let range = LetterRange {
            partition: 0,
            first: 0,
            end: 6,
        };
        let mut reader = TopicReader::open(&config, "dead", &[range]).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut records = 0;
        while reader.progress() < 5 || records < 5 || reader.last_error().is_none() {
            assert!(Instant::now() < deadline, "it shows {}", reader.progress());
            let polled = reader.poll(Duration::from_millis(50)).unwrap();
            records += u32::from(matches!(polled, Polled::Record { .. }));
        }
        let reason = reader.last_error().unwrap();
        assert!(reason.contains("ends at offset 5, before 6"), "{reason}");
        assert_eq!((records, reader.left()), (5, 1));
        producer.close(Duration::from_secs(60)).await.unwrap();
    }
}
