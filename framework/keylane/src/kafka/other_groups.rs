//! Whether another consumer group is alive: it has commits of a topic, or members.

use std::time::Duration;

use keylane_core::Liveness;
use rdkafka::bindings::rd_kafka_admin_op_t as Operation;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::{ClientConfig, TopicPartitionList};

use super::config::{ClientConfigError, creation_error};
use super::groups::{describe_group, has_offsets, list_group_offsets, members};
use super::replies::{AdminOptions, Reply, ReplyQueue};
use super::topics::LastError;

/// Each of the two questions about a group may take this long, so both take less than
/// [`keylane_core::QUESTION_PATIENCE`].
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

type Client = BaseConsumer<LastError>;

/// A client that queries groups it is no member of.
pub(crate) struct OtherGroups(Client);

impl OtherGroups {
    pub(crate) fn connect(config: &ClientConfig) -> Result<Self, ClientConfigError> {
        let client = config.create_with_context(LastError::default());
        client.map(Self).map_err(creation_error)
    }

    /// Queries a group that may have read the topic with this name and count of partitions. Waits
    /// for the answers.
    pub(crate) fn liveness(&self, topic: &str, partitions: i32, group: &str) -> Liveness {
        liveness(&self.0, topic, partitions, group)
    }
}

fn liveness(client: &Client, topic: &str, partitions: i32, group: &str) -> Liveness {
    match has_commits(client, topic, partitions, group, ANSWER_WITHIN) {
        Ok(true) => return Liveness::Alive,
        Ok(false) => {}
        // Members are proof enough; that there are none is not.
        Err(error) => {
            tracing::debug!(group, %error, "the commits of another group cannot be read");
            let has_members = member_count(client, group).is_ok_and(|members| members > 0);
            return if has_members {
                Liveness::Alive
            } else {
                Liveness::Unknown
            };
        }
    }
    match member_count(client, group) {
        Ok(0) => Liveness::Gone,
        Ok(_) => Liveness::Alive,
        Err(error) => {
            tracing::debug!(group, %error, "the members of another group cannot be read");
            Liveness::Unknown
        }
    }
}

pub(super) fn has_commits(
    client: &Client,
    topic: &str,
    partitions: i32,
    group: &str,
    patience: Duration,
) -> Result<bool, Code> {
    let mut list = TopicPartitionList::new();
    list.add_partition_range(topic, 0, partitions - 1);
    let operation = Operation::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS;
    let ask = |options: &_, queue: &_| list_group_offsets(client, group, &list, options, queue);
    question(client, operation, patience, ask, has_offsets)
}

fn member_count(client: &Client, group: &str) -> Result<usize, Code> {
    let operation = Operation::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS;
    let ask = |options: &_, queue: &_| describe_group(client, group, options, queue);
    question(client, operation, ANSWER_WITHIN, ask, members)
}

fn question<T>(
    client: &Client,
    operation: Operation,
    patience: Duration,
    ask: impl FnOnce(&AdminOptions, &ReplyQueue) -> bool,
    read: impl FnOnce(&Reply<'_>) -> Result<T, Code>,
) -> Result<T, Code> {
    let queue = ReplyQueue::new(client);
    let options = AdminOptions::new(client, operation, patience);
    if !ask(&options, &queue) {
        return Err(Code::InvalidArgument);
    }
    // The client's own time-out comes first.
    let reply = queue
        .poll(patience.saturating_mul(2))
        .ok_or(Code::RequestTimedOut)?;
    read(&reply)
}

#[cfg(test)]
mod tests {
    use super::*;
    use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};

    #[test]
    fn a_group_with_commits_of_the_topic_is_alive_and_one_that_cannot_be_asked_about_is_unknown() {
        use rdkafka::Offset;
        use rdkafka::consumer::{CommitMode, Consumer};

        let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
        for topic in ["retry", "other"] {
            broker.create_topic(topic, 2).unwrap();
        }
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", broker.bootstrap_servers());
        let commit = |group: &str, topic: &str| {
            let consumer: BaseConsumer = config.clone().set("group.id", group).create().unwrap();
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(topic, 1, Offset::Offset(0))
                .unwrap();
            consumer.commit(&list, CommitMode::Sync).unwrap();
        };
        commit("reads-it", "retry");
        commit("reads-another", "other");
        let client: Client = config.create_with_context(LastError::default()).unwrap();
        assert_eq!(liveness(&client, "retry", 2, "reads-it"), Liveness::Alive);
        // The embedded broker does not describe groups, so none is known to be gone.
        assert_eq!(
            liveness(&client, "retry", 2, "reads-another"),
            Liveness::Unknown
        );
        assert_eq!(
            liveness(&client, "retry", 2, "no\0group"),
            Liveness::Unknown
        );
    }

    #[test]
    fn without_a_broker_nothing_is_known() {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", "localhost:1");
        let client: Client = config.create_with_context(LastError::default()).unwrap();
        let options = AdminOptions::new(
            &client,
            Operation::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS,
            Duration::from_millis(50),
        );
        let queue = ReplyQueue::new(&client);
        assert!(describe_group(&client, "any", &options, &queue));
        assert!(members(&queue.poll(ANSWER_WITHIN).unwrap()).is_err());
    }
}
