//! What the polling thread and the handle read of an owner, without asking it.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use keylane_core::Mark;

/// One owner's state, published once a turn. Relaxed is enough: each figure stands alone, and the commit point, where two
/// values must belong together, is behind a lock.
#[derive(Debug)]
pub(crate) struct Progress {
    /// Records that left memory in this epoch: settled, or ignored on delivery.
    pub(crate) released_records: AtomicU64,
    pub(crate) released_bytes: AtomicU64,
    pub(crate) settled_ahead: AtomicU64,
    /// Negative while unknown.
    pub(crate) watermark: AtomicI64,
    pub(crate) running: AtomicU64,
    pub(crate) waiting: AtomicU64,
    pub(crate) parked: AtomicU64,
    /// Timestamp of the oldest unsettled record, in milliseconds; `i64::MIN` where there is none.
    pub(crate) oldest_timestamp_millis: AtomicI64,
    /// Set last: the owner has ended and its commit point is final.
    pub(crate) ended: AtomicBool,
    /// Set when nothing of this partition had to be dropped at the end.
    pub(crate) drained: AtomicBool,
    /// Records run one at a time, each after a commit: answers are urgent.
    pub(crate) isolated: AtomicBool,
    commit_point: Mutex<Option<CommitPoint>>,
    has_commit_point: AtomicBool,
}

/// What may be committed for a partition: the watermark and the settled-ahead map that belongs to it (guarantee G4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommitPoint {
    /// The next offset to read.
    pub(crate) position: i64,
    pub(crate) metadata: String,
    /// The latest mark in it, where the owner waits for the broker's word.
    pub(crate) mark: Option<Mark>,
    /// Whether it says that records run. The last one of an epoch does not.
    pub(crate) running: bool,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            released_records: AtomicU64::new(0),
            released_bytes: AtomicU64::new(0),
            settled_ahead: AtomicU64::new(0),
            watermark: AtomicI64::new(-1),
            running: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            parked: AtomicU64::new(0),
            oldest_timestamp_millis: AtomicI64::new(i64::MIN),
            ended: AtomicBool::new(false),
            drained: AtomicBool::new(false),
            isolated: AtomicBool::new(false),
            commit_point: Mutex::new(None),
            has_commit_point: AtomicBool::new(false),
        }
    }
}

impl Progress {
    /// Replaces the commit point not yet taken, if any.
    pub(crate) fn set_commit_point(&self, point: CommitPoint) {
        *self.commit_point.lock().unwrap_or_else(PoisonError::into_inner) = Some(point);
        self.has_commit_point.store(true, Ordering::Release);
    }

    /// Takes the newest commit point, if there is one since the last call.
    pub(crate) fn take_commit_point(&self) -> Option<CommitPoint> {
        if !self.has_commit_point.swap(false, Ordering::Acquire) {
            return None;
        }
        self.commit_point.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
