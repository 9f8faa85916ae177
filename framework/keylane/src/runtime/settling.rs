//! Hands the outcomes of attempts to the core.

use std::time::Duration;

use keylane_core::{Failure, Moment, Success, Ticket, Verdict};

use super::attempts::AttemptOutcome;
use super::owned::OwnedPartition;
use super::report::{Ended, observe, observed, report_parked};
use super::verdicts::carry_out;
use crate::dead_letter::{ErrorText, FailureHistory};
use crate::processing::Cause;
use crate::support::LogLimit;
use crate::support::clock;

/// A failed attempt of a partition is a warning at most once in this time; the others are at debug
/// level. In an outage there are thousands.
const FAILED_ATTEMPTS_EVERY: Duration = Duration::from_secs(30);

/// What an owner keeps of it.
pub(crate) struct Settling {
    /// The log lines of failed attempts.
    failed_attempts: LogLimit,
}

impl Settling {
    pub(crate) fn new() -> Self {
        Self {
            failed_attempts: LogLimit::every(FAILED_ATTEMPTS_EVERY),
        }
    }

    /// An attempt has ended.
    pub(crate) fn settle_attempt(
        &self,
        owned: &mut OwnedPartition,
        ticket: Ticket,
        outcome: AttemptOutcome,
        now: Moment,
    ) {
        owned.core.set_now(now);
        let observed = observed(owned, ticket);
        if let (Some(observed), Some(observer)) = (&observed, &owned.runtime.observer) {
            let text = outcome.text().map(str::to_owned);
            observer.attempted(observed, outcome.label(), text);
        }
        let verdict = match outcome {
            AttemptOutcome::Done => owned.core.succeed(ticket, Success::Done),
            AttemptOutcome::Skipped { reason } => {
                tracing::debug!(topic = %owned.source.topic, partition = owned.source.partition, %reason, "record skipped");
                owned.core.succeed(ticket, Success::Skipped)
            }
            AttemptOutcome::Failed {
                failure,
                error,
                cause,
            } => {
                let text = ErrorText::of(&error);
                self.note_failure(owned, ticket, failure, &error, text.clone(), &cause);
                // The fields of a parked record's log line.
                let ended = Ended::of(owned, ticket);
                let runtime = owned.runtime.clone();
                let attempt = runtime.failed(failure, &cause);
                let verdict = owned.core.fail(
                    ticket,
                    attempt,
                    fastrand::u64(..),
                    now,
                    &mut runtime.guard(),
                );
                if let Verdict::Parked { reason } = verdict {
                    report_parked(owned, reason, ended, text.as_str());
                }
                verdict
            }
        };
        observe(owned, observed, &verdict);
        carry_out(owned, None, verdict);
    }

    fn note_failure(
        &self,
        owned: &mut OwnedPartition,
        ticket: Ticket,
        failure: Failure,
        error: &str,
        text: ErrorText,
        cause: &Cause,
    ) {
        let (topic, partition) = (owned.source.topic.clone(), owned.source.partition);
        let Some(pending) = owned.core.record_mut(ticket) else {
            return;
        };
        let now = clock::unix_millis();
        let first = pending
            .failure
            .as_ref()
            .map(|failure| failure.first_failure_millis)
            .or_else(|| {
                pending
                    .record
                    .retry_state()
                    .and_then(|retry| retry.first_failure_by(now))
            })
            .unwrap_or(now);
        let offset = pending.record.offset();
        if let Some(left_out) = self.failed_attempts.due(clock::now()) {
            tracing::warn!(
                %topic, partition, offset, ?failure, error, left_out,
                "attempt failed"
            );
        } else {
            tracing::debug!(%topic, partition, offset, ?failure, error, "attempt failed");
        }
        pending.failure = Some(Box::new(FailureHistory {
            attempts: 0,
            first_failure_millis: first,
            last_failure_millis: now,
            reason: "",
            class: cause.class_name(),
            error: text,
        }));
    }
}
