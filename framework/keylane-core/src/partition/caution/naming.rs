//! Names: which records a mark names before they start.

use super::{GROUP, Named, Running};
use crate::offset::Offset;
use crate::partition::Partition;

impl<R> Partition<R> {
    /// Whether the head of the ready queue may start as far as crashes go; else it is waited for a
    /// mark or a trial.
    pub(in crate::partition) fn is_covered(&mut self, slot: u32) -> bool {
        let cautious = &self.cautious;
        let offset = self.pending.get(slot).offset;
        let named = match &cautious.asked {
            _ if cautious.trial.is_some() => Named::Alone(offset),
            // Also after progress: what runs next must not run under a name from before.
            _ if !cautious.is_careful() => Named::Nobody,
            _ if self.is_trial_due() => return false,
            Some(net @ Named::Together(_)) if net.contains(offset) => return cautious.confirmed,
            // A mark for every place that becomes free would be too many.
            _ if cautious.running.len() > GROUP / 2 => return false,
            _ if cautious.running.len() >= cautious.evidence.room() => return false,
            _ => {
                let net = self.net();
                self.cautious.net_left = net.offsets().len() - cautious.running.len();
                net
            }
        };
        self.cautious.covers(named, self.now)
    }

    /// What runs, and more of what comes next.
    fn net(&self) -> Named {
        let running = &self.cautious.running;
        let room = GROUP.min(self.cautious.evidence.room());
        let next = self.ready.iter().skip(self.ready_suspects());
        let next = next.take(room.saturating_sub(running.len()));
        let next = next.map(|&slot| self.pending.get(slot).offset);
        let running = running.iter().map(|running| running.offset);
        let mut named: Vec<_> = running.chain(next).collect();
        named.sort_unstable();
        Named::Together(named)
    }

    pub(in crate::partition) fn started(&mut self, slot: u32) {
        let offset = self.pending.get(slot).offset;
        let cautious = &mut self.cautious;
        let named = cautious.asked.as_ref();
        if named.is_some_and(|named| named.contains(offset)) {
            cautious.running.push(Running {
                slot,
                offset,
                since: self.now,
            });
        }
        match &mut cautious.trial {
            Some(trial) => trial.has_started = true,
            None => cautious.net_left = cautious.net_left.saturating_sub(1),
        }
    }

    /// The suspect that runs, alone and named.
    pub fn running_suspect(&self) -> Option<Offset> {
        self.cautious.alone().map(|suspect| suspect.offset)
    }
}
