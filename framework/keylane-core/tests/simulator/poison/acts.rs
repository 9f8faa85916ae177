//! Operators' acts while records kill their processes.
//!
//! What is directed holds for a log, in whichever process, as by a control topic; what is ordered of
//! one owner ends with its assignment.

use keylane_core::{
    ActRefused, ActTime, Moment, Offset, OperatorNote, PartitionDirectives, Settlement, Verdict,
};

use super::Fault;
use super::process::Process;
use super::subscription::Owner;
use super::world::World;
use crate::acts::lane_name;

impl World {
    /// An operator acts on a partition; at the last time all pauses end, so that the run does.
    pub(super) fn operate(&mut self, process: &mut Process, log: usize) {
        self.chances.acts_left -= 1;
        if self.chances.acts_left == 0 {
            let paused = self.logs.iter_mut().map(|log| &mut log.directives);
            paused.for_each(|directives| directives.paused_keys.clear());
            return;
        }
        let lanes = &self.logs[log].lanes;
        let key = lane_name(lanes[self.random.index(lanes.len())]);
        let offset = self.any_offset(process.owner(log));
        forget_turn(process.owner(log));
        match self.random.below(8) {
            0 | 1 => {
                let paused = &mut self.logs[log].directives.paused_keys;
                if !paused.remove(&key) {
                    paused.insert(key);
                    self.pauses += 1;
                }
            }
            2 => {
                let skips = &mut self.logs[log].directives.skips;
                if skips.remove(&Offset::new(offset)).is_none() {
                    skips.insert(Offset::new(offset), note().into());
                }
            }
            3 => {
                self.pauses += 1;
                pause_or_resume(process.owner(log), key, self.now);
            }
            4 => self.skip(process, log, offset),
            5 | 6 => self.dead_letter(process, log, offset),
            _ => {
                let now = self.now;
                let answer = process.owner(log).partition.retry_now(key, now);
                assert!(answer.is_ok(), "G12: a retry is answered by {answer:?}");
            }
        }
    }

    /// Mostly of a record that is pending, and rather of one that runs.
    fn any_offset(&mut self, owner: &Owner) -> i64 {
        let running: Vec<_> = owner.running.iter().map(|&(_, offset)| offset).collect();
        let pending: Vec<_> = owner.pending.iter().copied().collect();
        match self.random.below(4) {
            0 if !running.is_empty() => self.random.pick(&running),
            0..=2 if !pending.is_empty() => self.random.pick(&pending),
            _ => owner.read + self.random.below(3) as i64,
        }
    }

    /// The owner gets what is directed for its log, where that has changed.
    pub(super) fn keep_directed(&mut self, process: &mut Process, log: usize) {
        let (directives, now) = (self.logs[log].directives.clone(), self.now);
        let owner = process.owner(log);
        if self.chances.acts_left == 0 {
            for key in std::mem::take(&mut owner.own_keys) {
                owner.partition.resume_key(key, now);
                forget_turn(owner);
            }
        }
        if owner.given == directives {
            return;
        }
        owner.given = directives.clone();
        forget_turn(owner);
        for verdict in owner.partition.direct(directives, now) {
            self.skipped(process, log, &verdict);
        }
    }

    /// An owner that begins: what is directed is in force before its first record.
    pub(super) fn direct_first(&mut self, process: &mut Process, log: usize) {
        if self.chances.fault != Fault::LeavesANewOwnerWithoutDirectives {
            self.keep_directed(process, log);
        } else {
            process.owner(log).given = self.logs[log].directives.clone();
        }
    }

    fn skip(&mut self, process: &mut Process, log: usize, offset: i64) {
        let now = self.now;
        let owner = process.owner(log);
        let answer = owner.partition.skip(Offset::new(offset), note(), now);
        let is_running = owner.runs(offset);
        match answer {
            Ok((time, verdict)) => {
                owner.own_skips.insert(offset);
                assert_eq!(
                    (time == ActTime::AfterItsAttempt, time == ActTime::Now),
                    (is_running, verdict.is_some()),
                    "G12: the skip of {offset}"
                );
                if let Some(verdict) = verdict {
                    self.skipped(process, log, &verdict);
                }
            }
            Err(refused) => {
                let is_settled = self.logs[log].settled.contains(&offset);
                assert_eq!(
                    (refused, is_settled),
                    (ActRefused::AlreadySettled, true),
                    "G12: the skip of {offset}"
                );
            }
        }
    }

    fn dead_letter(&mut self, process: &mut Process, log: usize, offset: i64) {
        let now = self.now;
        let owner = process.owner(log);
        let answer = owner.partition.dead_letter_now(Offset::new(offset), now);
        let is_pending = owner.pending.contains(&offset);
        // It may be given up as a killer already.
        let is_written = answer == Err(ActRefused::BeingWritten);
        assert!(
            is_written || answer.is_ok() == is_pending,
            "G12: the dead letter of {offset} is answered by {answer:?}"
        );
        if answer.is_ok() {
            owner.own_skips.remove(&offset);
            self.ordered.insert((log, offset));
        }
    }

    /// A record was settled by an order.
    pub(super) fn skipped(&mut self, process: &mut Process, log: usize, verdict: &Verdict<()>) {
        let Verdict::Settled {
            outcome: Settlement::SkippedByOperator,
            offset,
            ..
        } = *verdict
        else {
            panic!("G12: a skip is answered by {verdict:?}");
        };
        let (owner, offset) = (process.owner(log), offset.get());
        assert!(owner.is_skipped(offset), "G12: nobody skips {offset}");
        assert!(!owner.runs(offset), "G2: {offset} is settled as it runs");
        assert!(owner.pending.remove(&offset), "G1: {offset} is not pending");
        self.logs[log].settled.insert(offset);
        self.ordered.insert((log, offset));
    }

    /// What starts is neither paused nor to be skipped.
    pub(super) fn check_orders(&self, owner: &Owner, offset: i64) {
        let lane = self.logs[owner.log].lanes[offset as usize];
        let what = format!("G12: {offset} of partition {} started, ", owner.log);
        assert!(!owner.is_key_paused(lane), "{what}and its key is paused");
        assert!(!owner.is_skipped(offset), "{what}and is to be skipped");
    }
}

impl Owner {
    pub(super) fn runs(&self, offset: i64) -> bool {
        self.running.iter().any(|&(_, running)| running == offset)
    }

    pub(super) fn is_key_paused(&self, lane: u64) -> bool {
        let key = lane_name(lane);
        self.given.paused_keys.contains(&key) || self.own_keys.contains(&key)
    }

    pub(super) fn is_skipped(&self, offset: i64) -> bool {
        self.given.skips.contains_key(&Offset::new(offset)) || self.own_skips.contains(&offset)
    }

    /// The next epoch of the assignment has what was ordered of the one before.
    pub(super) fn inherit(&mut self, before: &Self, fault: Fault) {
        self.own_keys.clone_from(&before.own_keys);
        self.own_skips.clone_from(&before.own_skips);
        let orders = match fault {
            Fault::ForgetsOwnOrders => PartitionDirectives::default(),
            _ => before.partition.own_orders(),
        };
        self.partition.inherit_own_orders(orders);
    }
}

/// Those that are named for the next turn of others may be paused or given up by an order: then this
/// turn is lost, and the next trial comes first.
fn forget_turn(owner: &mut Owner) {
    owner.last_trial.others_wait = false;
}

fn pause_or_resume(owner: &mut Owner, key: u64, now: Moment) {
    if owner.own_keys.remove(&key) {
        let is_paused = owner.partition.resume_key(key, now);
        assert_eq!(is_paused, owner.given.paused_keys.contains(&key), "G12");
    } else {
        assert_eq!(owner.partition.pause_key(key, now), Ok(()), "G12");
        owner.own_keys.insert(key);
    }
}

fn note() -> OperatorNote {
    OperatorNote::new("the simulator", "at random")
}
