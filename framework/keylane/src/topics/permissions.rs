//! Asks the brokers what this client may do (KIP-430). rdkafka has no interface to it.
//!
//! SAFETY, for the whole file: the client is live for the whole of a call, which waits for the answer. Queue, options, name list
//! and event are each made by one function here and destroyed once, by the drop of [`Owned`], the event before the queue. What an
//! event holds is read between its being taken out and its destruction, and copied. Null is checked.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char};
use std::time::Duration;

use rdkafka::bindings as sys;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use sys::rd_kafka_AclOperation_t as Native;
use sys::rd_kafka_admin_op_t as AdminOperation;

/// What one needs leave for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Read,
    Write,
}

/// What a broker says this client may do with a thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// It did not say, as brokers before 2.3, mocks and others do not.
    Unknown,
    /// Not even to look at it.
    Nothing,
    These(Vec<Operation>),
}

impl Allowed {
    /// Whether the broker has said that the operation is forbidden.
    pub(crate) fn forbids(&self, operation: Operation) -> bool {
        match self {
            Self::Unknown => false,
            Self::Nothing => true,
            Self::These(operations) => !operations.contains(&operation),
        }
    }

    fn of(error: Option<RDKafkaErrorCode>, operations: &[Native]) -> Self {
        match error {
            Some(RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::GroupAuthorizationFailed) => {
                return Self::Nothing;
            }
            Some(_) => return Self::Unknown,
            None => {}
        }
        // Who gets an answer may describe the thing. An answer without that is no answer: nobody filled it in.
        if !operations.contains(&Native::RD_KAFKA_ACL_OPERATION_DESCRIBE) {
            return Self::Unknown;
        }
        let known = [
            (Native::RD_KAFKA_ACL_OPERATION_READ, Operation::Read),
            (Native::RD_KAFKA_ACL_OPERATION_WRITE, Operation::Write),
        ];
        Self::These(known.into_iter().filter(|(native, _)| operations.contains(native)).map(|(_, own)| own).collect())
    }
}

/// What is allowed on each of these topics; those not mentioned are unknown. Blocks.
pub(super) fn on_topics<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    names: &[&str],
    timeout: Duration,
) -> BTreeMap<String, Allowed> {
    let Some((_kept, mut pointers)) = c_strings(names) else { return BTreeMap::new() };
    // SAFETY: the pointers are to C strings that live until the end of this function; the names are copied.
    let collection = unsafe { sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len()) };
    let Some(collection) = Owned::new(collection, sys::rd_kafka_TopicCollection_destroy) else {
        return BTreeMap::new();
    };
    let send = |client, options, queue| {
        // SAFETY: all are live; librdkafka copies what it keeps.
        unsafe { sys::rd_kafka_DescribeTopics(client, collection.0, options, queue) };
    };
    ask(client, AdminOperation::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, timeout, send, |event| {
        let mut allowed = BTreeMap::new();
        // SAFETY: the event is live; the accessors answer null for an event of another kind.
        unsafe {
            let result = sys::rd_kafka_event_DescribeTopics_result(event);
            if result.is_null() {
                return allowed;
            }
            let mut count = 0;
            let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &mut count);
            for &topic in slice(topics, count) {
                let name = CStr::from_ptr(sys::rd_kafka_TopicDescription_name(topic)).to_string_lossy().into_owned();
                let error = code(sys::rd_kafka_TopicDescription_error(topic));
                let mut count = 0;
                let operations = sys::rd_kafka_TopicDescription_authorized_operations(topic, &mut count);
                allowed.insert(name, Allowed::of(error, slice(operations, count)));
            }
        }
        allowed
    })
    .unwrap_or_default()
}

/// What is allowed on a group, whether it exists or not. Blocks.
pub(super) fn on_group<C: ConsumerContext>(client: &BaseConsumer<C>, group: &str, timeout: Duration) -> Allowed {
    let Some((_kept, mut pointers)) = c_strings(&[group]) else { return Allowed::Unknown };
    let send = |client, options, queue| {
        // SAFETY: all are live, the pointer is to a C string; librdkafka copies what it keeps.
        unsafe { sys::rd_kafka_DescribeConsumerGroups(client, pointers.as_mut_ptr(), 1, options, queue) };
    };
    ask(client, AdminOperation::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS, timeout, send, |event| {
        // SAFETY: the event is live; the accessors answer null for an event of another kind.
        unsafe {
            let result = sys::rd_kafka_event_DescribeConsumerGroups_result(event);
            if result.is_null() {
                return Allowed::Unknown;
            }
            let mut count = 0;
            let groups = sys::rd_kafka_DescribeConsumerGroups_result_groups(result, &mut count);
            let Some(&group) = slice(groups, count).first() else { return Allowed::Unknown };
            let error = code(sys::rd_kafka_ConsumerGroupDescription_error(group));
            let operations = sys::rd_kafka_ConsumerGroupDescription_authorized_operations(group, &mut count);
            Allowed::of(error, slice(operations, count))
        }
    })
    .unwrap_or(Allowed::Unknown)
}

/// One question and its answer; `None` where the client refuses to ask or nothing comes.
fn ask<C: ConsumerContext, T>(
    client: &BaseConsumer<C>,
    operation: AdminOperation,
    timeout: Duration,
    send: impl FnOnce(*mut sys::rd_kafka_t, *const sys::rd_kafka_AdminOptions_t, *mut sys::rd_kafka_queue_t),
    read: impl FnOnce(*mut sys::rd_kafka_event_t) -> T,
) -> Option<T> {
    let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX).max(1);
    let native = client.client().native_ptr();
    // SAFETY: the client is live; both are destroyed once, by `Owned`.
    let (queue, options) =
        unsafe { (sys::rd_kafka_queue_new(native), sys::rd_kafka_AdminOptions_new(native, operation)) };
    let queue = Owned::new(queue, sys::rd_kafka_queue_destroy)?;
    let options = Owned::new(options, sys::rd_kafka_AdminOptions_destroy)?;
    let mut reason: [c_char; 128] = [0; 128];
    // SAFETY: the options are live, and the buffer is as long as is said. The error, if any, is destroyed once.
    unsafe {
        let refused = sys::rd_kafka_AdminOptions_set_include_authorized_operations(options.0, 1);
        if !refused.is_null() {
            sys::rd_kafka_error_destroy(refused);
            return None;
        }
        sys::rd_kafka_AdminOptions_set_request_timeout(options.0, millis, reason.as_mut_ptr(), reason.len());
    }
    send(native, options.0, queue.0);
    // SAFETY: the queue is live. The answer comes within the request's time-out; the wait has one of its own all the same.
    let event = unsafe { sys::rd_kafka_queue_poll(queue.0, millis.saturating_add(1_000)) };
    let event = Owned::new(event, sys::rd_kafka_event_destroy)?;
    Some(read(event.0))
}

/// The texts as C strings and the pointers to them; `None` where one holds a NUL.
fn c_strings(texts: &[&str]) -> Option<(Vec<CString>, Vec<*const c_char>)> {
    let kept = texts.iter().map(|text| CString::new(*text)).collect::<Result<Vec<_>, _>>().ok()?;
    let pointers = kept.iter().map(|text| text.as_ptr()).collect();
    Some((kept, pointers))
}

/// SAFETY: null, or an error object that lives for the call.
unsafe fn code(error: *const sys::rd_kafka_error_t) -> Option<RDKafkaErrorCode> {
    // SAFETY: by the contract above; null is answered with "no error".
    let code = unsafe { sys::rd_kafka_error_code(error) };
    (code != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| code.into())
}

/// SAFETY: `first` is null or points to `count` elements that live for `'a`.
unsafe fn slice<'a, T>(first: *const T, count: usize) -> &'a [T] {
    // SAFETY: by the contract above; null is checked.
    if first.is_null() { &[] } else { unsafe { std::slice::from_raw_parts(first, count) } }
}

/// A thing of librdkafka's that is destroyed once.
struct Owned<T>(*mut T, unsafe extern "C" fn(*mut T));

impl<T> Owned<T> {
    fn new(pointer: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> Option<Self> {
        (!pointer.is_null()).then_some(Self(pointer, destroy))
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: non-null, made by librdkafka for us, and destroyed here only.
        unsafe { (self.1)(self.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_broker_has_said_is_believed() {
        use Native::*;
        let read_only = [RD_KAFKA_ACL_OPERATION_DESCRIBE, RD_KAFKA_ACL_OPERATION_READ];
        let allowed = Allowed::of(None, &read_only);
        assert!(!allowed.forbids(Operation::Read) && allowed.forbids(Operation::Write));
        for unsaid in [&[][..], &[RD_KAFKA_ACL_OPERATION_READ][..]] {
            assert_eq!(Allowed::of(None, unsaid), Allowed::Unknown);
        }
        assert_eq!(Allowed::of(Some(RDKafkaErrorCode::OperationTimedOut), &read_only), Allowed::Unknown);
        let refused = Allowed::of(Some(RDKafkaErrorCode::GroupAuthorizationFailed), &[]);
        assert!(refused.forbids(Operation::Read));
        assert!(!Allowed::Unknown.forbids(Operation::Write));
    }
}
