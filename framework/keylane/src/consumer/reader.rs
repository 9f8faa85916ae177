//! The reading seam: takes messages out of the client.

use std::time::Duration;

use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;

use super::context::Context;
use super::fetch_queue::FetchQueue;
use super::native::NativeMessage;

/// The most messages one read takes. Also by how much a limit can be exceeded.
pub(super) const READ_LIMIT: usize = 500;

/// How records are read.
pub(crate) enum Reader {
    /// In batches, from a queue of our own.
    Batched(FetchQueue),
    /// One by one, from the consumer queue: rdkafka's safe interface.
    Polled,
}

/// What one read did.
pub(super) struct Read {
    pub(super) taken: usize,
    pub(super) error: Option<KafkaError>,
}

impl Reader {
    /// Takes up to [`READ_LIMIT`] messages, waiting at most `wait` for the first. Serves the callbacks on the way; ends early
    /// after one was served, since it may have changed the assignment.
    pub(super) fn read(
        &mut self,
        consumer: &BaseConsumer<Context>,
        wait: Duration,
        take: impl FnMut(&NativeMessage<'_>),
    ) -> Read {
        match self {
            Self::Batched(queue) => queue.read(consumer, wait, take),
            Self::Polled => poll(consumer, wait, take),
        }
    }
}

fn poll(consumer: &BaseConsumer<Context>, wait: Duration, mut take: impl FnMut(&NativeMessage<'_>)) -> Read {
    let mut taken = 0;
    let mut wait = wait;
    while taken < READ_LIMIT {
        match consumer.poll(wait) {
            Some(Ok(message)) => take(&NativeMessage::from(&message)),
            Some(Err(error)) => return Read { taken, error: Some(error) },
            None => break,
        }
        taken += 1;
        wait = Duration::ZERO;
    }
    Read { taken, error: None }
}
