//! Questions to the brokers that librdkafka can ask and rdkafka cannot.

mod groups;
mod replies;
mod topics;

pub(crate) use groups::{describe_group, has_offsets, list_group_offsets, members};
pub(crate) use replies::{AdminOptions, Reply, ReplyQueue, code, slice};
pub(crate) use topics::{TopicDescription, controller, describe_topics, descriptions};
