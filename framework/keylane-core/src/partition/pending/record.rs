//! A record that is delivered and unsettled.

use std::num::NonZeroU64;
use std::time::Duration;

use super::tries::{Held, Tries, Waits};
use crate::failed_attempt::{ErrorClass, FailedAttempt, Place};
use crate::failure::Failure;
use crate::ledger::Sequence;
use crate::offset::Offset;
use crate::outage_guard::Standing;
use crate::partition::{Delivery, FailureHeaders, Publish};
use crate::retry_policy::Tried;
use crate::time::Moment;

pub(in crate::partition) struct PendingRecord<R> {
    pub(in crate::partition) offset: Offset,
    pub(in crate::partition) sequence: Sequence,
    lane: Option<NonZeroU64>,
    pub(in crate::partition) since: Moment,
    /// When its latest attempt began.
    pub(in crate::partition) started: Moment,
    /// What few records have.
    rare: Option<Box<Rare>>,
    bytes: u32,
    /// Of the slot: raised with every ticket, so that no two tickets of a slot are alike.
    pub(super) serial: u32,
    pub(in crate::partition) attempts_here: u32,
    /// It may have killed, and has not been seen not to.
    pub(in crate::partition) watched: bool,
    /// It is no sign of a killer that it has not run, and neither are those behind it: parked, of a
    /// paused key, not due at delivery, or behind such a one. Used only while records are watched.
    pub(in crate::partition) stuck: bool,
    /// Its attempt runs longer than it should.
    pub(in crate::partition) slow: bool,
    pub(in crate::partition) state: State,
    pub(in crate::partition) record: R,
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
    /// The write that is being made, is to be made when its attempt has ended (a blocker, or by an
    /// operator's order) or at its turn (by an order), or was refused (then it is parked).
    publish: Option<Publish>,
    publish_failures: u32,
    headers: FailureHeaders,
    too_large_for_retry_topic: bool,
    /// The attempt that runs is being ended, since it holds up the partition.
    is_being_ended: bool,
    tries: Tries,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::partition) enum State {
    /// Not in its lane yet; a timer is set.
    NotDue,
    /// Behind another record of its lane.
    Queued,
    /// Head of its lane, in the ready queue.
    Ready,
    Running,
    /// Head of its lane, and its key is paused.
    KeyPaused,
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
    pub(super) const COUNT: usize = Self::Held as usize + 1;

    pub(in crate::partition) const fn is_waiting(self) -> bool {
        matches!(self, Self::NotDue | Self::Waiting | Self::PublishWaiting)
    }
}

impl<R> PendingRecord<R> {
    /// Starts out as not due; the partition decides at once where it goes.
    pub(in crate::partition) fn new(
        delivery: Delivery<R>,
        due: Option<Moment>,
        since: Moment,
    ) -> Self {
        let is_common = due.is_none()
            && delivery.rounds == 0
            && delivery.attempts == 0
            && delivery.retried_for.is_zero();
        let rare = || Rare {
            due,
            rounds: delivery.rounds,
            attempts_before: delivery.attempts,
            tries: Tries::new(delivery.retried_for),
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

    pub(in crate::partition) fn lane(&self) -> Option<u64> {
        self.lane.map(NonZeroU64::get)
    }

    /// When it may run, where that was in the future at delivery.
    pub(in crate::partition) fn due(&self) -> Option<Moment> {
        self.rare.as_ref()?.due
    }

    /// Its wait for a back-off or its due time ends now, which spares it this much. That was counted
    /// when the wait began, here or by the partition that wrote it to the retry topic.
    pub(in crate::partition) fn cut_short(&mut self, now: Moment, left: Duration) {
        let Some(rare) = &mut self.rare else {
            return;
        };
        if rare.due.is_none_or(|due| due <= now) {
            return rare.tries.cut_short(left);
        }
        // Not earlier: until now it has waited by order.
        rare.due = Some(now);
        if rare.rounds > 0 {
            rare.tries.cut_round_short(left);
        }
    }

    /// How often it went through the retry topic.
    pub(in crate::partition) fn rounds(&self) -> u32 {
        self.rare.as_ref().map_or(0, |rare| rare.rounds)
    }

    /// What is to be written for it, if anything.
    pub(in crate::partition) fn publish(&self) -> Option<Publish> {
        self.rare.as_ref()?.publish
    }

    pub(in crate::partition) fn set_publish(&mut self, publish: Publish) {
        self.rare.get_or_insert_default().publish = Some(publish);
    }

    /// The attempt that runs is to be ended.
    pub(in crate::partition) fn end_attempt(&mut self) {
        self.rare.get_or_insert_default().is_being_ended = true;
    }

    pub(in crate::partition) fn is_being_ended(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.is_being_ended)
    }

    /// Which headers its write gets.
    pub(in crate::partition) fn headers(&self) -> FailureHeaders {
        self.rare
            .as_ref()
            .map_or(FailureHeaders::All, |rare| rare.headers)
    }

    /// Its dead letter was too large; `false` where no fewer headers are left.
    pub(in crate::partition) fn use_fewer_headers(&mut self) -> bool {
        let rare = self.rare.get_or_insert_default();
        let fewer = rare.headers.fewer();
        rare.headers = fewer.unwrap_or(rare.headers);
        fewer.is_some()
    }

    /// The retry topic did not take it: nothing is to be written, and nothing will be to that
    /// topic.
    pub(in crate::partition) fn leave_retry_topic_out(&mut self) {
        let rare = self.rare.get_or_insert_default();
        (
            rare.publish,
            rare.publish_failures,
            rare.too_large_for_retry_topic,
        ) = (None, 0, true);
    }

    pub(in crate::partition) fn is_too_large_for_retry_topic(&self) -> bool {
        self.rare
            .as_ref()
            .is_some_and(|rare| rare.too_large_for_retry_topic)
    }

    /// One more write of it has failed; how many did before.
    pub(in crate::partition) fn publish_failed(&mut self) -> u32 {
        let failures = &mut self.rare.get_or_insert_default().publish_failures;
        std::mem::replace(failures, failures.saturating_add(1))
    }

    /// The number of its latest ticket.
    pub(in crate::partition) fn serial(&self) -> u32 {
        self.serial
    }

    pub(in crate::partition) fn next_serial(&mut self) -> u32 {
        self.serial = self.serial.wrapping_add(1);
        self.serial
    }

    /// One more attempt begins.
    pub(in crate::partition) fn start(&mut self, now: Moment) {
        if self.attempts_here == 1 {
            self.rare.get_or_insert_default().first_started = Some(self.started);
        }
        self.started = now;
        self.attempts_here = self.attempts_here.saturating_add(1);
    }

    /// How long ago its first attempt began; where there was none, how long ago it was delivered.
    pub(in crate::partition) fn held_for(&self, now: Moment) -> Duration {
        let first = self.rare.as_ref().and_then(|rare| rare.first_started);
        now.since(first.unwrap_or(self.started))
    }

    pub(in crate::partition) fn bytes(&self) -> usize {
        self.bytes as usize
    }

    /// What it is held by.
    pub(in crate::partition) fn held(&self) -> Held {
        self.tries().map_or(Held::No, Tries::held)
    }

    pub(super) fn hold(&mut self, held: Held) {
        self.tries_mut().hold(held);
    }

    /// Its retry time, as it is written into the retry topic.
    pub(in crate::partition) fn retried_for(&self) -> Duration {
        self.tries().map_or(Duration::ZERO, Tries::retry_time)
    }

    /// The class it was judged by the last time, if it has failed before.
    pub(in crate::partition) fn class(&self) -> Option<ErrorClass> {
        self.tries().map(Tries::class)
    }

    /// Where it failed the last time, as far as that is known.
    pub(in crate::partition) fn place(&self) -> Option<Place> {
        self.tries()?.place()
    }

    pub(in crate::partition) fn tried(&self) -> Tried {
        let tries = self.tries().copied().unwrap_or_default();
        let is_too_large = self.is_too_large_for_retry_topic();
        tries.tried(self.attempts_here, self.rounds(), is_too_large)
    }

    /// Its attempt has failed.
    pub(in crate::partition) fn failed(
        &mut self,
        attempt: FailedAttempt,
        is_bounded: bool,
        standing: Standing,
        patience: Duration,
        now: Moment,
    ) {
        let failed_before = self.attempts_here > 1 || self.rounds() > 0;
        let taken_from = match self.held() {
            _ if is_bounded => Waits::Patience,
            Held::No | Held::Unavailable if failed_before => Waits::Retry,
            _ => Waits::WithoutEnd,
        };
        let ran_for = now.since(self.started);
        self.tries_mut()
            .failed(attempt, ran_for, taken_from, standing, patience);
    }

    /// What held it is over: its attempts count from 0.
    pub(in crate::partition) fn starts_anew(&mut self, patience: Duration) {
        let attempts = self.attempts_here;
        self.tries_mut().start_anew(attempts, patience);
    }

    /// It is to wait before its next attempt.
    pub(in crate::partition) fn waits(&mut self, failure: Failure, delay: Duration, wait: Waits) {
        self.tries_mut().wait(failure, delay, wait);
    }

    fn tries(&self) -> Option<&Tries> {
        self.rare.as_ref().map(|rare| &rare.tries)
    }

    fn tries_mut(&mut self) -> &mut Tries {
        &mut self.rare.get_or_insert_default().tries
    }

    pub(in crate::partition) fn attempts(&self) -> u32 {
        self.rare
            .as_ref()
            .map_or(0, |rare| rare.attempts_before)
            .saturating_add(self.attempts_here)
    }
}

#[cfg(test)]
pub(in crate::partition) const RARE_BYTES: usize = size_of::<Rare>();
