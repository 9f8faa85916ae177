//! Giving partitions back: a hand-over to other members, and the shutdown that gives back all.
//!
//! Both go the same way, each by its own deadline. The shutdown waits for the hand-over's answer.
//!
//! ```text
//!      revoke(places)                          shut_down(deadline)          fail()
//!           │ Drain                                 │ Drain                   │
//!           ▼                                       ▼                         │
//!       draining ──deadline──► End          draining ──deadline──► End        │
//!           │ owners have ended,                    │ owners have ended,      │
//!           │ or not within the grace               │ or not within the grace │
//!           ▼                                       ▼                         │
//!       StoreLast, CommitLast               StoreLast, CommitLast             │
//!           │ it is over,                           │ it is over,             │
//!           │ or nothing was heard for too long     │ or … for too long       ▼
//!           ▼                                       └─────────────► End, the grace
//!       StoreLast, Answer ─► other members                                    │
//!                                            StoreLast, Answer if one is owed, Close
//! ```
//!
//! * A second revoke before the answer joins the first: one answer is for both, by the first
//!   deadline, and the last commit starts anew.
//! * A shutdown can only bring a hand-over's deadline forward.
//! * For partitions that the group has already given to others there is nothing to wait for and
//!   nothing is committed: their epochs are over at once.
//! * What is assigned meanwhile starts nothing, if it is to be given back.
//!
//! The shell reports events ([`revoke`](HandOver::revoke), [`assigned`](HandOver::assigned),
//! [`shut_down`](HandOver::shut_down), [`fail`](HandOver::fail)) and calls
//! [`next`](HandOver::next) until there is no further order. Each order is carried out before the
//! next one is asked for.

mod order;
mod part;
#[cfg(test)]
mod random_orders;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

pub use order::{Answer, Order, Outcome, Unanswered};

use self::part::{Part, Patience, Step};
use super::TopicPartition;
use crate::Moment;

/// How long after the order to end an owner may take. Only one whose processor blocks its thread
/// needs it. Then its partition is given up with the last commit point it reported.
pub const END_GRACE: Duration = Duration::from_millis(500);

/// How long a partition whose start is being looked up is kept at least. librdkafka takes a late
/// answer for a reason to look again, also for a partition that it has stopped, and then never ends
/// that (librdkafka#4362). Long enough for an answer, and shorter than the 500 ms after which it
/// asks again.
pub const LOOK_UP: Duration = Duration::from_millis(200);

/// How long the client may take to report which partitions it has lost. It says that there is a
/// loss first: where a topic was deleted, only the topic's own partitions are lost.
pub const LOSS_REPORTED: Duration = Duration::from_millis(100);

/// Of a hand-over. The coordinator's answer usually comes within milliseconds. At most: while a
/// revoke is unanswered the client does not report that the group has taken away what stays.
const HAND_OVER: Patience = Patience {
    least: Duration::from_secs(1),
    most: Duration::from_secs(5),
};

/// Of a shutdown. At most: by then another broker has taken the place of a coordinator that is
/// away.
const SHUTDOWN: Patience = Patience {
    least: Duration::from_secs(5),
    most: Duration::from_secs(60),
};

/// The owner of an assigned partition, as far as a hand-over looks at it.
pub trait Owner {
    /// The topic's name.
    fn topic(&self) -> &Arc<str>;
    /// The number of the partition.
    fn partition(&self) -> i32;
    /// Nothing of it runs, and its last commit point is reported.
    fn has_ended(&self) -> bool;
    /// It has ended by itself: everything that had started was finished.
    fn has_drained(&self) -> bool;
    /// Records delivered and not settled.
    fn pending(&self) -> u64;
}

/// What is so when the next order is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a, O> {
    /// The time.
    pub now: Moment,
    /// The client says that the group has taken partitions away.
    pub lost: bool,
    /// The latest [`Order::CommitLast`] was answered for good, or can never be.
    pub last_commit_is_over: bool,
    /// All assigned partitions.
    pub owners: &'a [O],
}

/// Revoked partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// They are this member's until it answers.
    Asked,
    /// The group has already given them to others, or their topic is gone.
    Lost,
}

/// Who answers a revoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnsweredBy {
    /// The callback in which the client reports it, at once.
    Callback,
    /// The polling thread, once the partitions are handed over.
    HandOver,
}

impl Revoked {
    /// A loss has nothing to wait for, and a client that closes has no polling thread. Where an
    /// earlier revoke is unanswered both are answered together: one answer ends the client's wait
    /// for either.
    pub fn answered_by(self, closing: bool, is_one_unanswered: bool) -> AnsweredBy {
        if closing || (self == Self::Lost && !is_one_unanswered) {
            AnsweredBy::Callback
        } else {
            AnsweredBy::HandOver
        }
    }
}

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

/// The revokes that were reported and not answered. The client delivers nothing and commits nothing
/// by itself until they are. Usually one: a second comes when a topic is deleted meanwhile.
#[derive(Debug)]
struct RevokedPlaces {
    /// Sorted.
    places: Vec<TopicPartition>,
    /// Those among them that are others' already. Sorted.
    lost: Vec<TopicPartition>,
    began: Moment,
    not_before: Moment,
    /// Since when the client speaks of a loss that no revoke was reported for.
    loss_since: Option<Moment>,
    part: Part,
    stored: bool,
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
        let not_before = if is_looked_up { now + LOOK_UP } else { now };
        let it = self.revoked.get_or_insert_with(|| RevokedPlaces {
            places: Vec::new(),
            lost: Vec::new(),
            began: now,
            not_before,
            loss_since: None,
            part: Part::new(deadline, HAND_OVER),
            stored: false,
        });
        if let Some(shutdown) = &mut self.shutdown {
            it.part.hurry(shutdown.deadline());
            // Its own last commit comes after this one.
            shutdown.commit_again();
        }
        it.not_before = it.not_before.max(not_before);
        match revoked {
            Revoked::Asked => self.drain.extend_from_slice(&places),
            Revoked::Lost => {
                self.drop.extend_from_slice(&places);
                add(&mut it.lost, places.clone());
                it.loss_since = None;
            }
        }
        add(&mut it.places, places);
        // What the last commit was about does not cover the new ones.
        it.part.start_over();
        it.stored = false;
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
    /// client closes, and a revoke that is unanswered is answered.
    pub fn fail(&mut self) {
        if self.closing == Closing::No {
            self.closing = Closing::End;
        }
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
            if order.is_some() || self.closing == Closing::No {
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
                return Some(Order::StoreLast { places: all(&kept) });
            }
        }
        if seen.now < it.not_before {
            return None;
        }
        self.revoked.take().map(|it| it.answer(seen))
    }

    fn shutting_down<O: Owner>(&mut self, seen: &Seen<'_, O>) -> Option<Order> {
        let part = self.shutdown.as_mut()?;
        // While a revoke is unanswered the client commits nothing by itself, and another last
        // commit is under way.
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
            self.closing = Closing::Answer;
            let lost = self.revoked.as_ref().map_or(&[][..], |it| &it.lost);
            let mut places = all(&Vec::from_iter(seen.owners));
            places.retain(|place| !contains(lost, place));
            return Some(Order::StoreLast { places });
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

impl RevokedPlaces {
    fn is_all_lost(&self) -> bool {
        self.lost.len() == self.places.len() && !self.places.is_empty()
    }

    /// It is to be handed over, and this member's until then.
    fn is_kept<O: Owner>(&self, owner: &O) -> bool {
        is_among(&self.places, owner) && !is_among(&self.lost, owner)
    }

    /// The client speaks of a loss. Where it reports no revoke of what is lost, that is everything.
    fn look_for_a_loss<O>(&mut self, seen: &Seen<'_, O>) {
        if !seen.lost || !self.lost.is_empty() {
            self.loss_since = None;
            return;
        }
        let since = *self.loss_since.get_or_insert(seen.now);
        if seen.now.since(since) >= LOSS_REPORTED {
            self.lost.clone_from(&self.places);
        }
    }

    fn answer<O: Owner>(self, seen: &Seen<'_, O>) -> Order {
        let is_mine = |owner: &&O| is_among(&self.places, *owner);
        let is_dropped = |owner: &O| self.is_kept(owner) && !owner.has_drained();
        let mine = || seen.owners.iter().filter(is_mine);
        let outcome = if self.is_all_lost() {
            Outcome::Lost
        } else if mine().any(is_dropped) {
            Outcome::Deadline
        } else {
            Outcome::Drained
        };
        let pending = mine().map(O::pending).sum();
        Order::Answer(Answer {
            outcome,
            took: seen.now.since(self.began),
            pending,
            lost: self.lost.len(),
            places: self.places,
        })
    }
}

/// What a step of the way asks for.
fn order<O: Owner>(step: Step, owners: &[&O], whose: Unanswered) -> Option<Order> {
    Some(match step {
        Step::Wait | Step::Over => return None,
        Step::End => Order::End {
            places: running(owners),
        },
        Step::GiveUp => Order::TellOwnersRun {
            places: running(owners),
        },
        Step::Store => Order::StoreLast {
            places: all(owners),
        },
        Step::Commit => Order::CommitLast {
            places: all(owners),
        },
        Step::Unanswered => Order::TellUnanswered(whose),
    })
}

/// Whether it is the owner of one of these places, which are sorted.
pub fn is_among<O: Owner>(sorted: &[TopicPartition], owner: &O) -> bool {
    let owned = (owner.topic(), owner.partition());
    sorted
        .binary_search_by(|place| (&place.topic, place.partition).cmp(&owned))
        .is_ok()
}

fn place<O: Owner>(owner: &O) -> TopicPartition {
    TopicPartition::new(owner.topic().clone(), owner.partition())
}

fn all<O: Owner>(owners: &[&O]) -> Vec<TopicPartition> {
    sorted(owners.iter().map(|owner| place(*owner)).collect())
}

fn running<O: Owner>(owners: &[&O]) -> Vec<TopicPartition> {
    let running = owners.iter().filter(|owner| !owner.has_ended());
    sorted(running.map(|owner| place(*owner)).collect())
}

fn sorted(mut places: Vec<TopicPartition>) -> Vec<TopicPartition> {
    places.sort_unstable();
    places
}

fn contains(sorted: &[TopicPartition], place: &TopicPartition) -> bool {
    sorted.binary_search(place).is_ok()
}

fn add(sorted: &mut Vec<TopicPartition>, places: Vec<TopicPartition>) {
    sorted.extend(places);
    sorted.sort_unstable();
    sorted.dedup();
}
