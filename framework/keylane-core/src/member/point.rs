//! Commit points, and how the client orders them.

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
    /// Whether the metadata says that records run. The last point of an epoch does not.
    pub running: bool,
}

impl CommitPoint {
    /// Where the client takes this point to lie.
    pub fn client_position(&self) -> ClientPosition {
        ClientPosition {
            position: self.position,
            leader_epoch: self.leader_epoch,
        }
    }

    /// The same point after an orderly end: it no longer says that records run.
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

/// A position that was committed, or stored to be committed, as the client compares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientPosition {
    /// The next offset to read.
    pub position: Position,
    /// The leader's epoch it was committed with.
    pub leader_epoch: Option<LeaderEpoch>,
}

impl ClientPosition {
    /// Before everything, where nothing was committed.
    pub const BEGINNING: Self = Self {
        position: Position::new(0),
        leader_epoch: None,
    };

    /// Whether the client takes this for the later one: it looks at the epochs first, where both
    /// have one.
    ///
    /// # Examples
    /// ```
    /// use keylane_core::member::ClientPosition;
    /// use keylane_core::{LeaderEpoch, Position};
    ///
    /// let at = |position, epoch| ClientPosition {
    ///     position: Position::new(position),
    ///     leader_epoch: Some(LeaderEpoch::new(epoch)),
    /// };
    /// assert!(at(9, 1).is_after(at(5, 1)));
    /// assert!(at(5, 2).is_after(at(9, 1)), "written under a later leader");
    /// ```
    pub fn is_after(self, other: Self) -> bool {
        match (self.leader_epoch, other.leader_epoch) {
            (Some(epoch), Some(earlier)) if epoch != earlier => epoch > earlier,
            _ => self.position > other.position,
        }
    }

    /// The later one of two.
    #[must_use]
    pub fn later(self, other: Option<Self>) -> Self {
        other.filter(|other| other.is_after(self)).unwrap_or(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_come_first_where_both_have_one() {
        let at = |position, epoch: Option<u32>| ClientPosition {
            position: Position::new(position),
            leader_epoch: epoch.map(LeaderEpoch::new),
        };
        assert!(at(5, Some(1)).is_after(at(9, Some(0))));
        assert!(!at(9, Some(0)).is_after(at(5, Some(1))));
        assert!(at(9, Some(1)).is_after(at(5, Some(1))));
        assert!(at(9, None).is_after(at(5, Some(1))));
        assert!(!at(5, Some(1)).is_after(at(5, None)), "equal is not later");
        assert_eq!(at(5, None).later(None), at(5, None));
        assert_eq!(at(5, None).later(Some(at(9, None))), at(9, None));
    }

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
        assert_eq!(ended.client_position(), running.client_position());
        assert_eq!((ended.mark, ended.running), (None, false));
        assert_eq!(ended.metadata, "", "what cannot be read is left out");
    }
}
