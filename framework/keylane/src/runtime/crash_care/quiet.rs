//! Quiet: nothing but the suspect runs in the whole process while it is tried.
//!
//! A partition that has not crashed needs no turn, and may hold a killer of its own all the same.
//! While a record runs whose next crash would condemn it, such partitions start nothing, and what
//! they run is waited for, [`QUIET_PATIENCE`] at most. It costs them two atomic operations each
//! time they become busy or idle, none per record.

use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// How long a trial waits for what runs in healthy partitions. What has run for that long without a
/// crash is less likely the cause, and an attempt that hangs must not keep the killing record from
/// being found.
pub(crate) const QUIET_PATIENCE: Duration = Duration::from_secs(10);

static PROCESS: LazyLock<Arc<State>> = LazyLock::new(Arc::default);

/// The state of the process; tests have their own.
#[derive(Default)]
struct State {
    /// Healthy partitions that run something.
    busy: AtomicUsize,
    /// Trials that run or wait for quiet.
    trials: AtomicUsize,
    /// The last busy one has become idle.
    idle: Notify,
    /// The last trial is over.
    over: Notify,
}

impl State {
    // Each side counts itself in and then checks the other's count. All of it is sequentially
    // consistent, so at least one of them finds the other.
    fn try_run(self: &Arc<Self>) -> Option<Busy> {
        if self.trials.load(Ordering::SeqCst) > 0 {
            return None;
        }
        self.busy.fetch_add(1, Ordering::SeqCst);
        let busy = Busy(self.clone());
        (self.trials.load(Ordering::SeqCst) == 0).then_some(busy)
    }

    async fn begin(self: &Arc<Self>, patience: Duration) -> Quiet {
        self.trials.fetch_add(1, Ordering::SeqCst);
        let quiet = Quiet(self.clone());
        let all_idle = async {
            loop {
                let idle = self.idle.notified();
                if self.busy.load(Ordering::SeqCst) == 0 {
                    return;
                }
                idle.await;
            }
        };
        if tokio::time::timeout(patience, all_idle).await.is_err() {
            tracing::warn!(
                "a suspect is tried beside attempts of healthy partitions that do not end"
            );
        }
        quiet
    }

    async fn over(&self) {
        loop {
            let over = self.over.notified();
            if self.trials.load(Ordering::SeqCst) == 0 {
                return;
            }
            over.await;
        }
    }
}

/// A healthy partition runs something.
pub(crate) struct Busy(Arc<State>);

impl Busy {
    /// `None` where a suspect is tried: nothing may start.
    pub(crate) fn try_begin() -> Option<Self> {
        PROCESS.try_run()
    }

    /// Whether nothing more is to start: a trial waits for the end of what runs.
    pub(crate) fn is_asked_back(&self) -> bool {
        self.0.trials.load(Ordering::Relaxed) > 0
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if self.0.busy.fetch_sub(1, Ordering::SeqCst) == 1
            && self.0.trials.load(Ordering::SeqCst) > 0
        {
            self.0.idle.notify_waiters();
        }
    }
}

/// As long as it lives, healthy partitions start nothing.
pub(crate) struct Quiet(Arc<State>);

impl Quiet {
    pub(crate) async fn begin() -> Self {
        PROCESS.begin(QUIET_PATIENCE).await
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if self.0.trials.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.over.notify_waiters();
        }
    }
}

/// Waits until no trial runs.
pub(crate) async fn no_trial() {
    PROCESS.over().await;
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_trial_waits_for_what_runs_and_nothing_starts_until_it_is_over() {
        let state = Arc::new(State::default());
        let (first, second) = (state.try_run().unwrap(), state.try_run().unwrap());
        let trial = state.clone();
        let mut trial = Box::pin(async move { trial.begin(Duration::MAX).await });
        assert!(trial.as_mut().now_or_never().is_none());
        assert!(first.is_asked_back() && state.try_run().is_none());
        drop(first);
        assert!(trial.as_mut().now_or_never().is_none(), "the second runs");
        drop(second);
        let quiet = trial.await;
        assert!(state.try_run().is_none());
        let mut over = Box::pin(state.over());
        assert!(over.as_mut().now_or_never().is_none());
        drop(quiet);
        over.await;
        assert!(state.try_run().is_some_and(|busy| !busy.is_asked_back()));
    }

    #[tokio::test]
    async fn a_trial_does_not_wait_for_ever() {
        let state = Arc::new(State::default());
        let _hangs = state.try_run().unwrap();
        let _quiet = state.begin(Duration::ZERO).await;
        assert!(state.try_run().is_none());
    }
}
