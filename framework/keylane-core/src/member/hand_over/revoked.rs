//! Partitions that were revoked and are not answered for yet.

use std::time::Duration;

use super::TopicPartition;
use super::order::{Answer, Order, Outcome};
use super::part::{Part, Patience};
use super::seen::{Owner, Seen, is_among};
use crate::Moment;

/// How long the client may take to report which partitions it has lost. It reports first that there
/// is a loss: where a topic was deleted, only the topic's own partitions are lost.
pub const LOSS_REPORTED: Duration = Duration::from_millis(100);

/// Of a hand-over. The coordinator's answer usually comes within milliseconds. At most: while a
/// revoke is unanswered the client does not report that the group has taken away what stays.
const HAND_OVER: Patience = Patience {
    least: Duration::from_secs(1),
    most: Duration::from_secs(5),
};

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

/// The revokes that were reported and not answered. The client delivers nothing and commits nothing
/// by itself until they are. Usually one: a second comes when a topic is deleted meanwhile.
#[derive(Debug)]
pub(super) struct RevokedPlaces {
    /// Sorted.
    pub(super) places: Vec<TopicPartition>,
    /// Those among them that are others' already. Sorted.
    pub(super) lost: Vec<TopicPartition>,
    presumed_lost: Vec<TopicPartition>,
    began: Moment,
    pub(super) not_before: Moment,
    /// Since when the client reports a loss without a revoke for it.
    loss_since: Option<Moment>,
    pub(super) part: Part,
    pub(super) stored: bool,
}

impl RevokedPlaces {
    pub(super) fn new(deadline: Moment, now: Moment) -> Self {
        Self {
            places: Vec::new(),
            lost: Vec::new(),
            presumed_lost: Vec::new(),
            began: now,
            not_before: now,
            loss_since: None,
            part: Part::new(deadline, HAND_OVER),
            stored: false,
        }
    }

    /// Another revoke; one answer is for all.
    pub(super) fn join(&mut self, places: Vec<TopicPartition>, revoked: Revoked) {
        if revoked == Revoked::Lost {
            add(&mut self.lost, places.clone());
        }
        add(&mut self.places, places);
        // What the last commit was about does not cover the new ones.
        self.part.start_over();
        self.stored = false;
    }

    pub(super) fn is_all_lost(&self) -> bool {
        self.lost.len() == self.places.len() && !self.places.is_empty()
    }

    /// It is to be handed over, and this member's until then.
    pub(super) fn is_kept<O: Owner>(&self, owner: &O) -> bool {
        is_among(&self.places, owner) && !is_among(&self.lost, owner)
    }

    /// The client reports a loss. Where it reports no revoke of the lost partitions, all are lost.
    pub(super) fn look_for_a_loss<O>(&mut self, seen: &Seen<'_, O>) {
        if !seen.lost || !self.lost.is_empty() {
            self.loss_since = None;
            return;
        }
        let since = *self.loss_since.get_or_insert(seen.now);
        if seen.now.since(since) >= LOSS_REPORTED {
            self.lost.clone_from(&self.places);
            self.presumed_lost.clone_from(&self.places);
        }
    }

    pub(super) fn answer<O: Owner>(self, seen: &Seen<'_, O>) -> Order {
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
            presumed_lost: self.presumed_lost,
            places: self.places,
        })
    }
}

pub(super) fn contains(sorted: &[TopicPartition], place: &TopicPartition) -> bool {
    sorted.binary_search(place).is_ok()
}

fn add(sorted: &mut Vec<TopicPartition>, places: Vec<TopicPartition>) {
    sorted.extend(places);
    sorted.sort_unstable();
    sorted.dedup();
}
