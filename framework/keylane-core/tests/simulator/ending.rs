//! The end of a run: nothing more goes wrong, everything finishes, and every record is where it
//! belongs.

use std::collections::BTreeSet;
use std::time::Duration;

use keylane_core::{Exhausted, Offset, Paused, Position, commit_map};

use crate::broker::LOGS;
use crate::owner::Doing;
use crate::plan::Ending;
use crate::violation::{Checked, ensure};
use crate::world::{MEMBERS, World};

/// Far above what the longest chain of waits takes.
const MAX_ROUNDS: usize = 50_000;

impl World {
    pub(crate) fn end(&mut self) -> Checked<()> {
        self.calm = true;
        for _ in 0..MAX_ROUNDS {
            for log in LOGS {
                self.calm_round(log)?;
            }
            for member in 0..MEMBERS {
                self.fail_if_stopped(member);
                self.look(member)?;
                if self.is_giving_back(member) {
                    self.tick(self.now + Duration::from_millis(50));
                }
            }
            self.calm_neighbours()?;
            self.check()?;
            if LOGS.iter().all(|&log| self.is_finished(log)) {
                return self.check_ending();
            }
            let deadlines = self
                .owners
                .iter()
                .flatten()
                .filter_map(|owner| owner.partition.next_deadline());
            if let Some(next) = deadlines.min() {
                self.tick(next.max(self.now));
            }
        }
        let left: Vec<_> = self
            .owners
            .iter()
            .flatten()
            .map(|owner| &owner.unsettled)
            .collect();
        Err(format!("G3: the run does not come to an end: {left:?}"))
    }

    fn calm_round(&mut self, log: usize) -> Checked<()> {
        self.assign(log)?;
        // Other partitions of the member are doing well.
        let now = self.now;
        self.guards.iter_mut().for_each(|guard| guard.succeed(now));
        if let Some(owner) = &mut self.owners[log] {
            owner.paused = false;
            owner.partition.set_paused(Paused::No);
        }
        self.resume_all_keys(log)?;
        self.fetch(log)?;
        while self.start(log)?
            || self.finish_attempt(log)?
            || self.take_write(log)?
            || self.finish_write(log)?
        {
            // No attempt of a draining partition fails for ever: each is handed back after its
            // failure.
        }
        self.late_result()
    }

    /// All that is read is settled, but for records that never will be and those behind them.
    fn is_finished(&self, log: usize) -> bool {
        let Some(owner) = &self.owners[log] else {
            return false;
        };
        if owner.draining || !self.broker.logs[log].read(owner.fetch_at, 1).is_empty() {
            return false;
        }
        let mut stuck_keys = BTreeSet::new();
        let mut stuck = BTreeSet::new();
        for (&offset, entry) in &owner.unsettled {
            let ending = self.plans[entry.record.identity].ending(self.policy());
            let given_up = self.given_up.contains(&entry.record.identity);
            let is_stuck = match ending {
                _ if given_up && entry.doing == Doing::Parked => true,
                Ending::Parked => entry.doing == Doing::Parked,
                Ending::Foreign => entry.doing == Doing::Held && self.may_hold_theirs(),
                // It has had its retries, and waits at the cap.
                Ending::Retrying => {
                    matches!(entry.doing, Doing::WaitingUntil(_)) && entry.attempts_here > 3
                }
                _ => false,
            };
            if is_stuck {
                stuck.insert(offset);
            }
            if is_stuck && entry.doing != Doing::Held {
                stuck_keys.extend(entry.record.key);
            }
        }
        owner.unsettled.iter().all(|(offset, entry)| {
            let behind = entry
                .record
                .key
                .is_some_and(|key| stuck_keys.contains(&key));
            stuck.contains(offset)
                || (entry.doing == Doing::Queued && behind)
                || (behind && self.is_not_due(entry.doing))
        })
    }

    fn is_not_due(&self, doing: Doing) -> bool {
        matches!(doing, Doing::WaitingUntil(_))
    }

    fn check_ending(&mut self) -> Checked<()> {
        for identity in (0..self.plans.len())
            .filter(|identity| !self.cut_away.contains(identity))
            .collect::<Vec<_>>()
        {
            let ending = self.plans[identity].ending(self.policy());
            let words = self.words(identity);
            let held = self
                .owners
                .iter()
                .flatten()
                .flat_map(|owner| owner.unsettled.values());
            let held: Vec<_> = held
                .filter(|entry| entry.record.identity == identity)
                .map(|entry| entry.doing)
                .collect();
            let dead = self.broker.dead_letters.contains_key(&identity);
            let (good, may_be_dead) = match ending {
                Ending::Done => (words.contains("done"), false),
                Ending::Skipped => (words.contains("skipped"), false),
                Ending::DeadLettered => (words.contains("dead-lettered") && dead, true),
                Ending::Parked => (held.contains(&Doing::Parked), false),
                Ending::Foreign => (
                    words.contains("foreign") || held.contains(&Doing::Held),
                    false,
                ),
                Ending::Retrying => (
                    held.iter()
                        .any(|doing| matches!(doing, Doing::WaitingUntil(_))),
                    false,
                ),
            };
            let corner = match ending {
                Ending::Done => "an end: done",
                Ending::Skipped => "an end: skipped",
                Ending::DeadLettered => "an end: dead-lettered",
                Ending::Parked => "an end: parked",
                Ending::Retrying => "an end: retried for ever",
                Ending::Foreign if held.contains(&Doing::Held) => "an end: held",
                Ending::Foreign => "an end: foreign",
            };
            if good {
                self.count(corner);
            }
            if self.given_up.contains(&identity) {
                ensure!(
                    good || dead || !held.is_empty() || words.contains("skipped by an operator"),
                    "G1: record {identity} was given up and is nowhere: {words:?}"
                );
                continue;
            }
            ensure!(
                good || !held.is_empty(),
                "G1: record {identity} was to be {ending:?} and is nowhere: {words:?}"
            );
            // A record that was repaired after a stop may have gone any way before.
            let repaired = self.policy().on_exhausted == Exhausted::Stop;
            ensure!(
                may_be_dead || !dead || repaired,
                "record {identity} is {ending:?} and dead-lettered"
            );
            let wrong = match ending {
                Ending::Done => words.contains("skipped"),
                Ending::Skipped => words.contains("done"),
                _ => words.contains("done") || words.contains("skipped"),
            };
            ensure!(
                !wrong,
                "record {identity} was to be {ending:?} and is {words:?}"
            );
        }
        self.check_theirs()?;
        LOGS.into_iter()
            .try_for_each(|log| self.check_last_hand_over(log))
    }

    /// How a record was settled, over all its copies.
    fn words(&self, identity: usize) -> BTreeSet<&'static str> {
        let mut words = BTreeSet::new();
        for log in &self.broker.logs {
            for record in log
                .records
                .iter()
                .filter(|record| record.identity == identity)
            {
                words.extend(log.settled.get(&record.offset).into_iter().flatten());
            }
        }
        words
    }

    /// G4: a new owner gets all that is settled, as far as the map reaches, and nothing else.
    fn check_last_hand_over(&mut self, log: usize) -> Checked<()> {
        let Some(owner) = &self.owners[log] else {
            return Ok(());
        };
        let Some(commit) = owner.commit(&self.broker.logs[log], usize::MAX)? else {
            return Ok(());
        };
        let map = commit_map::decode(Position::new(commit.position), &commit.metadata)
            .map_err(|error| error.to_string())?
            .settled;
        let start = self.broker.logs[log].confirmed(commit.position, commit.leader_epoch);
        for record in &self.broker.logs[log].records {
            let again = record.offset >= start && !map.contains(Offset::new(record.offset));
            let held = owner.unsettled.contains_key(&record.offset);
            ensure!(
                again == held,
                "G4: offset {} comes again: {again}, unsettled: {held}",
                record.offset
            );
        }
        Ok(())
    }
}
