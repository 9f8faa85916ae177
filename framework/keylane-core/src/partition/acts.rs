//! Operators' acts: a key is paused, a record skipped, retried now, or dead-lettered now.
//!
//! No act ends an attempt or a write. What runs or is being written comes to its end first, and an
//! attempt that succeeds, or a write that is acknowledged, settles its record as ever.

use std::time::Duration;

use super::dry_runs::OfKey;
use super::pending::State;
use super::{OperatorNote, Partition, PartitionDirectives, Publish, Settlement, Verdict};
use crate::failure::Reason;
use crate::ledger::Standing;
use crate::offset::Offset;
use crate::time::Moment;

const DEAD_LETTER: Publish = Publish::DeadLetter {
    reason: Reason::Operator,
};

/// When an act on a record takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ActTime {
    /// It has: the record is settled, or next to be written.
    Now,
    /// When the records before it in its lane are settled.
    AtItsTurn,
    /// At the end of the attempt that runs, unless that succeeds.
    AfterItsAttempt,
    /// When the write that is being made has failed. One that is acknowledged settles the record. One
    /// that is reported as failed may have arrived all the same.
    AfterItsWrite,
    /// When the record is delivered.
    AtItsDelivery,
}

/// Why an act on a record is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ActRefused {
    /// The offset is settled, or has no record.
    AlreadySettled,
    /// The record was not delivered yet.
    NotDelivered,
    /// The record is being written to the retry or dead-letter topic.
    BeingWritten,
    /// There is no dead-letter topic.
    NoDeadLetterTopic,
    /// The partition is being given up.
    Draining,
    /// This member has [`MOST_OWN_ORDERS`](crate::MOST_OWN_ORDERS) orders of this kind for the partition.
    TooMany,
}

/// What [`Partition::retry_now`] found of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetriedNow {
    /// Records that waited for a moment, and no longer do.
    pub retried: usize,
    /// Its records that run.
    pub running: usize,
    /// All its pending records.
    pub pending: usize,
}

impl<R> Partition<R> {
    /// Sets the name of a record's key in [`PartitionDirectives`] and operators' acts. Without it
    /// the name is [`Delivery::lane`](crate::Delivery). While keys are paused it is called once
    /// whenever a record becomes ready; a pause calls it for all that are ready.
    pub fn name_keys(&mut self, name: fn(&R) -> Option<u64>) {
        self.key_name = Some(name);
    }

    /// Replaces what is directed from outside. Idempotent. Returns the records that are settled by
    /// it at once.
    ///
    /// Of a paused key nothing starts, and what runs goes on; its records stay in their lane and
    /// count as pending. A record that is to be skipped is settled as soon as it neither runs nor is
    /// being written, unless it is settled by that.
    #[must_use = "a record that is settled gives back what it took"]
    pub fn direct(&mut self, directives: PartitionDirectives, now: Moment) -> Vec<Verdict<R>> {
        self.set_now(now);
        if !self.directed.give(directives) {
            return Vec::new();
        }
        self.look_at_paused_keys();
        let skips = self.directed.given_skips().into_iter();
        skips
            .filter_map(|offset| match self.ledger.standing(offset) {
                Standing::Pending(slot) => self.skip_slot(slot).1,
                _ => None,
            })
            .collect()
    }

    /// What operators order of this member alone: the keys that it pauses and the offsets that it
    /// is still to skip by itself.
    pub fn own_orders(&self) -> PartitionDirectives {
        let mut orders = self.directed.own_orders().clone();
        let skips = &mut orders.skips;
        skips.retain(|&offset, _| self.ledger.standing(offset) != Standing::Settled);
        orders
    }

    /// Takes over what an earlier epoch of the same assignment had as its
    /// [own](Self::own_orders), before anything is delivered. The caller leaves out skips where the
    /// log is another one.
    pub fn inherit_own_orders(&mut self, orders: PartitionDirectives) {
        *self.directed.own() = orders;
    }

    /// Pauses a key until [`resume_key`](Self::resume_key), or the end of the epoch, unless the next
    /// one [inherits](Self::inherit_own_orders) it.
    ///
    /// # Errors
    /// Too many are paused, or the partition is being given up.
    pub fn pause_key(&mut self, key: u64, now: Moment) -> Result<(), ActRefused> {
        self.set_now(now);
        self.check_pause(key)?;
        if self.directed.own().paused_keys.insert(key) {
            self.look_at_paused_keys();
        }
        Ok(())
    }

    /// Ends a [`pause_key`](Self::pause_key). Returns whether the key still is paused, since that is
    /// [directed](Self::direct).
    pub fn resume_key(&mut self, key: u64, now: Moment) -> bool {
        self.set_now(now);
        if self.directed.own().paused_keys.remove(&key) {
            self.look_at_paused_keys();
        }
        self.directed.pauses(key)
    }

    /// Settles a record without an attempt, as [`direct`](Self::direct) does; with its verdict where
    /// that is done at once.
    ///
    /// # Errors
    /// The record is settled, the partition is being given up, or too many are still to be skipped.
    pub fn skip(
        &mut self,
        offset: Offset,
        note: OperatorNote,
        now: Moment,
    ) -> Result<(ActTime, Option<Verdict<R>>), ActRefused> {
        self.set_now(now);
        let time = self.skip_time(offset)?;
        let (ledger, own) = (&self.ledger, &mut self.directed.own().skips);
        own.retain(|&offset, _| ledger.standing(offset) != Standing::Settled);
        own.insert(offset, note.into());
        Ok(match self.ledger.standing(offset) {
            Standing::Pending(slot) => self.skip_slot(slot),
            _ => (time, None),
        })
    }

    /// Who ordered that this offset is skipped, and why.
    pub fn skipped_by(&self, offset: Offset) -> Option<&OperatorNote> {
        self.directed.skip_of(offset)
    }

    /// Writes a record to the dead-letter topic, with the reason `operator`. It is settled by the
    /// acknowledgement, as any dead letter; the next of its lane starts after that. It takes back a
    /// [`skip`](Self::skip), but not a [directed](Self::direct) one, which comes first.
    ///
    /// # Errors
    /// There is no such topic, or no such record, or it is being written already, or the partition is
    /// being given up.
    pub fn dead_letter_now(&mut self, offset: Offset, now: Moment) -> Result<ActTime, ActRefused> {
        self.set_now(now);
        let (slot, time) = self.dead_letter_time(offset)?;
        self.order_dead_letter(slot);
        // The later order counts.
        self.directed.own().skips.remove(&offset);
        Ok(time)
    }

    fn order_dead_letter(&mut self, slot: u32) {
        match self.pending.get(slot).state {
            // Also of a blocker: the order has who and why.
            State::Running | State::Queued => {
                self.pending.get_mut(slot).set_publish(DEAD_LETTER);
            }
            // These are in no lane yet.
            State::NotDue | State::Held => {
                self.take_out(slot);
                self.pending.get_mut(slot).set_publish(DEAD_LETTER);
                self.join_lane(slot);
            }
            _ => {
                self.take_out(slot);
                let _ = self.publish(slot, DEAD_LETTER);
            }
        }
    }

    /// Ends the waiting of a key's records for a back-off or their due time. It gives each of them
    /// one attempt, which counts as any other; also one that the outage guard holds. The time that was
    /// not waited counts neither as retry time nor as patience. A write that waits is tried now.
    /// Where the key is paused, its records wait for that.
    ///
    /// A walk over all pending records, which names the key of each that is not behind another one.
    ///
    /// # Errors
    /// The partition is being given up.
    pub fn retry_now(&mut self, key: u64, now: Moment) -> Result<RetriedNow, ActRefused> {
        self.set_now(now);
        let now = self.now;
        if self.draining {
            return Err(ActRefused::Draining);
        }
        let OfKey { found, mut waiting } = self.of_key(key, now);
        let mut slots: Vec<u32> = waiting.iter().map(|&(_, slot)| slot).collect();
        slots.sort_unstable();
        let timers = self.timers.take_all(&slots);
        waiting.sort_unstable();
        for (_, slot) in waiting {
            let record = self.pending.get_mut(slot);
            let state = record.state;
            // A write's wait is none of the record's.
            if state != State::PublishWaiting {
                let until = timers.get(&slot).copied().or(record.due());
                record.cut_short(now, until.map_or(Duration::ZERO, |it| it.since(now)));
            }
            match state {
                State::NotDue => self.join_lane(slot),
                State::Waiting => self.make_ready(slot),
                State::PublishWaiting => self.queue_publish(slot),
                _ => {}
            }
        }
        Ok(found)
    }

    /// Whether an operator has ordered its dead letter.
    pub(super) fn is_ordered(&self, slot: u32) -> bool {
        self.pending.get(slot).publish() == Some(DEAD_LETTER)
    }

    /// How many keys have records that would be ready, and are paused.
    pub fn paused_keys(&self) -> usize {
        self.pending.count(State::KeyPaused)
    }

    pub(super) fn is_key_paused(&self, slot: u32) -> bool {
        let pauses_keys = self.directed.pauses_keys();
        pauses_keys
            && self
                .name_of(slot)
                .is_some_and(|key| self.directed.pauses(key))
    }

    /// Whether the watermark waits for a record only since its key is paused.
    pub(super) fn waits_for_operator(&self) -> bool {
        self.directed.pauses_keys()
            && self.ledger.oldest().is_some_and(|slot| {
                // At the end of its back-off the head of a paused key starts nothing.
                let waits = |head| {
                    let state = self.pending.get(head).state;
                    matches!(state, State::KeyPaused | State::Waiting)
                };
                self.is_key_paused(slot) && self.head_of_lane_of(slot).is_some_and(waits)
            })
    }

    pub(super) fn name_of(&self, slot: u32) -> Option<u64> {
        let record = self.pending.get(slot);
        match self.key_name {
            Some(name) => name(&record.record),
            None => record.lane(),
        }
    }

    /// Keys were paused or resumed.
    fn look_at_paused_keys(&mut self) {
        for slot in std::mem::take(&mut self.ready) {
            if self.is_key_paused(slot) {
                self.pause_head(slot);
            } else {
                self.ready.push_back(slot);
            }
        }
        let paused = self.pending.iter();
        let mut resumed: Vec<_> = paused
            .filter(|&(slot, record)| record.state == State::KeyPaused && !self.is_key_paused(slot))
            .map(|(slot, record)| (record.offset, slot))
            .collect();
        resumed.sort_unstable();
        for (_, slot) in resumed {
            self.watch_lane(slot);
            self.make_ready(slot);
        }
    }

    /// The key of a head that would be ready is paused.
    pub(super) fn pause_head(&mut self, slot: u32) {
        self.pending.set_state(slot, State::KeyPaused);
        // A suspect will run after the resume, and is not to be acquitted by the pause.
        if !self.has_suspect_in_lane(slot) {
            self.unwatch_lane(slot);
        }
    }

    fn skip_slot(&mut self, slot: u32) -> (ActTime, Option<Verdict<R>>) {
        match self.pending.get(slot).state {
            State::Running | State::Publishing => (self.skip_time_of(slot), None),
            _ => {
                self.take_out(slot);
                let verdict = self.settle(slot, Settlement::SkippedByOperator);
                (ActTime::Now, Some(verdict))
            }
        }
    }

    /// The record neither runs nor is being written: what it waits in forgets it. Its lane does not.
    fn take_out(&mut self, slot: u32) {
        match self.pending.get(slot).state {
            State::Ready => self.ready.retain(|&other| other != slot),
            State::PublishQueued => self.publish_queue.retain(|&other| other != slot),
            state if state.is_waiting() => self.timers.cancel_all(&[slot]),
            _ => {}
        }
    }
}
