//! The owner's part in watching work that does not get on: it tells the operator, and ends the
//! attempt of a blocker.

use std::time::Duration;

use keylane_core::{Alarm, Blocking, Failure, Moment, Ticket};

use super::attempts::AttemptOutcome;
use super::owner::{Held, Owner};
use crate::KeyHash;

impl Owner {
    /// Looks for work that does not get on.
    pub(super) fn watch(&mut self, now: Moment) {
        self.core.watch(now);
        while let Some(alarm) = self.core.next_alarm() {
            self.tell_of(alarm, now);
        }
        if self.core.may_have_blocker(now) {
            self.look_for_blocker(now);
        }
    }

    fn tell_of(&self, alarm: Alarm, now: Moment) {
        let (topic, partition) = (&self.topic, self.partition_id);
        match alarm {
            Alarm::SlowAttempt {
                ticket,
                offset,
                attempt,
                running_for,
            } => {
                let key_hash = self
                    .core
                    .record(ticket)
                    .and_then(Held::key_hash)
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
                let Some(oldest) = self.core.oldest() else {
                    return;
                };
                let key_hash = oldest.record.key_hash().map(tracing::field::display);
                tracing::warn!(
                    %topic, partition, offset = %oldest.offset, key_hash, attempts = oldest.attempts,
                    state = oldest.state.as_str(), age = ?now.since(oldest.since), ?stalled_for,
                    settled_ahead = self.core.settled_ahead(), pending = self.core.pending(),
                    "the partition makes no progress: its commit waits for this record"
                );
            }
            Alarm::MovesAgain { stalled_for } => {
                tracing::info!(%topic, partition, ?stalled_for, "the partition makes progress again");
            }
            _ => {}
        }
    }

    fn look_for_blocker(&mut self, now: Moment) {
        let runtime = self.runtime.clone();
        // The guard is every partition's: its lock ends here, before the line is written.
        let blocking = self.core.take_blocker(now, &mut runtime.guard());
        let running = match blocking {
            None => return,
            Some(Blocking::RefusedByGuard) => {
                self.metrics.held(1);
                return;
            }
            Some(Blocking::Taken(blocker)) => {
                let key_hash = blocker.record.key_hash().map(tracing::field::display);
                tracing::warn!(
                    topic = %self.topic, partition = self.partition_id, offset = %blocker.offset, key_hash,
                    attempts = blocker.attempts, held_for = ?blocker.held_for, behind = blocker.behind,
                    is_running = blocker.running.is_some(),
                    "a record holds up its partition, while nearly all others are settled: it goes to the dead-letter topic"
                );
                blocker.running
            }
        };
        // The attempt reports its end through the inbox when its future has been dropped.
        if let Some(ticket) = running {
            self.abort(ticket);
        }
    }

    /// The outcome of an attempt whose future was dropped before it had one: by
    /// [`look_for_blocker`](Self::look_for_blocker), or since it could not go on.
    pub(super) fn outcome_of_dropped(&self, ticket: Ticket, elapsed: Duration) -> AttemptOutcome {
        let (failure, error): (_, String) = if self.core.is_blocker(ticket) {
            (
                Failure::TimedOut,
                format!(
                    "the attempt was ended after {elapsed:?}: its record held up the partition"
                ),
            )
        } else {
            (
                Failure::Panicked,
                "the attempt was dropped before it ended".into(),
            )
        };
        AttemptOutcome::failed(failure, error)
    }
}

impl Held {
    pub(super) fn key_hash(&self) -> Option<KeyHash> {
        self.record.key().map(KeyHash::of)
    }
}
