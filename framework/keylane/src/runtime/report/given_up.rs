//! What is given up on, in the log: each dead letter, each parked record, each retry that is left
//! to another group, each that an operator skips (guarantee G1).

use keylane_core::{Offset, ParkReason, Ticket};

use crate::dead_letter::{FailureHistory, provenance_of};
use crate::producer::raw::Acknowledged;
use crate::record::Record;
use crate::runtime::owned::OwnedPartition;
use crate::runtime::pending_record::PendingRecord;
use crate::support::clock;

/// The fields of a log line about a record whose attempt or write has ended.
#[derive(Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) offset: i64,
    pub(crate) attempts: u32,
}

impl Ended {
    /// To be called before the core has the result, which uses up the ticket.
    pub(crate) fn of(owned: &OwnedPartition, ticket: Ticket) -> Option<Self> {
        let core = &owned.core;
        let (pending, attempts) = (core.record(ticket)?, core.attempts(ticket)?);
        Some(Self {
            offset: pending.record.offset(),
            attempts,
        })
    }
}

pub(crate) fn report_dead_letter(
    owned: &OwnedPartition,
    pending: &PendingRecord,
    offset: i64,
    history: &FailureHistory,
    place: Acknowledged,
) {
    let (reason, attempts, error) = (history.reason, history.attempts, history.error.as_str());
    let (topic, partition) = owned.name();
    let target = owned
        .runtime
        .dead_letter_topic
        .as_ref()
        .map_or("", |target| &target.name);
    let written_to = format_args!("{target}-{}@{}", place.partition, place.offset);
    const MESSAGE: &str = "a record is given up: the dead-letter topic has it";
    if owned
        .runtime
        .control
        .given_up
        .dead_letters
        .may_write(clock::now())
    {
        let key_hash = pending.key_hash().map(tracing::field::display);
        let origin = origin(pending);
        tracing::warn!(
            %topic, partition, offset, origin, key_hash, reason, attempts, error, %written_to,
            "{MESSAGE}"
        );
    } else {
        tracing::debug!(%topic, partition, offset, reason, attempts, %written_to, "{MESSAGE}");
    }
}

/// Where a record of the retry topic comes from.
fn origin(pending: &PendingRecord) -> Option<String> {
    let origin = pending.record.origin()?;
    Some(format!(
        "{}-{}@{}",
        origin.topic, origin.partition, origin.offset
    ))
}

pub(crate) fn report_foreign(owned: &OwnedPartition, record: &Record) {
    let (topic, partition, offset) = (&owned.source.topic, owned.source.partition, record.offset());
    let group = provenance_of(record).group.unwrap_or_default();
    const MESSAGE: &str = "a retry is left to the group that wrote it, which reads the same retry topic; \
                           if this group replaces that one, set Retry::adopt";
    if owned
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

/// A record that an operator skips.
pub(crate) fn report_skipped(
    owned: &OwnedPartition,
    offset: Offset,
    attempts: u32,
    pending: Option<&PendingRecord>,
) {
    let (topic, partition) = owned.name();
    let note = owned.core.skipped_by(offset);
    let (by, why) = note.map_or(("", ""), |note| (&*note.by, &*note.why));
    const MESSAGE: &str = "a record is given up: an operator skipped it";
    if owned
        .runtime
        .control
        .given_up
        .skipped
        .may_write(clock::now())
    {
        let key_hash = pending.and_then(PendingRecord::key_hash);
        let (key_hash, origin) = (
            key_hash.map(tracing::field::display),
            pending.and_then(origin),
        );
        tracing::warn!(
            %topic, partition, %offset, origin, key_hash, attempts, by, why, "{MESSAGE}"
        );
    } else {
        tracing::debug!(%topic, partition, %offset, attempts, by, why, "{MESSAGE}");
    }
}

/// `error`: of its last attempt, or of the write that was refused.
pub(crate) fn report_parked(
    owned: &OwnedPartition,
    reason: ParkReason,
    ended: Option<Ended>,
    error: &str,
) {
    let (offset, attempts) = (
        ended.map(|ended| ended.offset),
        ended.map(|ended| ended.attempts),
    );
    let (topic, partition) = owned.name();
    let why = match reason {
        ParkReason::NoDeadLetterTopic => {
            "it cannot be decoded and there is no dead-letter topic; configure one".to_owned()
        }
        ParkReason::Refused => "the write was refused for good".to_owned(),
        ParkReason::TooLarge => {
            "the dead letter is too large, also with the fewest headers; raise the limit that the error names"
                .to_owned()
        }
        ParkReason::Policy(reason) => format!("the policy is to park ({})", reason.as_str()),
        _ => format!("{reason:?}"),
    };
    const MESSAGE: &str = "a record is parked: it stays unsettled, and its key waits";
    if owned
        .runtime
        .control
        .given_up
        .parked
        .may_write(clock::now())
    {
        tracing::error!(%topic, partition, offset, why, attempts, error, "{MESSAGE}");
    } else {
        tracing::debug!(%topic, partition, offset, why, attempts, "{MESSAGE}");
    }
}
