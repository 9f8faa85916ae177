//! Reading single records without a group.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use keylane_core::{LeaderEpoch, Offset, Position};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset as Place, TopicPartitionList};

use super::{Operator, OperatorError};
use crate::kafka::native;

/// How long one poll waits.
const POLL: Duration = Duration::from_millis(100);

/// A record without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordHead {
    /// The offset.
    pub offset: Offset,
    /// Its timestamp, where it has one.
    pub timestamp: Option<SystemTime>,
    /// The leader's that took it; `None` where its format has none.
    pub leader_epoch: Option<LeaderEpoch>,
    /// Its key, where it has one.
    pub key: Option<Vec<u8>>,
}

impl Operator {
    /// For each of these partitions of `topic` the first record from the position on that
    /// `is_wanted`; `None` where there is none up to the end. Partitions that could not be read in
    /// time are missing.
    ///
    /// # Errors
    /// Where the client cannot read at all.
    pub fn first_records(
        &self,
        topic: &str,
        from: &[(i32, Position)],
        is_wanted: impl Fn(i32, Offset) -> bool,
    ) -> Result<BTreeMap<i32, Option<RecordHead>>, OperatorError> {
        let found = self.read(topic, from, is_wanted);
        // Nothing else is to be fetched for this client.
        let _ = self.client.unassign();
        found.map_err(|error| self.failed(format!("read {topic}"), &error))
    }

    fn read(
        &self,
        topic: &str,
        from: &[(i32, Position)],
        is_wanted: impl Fn(i32, Offset) -> bool,
    ) -> KafkaResult<BTreeMap<i32, Option<RecordHead>>> {
        let mut list = TopicPartitionList::new();
        for (partition, position) in from {
            list.add_partition_offset(topic, *partition, Place::Offset(position.get()))?;
        }
        self.client.assign(&list)?;
        let (mut found, deadline) = (BTreeMap::new(), Instant::now() + self.patience);
        let mut left: Vec<i32> = from.iter().map(|(partition, _)| *partition).collect();
        while !left.is_empty() && Instant::now() < deadline {
            let (ended, head) = match self.client.poll(POLL) {
                None => continue,
                Some(Ok(message)) => {
                    let partition = message.partition();
                    let offset = Offset::new(message.offset());
                    if !is_wanted(partition, offset) {
                        continue;
                    }
                    (partition, Some(head(&message)))
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => (partition, None),
                // Of one partition or of one broker: the others are read on.
                Some(Err(error)) => {
                    tracing::debug!(topic, %error, "a record cannot be read");
                    continue;
                }
            };
            if !left.contains(&ended) {
                continue;
            }
            left.retain(|partition| *partition != ended);
            found.insert(ended, head);
            let mut done = TopicPartitionList::new();
            done.add_partition(topic, ended);
            self.client.pause(&done)?;
        }
        Ok(found)
    }
}

fn head(message: &BorrowedMessage<'_>) -> RecordHead {
    let millis = message.timestamp().to_millis();
    let since_epoch = millis.and_then(|it| u64::try_from(it).ok());
    RecordHead {
        offset: Offset::new(message.offset()),
        leader_epoch: LeaderEpoch::of_record(native::leader_epoch(message)),
        timestamp: since_epoch.map(|it| SystemTime::UNIX_EPOCH + Duration::from_millis(it)),
        key: message.key().map(<[u8]>::to_vec),
    }
}
