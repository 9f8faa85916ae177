//! The lanes whose latest attempt failed.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::time::Duration;

use super::Source;
use crate::failed_attempt::{ErrorClass, Place};
use crate::lanes::HashedAlready;
use crate::time::Moment;

/// Lanes are looked over for those that have to leave at most once per interval.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, Default)]
pub(super) struct FailingLanes {
    lanes: HashMap<u64, Failing, BuildHasherDefault<HashedAlready>>,
    classes: HashMap<ErrorClass, usize>,
    places: HashMap<Place, usize>,
    first_hand: usize,
    look_at: Moment,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Failing {
    pub(super) source: Source,
    pub(super) class: ErrorClass,
    pub(super) place: Option<Place>,
    /// Its record has not come through a retry topic.
    pub(super) is_first_hand: bool,
    pub(super) until: Moment,
}

impl FailingLanes {
    pub(super) fn len(&self) -> usize {
        self.lanes.len()
    }

    pub(super) fn of_class(&self, class: ErrorClass) -> usize {
        self.classes.get(&class).copied().unwrap_or_default()
    }

    pub(super) fn of_place(&self, place: Place) -> usize {
        self.places.get(&place).copied().unwrap_or_default()
    }

    pub(super) fn has_first_hand(&self) -> bool {
        self.first_hand > 0
    }

    pub(super) fn contains(&self, lane: u64) -> bool {
        self.lanes.contains_key(&lane)
    }

    pub(super) fn insert(&mut self, lane: u64, failing: Failing) {
        self.remove(lane);
        *self.classes.entry(failing.class).or_default() += 1;
        if let Some(place) = failing.place {
            *self.places.entry(place).or_default() += 1;
        }
        self.first_hand += usize::from(failing.is_first_hand);
        self.lanes.insert(lane, failing);
    }

    pub(super) fn keep_until(&mut self, lane: u64, until: Moment) {
        if let Some(failing) = self.lanes.get_mut(&lane) {
            failing.until = until;
        }
    }

    /// The same, where it would leave earlier.
    pub(super) fn keep_at_least_until(&mut self, lane: u64, until: Moment) {
        if let Some(failing) = self.lanes.get_mut(&lane) {
            failing.until = failing.until.max(until);
        }
    }

    pub(super) fn remove(&mut self, lane: u64) -> Option<Failing> {
        let failing = self.lanes.remove(&lane)?;
        self.uncount(&failing);
        Some(failing)
    }

    /// Whether it is time to look for lanes that have to leave.
    pub(super) fn is_due(&mut self, now: Moment) -> bool {
        let is_due = now >= self.look_at;
        if is_due {
            self.look_at = now + LOOK;
        }
        is_due
    }

    /// Removes those for which `leaves` is true; `true` if there were any.
    pub(super) fn remove_all(&mut self, leaves: impl Fn(&Failing) -> bool) -> bool {
        let before = self.lanes.len();
        let mut gone = Vec::new();
        self.lanes.retain(|_, failing| {
            let stays = !leaves(failing);
            if !stays {
                gone.push(*failing);
            }
            stays
        });
        gone.iter().for_each(|failing| self.uncount(failing));
        self.lanes.len() != before
    }

    fn uncount(&mut self, failing: &Failing) {
        decrease(&mut self.classes, failing.class);
        if let Some(place) = failing.place {
            decrease(&mut self.places, place);
        }
        self.first_hand -= usize::from(failing.is_first_hand);
    }
}

/// A count of zero takes no room.
fn decrease<K: Eq + std::hash::Hash + Copy>(counts: &mut HashMap<K, usize>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}
