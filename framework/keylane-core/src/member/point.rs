//! Commit points.

use crate::commit_map::{self, MAX_METADATA_BYTES};
use crate::offset::{LeaderEpoch, Position};
use crate::partition::Mark;

/// The mark of a first position, which needs an answer.
///
/// It is lower than every mark of a [`Partition`](crate::Partition): no owner waits for it.
pub const OPENING: Mark = Mark::new(0);

/// What may be committed for a partition: the watermark, and the metadata that belongs to it
/// (guarantee G4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitPoint {
    /// The next offset to read.
    pub position: Position,
    /// Under which leader's epoch, at the latest, the log was read below it.
    pub leader_epoch: Option<LeaderEpoch>,
    /// The metadata, see [`commit_map`].
    pub metadata: String,
    /// The latest mark in it, where starts wait for the broker's answer.
    pub mark: Option<Mark>,
    /// Whether the metadata has a mark that records run. The last point of an epoch has none.
    pub running: bool,
}

impl CommitPoint {
    /// The same point after an orderly end, without the mark that records run.
    #[must_use]
    pub fn without_mark(&self) -> Self {
        Self {
            metadata: commit_map::without_mark(self.position, &self.metadata, MAX_METADATA_BYTES),
            mark: None,
            running: false,
            ..*self
        }
    }
}

/// A position that was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommittedPosition {
    /// The next offset to read.
    pub position: Position,
    /// The leader's epoch it was committed with.
    pub leader_epoch: Option<LeaderEpoch>,
}

impl CommittedPosition {
    /// Before everything, where nothing was committed.
    pub const BEGINNING: Self = Self {
        position: Position::new(0),
        leader_epoch: None,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_its_mark_a_point_lies_where_it_lay() {
        let running = CommitPoint {
            position: Position::new(7),
            leader_epoch: Some(LeaderEpoch::new(3)),
            metadata: "not ours".to_owned(),
            mark: Some(Mark::new(2)),
            running: true,
        };
        let ended = running.without_mark();
        assert_eq!(ended.position, running.position);
        assert_eq!(ended.leader_epoch, running.leader_epoch);
        assert_eq!((ended.mark, ended.running), (None, false));
        assert_eq!(ended.metadata, "", "what cannot be read is left out");
    }
}
