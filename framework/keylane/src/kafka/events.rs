//! What the callbacks report to the polling thread.

use keylane_core::member::hand_over::{AnsweredBy, Revoked};
use keylane_core::member::{CommittedPosition, TopicPartition};
use keylane_core::{Beginning, LogId, Position};

use super::native;

/// What has happened since the loop last looked.
#[derive(Debug)]
pub(crate) enum GroupEvent {
    Assigned {
        partitions: Vec<NewPartition>,
        /// Generation and member, where the client reports them.
        membership: Option<String>,
    },
    Revoked {
        partitions: Vec<TopicPartition>,
        revoked: Revoked,
        answered_by: AnsweredBy,
    },
    /// A rebalance could not be answered.
    Failed(String),
}

#[derive(Debug)]
pub(crate) struct NewPartition {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    /// `None` where nothing was committed or the broker did not answer.
    pub(crate) committed: Option<CommittedPoint>,
    /// The log that is read, where it is known.
    pub(crate) log: Option<LogId>,
    /// A broker has named it just now.
    pub(crate) log_is_confirmed: bool,
    /// The position that was committed, or reached, in another topic of this name. This one is read
    /// from its beginning.
    pub(crate) left: Option<Position>,
    /// What the client believed the log's end to be before the assignment: from an earlier one, if
    /// at all.
    pub(crate) stale_end: Option<i64>,
    /// The steps to the first position, where the commit has none. Fetching is paused until then.
    pub(crate) beginning: Option<Beginning>,
}

/// What was committed for a partition.
#[derive(Clone, Debug)]
pub(crate) struct CommittedPoint {
    pub(crate) position: CommittedPosition,
    pub(crate) metadata: Vec<u8>,
}

impl CommittedPoint {
    /// `None` for an element without an offset.
    pub(crate) fn of(element: &native::Committed<'_>) -> Option<Self> {
        let position = CommittedPosition {
            position: Position::new(element.offset),
            leader_epoch: element.leader_epoch,
        };
        (element.offset >= 0).then(|| Self {
            position,
            metadata: element.metadata.to_vec(),
        })
    }
}
