//! What operators' acts would find and do. Acts decide by the same functions; nothing changes here.

use super::directives::MOST_OWN_ORDERS;
use super::pending::State;
use super::{ActRefused, ActTime, Partition, Publish, RetriedNow};
use crate::ledger::Standing;
use crate::offset::Offset;
use crate::time::Moment;

/// The records of a key in a partition, as an act on it would find them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyOutlook {
    /// All its pending records.
    pub pending: usize,
    /// Those that run.
    pub running: usize,
    /// Those that wait for a back-off, their due time, or the next try of a write.
    pub waiting: usize,
    /// Whether an operator has paused the key in this member.
    pub is_paused: bool,
    /// Whether the key is paused from outside, as by a control topic.
    pub is_paused_elsewhere: bool,
}

/// A record, as an act on it would find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordOutlook {
    /// When the act would take effect.
    pub time: ActTime,
    /// Its attempts until now; `None` where it was not delivered yet.
    pub attempts: Option<u32>,
    /// The name of its key; `None` where it has none, or was not delivered yet.
    pub key: Option<u64>,
    /// The records of its key, itself among them.
    pub of_key: KeyOutlook,
}

/// The records of a key.
pub(super) struct OfKey {
    pub(super) found: RetriedNow,
    /// Those that wait, or are behind others and would have to wait at their turn.
    pub(super) waiting: Vec<(Offset, u32)>,
}

/// # Dry runs
/// The answers of acts, and what they are about, without the acts.
impl<R> Partition<R> {
    /// What [`pause_key`](Self::pause_key) would find.
    ///
    /// A walk over all pending records, as all of these are.
    ///
    /// # Errors
    /// As of the act.
    pub fn would_pause_key(&self, key: u64, now: Moment) -> Result<KeyOutlook, ActRefused> {
        self.check_pause(key)?;
        Ok(self.key_outlook(key, now))
    }

    /// What [`resume_key`](Self::resume_key) would find.
    pub fn would_resume_key(&self, key: u64, now: Moment) -> KeyOutlook {
        self.key_outlook(key, now)
    }

    /// What [`retry_now`](Self::retry_now) would find.
    ///
    /// # Errors
    /// As of the act.
    pub fn would_retry_now(&self, key: u64, now: Moment) -> Result<KeyOutlook, ActRefused> {
        match self.draining {
            true => Err(ActRefused::Draining),
            false => Ok(self.key_outlook(key, now)),
        }
    }

    /// What [`skip`](Self::skip) would find.
    ///
    /// # Errors
    /// As of the act.
    pub fn would_skip(&self, offset: Offset, now: Moment) -> Result<RecordOutlook, ActRefused> {
        let time = self.skip_time(offset)?;
        Ok(self.record_outlook(offset, time, now))
    }

    /// What [`dead_letter_now`](Self::dead_letter_now) would find.
    ///
    /// # Errors
    /// As of the act.
    pub fn would_dead_letter_now(
        &self,
        offset: Offset,
        now: Moment,
    ) -> Result<RecordOutlook, ActRefused> {
        let (_, time) = self.dead_letter_time(offset)?;
        Ok(self.record_outlook(offset, time, now))
    }

    fn key_outlook(&self, key: u64, now: Moment) -> KeyOutlook {
        let RetriedNow {
            retried,
            running,
            pending,
        } = self.of_key(key, now.max(self.now)).found;
        let (is_paused, is_paused_elsewhere) = self.directed.pauses_by_source(key);
        KeyOutlook {
            pending,
            running,
            waiting: retried,
            is_paused,
            is_paused_elsewhere,
        }
    }

    fn record_outlook(&self, offset: Offset, time: ActTime, now: Moment) -> RecordOutlook {
        let Standing::Pending(slot) = self.ledger.standing(offset) else {
            let (attempts, key, of_key) = (None, None, KeyOutlook::default());
            return RecordOutlook {
                time,
                attempts,
                key,
                of_key,
            };
        };
        let (record, key) = (self.pending.get(slot), self.name_of(slot));
        // A record without a key is the only one of its lane.
        let alone = || KeyOutlook {
            pending: 1,
            running: usize::from(record.state == State::Running),
            waiting: usize::from(record.state.is_waiting()),
            ..KeyOutlook::default()
        };
        RecordOutlook {
            time,
            attempts: Some(record.attempts()),
            key,
            of_key: key.map_or_else(alone, |key| self.key_outlook(key, now)),
        }
    }

    pub(super) fn check_pause(&self, key: u64) -> Result<(), ActRefused> {
        let paused = &self.directed.own_orders().paused_keys;
        match paused.len() >= MOST_OWN_ORDERS && !paused.contains(&key) {
            _ if self.draining => Err(ActRefused::Draining),
            true => Err(ActRefused::TooMany),
            false => Ok(()),
        }
    }

    /// When a skip of this offset takes effect.
    pub(super) fn skip_time(&self, offset: Offset) -> Result<ActTime, ActRefused> {
        let time = match self.ledger.standing(offset) {
            _ if self.draining => return Err(ActRefused::Draining),
            Standing::Settled => return Err(ActRefused::AlreadySettled),
            Standing::Pending(slot) => self.skip_time_of(slot),
            Standing::NotDelivered => ActTime::AtItsDelivery,
        };
        let own = &self.directed.own_orders().skips;
        // Most are far from full, and those that are settled are forgotten with the next one.
        if own.len() >= MOST_OWN_ORDERS && !own.contains_key(&offset) {
            let is_open = |offset: &&Offset| self.ledger.standing(**offset) != Standing::Settled;
            if own.keys().filter(is_open).count() >= MOST_OWN_ORDERS {
                return Err(ActRefused::TooMany);
            }
        }
        Ok(time)
    }

    pub(super) fn skip_time_of(&self, slot: u32) -> ActTime {
        match self.pending.get(slot).state {
            State::Running => ActTime::AfterItsAttempt,
            State::Publishing => ActTime::AfterItsWrite,
            _ => ActTime::Now,
        }
    }

    /// When a dead letter that is ordered for this offset takes effect, and for which slot.
    pub(super) fn dead_letter_time(&self, offset: Offset) -> Result<(u32, ActTime), ActRefused> {
        if !self.settings.retry.dead_letter_topic {
            return Err(ActRefused::NoDeadLetterTopic);
        }
        let slot = match self.ledger.standing(offset) {
            _ if self.draining => return Err(ActRefused::Draining),
            Standing::Pending(slot) => slot,
            Standing::Settled => return Err(ActRefused::AlreadySettled),
            Standing::NotDelivered => return Err(ActRefused::NotDelivered),
        };
        let record = self.pending.get(slot);
        let is_dead_letter = matches!(record.publish(), Some(Publish::DeadLetter { .. }));
        let time = match record.state {
            State::Publishing => return Err(ActRefused::BeingWritten),
            State::PublishQueued | State::PublishWaiting if is_dead_letter => {
                return Err(ActRefused::BeingWritten);
            }
            State::Running => ActTime::AfterItsAttempt,
            State::Queued => ActTime::AtItsTurn,
            // These are in no lane yet.
            State::NotDue | State::Held if !self.lanes.is_empty(record.lane()) => {
                ActTime::AtItsTurn
            }
            _ => ActTime::Now,
        };
        Ok((slot, time))
    }

    /// What there is of a key: a walk over all pending records, which names the key of each that is
    /// not behind another one.
    pub(super) fn of_key(&self, key: u64, now: Moment) -> OfKey {
        let mut found = RetriedNow::default();
        let (mut waiting, mut lane) = (Vec::new(), None);
        for (slot, record) in self.pending.iter() {
            let is_early = record.due().is_some_and(|due| due > now);
            // What is behind others has the key of the head of its lane.
            let is_behind = record.state == State::Queued && !is_early;
            if is_behind || self.name_of(slot) != Some(key) {
                continue;
            }
            lane = lane.or(record.lane());
            found.pending += 1;
            found.running += usize::from(record.state == State::Running);
            found.retried += usize::from(record.state.is_waiting());
            if record.state.is_waiting() || is_early {
                waiting.push((record.offset, slot));
            }
        }
        found.pending += lane.map_or(0, |lane| self.count_behind(lane, now));
        OfKey { found, waiting }
    }

    /// How many of this lane are behind others, and need wait for no moment then.
    fn count_behind(&self, lane: u64, now: Moment) -> usize {
        let behind = self.pending.iter().filter(|(_, record)| {
            let is_early = record.due().is_some_and(|due| due > now);
            record.state == State::Queued && !is_early && record.lane() == Some(lane)
        });
        behind.count()
    }
}
