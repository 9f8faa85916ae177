//! What of a redrive is done.

use crate::commit_map;
use crate::evidence::Evidence;
use crate::offset::{Offset, Position};
use crate::settled_map::{SettledMap, SettledRange};

/// The most turns of a partition that begin behind its first one that is not done. Half as many
/// ranges at most are in a commit's map, and fit into it.
pub const MAX_AHEAD: usize = 512;

/// The most copies in flight.
pub const MAX_WINDOW: usize = 256;

/// What is done of each partition. Commit all of it in one request, with nothing of it left out: a
/// turn may wait for one of another partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The partitions that have letters, ascending.
    pub partitions: Vec<PartitionProgress>,
}

impl Progress {
    /// Whether the turn at this place is done.
    pub(super) fn has(&self, partition: i32, offset: Offset) -> bool {
        let of_partition = self.partitions.iter().find(|it| it.partition == partition);
        of_partition.is_some_and(|it| !it.position.covers(offset) || it.done.contains(offset))
    }
}

/// What is done of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionProgress {
    /// The partition of the dead-letter topic.
    pub partition: i32,
    /// The turns before it are done.
    pub position: Position,
    /// Turns behind it that are done.
    pub done: SettledMap,
}

impl PartitionProgress {
    /// As a commit's metadata.
    pub fn metadata(&self) -> String {
        commit_map::encode(
            self.position,
            self.done.ranges(),
            &Evidence::default(),
            commit_map::MAX_METADATA_BYTES,
        )
        .text
    }

    /// From a commit. Metadata that cannot be read counts as empty: more is copied again.
    ///
    /// # Examples
    /// ```
    /// use keylane_core::Position;
    /// use keylane_core::redrive::PartitionProgress;
    ///
    /// let read = PartitionProgress::read(3, Position::new(40), "written by a tool");
    /// assert_eq!((read.position, read.done.is_empty()), (Position::new(40), true));
    /// assert_eq!(PartitionProgress::read(3, read.position, &read.metadata()), read);
    /// ```
    pub fn read(partition: i32, position: Position, metadata: &str) -> Self {
        let content = commit_map::decode(position, metadata).unwrap_or_default();
        Self {
            partition,
            position,
            done: content.settled,
        }
    }
}

/// Joins the places of turns that are done, ascending. Between two of them there is no other turn.
pub(super) fn map(runs: impl IntoIterator<Item = (i64, i64)>) -> SettledMap {
    let mut map = SettledMap::new();
    for (first, last) in runs {
        map.append(SettledRange {
            first: Offset::new(first),
            last: Offset::new(last),
        });
    }
    map
}
