//! Questions to the brokers that librdkafka can ask and rdkafka cannot.

mod replies;
mod topics;

pub(crate) use replies::{AdminOptions, Reply, ReplyQueue, code, slice};
pub(crate) use topics::{TopicDescription, controller, describe_topics, descriptions};
