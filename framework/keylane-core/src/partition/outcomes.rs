//! Results come in: what becomes of their records.

use std::time::Duration;

use super::pending::{Held, State, Waits};
use super::watch::CLEARED_BY_FAILURES;
use super::{ParkReason, Partition, Publish, PublishResult, Settlement, Success, Ticket, Verdict};
use crate::failed_attempt::{ErrorClass, FailedAttempt};
use crate::failure::{Failure, Reason};
use crate::outage_guard::{HeldBy, OutageGuard};
use crate::retry_policy::Decision;
use crate::time::Moment;

impl<R> Partition<R> {
    /// An attempt succeeded: its record is settled, and the next of its lane may start.
    ///
    /// The [`OutageGuard`] gets it by [`report_to_guard`](Self::report_to_guard), in batches of the caller's
    /// choice.
    pub fn succeed(&mut self, ticket: Ticket, outcome: Success) -> Verdict<R> {
        if !self.is_current(ticket, State::Running) {
            return Verdict::Stale;
        }
        self.attempt_ended(ticket.slot);
        self.note_success(ticket.slot);
        let outcome = match outcome {
            Success::Done => Settlement::Done,
            Success::Skipped => Settlement::Skipped,
        };
        self.settle(ticket.slot, outcome)
    }

    /// An attempt failed: the [`RetryPolicy`](crate::RetryPolicy) decides, and the guard where the
    /// policy would give the record up. `entropy` is any random number, for jitter.
    ///
    /// The caller fails a timed-out attempt; a later result of the attempt itself is stale.
    pub fn fail(
        &mut self,
        ticket: Ticket,
        attempt: FailedAttempt,
        entropy: u64,
        now: Moment,
        guard: &mut OutageGuard,
    ) -> Verdict<R> {
        self.set_now(now);
        if !self.is_current(ticket, State::Running) {
            return Verdict::Stale;
        }
        let slot = ticket.slot;
        self.attempt_ended(slot);
        if self.is_to_be_skipped(slot) {
            return self.settle(slot, Settlement::SkippedByOperator);
        }
        if let Some(publish) = self.pending.get(slot).publish() {
            return self.publish(slot, publish);
        }
        if self.pending.get(slot).attempts_here >= CLEARED_BY_FAILURES {
            self.unwatch(slot);
        }
        let attempt = self.with_place(slot, attempt);
        let lane = self.note_failure(slot, attempt, guard);
        let attempt = self.judged_by(slot, attempt, guard);
        let tried = self.pending.get(slot).tried();
        match self
            .settings
            .retry
            .decide(attempt, tried, entropy, self.now, guard)
        {
            Decision::Wait { delay, held } => {
                let wait = match held {
                    None => Waits::Retry,
                    Some(by) if guard.is_bounded(by) => Waits::Patience,
                    Some(_) => Waits::WithoutEnd,
                };
                self.pending
                    .get_mut(slot)
                    .waits(attempt.failure, delay, wait);
                self.hold(slot, attempt.failure, held);
                guard.expects(lane, self.now + delay);
                self.wait_until(self.now + delay, slot, State::Waiting);
                Verdict::Waiting { delay, held }
            }
            Decision::RetryTopic { round, delay } => {
                // Without a key the record is another lane in the retry topic, and must not count
                // twice.
                match self.pending.get(slot).lane() {
                    Some(_) => guard.expects(lane, self.now + delay),
                    None => guard.forgets_at(lane, self.now + delay),
                }
                self.pending
                    .get_mut(slot)
                    .waits(attempt.failure, delay, Waits::Retry);
                self.publish(slot, Publish::Retry { round, delay })
            }
            Decision::DeadLetter(reason) => {
                self.give_up(lane, reason, guard);
                self.publish(slot, Publish::DeadLetter { reason })
            }
            Decision::ParkByPolicy(reason) => {
                self.give_up(lane, reason, guard);
                self.park(slot, ParkReason::Policy(reason))
            }
            Decision::ParkForLackOfTopic => self.park(slot, ParkReason::NoDeadLetterTopic),
            Decision::Stop(reason) => {
                let offset = self.pending.get(slot).offset;
                self.stopped = true;
                self.pending.set_held(slot, Held::No);
                self.hold_for_good(slot);
                Verdict::Stop { reason, offset }
            }
        }
    }

    /// A time-out and a panic name no place: it is where the record failed before. So it is with
    /// every failure of a record that is held by a place.
    fn with_place(&self, slot: u32, attempt: FailedAttempt) -> FailedAttempt {
        let names_none = matches!(attempt.failure, Failure::TimedOut | Failure::Panicked);
        let record = self.pending.get(slot);
        let before = record
            .place()
            .filter(|_| names_none || record.held() == Held::Place);
        FailedAttempt {
            place: attempt.place.or(before),
            ..attempt
        }
    }

    /// Brings the record up to date, and returns the class by which it is judged. One record may
    /// fail with different errors in an outage: its earlier class counts while that class is in an
    /// outage.
    fn judged_by(
        &mut self,
        slot: u32,
        attempt: FailedAttempt,
        guard: &mut OutageGuard,
    ) -> FailedAttempt {
        let standing = guard.standing(self.now);
        let before = self.pending.get(slot).class();
        let stays =
            |before: &ErrorClass| !guard.is_class_out(attempt.class) && guard.is_class_out(*before);
        let class = before.filter(stays).unwrap_or(attempt.class);
        let attempt = FailedAttempt { class, ..attempt };
        let now = self.now;
        let pending = self.pending.get_mut(slot);
        let held_by = match pending.held() {
            Held::Outage => Some(HeldBy::Outage),
            Held::Place => Some(attempt.place.map_or(HeldBy::Outage, HeldBy::Place)),
            Held::Class => Some(HeldBy::Class(class)),
            Held::Deployment => Some(HeldBy::Deployment),
            Held::No | Held::Unavailable => None,
        };
        pending.failed(
            attempt,
            held_by.is_some_and(|by| guard.is_bounded(by)),
            standing,
            guard.patience(),
            now,
        );
        if attempt.failure.is_retryable() && held_by.is_some_and(|by| guard.is_over(by, now)) {
            pending.starts_anew(guard.patience());
        }
        attempt
    }

    fn hold(&mut self, slot: u32, failure: Failure, held: Option<HeldBy>) {
        let before = self.pending.get(slot).held();
        let says_nothing = matches!(failure, Failure::Unavailable { .. });
        let held = match held {
            // It stays held by what held it before.
            _ if says_nothing && !matches!(before, Held::No | Held::Unavailable) => before,
            None => Held::No,
            Some(HeldBy::Outage) => Held::Outage,
            Some(HeldBy::Place(_)) => Held::Place,
            Some(HeldBy::Class(_)) => Held::Class,
            Some(HeldBy::Deployment) => Held::Deployment,
            Some(HeldBy::Unavailable) => Held::Unavailable,
        };
        self.pending.set_held(slot, held);
    }

    /// With an action of the policy for this very reason, the record is no evidence about the
    /// deployment.
    fn give_up(&mut self, lane: u64, reason: Reason, guard: &mut OutageGuard) {
        if self.settings.retry.on.of(reason).is_none() {
            guard.gave_up(lane, reason, self.now);
        }
    }

    /// A write to the retry or dead-letter topic is over. Only its acknowledgement settles the
    /// record.
    pub fn publish_finished(
        &mut self,
        ticket: Ticket,
        result: PublishResult,
        entropy: u64,
        now: Moment,
    ) -> Verdict<R> {
        self.set_now(now);
        if !self.is_current(ticket, State::Publishing) {
            return Verdict::Stale;
        }
        let slot = ticket.slot;
        match result {
            _ if result != PublishResult::Acknowledged && self.is_to_be_skipped(slot) => {
                self.settle(slot, Settlement::SkippedByOperator)
            }
            PublishResult::Acknowledged => {
                let outcome = match self.pending.get(slot).publish() {
                    Some(Publish::Retry { .. }) => Settlement::Retried,
                    _ => Settlement::DeadLettered,
                };
                self.settle(slot, outcome)
            }
            PublishResult::Failed => {
                let delay = self.publish_delay(slot, entropy);
                self.wait_until(self.now + delay, slot, State::PublishWaiting);
                Verdict::Waiting { delay, held: None }
            }
            PublishResult::Refused => self.park(slot, ParkReason::Refused),
            PublishResult::TooLarge => self.was_too_large(slot),
        }
    }

    /// The topic of its write does not take a record of this size.
    fn was_too_large(&mut self, slot: u32) -> Verdict<R> {
        let pending = self.pending.get_mut(slot);
        if let Some(Publish::Retry { delay, .. }) = pending.publish() {
            // Not to the dead-letter topic at once: what ended the attempt may be an outage.
            // The next failure is decided by the policy and the guard, without the retry topic.
            pending.leave_retry_topic_out();
            self.wait_until(self.now + delay, slot, State::Waiting);
            return Verdict::Waiting { delay, held: None };
        }
        if !pending.use_fewer_headers() {
            return self.park(slot, ParkReason::TooLarge);
        }
        self.queue_publish(slot);
        Verdict::Publishing
    }

    pub(super) fn is_current(&self, ticket: Ticket, state: State) -> bool {
        ticket.epoch == self.epoch && self.pending.is_current(ticket, state)
    }

    /// Settles as foreign those held records that are found to be so by now.
    ///
    /// Takes a walk over the pending records where any are held: to be called when something has
    /// been learnt.
    pub fn settle_held(&mut self, mut is_foreign: impl FnMut(&R) -> bool) -> Vec<Verdict<R>> {
        if self.held() == 0 {
            return Vec::new();
        }
        let held = self
            .pending
            .iter()
            .filter(|(_, record)| record.state == State::Held);
        let foreign: Vec<u32> = held
            .filter(|(_, held)| is_foreign(&held.record))
            .map(|(slot, _)| slot)
            .collect();
        foreign
            .into_iter()
            .map(|slot| self.settle(slot, Settlement::Foreign))
            .collect()
    }

    pub(super) fn settle(&mut self, slot: u32, outcome: Settlement) -> Verdict<R> {
        self.unwatch(slot);
        let is_by_operator = outcome == Settlement::SkippedByOperator
            || (outcome == Settlement::DeadLettered && self.is_ordered(slot));
        if is_by_operator {
            self.note_given_up(slot);
        }
        self.news.settled(self.pending.get(slot));
        let pending = self.pending.remove(slot);
        self.cautious.settled(pending.offset);
        self.ledger.settle(pending.sequence);
        let lane = pending.lane();
        let next = match pending.state {
            // In no lane.
            State::Held | State::NotDue => None,
            State::Queued => {
                self.lanes.remove(lane, slot);
                None
            }
            _ => self.lanes.leave(lane, slot),
        };
        if let Some(head) = next {
            self.make_head(head);
        }
        let attempts = pending.attempts();
        Verdict::Settled {
            outcome,
            offset: pending.offset,
            attempts,
            record: pending.record,
        }
    }

    fn is_to_be_skipped(&self, slot: u32) -> bool {
        self.skipped_by(self.pending.get(slot).offset).is_some()
    }

    pub(super) fn publish(&mut self, slot: u32, publish: Publish) -> Verdict<R> {
        self.pending.set_held(slot, Held::No);
        self.pending.get_mut(slot).set_publish(publish);
        self.unwatch(slot);
        self.queue_publish(slot);
        Verdict::Publishing
    }

    fn publish_delay(&mut self, slot: u32, entropy: u64) -> Duration {
        let failures = self.pending.get_mut(slot).publish_failed();
        self.settings.publish_backoff.delay(failures, entropy)
    }

    fn park(&mut self, slot: u32, reason: ParkReason) -> Verdict<R> {
        self.pending.set_held(slot, Held::No);
        self.hold_for_good(slot);
        Verdict::Parked { reason }
    }
}
