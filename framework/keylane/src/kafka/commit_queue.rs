//! Commits whose answers come without blocking.
//!
//! rdkafka can commit and wait, or commit and never learn what became of it. Waiting is out of the
//! question on the polling thread: while the coordinator is away, librdkafka holds a commit back
//! for up to a session time-out. So answers come to a queue of our own here, which is looked at in
//! passing.
//!
//! SAFETY, for the whole file: as in `kafka/replies.rs`.
#![allow(unsafe_code)]

use std::time::Duration;

use keylane_core::member::CommitId;
use rdkafka::TopicPartitionList;
use rdkafka::bindings as sys;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;

use super::refusal::CommitRefused;
use super::replies::{Reply, ReplyQueue, code, slice};

/// What became of a commit.
pub(crate) struct CommitAnswer {
    /// Its name.
    pub(crate) id: CommitId,
    pub(crate) result: Result<(), CommitRefused>,
}

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

    /// Sends a commit. One answer follows where this is `Ok`, with the name `id`.
    pub(crate) fn send<C: ConsumerContext>(
        &self,
        consumer: &BaseConsumer<C>,
        offsets: &TopicPartitionList,
        id: CommitId,
    ) -> Result<(), RDKafkaErrorCode> {
        let client = consumer.client().native_ptr();
        // A number that comes back with the event, and points to nothing.
        let opaque = std::ptr::without_provenance_mut(usize::try_from(id.get()).unwrap_or(0));
        // SAFETY: client, list and queue are live. Without a callback the answer is an event.
        // librdkafka hands the opaque pointer on and does not follow it.
        let error = unsafe {
            sys::rd_kafka_commit_queue(client, offsets.ptr(), self.answers.as_ptr(), None, opaque)
        };
        code(error).map_or(Ok(()), Err)
    }

    /// The next answer, waited for at most this long.
    pub(crate) fn answer(&self, wait: Duration) -> Option<CommitAnswer> {
        loop {
            let reply = self.answers.poll(wait)?;
            if reply.kind() == sys::RD_KAFKA_EVENT_OFFSET_COMMIT {
                let codes = reply.error().into_iter().chain(refused(&reply));
                return Some(CommitAnswer {
                    id: id(&reply),
                    result: CommitRefused::of(codes).map_or(Ok(()), Err),
                });
            }
        }
    }
}

fn id(reply: &Reply<'_>) -> CommitId {
    // SAFETY: the reply is live. What it gives is the number that the commit was sent with.
    let opaque = unsafe { sys::rd_kafka_event_opaque(reply.as_ptr()) };
    CommitId::new(u64::try_from(opaque.addr()).unwrap_or(0))
}

/// Of the single partitions.
fn refused(reply: &Reply<'_>) -> impl Iterator<Item = RDKafkaErrorCode> {
    // SAFETY: the reply is live. The list, null for an answer without one, belongs to it; `elems`
    // points to `cnt` elements.
    let elements = unsafe {
        let list = sys::rd_kafka_event_topic_partition_list(reply.as_ptr()).as_ref();
        list.map_or(&[][..], |list| {
            slice(list.elems, usize::try_from(list.cnt).unwrap_or(0))
        })
    };
    elements.iter().filter_map(|element| code(element.err))
}
