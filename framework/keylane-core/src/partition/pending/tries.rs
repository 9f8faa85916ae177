//! What was tried of a record that has failed, and what outages give back of it.

use std::time::Duration;

use crate::failed_attempt::{ErrorClass, Place};
use crate::time::Moment;

/// What was tried of a record that has failed.
#[derive(Clone, Copy)]
pub(super) struct Tries {
    /// Its retry time.
    pub(super) retried_for: Moment,
    /// What it was at delivery: an outage gives back no more than what was used up since.
    pub(super) came_with: Moment,
    /// What outages gave back since then. It counts again where the record goes through the retry
    /// topic.
    pub(super) given_back: Moment,
    /// For how long it was held while others succeeded, and what outages gave back.
    pub(super) held_for: Moment,
    /// The class it is judged by.
    pub(super) class: ErrorClass,
    /// Where it failed.
    pub(super) place: Option<Place>,
    /// Attempts since its delivery that do not count.
    pub(super) forgiven: u32,
    /// Unavailable attempts in a row.
    pub(super) unavailable: u32,
    pub(super) held: Held,
    /// Its latest attempt failed in a total outage.
    pub(super) was_out: bool,
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

/// What a wait is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::partition) enum Waits {
    /// The retry time.
    Retry,
    /// The patience of an outage.
    Patience,
    /// Nothing.
    WithoutEnd,
}

impl Tries {
    /// An outage is over: the retry time begins again. The time given back counts as held. So
    /// holding has an end on a topic that is so slow that each gap looks like an outage.
    pub(super) fn begin_anew(&mut self, patience: Duration) -> bool {
        let left = patience.saturating_sub(self.held_for.since_origin());
        let used = self.retried_for.since(self.came_with).min(left);
        self.held_for = self.held_for + used;
        self.given_back = self.given_back + used;
        self.retried_for = Moment::new(self.retried_for.since_origin().saturating_sub(used));
        !left.is_zero()
    }
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
        }
    }
}
