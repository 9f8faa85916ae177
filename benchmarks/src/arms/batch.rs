//! The bare loop on a fetch queue of its own, from which librdkafka hands out many records at a
//! time: the fastest way to read a topic that we know of, and as far as keylane could get.
//!
//! SAFETY, for the whole file: the queue is made for a live client and destroyed before it, by the
//! drop order of [`FetchQueue`] and the consumer in [`run`]; until then the callback uses its
//! address. Messages are used between their being taken out and their destruction, all within one
//! turn of the loop.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::bindings as sys;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;

use super::{Copy, bare, committed, settings};
use crate::measure::{Failure, Job, Run, Sample, Seen};

/// How often a loop that blocks looks whether it is to be cut off.
pub(super) const RECORDS_PER_LOOK: usize = 256;
const BATCH: usize = 500;
const SERVE_EVENTS: Duration = Duration::from_millis(20);

pub(super) fn run(job: &Job, copy: Copy) -> Result<Sample, Failure> {
    let run = Run::start(job);
    let consumer: BaseConsumer<Forward> =
        settings::tuned(job).create_with_context(Forward::default())?;
    let queue = FetchQueue::new(&consumer);
    consumer.subscribe(&[&job.topic])?;
    let mut messages = Vec::with_capacity(BATCH);
    let mut served = Instant::now();
    while !run.observer.is_over() {
        if served.elapsed() >= SERVE_EVENTS {
            served = Instant::now();
            serve(&consumer)?;
            run.observer.look_at_clock();
        }
        queue.take(&mut messages);
        if messages.is_empty() {
            serve(&consumer)?;
            queue.take_one(&mut messages);
        }
        for message in messages.drain(..) {
            read(&run, copy, message)?;
        }
    }
    let mut sample = run.sample(job, "1");
    committed::note(job, &run, &mut sample, || {
        drop(consumer.poll(Duration::ZERO))
    })?;
    drop(queue);
    Ok(sample)
}

fn serve(consumer: &BaseConsumer<Forward>) -> Result<(), KafkaError> {
    match consumer.poll(Duration::ZERO) {
        Some(Err(error)) => Err(error),
        // Records come through our queue only.
        _ => Ok(()),
    }
}

fn read(run: &Run, copy: Copy, message: *mut sys::rd_kafka_message_t) -> Result<(), Failure> {
    // SAFETY: taken out of the queue just now, not destroyed yet.
    let borrowed = unsafe { &*message };
    let error = borrowed.err;
    if error == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
        // SAFETY: pointer and length are librdkafka's, and live as long as the message.
        let (key, value) = unsafe {
            (
                slice(borrowed.key, borrowed.key_len),
                slice(borrowed.payload, borrowed.len),
            )
        };
        copy.of(key, value);
        bare::process(
            run,
            Seen::new(borrowed.partition, borrowed.offset, key, value),
        );
    }
    // SAFETY: destroyed once, and not used after.
    unsafe { sys::rd_kafka_message_destroy(message) };
    match error {
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        error => Err(KafkaError::MessageConsumption(error.into()).into()),
    }
}

/// SAFETY: `pointer` is null or points to `length` initialised bytes that live for `'a`.
unsafe fn slice<'a>(pointer: *const std::ffi::c_void, length: usize) -> Option<&'a [u8]> {
    // SAFETY: by the contract above; null is checked first.
    (!pointer.is_null())
        .then(|| unsafe { std::slice::from_raw_parts(pointer.cast::<u8>(), length) })
}

struct FetchQueue<'a> {
    queue: *mut sys::rd_kafka_queue_t,
    consumer: &'a BaseConsumer<Forward>,
}

impl<'a> FetchQueue<'a> {
    fn new(consumer: &'a BaseConsumer<Forward>) -> Self {
        // SAFETY: the client is live.
        let queue = unsafe { sys::rd_kafka_queue_new(consumer.client().native_ptr()) };
        consumer.context().set(Some(Queue(queue)));
        Self { queue, consumer }
    }

    /// What is there.
    fn take(&self, messages: &mut Vec<*mut sys::rd_kafka_message_t>) {
        // SAFETY: the queue is live, and the buffer has place for a batch.
        let count = unsafe {
            sys::rd_kafka_consume_batch_queue(self.queue, 0, messages.as_mut_ptr(), BATCH)
        };
        // SAFETY: librdkafka has written this many pointers.
        unsafe { messages.set_len(usize::try_from(count).unwrap_or(0)) };
    }

    /// The next one, after a wait where there is none.
    fn take_one(&self, messages: &mut Vec<*mut sys::rd_kafka_message_t>) {
        // SAFETY: the queue is live.
        let message = unsafe { sys::rd_kafka_consume_queue(self.queue, 20) };
        if !message.is_null() {
            messages.push(message);
        }
    }
}

impl Drop for FetchQueue<'_> {
    fn drop(&mut self) {
        self.consumer.context().set(None);
        // SAFETY: made by us, destroyed once, before the client.
        unsafe { sys::rd_kafka_queue_destroy(self.queue) };
    }
}

#[derive(Clone, Copy)]
struct Queue(*mut sys::rd_kafka_queue_t);

// SAFETY: librdkafka's queues may be used from any thread; this is only their address.
unsafe impl Send for Queue {}

/// Directs every partition to our queue before it is assigned.
#[derive(Default)]
struct Forward {
    queue: Mutex<Option<Queue>>,
}

impl Forward {
    fn set(&self, queue: Option<Queue>) {
        *self
            .queue
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = queue;
    }
}

impl ClientContext for Forward {}

impl ConsumerContext for Forward {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        error: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let queue = self
            .queue
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let answered = if error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            for element in list.elements() {
                let (Some(queue), Ok(topic)) = (*queue, CString::new(element.topic())) else {
                    continue;
                };
                // SAFETY: client and queue are live, the topic is a C string; the partition's queue
                // is given back.
                unsafe {
                    let client = consumer.client().native_ptr();
                    let source = sys::rd_kafka_queue_get_partition(
                        client,
                        topic.as_ptr(),
                        element.partition(),
                    );
                    if !source.is_null() {
                        sys::rd_kafka_queue_forward(source, queue.0);
                        sys::rd_kafka_queue_destroy(source);
                    }
                }
            }
            consumer.incremental_assign(list)
        } else {
            consumer.incremental_unassign(list)
        };
        if let Err(error) = answered {
            eprintln!("the bare batch loop could not answer a rebalance: {error}");
        }
    }
}
