//! What the polling thread and the handle read of an owner, without asking it.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use keylane_core::RecordState;
use keylane_core::member::CommitPoint;

use crate::KeyHash;
use crate::status::HotKeys;
use crate::support::lock::lock;

/// One owner's state, published once a turn. Relaxed is enough: each figure stands alone, but for a
/// pause; and the commit point, where two values must belong together, is behind a lock.
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
    /// Those that wait or are parked, and what is behind them.
    pub(crate) held_up: AtomicU64,
    /// Those of them that are not due yet, with what is behind these.
    pub(crate) not_due: AtomicU64,
    pub(crate) not_due_bytes: AtomicU64,
    /// Timestamp of the oldest unsettled record, in milliseconds; `i64::MIN` where there is none.
    pub(crate) oldest_timestamp_millis: AtomicI64,
    /// The same of the oldest one that nothing but time holds up.
    pub(crate) workable_timestamp_millis: AtomicI64,
    /// Attempts that run longer than they should, and for how long the watermark has stood still; 0
    /// where it has not.
    pub(crate) slow_attempts: AtomicU64,
    pub(crate) stalled_millis: AtomicU64,
    /// The number of the user's pause that is in force: the owner starts nothing. 0 for none.
    /// Published behind the other figures, so that whoever sees it sees what its turn left running.
    pause: AtomicU64,
    /// How many turns the owner has had.
    pub(crate) turns: AtomicU64,
    /// The attempt that is being polled in the owner, by offset and number; the offset is negative
    /// where there is none.
    polled_offset: AtomicI64,
    polled_attempt: AtomicU32,
    oldest: Mutex<Option<OldestRecord>>,
    hot_keys: Mutex<Arc<HotKeys>>,
    /// Set last: the owner has ended and its commit point is final.
    pub(crate) ended: AtomicBool,
    /// Set when nothing of this partition had to be dropped at the end.
    pub(crate) drained: AtomicBool,
    /// Records run one at a time, each after a commit: answers are urgent.
    pub(crate) isolated: AtomicBool,
    commit_point: Mutex<Option<CommitPoint>>,
    has_commit_point: AtomicBool,
}

/// The unsettled record that the commit waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OldestRecord {
    pub(crate) offset: i64,
    pub(crate) key_hash: Option<KeyHash>,
    pub(crate) attempts: u32,
    pub(crate) state: RecordState,
    pub(crate) since: Instant,
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
            held_up: AtomicU64::new(0),
            not_due: AtomicU64::new(0),
            not_due_bytes: AtomicU64::new(0),
            oldest_timestamp_millis: AtomicI64::new(i64::MIN),
            workable_timestamp_millis: AtomicI64::new(i64::MIN),
            slow_attempts: AtomicU64::new(0),
            stalled_millis: AtomicU64::new(0),
            pause: AtomicU64::new(0),
            turns: AtomicU64::new(0),
            polled_offset: AtomicI64::new(-1),
            polled_attempt: AtomicU32::new(0),
            oldest: Mutex::new(None),
            hot_keys: Mutex::default(),
            ended: AtomicBool::new(false),
            drained: AtomicBool::new(false),
            isolated: AtomicBool::new(false),
            commit_point: Mutex::new(None),
            has_commit_point: AtomicBool::new(false),
        }
    }
}

impl Progress {
    /// A turn begins.
    pub(super) fn turn(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    /// The owner polls this attempt, and is gone until that returns.
    pub(super) fn set_polled(&self, offset: i64, attempt: u32) {
        self.polled_attempt.store(attempt, Ordering::Relaxed);
        self.polled_offset.store(offset, Ordering::Relaxed);
    }

    pub(super) fn clear_polled(&self) {
        self.polled_offset.store(-1, Ordering::Relaxed);
    }

    pub(super) fn set_pause(&self, pause: u64) {
        self.pause.store(pause, Ordering::Release);
    }

    /// The number of the pause that is in force, 0 for none; to be asked before the figures are
    /// read.
    pub(crate) fn pause(&self) -> u64 {
        self.pause.load(Ordering::Acquire)
    }

    /// Offset and number of the attempt the owner is polling.
    pub(crate) fn polled(&self) -> Option<(i64, u32)> {
        let offset = self.polled_offset.load(Ordering::Relaxed);
        (offset >= 0).then(|| (offset, self.polled_attempt.load(Ordering::Relaxed)))
    }

    pub(super) fn set_oldest(&self, oldest: Option<OldestRecord>) {
        *lock(&self.oldest) = oldest;
    }

    pub(crate) fn oldest(&self) -> Option<OldestRecord> {
        *lock(&self.oldest)
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
