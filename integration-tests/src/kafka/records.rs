//! Records: written with a plain client, and read back as they lie in the log.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::{BorrowedMessage, Header, Headers, OwnedHeaders},
    producer::{FutureProducer, FutureRecord, future_producer::DeliveryFuture},
};

use super::{
    Kafka,
    again::{again, is_passing},
    client::{self, REQUEST, blocking},
    error::HarnessError,
    topics::partitions_of,
};

/// Enough for large batches, and far below the client's queue limit of 100,000.
const WRITE_CHUNK: usize = 10_000;
/// The longest time for reading a whole topic.
const READ_DEADLINE: Duration = Duration::from_secs(60);

/// A record to be written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewRecord {
    /// The partition; `None` lets the key choose.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// The headers, in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since 1970; `None` is now.
    pub timestamp_millis: Option<i64>,
}

impl NewRecord {
    /// A record whose key chooses the partition.
    pub fn keyed(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self {
            key: Some(key.into()),
            value: Some(value.into()),
            ..Self::default()
        }
    }
}

/// A record as it lies in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// The headers, in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since 1970, if the record has a time.
    pub timestamp_millis: Option<i64>,
}

impl StoredRecord {
    /// The first header of that name, as text; `None` when it is absent, null or not UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(header, _)| header == name)?;
        std::str::from_utf8(value.as_deref()?).ok()
    }

    fn of(message: &BorrowedMessage<'_>) -> Self {
        Self {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: message.headers().map_or_else(Vec::new, |headers| {
                headers
                    .iter()
                    .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
                    .collect()
            }),
            timestamp_millis: message.timestamp().to_millis(),
        }
    }
}

impl Kafka {
    /// Writes the records in their order and waits until all replicas have them; returns partition
    /// and offset of each.
    ///
    /// # Errors
    /// The first refusal. What was written before it, and some of what follows, is in the topic all
    /// the same.
    pub async fn produce(
        &self,
        topic: &str,
        records: Vec<NewRecord>,
    ) -> Result<Vec<(i32, i64)>, HarnessError> {
        let (servers, topic) = (self.bootstrap_servers.clone(), topic.to_owned());
        let runtime = tokio::runtime::Handle::current();
        blocking(move || {
            let doing = format!("write to {topic}");
            let producer: FutureProducer = client::config(&servers)
                .set("enable.idempotence", "true")
                .set("linger.ms", "2")
                .set("message.timeout.ms", "30000")
                .create()
                .map_err(HarnessError::client(doing.clone()))?;
            let mut places = Vec::with_capacity(records.len());
            for chunk in records.chunks(WRITE_CHUNK) {
                let sent: Result<Vec<DeliveryFuture>, KafkaError> = chunk
                    .iter()
                    .map(|record| send(&producer, &topic, record))
                    .collect();
                for delivery in sent.map_err(HarnessError::client(doing.clone()))? {
                    places.push(
                        runtime
                            .block_on(place(delivery))
                            .map_err(HarnessError::client(doing.clone()))?,
                    );
                }
            }
            Ok(places)
        })
        .await
    }

    /// Every record of `topic` from the beginning to its end as of now, by partition and offset.
    ///
    /// # Errors
    /// When the topic is unknown, or when its end is not reached within 60 s.
    pub async fn read_all(&self, topic: &str) -> Result<Vec<StoredRecord>, HarnessError> {
        self.read_all_with(topic, "read_committed").await
    }

    /// The same, with this isolation level: with `read_uncommitted` records of transactions that are
    /// open or were aborted are among them.
    ///
    /// # Errors
    /// As [`read_all`](Self::read_all).
    pub async fn read_all_with(
        &self,
        topic: &str,
        isolation_level: &'static str,
    ) -> Result<Vec<StoredRecord>, HarnessError> {
        let (servers, topic) = (self.bootstrap_servers.clone(), topic.to_owned());
        blocking(move || {
            let consumer: BaseConsumer = client::config(&servers)
                .set("isolation.level", isolation_level)
                .set("group.id", "keylane-harness")
                .set("enable.auto.commit", "false")
                .set("enable.partition.eof", "true")
                .set("fetch.wait.max.ms", "10")
                .create()
                .map_err(HarnessError::client(format!("read {topic}")))?;
            read_to_the_end(&consumer, &topic)
        })
        .await
    }
}

fn send(
    producer: &FutureProducer,
    topic: &str,
    record: &NewRecord,
) -> Result<DeliveryFuture, KafkaError> {
    let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
    for (key, value) in &record.headers {
        headers = headers.insert(Header {
            key,
            value: value.as_deref(),
        });
    }
    let mut out: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(topic).headers(headers);
    out.partition = record.partition;
    out.key = record.key.as_deref();
    out.payload = record.value.as_deref();
    out.timestamp = record.timestamp_millis;
    producer.send_result(out).map_err(|(error, _)| error)
}

async fn place(delivery: DeliveryFuture) -> Result<(i32, i64), KafkaError> {
    match delivery.await {
        Ok(Ok(delivery)) => Ok((delivery.partition, delivery.offset)),
        Ok(Err((error, _))) => Err(error),
        Err(_) => Err(KafkaError::Canceled),
    }
}

/// Up to the end that the broker reports: the last offset may belong to a transaction's marker and
/// never arrive.
fn read_to_the_end(
    consumer: &BaseConsumer,
    topic: &str,
) -> Result<Vec<StoredRecord>, HarnessError> {
    let doing = || HarnessError::client(format!("read {topic}"));
    let mut unfinished = HashSet::new();
    let mut assignment = TopicPartitionList::new();
    for state in again(|| partitions_of(consumer, topic)).map_err(doing())? {
        assignment
            .add_partition_offset(topic, state.partition, Offset::Beginning)
            .map_err(doing())?;
        unfinished.insert(state.partition);
    }
    consumer.assign(&assignment).map_err(doing())?;
    drop(assignment);

    let started = Instant::now();
    let mut records = Vec::new();
    while !unfinished.is_empty() {
        match consumer.poll(REQUEST) {
            Some(Ok(message)) if unfinished.contains(&message.partition()) => {
                records.push(StoredRecord::of(&message))
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                unfinished.remove(&partition);
            }
            Some(Err(error)) if !is_passing(&error) => return Err(doing()(error)),
            Some(_) | None => {}
        }
        if started.elapsed() >= READ_DEADLINE {
            return Err(HarnessError::Deadline {
                what: format!("the end of {topic} was reached"),
                after: READ_DEADLINE,
                last: format!(
                    "{} records read, partitions {unfinished:?} not at their end",
                    records.len()
                ),
            });
        }
    }
    records.sort_by_key(|record: &StoredRecord| (record.partition, record.offset));
    Ok(records)
}
