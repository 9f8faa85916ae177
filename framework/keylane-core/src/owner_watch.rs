//! Whether a partition's owner is blocked.

use std::time::Duration;

use crate::time::Moment;

/// Watches an owner from outside, by the number of its passes. An owner that makes none although it
/// has work is blocked, and cannot report itself.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// use keylane_core::{Moment, OwnerWatch};
///
/// let (mut watch, second) = (OwnerWatch::default(), Duration::from_secs(1));
/// assert_eq!(watch.look(1, true, second, Moment::ORIGIN), None);
/// let blocked = watch.look(1, true, second, Moment::ORIGIN + 2 * second);
/// assert!(blocked.is_some_and(|blocked| blocked.is_news));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnerWatch {
    passes: u64,
    since: Moment,
    /// How long it has lasted when it is reported next; `None` while it has not been reported.
    report_after: Option<Duration>,
}

/// An owner that is blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockedOwner {
    /// How long it has been blocked, as far as it was observed.
    pub lasting: Duration,
    /// It is to be reported: for the first time, or having lasted twice as long as at the last
    /// report.
    pub is_news: bool,
}

impl OwnerWatch {
    /// Takes the number of passes, and whether the owner has work. Returns how long it has been
    /// blocked, from `threshold` on.
    ///
    /// An owner without work may make no pass, so the time counts from the first look that found
    /// work. It is exact to the time between two looks.
    pub fn look(
        &mut self,
        passes: u64,
        has_work: bool,
        threshold: Duration,
        now: Moment,
    ) -> Option<BlockedOwner> {
        if passes != self.passes || !has_work {
            *self = Self {
                passes,
                since: now,
                report_after: None,
            };
            return None;
        }
        let lasting = now.since(self.since);
        if lasting < threshold {
            return None;
        }
        let is_news = self
            .report_after
            .is_none_or(|report_after| lasting >= report_after);
        if is_news {
            self.report_after = Some(lasting.saturating_mul(2));
        }
        Some(BlockedOwner { lasting, is_news })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRESHOLD: Duration = Duration::from_secs(30);

    fn look(
        watch: &mut OwnerWatch,
        passes: u64,
        has_work: bool,
        second: u64,
    ) -> Option<(u64, bool)> {
        let blocked = watch.look(
            passes,
            has_work,
            THRESHOLD,
            Moment::new(Duration::from_secs(second)),
        );
        blocked.map(|blocked| (blocked.lasting.as_secs(), blocked.is_news))
    }

    #[test]
    fn a_blocked_owner_is_reported_once_and_again_when_it_has_lasted_twice_as_long() {
        let mut watch = OwnerWatch::default();
        assert_eq!(look(&mut watch, 1, true, 10), None);
        assert_eq!(look(&mut watch, 1, true, 39), None);
        assert_eq!(look(&mut watch, 1, true, 40), Some((30, true)));
        assert_eq!(look(&mut watch, 1, true, 69), Some((59, false)));
        assert_eq!(look(&mut watch, 1, true, 70), Some((60, true)));
        assert_eq!(look(&mut watch, 2, true, 71), None);
        assert_eq!(look(&mut watch, 2, true, 101), Some((30, true)));
    }

    #[test]
    fn an_owner_without_work_is_not_blocked() {
        let mut watch = OwnerWatch::default();
        assert_eq!(look(&mut watch, 0, false, 1_000), None);
        assert_eq!(look(&mut watch, 0, true, 1_029), None);
        assert_eq!(look(&mut watch, 0, true, 1_030), Some((30, true)));
    }
}
