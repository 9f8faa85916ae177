//! Batches from a fetch queue of our own.
//!
//! librdkafka delivers records one by one on the consumer queue. On a queue of our own it hands out
//! many at a time, which costs the polling thread half as much per record. Events (rebalances,
//! commit results, errors, logs) stay on the consumer queue. rdkafka has no safe interface for
//! this, so it is done here, and nowhere else.
//!
//! What librdkafka demands, and where it is kept:
//! - Every partition of every assignment is forwarded to our queue before it is assigned
//!   ([`Forwarding::forward`], in the rebalance callback). One that is not delivers nothing, on
//!   either queue, without a word.
//! - Not with `enable.partition.eof`: the position would go wrong. The setting is refused at
//!   start-up. Only the readers of dead letters and of the control topic have it: they commit nothing
//!   and go on with no partition that they have paused. Other errors of a partition do the same to
//!   it, and are put right by a seek ([`FailedFetch`]).
//! - The queue and all its messages are given back before the consumer closes, or closing hangs.
//!   Messages never leave [`FetchQueue::read`], not even by a panic, and [`Client`](super::Client)
//!   drops the [`FetchQueue`] before the consumer.
//! - The consumer queue must still be served: a watch on it interrupts the wait, and it is looked
//!   at every 50 ms anyhow.
//!
//! SAFETY, for the whole file: `queue` comes from `rd_kafka_queue_new`. It is destroyed once, when
//! the [`FetchQueue`] that owns it is dropped, by the thread that polls. Before that the copy that
//! the callbacks use is taken away under its lock. A client outlives its queue: see the third
//! point. A message is used only between its being taken out and its `rd_kafka_message_destroy`.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::CString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rdkafka::bindings as sys;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::message::NativeMessage;
use super::read::{FailedFetch, Read};
use crate::support::lock::lock;

/// How often the consumer queue is served without an event.
const SERVE_EVENTS: Duration = Duration::from_millis(50);
/// The most events served in a row: enough for any rebalance, and the records do not wait for ever.
const EVENTS_AT_ONCE: usize = 16;

/// Our queue; owned by the polling thread.
pub(crate) struct FetchQueue {
    queue: Queue,
    forwarding: Arc<Forwarding>,
    messages: Vec<Owned>,
    /// The most messages that one read takes.
    limit: usize,
    served_at: Instant,
}

/// What the callbacks need: where to forward partitions to, and whom to wake.
#[derive(Default)]
pub(crate) struct Forwarding {
    queue: Mutex<Option<Queue>>,
    /// The queues of all partitions that were ever forwarded: see
    /// [`empty_those_left`](Self::empty_those_left).
    sources: Mutex<BTreeMap<(String, i32), Source>>,
    /// The consumer queue has something.
    events: AtomicBool,
}

#[derive(Clone, Copy)]
struct Queue(*mut sys::rd_kafka_queue_t);

/// A reference to a partition's queue; given back when it is dropped, before the client closes.
struct Source(Queue);

impl Drop for Source {
    fn drop(&mut self) {
        // SAFETY: got from librdkafka, and given back once.
        unsafe { sys::rd_kafka_queue_destroy(self.0.0) };
    }
}

// SAFETY: librdkafka's queues may be used from any thread; this is only their address.
unsafe impl Send for Queue {}
// SAFETY: the message pointers are scratch space, empty between two reads; the rest is `Send`.
unsafe impl Send for FetchQueue {}

impl FetchQueue {
    /// Makes the queue of a consumer that has not subscribed yet, and watches its events.
    pub(crate) fn new<C: ConsumerContext>(
        consumer: &mut BaseConsumer<C>,
        forwarding: Arc<Forwarding>,
        limit: usize,
    ) -> Self {
        // SAFETY: the client is live.
        let queue = Queue(unsafe { sys::rd_kafka_queue_new(consumer.client().native_ptr()) });
        *forwarding.lock() = Some(queue);
        let watch = forwarding.clone();
        consumer.set_nonempty_callback(move || watch.wake());
        Self {
            queue,
            forwarding,
            messages: Vec::with_capacity(limit),
            limit,
            served_at: Instant::now(),
        }
    }

    /// See [`Reader::read`](super::reader::Reader::read). `must_stop`: a callback that was served
    /// may have changed the assignment.
    pub(crate) fn read<C: ConsumerContext>(
        &mut self,
        consumer: &BaseConsumer<C>,
        must_stop: impl Fn() -> bool,
        wait: Duration,
        mut take: impl FnMut(&NativeMessage<'_>),
    ) -> Read {
        let mut read = Read::default();
        if self.forwarding.events.swap(false, Ordering::AcqRel)
            || self.served_at.elapsed() >= SERVE_EVENTS
        {
            self.served_at = Instant::now();
            serve(consumer, &must_stop, &mut read, &mut take);
            // The callback runs when the queue gets its first event, so a queue that was not
            // emptied triggers no further one. With much logging (`debug`) errors and rebalances
            // would wait behind thousands of lines.
            if has_events(consumer) {
                self.forwarding.events.store(true, Ordering::Release);
            }
            // The loop has to open what was assigned before its first record is taken out.
            if read.error.is_some() || must_stop() {
                return read;
            }
        }
        self.take_batch(&mut read, &mut take);
        if read.taken == 0
            && read.error.is_none()
            && !wait.is_zero()
            && !self.forwarding.events.load(Ordering::Acquire)
        {
            let wait_millis = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
            let began = Instant::now();
            // SAFETY: the queue is live. A batch call would wait for a full batch, so the wait is
            // for one.
            let message = unsafe { sys::rd_kafka_consume_queue(self.queue.0, wait_millis) };
            read.waited = began.elapsed();
            if !message.is_null() {
                hand_out(Owned(message), &mut read, &mut take);
                self.take_batch(&mut read, &mut take);
            }
        }
        read
    }

    /// Takes out what is there, without waiting.
    fn take_batch(&mut self, read: &mut Read, take: &mut impl FnMut(&NativeMessage<'_>)) {
        let room = self.limit - read.taken.min(self.limit);
        // `Owned` is its pointer, and nothing else.
        let messages = self.messages.as_mut_ptr().cast();
        // SAFETY: the queue is live, and the buffer has place for `room` pointers.
        let count = unsafe { sys::rd_kafka_consume_batch_queue(self.queue.0, 0, messages, room) };
        let count = usize::try_from(count).unwrap_or(0);
        // SAFETY: librdkafka has written `count` pointers to messages, which are ours from here on.
        unsafe { self.messages.set_len(count) };
        // Also where `take` panics: the drain frees what is left of the batch.
        for message in self.messages.drain(..) {
            hand_out(message, read, take);
        }
    }
}

impl Drop for FetchQueue {
    fn drop(&mut self) {
        self.forwarding.empty_those_left(self.queue);
        // From here on no callback uses the queue.
        *self.forwarding.lock() = None;
        // SAFETY: made by us, destroyed once.
        unsafe { sys::rd_kafka_queue_destroy(self.queue.0) };
    }
}

impl Forwarding {
    /// Directs a partition's records to our queue. To be called before each of its assignments.
    pub(crate) fn forward<C: ConsumerContext>(
        &self,
        consumer: &BaseConsumer<C>,
        topic: &str,
        partition: i32,
    ) {
        // The lock is not held over the calls: they wait for locks of librdkafka, whose threads can
        // hold those while they call `wake`, which waits for ours.
        let queue = *self.lock();
        let (Some(queue), Ok(name)) = (queue, CString::new(topic)) else {
            return;
        };
        // SAFETY: the client is live. So is our queue: rebalance callbacks run on the thread that
        // polls, and only that thread drops the queue. The topic is a C string; the partition's
        // queue is checked and given back.
        let source = unsafe {
            let source = sys::rd_kafka_queue_get_partition(
                consumer.client().native_ptr(),
                name.as_ptr(),
                partition,
            );
            if source.is_null() {
                return;
            }
            sys::rd_kafka_queue_forward(source, queue.0);
            Source(Queue(source))
        };
        self.sources().insert((topic.to_owned(), partition), source);
    }

    /// Empties the queues of partitions that are no longer assigned, and keeps them empty.
    ///
    /// librdkafka can go on with a partition that was taken away while its start was being looked
    /// up: the late answer starts the look-up again. Where the topic was re-created without that
    /// partition, it fails every 100 ms. Each error waits in the partition's queue, which is not
    /// read. It holds the partition, which holds its broker, so the client would not end
    /// (librdkafka#4362). Forwarded to our queue, the errors are destroyed with it.
    fn empty_those_left(&self, queue: Queue) {
        for source in std::mem::take(&mut *self.sources()).into_values() {
            // SAFETY: both queues are live.
            unsafe { sys::rd_kafka_queue_forward(source.0.0, queue.0) };
        }
    }

    fn sources(&self) -> MutexGuard<'_, BTreeMap<(String, i32), Source>> {
        lock(&self.sources)
    }

    /// Runs on librdkafka's threads whenever the consumer queue gets its first event, under that
    /// queue's lock. `forward` does not hold the lock taken here while it calls librdkafka, so the
    /// two cannot wait for each other.
    fn wake(&self) {
        self.events.store(true, Ordering::Release);
        if let Some(queue) = *self.lock() {
            // SAFETY: the queue is live while the lock is held and it is there.
            unsafe { sys::rd_kafka_queue_yield(queue.0) };
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Queue>> {
        lock(&self.queue)
    }
}

/// Whether something is left in the consumer queue.
fn has_events<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> bool {
    // SAFETY: the client is live; the reference to its queue is checked, and given back.
    unsafe {
        let queue = sys::rd_kafka_queue_get_consumer(consumer.client().native_ptr());
        if queue.is_null() {
            return false;
        }
        let length = sys::rd_kafka_queue_length(queue);
        sys::rd_kafka_queue_destroy(queue);
        length > 0
    }
}

/// Serves the consumer queue. A served callback looks like an empty queue, so it is polled more
/// than once. Ends with the first rebalance: see [`FetchQueue::read`].
fn serve<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    must_stop: impl Fn() -> bool,
    read: &mut Read,
    take: &mut impl FnMut(&NativeMessage<'_>),
) {
    let mut empty = 0;
    for _ in 0..EVENTS_AT_ONCE {
        if must_stop() {
            return;
        }
        match consumer.poll(Duration::ZERO) {
            Some(Ok(message)) => {
                // Not forwarded: never seen, and not lost if it should happen.
                take(&NativeMessage::from(&message));
                read.taken += 1;
            }
            Some(Err(error)) => {
                read.error = Some(error);
                return;
            }
            None => empty += 1,
        }
        if empty == 4 || must_stop() {
            return;
        }
    }
}

/// Passes one message on and frees it.
fn hand_out(message: Owned, read: &mut Read, take: &mut impl FnMut(&NativeMessage<'_>)) {
    // SAFETY: librdkafka gives out valid messages; this one is freed after its last use, also if
    // `take` panics.
    let borrowed = unsafe { &*message.0 };
    if borrowed.err == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        take(&NativeMessage::new(borrowed));
        read.taken += 1;
    } else {
        let is_end = borrowed.err == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__PARTITION_EOF;
        // One error is enough to show the state, but it must not replace the one that ends the
        // subscription, and the end of a partition replaces none.
        let is_kept = |error: &KafkaError| {
            use RDKafkaErrorCode::AutoOffsetReset;
            is_end || matches!(error, KafkaError::MessageConsumption(AutoOffsetReset))
        };
        if !read.error.as_ref().is_some_and(is_kept) {
            read.error = Some(KafkaError::MessageConsumption(borrowed.err.into()));
        }
        let failed = NativeMessage::new(borrowed);
        if borrowed.err == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET {
            read.reset.get_or_insert_with(|| {
                format!(
                    "{}-{}: {}; with auto.offset.reset=error no other is taken: set the group's offset to where reading \
                     is to go on",
                    failed.topic(),
                    failed.partition(),
                    failed.error_text()
                )
            });
        }
        if failed.offset() >= 0 && !failed.topic().is_empty() {
            let (topic, partition, offset) = (
                failed.topic().to_owned(),
                failed.partition(),
                failed.offset(),
            );
            read.failed_fetches.push(FailedFetch {
                topic,
                partition,
                offset,
                is_end,
            });
        }
    }
}

/// A message that was taken out. A batch call writes its pointer in place.
#[repr(transparent)]
struct Owned(*mut sys::rd_kafka_message_t);

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: taken out of a queue by us, and freed once.
        unsafe { sys::rd_kafka_message_destroy(self.0) };
    }
}
