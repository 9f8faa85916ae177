//! Requests to librdkafka, and the queues of its answers.
//!
//! SAFETY, for the whole file, and for those who use it:
//! - A client is borrowed for the whole of a call, and so live.
//! - Queues, events, options and errors are made by librdkafka for us, not null, and destroyed
//!   once, by the drop of [`Owned`]. What belongs to an event is null, or lives until then: it must
//!   not outlive the borrow of its [`Reply`].
//! - An event goes before its queue: it borrows the queue.
//! - A queue goes before its client: it is a local of a function that borrows the client (a
//!   callback's too), or a part of [`Client`](super::Client), which drops it first. An answer that
//!   comes later is freed by librdkafka.
//! - librdkafka copies options, lists and names with the question, and does not keep ours.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::time::Duration;

use rdkafka::bindings as sys;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;

/// Where the answers come to. Of one client, and dropped before it.
pub(crate) struct ReplyQueue(Owned<sys::rd_kafka_queue_t>);

// SAFETY: librdkafka's queues may be used from any thread; this is only the address.
unsafe impl Send for ReplyQueue {}

impl ReplyQueue {
    pub(crate) fn new<C: ConsumerContext>(client: &BaseConsumer<C>) -> Self {
        // SAFETY: the client is live.
        let queue = unsafe { sys::rd_kafka_queue_new(client.client().native_ptr()) };
        Self(
            Owned::new(queue, sys::rd_kafka_queue_destroy)
                .expect("without memory librdkafka ends the process"),
        )
    }

    /// The next answer, waited for at most this long.
    pub(crate) fn poll(&self, wait: Duration) -> Option<Reply<'_>> {
        // SAFETY: the queue is live.
        let event = unsafe { sys::rd_kafka_queue_poll(self.as_ptr(), millis(wait)) };
        Owned::new(event, sys::rd_kafka_event_destroy).map(|event| Reply {
            event,
            _queue: PhantomData,
        })
    }

    /// Live as long as `self`.
    pub(crate) fn as_ptr(&self) -> *mut sys::rd_kafka_queue_t {
        self.0.pointer
    }
}

/// An answer.
pub(crate) struct Reply<'a> {
    event: Owned<sys::rd_kafka_event_t>,
    _queue: PhantomData<&'a ReplyQueue>,
}

impl Reply<'_> {
    pub(crate) fn kind(&self) -> sys::rd_kafka_event_type_t {
        // SAFETY: the event is live.
        unsafe { sys::rd_kafka_event_type(self.as_ptr()) }
    }

    pub(crate) fn error(&self) -> Option<RDKafkaErrorCode> {
        // SAFETY: the event is live.
        code(unsafe { sys::rd_kafka_event_error(self.as_ptr()) })
    }

    /// Live as long as `self`.
    pub(crate) fn as_ptr(&self) -> *mut sys::rd_kafka_event_t {
        self.event.pointer
    }
}

/// What goes with a question.
pub(crate) struct AdminOptions(Owned<sys::rd_kafka_AdminOptions_t>);

impl AdminOptions {
    /// The answer comes within `timeout`, if only that there is none.
    pub(crate) fn new<C: ConsumerContext>(
        client: &BaseConsumer<C>,
        operation: sys::rd_kafka_admin_op_t,
        timeout: Duration,
    ) -> Self {
        // SAFETY: the client is live.
        let options =
            unsafe { sys::rd_kafka_AdminOptions_new(client.client().native_ptr(), operation) };
        let options = Self(
            Owned::new(options, sys::rd_kafka_AdminOptions_destroy)
                .expect("librdkafka has its own operations"),
        );
        let timeout_millis = millis(timeout).max(1);
        // SAFETY: the options are live. A refused time-out leaves the default, and the reason is
        // not read.
        unsafe {
            sys::rd_kafka_AdminOptions_set_request_timeout(
                options.0.pointer,
                timeout_millis,
                std::ptr::null_mut(),
                0,
            );
        }
        options
    }

    /// The answer is to contain what this client may do. `None` where that is no part of it.
    pub(crate) fn with_authorized_operations(self) -> Option<Self> {
        // SAFETY: the options are live; the error, if any, is ours.
        let refused = unsafe {
            sys::rd_kafka_AdminOptions_set_include_authorized_operations(self.0.pointer, 1)
        };
        Owned::new(refused, sys::rd_kafka_error_destroy)
            .is_none()
            .then_some(self)
    }

    /// Live as long as `self`.
    pub(crate) fn as_ptr(&self) -> *const sys::rd_kafka_AdminOptions_t {
        self.0.pointer
    }
}

/// `None` for "no error".
pub(crate) fn code(error: sys::rd_kafka_resp_err_t) -> Option<RDKafkaErrorCode> {
    (error != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| error.into())
}

/// SAFETY: `first` is null or points to `count` elements that live for `'a`.
pub(crate) unsafe fn slice<'a, T>(first: *const T, count: usize) -> &'a [T] {
    // SAFETY: by the contract above; null is checked.
    if first.is_null() {
        &[]
    } else {
        unsafe { std::slice::from_raw_parts(first, count) }
    }
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

/// A thing of librdkafka's that is destroyed once.
struct Owned<T> {
    pointer: *mut T,
    destroy: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    fn new(pointer: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> Option<Self> {
        (!pointer.is_null()).then(|| Self { pointer, destroy })
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: not null, made by librdkafka for us, and destroyed here only.
        unsafe { (self.destroy)(self.pointer) };
    }
}
