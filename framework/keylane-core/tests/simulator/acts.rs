//! Operators' acts on keys and records at any moment, and what the model expects of them.

use std::collections::BTreeSet;

use keylane_core::{
    ActRefused, ActTime, Activity, FailedAttempt, Failure, LaneOrder, Moment, Offset, OperatorNote,
    PartitionDirectives, RecordOutlook, Settlement, Ticket, Verdict,
};

use crate::broker::LogRecord;
use crate::owner::{Doing, Entry, Owner};
use crate::results::check_settled;
use crate::violation::{Checked, ensure};
use crate::world::{Fault, World};

impl World {
    /// An operator acts on an assigned partition.
    pub(crate) fn act(&mut self, log: usize) -> Checked<()> {
        let Some(owner) = &self.owners[log] else {
            return Ok(());
        };
        let mut pending: Vec<_> = owner.unsettled.keys().copied().collect();
        // What is under way is rare, and the hardest.
        let under_way = |doing| {
            let is_so = |offset: &i64| owner.unsettled[offset].doing == doing;
            pending.iter().copied().filter(is_so).collect::<Vec<_>>()
        };
        let written = under_way(Doing::Publishing);
        let busy = match written.is_empty() {
            true => under_way(Doing::Running),
            false => written,
        };
        if !busy.is_empty() && self.random.percent(60) {
            pending = busy;
        }
        let next = owner.fetch_at;
        let keys: Vec<u64> = owner.unsettled.values().filter_map(Entry::waits).collect();
        let key = match keys.len() {
            0 => self.random.below(5),
            _ if self.random.percent(20) => self.random.below(5),
            waiting => keys[self.random.index(waiting)],
        };
        let key = lane_name(key);
        // Mostly of a pending record; now and then of one that is settled or not read yet.
        let offset = match pending.len() {
            0 => next + self.random.below(3) as i64,
            _ if self.random.percent(20) => {
                (next + self.random.below(6) as i64 - 3).max(owner.start_position())
            }
            _ => pending[self.random.index(pending.len())],
        };
        match self.random.below(7) {
            0 => {
                if !self.directives[log].paused_keys.remove(&key) {
                    self.directives[log].paused_keys.insert(key);
                }
                self.direct(log)
            }
            1 => {
                let skips = &mut self.directives[log].skips;
                if skips.remove(&Offset::new(offset)).is_none() {
                    skips.insert(Offset::new(offset), note().into());
                }
                self.direct(log)
            }
            2 => self.pause_or_resume_key(log, key),
            3 => self.skip(log, offset),
            4 | 5 => self.dead_letter_now(log, offset),
            _ => self.retry_now(log, key),
        }
    }

    /// The owner gets what is directed for its log.
    pub(crate) fn direct(&mut self, log: usize) -> Checked<()> {
        let (directives, now) = (self.directives[log].clone(), self.now);
        let Some(owner) = &mut self.owners[log] else {
            return Ok(());
        };
        owner.given = directives.clone();
        let given = &mut owner.given.skips;
        owner.void.retain(|offset| given.remove(offset).is_some());
        let expected: BTreeSet<i64> = owner
            .unsettled
            .iter()
            .filter(|(offset, entry)| {
                let is_idle = !matches!(entry.doing, Doing::Running | Doing::Publishing);
                is_idle && owner.given.skips.contains_key(&Offset::new(**offset))
            })
            .map(|(&offset, _)| offset)
            .collect();
        let verdicts = owner.partition.direct(directives, now);
        let mut skipped = BTreeSet::new();
        for verdict in verdicts {
            let Verdict::Settled { offset, .. } = verdict else {
                return Err(format!("G12: a directive is answered by {verdict:?}"));
            };
            self.skipped_at_once(log, offset.get(), &verdict)?;
            skipped.insert(offset.get());
        }
        ensure!(
            expected == skipped,
            "G12: {skipped:?} are skipped instead of {expected:?}"
        );
        Ok(())
    }

    fn pause_or_resume_key(&mut self, log: usize, key: u64) -> Checked<()> {
        let Some(owner) = &mut self.owners[log] else {
            return Ok(());
        };
        if self.fault == Fault::ReplacesWhatIsDirected {
            let _ = owner
                .partition
                .direct(PartitionDirectives::default(), self.now);
        }
        if owner.own_keys.remove(&key) {
            let tried = owner.partition.would_resume_key(key, self.now);
            let is_paused = owner.partition.resume_key(key, self.now);
            ensure!(
                (tried.is_paused, tried.is_paused_elsewhere) == (true, is_paused),
                "G12: the dry run of a resume says {tried:?}, and the key is paused: {is_paused}"
            );
            ensure!(
                is_paused == owner.given.paused_keys.contains(&key),
                "G12: key {key} is paused: {is_paused}"
            );
        } else {
            let expected = match owner.draining {
                true => Err(ActRefused::Draining),
                false => Ok(()),
            };
            let tried = owner.partition.would_pause_key(key, self.now).map(drop);
            let paused = owner.partition.pause_key(key, self.now);
            ensure!(
                tried == paused,
                "G12: the dry run of a pause says {tried:?}, and the pause {paused:?}"
            );
            ensure!(
                paused == expected,
                "G12: a pause is answered by {paused:?} instead of {expected:?}"
            );
            if paused.is_ok() {
                owner.own_keys.insert(key);
            }
        }
        if owner.paused_lanes(self.now) > 0 {
            self.count("a key that is paused");
        }
        Ok(())
    }

    fn skip(&mut self, log: usize, offset: i64) -> Checked<()> {
        let now = self.now;
        let Some(owner) = &mut self.owners[log] else {
            return Ok(());
        };
        let entry = owner.unsettled.get(&offset).copied();
        let expected = match entry.map(|entry| entry.doing) {
            _ if owner.draining => Err(ActRefused::Draining),
            Some(Doing::Running) => Ok(ActTime::AfterItsAttempt),
            Some(Doing::Publishing) => Ok(ActTime::AfterItsWrite),
            Some(_) => Ok(ActTime::Now),
            None if owner.is_known(offset) => Err(ActRefused::AlreadySettled),
            None => Ok(ActTime::AtItsDelivery),
        };
        let tried = owner.partition.would_skip(Offset::new(offset), now);
        owner.check_outlook(offset, &tried)?;
        let answer = owner.partition.skip(Offset::new(offset), note(), now);
        let (time, verdict) = match answer {
            Ok((time, verdict)) => (Ok(time), verdict),
            Err(refused) => (Err(refused), None),
        };
        let tried = tried.map(|it| it.time);
        ensure!(
            tried == time,
            "G12: the dry run of a skip says {tried:?}, and the skip {time:?}"
        );
        ensure!(
            time == expected,
            "G12: the skip of {offset}, which is {entry:?}, is answered by {time:?} instead of {expected:?}"
        );
        if time.is_ok() {
            owner.own_skips.insert(offset);
        }
        match verdict {
            Some(verdict) => self.skipped_at_once(log, offset, &verdict),
            None => {
                ensure!(time != Ok(ActTime::Now), "G12: {offset} is not settled");
                Ok(())
            }
        }
    }

    fn dead_letter_now(&mut self, log: usize, offset: i64) -> Checked<()> {
        let now = self.now;
        let has_topic = self.policy().dead_letter_topic;
        let Some(owner) = &mut self.owners[log] else {
            return Ok(());
        };
        let entry = owner.unsettled.get(&offset).copied();
        if entry.is_some_and(|entry| entry.record.theirs) {
            return Ok(());
        }
        let expected = match entry {
            _ if !has_topic => Err(ActRefused::NoDeadLetterTopic),
            _ if owner.draining => Err(ActRefused::Draining),
            None if owner.is_known(offset) => Err(ActRefused::AlreadySettled),
            None => Err(ActRefused::NotDelivered),
            Some(entry) => match entry.doing {
                Doing::Running => Ok(ActTime::AfterItsAttempt),
                Doing::Publishing => Err(ActRefused::BeingWritten),
                _ if owner.is_behind(offset, &entry, now) => Ok(ActTime::AtItsTurn),
                _ => Ok(ActTime::Now),
            },
        };
        let tried = owner
            .partition
            .would_dead_letter_now(Offset::new(offset), now);
        owner.check_outlook(offset, &tried)?;
        let answer = owner.partition.dead_letter_now(Offset::new(offset), now);
        let tried = tried.map(|it| it.time);
        ensure!(
            tried == answer,
            "G12: the dry run of a dead letter says {tried:?}, and the order {answer:?}"
        );
        // Whether what waits to be written goes to the retry topic is no part of the model.
        let is_queued = entry.is_some_and(|entry| {
            matches!(
                entry.doing,
                Doing::ToPublish | Doing::PublishWaitingUntil(_)
            )
        });
        ensure!(
            answer == expected || (is_queued && answer == Err(ActRefused::BeingWritten)),
            "G12: the dead letter of {offset}, which is {entry:?}, is answered by {answer:?} instead of {expected:?}"
        );
        let Ok(time) = answer else {
            return Ok(());
        };
        owner.own_skips.remove(&offset);
        if let Some(entry) = owner.unsettled.get_mut(&offset) {
            self.given_up.insert(entry.record.identity);
            match time {
                ActTime::Now => entry.doing = Doing::ToPublish,
                ActTime::AtItsTurn => (entry.doomed, entry.doing) = (true, Doing::Queued),
                _ => entry.doomed = true,
            }
        }
        self.count(match time {
            ActTime::Now => "a dead letter ordered: at once",
            ActTime::AtItsTurn => "a dead letter ordered: at its turn",
            _ => "a dead letter ordered: of what runs",
        });
        Ok(())
    }

    fn retry_now(&mut self, log: usize, key: u64) -> Checked<()> {
        let now = self.now;
        let Some(owner) = &mut self.owners[log] else {
            return Ok(());
        };
        let tried = owner.partition.would_retry_now(key, now);
        let found = match owner.partition.retry_now(key, now) {
            Ok(found) if !owner.draining => {
                let retried = tried.map(|it| (it.pending, it.running, it.waiting));
                ensure!(
                    retried == Ok((found.pending, found.running, found.retried)),
                    "G12: the dry run of a retry says {tried:?}, and the retry {found:?}"
                );
                found
            }
            Err(ActRefused::Draining) if owner.draining => return Ok(()),
            answer => return Err(format!("G12: a retry is answered by {answer:?}")),
        };
        let has_key = |entry: &&mut Entry| entry.record.key.map(lane_name) == Some(key);
        let (mut pending, mut running, mut retried, mut not_due) = (0, 0, 0, 0);
        for entry in owner.unsettled.values_mut().filter(has_key) {
            pending += 1;
            running += usize::from(entry.doing == Doing::Running);
            entry.record.due = None;
            if let Doing::WaitingUntil(until) = entry.doing {
                let left = until.since(now);
                not_due += usize::from(entry.attempts_here == 0 || left.is_zero());
                if entry.wait_counts {
                    entry.retried_for = entry.retried_for.saturating_sub(left);
                }
            }
            entry.doing = match entry.doing {
                Doing::WaitingUntil(until) if entry.attempts_here > 0 => {
                    retried += usize::from(until > now);
                    Doing::WaitingUntil(now)
                }
                Doing::WaitingUntil(_) => Doing::Queued,
                Doing::PublishWaitingUntil(_) => {
                    retried += 1;
                    Doing::ToPublish
                }
                doing => doing,
            };
        }
        ensure!(
            (found.pending, found.running) == (pending, running)
                && (retried..=retried + not_due).contains(&found.retried),
            "G12: {found:?} instead of {pending} pending, {running} running, {retried} retried, \
             and of {not_due} that are not due"
        );
        if found.retried > 0 {
            self.count("a retry ordered");
        }
        Ok(())
    }

    pub(crate) fn is_to_be_skipped(&self, log: usize, offset: i64) -> bool {
        let owner = self.owners[log].as_ref();
        owner.is_some_and(|owner| owner.is_skipped(offset))
    }

    /// The attempt of a record fails that an operator skips.
    pub(crate) fn skip_at_failure(
        &mut self,
        log: usize,
        ticket: Ticket,
        entry: Entry,
        failure: Failure,
    ) -> Checked<()> {
        let (entropy, now) = (self.random.next(), self.now);
        let Some(owner) = &mut self.owners[log] else {
            return Ok(());
        };
        let guard = &mut self.guards[owner.member].real;
        let attempt = FailedAttempt::from(failure);
        let verdict = owner.partition.fail(ticket, attempt, entropy, now, guard);
        let offset = entry.record.offset;
        check_settled(&verdict, Settlement::SkippedByOperator, offset, &entry)?;
        owner.settle(offset);
        self.was_skipped(log, entry.record);
        self.count("a skip at the end of an attempt");
        Ok(())
    }

    fn skipped_at_once(
        &mut self,
        log: usize,
        offset: i64,
        verdict: &Verdict<usize>,
    ) -> Checked<()> {
        let owner = self.owners[log]
            .as_mut()
            .ok_or("the partition is assigned")?;
        let entry = *owner
            .unsettled
            .get(&offset)
            .ok_or(format!("G12: {offset} is skipped and not pending"))?;
        check_settled(verdict, Settlement::SkippedByOperator, offset, &entry)?;
        owner.settle(offset);
        self.was_skipped(log, entry.record);
        self.count("a skip ordered: at once");
        Ok(())
    }

    /// A record was settled by an operator's order, and told so.
    pub(crate) fn was_skipped(&mut self, log: usize, record: LogRecord) {
        self.given_up.insert(record.identity);
        self.broker.logs[log].settle(record.offset, Settlement::SkippedByOperator);
    }

    pub(crate) fn resume_all_keys(&mut self, log: usize) -> Checked<()> {
        self.directives[log].paused_keys.clear();
        self.direct(log)?;
        if let Some(owner) = &mut self.owners[log] {
            for key in std::mem::take(&mut owner.own_keys) {
                ensure!(
                    !owner.partition.resume_key(key, self.now),
                    "G12: {key} stays paused"
                );
            }
        }
        Ok(())
    }
}

impl Owner {
    pub(crate) fn is_key_paused(&self, key: Option<u64>) -> bool {
        let is_paused = |key| self.given.paused_keys.contains(&key) || self.own_keys.contains(&key);
        key.map(lane_name).is_some_and(is_paused)
    }

    pub(crate) fn is_skipped(&self, offset: i64) -> bool {
        let is_given = self.given.skips.contains_key(&Offset::new(offset));
        is_given || self.own_skips.contains(&offset)
    }

    /// How many lanes would have a record ready, and their key is paused.
    pub(crate) fn paused_lanes(&self, now: Moment) -> usize {
        let turns = self.turns(now);
        let keys = turns.iter().map(|offset| self.unsettled[offset].record.key);
        let paused: BTreeSet<u64> = keys
            .filter(|key| self.is_key_paused(*key))
            .flatten()
            .collect();
        paused.len()
    }

    /// What a dry run says of a record, its key and the others of that.
    fn check_outlook(&self, offset: i64, tried: &Result<RecordOutlook, ActRefused>) -> Checked<()> {
        let Ok(outlook) = tried else { return Ok(()) };
        let entry = self.unsettled.get(&offset);
        let key = entry.and_then(|entry| entry.record.key);
        let is_of_key = |(at, entry): &(&i64, &Entry)| match key {
            Some(_) => entry.record.key == key,
            None => **at == offset,
        };
        let of_key: Vec<_> = self.unsettled.iter().filter(is_of_key).collect();
        let running = of_key.iter().filter(|it| it.1.doing == Doing::Running);
        let expected = (
            entry.is_some(),
            key.map(lane_name),
            of_key.len(),
            running.count(),
        );
        let (is_known, of_key) = (outlook.attempts.is_some(), outlook.of_key);
        ensure!(
            (is_known, outlook.key, of_key.pending, of_key.running) == expected,
            "G12: a dry run says {outlook:?} of {offset}, instead of {expected:?}"
        );
        Ok(())
    }

    /// Whether an offset that is not pending is settled, or was read over.
    fn is_known(&self, offset: i64) -> bool {
        self.inherited.contains(Offset::new(offset)) || self.next.is_some_and(|next| offset < next)
    }

    /// Whether others of its lane go before this record.
    fn is_behind(&self, offset: i64, entry: &Entry, now: Moment) -> bool {
        let Some(key) = entry.record.key else {
            return false;
        };
        if entry.holds_its_lane() {
            return false;
        }
        let mut others = self
            .unsettled
            .iter()
            .filter(|(other, it)| **other != offset && it.record.key == Some(key));
        match self.settings.lane_order {
            LaneOrder::Offset => others.any(|(other, _)| *other < offset),
            // Which one of those that have joined is the head is no part of the model.
            LaneOrder::Due if !entry.is_not_due(now) => self.is_queued(offset),
            LaneOrder::Due => others.any(|(_, it)| it.doing != Doing::Held && !it.is_not_due(now)),
        }
    }

    fn is_queued(&self, offset: i64) -> bool {
        self.partition.pending_records().any(|view| {
            view.offset.get() == offset && matches!(view.activity, Activity::Behind { .. })
        })
    }

    /// Dead letters that were ordered are written when it is the turn of their records.
    pub(crate) fn doomed_at_their_turn(&mut self) {
        let waits = |entry: &Entry| entry.doomed && entry.doing == Doing::Queued;
        if !self.unsettled.values().any(waits) {
            return;
        }
        let written: BTreeSet<i64> = self
            .partition
            .pending_records()
            .filter(|view| view.activity == Activity::Publishing)
            .map(|view| view.offset.get())
            .collect();
        let mut seen = BTreeSet::new();
        let mut their_turn = Vec::new();
        for (&offset, entry) in &self.unsettled {
            let key = entry.record.key;
            let is_first = key.is_none_or(|key| seen.insert(key));
            let is_free = |other: &Entry| other.record.key != key || !other.holds_its_lane();
            let its_turn = match self.settings.lane_order {
                LaneOrder::Offset => is_first,
                LaneOrder::Due => written.contains(&offset) && self.unsettled.values().all(is_free),
            };
            if waits(entry) && its_turn {
                their_turn.push(offset);
            }
        }
        for offset in their_turn {
            if let Some(entry) = self.unsettled.get_mut(&offset) {
                (entry.doomed, entry.doing) = (false, Doing::ToPublish);
            }
        }
    }
}

impl Entry {
    /// Its key, where it waits for a moment.
    fn waits(&self) -> Option<u64> {
        let waits = matches!(
            self.doing,
            Doing::WaitingUntil(_) | Doing::PublishWaitingUntil(_)
        );
        self.record.key.filter(|_| waits)
    }
}

/// By its name in directives and acts.
pub(crate) fn lane_name(key: u64) -> u64 {
    // As the core has it: no lane is 0.
    if key == 0 { u64::MAX } else { key }
}

fn note() -> OperatorNote {
    OperatorNote::new("the simulator", "at random")
}
