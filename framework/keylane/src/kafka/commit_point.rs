//! What is committed for a partition.

use keylane_core::{LeaderEpoch, Mark};

/// What may be committed for a partition: the watermark and the settled-ahead map that belongs to
/// it (guarantee G4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommitPoint {
    /// The next offset to read.
    pub(crate) position: i64,
    /// Under which leader's epoch, at the latest, the log was read below it.
    pub(crate) leader_epoch: Option<LeaderEpoch>,
    pub(crate) metadata: String,
    /// The latest mark in it, where the owner waits for the broker's word.
    pub(crate) mark: Option<Mark>,
    /// Whether it says that records run. The last one of an epoch does not.
    pub(crate) running: bool,
}
