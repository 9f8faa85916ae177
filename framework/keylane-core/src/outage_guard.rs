//! An outage is not a record's fault: whether a record may be given up now.
//!
//! Without a guard every record that fails while a database is down would use up its retries and be
//! dead-lettered, although nothing is wrong with it. The guard gets the failures of all partitions
//! of a subscription in this process, and holds records back in these cases. Each case needs
//! several lanes, [`OutageSettings::lanes`]: with fewer, each record is judged alone.
//!
//! | case | begins | holds | ends |
//! |---|---|---|---|
//! | total outage | several lanes fail, and nothing has succeeded since then, or for a quiet time | exhausted records, without limit | at the first success |
//! | outage of a place | the same for lanes that fail at one [`Place`], while others succeed | exhausted records that fail there, for [`OutageSettings::patience`] | when a lane that failed there succeeds |
//! | partial outage | several lanes fail with one [`ErrorClass`], while others succeed | exhausted records of that class, for [`OutageSettings::patience`] | when fewer lanes have failed with it for a quiet time |
//! | bad deployment | [`BAD_DEPLOYMENT_RECORDS`] records of several lanes were given up as fatal, undecodable or panicking without a success | further ones, without limit | at the first success; the undecodable ones do not count once a record decodes |
//!
//! A success names no place, so that good records succeed at a place is not seen where others
//! always fail there. That is why the outage of a place does not hold records without limit.
//!
//! An operator can end each of them with [`OutageGuard::release`].
//!
//! A lane *fails* if its latest attempt failed. It leaves when it succeeds, when its partition's
//! epoch ends, or one minute after its next attempt had to have ended
//! ([`OutageSettings::longest_attempt`] after its wait for a place). The lane of a key is the same in
//! the origin and in the retry topic. Failures that are the record's own, fatal and undecodable ones, are no sign of an
//! outage.
//!
//! Everything the guard keeps is bounded: 64 lanes for each of 64 classes and of the rest of them,
//! and 64 places.
//!
//! It is the view of one process; another member of the group decides for itself. A member that has
//! only partitions of the retry topic gets only records that have failed before. Where all failing
//! lanes are of that kind, and nothing has ever succeeded in the process, a total outage holds each
//! record for the patience, not without limit.

mod deployment;
mod episode;
mod lanes;
mod outage;
mod report;
mod settings;
mod state;

use std::collections::BTreeMap;
use std::time::Duration;

pub use deployment::BAD_DEPLOYMENT_RECORDS;
pub(crate) use report::{Case, Report, Source, Standing};
pub use settings::{OUTAGE_LANES, OUTAGE_PATIENCE, OutageSettings};
pub use state::{ClassOutage, HeldBy, OutageState};

use crate::failed_attempt::{ErrorClass, FailedAttempt, Place};
use crate::failure::Reason;
use crate::time::Moment;
use deployment::Deployment;
use episode::Episode;
use lanes::{Failing, FailingLanes};
use outage::Outage;

/// A lane counts as failing for this long after its next attempt had to have ended.
const LANE_GRACE: Duration = Duration::from_secs(60);
/// Classes, and places, that are tracked at a time.
const TRACKED: usize = 64;

/// Decides whether a record may be given up, or there is an outage.
///
/// One guard per subscription, shared by the owners of all its partitions. Partitions report to it
/// ([`Partition::fail`](crate::Partition::fail),
/// [`Partition::report_to_guard`](crate::Partition::report_to_guard)).
///
/// # Examples
/// ```
/// use keylane_core::{Moment, OutageGuard, OutageSettings};
///
/// let mut guard = OutageGuard::new(OutageSettings::default());
/// assert!(guard.holds_nothing(Moment::ORIGIN));
/// ```
#[derive(Clone, Debug)]
pub struct OutageGuard {
    settings: OutageSettings,
    now: Moment,
    lanes: FailingLanes,
    whole: Outage,
    places: BTreeMap<Place, Outage>,
    classes: BTreeMap<ErrorClass, Episode>,
    deployment: Deployment,
    sources: u64,
    /// Something has succeeded in this process.
    has_succeeded: bool,
    /// How many records each partition holds.
    held: BTreeMap<Source, usize>,
}

impl Default for OutageGuard {
    fn default() -> Self {
        Self::new(OutageSettings::default())
    }
}

impl OutageGuard {
    /// A guard that has seen nothing yet.
    pub fn new(settings: OutageSettings) -> Self {
        let settings = OutageSettings {
            lanes: settings.lanes.max(1),
            ..settings
        };
        Self {
            settings,
            now: Moment::ORIGIN,
            lanes: FailingLanes::default(),
            whole: Outage::default(),
            places: BTreeMap::new(),
            classes: BTreeMap::new(),
            deployment: Deployment::default(),
            sources: 0,
            has_succeeded: false,
            held: BTreeMap::new(),
        }
    }

    /// Lets exhausted records go in everything that holds now, until that ends.
    pub fn release(&mut self, now: Moment) {
        self.look(now);
        self.whole.release();
        self.places.values_mut().for_each(Outage::release);
        self.classes.values_mut().for_each(Episode::release);
        self.deployment.release();
    }

    /// Whether nothing would be held now: neither an outage nor a bad deployment.
    pub fn holds_nothing(&mut self, now: Moment) -> bool {
        self.look(now);
        let (quiet, patience) = (self.settings.quiet, self.settings.patience);
        let is_away = |outage: &Outage| outage.holds(quiet, self.now);
        !is_away(&self.whole)
            && !self.places.values().any(is_away)
            && !self.classes.values().any(|class| class.holds(patience))
            && !self.deployment.holds()
    }

    /// Whether a total outage is suspected: several lanes fail, and nothing succeeds.
    pub fn nothing_succeeds(&mut self, now: Moment) -> bool {
        self.look(now);
        self.whole.since(self.settings.quiet, self.now).is_some()
    }

    pub(crate) fn patience(&self) -> Duration {
        self.settings.patience
    }

    pub(crate) fn join(&mut self) -> Source {
        self.sources += 1;
        Source(self.sources)
    }

    /// The epoch of this partition is over.
    pub(crate) fn leave(&mut self, source: Source) {
        self.held.remove(&source);
        self.lanes.remove_all(|failing| failing.source == source);
        self.recount();
    }

    pub(crate) fn set_held(&mut self, source: Source, records: usize) {
        if records == 0 {
            self.held.remove(&source);
        } else {
            self.held.insert(source, records);
        }
    }

    /// An attempt failed in a way that may be an outage; `false` where its lane is not tracked.
    pub(crate) fn failed(&mut self, report: Report, attempt: FailedAttempt, now: Moment) -> bool {
        let Report {
            source,
            lane,
            is_first_hand,
        } = report;
        self.look(now);
        let class = self.tracked_class(attempt.class);
        let place = attempt.place.filter(|place| self.is_place_tracked(*place));
        if self.lanes.of_class(class) >= TRACKED && !self.lanes.contains(lane) {
            return false;
        }
        self.lanes.insert(
            lane,
            Failing {
                source,
                class,
                place,
                is_first_hand,
                until: self.now + LANE_GRACE,
            },
        );
        self.recount();
        true
    }

    /// The next attempt of a failing lane is due then. It may run for as long as attempts may.
    pub(crate) fn expects(&mut self, lane: u64, due: Moment) {
        self.lanes
            .keep_until(lane, due + self.settings.longest_attempt + LANE_GRACE);
    }

    /// The next attempt of a failing lane is due, and waits for others to end.
    pub(crate) fn waits(&mut self, lane: u64, now: Moment) {
        self.lanes
            .keep_at_least_until(lane, now + self.settings.longest_attempt + LANE_GRACE);
    }

    /// A failing lane leaves then.
    pub(crate) fn forgets_at(&mut self, lane: u64, at: Moment) {
        self.lanes.keep_until(lane, at);
    }

    /// The latest attempt of this lane did not fail, or was at fault itself.
    pub(crate) fn cleared(&mut self, lane: u64, succeeded_at: Option<Moment>) {
        let Some(failing) = self.lanes.remove(lane) else {
            return;
        };
        if let (Some(at), Some(place)) = (succeeded_at, failing.place)
            && let Some(outage) = self.places.get_mut(&place)
        {
            outage.succeeded(at);
        }
        self.recount();
    }

    /// Something succeeded then.
    pub(crate) fn succeeded(&mut self, at: Moment) {
        // What was before it counts as it was.
        self.look(at);
        self.has_succeeded = true;
        self.whole.succeeded(at);
        self.deployment = Deployment::default();
    }

    /// A record was decoded, and has not succeeded.
    pub(crate) fn decoded(&mut self) {
        self.deployment.decoded();
    }

    /// A record is given up.
    pub(crate) fn gave_up(&mut self, lane: u64, reason: Reason, now: Moment) {
        self.look(now);
        self.deployment
            .gave_up(lane, reason, self.settings.lanes, self.now);
    }

    /// Whether there is a total outage.
    pub(crate) fn standing(&mut self, now: Moment) -> Standing {
        self.look(now);
        let quiet = self.settings.quiet;
        match self.whole.since(quiet, self.now) {
            None => Standing::Up,
            Some(_) if self.whole.is_released() || self.is_one_sided() => Standing::Discounted,
            Some(since) if self.now.since(since) >= quiet => Standing::Out,
            Some(_) => Standing::Doubtful,
        }
    }

    /// Whether what held a record is over by itself: not where it goes on, used up the patience or
    /// was released by an operator.
    pub(crate) fn is_over(&mut self, by: HeldBy, now: Moment) -> bool {
        self.look(now);
        let quiet = self.settings.quiet;
        let since = match by {
            HeldBy::Outage => self.whole.since(quiet, self.now),
            HeldBy::Place(place) => self
                .places
                .get(&place)
                .and_then(|outage| outage.since(quiet, self.now)),
            HeldBy::Class(class) => self
                .classes
                .get(&self.class_of(class))
                .and_then(Episode::since),
            HeldBy::Deployment => self.deployment.since(),
            HeldBy::Unavailable => None,
        };
        since.is_none()
    }

    /// Whether there is a partial outage of this class.
    pub(crate) fn is_class_out(&self, class: ErrorClass) -> bool {
        self.classes
            .get(&self.class_of(class))
            .is_some_and(|episode| episode.since().is_some())
    }

    /// Whether this record has to be held.
    pub(crate) fn judge(&mut self, case: Case, now: Moment) -> Option<HeldBy> {
        self.look(now);
        let (quiet, patience) = (self.settings.quiet, self.settings.patience);
        if case.reason.may_be_an_outage() {
            let is_patient = case.held_for < patience;
            if self.whole.holds(quiet, self.now) && (is_patient || !self.is_one_sided()) {
                return Some(HeldBy::Outage);
            }
            let is_away = |place: &Place| {
                self.places
                    .get(place)
                    .is_some_and(|outage| outage.holds(quiet, self.now))
            };
            if let Some(place) = case.place.filter(is_away).filter(|_| is_patient) {
                return Some(HeldBy::Place(place));
            }
            let class = self.class_of(case.class);
            if is_patient
                && self
                    .classes
                    .get(&class)
                    .is_some_and(|episode| episode.holds(patience))
            {
                return Some(HeldBy::Class(case.class));
            }
        }
        let by_deployment = case.reason.may_be_a_bad_deployment() && self.deployment.holds();
        by_deployment.then_some(HeldBy::Deployment)
    }

    /// Whether what is held by this is held for the patience at most.
    pub(crate) fn is_bounded(&self, by: HeldBy) -> bool {
        match by {
            HeldBy::Outage => self.is_one_sided(),
            HeldBy::Place(_) | HeldBy::Class(_) => true,
            HeldBy::Deployment | HeldBy::Unavailable => false,
        }
    }

    /// Only records of a retry topic fail, and nothing has ever succeeded. Those may be the bad
    /// ones, while good ones succeed in other members at their first attempt.
    fn is_one_sided(&self) -> bool {
        !self.has_succeeded && !self.lanes.has_first_hand()
    }

    fn is_released(&self) -> bool {
        self.whole.is_released()
            || self.places.values().any(Outage::is_released)
            || self.classes.values().any(Episode::is_released)
            || self.deployment.is_released()
    }

    /// Lets time pass: lanes leave, and partial outages use up their patience.
    fn look(&mut self, now: Moment) {
        let now = self.now.max(now);
        let passed = now.since(self.now);
        self.now = now;
        if passed.is_zero() {
            return;
        }
        if self.lanes.is_due(now) && self.lanes.remove_all(|failing| failing.until <= now) {
            self.recount();
        }
        let is_total = self.whole.since(self.settings.quiet, now).is_some();
        for episode in self.classes.values_mut() {
            episode.pass(passed, is_total, self.settings.quiet, now);
        }
        self.classes.retain(|_, episode| !episode.is_over());
        self.places.retain(|_, outage| !outage.is_over());
    }

    /// The lanes have changed.
    fn recount(&mut self) {
        let (threshold, now) = (self.settings.lanes, self.now);
        self.whole.set_lanes(self.lanes.len(), threshold, now);
        for (class, episode) in &mut self.classes {
            episode.set_lanes(self.lanes.of_class(*class), threshold, now);
        }
        for (place, outage) in &mut self.places {
            outage.set_lanes(self.lanes.of_place(*place), threshold, now);
        }
    }

    fn class_of(&self, class: ErrorClass) -> ErrorClass {
        if self.classes.contains_key(&class) {
            class
        } else {
            ErrorClass::REST
        }
    }

    fn tracked_class(&mut self, class: ErrorClass) -> ErrorClass {
        let has_room = self.classes.len() < TRACKED || self.classes.contains_key(&class);
        let class = if has_room { class } else { ErrorClass::REST };
        self.classes.entry(class).or_default();
        class
    }

    fn is_place_tracked(&mut self, place: Place) -> bool {
        if self.places.len() >= TRACKED && !self.places.contains_key(&place) {
            return false;
        }
        self.places.entry(place).or_default();
        true
    }
}

#[cfg(test)]
pub(crate) mod tests;
