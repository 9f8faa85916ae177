//! The brokers' answers about consumer groups, this client's and others.
//!
//! A query needs the permission to DESCRIBE the group, and the topic where offsets are queried.
//!
//! SAFETY, for the whole file: as in `replies.rs`. Names and lists are used only in the call that
//! makes them. What is read of a reply is copied before the reply goes.
#![allow(unsafe_code)]

use std::ffi::{CString, c_char};

use rdkafka::TopicPartitionList;
use rdkafka::bindings as sys;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;

use super::replies::{AdminOptions, Reply, ReplyQueue, code, slice};

/// Queries the committed offsets of a group, for the partitions in `list`. One answer follows in
/// the queue. `false` for a name that no group can have.
pub(crate) fn list_group_offsets<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    group: &str,
    list: &TopicPartitionList,
    options: &AdminOptions,
    queue: &ReplyQueue,
) -> bool {
    let Ok(group) = CString::new(group) else {
        return false;
    };
    // SAFETY: client, list, options and queue are live, and the name is a C string. The request is
    // made for us, copies the list, and is destroyed once, after its last use.
    unsafe {
        let request = sys::rd_kafka_ListConsumerGroupOffsets_new(group.as_ptr(), list.ptr());
        let mut requests = [request];
        sys::rd_kafka_ListConsumerGroupOffsets(
            client.client().native_ptr(),
            requests.as_mut_ptr(),
            requests.len(),
            options.as_ptr(),
            queue.as_ptr(),
        );
        sys::rd_kafka_ListConsumerGroupOffsets_destroy(request);
    }
    true
}

/// Whether an answer to [`list_group_offsets`] has a committed offset. An error of one partition is
/// an error.
pub(crate) fn has_offsets(reply: &Reply<'_>) -> Result<bool, RDKafkaErrorCode> {
    if let Some(error) = reply.error() {
        return Err(error);
    }
    let mut count = 0;
    // SAFETY: the event is live. Its result, null for one of another kind, belongs to it, as do the
    // array, of
    // `count` groups, and the list of each, null where there is none.
    unsafe {
        let result = sys::rd_kafka_event_ListConsumerGroupOffsets_result(reply.as_ptr());
        if result.is_null() {
            return Err(RDKafkaErrorCode::BadMessage);
        }
        let groups: *mut *const sys::rd_kafka_group_result_t =
            sys::rd_kafka_ListConsumerGroupOffsets_result_groups(result, &mut count);
        let Some(&group) = slice(groups.cast_const(), count).first() else {
            return Err(RDKafkaErrorCode::BadMessage);
        };
        // Null is answered with "no error".
        if let Some(error) = code(sys::rd_kafka_error_code(sys::rd_kafka_group_result_error(
            group,
        ))) {
            return Err(error);
        }
        let list = sys::rd_kafka_group_result_partitions(group);
        if list.is_null() {
            return Ok(false);
        }
        let partitions = slice(
            (*list).elems.cast_const(),
            usize::try_from((*list).cnt).unwrap_or(0),
        );
        if partitions.iter().any(|partition| partition.offset >= 0) {
            return Ok(true);
        }
        partitions
            .iter()
            .find_map(|partition| code(partition.err))
            .map_or(Ok(false), Err)
    }
}

/// Queries a group's state. One answer follows in the queue. `false` for a name that no group can
/// have.
pub(crate) fn describe_group<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    group: &str,
    options: &AdminOptions,
    queue: &ReplyQueue,
) -> bool {
    let Ok(group) = CString::new(group) else {
        return false;
    };
    let mut groups: [*const c_char; 1] = [group.as_ptr()];
    // SAFETY: client, options and queue are live, and the array holds one C string, which is
    // copied.
    unsafe {
        sys::rd_kafka_DescribeConsumerGroups(
            client.client().native_ptr(),
            groups.as_mut_ptr(),
            groups.len(),
            options.as_ptr(),
            queue.as_ptr(),
        );
    }
    true
}

/// How many members an answer to [`describe_group`] names; none where there is no such group.
pub(crate) fn members(reply: &Reply<'_>) -> Result<usize, RDKafkaErrorCode> {
    if let Some(error) = reply.error() {
        return Err(error);
    }
    let mut count = 0;
    // SAFETY: the event is live. Its result, null for one of another kind, belongs to it, as does
    // the array of
    // `count` descriptions.
    unsafe {
        let result = sys::rd_kafka_event_DescribeConsumerGroups_result(reply.as_ptr());
        if result.is_null() {
            return Err(RDKafkaErrorCode::BadMessage);
        }
        let groups = sys::rd_kafka_DescribeConsumerGroups_result_groups(result, &mut count);
        let Some(&group) = slice(groups.cast_const(), count).first() else {
            return Err(RDKafkaErrorCode::BadMessage);
        };
        // Null is answered with "no error".
        match code(sys::rd_kafka_error_code(
            sys::rd_kafka_ConsumerGroupDescription_error(group),
        )) {
            None => Ok(sys::rd_kafka_ConsumerGroupDescription_member_count(group)),
            Some(RDKafkaErrorCode::GroupIdNotFound) => Ok(0),
            Some(error) => Err(error),
        }
    }
}
