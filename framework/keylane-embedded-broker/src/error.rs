//! Errors of the embedded broker.

/// An error of an embedded broker.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddedBrokerError {
    /// The options name no broker or too many.
    #[error("an embedded cluster has 1 to 16 brokers, not {brokers}")]
    BrokerCount {
        /// The number in the options.
        brokers: u8,
    },
    /// librdkafka did not start the brokers, or the thread that watches them did not start.
    #[error("cannot start the embedded broker: {reason}")]
    Start {
        /// Why.
        reason: String,
    },
    /// Kafka would not allow this name.
    #[error("topic `{name}`: {rule}")]
    TopicName {
        /// The name.
        name: String,
        /// What is allowed.
        rule: &'static str,
    },
    /// No partitions, or too many.
    #[error("topic `{name}` needs 1 to 10,000 partitions, not {partitions}")]
    PartitionCount {
        /// The topic.
        name: String,
        /// The requested number.
        partitions: i32,
    },
    /// The topic exists: it was created before, or written to and so created with 4 partitions.
    #[error("topic `{name}` exists already: create it once, before the first write to it")]
    TopicExists {
        /// The topic.
        name: String,
    },
    /// The brokers refused to create the topic.
    #[error("cannot create topic `{name}`: {reason}")]
    CreateTopic {
        /// The topic.
        name: String,
        /// Why.
        reason: String,
    },
    /// The watcher could not read from the brokers what they dropped.
    #[error("cannot determine whether records were dropped unread: {reason}")]
    Guard {
        /// Why.
        reason: String,
    },
    /// There was no watcher.
    #[error("cannot determine whether records were dropped unread: the eviction guard is off")]
    GuardOff,
}
