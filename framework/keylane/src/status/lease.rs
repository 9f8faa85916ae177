//! The core's [`Lease`], kept by the polling thread and read by the owners.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::lock::lock;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use keylane_core::{LEASE, Lease, Look, Moment};

/// Whether starts are allowed. It is one number that expires by itself: it does not matter which
/// thread wakes first after the process has stood still.
pub(crate) struct SharedLease {
    origin: Instant,
    /// When the lease ends, in milliseconds after the origin.
    until: AtomicU64,
    state: Mutex<State>,
}

struct State {
    lease: Lease,
    looked: (Instant, SystemTime),
}

impl SharedLease {
    pub(crate) fn new() -> Self {
        let origin = Instant::now();
        let lease = Lease::new(Moment::ORIGIN);
        let shared = Self {
            origin,
            until: AtomicU64::new(0),
            state: Mutex::new(State {
                lease,
                looked: (origin, SystemTime::now()),
            }),
        };
        shared.change(|_, _| ());
        shared
    }

    /// One that nothing ends, for a subscription without Kafka.
    pub(crate) fn lasting() -> Self {
        let lasting = Self::new();
        lasting.until.store(u64::MAX, Ordering::Release);
        lasting
    }

    /// Whether something may be started or written at this instant.
    pub(crate) fn allows(&self, now: Instant) -> bool {
        millis(self.moment(now)) < self.until.load(Ordering::Acquire)
    }

    /// The polling thread looks. On Linux the monotonic clock stands still while the machine is
    /// suspended; the wall clock does not.
    pub(crate) fn look(&self) -> Look {
        let wall = SystemTime::now();
        self.change(|state, now| {
            let (then, then_wall) = std::mem::replace(&mut state.looked, (now, wall));
            let by_wall = wall.duration_since(then_wall).unwrap_or_default();
            let slept = by_wall > (now - then) + LEASE;
            state.lease.look(self.moment(now), slept)
        })
    }

    /// Makes a call that may keep the polling thread for up to `longest`.
    pub(crate) fn during<T>(&self, longest: Duration, call: impl FnOnce() -> T) -> T {
        self.change(|state, now| state.lease.expect_silence(self.moment(now), longest));
        let answer = call();
        self.change(|state, now| state.lease.silence_is_over(self.moment(now)));
        answer
    }

    /// See [`Lease::confirm`].
    pub(crate) fn confirm(&self) {
        self.change(|state, now| state.lease.confirm(self.moment(now)));
    }

    fn change<T>(&self, change: impl FnOnce(&mut State, Instant) -> T) -> T {
        let mut state = self.state();
        let answer = change(&mut state, Instant::now());
        self.until
            .store(millis(state.lease.until()), Ordering::Release);
        answer
    }

    fn moment(&self, now: Instant) -> Moment {
        Moment::new(now.saturating_duration_since(self.origin))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under this lock can leave it half-written.
        lock(&self.state)
    }
}

fn millis(moment: Moment) -> u64 {
    u64::try_from(moment.since_origin().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_runs_out_without_a_look_and_comes_back_when_it_is_confirmed() {
        let lease = SharedLease::new();
        let later = Instant::now() + LEASE * 2;
        assert!(lease.allows(Instant::now()) && !lease.allows(later));
        lease.during(LEASE * 3, || assert!(lease.allows(later)));
        assert!(lease.allows(Instant::now()) && !lease.allows(later));
    }
}
