//! What the subscriptions of a process share: its number, and trials.
//!
//! When a process dies, every partition it had suspects the records that it had named. So a suspect
//! runs while nothing else of keylane runs in the process, in any subscription. Other records hold
//! one permit while they run; a trial holds all of them. Permits are given in the order of the
//! requests, so neither side waits without end. In a process without trials a partition takes a
//! permit when it becomes busy and gives it back when it is idle, and pays nothing per record.

use std::hash::BuildHasher;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use keylane_core::Instance;
use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};

use crate::runtime::inbox::Inbox;

/// How long a trial waits for what runs. What has run for that long without killing is the less
/// likely culprit, and an attempt that hangs must not keep a killer from being found.
const QUIET_PATIENCE: Duration = Duration::from_secs(10);
/// More than there are partitions in a process.
const ALL: u32 = 1 << 20;

static PROCESS: Semaphore = Semaphore::const_new(ALL as usize);

/// Given back when it is dropped.
pub(crate) enum Permit {
    /// To run beside others.
    Share(Share),
    /// To try a suspect: as long as it lives, nothing else starts.
    Trial {
        _all: Result<SemaphorePermit<'static>, Waiting>,
    },
}

pub(crate) struct Share {
    permits: &'static Semaphore,
    _one: SemaphorePermit<'static>,
}

/// The first in the queue for permits: those that are given back are its own.
type Waiting =
    Pin<Box<dyn Future<Output = Result<SemaphorePermit<'static>, AcquireError>> + Send + Sync>>;

impl Share {
    /// `None` where a suspect is tried, or is about to be.
    pub(crate) fn try_take() -> Option<Self> {
        Self::try_of(&PROCESS)
    }

    fn try_of(permits: &'static Semaphore) -> Option<Self> {
        let one = permits.try_acquire().ok()?;
        Some(Self { permits, _one: one })
    }

    async fn of(permits: &'static Semaphore) -> Option<Self> {
        // The semaphore is never closed.
        let one = permits.acquire().await.ok()?;
        Some(Self { permits, _one: one })
    }

    /// Whether nothing more is to start: a trial waits for the end of what runs, and has taken all
    /// permits that were left.
    pub(crate) fn is_asked_back(&self) -> bool {
        self.permits.available_permits() == 0
    }
}

async fn trial(permits: &'static Semaphore, patience: Duration) -> Permit {
    let mut all: Waiting = Box::pin(permits.acquire_many(ALL));
    if let Ok(Ok(all)) = tokio::time::timeout(patience, &mut all).await {
        return Permit::Trial { _all: Ok(all) };
    }
    tracing::warn!("a suspect is tried beside attempts of other records that do not end");
    Permit::Trial { _all: Err(all) }
}

/// Requests a share, which comes through the inbox; to be spawned.
pub(crate) async fn request_share(inbox: Arc<Inbox>) {
    if let Some(share) = Share::of(&PROCESS).await {
        inbox.permit(Permit::Share(share));
    }
}

/// Requests a trial, which comes through the inbox; to be spawned.
pub(crate) async fn request_trial(inbox: Arc<Inbox>) {
    request_trial_of(&PROCESS, inbox).await;
}

/// A partition that is given up tries nothing more: its request would only keep others from
/// starting.
async fn request_trial_of(permits: &'static Semaphore, inbox: Arc<Inbox>) {
    tokio::select! {
        trial = trial(permits, QUIET_PATIENCE) => inbox.permit(trial),
        () = inbox.life().draining() => {}
    }
}

/// This process, by a number that its successor will hardly draw again.
pub(crate) fn instance() -> Instance {
    static INSTANCE: OnceLock<Instance> = OnceLock::new();
    *INSTANCE.get_or_init(|| {
        let drawn = std::hash::RandomState::new().hash_one(std::process::id());
        Instance::new((drawn >> 32) as u32)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use futures::FutureExt;

    use super::*;

    fn permits() -> &'static Semaphore {
        Box::leak(Box::new(Semaphore::new(ALL as usize)))
    }

    #[tokio::test]
    async fn a_trial_waits_for_what_runs_and_nothing_starts_until_it_is_over() {
        let permits = permits();
        let [first, second] = [(); 2].map(|()| Share::try_of(permits).unwrap());
        assert!(!first.is_asked_back());
        let mut next = Box::pin(trial(permits, Duration::MAX));
        assert!(next.as_mut().now_or_never().is_none());
        assert!(first.is_asked_back() && Share::try_of(permits).is_none());
        drop(first);
        assert!(next.as_mut().now_or_never().is_none(), "the second runs");
        drop(second);
        let trial = next.await;
        assert!(Share::try_of(permits).is_none());
        let mut share = Box::pin(Share::of(permits));
        assert!(share.as_mut().now_or_never().is_none());
        drop(trial);
        assert!(share.await.is_some_and(|share| !share.is_asked_back()));
    }

    #[tokio::test]
    async fn what_waited_for_a_trial_has_its_share_before_the_next_one() {
        let permits = permits();
        let first = trial(permits, Duration::MAX).await;
        let mut share = Box::pin(Share::of(permits));
        let mut next = Box::pin(trial(permits, Duration::MAX));
        assert!(share.as_mut().now_or_never().is_none());
        assert!(next.as_mut().now_or_never().is_none());
        drop(first);
        assert!(next.as_mut().now_or_never().is_none());
        let share = share.await.unwrap();
        assert!(share.is_asked_back());
        drop(share);
        next.await;
    }

    #[tokio::test]
    async fn a_trial_is_not_waited_for_once_its_partition_is_given_up() {
        type GiveUp = fn(&Inbox);
        let ways: [GiveUp; 2] = [Inbox::end, |inbox| inbox.drain(Instant::now())];
        for give_up in ways {
            let permits = permits();
            let hangs = Share::try_of(permits).unwrap();
            let inbox = Arc::new(Inbox::new(0, false));
            let mut request = Box::pin(request_trial_of(permits, inbox.clone()));
            assert!(request.as_mut().now_or_never().is_none());
            assert!(Share::try_of(permits).is_none());
            give_up(&inbox);
            assert!(request.as_mut().now_or_never().is_some());
            assert!(!hangs.is_asked_back() && Share::try_of(permits).is_some());
        }
    }

    #[tokio::test]
    async fn a_trial_does_not_wait_for_ever_and_still_keeps_others_from_starting() {
        let permits = permits();
        let hangs = Share::try_of(permits).unwrap();
        let trial = trial(permits, Duration::ZERO).await;
        assert!(Share::try_of(permits).is_none());
        drop(hangs);
        assert!(Share::try_of(permits).is_none());
        drop(trial);
        assert!(Share::try_of(permits).is_some());
    }
}
