//! Commits whose answers are waited for without blocking.
//!
//! rdkafka can commit and wait, or commit and never learn what became of it. Waiting is out of the question on the polling
//! thread: while the coordinator is away, librdkafka holds a commit back for up to a session time-out. So answers come to
//! a queue of our own here, which is looked at in passing.
//!
//! SAFETY, for the whole file: `queue` comes from `rd_kafka_queue_new` and is destroyed once, by [`CommitQueue`]'s drop, which
//! comes before the client's (the order of the fields in the struct that owns both). An answer that comes later is freed by
//! librdkafka. Events are used only between their being taken out and `rd_kafka_event_destroy`.
#![allow(unsafe_code)]

use rdkafka::TopicPartitionList;
use rdkafka::bindings as sys;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;

/// The queue of one client; owned by the polling thread.
pub(crate) struct CommitQueue {
    queue: *mut sys::rd_kafka_queue_t,
}

// SAFETY: librdkafka's queues may be used from any thread; this is only the address.
unsafe impl Send for CommitQueue {}

impl CommitQueue {
    pub(crate) fn new<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> Self {
        // SAFETY: the client is live.
        Self { queue: unsafe { sys::rd_kafka_queue_new(consumer.client().native_ptr()) } }
    }

    /// Sends a commit. One answer follows where this is `Ok`.
    pub(super) fn send<C: ConsumerContext>(
        &self,
        consumer: &BaseConsumer<C>,
        offsets: &TopicPartitionList,
    ) -> Result<(), RDKafkaErrorCode> {
        // SAFETY: client, list and queue are live; librdkafka copies the list. Without a callback the answer is an event.
        let error = unsafe {
            sys::rd_kafka_commit_queue(
                consumer.client().native_ptr(),
                offsets.ptr(),
                self.queue,
                None,
                std::ptr::null_mut(),
            )
        };
        if error == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR { Ok(()) } else { Err(error.into()) }
    }

    /// The next answer, if one has come.
    pub(super) fn answer(&self) -> Option<Result<(), RDKafkaErrorCode>> {
        loop {
            // SAFETY: the queue is live, and the wait is for nothing.
            let event = unsafe { sys::rd_kafka_queue_poll(self.queue, 0) };
            if event.is_null() {
                return None;
            }
            // SAFETY: a non-null event is ours until it is destroyed, once, below.
            let (kind, error) = unsafe { (sys::rd_kafka_event_type(event), sys::rd_kafka_event_error(event)) };
            // SAFETY: the list belongs to the event; null for an answer without one.
            let first_refused = unsafe { first_refused(sys::rd_kafka_event_topic_partition_list(event)) };
            // SAFETY: destroyed once, and not used afterwards.
            unsafe { sys::rd_kafka_event_destroy(event) };
            if kind != sys::RD_KAFKA_EVENT_OFFSET_COMMIT {
                continue;
            }
            let no_error = sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
            let error = if error == no_error { first_refused.unwrap_or(no_error) } else { error };
            return Some(if error == no_error { Ok(()) } else { Err(error.into()) });
        }
    }
}

/// SAFETY: `list` is null or points to a live list.
unsafe fn first_refused(list: *const sys::rd_kafka_topic_partition_list_t) -> Option<sys::rd_kafka_resp_err_t> {
    if list.is_null() {
        return None;
    }
    // SAFETY: by the contract above; `elems` points to `cnt` elements.
    let elements = unsafe {
        match usize::try_from((*list).cnt) {
            Ok(count) if !(*list).elems.is_null() => std::slice::from_raw_parts((*list).elems, count),
            _ => &[],
        }
    };
    let no_error = sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
    elements.iter().map(|element| element.err).find(|&error| error != no_error)
}

impl Drop for CommitQueue {
    fn drop(&mut self) {
        // SAFETY: made by us, destroyed once.
        unsafe { sys::rd_kafka_queue_destroy(self.queue) };
    }
}
