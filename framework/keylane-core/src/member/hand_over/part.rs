//! The way from the order to drain to the end of the last commit, by one deadline.

use std::time::Duration;

use super::END_GRACE;
use crate::Moment;

/// How long an answer to the last commit is awaited.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// The minimum wait, also past the deadline.
    pub(super) least: Duration,
    /// The maximum wait, also where the deadline leaves more time.
    pub(super) most: Duration,
}

#[derive(Debug)]
pub(super) struct Part {
    deadline: Moment,
    patience: Patience,
    phase: Phase,
    /// Until when owners that were ordered to end are waited for.
    grace_until: Option<Moment>,
    /// Since when the last commit is waited for, from the first time on.
    committing_since: Option<Moment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// `ordered`: to end, after the deadline.
    Draining {
        ordered: bool,
    },
    Storing,
    Committing {
        sent: bool,
    },
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Wait,
    End,
    GiveUp,
    Store,
    Commit,
    Unanswered,
    Over,
}

impl Part {
    pub(super) fn new(deadline: Moment, patience: Patience) -> Self {
        Self {
            deadline,
            patience,
            phase: Phase::Draining { ordered: false },
            grace_until: None,
            committing_since: None,
        }
    }

    pub(super) fn deadline(&self) -> Moment {
        self.deadline
    }

    /// Brings the deadline forward.
    pub(super) fn hurry(&mut self, deadline: Moment) {
        self.deadline = self.deadline.min(deadline);
    }

    /// Others have joined, which may run.
    pub(super) fn start_over(&mut self) {
        (self.grace_until, self.committing_since) = (None, None);
        self.phase = Phase::Draining { ordered: false };
    }

    /// A commit under way is forgotten.
    pub(super) fn commit_again(&mut self) {
        if matches!(self.phase, Phase::Committing { .. }) {
            self.phase = Phase::Storing;
        }
    }

    /// The last commit has had its time.
    fn waited_too_long(&self, now: Moment) -> bool {
        self.committing_since.is_some_and(|since| {
            let until = self
                .deadline
                .clamp(since + self.patience.least, since + self.patience.most);
            now >= until
        })
    }

    pub(super) fn step(
        &mut self,
        now: Moment,
        have_ended: impl FnOnce() -> bool,
        last_commit_is_over: bool,
        may_commit: bool,
    ) -> Step {
        match self.phase {
            Phase::Over => return Step::Over,
            Phase::Committing { sent: true } if last_commit_is_over => {
                self.phase = Phase::Over;
                return Step::Over;
            }
            _ if self.waited_too_long(now) => {
                self.phase = Phase::Over;
                return Step::Unanswered;
            }
            _ => {}
        }
        match self.phase {
            Phase::Draining { ordered } if !have_ended() => {
                if now < self.deadline {
                    return Step::Wait;
                }
                let until = *self.grace_until.get_or_insert(now + END_GRACE);
                if !ordered {
                    self.phase = Phase::Draining { ordered: true };
                    return Step::End;
                }
                if now < until {
                    return Step::Wait;
                }
                self.phase = Phase::Storing;
                Step::GiveUp
            }
            Phase::Draining { .. } | Phase::Storing => {
                self.committing_since.get_or_insert(now);
                self.phase = Phase::Storing;
                if !may_commit {
                    return Step::Wait;
                }
                self.phase = Phase::Committing { sent: false };
                Step::Store
            }
            Phase::Committing { sent: false } => {
                self.phase = Phase::Committing { sent: true };
                Step::Commit
            }
            Phase::Committing { sent: true } | Phase::Over => Step::Wait,
        }
    }
}
