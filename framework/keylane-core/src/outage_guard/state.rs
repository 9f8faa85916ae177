//! The public state of the guard.

use std::time::Duration;

use super::OutageGuard;
use super::episode::Episode;
use super::outage::Outage;
use crate::failed_attempt::{ErrorClass, Place};
use crate::time::Moment;

/// An outage that holds no record is shown after this time.
const SHOWN_AFTER: Duration = Duration::from_secs(5);

/// Why a record waits although the policy would give it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HeldBy {
    /// Nothing succeeds in the whole subscription.
    Outage,
    /// Lanes fail at this place, and none of them succeeds.
    Place(Place),
    /// Several lanes fail with errors of this class.
    Class(ErrorClass),
    /// Records are fatal, undecodable or panic, one after the other.
    Deployment,
    /// Its latest attempt returned that something is not available. And its back-off is at its
    /// longest, or the ten attempts before returned the same.
    Unavailable,
}

/// What the guard holds records for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutageState {
    /// Nothing has succeeded since then.
    pub total: Option<Moment>,
    /// Places where several lanes have failed since then, and none of those has succeeded.
    pub places: Vec<(Place, Moment)>,
    /// Partial outages.
    pub classes: Vec<ClassOutage>,
    /// Since when the deployment seems to be bad.
    pub bad_deployment: Option<Moment>,
    /// How many records are held.
    pub held: usize,
    /// An operator has released what holds, or a part of it.
    pub released: bool,
}

impl OutageState {
    /// Whether there is nothing to be shown.
    pub fn is_calm(&self) -> bool {
        self.total.is_none()
            && self.places.is_empty()
            && self.classes.is_empty()
            && self.bad_deployment.is_none()
            && self.held == 0
    }
}

/// A partial outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassOutage {
    /// The class of its errors.
    pub class: ErrorClass,
    /// When it began.
    pub since: Moment,
    /// How many lanes fail with it; counted up to 64.
    pub lanes: usize,
    /// How long it still holds records.
    pub patience_left: Duration,
}

impl OutageGuard {
    /// What holds now. An outage is shown once it has lasted for some seconds, or holds records.
    pub fn state(&mut self, now: Moment) -> OutageState {
        self.look(now);
        let quiet = self.settings.quiet;
        let held = self.held.values().sum();
        let is_shown = |since: &Moment| held > 0 || self.now.since(*since) >= SHOWN_AFTER;
        let total = self.whole.since(quiet, self.now).filter(is_shown);
        let place =
            |(place, outage): (&Place, &Outage)| Some((*place, outage.since(quiet, self.now)?));
        let class = |(class, episode): (&ErrorClass, &Episode)| {
            let left = self.settings.patience.saturating_sub(episode.spent());
            let (lanes, left) = (
                episode.lanes(),
                if episode.is_released() {
                    Duration::ZERO
                } else {
                    left
                },
            );
            Some(ClassOutage {
                class: *class,
                since: episode.since()?,
                lanes,
                patience_left: left,
            })
        };
        OutageState {
            total,
            places: self
                .places
                .iter()
                .filter_map(place)
                .filter(|(_, since)| is_shown(since))
                .collect(),
            classes: self
                .classes
                .iter()
                .filter_map(class)
                .filter(|class| is_shown(&class.since))
                .collect(),
            bad_deployment: self.deployment.since(),
            held,
            released: self.is_released(),
        }
    }
}
