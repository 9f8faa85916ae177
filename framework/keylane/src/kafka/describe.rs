//! The brokers' answers about topics. A query needs only the permissions of reading, and creates no
//! topic.
//!
//! SAFETY, for the whole file: as in `replies.rs`. Names and collection are used only in the call
//! that makes them. A [`TopicDescription`] borrows the reply that it belongs to, and hands out
//! nothing that lives longer.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char};
use std::marker::PhantomData;

use rdkafka::bindings as sys;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::Metadata;

use super::replies::{AdminOptions, Reply, ReplyQueue, code, slice};

/// The broker that gets the query, by the client's last metadata. Does not wait.
pub(crate) fn controller<C: ConsumerContext>(client: &BaseConsumer<C>) -> Option<i32> {
    // SAFETY: the client is live.
    let id = unsafe { sys::rd_kafka_controllerid(client.client().native_ptr(), 0) };
    (id >= 0).then_some(id)
}

/// Whether the brokers of this answer have one of them as the controller, which gets librdkafka's
/// queries for topic ids. Its mock cluster names one that does not exist.
pub(crate) fn has_controller<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    metadata: &Metadata,
) -> bool {
    let controller = controller(client);
    let mut brokers = metadata.brokers().iter();
    brokers.any(|broker| Some(broker.id()) == controller)
}

/// Queries `topics`, which must be distinct. One answer follows in the queue.
pub(crate) fn describe_topics<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    topics: &[&str],
    options: &AdminOptions,
    queue: &ReplyQueue,
) {
    // Kafka's topic names hold no NUL; a name with one is no topic.
    let names: Vec<CString> = topics
        .iter()
        .filter_map(|topic| CString::new(*topic).ok())
        .collect();
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    // SAFETY: client, options and queue are live, and the array holds as many C strings as its
    // length. The collection is destroyed once, after its last use.
    unsafe {
        let collection =
            sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        sys::rd_kafka_DescribeTopics(
            client.client().native_ptr(),
            collection,
            options.as_ptr(),
            queue.as_ptr(),
        );
        sys::rd_kafka_TopicCollection_destroy(collection);
    }
}

/// The answer to [`describe_topics`]; `None` where no broker answered, or not in time, or it
/// refused.
pub(crate) fn descriptions<'a>(
    reply: &'a Reply<'_>,
) -> Option<impl Iterator<Item = TopicDescription<'a>>> {
    // SAFETY: the event is live. The result, null for one of another kind, belongs to it.
    let result = unsafe { sys::rd_kafka_event_DescribeTopics_result(reply.as_ptr()) };
    if result.is_null() || reply.error().is_some() {
        return None;
    }
    let mut count = 0;
    // SAFETY: the result is live and `count` a valid place to write to; the array, of `count`
    // descriptions, is the result's.
    let topics: &'a [_] = unsafe {
        slice(
            sys::rd_kafka_DescribeTopics_result_topics(result, &mut count),
            count,
        )
    };
    let known = topics.iter().filter(|topic| !topic.is_null());
    Some(known.map(|&topic| TopicDescription {
        topic,
        _reply: PhantomData,
    }))
}

/// The description of one topic.
pub(crate) struct TopicDescription<'a> {
    topic: *const sys::rd_kafka_TopicDescription_t,
    _reply: PhantomData<&'a Reply<'a>>,
}

impl<'a> TopicDescription<'a> {
    pub(crate) fn name(&self) -> Option<&'a str> {
        // SAFETY: the description is live; its name is null or a C string that belongs to it.
        let name = unsafe {
            let name = sys::rd_kafka_TopicDescription_name(self.topic);
            (!name.is_null()).then(|| CStr::from_ptr(name))
        };
        // Kafka allows only ASCII in topic names.
        name?.to_str().ok()
    }

    pub(crate) fn error(&self) -> Option<RDKafkaErrorCode> {
        // SAFETY: the description is live; its error belongs to it, and null is answered with "no
        // error".
        code(unsafe { sys::rd_kafka_error_code(sys::rd_kafka_TopicDescription_error(self.topic)) })
    }

    /// The halves of its id. Both are 0 where the brokers have no ids.
    pub(crate) fn id(&self) -> Option<(u64, u64)> {
        // SAFETY: the description is live; its id belongs to it, and null is checked.
        let (high, low) = unsafe {
            let id = sys::rd_kafka_TopicDescription_topic_id(self.topic);
            if id.is_null() {
                return None;
            }
            (
                sys::rd_kafka_Uuid_most_significant_bits(id),
                sys::rd_kafka_Uuid_least_significant_bits(id),
            )
        };
        Some((high.cast_unsigned(), low.cast_unsigned()))
    }

    /// What this client may do, where that was queried.
    pub(crate) fn authorized_operations(&self) -> &'a [sys::rd_kafka_AclOperation_t] {
        let mut count = 0;
        // SAFETY: the description is live and `count` a valid place to write to; the array, of
        // `count` operations of librdkafka, is the description's.
        unsafe {
            slice(
                sys::rd_kafka_TopicDescription_authorized_operations(self.topic, &mut count),
                count,
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rdkafka::ClientConfig;

    use super::*;
    use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};

    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn the_mock_cluster_has_a_controller_that_is_none_of_its_brokers() {
        let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", broker.bootstrap_servers());
        let client: BaseConsumer = config.create().unwrap();
        let metadata = client.fetch_metadata(None, PATIENCE).unwrap();
        let controller = controller(&client).unwrap();
        // If it were one of them, the ids of its topics could be queried, and should be.
        assert!(
            metadata
                .brokers()
                .iter()
                .all(|broker| broker.id() != controller)
        );
    }
}
