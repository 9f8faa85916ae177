//! What is known of other groups.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use keylane_core::{Groups, Liveness, Moment};

use crate::support::clock;
use crate::support::lock::lock;

/// The state shared with the thread that queries groups. It keeps nothing alive that keeps the
/// thread.
pub(crate) struct Answers {
    pub(crate) groups: Mutex<Groups>,
    /// Raised with each answer.
    pub(crate) version: AtomicU64,
    pub(crate) origin_of_time: Instant,
}

impl Answers {
    pub(crate) fn groups(&self) -> MutexGuard<'_, Groups> {
        lock(&self.groups)
    }

    pub(crate) fn put(&self, group: &str, liveness: Liveness) {
        let now = Moment::new(clock::elapsed(self.origin_of_time));
        self.groups().answered(group, liveness, now);
        self.version.fetch_add(1, Ordering::Release);
    }
}
