//! Asking the brokers for topic ids, without waiting unless told to.
//!
//! rdkafka has the ids nowhere; librdkafka has them in its admin interface. An inquiry goes to the controller (in KRaft: some
//! broker that is there), creates no topic, needs no right that reading does not need, and its answer comes to a queue of its
//! own. Brokers without topic ids (before Kafka 2.8) answer with null ids, and nothing is known then.
//!
//! SAFETY, for the whole file: `queue` comes from `rd_kafka_queue_new` and is destroyed once, by [`Inquiry`]'s drop, which
//! comes before the client's (an inquiry is a local of a callback of the client, or stands before the client in the struct
//! that owns both). An answer that comes later is freed by librdkafka. Events, and what belongs to them, are used only
//! between their being taken out and `rd_kafka_event_destroy`.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char};
use std::time::Duration;

use keylane_core::LogId;
use rdkafka::bindings as sys;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};

/// The topics the brokers know, each with its log.
pub(super) type Logs = Vec<(String, LogId)>;

/// What has become of a question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Pending,
    /// Nobody was there, or not in time, or willing.
    Refused,
    Logs(Logs),
}

/// A question under way.
pub(super) struct Inquiry {
    queue: *mut sys::rd_kafka_queue_t,
}

// SAFETY: librdkafka's queues may be used from any thread; this is only the address.
unsafe impl Send for Inquiry {}

impl Inquiry {
    /// Asks for `topics`, which are different ones. An answer follows within `timeout`, if only that there is none.
    pub(super) fn send<C: ConsumerContext>(consumer: &BaseConsumer<C>, topics: &[&str], timeout: Duration) -> Self {
        let client = consumer.client().native_ptr();
        // SAFETY: the client is live.
        let inquiry = Self { queue: unsafe { sys::rd_kafka_queue_new(client) } };
        // Kafka's topic names hold no NUL; one that did would be no topic of anybody's.
        let names: Vec<CString> = topics.iter().filter_map(|topic| CString::new(*topic).ok()).collect();
        let mut names: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
        let timeout_millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        let mut message = [0; 256];
        // SAFETY: client and queue are live, the array holds as many C strings as it says, and librdkafka copies names and
        // options. What it gives out here is destroyed here, once; a refused time-out leaves its default.
        unsafe {
            let options =
                sys::rd_kafka_AdminOptions_new(client, sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
            sys::rd_kafka_AdminOptions_set_request_timeout(
                options,
                timeout_millis,
                message.as_mut_ptr(),
                message.len(),
            );
            let collection = sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
            sys::rd_kafka_DescribeTopics(client, collection, options, inquiry.queue);
            sys::rd_kafka_TopicCollection_destroy(collection);
            sys::rd_kafka_AdminOptions_destroy(options);
        }
        inquiry
    }

    /// The answer, waited for at most this long. It comes once.
    pub(super) fn answer(&self, wait: Duration) -> Answer {
        let wait_millis = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the queue is live.
        let event = unsafe { sys::rd_kafka_queue_poll(self.queue, wait_millis) };
        if event.is_null() {
            return Answer::Pending;
        }
        // SAFETY: a non-null event is ours until it is destroyed, once, after its last use.
        unsafe {
            let logs = logs(event);
            sys::rd_kafka_event_destroy(event);
            logs.map_or(Answer::Refused, Answer::Logs)
        }
    }
}

impl Drop for Inquiry {
    fn drop(&mut self) {
        // SAFETY: made by us, destroyed once.
        unsafe { sys::rd_kafka_queue_destroy(self.queue) };
    }
}

/// The broker that an inquiry goes to, as of the client's last metadata. Does not wait.
pub(crate) fn controller<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> Option<i32> {
    // SAFETY: the client is live.
    let id = unsafe { sys::rd_kafka_controllerid(consumer.client().native_ptr(), 0) };
    (id >= 0).then_some(id)
}

/// SAFETY: `event` is live.
unsafe fn logs(event: *mut sys::rd_kafka_event_t) -> Option<Logs> {
    // SAFETY: by the contract above. The result is null for an event of another kind, and belongs to the event.
    let result = unsafe { sys::rd_kafka_event_DescribeTopics_result(event) };
    // SAFETY: as above.
    let error = unsafe { sys::rd_kafka_event_error(event) };
    if result.is_null() || error != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return None;
    }
    let mut count = 0;
    // SAFETY: the result is live and `count` a valid place to write to; the array, of `count` descriptions, is the result's.
    let topics = unsafe {
        let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        if topics.is_null() { &[] } else { std::slice::from_raw_parts(topics, count) }
    };
    // SAFETY: the descriptions live as long as the result.
    Some(topics.iter().filter_map(|topic| unsafe { log(*topic) }).collect())
}

/// SAFETY: `topic` is null or points to a live description.
unsafe fn log(topic: *const sys::rd_kafka_TopicDescription_t) -> Option<(String, LogId)> {
    if topic.is_null() {
        return None;
    }
    // SAFETY: by the contract above; error, name and id belong to the description, and null is checked.
    unsafe {
        let error = sys::rd_kafka_TopicDescription_error(topic);
        let (name, id) = (sys::rd_kafka_TopicDescription_name(topic), sys::rd_kafka_TopicDescription_topic_id(topic));
        if !error.is_null() || name.is_null() || id.is_null() {
            return None;
        }
        let high = sys::rd_kafka_Uuid_most_significant_bits(id).cast_unsigned();
        let low = sys::rd_kafka_Uuid_least_significant_bits(id).cast_unsigned();
        Some((CStr::from_ptr(name).to_str().ok()?.to_owned(), LogId::of_topic(high, low)?))
    }
}

#[cfg(all(test, feature = "embedded-broker"))]
mod tests {
    use rdkafka::ClientConfig;

    use super::*;
    use crate::{EmbeddedBroker, EmbeddedBrokerOptions};

    const PATIENCE: Duration = Duration::from_secs(30);

    fn client(broker: &EmbeddedBroker) -> BaseConsumer {
        ClientConfig::new()
            .set("bootstrap.servers", broker.bootstrap_servers())
            .create()
            .expect("the settings are right")
    }

    #[test]
    fn the_mock_cluster_has_a_controller_that_is_none_of_its_brokers() {
        let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
        let client = client(&broker);
        assert_eq!(controller(&client), None, "nothing was asked yet");
        let metadata = client.fetch_metadata(None, PATIENCE).unwrap();
        let controller = controller(&client).unwrap();
        // Were it one of them, the ids of its topics could be asked for, and should be.
        assert!(metadata.brokers().iter().all(|broker| broker.id() != controller));
    }

    #[test]
    fn a_question_that_cannot_be_answered_ends_without_an_answer_and_one_that_is_dropped_lets_the_client_go() {
        let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
        let client = client(&broker);
        drop(broker);
        let asked = Inquiry::send(&client, &["one"], Duration::from_millis(200));
        assert_eq!(asked.answer(PATIENCE), Answer::Refused);
        drop(asked);
        drop(Inquiry::send(&client, &["one"], PATIENCE));
        drop(client);
    }
}
