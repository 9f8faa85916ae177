//! Trials: a suspect runs alone in its process.

use super::{MARK_PATIENCE, Named, SUSPECT_PATIENCE};
use crate::partition::Partition;
use crate::time::Moment;

/// The trial that this partition has.
#[derive(Clone, Copy)]
pub(super) struct Trial {
    since: Moment,
    /// Its record has started, and nothing else starts in it.
    pub(super) has_started: bool,
}

impl<R> Partition<R> {
    /// Whether a suspect needs a trial now. The caller answers with
    /// [`begin_trial`](Self::begin_trial) when nothing else runs in the process, and keeps it so
    /// until [`end_trial`](Self::end_trial) returns that it is over. Before its next trial a
    /// partition leaves others as much time as its last one took, [`SUSPECT_PATIENCE`] at most, and
    /// runs a net of its own, for the same time at most. The first trial of an epoch comes first: a
    /// killer of the net would strike before its suspects are tried.
    pub fn wants_trial(&self) -> bool {
        let cautious = &self.cautious;
        // While a mark has no answer, a trial would only keep others from starting.
        cautious.trial.is_none()
            && cautious.running.is_empty()
            && !cautious.is_waiting()
            && self.is_trial_due()
    }

    /// Whether a record is ready that may be next: in a trial its suspect, and else one that needs
    /// no trial.
    pub fn has_next(&self) -> bool {
        self.next_ready().is_some()
    }

    /// Nothing else runs in the process.
    pub fn begin_trial(&mut self) {
        self.cautious.trial = Some(Trial {
            since: self.now,
            has_started: false,
        });
    }

    /// Ends the trial where it is of no more use: its record does not run, and the broker has the
    /// name taken back, which may need one more mark. `true` where there is none now. Each of its
    /// two marks is waited for [`MARK_PATIENCE`] at most.
    pub fn end_trial(&mut self) -> bool {
        let Some(trial) = self.cautious.trial else {
            return true;
        };
        let goes_on = if trial.has_started {
            !self.cautious.running.is_empty()
        } else {
            self.could_try() && !self.has_no_answer()
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
        // The process may have stood still in it.
        let took = self.now.since(trial.since).min(SUSPECT_PATIENCE);
        self.cautious.next_trial = Some(self.now + took);
        true
    }

    /// Whether the coordinator has not answered for so long that others no longer wait.
    fn has_no_answer(&self) -> bool {
        let cautious = &self.cautious;
        cautious.is_waiting() && self.now.since(cautious.asked_at) >= MARK_PATIENCE
    }

    /// Whether a suspect would start in a trial. Without room for it a trial would be of no use.
    pub(super) fn could_try(&self) -> bool {
        let has_room = !self.holds_starts() && self.running() < self.settings.concurrency.max(1);
        let next = self.ready.front();
        has_room && next.is_some_and(|&slot| self.needs_trial(slot))
    }

    /// Whether it is the suspects' turn: others have had theirs, in time and with one net.
    pub(super) fn is_trial_due(&self) -> bool {
        let cautious = &self.cautious;
        let is_first = |(_, slot): (usize, u32)| match &cautious.asked {
            Some(net @ Named::Together(_)) => {
                cautious.net_left > 0
                    && self.now.since(cautious.asked_at) < SUSPECT_PATIENCE
                    && net.contains(self.pending.get(slot).offset)
            }
            _ => true,
        };
        let others_had_turn = match cautious.next_trial {
            None => true,
            Some(moment) => moment <= self.now && !self.next_ready().is_some_and(is_first),
        };
        others_had_turn && self.could_try()
    }

    /// Whether this record runs in a trial only: it is a suspect, or could not become one.
    pub(super) fn needs_trial(&self, slot: u32) -> bool {
        self.has_no_room() || self.is_suspect(slot)
    }

    /// Whether there is no room for another suspicion.
    fn has_no_room(&self) -> bool {
        self.is_careful() && self.cautious.evidence.room() == 0
    }

    pub(in crate::partition) fn is_suspect(&self, slot: u32) -> bool {
        let evidence = &self.cautious.evidence;
        self.has_suspects() && evidence.is_suspected(self.pending.get(slot).offset)
    }

    /// Whether this head, or one behind it in its lane, is a suspect.
    pub(in crate::partition) fn has_suspect_in_lane(&self, head: u32) -> bool {
        let behind = |&slot: &u32| self.lanes.behind(slot);
        self.has_suspects()
            && std::iter::successors(Some(head), behind).any(|slot| self.is_suspect(slot))
    }

    /// How many of those that are ready are suspects. They are the first.
    pub(in crate::partition) fn ready_suspects(&self) -> usize {
        let suspects = self.ready.iter().take_while(|&&slot| self.is_suspect(slot));
        suspects.count()
    }

    /// The record that is to start next, with its place among those that are ready: one that needs
    /// a trial in a trial, and another one without it.
    pub(in crate::partition) fn next_ready(&self) -> Option<(usize, u32)> {
        let place = match self.cautious.trial {
            Some(trial) if trial.has_started => return None,
            Some(_) => 0,
            None if self.has_no_room() => return None,
            None => self.ready_suspects(),
        };
        let slot = *self.ready.get(place)?;
        let is_its_turn = self.cautious.trial.is_none() || self.needs_trial(slot);
        is_its_turn.then_some((place, slot))
    }
}
