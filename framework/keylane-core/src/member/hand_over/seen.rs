//! The shell's report: owners, and the client's events.

use std::sync::Arc;

use super::TopicPartition;
use crate::Moment;

/// The owner of an assigned partition, as far as a hand-over looks at it.
pub trait Owner {
    /// The topic's name.
    fn topic(&self) -> &Arc<str>;
    /// The number of the partition.
    fn partition(&self) -> i32;
    /// Nothing of it runs, and its last commit point is reported.
    fn has_ended(&self) -> bool;
    /// It has ended by itself: everything that had started was finished.
    fn has_drained(&self) -> bool;
    /// Records delivered and not settled.
    fn pending(&self) -> u64;
}

/// The state when the next order is taken.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a, O> {
    /// The time.
    pub now: Moment,
    /// The client reports that the group has taken partitions away.
    pub lost: bool,
    /// The latest [`Order::CommitLast`](super::Order::CommitLast) was answered for good, or can never be.
    pub last_commit_is_over: bool,
    /// All assigned partitions.
    pub owners: &'a [O],
}

/// Whether it is the owner of one of these places, which are sorted.
pub fn is_among<O: Owner>(sorted: &[TopicPartition], owner: &O) -> bool {
    let owned = (owner.topic(), owner.partition());
    sorted
        .binary_search_by(|place| (&place.topic, place.partition).cmp(&owned))
        .is_ok()
}

pub(super) fn place<O: Owner>(owner: &O) -> TopicPartition {
    TopicPartition::new(owner.topic().clone(), owner.partition())
}

pub(super) fn all<O: Owner>(owners: &[&O]) -> Vec<TopicPartition> {
    sorted(owners.iter().map(|owner| place(*owner)).collect())
}

pub(super) fn running<O: Owner>(owners: &[&O]) -> Vec<TopicPartition> {
    let running = owners.iter().filter(|owner| !owner.has_ended());
    sorted(running.map(|owner| place(*owner)).collect())
}

fn sorted(mut places: Vec<TopicPartition>) -> Vec<TopicPartition> {
    places.sort_unstable();
    places
}
