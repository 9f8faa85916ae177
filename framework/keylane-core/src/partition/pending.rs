//! The records that are delivered and unsettled: a slab with counts by state.
//!
//! There may be a hundred thousand of them, so each entry is kept small, and the slab grows by
//! pages: a vector that doubles would be half empty.

use std::num::NonZeroU64;
use std::time::Duration;

use super::{Delivery, FailureHeaders, Publish, Ticket};
use crate::failed_attempt::{ErrorClass, FailedAttempt, Place};
use crate::failure::Failure;
use crate::ledger::Sequence;
use crate::offset::Offset;
use crate::outage_guard::Standing;
use crate::retry_policy::Tried;
use crate::time::Moment;

pub(super) struct Pending<R> {
    /// All of [`PAGE`] slots but the last, which grows.
    pages: Vec<Vec<Slot<R>>>,
    free: Vec<u32>,
    bytes: usize,
    counts: [usize; State::COUNT],
    held: usize,
}

/// Slots in a page: a power of two.
const PAGE: usize = 256;

/// Its serial number outlives the record.
enum Slot<R> {
    Vacant { serial: u32 },
    Taken(PendingRecord<R>),
}

pub(super) struct PendingRecord<R> {
    pub(super) offset: Offset,
    pub(super) sequence: Sequence,
    lane: Option<NonZeroU64>,
    pub(super) since: Moment,
    /// When its latest attempt began.
    pub(super) started: Moment,
    /// What few records have.
    rare: Option<Box<Rare>>,
    bytes: u32,
    /// Of the slot: raised with every ticket, so that no two tickets of a slot are alike.
    serial: u32,
    pub(super) attempts_here: u32,
    /// It may have killed, and has not been seen not to.
    pub(super) watched: bool,
    /// It is no sign of a killer that it has not run, and neither are those behind it: parked, not
    /// due at delivery, or behind such a one. Used only while records are watched.
    pub(super) stuck: bool,
    /// Its attempt runs longer than it should.
    pub(super) slow: bool,
    pub(super) state: State,
    pub(super) record: R,
}

/// What only a record has that comes from a retry topic, was to run later, runs again, or is to be
/// written.
#[derive(Default)]
struct Rare {
    /// When it may run, where that was in the future at delivery.
    due: Option<Moment>,
    rounds: u32,
    attempts_before: u32,
    /// When its first attempt of several began.
    first_started: Option<Moment>,
    /// The write that is being made, is to be made when its attempt has ended (a blocker), or was
    /// refused (then it is parked).
    publish: Option<Publish>,
    publish_failures: u32,
    headers: FailureHeaders,
    too_large_for_retry_topic: bool,
    tries: Tries,
}

/// What was tried of a record that has failed.
#[derive(Clone, Copy)]
struct Tries {
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
}

/// What a record is held by, as far as it takes to see how that ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Held {
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
pub(super) enum Waits {
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
    fn begin_anew(&mut self, patience: Duration) -> bool {
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum State {
    /// Not in its lane yet; a timer is set.
    NotDue,
    /// Behind another record of its lane.
    Queued,
    /// Head of its lane, in the ready queue.
    Ready,
    Running,
    /// Head of its lane; a timer is set.
    Waiting,
    PublishQueued,
    Publishing,
    /// Between two tries of a write; a timer is set.
    PublishWaiting,
    Parked,
    /// In no lane: another group's, and not known to be processed there.
    Held,
}

impl State {
    const COUNT: usize = Self::Held as usize + 1;

    pub(super) const fn is_waiting(self) -> bool {
        matches!(self, Self::NotDue | Self::Waiting | Self::PublishWaiting)
    }
}

impl<R> Default for Pending<R> {
    fn default() -> Self {
        Self {
            pages: Vec::new(),
            free: Vec::new(),
            bytes: 0,
            counts: [0; State::COUNT],
            held: 0,
        }
    }
}

/// A slot that is not vacant is named by exactly one of: a lane, the timers (`NotDue`). So slots
/// are never read after their removal.
const OCCUPIED: &str = "a slot in use holds a record";

impl<R> Pending<R> {
    pub(super) fn insert(&mut self, mut pending: PendingRecord<R>) -> u32 {
        self.bytes = self.bytes.saturating_add(pending.bytes as usize);
        self.counts[pending.state as usize] += 1;
        if let Some(slot) = self.free.pop() {
            let vacant = self.slot_mut(slot);
            pending.serial = vacant.serial();
            *vacant = Slot::Taken(pending);
            return slot;
        }
        let full = self.pages.last().is_none_or(|page| page.len() == PAGE);
        if full {
            // The first page grows with what a quiet partition needs; those that follow are filled
            // for sure.
            self.pages.push(if self.pages.is_empty() {
                Vec::new()
            } else {
                Vec::with_capacity(PAGE)
            });
        }
        let before = (self.pages.len() - 1) * PAGE;
        let page = self
            .pages
            .last_mut()
            .expect("a page was pushed if there was none");
        page.push(Slot::Taken(pending));
        (before + page.len() - 1) as u32
    }

    pub(super) fn remove(&mut self, slot: u32) -> PendingRecord<R> {
        let place = self.slot_mut(slot);
        let serial = place.serial();
        let Slot::Taken(pending) = std::mem::replace(place, Slot::Vacant { serial }) else {
            panic!("{OCCUPIED}")
        };
        self.bytes = self.bytes.saturating_sub(pending.bytes as usize);
        self.counts[pending.state as usize] -= 1;
        self.held -= usize::from(pending.held() != Held::No);
        self.free.push(slot);
        pending
    }

    pub(super) fn get(&self, slot: u32) -> &PendingRecord<R> {
        self.slot(slot).pending().expect(OCCUPIED)
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> &mut PendingRecord<R> {
        self.slot_mut(slot).pending_mut().expect(OCCUPIED)
    }

    pub(super) fn set_state(&mut self, slot: u32, state: State) {
        let pending = self.get_mut(slot);
        let before = std::mem::replace(&mut pending.state, state);
        self.counts[before as usize] -= 1;
        self.counts[state as usize] += 1;
    }

    pub(super) fn set_held(&mut self, slot: u32, held: Held) {
        let pending = self.get_mut(slot);
        let before = pending.held();
        if before == held {
            return;
        }
        pending.rare.get_or_insert_default().tries.held = held;
        self.held += usize::from(held != Held::No);
        self.held -= usize::from(before != Held::No);
    }

    /// How many records are held.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Every pending record with its slot.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &PendingRecord<R>)> {
        (0..)
            .zip(self.pages.iter().flatten())
            .filter_map(|(number, slot)| Some((number, slot.pending()?)))
    }

    /// The same, to change them.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut PendingRecord<R>)> {
        (0..)
            .zip(self.pages.iter_mut().flatten())
            .filter_map(|(number, slot)| Some((number, slot.pending_mut()?)))
    }

    /// Whether the ticket is the slot's latest and its record in the state it was issued for. The
    /// caller compares epochs.
    pub(super) fn is_current(&self, ticket: Ticket, state: State) -> bool {
        let (page, index) = place(ticket.slot);
        let slot = self.pages.get(page).and_then(|page| page.get(index));
        slot.and_then(Slot::pending)
            .is_some_and(|pending| pending.serial == ticket.serial && pending.state == state)
    }

    /// The ledger no longer stands for this record.
    pub(super) fn forget(&mut self, slot: u32) {
        self.get_mut(slot).sequence = Sequence::FORGOTTEN;
    }

    pub(super) fn count(&self, state: State) -> usize {
        self.counts[state as usize]
    }

    pub(super) fn len(&self) -> usize {
        self.counts.iter().sum()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn slot(&self, slot: u32) -> &Slot<R> {
        let (page, index) = place(slot);
        &self.pages[page][index]
    }

    fn slot_mut(&mut self, slot: u32) -> &mut Slot<R> {
        let (page, index) = place(slot);
        &mut self.pages[page][index]
    }
}

/// Page and index of a slot.
const fn place(slot: u32) -> (usize, usize) {
    (slot as usize / PAGE, slot as usize % PAGE)
}

impl<R> Slot<R> {
    fn serial(&self) -> u32 {
        match self {
            Self::Vacant { serial } => *serial,
            Self::Taken(pending) => pending.serial,
        }
    }

    fn pending(&self) -> Option<&PendingRecord<R>> {
        match self {
            Self::Vacant { .. } => None,
            Self::Taken(pending) => Some(pending),
        }
    }

    fn pending_mut(&mut self) -> Option<&mut PendingRecord<R>> {
        match self {
            Self::Vacant { .. } => None,
            Self::Taken(pending) => Some(pending),
        }
    }
}

impl<R> PendingRecord<R> {
    /// Starts out as not due; the partition decides at once where it goes.
    pub(super) fn new(delivery: Delivery<R>, due: Option<Moment>, since: Moment) -> Self {
        let is_common = due.is_none()
            && delivery.rounds == 0
            && delivery.attempts == 0
            && delivery.retried_for.is_zero();
        let came_with = Moment::new(delivery.retried_for);
        let tries = Tries {
            retried_for: came_with,
            came_with,
            ..Tries::default()
        };
        let rare = || Rare {
            due,
            rounds: delivery.rounds,
            attempts_before: delivery.attempts,
            tries,
            ..Rare::default()
        };
        Self {
            offset: delivery.offset,
            sequence: Sequence::FORGOTTEN,
            // Two hashes may share a lane.
            lane: delivery
                .lane
                .map(|hash| NonZeroU64::new(hash).unwrap_or(NonZeroU64::MAX)),
            // Kafka's lengths have 31 bits.
            bytes: u32::try_from(delivery.bytes).unwrap_or(u32::MAX),
            since,
            started: since,
            serial: 0,
            attempts_here: 0,
            rare: (!is_common).then(|| Box::new(rare())),
            watched: false,
            stuck: false,
            slow: false,
            state: State::NotDue,
            record: delivery.record,
        }
    }

    pub(super) fn lane(&self) -> Option<u64> {
        self.lane.map(NonZeroU64::get)
    }

    /// When it may run, where that was in the future at delivery.
    pub(super) fn due(&self) -> Option<Moment> {
        self.rare.as_ref()?.due
    }

    /// How often it went through the retry topic.
    pub(super) fn rounds(&self) -> u32 {
        self.rare.as_ref().map_or(0, |rare| rare.rounds)
    }

    /// What is to be written for it, if anything.
    pub(super) fn publish(&self) -> Option<Publish> {
        self.rare.as_ref()?.publish
    }

    pub(super) fn set_publish(&mut self, publish: Publish) {
        self.rare.get_or_insert_default().publish = Some(publish);
    }

    /// Which headers its write gets.
    pub(super) fn headers(&self) -> FailureHeaders {
        self.rare
            .as_ref()
            .map_or(FailureHeaders::All, |rare| rare.headers)
    }

    /// Its dead letter was too large; `false` where no fewer headers are left.
    pub(super) fn use_fewer_headers(&mut self) -> bool {
        let rare = self.rare.get_or_insert_default();
        let fewer = rare.headers.fewer();
        rare.headers = fewer.unwrap_or(rare.headers);
        fewer.is_some()
    }

    /// The retry topic did not take it: nothing is to be written, and nothing will be to that
    /// topic.
    pub(super) fn leave_retry_topic_out(&mut self) {
        let rare = self.rare.get_or_insert_default();
        (
            rare.publish,
            rare.publish_failures,
            rare.too_large_for_retry_topic,
        ) = (None, 0, true);
    }

    pub(super) fn is_too_large_for_retry_topic(&self) -> bool {
        self.rare
            .as_ref()
            .is_some_and(|rare| rare.too_large_for_retry_topic)
    }

    /// One more write of it has failed; how many did before.
    pub(super) fn publish_failed(&mut self) -> u32 {
        let failures = &mut self.rare.get_or_insert_default().publish_failures;
        std::mem::replace(failures, failures.saturating_add(1))
    }

    /// The number of its latest ticket.
    pub(super) fn serial(&self) -> u32 {
        self.serial
    }

    pub(super) fn next_serial(&mut self) -> u32 {
        self.serial = self.serial.wrapping_add(1);
        self.serial
    }

    /// One more attempt begins.
    pub(super) fn start(&mut self, now: Moment) {
        if self.attempts_here == 1 {
            self.rare.get_or_insert_default().first_started = Some(self.started);
        }
        self.started = now;
        self.attempts_here = self.attempts_here.saturating_add(1);
    }

    /// How long ago its first attempt began; where there was none, how long ago it was delivered.
    pub(super) fn held_for(&self, now: Moment) -> Duration {
        let first = self.rare.as_ref().and_then(|rare| rare.first_started);
        now.since(first.unwrap_or(self.started))
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes as usize
    }

    /// What it is held by.
    pub(super) fn held(&self) -> Held {
        self.rare.as_ref().map_or(Held::No, |rare| rare.tries.held)
    }

    /// Its retry time, as it is written into the retry topic.
    pub(super) fn retried_for(&self) -> Duration {
        let of = |tries: Tries| {
            tries
                .retried_for
                .since_origin()
                .saturating_add(tries.given_back.since_origin())
        };
        self.rare
            .as_ref()
            .map_or(Duration::ZERO, |rare| of(rare.tries))
    }

    /// The class it was judged by the last time, if it has failed before.
    pub(super) fn class(&self) -> Option<ErrorClass> {
        self.rare.as_ref().map(|rare| rare.tries.class)
    }

    /// Where it failed the last time, as far as that is known.
    pub(super) fn place(&self) -> Option<Place> {
        self.rare.as_ref()?.tries.place
    }

    pub(super) fn tried(&self) -> Tried {
        let tries = self
            .rare
            .as_ref()
            .map(|rare| rare.tries)
            .unwrap_or_default();
        Tried {
            attempts_here: self.attempts_here.saturating_sub(tries.forgiven),
            rounds: self.rounds(),
            retried_for: tries.retried_for.since_origin(),
            held_for: tries.held_for.since_origin(),
            unavailable: tries.unavailable,
            too_large_for_topic: self.is_too_large_for_retry_topic(),
        }
    }

    /// Its attempt has failed: what that adds to its retry time. What it spent in a total outage is
    /// given back when that is over.
    pub(super) fn failed(
        &mut self,
        attempt: FailedAttempt,
        is_bounded: bool,
        standing: Standing,
        patience: Duration,
        now: Moment,
    ) {
        let ran_for = now.since(self.started);
        let failed_before = self.attempts_here > 1 || self.rounds() > 0;
        let tries = &mut self.rare.get_or_insert_default().tries;
        (tries.class, tries.place) = (attempt.class, attempt.place);
        if matches!(attempt.failure, Failure::Unavailable { .. }) {
            tries.forgiven = tries.forgiven.saturating_add(1);
            return;
        }
        tries.unavailable = 0;
        match tries.held {
            _ if is_bounded => tries.held_for = tries.held_for + ran_for,
            Held::No | Held::Unavailable if failed_before => {
                tries.retried_for = tries.retried_for + ran_for
            }
            _ => {}
        }
        match standing {
            Standing::Out => tries.was_out = true,
            Standing::Up | Standing::Doubtful if tries.was_out => {
                tries.was_out = false;
                tries.begin_anew(patience);
            }
            _ => {}
        }
    }

    /// What held it is over: its attempts count from 0.
    pub(super) fn starts_anew(&mut self, patience: Duration) {
        let attempts = self.attempts_here;
        let tries = &mut self.rare.get_or_insert_default().tries;
        // Where the patience is used up, the time stays as it is, which gives the record up soon.
        // It is not given up at once, because attempts in the outage are no evidence against it.
        tries.begin_anew(patience);
        // The attempt that has just failed is the first one.
        tries.forgiven = attempts.saturating_sub(1);
    }

    /// It is to wait before its next attempt.
    pub(super) fn waits(&mut self, failure: Failure, delay: Duration, wait: Waits) {
        let tries = &mut self.rare.get_or_insert_default().tries;
        if matches!(failure, Failure::Unavailable { .. }) {
            tries.unavailable = tries.unavailable.saturating_add(1);
            return;
        }
        match wait {
            Waits::Retry => tries.retried_for = tries.retried_for + delay,
            Waits::Patience => tries.held_for = tries.held_for + delay,
            Waits::WithoutEnd => {}
        }
    }

    pub(super) fn attempts(&self) -> u32 {
        self.rare
            .as_ref()
            .map_or(0, |rare| rare.attempts_before)
            .saturating_add(self.attempts_here)
    }
}

/// What a pending record takes here beside the record itself.
#[cfg(test)]
pub(super) const SLOT_BYTES: usize = size_of::<Slot<()>>();
#[cfg(test)]
pub(super) const RARE_BYTES: usize = size_of::<Rare>();
