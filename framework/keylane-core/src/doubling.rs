//! A wait that grows.

use std::time::Duration;

/// A duration that doubles with each failure, from a first one to a longest one, and begins again
/// with success.
///
/// Where many wait for the same thing and must not come back together, see
/// [`Backoff`](crate::Backoff).
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// use keylane_core::Doubling;
///
/// let mut wait = Doubling::new(Duration::from_millis(5), Duration::from_millis(12));
/// let mut waits = Vec::new();
/// for _ in 0..4 {
///     waits.push(wait.get().as_millis());
///     wait.failed();
/// }
/// assert_eq!(waits, [5, 10, 12, 12]);
/// wait.succeeded();
/// assert_eq!(wait.get(), Duration::from_millis(5));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Doubling {
    first: Duration,
    longest: Duration,
    now: Duration,
}

impl Doubling {
    /// Begins with `first`, and never exceeds `longest`.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            now: first,
        }
    }

    /// The present one.
    pub fn get(&self) -> Duration {
        self.now.min(self.longest)
    }

    /// The next one is twice as long.
    pub fn failed(&mut self) {
        self.now = self.now.saturating_mul(2).min(self.longest);
    }

    /// The next one is the first again.
    pub fn succeeded(&mut self) {
        self.now = self.first;
    }
}
