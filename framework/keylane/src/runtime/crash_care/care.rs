//! The owner's part in the care after a crash: turns, verdicts, and log lines.

use keylane_core::{Caution, Offset, ParkReason, PoisonFate, Poisoned};

use super::permit::TurnPermit;
use super::quiet::Busy;
use super::turns;
use crate::runtime::inbox::Mail;
use crate::runtime::owned::OwnedPartition;
use crate::status::SubscriptionError;

/// What an owner keeps of it.
pub(crate) struct CrashCare {
    /// Present while a suspicious record runs; requested before.
    turn: Option<TurnPermit>,
    asked_for_turn: bool,
    /// There while a healthy partition runs something.
    busy: Option<Busy>,
    waits_for_trial: bool,
    /// What the log has said last.
    told_caution: Caution,
    told_suspect: Option<Offset>,
}

impl CrashCare {
    pub(crate) fn new(caution: Caution) -> Self {
        Self {
            turn: None,
            asked_for_turn: false,
            busy: None,
            waits_for_trial: false,
            told_caution: caution,
            told_suspect: None,
        }
    }

    /// Whether this owner has a turn: what it starts is suspicious.
    pub(crate) fn has_turn(&self) -> bool {
        self.turn.is_some()
    }

    /// Takes and gives back turns. Nothing to do, and nothing done, where there was no crash.
    pub(crate) fn look_after_turn(&mut self, owned: &mut OwnedPartition, mail: &mut Mail) {
        if let Some(turn) = mail.turn.take() {
            self.asked_for_turn = false;
            let kind = turn.kind;
            self.turn = Some(turn);
            owned.core.begin_turn(kind);
        }
        if let Some(turn) = &self.turn {
            if turn.is_asked_back() {
                owned.core.yield_turn();
            }
            if owned.core.end_turn() {
                self.turn = None;
            }
        }
        if self.turn.is_none()
            && !self.asked_for_turn
            && let Some(kind) = owned.core.wants_turn()
        {
            self.asked_for_turn = true;
            owned.spawn(turns::request(kind, owned.inbox.clone()));
        }
    }

    /// Whether anything may start beside what else runs in the process. What is suspicious has
    /// turns for that.
    pub(crate) fn may_start(&mut self, owned: &OwnedPartition, mail: &mut Mail) -> bool {
        if std::mem::take(&mut mail.trial_over) {
            self.waits_for_trial = false;
        }
        if owned.core.caution() != Caution::None
            || (owned.core.ready() == 0 && owned.core.running() == 0)
        {
            return true;
        }
        if self.busy.is_none() {
            self.busy = Busy::try_begin();
        }
        let may = self.busy.as_ref().is_some_and(|busy| !busy.is_asked_back());
        if !may && !std::mem::replace(&mut self.waits_for_trial, true) {
            owned.spawn(turns::wake_after_trial(owned.inbox.clone()));
        }
        may
    }

    pub(crate) fn look_after_quiet(&mut self, owned: &OwnedPartition) {
        if owned.core.running() == 0 {
            self.busy = None;
        }
    }

    /// Logs what has changed.
    pub(crate) fn report(&mut self, owned: &mut OwnedPartition) {
        while let Some(verdict) = owned.core.next_poisoned() {
            tell_of_poison(owned, verdict);
        }
        let suspect = owned.core.running_suspect();
        if suspect != self.told_suspect {
            self.told_suspect = suspect;
            if let Some(offset) = suspect {
                tracing::info!(
                    topic = %owned.source.topic, partition = owned.source.partition, %offset,
                    crashes = owned.core.crashes(offset), "a suspect runs alone"
                );
            }
        }
        let caution = owned.core.caution();
        if caution == self.told_caution {
            return;
        }
        if caution == Caution::None {
            tracing::info!(
                topic = %owned.source.topic, partition = owned.source.partition,
                "nothing that was there at the last crash kills the process; back to normal"
            );
        }
        self.told_caution = caution;
    }
}

fn tell_of_poison(
    owned: &OwnedPartition,
    Poisoned {
        offset,
        crashes,
        fate,
    }: Poisoned,
) {
    let (topic, partition) = owned.name();
    let fate_text = match fate {
        PoisonFate::DeadLetter => "it goes to the dead-letter topic",
        PoisonFate::Parked(ParkReason::NoDeadLetterTopic) => {
            "it is parked, unsettled, and its key waits: there is no dead-letter topic; configure one"
        }
        PoisonFate::Parked(_) => "it is parked, unsettled, and its key waits, by policy",
        PoisonFate::Stop => "the subscription stops, by policy",
    };
    tracing::error!(
        %topic, partition, %offset, crashes,
        "poison: the process ended this often while this record was running alone; {fate_text}"
    );
    if fate == PoisonFate::Stop {
        owned
            .runtime
            .control
            .stop(SubscriptionError::RetriesExhausted {
                topic: topic.to_string(),
                partition,
                offset: offset.get(),
                reason: keylane_core::Reason::Poison.as_str(),
            });
    }
}
