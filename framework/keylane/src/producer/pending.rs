//! How much is on its way to the broker, the limits of it, and waiting until it is settled.

use std::sync::{Arc, Mutex, MutexGuard};

use crate::support::lock::lock;
use std::time::Duration;

use tokio::sync::Notify;

/// The most that may be without an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PendingLimits {
    pub(crate) records: usize,
    /// Bytes of keys, values and headers.
    pub(crate) bytes: usize,
}

/// Why a record was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAdmitted {
    Closed,
    /// The thread that serves acknowledgements has panicked.
    Broken,
    TooManyRecords {
        limit: usize,
    },
    TooManyBytes {
        limit: usize,
    },
}

/// Counts unanswered records, in two phases. A flush closes one phase and waits for it, while later
/// records count in the other. So a flush ends even if records never stop coming.
pub(super) struct Pending {
    limits: PendingLimits,
    state: Mutex<State>,
    changed: Notify,
    /// One flush at a time: the phase a new one closes must hold nothing from before the last one.
    flush: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    closed: bool,
    broken: bool,
    bytes: usize,
    phase: usize,
    records: [usize; 2],
}

impl State {
    fn total(&self) -> usize {
        self.records[0] + self.records[1]
    }
}

/// One record's share; giving it up is dropping it.
pub(super) struct Admission {
    pending: Arc<Pending>,
    bytes: usize,
    phase: usize,
}

impl Drop for Admission {
    fn drop(&mut self) {
        {
            let mut state = self.pending.state();
            debug_assert!(state.bytes >= self.bytes && state.records[self.phase] > 0);
            state.bytes -= self.bytes;
            state.records[self.phase] -= 1;
        }
        self.pending.changed.notify_waiters();
    }
}

impl Pending {
    pub(super) fn new(limits: PendingLimits) -> Self {
        Self {
            limits,
            state: Mutex::default(),
            changed: Notify::new(),
            flush: tokio::sync::Mutex::new(()),
        }
    }

    /// Takes a record in. One is always admitted where nothing is pending, however large: the
    /// client's own limit (`message.max.bytes`) bounds it, and it could never be written otherwise.
    pub(super) fn admit(self: &Arc<Self>, bytes: usize) -> Result<Admission, NotAdmitted> {
        let mut state = self.state();
        if state.broken {
            return Err(NotAdmitted::Broken);
        }
        if state.closed {
            return Err(NotAdmitted::Closed);
        }
        if state.total() >= self.limits.records {
            return Err(NotAdmitted::TooManyRecords {
                limit: self.limits.records,
            });
        }
        if state.total() > 0 && state.bytes + bytes > self.limits.bytes {
            return Err(NotAdmitted::TooManyBytes {
                limit: self.limits.bytes,
            });
        }
        state.bytes += bytes;
        let phase = state.phase;
        state.records[phase] += 1;
        Ok(Admission {
            pending: self.clone(),
            bytes,
            phase,
        })
    }

    /// Admits nothing from now on.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_waiters();
    }

    /// Admits nothing from now on: no thread would serve the answers.
    pub(super) fn break_down(&self) {
        self.state().broken = true;
        self.changed.notify_waiters();
    }

    pub(super) fn records(&self) -> usize {
        self.state().total()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Waits until one more record would be admitted, or none ever again.
    pub(super) async fn room(&self) {
        self.until(|state| {
            state.closed
                || state.broken
                || state.total() == 0
                || (state.total() < self.limits.records && state.bytes < self.limits.bytes)
        })
        .await;
    }

    /// Waits for everything admitted before the call.
    ///
    /// # Errors
    /// The number of records that were still on their way when the time was up.
    pub(super) async fn flush(&self, within: Duration) -> Result<(), usize> {
        let settled = async {
            let _one_at_a_time = self.flush.lock().await;
            // What an earlier flush gave up on; new records count in the current phase, so this
            // ends too.
            let old = 1 - self.state().phase;
            self.until(|state| state.records[old] == 0).await;
            self.state().phase = old;
            self.until(|state| state.records[1 - old] == 0).await;
        };
        tokio::time::timeout(within, settled)
            .await
            .map_err(|_| self.records())
    }

    async fn until(&self, condition: impl Fn(&State) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before the look, so that no change falls between.
            changed.as_mut().enable();
            if condition(&self.state()) {
                return;
            }
            changed.await;
        }
    }

    /// The counters stay true in a panic: nothing panics while they are half changed.
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn pending(records: usize, bytes: usize) -> Arc<Pending> {
        Arc::new(Pending::new(PendingLimits { records, bytes }))
    }

    #[test]
    fn each_limit_is_named_and_giving_up_makes_room() {
        let pending = pending(2, 100);
        let first = pending.admit(60).ok().unwrap();
        assert_eq!(
            pending.admit(41).err(),
            Some(NotAdmitted::TooManyBytes { limit: 100 })
        );
        let second = pending.admit(40).ok().unwrap();
        assert_eq!(
            pending.admit(0).err(),
            Some(NotAdmitted::TooManyRecords { limit: 2 })
        );
        assert!(pending.room().now_or_never().is_none());
        drop(first);
        assert!(pending.room().now_or_never().is_some());
        let _third = pending.admit(60).ok().unwrap();
        drop(second);
        assert_eq!(pending.records(), 1);
    }

    #[test]
    fn a_record_above_the_byte_limit_is_admitted_alone() {
        let pending = pending(2, 100);
        let _large = pending.admit(1_000).ok().unwrap();
        assert!(pending.admit(1).is_err());
    }

    #[test]
    fn nothing_is_admitted_after_close() {
        let pending = pending(2, 100);
        pending.close();
        assert_eq!(pending.admit(1).err(), Some(NotAdmitted::Closed));
    }

    #[tokio::test]
    async fn a_flush_waits_for_what_came_before_it_and_not_for_what_comes_after() {
        let pending = pending(10, 100);
        let before = pending.admit(1).ok().unwrap();
        let mut flush = Box::pin(pending.flush(Duration::from_secs(60)));
        assert!(flush.as_mut().now_or_never().is_none());
        let _after = pending.admit(1).ok().unwrap();
        drop(before);
        assert_eq!(flush.await, Ok(()));
    }

    #[tokio::test]
    async fn a_flush_after_one_that_gave_up_still_waits_for_its_records() {
        let pending = pending(10, 100);
        let old = pending.admit(1).ok().unwrap();
        assert_eq!(pending.flush(Duration::ZERO).await, Err(1));
        let new = pending.admit(1).ok().unwrap();
        let mut flush = Box::pin(pending.flush(Duration::from_secs(60)));
        drop(new);
        assert!(flush.as_mut().now_or_never().is_none());
        drop(old);
        assert_eq!(flush.await, Ok(()));
    }

    #[tokio::test]
    async fn a_flush_whose_future_is_dropped_does_not_block_the_next() {
        let pending = pending(10, 100);
        let record = pending.admit(1).ok().unwrap();
        assert!(
            pending
                .flush(Duration::from_secs(60))
                .now_or_never()
                .is_none()
        );
        drop(record);
        assert_eq!(pending.flush(Duration::from_secs(60)).await, Ok(()));
    }
}
