//! The part of an epoch's state that others share with its owner: whether it has ended, its
//! deadline, and how many tasks still work for it.

use std::fmt;

use crate::support::lock::lock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// One for each epoch of a partition. Reading it costs nothing on the way of a record; nothing here
/// is per record.
#[derive(Default)]
pub(crate) struct EpochLife {
    over: CancellationToken,
    draining: CancellationToken,
    drain_deadline: Mutex<Option<Instant>>,
    /// The owner and its attempts, each until its future is really gone.
    present: AtomicUsize,
    left: Notify,
}

/// Held by the owner and by each of its attempts. An abort does not end a task at once: the next
/// epoch may start when all guards are gone.
pub(crate) struct EpochGuard(Arc<EpochLife>);

impl EpochLife {
    /// The partition is no longer this epoch's, or is about to be given up.
    pub(crate) fn set_over(&self) {
        self.over.cancel();
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    /// Waits for the end of the epoch.
    pub(crate) async fn over(&self) {
        self.over.cancelled().await;
    }

    /// A drain has begun and ends by then; a second deadline can only bring it forward.
    pub(crate) fn set_draining(&self, deadline: Instant) {
        {
            let mut known = lock(&self.drain_deadline);
            *known = Some(known.map_or(deadline, |earlier| earlier.min(deadline)));
        }
        self.draining.cancel();
    }

    /// Waits for a drain, or for the end without one.
    pub(crate) async fn draining(&self) {
        tokio::select! {
            () = self.draining.cancelled() => {}
            () = self.over.cancelled() => {}
        }
    }

    pub(crate) fn drain_deadline(&self) -> Option<Instant> {
        *lock(&self.drain_deadline)
    }

    pub(crate) fn enter(self: &Arc<Self>) -> EpochGuard {
        self.present.fetch_add(1, Ordering::Relaxed);
        EpochGuard(self.clone())
    }

    /// Whether no task works for it any longer. None comes later: the owner enters before the first
    /// call of this, and attempts enter while the owner is there.
    pub(crate) fn is_gone(&self) -> bool {
        self.present.load(Ordering::Acquire) == 0
    }

    /// Waits until no task works for it any longer.
    pub(crate) async fn gone(&self) {
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            // Registered before the look, so that none leaves in between.
            left.as_mut().enable();
            if self.is_gone() {
                return;
            }
            left.await;
        }
    }
}

impl fmt::Debug for EpochLife {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let deadline = self.drain_deadline();
        f.debug_struct("EpochLife")
            .field("over", &self.is_over())
            .field("drain_deadline", &deadline)
            .finish_non_exhaustive()
    }
}

impl Drop for EpochGuard {
    fn drop(&mut self) {
        // What the attempt did happens before what the next epoch starts.
        if self.0.present.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.left.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn an_epoch_is_gone_when_the_last_one_has_left() {
        let life = Arc::new(EpochLife::default());
        let (owner, attempt) = (life.enter(), life.enter());
        let mut gone = Box::pin(life.gone());
        drop(owner);
        assert!(gone.as_mut().now_or_never().is_none() && !life.is_gone());
        drop(attempt);
        gone.await;
        assert!(life.is_gone());
    }

    #[test]
    fn a_second_drain_deadline_can_only_bring_it_forward() {
        let (life, now) = (EpochLife::default(), Instant::now());
        let (early, late) = (now + Duration::from_secs(1), now + Duration::from_secs(2));
        for deadline in [late, early, late] {
            life.set_draining(deadline);
        }
        assert_eq!(life.drain_deadline(), Some(early));
    }
}
