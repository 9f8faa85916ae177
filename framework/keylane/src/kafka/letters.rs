//! Reads the records of a topic from their beginning to its end, without a group.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::{Offset, TopicPartitionList};

use super::message::NativeMessage;
use super::topics::{Cluster, LastError, Lookup, NamedTopic, TopicError, TopicRole};
use crate::kafka::config::{ClientSettings, creation_error};
use crate::record::{Arena, Record, RecordHeaders};

const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What is read of a partition: from the first offset to before the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReadRange {
    pub(crate) partition: i32,
    pub(crate) first: i64,
    pub(crate) end: i64,
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
    client: BaseConsumer<LastError>,
    topic: String,
    /// The ends of partitions that are not read to them.
    left: BTreeMap<i32, i64>,
    arena: Arena,
}

/// The ranges of all partitions as they are now. With `read_committed`, the default, they end
/// before the first open transaction.
pub(crate) fn ranges(
    config: &ClientSettings,
    topic: &str,
    within: Duration,
) -> Result<Vec<ReadRange>, TopicError> {
    let (started, cluster) = (Instant::now(), Cluster::new(config)?);
    let named = NamedTopic {
        role: TopicRole::DeadLetter,
        name: topic.to_owned(),
    };
    let unreadable = |cause: String| TopicError::Unreadable {
        topic: named.clone(),
        cause,
    };
    let partitions = match cluster.look_up(&named, started, started + within)? {
        Lookup::Found { partitions } => partitions,
        Lookup::Missing => return Err(unreadable("it does not exist".to_owned())),
        Lookup::Forbidden => return Err(unreadable("the ACLs forbid to read it".to_owned())),
    };
    let client = cluster.client();
    let range = |partition| {
        let range = client.fetch_watermarks(topic, partition, ANSWER_WITHIN);
        range.map(|(first, end)| ReadRange {
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
        ranges: &[ReadRange],
    ) -> Result<Self, String> {
        let client: BaseConsumer<LastError> = config
            .create_with_context(LastError::default())
            .map_err(|error| creation_error(error).to_string())?;
        let mut list = TopicPartitionList::new();
        let mut left = BTreeMap::new();
        for range in ranges.iter().filter(|range| range.first < range.end) {
            let from = Offset::Offset(range.first);
            list.add_partition_offset(topic, range.partition, from)
                .map_err(|error| error.to_string())?;
            left.insert(range.partition, range.end);
        }
        client.assign(&list).map_err(|error| error.to_string())?;
        Ok(Self {
            client,
            topic: topic.to_owned(),
            left,
            arena: Arena::default(),
        })
    }

    /// The next record of the ranges. What is gone by now is passed over.
    pub(crate) fn poll(&mut self, timeout: Duration) -> Result<Polled, String> {
        if self.left.is_empty() {
            return Ok(Polled::End);
        }
        match self.client.poll(timeout) {
            None => {}
            Some(Ok(message)) => {
                let message = NativeMessage::from(&message);
                let (partition, offset) = (message.partition(), message.offset());
                let Some(end) = self.left.get(&partition).copied() else {
                    return Ok(Polled::Nothing);
                };
                let record = (offset < end).then(|| record(&message, &mut self.arena));
                if offset + 1 >= end {
                    self.leave(partition);
                }
                if let Some(record) = record {
                    return Ok(Polled::Record { partition, record });
                }
            }
            // Behind the end of the range, which was taken before.
            Some(Err(KafkaError::PartitionEOF(partition))) => self.leave(partition),
            Some(Err(error)) if is_lasting(&error) => return Err(error.to_string()),
            Some(Err(error)) => {
                tracing::debug!(topic = %self.topic, %error, "dead letters cannot be read just now");
            }
        }
        Ok(Polled::Nothing)
    }

    /// How many partitions are not read to the end of their range.
    pub(crate) fn left(&self) -> usize {
        self.left.len()
    }

    /// Why there is nothing to read, where the client says it.
    pub(crate) fn last_error(&self) -> Option<String> {
        self.client.context().text()
    }

    fn leave(&mut self, partition: i32) {
        if self.left.remove(&partition).is_none() {
            return;
        }
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, partition);
        // It would only be fetched for nothing.
        if let Err(error) = self.client.pause(&list) {
            tracing::debug!(topic = %self.topic, partition, %error, "cannot be paused");
        }
    }
}

fn record(message: &NativeMessage<'_>, arena: &mut Arena) -> Record {
    let headers = message.headers().map(|all| RecordHeaders {
        all,
        ..RecordHeaders::default()
    });
    let (key, value) = (message.key(), message.value());
    let at = message.timestamp_millis();
    Record::new(arena, message.offset(), at, key, value, headers)
}

/// Others pass, or the reader's patience ends.
fn is_lasting(error: &KafkaError) -> bool {
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
