//! Topics: created, configured, deleted, looked at.

use std::time::{Duration, Instant};

use rdkafka::{
    Offset, TopicPartitionList,
    admin::{
        AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication,
    },
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    metadata::MetadataPartition,
    types::RDKafkaErrorCode,
};

use super::{
    Kafka,
    client::{self, REQUEST, blocking},
    error::HarnessError,
};

/// How one partition is replicated. The harness's own node `i` is the broker `i + 1`
/// ([`Kafka::node_of`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionState {
    /// The partition.
    pub partition: i32,
    /// The leading broker's id, if there is one at the moment.
    pub leader: Option<i32>,
    /// The ids of the brokers that should hold a replica.
    pub replicas: Vec<i32>,
    /// The ids of those that are up to date.
    pub in_sync: Vec<i32>,
}

impl PartitionState {
    fn of(metadata: &MetadataPartition) -> Self {
        Self {
            partition: metadata.id(),
            leader: (metadata.leader() >= 0).then_some(metadata.leader()),
            replicas: metadata.replicas().to_vec(),
            in_sync: metadata.isr().to_vec(),
        }
    }

    fn is_complete(&self, replication: i32) -> bool {
        self.leader.is_some() && i32::try_from(self.in_sync.len()) == Ok(replication)
    }
}

impl Kafka {
    /// Creates a topic with settings such as `("max.message.bytes", "1000")`; returns when every
    /// partition has a leader and all its replicas.
    ///
    /// # Errors
    /// When the broker refuses it, for example because it exists, or when that state does not come
    /// within 15 s.
    pub async fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        replication: i32,
        configs: &[(&str, &str)],
    ) -> Result<(), HarnessError> {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(replication));
        for (key, value) in configs {
            topic = topic.set(key, value);
        }
        let doing = format!("create the topic {name}");
        let results = self
            .admin()?
            .create_topics([&topic], &options())
            .await
            .map_err(HarnessError::client(&doing))?;
        refused(
            &doing,
            results
                .into_iter()
                .filter_map(Result::err)
                .map(|(_, code)| code),
        )?;

        let (complete, name) = (format!("the topic {name} was complete"), name.to_owned());
        let expected = usize::try_from(partitions).unwrap_or_default();
        self.await_topic(complete, name, move |state| match state {
            Ok(state) => {
                state.len() == expected
                    && state
                        .iter()
                        .all(|partition| partition.is_complete(replication))
            }
            Err(_) => false,
        })
        .await
    }

    /// Deletes a topic; returns when the brokers no longer know it.
    ///
    /// # Errors
    /// When the broker refuses it, or when it is still known after 15 s.
    pub async fn delete_topic(&self, name: &str) -> Result<(), HarnessError> {
        let doing = format!("delete the topic {name}");
        let results = self
            .admin()?
            .delete_topics(&[name], &options())
            .await
            .map_err(HarnessError::client(&doing))?;
        refused(
            &doing,
            results
                .into_iter()
                .filter_map(Result::err)
                .map(|(_, code)| code),
        )?;
        self.await_topic(
            format!("the topic {name} was gone"),
            name.to_owned(),
            |state| {
                matches!(
                    state,
                    Err(KafkaError::MetadataFetch(
                        RDKafkaErrorCode::UnknownTopicOrPartition
                    ))
                )
            },
        )
        .await
    }

    /// Deletes the records of a partition in front of `end`, as retention does.
    ///
    /// # Errors
    /// When the broker refuses it.
    pub async fn delete_records(
        &self,
        topic: &str,
        partition: i32,
        end: i64,
    ) -> Result<(), HarnessError> {
        let doing = format!("delete records of {topic}-{partition}");
        let admin = self.admin()?;
        let deletion = {
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(topic, partition, Offset::Offset(end))
                .map_err(HarnessError::client(&doing))?;
            admin.delete_records(&list, &options())
        };
        let answer = deletion.await.map_err(HarnessError::client(&doing))?;
        for element in answer.elements() {
            element.error().map_err(HarnessError::client(&doing))?;
        }
        Ok(())
    }

    /// Sets the topic's own settings to exactly these: what is not named falls back to the broker's
    /// default.
    ///
    /// To make writes fail: `("max.message.bytes", "100")` refuses them for good,
    /// `("min.insync.replicas", "2")` on a topic with one replica refuses those with `acks=all` for
    /// a while. No settings at all undo either.
    ///
    /// # Errors
    /// When the broker refuses it.
    pub async fn configure_topic(
        &self,
        name: &str,
        configs: &[(&str, &str)],
    ) -> Result<(), HarnessError> {
        let mut alteration = AlterConfig::new(ResourceSpecifier::Topic(name));
        for (key, value) in configs {
            alteration = alteration.set(key, value);
        }
        let doing = format!("configure the topic {name}");
        let results = self
            .admin()?
            .alter_configs([&alteration], &options())
            .await
            .map_err(HarnessError::client(&doing))?;
        refused(
            &doing,
            results
                .into_iter()
                .filter_map(Result::err)
                .map(|(_, code)| code),
        )
    }

    /// Leader and replicas of every partition, as one broker sees them now.
    ///
    /// # Errors
    /// When the topic is unknown or no broker answers.
    pub async fn partitions(&self, topic: &str) -> Result<Vec<PartitionState>, HarnessError> {
        let (servers, topic) = (self.bootstrap_servers.clone(), topic.to_owned());
        blocking(move || {
            let doing = format!("look at the topic {topic}");
            let consumer: BaseConsumer = client::config(&servers)
                .create()
                .map_err(HarnessError::client(doing.clone()))?;
            partitions_of(&consumer, &topic).map_err(HarnessError::client(doing))
        })
        .await
    }

    /// The index of the node with this broker id, for [`Kafka::kill_node`] and its like.
    pub fn node_of(&self, broker: i32) -> Option<usize> {
        (0..self.own_nodes()).find(|&index| super::properties::node_id(index) == broker)
    }

    async fn await_topic(
        &self,
        what: String,
        topic: String,
        reached: impl Fn(&Result<Vec<PartitionState>, KafkaError>) -> bool + Send + 'static,
    ) -> Result<(), HarnessError> {
        let servers = self.bootstrap_servers.clone();
        blocking(move || {
            let consumer: BaseConsumer = client::config(&servers)
                .create()
                .map_err(HarnessError::client("look at topics"))?;
            let started = Instant::now();
            loop {
                let state = partitions_of(&consumer, &topic);
                if reached(&state) {
                    return Ok(());
                }
                if started.elapsed() >= REQUEST {
                    return Err(HarnessError::Deadline {
                        what,
                        after: REQUEST,
                        last: format!("{state:?}"),
                    });
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        })
        .await
    }

    pub(super) fn admin(&self) -> Result<&AdminClient<DefaultClientContext>, HarnessError> {
        if let Some(admin) = self.admin.get() {
            return Ok(admin);
        }
        let admin = client::config(&self.bootstrap_servers)
            .create()
            .map_err(HarnessError::client("create an admin client"))?;
        Ok(self.admin.get_or_init(|| admin))
    }
}

/// The states of a topic's partitions, by partition.
pub(super) fn partitions_of(
    consumer: &BaseConsumer,
    topic: &str,
) -> Result<Vec<PartitionState>, KafkaError> {
    let metadata = consumer.fetch_metadata(Some(topic), REQUEST)?;
    let unknown = KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition);
    let topic = metadata.topics().first().ok_or(unknown)?;
    if let Some(error) = topic.error() {
        return Err(KafkaError::MetadataFetch(error.into()));
    }
    let mut partitions: Vec<PartitionState> =
        topic.partitions().iter().map(PartitionState::of).collect();
    partitions.sort_by_key(|state| state.partition);
    Ok(partitions)
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(REQUEST))
        .operation_timeout(Some(REQUEST))
}

fn refused(
    doing: &str,
    mut codes: impl Iterator<Item = RDKafkaErrorCode>,
) -> Result<(), HarnessError> {
    match codes.next() {
        Some(code) => Err(HarnessError::client(doing)(KafkaError::AdminOp(code))),
        None => Ok(()),
    }
}
