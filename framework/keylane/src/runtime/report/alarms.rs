//! The owner's part in watching stalled work: it warns the operator, and ends the attempt of a
//! blocker.

use std::time::Duration;

use keylane_core::{Alarm, Blocking, Failure, Moment, Ticket};

use crate::runtime::attempts::{AttemptOutcome, Attempts};
use crate::runtime::owned::OwnedPartition;
use crate::runtime::pending_record::PendingRecord;

/// Looks for stalled work.
pub(crate) fn watch(owned: &mut OwnedPartition, attempts: &Attempts, now: Moment) {
    owned.core.watch(now);
    while let Some(alarm) = owned.core.next_alarm() {
        log_alarm(owned, alarm, now);
    }
    if owned.core.may_have_blocker(now) {
        look_for_blocker(owned, attempts, now);
    }
}

fn log_alarm(owned: &OwnedPartition, alarm: Alarm, now: Moment) {
    let (topic, partition) = owned.name();
    match alarm {
        Alarm::SlowAttempt {
            ticket,
            offset,
            attempt,
            running_for,
        } => {
            let key_hash = owned
                .core
                .record(ticket)
                .and_then(PendingRecord::key_hash)
                .map(tracing::field::display);
            tracing::warn!(
                %topic, partition, %offset, key_hash, attempt, ?running_for,
                "an attempt runs longer than watchdog.slow_attempt; its key waits"
            );
        }
        Alarm::MoreSlowAttempts { attempts } => {
            tracing::warn!(%topic, partition, attempts, "more attempts run longer than watchdog.slow_attempt");
        }
        Alarm::Stalled { stalled_for } => {
            let Some(oldest) = owned.core.oldest() else {
                return;
            };
            let key_hash = oldest.record.key_hash().map(tracing::field::display);
            tracing::warn!(
                %topic, partition, offset = %oldest.offset, key_hash, attempts = oldest.attempts,
                state = oldest.state.as_str(), age = ?now.since(oldest.since), ?stalled_for,
                settled_ahead = owned.core.settled_ahead(), pending = owned.core.pending(),
                "the partition makes no progress: its commit waits for this record"
            );
        }
        Alarm::MovesAgain { stalled_for } => {
            tracing::info!(%topic, partition, ?stalled_for, "the partition makes progress again");
        }
        _ => {}
    }
}

fn look_for_blocker(owned: &mut OwnedPartition, attempts: &Attempts, now: Moment) {
    let runtime = owned.runtime.clone();
    // The guard is every partition's: its lock ends here, before the line is written.
    let blocking = owned.core.take_blocker(now, &mut runtime.guard());
    let running = match blocking {
        None => return,
        Some(Blocking::RefusedByGuard) => {
            owned.metrics.held(1);
            return;
        }
        Some(Blocking::Taken(blocker)) => {
            let key_hash = blocker.record.key_hash().map(tracing::field::display);
            tracing::warn!(
                topic = %owned.source.topic, partition = owned.source.partition, offset = %blocker.offset, key_hash,
                attempts = blocker.attempts, held_for = ?blocker.held_for, behind = blocker.behind,
                is_running = blocker.running.is_some(),
                "a record holds up its partition, while nearly all others are settled: it goes to the dead-letter topic"
            );
            blocker.running
        }
    };
    // The attempt reports its end through the inbox when its future has been dropped.
    if let Some(ticket) = running {
        attempts.abort(ticket);
    }
}

/// The outcome of an attempt whose future was dropped before it had one: by
/// [`look_for_blocker`], or since it could not go on.
pub(crate) fn outcome_of_dropped(
    owned: &OwnedPartition,
    ticket: Ticket,
    elapsed: Duration,
) -> AttemptOutcome {
    let (failure, error): (_, String) = if owned.core.is_blocker(ticket) {
        (
            Failure::TimedOut,
            format!("the attempt was ended after {elapsed:?}: its record held up the partition"),
        )
    } else {
        (
            Failure::Panicked,
            "the attempt was dropped before it ended".into(),
        )
    };
    AttemptOutcome::failed(failure, error)
}
