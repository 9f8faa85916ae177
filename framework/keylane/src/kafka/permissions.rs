//! Queries what this client may do (KIP-430). rdkafka has no interface for it.
//!
//! SAFETY, for the whole file: as in `kafka/replies.rs`.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::CString;
use std::time::Duration;

use rdkafka::bindings as sys;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use sys::rd_kafka_AclOperation_t as Native;
use sys::rd_kafka_admin_op_t as AdminOperation;

use super::describe::{describe_topics, descriptions};
use super::replies::{AdminOptions, Reply, ReplyQueue, code, slice};

/// Operations that need permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Read,
    Write,
}

/// What this client may do with a resource, by a broker's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// The broker did not report it, as brokers before 2.3, mocks and others do not.
    Unknown,
    /// It may not even describe the resource.
    Nothing,
    These(Vec<Operation>),
}

impl Allowed {
    /// Whether the broker has reported that the operation is forbidden.
    pub(crate) fn forbids(&self, operation: Operation) -> bool {
        match self {
            Self::Unknown => false,
            Self::Nothing => true,
            Self::These(operations) => !operations.contains(&operation),
        }
    }

    fn of(error: Option<RDKafkaErrorCode>, operations: &[Native]) -> Self {
        match error {
            Some(
                RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::GroupAuthorizationFailed,
            ) => {
                return Self::Nothing;
            }
            Some(_) => return Self::Unknown,
            None => {}
        }
        // A client that gets an answer may describe the resource. An answer without that operation
        // was not filled in, and does not count.
        if !operations.contains(&Native::RD_KAFKA_ACL_OPERATION_DESCRIBE) {
            return Self::Unknown;
        }
        let known = [
            (Native::RD_KAFKA_ACL_OPERATION_READ, Operation::Read),
            (Native::RD_KAFKA_ACL_OPERATION_WRITE, Operation::Write),
        ];
        Self::These(
            known
                .into_iter()
                .filter(|(native, _)| operations.contains(native))
                .map(|(_, own)| own)
                .collect(),
        )
    }
}

/// What is allowed on each of these topics; those not mentioned are unknown. Blocks.
pub(crate) fn on_topics<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    names: &[&str],
    timeout: Duration,
) -> BTreeMap<String, Allowed> {
    let queue = ReplyQueue::new(client);
    let Some(options) = options(
        client,
        AdminOperation::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        timeout,
    ) else {
        return BTreeMap::new();
    };
    describe_topics(client, names, &options, &queue);
    let reply = answer(&queue, timeout);
    let topics = reply.as_ref().and_then(descriptions).into_iter().flatten();
    let allowed = topics.filter_map(|topic| {
        let allowed = Allowed::of(topic.error(), topic.authorized_operations());
        Some((topic.name()?.to_owned(), allowed))
    });
    allowed.collect()
}

/// What is allowed on a group, whether it exists or not. Blocks.
pub(crate) fn on_group<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    group: &str,
    timeout: Duration,
) -> Allowed {
    asked_of_group(client, group, timeout).unwrap_or(Allowed::Unknown)
}

fn asked_of_group<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    group: &str,
    timeout: Duration,
) -> Option<Allowed> {
    let queue = ReplyQueue::new(client);
    let options = options(
        client,
        AdminOperation::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS,
        timeout,
    )?;
    let group = CString::new(group).ok()?;
    let mut groups = [group.as_ptr()];
    let native = client.client().native_ptr();
    // SAFETY: client, options and queue are live, and the array holds one C string.
    unsafe {
        sys::rd_kafka_DescribeConsumerGroups(
            native,
            groups.as_mut_ptr(),
            1,
            options.as_ptr(),
            queue.as_ptr(),
        );
    }
    let reply = answer(&queue, timeout)?;
    // SAFETY: the reply is live. The result, null for a reply of another kind, and what it holds
    // belong to it; `count` is a valid place to write to.
    unsafe {
        let result = sys::rd_kafka_event_DescribeConsumerGroups_result(reply.as_ptr());
        if result.is_null() {
            return None;
        }
        let mut count = 0;
        let groups = sys::rd_kafka_DescribeConsumerGroups_result_groups(result, &mut count);
        let group = *slice(groups, count).first()?;
        let error = code(sys::rd_kafka_error_code(
            sys::rd_kafka_ConsumerGroupDescription_error(group),
        ));
        let operations =
            sys::rd_kafka_ConsumerGroupDescription_authorized_operations(group, &mut count);
        Some(Allowed::of(error, slice(operations, count)))
    }
}

/// `None` where the client refuses to ask.
fn options<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    operation: AdminOperation,
    timeout: Duration,
) -> Option<AdminOptions> {
    AdminOptions::new(client, operation, timeout).with_authorized_operations()
}

/// It comes within the request's time-out; the wait has one of its own all the same.
fn answer(queue: &ReplyQueue, timeout: Duration) -> Option<Reply<'_>> {
    queue.poll(timeout.saturating_add(Duration::from_secs(1)))
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
        assert_eq!(
            Allowed::of(Some(RDKafkaErrorCode::OperationTimedOut), &read_only),
            Allowed::Unknown
        );
        let refused = Allowed::of(Some(RDKafkaErrorCode::GroupAuthorizationFailed), &[]);
        assert!(refused.forbids(Operation::Read));
        assert!(!Allowed::Unknown.forbids(Operation::Write));
    }
}
