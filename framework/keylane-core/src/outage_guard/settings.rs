//! What makes an outage.

use std::time::Duration;

use crate::backoff::Backoff;

/// How many failing lanes make an outage, by default.
pub const OUTAGE_LANES: usize = 5;
/// How long records are held in a partial outage, by default.
pub const OUTAGE_PATIENCE: Duration = Duration::from_secs(2 * 60 * 60);
/// How long an attempt takes at the longest, by default.
pub(super) const LONGEST_ATTEMPT: Duration = Duration::from_secs(5 * 60);
/// The shortest [`OutageSettings::quiet`] that [`OutageSettings::for_backoff`] chooses.
const SHORTEST_QUIET: Duration = Duration::from_secs(60);

/// What makes an outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutageSettings {
    /// How many lanes have to fail; 0 counts as 1.
    pub lanes: usize,
    /// How long the outage of a class or of a place holds records while others succeed.
    pub patience: Duration,
    /// The quiet time: a total outage that began beside successes needs this time without a
    /// success. A partial outage goes on for this time below the threshold.
    pub quiet: Duration,
    /// The time-out of attempts. A lane still counts as failing for this time and one minute more
    /// after its next attempt was due.
    pub longest_attempt: Duration,
}

impl Default for OutageSettings {
    fn default() -> Self {
        Self {
            lanes: OUTAGE_LANES,
            patience: OUTAGE_PATIENCE,
            quiet: SHORTEST_QUIET,
            longest_attempt: LONGEST_ATTEMPT,
        }
    }
}

impl OutageSettings {
    /// The defaults, with a quiet time that suits this back-off: three of its longest delays, and
    /// one minute at least.
    pub fn for_backoff(backoff: &Backoff) -> Self {
        let quiet = backoff.max.saturating_mul(3).max(SHORTEST_QUIET);
        Self {
            quiet,
            ..Self::default()
        }
    }
}
