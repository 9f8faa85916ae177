//! Records that hold up their partition: the model's own idea of which one that is.

use std::time::Duration;

use keylane_core::{
    BlockerPolicy, Blocking, LaneOrder, Moment, NEARLY_ALL_PERCENT, NEARLY_FULL_PERCENT, Publish,
    Reason,
};

use crate::owner::{Doing, Entry, Owner};
use crate::violation::{Checked, ensure};
use crate::world::World;

impl World {
    pub(crate) fn watch(&mut self, log: usize) -> Checked<()> {
        let now = self.now;
        let longest_backoff = self.policy().backoff.max;
        let Some(owner) = &mut self.owners[log] else {
            return Ok(());
        };
        owner.partition.watch(now);
        while owner.partition.next_alarm().is_some() {}
        let guard = &mut self.guards[owner.member];
        let looked_at = owner.is_looked_at(now);
        let expected = owner.blocker(now).filter(|_| looked_at);
        if looked_at {
            owner.next_blocker_look = now + Duration::from_millis(100);
        }
        let held_nothing = guard.real.holds_nothing(now);
        let (offset, running) = match owner.partition.take_blocker(now, &mut guard.real) {
            None => {
                ensure!(
                    expected.is_none(),
                    "G3: {expected:?} holds up the partition and is not taken"
                );
                return Ok(());
            }
            Some(Blocking::RefusedByGuard) => {
                let holds_nothing = guard.real.holds_nothing(now);
                let waits = expected
                    .and_then(|offset| owner.unsettled.get(&offset))
                    .is_some_and(|entry| entry.waited_for_others);
                ensure!(
                    expected.is_some() && (waits || !holds_nothing),
                    "the guard refuses {expected:?} and holds nothing"
                );
                owner.next_blocker_look = now + longest_backoff;
                self.count("a blocker refused by the guard");
                return Ok(());
            }
            Some(Blocking::Taken(blocker)) => (blocker.offset.get(), blocker.running),
        };
        ensure!(
            expected == Some(offset),
            "{offset} is taken for a blocker instead of {expected:?}"
        );
        ensure!(
            held_nothing,
            "{offset} is taken although the guard holds something"
        );
        let Some(entry) = owner.unsettled.get_mut(&offset) else {
            return Err(format!("{offset} is not pending"));
        };
        let corner = match entry.doing {
            Doing::Running => {
                let attempt = owner
                    .running
                    .iter()
                    .find(|(_, of)| *of == offset)
                    .map(|(ticket, _)| *ticket);
                ensure!(
                    running.is_some() && running == attempt,
                    "{offset}: {running:?} is to be ended, not {attempt:?}"
                );
                entry.blocker = true;
                "a blocker that runs"
            }
            doing => {
                ensure!(
                    running.is_none(),
                    "{offset} is {doing:?} and {running:?} is to be ended"
                );
                entry.doing = Doing::ToPublish;
                if doing == Doing::Parked {
                    "a blocker that has parked"
                } else {
                    "a blocker that waits"
                }
            }
        };
        let identity = entry.record.identity;
        self.given_up.insert(identity);
        self.count(corner);
        Ok(())
    }

    /// A write was requested: a blocker's comes after the end of its attempt, and has the reason
    /// `blocker`.
    pub(crate) fn check_blocker_write(
        &mut self,
        log: usize,
        offset: i64,
        publish: Publish,
    ) -> Checked<()> {
        let Some(owner) = &self.owners[log] else {
            return Ok(());
        };
        let says_so = publish
            == Publish::DeadLetter {
                reason: Reason::Blocker,
            };
        if says_so {
            let runs = owner.running.iter().any(|(_, of)| *of == offset);
            ensure!(!runs, "G2: {offset} is written while its attempt runs");
            let identity = owner
                .unsettled
                .get(&offset)
                .map(|entry| entry.record.identity);
            ensure!(
                identity.is_some_and(|it| self.given_up.contains(&it)),
                "{offset} is written as a blocker and is none"
            );
            self.count("a blocker dead-lettered");
        }
        Ok(())
    }
}

impl Owner {
    fn is_looked_at(&self, now: Moment) -> bool {
        let Some(policy) = self.settings.blocker else {
            return false;
        };
        now >= self.next_blocker_look && self.is_nearly_full(&policy)
    }

    fn settled_ahead(&self) -> usize {
        self.watermark()
            .map_or(0, |watermark| self.settled.range(watermark..).count())
    }

    fn is_nearly_full(&self, policy: &BlockerPolicy) -> bool {
        self.settled_ahead() * 100 >= policy.settled_ahead_limit * NEARLY_FULL_PERCENT
            || self.unsettled.len() * 100 >= policy.pending_limit * NEARLY_FULL_PERCENT
    }

    /// The offset of the record that holds up this partition.
    fn blocker(&self, now: Moment) -> Option<i64> {
        let policy = self
            .settings
            .blocker
            .filter(|policy| self.is_nearly_full(policy))?;
        if self.paused || self.draining || self.stopped {
            return None;
        }
        let (oldest, entry) = self.unsettled.iter().next()?;
        let has_its_key =
            |other: &Entry| entry.record.key.is_some() && other.record.key == entry.record.key;
        let holder = self
            .unsettled
            .iter()
            .find(|(_, other)| has_its_key(other) && other.holds_its_lane());
        let (&offset, entry) = match self.settings.lane_order {
            LaneOrder::Offset => (oldest, entry),
            LaneOrder::Due if entry.is_not_due(now) || entry.doing == Doing::Held => return None,
            LaneOrder::Due => holder.unwrap_or((oldest, entry)),
        };
        let may_be_taken = match entry.doing {
            // Also where an operator has ordered its dead letter.
            Doing::Running => !entry.blocker,
            Doing::WaitingUntil(until) => entry.attempts_here > 0 && until > now,
            Doing::Parked => !entry.refused,
            _ => false,
        };
        let is_paused = self.is_key_paused(entry.record.key);
        if is_paused || !may_be_taken || now.since(entry.since) < policy.after {
            return None;
        }
        let is_in_lane = |other: &Entry| other.doing != Doing::Held && !other.is_not_due(now);
        let joined =
            |other: &Entry| self.settings.lane_order == LaneOrder::Offset || is_in_lane(other);
        let of_its_lane = self
            .unsettled
            .values()
            .filter(|other| has_its_key(other) && joined(other))
            .count()
            .max(1);
        let others = self.unsettled.len() - of_its_lane;
        let settled = self.settled_ahead();
        (settled > 0 && settled * 100 >= (settled + others) * NEARLY_ALL_PERCENT).then_some(offset)
    }
}

impl Entry {
    pub(crate) fn is_not_due(&self, now: Moment) -> bool {
        self.attempts_here == 0 && matches!(self.doing, Doing::WaitingUntil(until) if until > now)
    }
}
