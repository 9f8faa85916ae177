//! Giving partitions back: a hand-over to other members, and the shutdown that gives back all.
//!
//! Both go the same way, each by its own deadline. The shutdown waits for the hand-over's answer.
//!
//! ```text
//!      revoke(places)                       shut_down(deadline)             fail()
//!           │ Drain                              │ DrainAll                   │
//!           ▼                                    ▼                            │
//!       draining ──deadline──► End           draining ──deadline──► End       │
//!           │ owners have ended,                 │ owners have ended,         │
//!           │ or not within the grace            │ or not within the grace    │
//!           ▼                                    ▼                            │
//!       TakeLast, CommitLast                the hand-over is answered        │
//!           │                                    │                            │
//!           ▼                                    ▼                            │
//!       committing                           TakeLast, CommitLast            │
//!           │ it is over, or there was           │                            │
//!           │ no answer for too long             ▼                            │
//!           ▼                                committing                       │
//!       TakeLast, Answer                        │ as beside                  │
//!                                                ▼                            │
//!                                            End, and the grace ◄─────────────┘
//!                                                │
//!                                                ▼
//!                                            TakeLast, Answer if one is owed, Close
//! ```
//!
//! * A second revoke before the answer joins the first: one answer is for both, by the first
//!   deadline, and the last commit starts again.
//! * A shutdown can only bring a hand-over's deadline forward.
//! * For partitions that the group has already given to others there is nothing to wait for and
//!   nothing is committed: their epochs are over at once.
//! * What is assigned meanwhile starts nothing, if it is to be given back.
//!
//! The shell reports events ([`revoke`](HandOver::revoke), [`assigned`](HandOver::assigned),
//! [`shut_down`](HandOver::shut_down), [`fail`](HandOver::fail)) and calls [`next`](HandOver::next)
//! until there is no further order. Each order is carried out before the next one is taken.

mod order;
mod part;
#[cfg(test)]
mod random_orders;
mod revoked;
mod seen;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use order::{Answer, Order, Outcome, Unanswered};
pub use revoked::{AnsweredBy, LOSS_REPORTED, Revoked};
pub use seen::{Owner, Seen, is_among};

use self::part::{Part, Patience, Step};
use self::revoked::{RevokedPlaces, contains};
use self::seen::{all, running};
use super::TopicPartition;
use crate::Moment;

/// How long after the order to end an owner may take. Only one whose processor blocks its thread
/// needs it. Then its partition is given up with the last commit point it reported.
pub const END_GRACE: Duration = Duration::from_millis(500);

/// How long a partition whose start is being looked up is kept at least. After a late answer
/// librdkafka looks again, also for a partition that it has stopped, and then never ends that
/// (librdkafka#4362). The time is long enough for an answer, and shorter than the 500 ms after
/// which it repeats the request.
pub const LOOK_UP: Duration = Duration::from_millis(200);

/// Of a shutdown. At most: by then another broker has taken the place of a coordinator that is
/// away.
const SHUTDOWN: Patience = Patience {
    least: Duration::from_secs(5),
    most: Duration::from_secs(60),
};

/// The state of one member's hand-over and of its shutdown.
#[derive(Debug, Default)]
pub struct HandOver {
    revoked: Option<RevokedPlaces>,
    shutdown: Option<Part>,
    /// The shutdown's order to drain is still to be given, to all.
    drain_all: bool,
    drain: Vec<TopicPartition>,
    drop: Vec<TopicPartition>,
    end: Vec<TopicPartition>,
    closing: Closing,
}

/// The very end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Closing {
    #[default]
    No,
    End,
    Ending {
        until: Moment,
    },
    Store,
    Answer,
    Close,
    Closed,
}

impl HandOver {
    /// Whether a revoke waits for its answer.
    pub fn is_under_way(&self) -> bool {
        self.revoked.is_some()
    }

    /// Whether all partitions are being given back, for good.
    pub fn is_shutting_down(&self) -> bool {
        self.shutdown.is_some() || self.closing != Closing::No
    }

    /// Whether the client was ordered to close. Nothing follows.
    pub fn is_closed(&self) -> bool {
        self.closing == Closing::Closed
    }

    /// Partitions are to be given back. `is_looked_up`: the client may still be looking up where
    /// one of them starts.
    pub fn revoke(
        &mut self,
        places: Vec<TopicPartition>,
        revoked: Revoked,
        is_looked_up: bool,
        deadline: Moment,
        now: Moment,
    ) {
        let it = self
            .revoked
            .get_or_insert_with(|| RevokedPlaces::new(deadline, now));
        if let Some(shutdown) = &mut self.shutdown {
            it.part.hurry(shutdown.deadline());
            // Its own last commit comes after this one.
            shutdown.commit_again();
        }
        match revoked {
            Revoked::Asked => self.drain.extend_from_slice(&places),
            Revoked::Lost => self.drop.extend_from_slice(&places),
        }
        it.join(places, revoked);
        if is_looked_up {
            it.not_before = now + LOOK_UP;
        }
    }

    /// Partitions are this member's from now on.
    pub fn assigned(&mut self, places: &[TopicPartition]) {
        if self.closing != Closing::No {
            self.end.extend_from_slice(places);
        } else if self.shutdown.is_some() {
            // Nothing of it ever starts, and nothing takes longer for it.
            self.drain_all = true;
        } else if let Some(it) = &self.revoked {
            let given_back = places.iter().filter(|place| contains(&it.places, place));
            self.drain.extend(given_back.cloned());
        }
    }

    /// All partitions are to be given back by `deadline`. A second call can only bring it forward.
    pub fn shut_down(&mut self, deadline: Moment) {
        match &mut self.shutdown {
            Some(part) if deadline >= part.deadline() => return,
            Some(part) => part.hurry(deadline),
            None => self.shutdown = Some(Part::new(deadline, SHUTDOWN)),
        }
        self.drain_all = true;
        if let Some(it) = &mut self.revoked {
            it.part.hurry(deadline);
        }
    }

    /// Nothing is drained: the subscription has failed. What has been reported is committed as the
    /// client closes, and a revoke that is unanswered is answered. Where that had begun, the last
    /// points are stored once more: the failure may have prevented that.
    pub fn fail(&mut self) {
        self.closing = match self.closing {
            Closing::No | Closing::End => Closing::End,
            Closing::Ending { until } => Closing::Ending { until },
            Closing::Store | Closing::Answer | Closing::Close => Closing::Store,
            Closing::Closed => Closing::Closed,
        };
    }

    /// The next order, if there is one now. It is to be carried out before the next call.
    pub fn next<O: Owner>(&mut self, seen: &Seen<'_, O>) -> Option<Order> {
        if !self.drop.is_empty() {
            let places = std::mem::take(&mut self.drop);
            return Some(Order::Drop { places });
        }
        if !self.end.is_empty() {
            let places = std::mem::take(&mut self.end);
            return Some(Order::End { places });
        }
        if let Some(it) = &mut self.revoked {
            it.look_for_a_loss(seen);
        }
        if self.closing == Closing::No {
            let order = self
                .first_orders(seen)
                .or_else(|| self.hand_over(seen))
                .or_else(|| self.shutting_down(seen));
            if order.is_some() {
                return order;
            }
        }
        self.close(seen)
    }

    /// Those that events have left to be given.
    fn first_orders<O: Owner>(&mut self, seen: &Seen<'_, O>) -> Option<Order> {
        if let (Some(shutdown), true) = (&self.shutdown, self.drain_all) {
            self.drain_all = false;
            let places = all(&Vec::from_iter(seen.owners));
            let deadline = shutdown.deadline();
            return Some(Order::DrainAll { places, deadline });
        }
        let places = std::mem::take(&mut self.drain);
        let it = self.revoked.as_ref().filter(|_| !places.is_empty())?;
        let deadline = it.part.deadline();
        Some(Order::Drain { places, deadline })
    }

    fn hand_over<O: Owner>(&mut self, seen: &Seen<'_, O>) -> Option<Order> {
        let it = self.revoked.as_mut()?;
        if !it.is_all_lost() {
            let kept: Vec<_> = {
                let it = &*it;
                seen.owners
                    .iter()
                    .filter(|owner| it.is_kept(*owner))
                    .collect()
            };
            let have_ended = || kept.iter().all(|owner| owner.has_ended());
            let step = it
                .part
                .step(seen.now, have_ended, seen.last_commit_is_over, true);
            if step != Step::Over {
                return order(step, &kept, Unanswered::HandOver);
            }
            if seen.now < it.not_before {
                return None;
            }
            if !it.stored {
                it.stored = true;
                return Some(Order::TakeLast { places: all(&kept) });
            }
        }
        if seen.now < it.not_before {
            return None;
        }
        self.revoked.take().map(|it| it.answer(seen))
    }

    fn shutting_down<O: Owner>(&mut self, seen: &Seen<'_, O>) -> Option<Order> {
        let part = self.shutdown.as_mut()?;
        // While a revoke is unanswered another last commit is under way.
        let may_commit = self.revoked.is_none();
        let have_ended = || seen.owners.iter().all(O::has_ended);
        match part.step(seen.now, have_ended, seen.last_commit_is_over, may_commit) {
            Step::Wait => None,
            Step::Over => {
                self.closing = Closing::End;
                None
            }
            step => {
                // Those that are being handed over have had the same order.
                let is_handed_over = |owner: &O| {
                    let revoked = self.revoked.as_ref();
                    revoked.is_some_and(|it| is_among(&it.places, owner))
                };
                let mut owners = Vec::from_iter(seen.owners);
                owners.retain(|owner| !is_handed_over(owner));
                let is_about_owners = matches!(step, Step::End | Step::GiveUp);
                if is_about_owners && owners.iter().all(|owner| owner.has_ended()) {
                    return self.shutting_down(seen);
                }
                order(step, &owners, Unanswered::Shutdown)
            }
        }
    }

    fn close<O: Owner>(&mut self, seen: &Seen<'_, O>) -> Option<Order> {
        if self.closing == Closing::End {
            let until = seen.now + END_GRACE;
            self.closing = Closing::Ending { until };
            let places = running(&Vec::from_iter(seen.owners));
            if !places.is_empty() {
                return Some(Order::End { places });
            }
        }
        if let Closing::Ending { until } = self.closing {
            if seen.now < until && !seen.owners.iter().all(O::has_ended) {
                return None;
            }
            self.closing = Closing::Store;
        }
        if self.closing == Closing::Store {
            self.closing = Closing::Answer;
            let lost = self.revoked.as_ref().map_or(&[][..], |it| &it.lost);
            let mut places = all(&Vec::from_iter(seen.owners));
            places.retain(|place| !contains(lost, place));
            return Some(Order::TakeLast { places });
        }
        if self.closing == Closing::Answer {
            self.closing = Closing::Close;
            if let Some(it) = self.revoked.take() {
                return Some(it.answer(seen));
            }
        }
        if self.closing == Closing::Close {
            self.closing = Closing::Closed;
            return Some(Order::Close);
        }
        None
    }
}

/// The order of a step.
fn order<O: Owner>(step: Step, owners: &[&O], whose: Unanswered) -> Option<Order> {
    Some(match step {
        Step::Wait | Step::Over => return None,
        Step::End => Order::End {
            places: running(owners),
        },
        Step::GiveUp => Order::ReportRunningOwners {
            places: running(owners),
        },
        Step::Store => Order::TakeLast {
            places: all(owners),
        },
        Step::Commit => Order::CommitLast {
            places: all(owners),
        },
        Step::Unanswered => Order::ReportUnanswered(whose),
    })
}
