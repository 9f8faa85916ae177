//! Lists of partitions, as the client takes them. They are built, used and dropped: one that stays
//! alive keeps the client from closing.

use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};

use super::{CommitPoint, native};

/// A list of partitions without offsets.
pub(crate) fn list<'a>(partitions: impl Iterator<Item = (&'a str, i32)>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (topic, partition) in partitions {
        list.add_partition(topic, partition);
    }
    list
}

/// The same with offsets, leader epochs and metadata. `Err` where a metadata string cannot be
/// passed on.
pub(crate) fn list_with_points<'a>(
    points: impl Iterator<Item = (&'a str, i32, &'a CommitPoint)>,
) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    let mut epochs = Vec::new();
    for (topic, partition, point) in points {
        let mut element = list.add_partition(topic, partition);
        element.set_offset(Offset::Offset(point.position))?;
        element.set_metadata(&point.metadata);
        epochs.push(point.leader_epoch);
    }
    native::set_leader_epochs(&mut list, &epochs);
    Ok(list)
}
