//! What an operator does to a group with another tool.

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
    error::KafkaError,
};

use super::{
    Kafka,
    again::again,
    client::{self, blocking},
    error::HarnessError,
};

impl Kafka {
    /// Commits for `group` without being a member of it, as operators' tools do. The group must
    /// have no members.
    ///
    /// # Errors
    /// When the group has members, or the coordinator refuses.
    pub async fn commit_from_outside(
        &self,
        group: &str,
        topic: &str,
        partition: i32,
        offset: i64,
        metadata: &str,
    ) -> Result<(), HarnessError> {
        let (servers, group, topic) = (
            self.bootstrap_servers.clone(),
            group.to_owned(),
            topic.to_owned(),
        );
        let metadata = metadata.to_owned();
        blocking(move || {
            let doing = format!("commit {topic}[{partition}]@{offset} for {group}");
            let commit = || -> Result<(), KafkaError> {
                let consumer: BaseConsumer = client::config(&servers)
                    .set("group.id", &group)
                    .set("enable.auto.commit", "false")
                    .create()?;
                // The list lives shorter than the consumer: one that is still alive then makes the
                // consumer's end hang.
                let mut list = TopicPartitionList::new();
                let mut element = list.add_partition(&topic, partition);
                element.set_offset(Offset::Offset(offset))?;
                element.set_metadata(&metadata);
                consumer.commit(&list, CommitMode::Sync)
            };
            again(commit).map_err(HarnessError::client(doing))
        })
        .await
    }
}
