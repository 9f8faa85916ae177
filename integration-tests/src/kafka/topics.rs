//! Topics: created, configured, deleted, looked at.

use std::{
    io,
    time::{Duration, Instant},
};

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
    again::{PATIENCE, Refusal, again, again_async},
    client::{self, REQUEST, blocking},
    error::HarnessError,
    metadata::seen_by,
};

const UNKNOWN: RDKafkaErrorCode = RDKafkaErrorCode::UnknownTopicOrPartition;
const LOOK_AGAIN: Duration = Duration::from_millis(20);

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
    /// broker lists a leader and all replicas for each of its partitions.
    ///
    /// # Errors
    /// When the broker refuses it, for example because it exists, or when that state does not come
    /// within a minute.
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
        let admin = self.admin()?;
        let mut asked = 0;
        let create = async || {
            asked += 1;
            let results = admin.create_topics([&topic], &options()).await?;
            // It exists by an earlier request, whose answer was lost.
            let is_ours = asked > 1;
            taken(results, |code| {
                is_ours && code == RDKafkaErrorCode::TopicAlreadyExists
            })
        };
        again_async(create)
            .await
            .map_err(HarnessError::client(format!("create the topic {name}")))?;

        let expected = usize::try_from(partitions).unwrap_or_default();
        self.await_topic("was complete", name, move |seen| {
            seen.as_ref().is_ok_and(|state| {
                state.len() == expected
                    && state
                        .iter()
                        .all(|partition| partition.is_complete(replication))
            })
        })
        .await
    }

    /// Deletes a topic; returns when no broker lists it.
    ///
    /// # Errors
    /// When the broker refuses it, or when it is still known after a minute.
    pub async fn delete_topic(&self, name: &str) -> Result<(), HarnessError> {
        let admin = self.admin()?;
        let mut asked = 0;
        let delete = async || {
            asked += 1;
            let results = admin.delete_topics(&[name], &options()).await?;
            let is_ours = asked > 1;
            taken(results, |code| is_ours && code == UNKNOWN)
        };
        again_async(delete)
            .await
            .map_err(HarnessError::client(format!("delete the topic {name}")))?;
        self.await_topic("was gone", name, |seen| {
            let refusal =
                |error: &io::Error| error.get_ref()?.downcast_ref().map(|Refusal(code)| *code);
            seen.as_ref().err().and_then(refusal) == Some(UNKNOWN as i16)
        })
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
        let delete = async || {
            let deletion = {
                let mut list = TopicPartitionList::new();
                list.add_partition_offset(topic, partition, Offset::Offset(end))?;
                admin.delete_records(&list, &options())
            };
            let answer = deletion.await?;
            answer
                .elements()
                .iter()
                .try_for_each(|element| element.error())
        };
        again_async(delete)
            .await
            .map_err(HarnessError::client(doing))
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
        let admin = self.admin()?;
        let configure = async || {
            taken(
                admin.alter_configs([&alteration], &options()).await?,
                |_| false,
            )
        };
        again_async(configure)
            .await
            .map_err(HarnessError::client(format!("configure the topic {name}")))
    }

    /// Leader and replicas of every partition, on one broker now.
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
            again(|| partitions_of(&consumer, &topic)).map_err(HarnessError::client(doing))
        })
        .await
    }

    /// The index of the node with this broker id, for [`Kafka::kill_node`] and its like.
    pub fn node_of(&self, broker: i32) -> Option<usize> {
        (0..self.own_nodes()).find(|&index| super::properties::node_id(index) == broker)
    }

    /// Waits until every running broker has the topic like that.
    async fn await_topic(
        &self,
        what: &str,
        topic: &str,
        reached: impl Fn(&io::Result<Vec<PartitionState>>) -> bool + Copy + Send + 'static,
    ) -> Result<(), HarnessError> {
        let started = Instant::now();
        loop {
            let (addresses, name) = (self.addresses(), topic.to_owned());
            let differs = blocking(move || {
                let seen = addresses.iter().map(|address| seen_by(address, &name));
                Ok(seen.into_iter().find(|seen| !reached(seen)))
            });
            let Some(last) = differs.await? else {
                return Ok(());
            };
            if started.elapsed() >= PATIENCE {
                return Err(HarnessError::Deadline {
                    what: format!("the topic {topic} {what}"),
                    after: PATIENCE,
                    last: format!("{last:?}"),
                });
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
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
    let unknown = KafkaError::MetadataFetch(UNKNOWN);
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

/// The first refusal, unless it is one of those that are `welcome`.
fn taken<T, N>(
    results: Vec<Result<T, (N, RDKafkaErrorCode)>>,
    welcome: impl Fn(RDKafkaErrorCode) -> bool,
) -> Result<(), KafkaError> {
    let refusals = results.into_iter().filter_map(Result::err);
    match refusals.map(|(_, code)| code).find(|code| !welcome(*code)) {
        Some(code) => Err(KafkaError::AdminOp(code)),
        None => Ok(()),
    }
}
