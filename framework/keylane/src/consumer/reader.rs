//! The reading seam: takes messages out of the client.

use std::time::{Duration, Instant};

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
#[derive(Default)]
pub(super) struct Read {
    pub(super) taken: usize,
    /// How long there was nothing to take; the callbacks that were served are in it, where they
    /// cannot be told apart.
    pub(super) waited: Duration,
    pub(super) error: Option<KafkaError>,
    /// With `auto.offset.reset=error`: which partition has no position, and why.
    pub(super) reset: Option<String>,
    /// Partitions whose position the client has wrong now; see [`Misplaced`].
    pub(super) misplaced: Vec<Misplaced>,
}

/// A partition that reported an error instead of a record, at the offset of the next one.
///
/// The batch call takes it for a record and moves the partition's position behind it: the next
/// pause, also that of a rebalance, would go on one record too far.
pub(super) struct Misplaced {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) offset: i64,
}

impl Reader {
    /// Takes up to [`READ_LIMIT`] messages, waiting at most `wait` for the first. Serves the
    /// callbacks on the way; ends early after one was served, since it may have changed the
    /// assignment.
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

fn poll(
    consumer: &BaseConsumer<Context>,
    wait: Duration,
    mut take: impl FnMut(&NativeMessage<'_>),
) -> Read {
    let mut read = Read::default();
    let mut wait = wait;
    while read.taken < READ_LIMIT {
        let began = Instant::now();
        let polled = consumer.poll(wait);
        if !wait.is_zero() {
            read.waited = began.elapsed();
        }
        match polled {
            Some(Ok(message)) => take(&NativeMessage::from(&message)),
            Some(Err(error)) => {
                return Read {
                    error: Some(error),
                    ..read
                };
            }
            None => break,
        }
        read.taken += 1;
        wait = Duration::ZERO;
    }
    read
}
