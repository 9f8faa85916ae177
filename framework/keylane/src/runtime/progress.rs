//! What the polling thread and the handle read of an owner, without asking it.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use keylane_core::member::CommitPoint;

use crate::status::{HotKeys, OwnerFigures};
use crate::support::lock::lock;

/// One owner's state. The figures are those of its last pass; what has to be newer, or is part of
/// an agreement with the polling thread, stands beside them. Relaxed is enough: each of these
/// stands alone, but for a pause.
#[derive(Debug)]
pub(crate) struct Progress {
    figures: Mutex<OwnerFigures>,
    /// Those of the figures that the polling thread reads in every pass, without the lock.
    settled_ahead: AtomicU64,
    isolated: AtomicBool,
    /// Records that left memory in this epoch: settled, or ignored on delivery.
    released_records: AtomicU64,
    released_bytes: AtomicU64,
    /// The number of the user's pause that is in force: the owner starts nothing. 0 for none.
    /// Published after the figures, so that a reader of it also reads what its pass left running.
    pause: AtomicU64,
    /// The number of what the control topic directs, as far as it is in force.
    directed: AtomicU64,
    /// How many passes the owner has made.
    pub(crate) passes: AtomicU64,
    /// The attempt that is being polled in the owner, by offset and number; the offset is negative
    /// where there is none.
    polled_offset: AtomicI64,
    polled_attempt: AtomicU32,
    hot_keys: Mutex<Arc<HotKeys>>,
    /// Set last: the owner has ended and its commit point is final.
    pub(crate) ended: AtomicBool,
    /// Set when nothing of this partition had to be dropped at the end.
    pub(crate) drained: AtomicBool,
    commit_point: Mutex<Option<CommitPoint>>,
    has_commit_point: AtomicBool,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            figures: Mutex::default(),
            settled_ahead: AtomicU64::new(0),
            isolated: AtomicBool::new(false),
            released_records: AtomicU64::new(0),
            released_bytes: AtomicU64::new(0),
            pause: AtomicU64::new(0),
            directed: AtomicU64::new(0),
            passes: AtomicU64::new(0),
            polled_offset: AtomicI64::new(-1),
            polled_attempt: AtomicU32::new(0),
            hot_keys: Mutex::default(),
            ended: AtomicBool::new(false),
            drained: AtomicBool::new(false),
            commit_point: Mutex::new(None),
            has_commit_point: AtomicBool::new(false),
        }
    }
}

impl Progress {
    /// A pass begins.
    pub(super) fn pass(&self) {
        self.passes.fetch_add(1, Ordering::Relaxed);
    }

    /// The owner polls this attempt, and is gone until that returns.
    pub(super) fn set_polled(&self, offset: i64, attempt: u32) {
        self.polled_attempt.store(attempt, Ordering::Relaxed);
        self.polled_offset.store(offset, Ordering::Relaxed);
    }

    pub(super) fn clear_polled(&self) {
        self.polled_offset.store(-1, Ordering::Relaxed);
    }

    pub(super) fn publish(&self, figures: OwnerFigures) {
        let snapshot = &figures.snapshot;
        self.settled_ahead
            .store(snapshot.settled_ahead, Ordering::Relaxed);
        self.isolated.store(snapshot.isolated, Ordering::Relaxed);
        *lock(&self.figures) = figures;
    }

    /// The figures of the owner's last pass.
    pub(crate) fn figures(&self) -> OwnerFigures {
        lock(&self.figures).clone()
    }

    /// Records settled above the watermark, as of the owner's last pass.
    pub(crate) fn settled_ahead(&self) -> u64 {
        self.settled_ahead.load(Ordering::Relaxed)
    }

    /// Whether each record needs a mark of its own, as of the owner's last pass.
    pub(crate) fn isolated(&self) -> bool {
        self.isolated.load(Ordering::Relaxed)
    }

    pub(super) fn set_released(&self, records: u64, bytes: u64) {
        self.released_records.store(records, Ordering::Relaxed);
        self.released_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn released_records(&self) -> u64 {
        self.released_records.load(Ordering::Relaxed)
    }

    pub(crate) fn released_bytes(&self) -> u64 {
        self.released_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn set_pause(&self, pause: u64) {
        self.pause.store(pause, Ordering::Release);
    }

    pub(super) fn set_directed(&self, directed: u64) {
        self.directed.store(directed, Ordering::Release);
    }

    /// The number of what the control topic directs, as far as it is in force; 0 for nothing.
    pub(crate) fn directed(&self) -> u64 {
        self.directed.load(Ordering::Acquire)
    }

    /// The number of the pause that is in force, 0 for none; to be read before the figures.
    pub(crate) fn pause(&self) -> u64 {
        self.pause.load(Ordering::Acquire)
    }

    /// Offset and number of the attempt the owner is polling.
    pub(crate) fn polled(&self) -> Option<(i64, u32)> {
        let offset = self.polled_offset.load(Ordering::Relaxed);
        (offset >= 0).then(|| (offset, self.polled_attempt.load(Ordering::Relaxed)))
    }

    pub(super) fn set_hot_keys(&self, hot_keys: Arc<HotKeys>) {
        *lock(&self.hot_keys) = hot_keys;
    }

    pub(crate) fn hot_keys(&self) -> Arc<HotKeys> {
        lock(&self.hot_keys).clone()
    }

    /// Replaces the commit point not yet taken, if any.
    pub(crate) fn set_commit_point(&self, point: CommitPoint) {
        *lock(&self.commit_point) = Some(point);
        self.has_commit_point.store(true, Ordering::Release);
    }

    /// Takes the newest commit point, if there is one since the last call.
    pub(crate) fn take_commit_point(&self) -> Option<CommitPoint> {
        if !self.has_commit_point.swap(false, Ordering::Acquire) {
            return None;
        }
        lock(&self.commit_point).take()
    }
}
