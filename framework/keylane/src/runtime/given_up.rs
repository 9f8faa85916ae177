//! What is given up on, in the log: each dead letter, each parked record, each retry that is left
//! to another group (guarantee G1).

use keylane_core::{ParkReason, Reason};

use super::owner::{Held, Owner};
use crate::Record;
use crate::dead_letter::provenance_of;
use crate::producer::raw::Acknowledged;
use crate::support::clock;

/// What a line says of a record whose attempt or write has ended.
#[derive(Clone, Copy)]
pub(super) struct Ended {
    pub(super) offset: i64,
    pub(super) attempts: u32,
}

impl Owner {
    pub(super) fn report_dead_letter(
        &self,
        held: &Held,
        reason: Reason,
        ended: Ended,
        place: Acknowledged,
    ) {
        let Ended { offset, attempts } = ended;
        let (topic, partition) = (&self.topic, self.partition_id);
        let error = held.failure.as_ref().map_or("", |failure| &failure.error);
        let target = self
            .runtime
            .dead_letter_topic
            .as_ref()
            .map_or("", |target| &target.name);
        let written_to = format_args!("{target}-{}@{}", place.partition, place.offset);
        const MESSAGE: &str = "a record is given up: the dead-letter topic has it";
        if self
            .runtime
            .control
            .given_up
            .dead_letters
            .may_write(clock::now())
        {
            let key_hash = held.key_hash().map(tracing::field::display);
            let origin = held
                .record
                .origin()
                .map(|it| format!("{}-{}@{}", it.topic, it.partition, it.offset));
            tracing::warn!(
                %topic, partition, offset, origin, key_hash, reason = reason.as_str(), attempts, error, %written_to,
                "{MESSAGE}"
            );
        } else {
            tracing::debug!(%topic, partition, offset, reason = reason.as_str(), attempts, %written_to, "{MESSAGE}");
        }
    }

    pub(super) fn report_foreign(&self, record: &Record) {
        let (topic, partition, offset) = (&self.topic, self.partition_id, record.offset());
        let group = provenance_of(record).group.unwrap_or_default();
        const MESSAGE: &str = "a retry is left to the group that wrote it, which reads the same retry topic; \
                               if this group replaces that one, set Retry::adopt";
        if self
            .runtime
            .control
            .given_up
            .foreign
            .may_write(clock::now())
        {
            tracing::warn!(%topic, partition, offset, group, "{MESSAGE}");
        } else {
            tracing::debug!(%topic, partition, offset, group, "{MESSAGE}");
        }
    }

    /// `error`: of its last attempt, or of the write that was refused.
    pub(super) fn report_parked(&self, reason: ParkReason, ended: Option<Ended>, error: &str) {
        let (offset, attempts) = (
            ended.map(|ended| ended.offset),
            ended.map(|ended| ended.attempts),
        );
        let (topic, partition) = (&self.topic, self.partition_id);
        let why = match reason {
            ParkReason::NoDeadLetterTopic => {
                "it cannot be decoded and there is no dead-letter topic; configure one".to_owned()
            }
            ParkReason::Refused => "the write was refused for good, as the error says".to_owned(),
            ParkReason::TooLarge => {
                "the dead letter is too large, also with the fewest headers; raise the limit that the error names"
                    .to_owned()
            }
            ParkReason::Policy(reason) => format!("the policy says so ({})", reason.as_str()),
            _ => format!("{reason:?}"),
        };
        const MESSAGE: &str = "a record is parked: it stays unsettled, and its key waits";
        if self.runtime.control.given_up.parked.may_write(clock::now()) {
            tracing::error!(%topic, partition, offset, why, attempts, error, "{MESSAGE}");
        } else {
            tracing::debug!(%topic, partition, offset, why, attempts, "{MESSAGE}");
        }
    }
}
