//! The places of a subscription: how many of its attempts run at once.

use std::sync::Arc;

use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// As many places as `limits.max_in_flight` says. Those that wait for one are served in turn.
#[derive(Debug)]
pub(crate) struct Places {
    free: Arc<Semaphore>,
    limit: usize,
}

/// What an attempt runs in, given back when it is dropped. It belongs to the attempt's future and not
/// to its owner: whatever becomes of the epoch, it is free when the future is gone.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Place {
    /// One that does not count.
    pub(crate) const UNLIMITED: Self = Self { _permit: None };

    fn new(permit: OwnedSemaphorePermit) -> Self {
        Self {
            _permit: Some(permit),
        }
    }
}

impl Places {
    pub(crate) fn new(limit: usize) -> Self {
        let limit = limit.min(Semaphore::MAX_PERMITS);
        Self {
            free: Arc::new(Semaphore::new(limit)),
            limit,
        }
    }

    /// A place, if one is free that nothing waits for.
    pub(crate) fn try_take(&self) -> Option<Place> {
        let permit = self.free.clone().try_acquire_owned();
        permit.ok().map(Place::new)
    }

    /// Waits for its turn, from the first poll on.
    pub(crate) fn take(&self) -> impl Future<Output = Place> + Send + 'static {
        let permit = self.free.clone().acquire_owned();
        // The semaphore is never closed.
        async { permit.await.map_or(Place::UNLIMITED, Place::new) }
    }

    pub(crate) fn in_flight(&self) -> InFlight {
        let taken = self.limit.saturating_sub(self.free.available_permits());
        InFlight::new(taken as u64, self.limit as u64)
    }
}

/// The attempts of a subscription that run now, and how many may.
///
/// # Examples
/// ```
/// use keylane::status::SubscriptionStatus;
///
/// fn is_at_its_limit(status: &SubscriptionStatus) -> bool {
///     status.in_flight.is_some_and(|places| places.attempts >= places.limit)
/// }
/// # let _ = is_at_its_limit;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct InFlight {
    /// Places that are taken. While a suspect is tried, partitions keep places for what starts next. Attempts of partitions that were given up count until they end.
    pub attempts: u64,
    /// `limits.max_in_flight`.
    pub limit: u64,
}

impl InFlight {
    /// This number of attempts, and this limit: for a test of your own code.
    ///
    /// # Examples
    /// ```
    /// use keylane::status::{InFlight, State, SubscriptionStatus};
    ///
    /// let mut status = SubscriptionStatus::new(State::Running);
    /// status.in_flight = Some(InFlight::new(20, 20));
    /// ```
    pub fn new(attempts: u64, limit: u64) -> Self {
        Self { attempts, limit }
    }
}
