//! Trials: a suspect runs alone in its process.

use super::{MARK_PATIENCE, Named};
use crate::partition::Partition;

/// How far the trial has come that this partition has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Trial {
    /// Its record has not started.
    Begun,
    /// Its record has started, and nothing else starts in it.
    Started,
}

impl<R> Partition<R> {
    /// Whether the next record to start is a suspect, which needs a trial. The caller answers with
    /// [`begin_trial`](Self::begin_trial) when nothing else runs in the process, and keeps it so
    /// until [`end_trial`](Self::end_trial) returns that it is over.
    pub fn wants_trial(&self) -> bool {
        let cautious = &self.cautious;
        // While a mark has no answer, a trial would only keep others from starting.
        cautious.trial.is_none()
            && cautious.running.is_empty()
            && !cautious.is_waiting()
            && self.could_try()
    }

    /// Nothing else runs in the process.
    pub fn begin_trial(&mut self) {
        self.cautious.trial = Some(Trial::Begun);
    }

    /// Ends the trial where it is of no more use: its record does not run, and the broker has the
    /// name taken back, which may need one more mark. `true` where there is none now. Each of its
    /// two marks is waited for [`MARK_PATIENCE`] at most.
    pub fn end_trial(&mut self) -> bool {
        let goes_on = match self.cautious.trial {
            None => return true,
            Some(Trial::Begun) => self.could_try() && !self.has_no_answer(),
            Some(Trial::Started) => !self.cautious.running.is_empty(),
        };
        if goes_on {
            return false;
        }
        // Also where its end was the progress that ends all care: a name that is still on the
        // broker would be suspected at the next partition's crash.
        // The commits of an epoch that has ended name nothing.
        let is_taken_back = self.cautious.ended
            || self.cautious.asked.is_none()
            || self.cautious.covers(Named::Nobody, self.now);
        if !is_taken_back && !self.has_no_answer() {
            return false;
        }
        self.cautious.trial = None;
        true
    }

    /// Whether the coordinator has not answered for so long that others no longer wait.
    fn has_no_answer(&self) -> bool {
        let cautious = &self.cautious;
        cautious.is_waiting() && self.now.since(cautious.asked_at) >= MARK_PATIENCE
    }

    /// Whether a suspect would start in a trial. Without room for it a trial would be of no use.
    fn could_try(&self) -> bool {
        let has_room = !self.holds_starts() && self.running() < self.settings.concurrency.max(1);
        has_room
            && self
                .ready
                .front()
                .is_some_and(|&slot| self.needs_trial(slot))
    }

    /// Whether this record runs in a trial only: it is a suspect, or could not become one.
    pub(super) fn needs_trial(&self, slot: u32) -> bool {
        let offset = self.pending.get(slot).offset;
        let evidence = &self.cautious.evidence;
        self.is_careful() && (evidence.is_suspected(offset) || evidence.room() == 0)
    }
}
