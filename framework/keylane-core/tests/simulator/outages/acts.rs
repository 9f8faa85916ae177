//! Operators' acts in an outage: keys are paused and resumed, retried at once, skipped, given up.
//!
//! What is directed holds over restarts of the process, as by a control topic.

use keylane_core::{OperatorNote, PartitionDirectives, Settlement, Verdict};

use super::scenario::{Fault, Nature};
use super::world::{Event, World, at};
use crate::acts::lane_name;

impl World {
    pub(super) fn plan_acts(&mut self) {
        let latest = self.scenario.acts_until;
        for _ in 0..self.scenario.acts {
            let at = self.random.below(latest.max(1));
            self.push(at, Event::Act);
        }
        if self.scenario.acts > 0 {
            self.push(latest, Event::ResumeAll);
        }
    }

    /// An operator acts, mostly on a record that is pending.
    pub(super) fn act(&mut self) {
        let part = self.random.index(self.parts.len());
        let pending: Vec<_> = self.parts[part]
            .iter()
            .flat_map(|part| part.partition.pending_records().map(|view| view.offset))
            .collect();
        let Some(&offset) = pending.get(self.random.index(pending.len().max(1))) else {
            return;
        };
        let record = self.logs[part].entries[offset.get() as usize].record;
        let key = self.records[record].key.map(lane_name);
        match (self.random.below(10), key) {
            (0..=2, Some(key)) => {
                if !self.paused.remove(&key) {
                    self.paused.insert(key);
                }
                self.direct_all();
            }
            (3..=5, Some(key)) => self.retry_now(key),
            (6, _) => self.skip(part, offset),
            (7, _) => self.dead_letter(part, offset),
            (8, _) if self.scenario.releases => self.take(Event::Release),
            _ => {}
        }
        (0..self.parts.len()).for_each(|part| self.turn(part));
    }

    pub(super) fn resume_all(&mut self) {
        self.paused.clear();
        self.direct_all();
        (0..self.parts.len()).for_each(|part| self.turn(part));
    }

    pub(super) fn direct_all(&mut self) {
        (0..self.parts.len()).for_each(|part| self.direct(part));
    }

    pub(super) fn direct(&mut self, part: usize) {
        let now = at(self.now);
        let directives = PartitionDirectives {
            paused_keys: self.paused.clone(),
            ..PartitionDirectives::default()
        };
        if let Some(part) = &mut self.parts[part] {
            let settled = part.partition.direct(directives, now);
            assert!(settled.is_empty(), "G12: a pause settles {settled:?}");
        }
    }

    fn retry_now(&mut self, key: u64) {
        let now = at(self.now);
        for part in self.parts.iter_mut().flatten() {
            let answer = part.partition.retry_now(key, now);
            assert!(answer.is_ok(), "G12: a retry is answered by {answer:?}");
        }
    }

    fn skip(&mut self, number: usize, offset: keylane_core::Offset) {
        let now = at(self.now);
        let Some(part) = &mut self.parts[number] else {
            return;
        };
        let note = OperatorNote::new("the simulator", "at random");
        let (_, verdict) = part
            .partition
            .skip(offset, note, now)
            .expect("G12: it is pending");
        if let Some(verdict) = verdict {
            self.skipped(number, &verdict);
        }
    }

    /// A record was settled by an order.
    pub(super) fn skipped(&mut self, part: usize, verdict: &Verdict<usize>) {
        let Verdict::Settled {
            outcome: Settlement::SkippedByOperator,
            offset,
            ..
        } = verdict
        else {
            panic!("G12: a skip is answered by {verdict:?}");
        };
        let record = self.logs[part].entries[offset.get() as usize].record;
        let record = &mut self.records[record];
        assert!(!record.ended, "G1: it has ended before");
        record.ended = true;
        match record.nature {
            Nature::Bad(_) => self.report.bad_given_up_by_order += 1,
            _ => self.report.good_given_up_by_order += 1,
        }
    }

    fn dead_letter(&mut self, number: usize, offset: keylane_core::Offset) {
        let now = at(self.now);
        let Some(part) = &mut self.parts[number] else {
            return;
        };
        // What is being written is refused.
        if part.partition.dead_letter_now(offset, now).is_ok() {
            let record = self.logs[number].entries[offset.get() as usize].record;
            self.ordered.insert(record);
        }
    }

    /// A record of a key that is paused does not start.
    pub(super) fn check_orders(&self, record: usize) {
        let key = self.records[record].key.map(lane_name);
        assert!(
            key.is_none_or(|key| !self.paused.contains(&key)),
            "G12: record {record} starts, and its key {key:?} is paused"
        );
    }

    pub(super) fn direct_at_start(&mut self) {
        if self.scenario.fault != Fault::ForgetsPausesAtARestart {
            self.direct_all();
        }
    }
}
