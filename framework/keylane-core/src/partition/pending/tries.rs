//! What was tried of a record that has failed, and what outages give back of it.

use std::time::Duration;

use crate::failed_attempt::{ErrorClass, FailedAttempt, Place};
use crate::failure::Failure;
use crate::outage_guard::Standing;
use crate::retry_policy::Tried;
use crate::time::Moment;

/// What was tried of a record that has failed.
#[derive(Clone, Copy)]
pub(super) struct Tries {
    /// Its retry time.
    retried_for: Moment,
    /// What it was at delivery: an outage gives back no more than what was used up since.
    came_with: Moment,
    /// What outages gave back since then. It counts again where the record goes through the retry
    /// topic.
    given_back: Moment,
    /// For how long it was held while others succeeded, and what outages gave back.
    held_for: Moment,
    /// The class it is judged by.
    class: ErrorClass,
    /// Where it failed.
    place: Option<Place>,
    /// Attempts since its delivery that do not count.
    forgiven: u32,
    /// Unavailable attempts in a row.
    unavailable: u32,
    held: Held,
    /// Its latest attempt failed in a total outage.
    was_out: bool,
    /// What its latest wait was taken from.
    wait: Waits,
}

/// What a record is held by, as far as it takes to see how that ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::partition) enum Held {
    #[default]
    No,
    Outage,
    Place,
    Class,
    Deployment,
    Unavailable,
}

/// What time is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::partition) enum Waits {
    /// The retry time.
    Retry,
    /// The patience of an outage.
    Patience,
    /// Nothing.
    WithoutEnd,
}

impl Tries {
    /// Of a record that comes with this retry time.
    pub(super) fn new(retried_for: Duration) -> Self {
        let came_with = Moment::new(retried_for);
        Self {
            retried_for: came_with,
            came_with,
            ..Self::default()
        }
    }

    pub(super) fn held(&self) -> Held {
        self.held
    }

    pub(super) fn hold(&mut self, held: Held) {
        self.held = held;
    }

    pub(super) fn class(&self) -> ErrorClass {
        self.class
    }

    pub(super) fn place(&self) -> Option<Place> {
        self.place
    }

    /// The retry time, as it is written into the retry topic.
    pub(super) fn retry_time(&self) -> Duration {
        let given_back = self.given_back.since_origin();
        self.retried_for.since_origin().saturating_add(given_back)
    }

    /// For the retry policy, of a record with this number of attempts since its delivery.
    pub(super) fn tried(&self, attempts: u32, rounds: u32, too_large_for_topic: bool) -> Tried {
        Tried {
            attempts_here: attempts.saturating_sub(self.forgiven),
            rounds,
            retried_for: self.retried_for.since_origin(),
            held_for: self.held_for.since_origin(),
            unavailable: self.unavailable,
            too_large_for_topic,
        }
    }

    /// Adds what a failed attempt of this length adds to the retry time. What it spent in a total
    /// outage is given back when that is over.
    pub(super) fn failed(
        &mut self,
        attempt: FailedAttempt,
        ran_for: Duration,
        taken_from: Waits,
        standing: Standing,
        patience: Duration,
    ) {
        (self.class, self.place) = (attempt.class, attempt.place);
        if matches!(attempt.failure, Failure::Unavailable { .. }) {
            self.forgiven = self.forgiven.saturating_add(1);
            return;
        }
        self.unavailable = 0;
        self.spend(ran_for, taken_from);
        match standing {
            Standing::Out => self.was_out = true,
            Standing::Up | Standing::Doubtful if self.was_out => {
                self.was_out = false;
                self.begin_anew(patience);
            }
            _ => {}
        }
    }

    /// What held the record is over: its attempts count from 0.
    pub(super) fn start_anew(&mut self, attempts: u32, patience: Duration) {
        // Where the patience is used up, the time stays as it is, which gives the record up soon.
        // It is not given up at once, because attempts in the outage are no evidence against it.
        self.begin_anew(patience);
        // The attempt that has just failed is the first one.
        self.forgiven = attempts.saturating_sub(1);
    }

    /// An outage is over: the retry time begins again. The time given back counts as held. So
    /// holding has an end on a topic that is so slow that each gap looks like an outage.
    fn begin_anew(&mut self, patience: Duration) {
        let left = patience.saturating_sub(self.held_for.since_origin());
        let used = self.retried_for.since(self.came_with).min(left);
        self.held_for = self.held_for + used;
        self.given_back = self.given_back + used;
        self.retried_for = less(self.retried_for, used);
    }

    /// The record is to wait before its next attempt.
    pub(super) fn wait(&mut self, failure: Failure, delay: Duration, wait: Waits) {
        if matches!(failure, Failure::Unavailable { .. }) {
            self.unavailable = self.unavailable.saturating_add(1);
            self.wait = Waits::WithoutEnd;
            return;
        }
        self.wait = wait;
        self.spend(delay, wait);
    }

    /// The latest wait ended early: what is left of it was not waited.
    pub(super) fn cut_short(&mut self, left: Duration) {
        match self.wait {
            Waits::Retry => self.retried_for = less(self.retried_for, left),
            Waits::Patience => self.held_for = less(self.held_for, left),
            Waits::WithoutEnd => {}
        }
    }

    /// The same of the wait with which the record came from the retry topic.
    pub(super) fn cut_round_short(&mut self, left: Duration) {
        self.retried_for = less(self.retried_for, left);
        self.came_with = less(self.came_with, left);
    }

    fn spend(&mut self, time: Duration, from: Waits) {
        match from {
            Waits::Retry => self.retried_for = self.retried_for + time,
            Waits::Patience => self.held_for = self.held_for + time,
            Waits::WithoutEnd => {}
        }
    }
}

fn less(moment: Moment, by: Duration) -> Moment {
    Moment::new(moment.since_origin().saturating_sub(by))
}

impl Default for Tries {
    fn default() -> Self {
        Self {
            retried_for: Moment::ORIGIN,
            came_with: Moment::ORIGIN,
            given_back: Moment::ORIGIN,
            held_for: Moment::ORIGIN,
            class: ErrorClass::UNKNOWN,
            place: None,
            forgiven: 0,
            unavailable: 0,
            held: Held::No,
            was_out: false,
            wait: Waits::WithoutEnd,
        }
    }
}
