//! The core's time: passed in by the shell, never read from a clock.

use std::ops::Add;
use std::time::Duration;

/// A point in time: how long after an arbitrary origin of the shell's monotonic clock.
///
/// Two moments compare only when they count from the same origin. The core has no clock of its own:
/// every call that depends on time takes a moment, which is what makes a run repeatable.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// use keylane_core::Moment;
///
/// let later = Moment::ORIGIN + Duration::from_secs(3);
/// assert_eq!(later.since(Moment::ORIGIN), Duration::from_secs(3));
/// assert_eq!(Moment::ORIGIN.since(later), Duration::ZERO);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment {
    /// Enough for 584 years; a pending record keeps two of them.
    nanos: u64,
}

impl Moment {
    /// The origin itself.
    pub const ORIGIN: Self = Self { nanos: 0 };

    /// The moment this long after the origin; the last representable one if that is later.
    pub fn new(since_origin: Duration) -> Self {
        Self {
            nanos: nanos(since_origin),
        }
    }

    /// How long after the origin.
    pub const fn since_origin(self) -> Duration {
        Duration::from_nanos(self.nanos)
    }

    /// How long after `earlier` this moment is; zero where it is not after it.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.nanos.saturating_sub(earlier.nanos))
    }
}

/// Saturates at the last representable moment.
impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, delay: Duration) -> Self {
        Self {
            nanos: self.nanos.saturating_add(nanos(delay)),
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adding_a_delay_saturates_and_never_goes_back() {
        let late = Moment::new(Duration::MAX);
        assert_eq!(late + Duration::from_secs(1), late);
        assert!(Moment::ORIGIN + Duration::from_nanos(1) > Moment::ORIGIN);
    }

    #[test]
    fn since_is_zero_for_a_later_moment() {
        let early = Moment::new(Duration::from_secs(1));
        let late = Moment::new(Duration::from_secs(3));
        assert_eq!(late.since(early), Duration::from_secs(2));
        assert_eq!(early.since(late), Duration::ZERO);
    }
}
