//! Lists of partitions, as the client takes them. They are built, used and dropped: one that stays
//! alive keeps the client from closing.

use keylane_core::member::CommitPoint;
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};

use super::native;

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
        element.set_offset(Offset::Offset(point.position.get()))?;
        element.set_metadata(&point.metadata);
        epochs.push(point.leader_epoch);
    }
    native::set_leader_epochs(&mut list, &epochs);
    Ok(list)
}

#[cfg(test)]
mod tests {
    use keylane_core::{LeaderEpoch, Position};

    use super::*;

    #[test]
    fn a_list_for_a_commit_carries_the_leader_epochs() {
        let point = |position, leader_epoch: Option<u32>| CommitPoint {
            position: Position::new(position),
            leader_epoch: leader_epoch.map(LeaderEpoch::new),
            metadata: "m".to_owned(),
            mark: None,
            running: false,
        };
        let (with, without) = (point(7, Some(3)), point(8, None));
        let points = [("tasks", 0, &with), ("tasks", 1, &without)];
        let list = list_with_points(points.into_iter()).unwrap();
        let epochs: Vec<_> = native::committed(&list)
            .iter()
            .map(|element| element.leader_epoch)
            .collect();
        assert_eq!(epochs, [Some(LeaderEpoch::new(3)), None]);
    }
}
