//! Offsets: what a group has committed, and where the logs end.

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
};

use super::{
    Kafka,
    again::again,
    client::{self, REQUEST, blocking},
    error::HarnessError,
    topics::partitions_of,
};

/// What a group has committed for one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The partition.
    pub partition: i32,
    /// The next offset to read; `None` when nothing was ever committed.
    pub offset: Option<i64>,
    /// The text beside it; empty when there is none.
    pub metadata: String,
}

impl Kafka {
    /// What `group` has committed for each partition of `topic`, from the group's coordinator.
    ///
    /// # Errors
    /// When the topic is unknown or the coordinator does not answer.
    ///
    /// # Panics
    /// When the metadata is not UTF-8 (the client library offers no other way to read it).
    pub async fn committed(
        &self,
        group: &str,
        topic: &str,
    ) -> Result<Vec<Committed>, HarnessError> {
        let (servers, group, topic) = (
            self.bootstrap_servers.clone(),
            group.to_owned(),
            topic.to_owned(),
        );
        blocking(move || {
            let doing = format!("read what {group} has committed for {topic}");
            let read = || -> Result<Vec<_>, KafkaError> {
                let consumer: BaseConsumer =
                    client::config(&servers).set("group.id", &group).create()?;
                let mut asked = TopicPartitionList::new();
                for state in partitions_of(&consumer, &topic)? {
                    asked.add_partition(&topic, state.partition);
                }
                // The list lives shorter than the consumer: one that is still alive then makes the
                // consumer's end hang.
                let committed = consumer.committed_offsets(asked, REQUEST)?;
                committed
                    .elements()
                    .iter()
                    .map(|element| {
                        element.error()?;
                        Ok(Committed {
                            partition: element.partition(),
                            offset: match element.offset() {
                                Offset::Offset(offset) => Some(offset),
                                _ => None,
                            },
                            metadata: element.metadata().to_owned(),
                        })
                    })
                    .collect()
            };
            again(read).map_err(HarnessError::client(doing))
        })
        .await
    }

    /// The offset behind the last record of each partition of `topic`, by partition.
    ///
    /// # Errors
    /// When the topic is unknown or a leader does not answer.
    pub async fn end_offsets(&self, topic: &str) -> Result<Vec<i64>, HarnessError> {
        let (servers, topic) = (self.bootstrap_servers.clone(), topic.to_owned());
        blocking(move || {
            let doing = format!("read the end offsets of {topic}");
            let read = || -> Result<Vec<_>, KafkaError> {
                let consumer: BaseConsumer = client::config(&servers).create()?;
                partitions_of(&consumer, &topic)?
                    .iter()
                    .map(|state| {
                        Ok(consumer
                            .fetch_watermarks(&topic, state.partition, REQUEST)?
                            .1)
                    })
                    .collect()
            };
            again(read).map_err(HarnessError::client(doing))
        })
        .await
    }
}
