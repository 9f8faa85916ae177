//! The owner's part in the care after a crash: turns, verdicts, and what the operator is told.

use keylane_core::{Caution, ParkReason, PoisonFate, Poisoned};

use super::quiet::Busy;
use super::turns;
use crate::dead_letter::FailureHistory;
use crate::runtime::owner::{Held, Owner};
use crate::status::SubscriptionError;
use crate::support::clock;

impl Owner {
    /// Takes and gives back turns. Nothing to do, and nothing done, where there was no crash.
    pub(crate) fn look_after_turn(&mut self) {
        if let Some(turn) = self.mail.turn.take() {
            self.asked_for_turn = false;
            let kind = turn.kind;
            self.turn = Some(turn);
            self.core.begin_turn(kind);
        }
        if let Some(turn) = &self.turn {
            if turn.is_asked_back() {
                self.core.yield_turn();
            }
            if self.core.end_turn() {
                self.turn = None;
            }
        }
        if self.turn.is_none()
            && !self.asked_for_turn
            && let Some(kind) = self.core.wants_turn()
        {
            self.asked_for_turn = true;
            self.spawn(turns::request(kind, self.inbox.clone()));
        }
    }

    /// Whether anything may start beside what else runs in the process. What is suspicious has
    /// turns for that.
    pub(crate) fn may_start(&mut self) -> bool {
        if std::mem::take(&mut self.mail.trial_over) {
            self.waits_for_trial = false;
        }
        if self.core.caution() != Caution::None
            || (self.core.ready() == 0 && self.core.running() == 0)
        {
            return true;
        }
        if self.busy.is_none() {
            self.busy = Busy::try_begin();
        }
        let may = self.busy.as_ref().is_some_and(|busy| !busy.is_asked_back());
        if !may && !std::mem::replace(&mut self.waits_for_trial, true) {
            self.spawn(turns::wake_after_trial(self.inbox.clone()));
        }
        may
    }

    pub(crate) fn look_after_quiet(&mut self) {
        if self.core.running() == 0 {
            self.busy = None;
        }
    }

    /// Says what has changed.
    pub(crate) fn report_caution(&mut self) {
        while let Some(verdict) = self.core.next_poisoned() {
            self.tell_of_poison(verdict);
        }
        let suspect = self.core.running_suspect();
        if suspect != self.told_suspect {
            self.told_suspect = suspect;
            if let Some(offset) = suspect {
                tracing::info!(
                    topic = %self.topic, partition = self.partition_id, %offset,
                    crashes = self.core.crashes(offset), "a suspect runs alone"
                );
            }
        }
        let caution = self.core.caution();
        if caution == self.told_caution {
            return;
        }
        if caution == Caution::None {
            tracing::info!(
                topic = %self.topic, partition = self.partition_id,
                "nothing that was there at the last crash kills the process; back to normal"
            );
        }
        self.told_caution = caution;
    }

    fn tell_of_poison(
        &mut self,
        Poisoned {
            offset,
            crashes,
            fate,
        }: Poisoned,
    ) {
        let (topic, partition) = (self.topic.clone(), self.partition_id);
        let fate_text = match fate {
            PoisonFate::DeadLetter => "it goes to the dead-letter topic",
            PoisonFate::Parked(ParkReason::NoDeadLetterTopic) => {
                "it is parked, unsettled, and its key waits: there is no dead-letter topic; configure one"
            }
            PoisonFate::Parked(_) => {
                "it is parked, unsettled, and its key waits: the policy says so"
            }
            PoisonFate::Stop => "the subscription stops: the policy says so",
        };
        tracing::error!(
            %topic, partition, %offset, crashes,
            "poison: the process ended this often while this record was running alone; {fate_text}"
        );
        if fate == PoisonFate::Stop {
            self.runtime
                .control
                .stop(SubscriptionError::RetriesExhausted {
                    topic: topic.to_string(),
                    partition,
                    offset: offset.get(),
                    reason: keylane_core::Reason::Poison.as_str(),
                });
        }
    }
}

/// What the headers say of a poison record's end. When the crashes were is not known any more.
pub(crate) fn poison_history(held: &Held, attempts: u32, crashes: u32) -> FailureHistory {
    let now = clock::unix_millis();
    let first = held
        .record
        .retry_state()
        .and_then(|retry| retry.first_failure_millis);
    FailureHistory {
        attempts: attempts.saturating_add(crashes),
        first_failure_millis: first.unwrap_or(now),
        last_failure_millis: now,
        reason: keylane_core::Reason::Poison.as_str(),
        error: format!(
            "poison: the process ended {crashes} times while this record was being processed"
        ),
    }
}
