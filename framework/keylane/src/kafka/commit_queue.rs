//! Commits whose answers are waited for without blocking.
//!
//! rdkafka can commit and wait, or commit and never learn what became of it. Waiting is out of the
//! question on the polling thread: while the coordinator is away, librdkafka holds a commit back
//! for up to a session time-out. So answers come to a queue of our own here, which is looked at in
//! passing.
//!
//! SAFETY, for the whole file: as in `kafka/replies.rs`.
#![allow(unsafe_code)]

use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::bindings as sys;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;

use super::replies::{Reply, ReplyQueue, code, slice};

/// The queue of one client; owned by the polling thread.
pub(crate) struct CommitQueue {
    answers: ReplyQueue,
}

impl CommitQueue {
    pub(crate) fn new<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> Self {
        Self {
            answers: ReplyQueue::new(consumer),
        }
    }

    /// Sends a commit. One answer follows where this is `Ok`.
    pub(crate) fn send<C: ConsumerContext>(
        &self,
        consumer: &BaseConsumer<C>,
        offsets: &TopicPartitionList,
    ) -> Result<(), RDKafkaErrorCode> {
        let client = consumer.client().native_ptr();
        // SAFETY: client, list and queue are live. Without a callback the answer is an event.
        let error = unsafe {
            sys::rd_kafka_commit_queue(
                client,
                offsets.ptr(),
                self.answers.as_ptr(),
                None,
                std::ptr::null_mut(),
            )
        };
        code(error).map_or(Ok(()), Err)
    }

    /// The next answer, if one has come.
    pub(crate) fn answer(&self) -> Option<Result<(), RDKafkaErrorCode>> {
        loop {
            let reply = self.answers.poll(Duration::ZERO)?;
            if reply.kind() == sys::RD_KAFKA_EVENT_OFFSET_COMMIT {
                return Some(
                    reply
                        .error()
                        .or_else(|| first_refused(&reply))
                        .map_or(Ok(()), Err),
                );
            }
        }
    }
}

fn first_refused(reply: &Reply<'_>) -> Option<RDKafkaErrorCode> {
    // SAFETY: the reply is live. The list, null for an answer without one, belongs to it; `elems`
    // points to `cnt` elements.
    let elements = unsafe {
        let list = sys::rd_kafka_event_topic_partition_list(reply.as_ptr()).as_ref()?;
        slice(list.elems, usize::try_from(list.cnt).unwrap_or(0))
    };
    elements.iter().find_map(|element| code(element.err))
}
