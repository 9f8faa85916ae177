//! The owner's part in operators' acts: the core decides, and the log has who ordered what.

use keylane_core::{
    ActRefused, ActTime, MOST_OWN_ORDERS, Moment, Offset, OperatorNote, PartitionDirectives,
    Settlement,
};

use super::owned::OwnedPartition;
use super::pending_record::PendingRecord;
use super::report::report_skipped;
use super::verdicts::carry_out;
use crate::record::{KeyHash, Record};
use crate::status::{Act, ActKind, KeyAct, RecordAct};

/// Carries an act out, and answers it. The caller may have gone.
pub(super) fn act(owned: &mut OwnedPartition, Act { note, kind }: Act, now: Moment) {
    match kind {
        ActKind::PauseKey(key, answer) => {
            let paused = owned.core.pause_key(key.get(), now);
            let paused = paused.and_then(|()| keep(owned));
            log_key(owned, "pause_key", key, &note, &paused);
            let _ = answer.send(paused);
        }
        ActKind::ResumeKey(key, answer) => {
            let still_paused = owned.core.resume_key(key.get(), now);
            let still_paused = keep(owned).map(|()| still_paused);
            log_key(owned, "resume_key", key, &note, &still_paused);
            let _ = answer.send(still_paused);
        }
        ActKind::RetryNow(key, answer) => {
            let found = owned.core.retry_now(key.get(), now);
            if found.is_ok_and(|found| found.pending > 0) {
                log_key(owned, "retry_now", key, &note, &found);
            }
            let _ = answer.send(found);
        }
        ActKind::Skip(offset, answer) => {
            let skipped = owned.core.skip(offset, note.clone(), now);
            let kept = keep(owned);
            let time = match &skipped {
                Ok((time, None)) => kept.map(|()| *time),
                Ok((time, Some(_))) => Ok(*time),
                Err(refused) => Err(*refused),
            };
            log_offset(owned, "skip", offset, &note, &time);
            if let Ok((_, Some(verdict))) = skipped {
                carry_out(owned, None, verdict);
            }
            let _ = answer.send(time);
        }
        ActKind::DeadLetterNow(offset, answer) => {
            let time =
                check_orders(owned, offset).and_then(|()| owned.core.dead_letter_now(offset, now));
            log_offset(owned, "dead_letter_now", offset, &note, &time);
            if time.is_ok() {
                // It takes a skip back. Where the next epoch has begun, that one has nothing of it.
                let _ = keep(owned);
                owned.dead_letter_orders.insert(offset, note);
            }
            let _ = answer.send(time);
        }
        // Neither changes anything, and so neither is logged.
        ActKind::TryKey(act, key, answer) => {
            let (core, key) = (&owned.core, key.get());
            let _ = answer.send(match act {
                KeyAct::Pause => core.would_pause_key(key, now),
                KeyAct::Resume => Ok(core.would_resume_key(key, now)),
                KeyAct::RetryNow => core.would_retry_now(key, now),
            });
        }
        ActKind::TryRecord(act, offset, answer) => {
            let _ = answer.send(match act {
                RecordAct::Skip => owned.core.would_skip(offset, now),
                RecordAct::DeadLetterNow => check_orders(owned, offset)
                    .and_then(|()| owned.core.would_dead_letter_now(offset, now)),
            });
        }
    }
}

/// Keeps what this member alone orders for the next epoch of the assignment. Where that has begun,
/// the order is refused: it would be forgotten.
fn keep(owned: &OwnedPartition) -> Result<(), ActRefused> {
    let core = &owned.core;
    match owned.own_orders.note(core.epoch(), &core.own_orders()) {
        true => Ok(()),
        false => Err(ActRefused::Draining),
    }
}

/// Takes over what the control topic directs.
pub(super) fn direct(owned: &mut OwnedPartition, directives: PartitionDirectives, now: Moment) {
    for verdict in owned.core.direct(directives, now) {
        carry_out(owned, None, verdict);
    }
}

/// An order is kept for its letter until its record is settled.
fn check_orders(owned: &OwnedPartition, offset: Offset) -> Result<(), ActRefused> {
    let orders = &owned.dead_letter_orders;
    match orders.len() >= MOST_OWN_ORDERS && !orders.contains_key(&offset) {
        true => Err(ActRefused::TooMany),
        false => Ok(()),
    }
}

/// A record that is to be skipped at its delivery, for the log.
pub(crate) fn to_be_skipped(owned: &OwnedPartition, record: &Record) -> Option<PendingRecord> {
    let is_skipped = owned
        .core
        .skipped_by(Offset::new(record.offset()))
        .is_some();
    is_skipped.then(|| PendingRecord::new(record.clone()))
}

/// A record was skipped at its delivery, by an order from before.
pub(crate) fn skipped_at_delivery(
    owned: &mut OwnedPartition,
    offset: i64,
    attempts: u32,
    record: Option<PendingRecord>,
) {
    report_skipped(owned, Offset::new(offset), attempts, record.as_ref());
    owned.metrics.settled(Settlement::SkippedByOperator, 1);
    owned.release(record.map_or(0, |pending| pending.record.size()));
}

const MESSAGE: &str = "an operator's order";

fn log_key(
    owned: &OwnedPartition,
    act: &str,
    key: KeyHash,
    note: &OperatorNote,
    answer: &impl std::fmt::Debug,
) {
    let (topic, partition) = owned.name();
    tracing::info!(
        %topic, partition, act, key_hash = %key, by = %note.by, why = %note.why, ?answer, "{MESSAGE}"
    );
}

fn log_offset(
    owned: &OwnedPartition,
    act: &str,
    offset: Offset,
    note: &OperatorNote,
    answer: &Result<ActTime, ActRefused>,
) {
    let (topic, partition) = owned.name();
    tracing::info!(
        %topic, partition, act, %offset, by = %note.by, why = %note.why, ?answer, "{MESSAGE}"
    );
}
