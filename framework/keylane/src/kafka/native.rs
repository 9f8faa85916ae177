//! The few calls for which rdkafka's safe interface panics on foreign bytes, or has none.
//!
//! - Commit metadata comes from other programs and may be any bytes; rdkafka unwraps it as UTF-8.
//! - The cached watermarks (no network) are not exposed by rdkafka.
//! - Nor are the leader epochs in a list of partitions, for commits and seeks, and the words of a
//!   partition's error.
//!
//! SAFETY, for the whole file: every pointer comes from a live rdkafka object that is borrowed for
//! the whole call. Every length comes from librdkafka beside its pointer, and null is checked.
//! Lifetimes keep what is borrowed from outliving its object. No pointer is kept, and only those are
//! freed that a call gives away: an error, a group's metadata.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::marker::PhantomData;
use std::time::Duration;

use keylane_core::LeaderEpoch;
use rdkafka::TopicPartitionList;
use rdkafka::bindings as sys;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::BorrowedMessage;

use super::message::bytes;
use super::replies::{code, slice};

/// One element of a partition list, metadata as bytes.
pub(crate) struct Committed<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
    /// Negative where nothing was committed.
    pub(crate) offset: i64,
    /// The one that was committed with it.
    pub(crate) leader_epoch: Option<LeaderEpoch>,
    pub(crate) metadata: &'a [u8],
    /// The broker's answer to a question about this partition was an error.
    pub(crate) is_refused: bool,
    _list: PhantomData<&'a TopicPartitionList>,
}

/// The elements of a list with their metadata.
pub(crate) fn committed(list: &TopicPartitionList) -> Vec<Committed<'_>> {
    // SAFETY: the list is live, and `elems` points to `cnt` elements of it.
    let elements = unsafe {
        let list = &*list.ptr();
        slice(list.elems, usize::try_from(list.cnt).unwrap_or(0))
    };
    elements
        .iter()
        .map(|element| Committed {
            // SAFETY: an element's topic is a C string that belongs to the list.
            topic: unsafe { CStr::from_ptr(element.topic) }
                .to_str()
                .unwrap_or(""),
            partition: element.partition,
            offset: element.offset,
            // SAFETY: the element is live.
            leader_epoch: LeaderEpoch::of_record(unsafe {
                sys::rd_kafka_topic_partition_get_leader_epoch(element)
            }),
            // SAFETY: pointer and length are librdkafka's, the bytes belong to the list.
            metadata: unsafe { bytes(element.metadata, element.metadata_size) }.unwrap_or_default(),
            is_refused: element.err != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR,
            _list: PhantomData,
        })
        .collect()
}

/// The leader epoch of a record; negative where its format has none.
pub(crate) fn leader_epoch(message: &BorrowedMessage<'_>) -> i32 {
    // SAFETY: the message is live.
    unsafe { sys::rd_kafka_message_leader_epoch(message.ptr()) }
}

/// Sets the leader epochs of the list's elements, in their order.
pub(crate) fn set_leader_epochs(list: &mut TopicPartitionList, epochs: &[Option<LeaderEpoch>]) {
    // SAFETY: the list is live and borrowed for this call alone; `elems` points to `cnt` elements
    // of it.
    let (first, count) = unsafe {
        (
            (*list.ptr()).elems,
            usize::try_from((*list.ptr()).cnt).unwrap_or(0),
        )
    };
    for (place, epoch) in epochs.iter().take(count).enumerate() {
        let epoch = epoch
            .and_then(|epoch| i32::try_from(epoch.get()).ok())
            .unwrap_or(-1);
        // SAFETY: the element at `place` is one of the `count`.
        unsafe { sys::rd_kafka_topic_partition_set_leader_epoch(first.add(place), epoch) };
    }
}

/// Sets the client's positions to those of the list, and waits until that has begun. Returns for
/// which elements, in their order, the client refused, or gave no answer in time.
///
/// Where an element has a leader epoch, the client first queries where that ends in the log, and
/// fetches nothing before the answer. That is not awaited.
pub(crate) fn seek<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    list: &mut TopicPartitionList,
    timeout: Duration,
) -> Vec<Option<RDKafkaErrorCode>> {
    let timeout_millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: client and list are live. The error, of a time-out, is ours, and destroyed; null is
    // allowed.
    unsafe {
        let error = sys::rd_kafka_seek_partitions(
            consumer.client().native_ptr(),
            list.ptr(),
            timeout_millis,
        );
        sys::rd_kafka_error_destroy(error);
    }
    // SAFETY: the list is live, and `elems` points to `cnt` elements of it.
    let elements = unsafe {
        slice(
            (*list.ptr()).elems,
            usize::try_from((*list.ptr()).cnt).unwrap_or(0),
        )
    };
    elements.iter().map(|element| code(element.err)).collect()
}

/// What a partition's log held as of its last fetch: its first offset, and the one behind its last.
pub(crate) struct CachedRange {
    pub(crate) first: Option<i64>,
    pub(crate) end: Option<i64>,
}

/// Does not ask the broker. Nothing before the first fetch; frozen while the partition is paused.
pub(crate) fn cached_range<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &CStr,
    partition: i32,
) -> CachedRange {
    let (mut low, mut high) = (-1, -1);
    // SAFETY: the client is live, the topic is a C string, and the out-pointers are valid places to
    // write to.
    let error = unsafe {
        sys::rd_kafka_get_watermark_offsets(
            consumer.client().native_ptr(),
            topic.as_ptr(),
            partition,
            &mut low,
            &mut high,
        )
    };
    let is_known = error == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
    let known = |offset: i64| (is_known && offset >= 0).then_some(offset);
    CachedRange {
        first: known(low),
        end: known(high),
    }
}

/// The end offset of a partition as of its last fetch; see [`cached_range`].
pub(crate) fn cached_end_offset<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &CStr,
    partition: i32,
) -> Option<i64> {
    cached_range(consumer, topic, partition).end
}

/// The group's generation (the member's epoch with `group.protocol=consumer`) and the member's id:
/// `17/rdkafka-…`. `None` outside of a group. The client's main thread answers this at once.
pub(crate) fn membership<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> Option<String> {
    // SAFETY: the client is live; what it returns is ours, and destroyed below.
    let metadata = unsafe { sys::rd_kafka_consumer_group_metadata(consumer.client().native_ptr()) };
    if metadata.is_null() {
        return None;
    }
    // SAFETY: `metadata` is live; the id is null or a C string that belongs to it, and is copied
    // before the destroy.
    let (generation, member) = unsafe {
        let member = sys::rd_kafka_consumer_group_metadata_member_id(metadata);
        let member =
            (!member.is_null()).then(|| CStr::from_ptr(member).to_string_lossy().into_owned());
        (
            sys::rd_kafka_consumer_group_metadata_generation_id(metadata),
            member,
        )
    };
    // SAFETY: ours, destroyed once.
    unsafe { sys::rd_kafka_consumer_group_metadata_destroy(metadata) };
    member
        .filter(|member| generation >= 0 && !member.is_empty())
        .map(|member| format!("{generation}/{member}"))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
    use rdkafka::{ClientConfig, Offset};

    use super::*;
    use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};

    const PATIENCE: Duration = Duration::from_secs(30);

    fn append(producer: &BaseProducer, records: usize) {
        for _ in 0..records {
            assert!(
                producer
                    .send(BaseRecord::<(), _>::to("tasks").partition(0).payload("x"))
                    .is_ok()
            );
        }
        assert!(producer.flush(PATIENCE).is_ok());
    }

    /// Why an epoch does not use this end at first: see `Assigned::knows_log_end`.
    #[test]
    fn the_client_keeps_the_end_that_it_saw_in_an_earlier_assignment() {
        let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
        broker.create_topic("tasks", 1).unwrap();
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", broker.bootstrap_servers())
            .set("group.id", "group");
        let (producer, consumer): (BaseProducer, BaseConsumer) =
            (config.create().unwrap(), config.create().unwrap());
        append(&producer, 3);
        let mut partition = TopicPartitionList::new();
        partition
            .add_partition_offset("tasks", 0, Offset::Beginning)
            .unwrap();
        let end = || cached_end_offset(&consumer, c"tasks", 0);
        assert_eq!(end(), None);
        consumer.assign(&partition).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while end() != Some(3) && Instant::now() < deadline {
            consumer.poll(Duration::from_millis(10));
        }
        consumer.unassign().unwrap();
        // The answer to a fetch that was sent before may come now: nothing is appended, so that it
        // brings the same end.
        consumer.pause(&partition).unwrap();
        consumer.assign(&partition).unwrap();
        assert_eq!(end(), Some(3));
    }
}
