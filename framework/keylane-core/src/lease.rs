//! How long a process may assume that it is still a member of its group.

use std::time::Duration;

use crate::time::Moment;

/// Membership is in doubt after this time without a look of the polling thread.
///
/// Far below any session time-out (the brokers' own limits begin at 6 s, and 45 s with
/// `group.protocol=consumer`) less the heartbeat interval that may have passed before. A needless
/// doubt costs one commit's round trip.
pub const LEASE: Duration = Duration::from_secs(1);
/// How long doubt lasts at most without an answer of the group. By then the client, which runs
/// again too, has detected a loss by itself, or the brokers are away.
pub const DOUBT_PATIENCE: Duration = Duration::from_secs(10);

/// The right to start work. Each look renews it, and it expires once the process has stood still:
/// stopped by a signal, with its machine, or starved. The group may have given its partitions to
/// others in that time, and only the client's next heartbeat shows that. Nothing is to be started
/// until the group has confirmed the membership.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// use keylane_core::{Lease, Look, Moment};
///
/// let at = |seconds| Moment::ORIGIN + Duration::from_secs(seconds);
/// let mut lease = Lease::new(at(1));
/// assert_eq!(lease.look(at(9), false), Look::DoubtBegins, "the process stood still");
/// assert!(lease.until() < at(9), "nothing starts");
/// lease.confirm(at(9));
/// assert_eq!(lease.look(at(9), false), Look::Good);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    until: Moment,
    doubt: Option<Doubt>,
}

#[derive(Clone, Copy, Debug)]
struct Doubt {
    since: Moment,
    looked: Moment,
}

/// What a look has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// All is well.
    Good,
    /// The process has stood still: a proof of membership is needed. A proof that was requested
    /// before does not count.
    DoubtBegins,
    /// Still no proof.
    Doubtful,
    /// No proof came in time; work goes on without.
    GaveUp,
}

impl Lease {
    /// A good one.
    pub fn new(now: Moment) -> Self {
        Self {
            until: now + LEASE,
            doubt: None,
        }
    }

    /// Until when work may start. Where this is in the past, for any reason, nothing starts.
    pub fn until(&self) -> Moment {
        if self.doubt.is_some() {
            Moment::ORIGIN
        } else {
            self.until
        }
    }

    /// A look of the polling thread. `slept`: by another clock the machine was suspended since the
    /// last one.
    pub fn look(&mut self, now: Moment, slept: bool) -> Look {
        let Some(doubt) = &mut self.doubt else {
            if slept || now >= self.until {
                self.doubt = Some(Doubt {
                    since: now,
                    looked: now,
                });
                return Look::DoubtBegins;
            }
            self.until = now + LEASE;
            return Look::Good;
        };
        if slept || now.since(doubt.looked) >= LEASE {
            *doubt = Doubt {
                since: now,
                looked: now,
            };
            return Look::DoubtBegins;
        }
        doubt.looked = now;
        if now.since(doubt.since) < DOUBT_PATIENCE {
            return Look::Doubtful;
        }
        *self = Self::new(now);
        Look::GaveUp
    }

    /// The next look may come as late as this: the polling thread is about to wait for the client.
    /// The client's own threads go on meanwhile, and notice what there is to notice.
    pub fn expect_silence(&mut self, now: Moment, longest: Duration) {
        self.until = self.until.max(now + longest + LEASE);
    }

    /// The wait is over: from here on looks are due as ever.
    pub fn silence_is_over(&mut self, now: Moment) {
        if now < self.until {
            self.until = now + LEASE;
        }
    }

    /// The group has confirmed the membership since the last [`Look::DoubtBegins`].
    pub fn confirm(&mut self, now: Moment) {
        *self = Self::new(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::new(Duration::from_millis(millis))
    }

    #[test]
    fn looks_in_time_renew_it_and_a_gap_takes_it_away_until_it_is_confirmed() {
        let mut lease = Lease::new(at(0));
        assert_eq!(lease.look(at(999), false), Look::Good);
        assert!(lease.until() > at(1_900));
        assert!(
            lease.until() < at(9_000),
            "without a look nothing starts either"
        );
        assert_eq!(lease.look(at(9_000), false), Look::DoubtBegins);
        assert_eq!(lease.look(at(9_050), false), Look::Doubtful);
        assert!(lease.until() < at(9_050));
        lease.confirm(at(9_060));
        assert!(lease.until() > at(9_060));
        assert_eq!(lease.look(at(9_100), false), Look::Good);
    }

    #[test]
    fn doubt_ends_by_itself_unless_the_process_stands_still_again() {
        let mut lease = Lease::new(at(0));
        assert_eq!(lease.look(at(5_000), false), Look::DoubtBegins);
        // Without the second beginning, patience would have ended during the second gap.
        assert_eq!(lease.look(at(60_000), false), Look::DoubtBegins);
        for millis in (60_500..70_000).step_by(500) {
            assert_eq!(lease.look(at(millis), false), Look::Doubtful);
        }
        assert_eq!(lease.look(at(70_000), false), Look::GaveUp);
        assert_eq!(lease.look(at(70_500), false), Look::Good);
    }

    #[test]
    fn an_announced_wait_is_no_gap_and_a_suspended_machine_is_one() {
        let mut lease = Lease::new(at(0));
        lease.expect_silence(at(0), Duration::from_secs(10));
        assert!(lease.until() > at(9_000));
        lease.silence_is_over(at(9_000));
        assert!(
            lease.until() <= at(10_000),
            "a pause soon after the wait is a pause"
        );
        assert_eq!(lease.look(at(9_005), false), Look::Good);
        assert_eq!(lease.look(at(9_010), true), Look::DoubtBegins);
        assert_eq!(lease.look(at(9_020), true), Look::DoubtBegins);

        let mut lease = Lease::new(at(0));
        lease.expect_silence(at(0), Duration::from_secs(10));
        lease.silence_is_over(at(12_000));
        assert_eq!(
            lease.look(at(12_000), false),
            Look::DoubtBegins,
            "it stood still during the wait"
        );
    }
}
