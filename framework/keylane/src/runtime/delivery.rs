//! Hands delivered records to the core.

use std::time::Duration;

use keylane_core::{Delivered, Delivery, Moment, Offset, RetryTier};

use super::acts::{skipped_at_delivery, to_be_skipped};
use super::owned::OwnedPartition;
use super::pending_record::PendingRecord;
use super::report::KeyCounts;
use super::shared::Runtime;
use crate::record::Record;
use crate::support::clock;

/// Hands one delivered record to the core.
pub(crate) fn deliver(
    owned: &mut OwnedPartition,
    key_counts: &mut KeyCounts,
    record: Record,
    now: Moment,
) {
    let (bytes, offset) = (record.size(), record.offset());
    let (rounds, attempts, retried_for) =
        record.retry_state().map_or((0, 0, Duration::ZERO), |it| {
            (it.round, it.attempts, it.retried_for)
        });
    let due = record
        .due_millis()
        .and_then(|due| due_moment(&owned.runtime, due));
    if let Some(due) = due
        && rounds == 0
    {
        owned
            .metrics
            .retry_wait(RetryTier::NotBefore, due.since(now));
    }
    let skipped = to_be_skipped(owned, &record);
    let lane = record.key().map(|key| owned.runtime.lane(key));
    key_counts.delivered(&owned.runtime, lane, &record);
    let delivery = Delivery {
        offset: Offset::new(offset),
        lane,
        bytes,
        due,
        rounds,
        attempts,
        retried_for,
        record: PendingRecord::new(record),
    };
    match owned.core.deliver(delivery, now) {
        Delivered::Queued => {}
        Delivered::Repeated => {
            owned.metrics.repeated_deliveries(1);
            owned.release(bytes);
        }
        Delivered::AlreadySettled | Delivered::Foreign => {
            owned.release(bytes);
        }
        Delivered::SkippedByOperator => skipped_at_delivery(owned, offset, attempts, skipped),
    }
}

/// Wall-clock due time to the owner's monotonic one; `None` if it has passed. Both clocks are
/// read together, the wall clock first: the pass may have begun long ago, and nothing may be
/// due too early.
fn due_moment(runtime: &Runtime, due_millis: i64) -> Option<Moment> {
    let ahead = u64::try_from(due_millis.saturating_sub(clock::unix_millis()))
        .ok()
        .filter(|millis| *millis > 0)?;
    Some(runtime.moment(clock::now()) + Duration::from_millis(ahead))
}
