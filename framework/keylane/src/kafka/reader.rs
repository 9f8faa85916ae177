//! The reading seam: takes messages out of the client.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};

use super::callbacks::Context;
use super::fetch_queue::FetchQueue;
use super::message::NativeMessage;
use super::read::{READ_LIMIT, Read};

/// How records are read.
pub(crate) enum Reader {
    /// Reads in batches, from a queue of our own.
    Batched(FetchQueue),
    /// One by one, from the consumer queue: rdkafka's safe interface.
    Polled,
}

impl Reader {
    /// Takes up to [`READ_LIMIT`] messages, waiting at most `wait` for the first. Serves the
    /// callbacks on the way; ends early after one was served, since it may have changed the
    /// assignment.
    pub(crate) fn read(
        &mut self,
        consumer: &BaseConsumer<Context>,
        wait: Duration,
        take: impl FnMut(&NativeMessage<'_>),
    ) -> Read {
        match self {
            Self::Batched(queue) => {
                queue.read(consumer, || consumer.context().has_events(), wait, take)
            }
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
