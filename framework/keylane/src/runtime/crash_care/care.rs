//! The owner's part in the care after a crash: trials, verdicts, and log lines.

use keylane_core::{Offset, ParkReason, PoisonFate, Poisoned};

use super::process::{Permit, Share, request_share, request_trial};
use crate::runtime::inbox::Mail;
use crate::runtime::owned::OwnedPartition;
use crate::status::SubscriptionError;

/// What an owner keeps of it.
pub(crate) struct CrashCare {
    /// Present while anything runs.
    permit: Option<Permit>,
    /// The permit came through the inbox, and nothing has started with it yet.
    is_new: bool,
    asked: bool,
    /// What the log has said last.
    told_careful: bool,
    told_suspect: Option<Offset>,
}

impl CrashCare {
    pub(crate) fn new(is_careful: bool) -> Self {
        Self {
            permit: None,
            is_new: false,
            asked: false,
            told_careful: is_careful,
            told_suspect: None,
        }
    }

    /// Takes and gives back permits.
    pub(crate) fn look_after_permit(&mut self, owned: &mut OwnedPartition, mail: &mut Mail) {
        if let Some(permit) = mail.permit.take() {
            self.asked = false;
            if let Permit::Trial { .. } = permit {
                owned.core.begin_trial();
            }
            (self.permit, self.is_new) = (Some(permit), true);
        }
        let is_over = match &self.permit {
            None => false,
            Some(Permit::Trial { .. }) => owned.core.end_trial(),
            // A share would keep its own trial waiting.
            Some(Permit::Share(_)) if owned.core.wants_trial() => true,
            Some(Permit::Share(_)) => owned.core.running() == 0 && !self.is_new,
        };
        if is_over {
            self.permit = None;
        }
        if self.permit.is_none() && !self.asked && owned.core.wants_trial() {
            self.asked = true;
            owned.spawn(request_trial(owned.inbox.clone()));
        }
    }

    /// Whether what starts is a suspect that is tried.
    pub(crate) fn is_trial(&self) -> bool {
        matches!(self.permit, Some(Permit::Trial { .. }))
    }

    pub(crate) fn has_permit(&self) -> bool {
        self.permit.is_some()
    }

    /// Whether anything may start beside what else runs in the process.
    pub(crate) fn may_start(&mut self, owned: &OwnedPartition) -> bool {
        let is_new = std::mem::take(&mut self.is_new);
        match &self.permit {
            Some(Permit::Trial { .. }) => return true,
            Some(Permit::Share(share)) => return is_new || !share.is_asked_back(),
            None if !owned.core.has_next() => return true,
            None => {}
        }
        if !self.asked {
            self.permit = Share::try_take().map(Permit::Share);
            if self.permit.is_none() {
                self.asked = true;
                owned.spawn(request_share(owned.inbox.clone()));
            }
        }
        self.permit.is_some()
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
        let is_careful = owned.core.is_careful();
        if self.told_careful && !is_careful {
            tracing::info!(
                topic = %owned.source.topic, partition = owned.source.partition,
                "nothing that was there at the last crash kills the process; back to normal"
            );
        }
        self.told_careful = is_careful;
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
