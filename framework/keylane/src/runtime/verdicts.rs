//! Carries out the core's verdicts: metrics, logs and orders.

use keylane_core::{Publish, Reason, RetryTier, Settlement, Verdict, Wait};

use super::owned::OwnedPartition;
use super::pending_record::PendingRecord;
use super::report::{exhausted, report_foreign, report_skipped};
use crate::metrics::RetryPlace;

/// `written`: the write that the verdict is about, where it is about one.
pub(crate) fn carry_out(
    owned: &mut OwnedPartition,
    written: Option<Publish>,
    verdict: Verdict<PendingRecord>,
) {
    match verdict {
        Verdict::Settled {
            outcome,
            record,
            offset,
            attempts,
        } => {
            owned.dead_letter_orders.remove(&offset);
            match outcome {
                Settlement::Done | Settlement::Skipped => {}
                Settlement::Retried => {
                    owned.metrics.retried(RetryPlace::Topic, 1);
                    if let Some(Publish::Retry { round, delay }) = written {
                        owned
                            .metrics
                            .retry_wait(Wait::Topic { round }.into(), delay);
                    }
                }
                Settlement::DeadLettered => {
                    let reason = match written {
                        Some(Publish::DeadLetter { reason }) => reason,
                        _ => Reason::Exhausted,
                    };
                    owned.metrics.dead_lettered(reason, 1);
                }
                Settlement::Foreign => report_foreign(owned, &record.record),
                Settlement::SkippedByOperator => {
                    report_skipped(owned, offset, attempts, Some(&record))
                }
            }
            owned.metrics.settled(outcome, 1);
            owned.release(record.record.size());
        }
        Verdict::Waiting { delay, held } => {
            owned.metrics.retried(RetryPlace::InPlace, 1);
            owned.metrics.retry_wait(RetryTier::InPlace, delay);
            if held.is_some() {
                owned.metrics.held(1);
            }
        }
        Verdict::Publishing | Verdict::Parked { .. } | Verdict::Stale => {}
        Verdict::Stop { reason, offset } => {
            let error = exhausted(owned, reason, offset);
            owned.runtime.control.stop(error);
        }
    }
}
