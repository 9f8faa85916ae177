//! Results come in: what becomes of their records.

use std::time::Duration;

use super::pending::State;
use super::watch::CLEARED_BY_FAILURES;
use super::{ParkReason, Partition, Publish, PublishResult, Settlement, Success, Ticket, Verdict};
use crate::failure::Failure;
use crate::retry_policy::{Decision, Tried};
use crate::storm_guard::StormGuard;
use crate::time::Moment;

impl<R> Partition<R> {
    /// An attempt succeeded: its record is settled, and the next of its lane has its turn.
    ///
    /// The caller tells the [`StormGuard`] of successes, in whatever batches suit it.
    pub fn succeed(&mut self, ticket: Ticket, outcome: Success) -> Verdict<R> {
        if !self.is_current(ticket, State::Running) {
            return Verdict::Stale;
        }
        self.attempt_ended(ticket.slot);
        let outcome = match outcome {
            Success::Done => Settlement::Done,
            Success::Skipped => Settlement::Skipped,
        };
        self.settle(ticket.slot, outcome)
    }

    /// An attempt failed: the [`RetryPolicy`](crate::RetryPolicy) decides. `entropy` is any random number, for jitter.
    ///
    /// A timed-out attempt is failed by its caller; what the attempt itself says later is stale.
    pub fn fail(
        &mut self,
        ticket: Ticket,
        failure: Failure,
        entropy: u64,
        now: Moment,
        guard: &mut StormGuard,
    ) -> Verdict<R> {
        self.tell(now);
        if !self.is_current(ticket, State::Running) {
            return Verdict::Stale;
        }
        let slot = ticket.slot;
        self.attempt_ended(slot);
        if let Some(publish) = self.pending.get(slot).publish() {
            return self.publish(slot, publish);
        }
        if self.pending.get(slot).attempts_here >= CLEARED_BY_FAILURES {
            self.unwatch(slot);
        }
        let pending = self.pending.get(slot);
        let tried = Tried {
            attempts_here: pending.attempts_here,
            rounds: pending.rounds(),
            too_large_for_topic: pending.is_too_large_for_retry_topic(),
        };
        match self.settings.retry.decide(failure, tried, entropy, guard) {
            Decision::Wait { delay, refused_by_guard } => {
                self.wait_until(self.now + delay, slot, State::Waiting);
                Verdict::Waiting { delay, refused_by_guard }
            }
            Decision::RetryTopic { round, delay } => self.publish(slot, Publish::Retry { round, delay }),
            Decision::DeadLetter(reason) => self.publish(slot, Publish::DeadLetter { reason }),
            Decision::ParkByPolicy(reason) => self.park(slot, ParkReason::Policy(reason)),
            Decision::ParkForLackOfTopic => self.park(slot, ParkReason::NoDeadLetterTopic),
            Decision::Stop(reason) => {
                let offset = self.pending.get(slot).offset;
                self.stopped = true;
                self.hold_for_good(slot);
                Verdict::Stop { reason, offset }
            }
        }
    }

    /// A write to the retry or dead-letter topic is over. Only its acknowledgement settles the record.
    pub fn publish_finished(&mut self, ticket: Ticket, result: PublishResult, entropy: u64, now: Moment) -> Verdict<R> {
        self.tell(now);
        if !self.is_current(ticket, State::Publishing) {
            return Verdict::Stale;
        }
        let slot = ticket.slot;
        match result {
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
                Verdict::Waiting { delay, refused_by_guard: false }
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
            return Verdict::Waiting { delay, refused_by_guard: false };
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
    /// Takes a walk over the pending records where any are held: to be called when something has been learnt.
    pub fn settle_held(&mut self, mut is_foreign: impl FnMut(&R) -> bool) -> Vec<Verdict<R>> {
        if self.held() == 0 {
            return Vec::new();
        }
        let held = self.pending.iter().filter(|(_, record)| record.state == State::Held);
        let foreign: Vec<u32> = held.filter(|(_, held)| is_foreign(&held.record)).map(|(slot, _)| slot).collect();
        foreign.into_iter().map(|slot| self.settle(slot, Settlement::Foreign)).collect()
    }

    pub(super) fn settle(&mut self, slot: u32, outcome: Settlement) -> Verdict<R> {
        self.unwatch(slot);
        let pending = self.pending.remove(slot);
        self.cautious.settled(pending.offset);
        self.ledger.settle(pending.sequence);
        let in_lane = pending.state != State::Held;
        if let Some(head) = in_lane.then(|| self.lanes.leave(pending.lane(), slot)).flatten() {
            self.make_head(head);
        }
        let attempts = pending.attempts();
        Verdict::Settled { outcome, offset: pending.offset, attempts, record: pending.record }
    }

    pub(super) fn publish(&mut self, slot: u32, publish: Publish) -> Verdict<R> {
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
        self.hold_for_good(slot);
        Verdict::Parked { reason }
    }
}
