//! Turns: what is suspicious in one partition does not run beside what is suspicious in another one
//! of the process.

use super::{Caution, Held, Named, TURN_PATIENCE};
use crate::partition::Partition;

/// What a partition needs before it may start anything, beside its mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Beside other wary partitions of the process, but no suspect.
    Shared,
    /// With no other suspicious partition of the process.
    Alone,
    /// With no other partition of the process at all: the trial of a record that was named at a
    /// crash before.
    Quiet,
}

impl<R> Partition<R> {
    /// The turn it needs to start what is ready, if it needs one and does not have it. The caller,
    /// who sees to it that no two turns of a process collide, answers with
    /// [`begin_turn`](Self::begin_turn).
    pub fn wants_turn(&self) -> Option<Turn> {
        if self.cautious.turn.is_some() || !self.could_start() {
            return None;
        }
        match self.caution() {
            Caution::None => None,
            _ => self.ready.front().map(|&slot| self.turn_of(slot)),
        }
    }

    /// The turn that a record needs.
    pub(super) fn turn_of(&self, slot: u32) -> Turn {
        let evidence = &self.cautious.evidence;
        match (self.caution(), self.pending.get(slot).offset) {
            (Caution::Isolated, offset) if evidence.crashes(offset) > 0 => Turn::Quiet,
            (Caution::Isolated, offset) if evidence.is_suspected(offset) => Turn::Alone,
            (Caution::Wary, _) if self.is_lone(slot) => Turn::Alone,
            _ => Turn::Shared,
        }
    }

    /// Whether it is the only one in the partition. Named alone at its second crash it would be
    /// condemned without a trial.
    fn is_lone(&self, slot: u32) -> bool {
        let pending = self.pending.get(slot);
        self.pending.len() == 1 && pending.watched && self.crashes(pending.offset) == 0
    }

    /// Whether something would start if there were no caution. Without room a turn would be of no
    /// use, to whomever has it.
    fn could_start(&self) -> bool {
        !self.holds_starts()
            && !self.ready.is_empty()
            && self.running() < self.settings.concurrency.max(1)
    }

    /// It has its turn, of the kind it asked for.
    pub fn begin_turn(&mut self, kind: Turn) {
        self.cautious.turn = Some(Held {
            kind,
            since: self.now,
            ending: false,
            next: None,
        });
    }

    /// Others wait: a shared turn names nothing more and ends when what is named has run; in one
    /// that is its own the suspect that runs is the last one, unless the turn has only just begun.
    /// To be repeated as long as others wait.
    pub fn yield_turn(&mut self) {
        let now = self.now;
        if let Some(turn) = &mut self.cautious.turn {
            turn.ending |= turn.kind == Turn::Shared || now.since(turn.since) >= TURN_PATIENCE;
        }
    }

    pub(super) fn end_turn_early(&mut self) {
        if let Some(turn) = &mut self.cautious.turn {
            turn.ending = true;
        }
    }

    /// Gives its turn back if it has no more use for it: nothing suspicious runs and the broker
    /// knows it; until then, that may want one more mark. `true` where it holds none now.
    pub fn end_turn(&mut self) -> bool {
        let Some(turn) = self.cautious.turn else {
            return true;
        };
        let goes_on = self.caution() != Caution::None
            && self.could_start()
            && (!turn.ending || self.ready.front().is_some_and(|&slot| self.is_named(slot)));
        if goes_on || !self.cautious.running.is_empty() {
            return false;
        }
        // Also where its end was the progress that ends all care: a name that is still on the
        // broker would be suspected at the next partition's crash.
        if self.cautious.asked.is_some() && !self.cautious.covers(Named::Nobody, self.now) {
            return false;
        }
        self.cautious.turn = None;
        true
    }
}
