//! How many lines the log has about records that are given up.

use std::time::{Duration, Instant};

use crate::support::BoundedLines;

/// A subscription writes at most this many lines of a kind in a window; the others are at debug
/// level, and counted.
const LINES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(10);

/// The bounds of these lines; one for a subscription, not for each partition.
#[derive(Debug)]
pub(crate) struct GivenUpLog {
    pub(crate) dead_letters: BoundedLines,
    pub(crate) parked: BoundedLines,
    pub(crate) foreign: BoundedLines,
    pub(crate) skipped: BoundedLines,
}

impl Default for GivenUpLog {
    fn default() -> Self {
        Self {
            dead_letters: Self::lines(),
            parked: Self::lines(),
            foreign: Self::lines(),
            skipped: Self::lines(),
        }
    }
}

impl GivenUpLog {
    fn lines() -> BoundedLines {
        BoundedLines::new(LINES, WINDOW)
    }

    /// Logs how many lines were left out of windows that are over. To be called each second.
    pub(crate) fn report_left_out(&self, subscription: &str, now: Instant) {
        Self::report(
            subscription,
            self.all().map(|lines| lines.take_left_out(now)),
        );
    }

    /// The same of all, at the end of the subscription.
    pub(crate) fn report_all_left_out(&self, subscription: &str) {
        Self::report(
            subscription,
            self.all().map(BoundedLines::take_all_left_out),
        );
    }

    fn all(&self) -> [&BoundedLines; 4] {
        [
            &self.dead_letters,
            &self.parked,
            &self.foreign,
            &self.skipped,
        ]
    }

    fn report(subscription: &str, [dead_letters, parked, foreign, skipped]: [u64; 4]) {
        if dead_letters > 0 {
            tracing::warn!(
                subscription,
                left_out = dead_letters,
                "more records were dead-lettered, without a line each"
            );
        }
        if parked > 0 {
            tracing::error!(
                subscription,
                left_out = parked,
                "more records were parked, without a line each"
            );
        }
        if foreign > 0 {
            tracing::warn!(
                subscription,
                left_out = foreign,
                "more retries were left to other groups, without a line each"
            );
        }
        if skipped > 0 {
            tracing::warn!(
                subscription,
                left_out = skipped,
                "more records were skipped by an operator, without a line each"
            );
        }
    }
}
