//! Why a subscription's topics are not fit to start with.

use std::fmt;
use std::time::Duration;

use crate::config::ControlTopic;
use crate::kafka::permissions::Operation;

/// What a topic is to a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TopicRole {
    Origin,
    Retry,
    DeadLetter,
    Control,
    /// A group's operations, of a redrive.
    Operations,
    /// Of a redrive's copies.
    Target,
    /// Of a requester.
    Answers,
}

impl fmt::Display for TopicRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Origin => "origin topic",
            Self::Retry => "retry topic",
            Self::DeadLetter => "dead-letter topic",
            Self::Control => "control topic",
            Self::Operations => "operations topic",
            Self::Target => "target topic",
            Self::Answers => "answer topic",
        })
    }
}

impl TopicRole {
    /// The operations that need permission.
    pub(crate) fn needs(self) -> &'static [Operation] {
        match self {
            Self::Origin | Self::Answers => &[Operation::Read],
            Self::Retry | Self::Control | Self::Operations => &[Operation::Read, Operation::Write],
            Self::DeadLetter | Self::Target => &[Operation::Write],
        }
    }
}

/// A topic and what it is for; displays as ``retry topic `orders-retry` ``.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedTopic {
    pub(crate) role: TopicRole,
    pub(crate) name: String,
}

impl fmt::Display for NamedTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.role, self.name)
    }
}

/// A subscription cannot start with these topics, settings or brokers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum TopicError {
    #[error("no origin topic: name at least one topic to consume")]
    NoOrigin,

    #[error("{topic}: {rule}")]
    InvalidName {
        topic: NamedTopic,
        rule: &'static str,
    },

    #[error("origin topic `{name}` is named twice: name it once")]
    DuplicateOrigin { name: String },

    #[error(
        "retry topic `{name}` is also an origin topic: give retries a topic of their own, such as `{name}-retry`"
    )]
    RetryIsOrigin { name: String },

    #[error(
        "dead-letter topic `{name}` is also the subscription's {other}: \
         its dead letters would be consumed again; give them a topic of their own, such as `{name}-dlq`"
    )]
    DeadLetterIsConsumed { name: String, other: TopicRole },

    #[error(
        "control topic `{name}` is also the subscription's {other}: give it a name of its own, such as \
         `{name}-keylane-control`"
    )]
    ControlIsUsed { name: String, other: TopicRole },

    #[error("control topic `{name}` {problem}")]
    ControlTopic { name: String, problem: String },

    #[error("the Kafka client refuses its settings: {reason}; correct that setting")]
    Settings { reason: String },

    #[error(
        "no broker of `{bootstrap_servers}` answered within {waited:?}: {cause}; \
         check bootstrap.servers, the network and security.protocol"
    )]
    Unreachable {
        bootstrap_servers: String,
        waited: Duration,
        cause: String,
    },

    #[error(
        "the brokers of `{bootstrap_servers}` refuse this client: {cause}; check the sasl.* and ssl.* settings"
    )]
    Refused {
        bootstrap_servers: String,
        cause: String,
    },

    #[error("{} on `{bootstrap_servers}`: {}; create or correct the name", missing(.topics), list(.group, .topics))]
    Missing {
        bootstrap_servers: String,
        group: String,
        topics: Vec<NamedTopic>,
    },

    #[error("{topic} cannot be described: {cause}; repair the topic")]
    Unreadable { topic: NamedTopic, cause: String },

    #[error("the cluster's ACLs do not let this client {}; grant it", .forbidden.join(", nor "))]
    Forbidden {
        /// Each with its missing permission, in the form of [`forbidden_topic`] and
        /// [`forbidden_group`].
        forbidden: Vec<String>,
    },
}

/// ``write to dead-letter topic `orders-dlq` (WRITE)``
pub(super) fn forbidden_topic(topic: &NamedTopic, operation: Operation) -> String {
    match operation {
        Operation::Read => format!("read {topic} (READ)"),
        Operation::Write => format!("write to {topic} (WRITE)"),
    }
}

/// ``use consumer group `billing` (READ)``
pub(super) fn forbidden_group(group: &str) -> String {
    format!("use consumer group `{group}` (READ)")
}

fn missing(topics: &[NamedTopic]) -> String {
    match topics.len() {
        1 => "a topic does not exist".to_owned(),
        count => format!("{count} topics do not exist"),
    }
}

fn list(group: &str, topics: &[NamedTopic]) -> String {
    let described = |topic: &NamedTopic| match topic.role {
        TopicRole::Control => format!("{topic} ({})", how_to_create_control(group, &topic.name)),
        _ => topic.to_string(),
    };
    topics.iter().map(described).collect::<Vec<_>>().join(", ")
}

/// What an operator has to do.
pub(crate) fn how_to_create_control(group: &str, name: &str) -> String {
    let named = match name == ControlTopic::name_for(group) {
        true => String::new(),
        false => format!(" --control-topic {name}"),
    };
    format!(
        "create it by `keylane control create {group}{named}`, or by `kafka-topics.sh --bootstrap-server BROKER \
         --create --topic {name} --partitions 1 --config cleanup.policy=compact`"
    )
}
