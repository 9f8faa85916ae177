//! Names: which records a mark names before they start.

use super::{Caution, GROUP, Held, MAX_SUSPECTS, Named, Running, Turn};
use crate::offset::Offset;
use crate::partition::Partition;

impl<R> Partition<R> {
    /// Whether the head of the ready queue may start as far as crashes go; else it is waited for a
    /// mark or a turn.
    pub(in crate::partition) fn is_covered(&mut self, slot: u32) -> bool {
        if self.caution() == Caution::None {
            // Named still, and let go: what runs next must not run under its name.
            return self.cautious.covers(Named::Nobody, self.now);
        }
        if !self.is_named(slot) {
            self.name_next(slot);
        }
        self.is_named(slot) && self.cautious.confirmed
    }

    /// Whether it has its turn, and what is asked for names it in the way it is to be named.
    pub(super) fn is_named(&self, slot: u32) -> bool {
        let offset = self.pending.get(slot).offset;
        match (self.cautious.turn, &self.cautious.asked) {
            (
                Some(Held {
                    kind: Turn::Shared, ..
                }),
                Some(Named::Together(named)),
            ) => named.binary_search(&offset).is_ok(),
            (Some(Held { next, .. }), Some(Named::Alone(_))) => next == Some(offset),
            _ => false,
        }
    }

    /// Names the head of the ready queue, and in a shared turn what runs and more of what comes
    /// next.
    fn name_next(&mut self, slot: u32) {
        let Some(turn) = self.cautious.turn.filter(|turn| !turn.ending) else {
            return;
        };
        let offset = self.pending.get(slot).offset;
        let fits = match turn.kind {
            Turn::Shared => self.caution() == Caution::Wary || self.turn_of(slot) == Turn::Shared,
            Turn::Alone => self.turn_of(slot) == Turn::Alone,
            Turn::Quiet => self.caution() == Caution::Isolated,
        };
        if !fits {
            return self.end_turn_early();
        }
        let running = self.cautious.running.len();
        let named = match turn.kind {
            // A mark for every place that becomes free would be too many.
            Turn::Shared if running > GROUP / 2 => return,
            Turn::Shared => self.with_what_comes_next(),
            Turn::Alone | Turn::Quiet if running > 0 => return,
            Turn::Alone | Turn::Quiet => Named::Alone(offset),
        };
        self.cautious.covers(named, self.now);
        if let Some(turn) = &mut self.cautious.turn
            && turn.kind != Turn::Shared
        {
            turn.next = Some(offset);
            // Healthy partitions wait.
            turn.ending = turn.kind == Turn::Quiet;
        }
    }

    fn with_what_comes_next(&self) -> Named {
        let is_isolated = self.caution() == Caution::Isolated;
        let running = &self.cautious.running;
        let suspicions = MAX_SUSPECTS.saturating_sub(self.cautious.evidence.suspects.len());
        let more = GROUP.min(suspicions).saturating_sub(running.len()).max(1);
        let next = self
            .ready
            .iter()
            .take(more)
            .take_while(|&&slot| !is_isolated || self.turn_of(slot) == Turn::Shared);
        let next = next.map(|&slot| self.pending.get(slot).offset);
        let mut named: Vec<_> = running
            .iter()
            .map(|running| running.offset)
            .chain(next)
            .collect();
        named.sort_unstable();
        Named::Together(named)
    }

    pub(in crate::partition) fn started(&mut self, slot: u32) {
        let offset = self.pending.get(slot).offset;
        let cautious = &mut self.cautious;
        if cautious
            .asked
            .as_ref()
            .is_some_and(|named| named.offsets().contains(&offset))
        {
            cautious.running.push(Running {
                slot,
                offset,
                since: self.now,
            });
        }
        if let Some(turn) = &mut cautious.turn {
            turn.next = None;
        }
    }

    /// The suspect that runs, alone and named.
    pub fn running_suspect(&self) -> Option<Offset> {
        self.cautious.alone().map(|suspect| suspect.offset)
    }
}
