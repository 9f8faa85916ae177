//! Figures about the pending records that take a walk over them.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use keylane_core::{Activity, Moment};

use super::owner::Owner;
use crate::Record;
use crate::metrics::{LabelValue, RetryTier};
use crate::support::clock;

/// So old are the figures at most, while turns follow one another and a walk is short.
const SURVEY_EVERY: Duration = Duration::from_millis(500);
/// Walks take one in so many parts of the time at most.
const WALKS_PART: u32 = 100;

/// When to walk again after a walk that `began` at `now`.
pub(super) fn next_walk(now: Moment, began: Instant, every: Duration) -> Moment {
    now + every.max(clock::elapsed(began) * WALKS_PART)
}

/// When the next walk is, and whether there was anything to see.
#[derive(Default)]
pub(super) struct Surveyed {
    next: Moment,
    had_pending: bool,
}

impl Owner {
    /// Tells the polling thread and the metrics, if it is time or the last record has gone: nobody
    /// may look for seconds then.
    pub(super) fn survey(&mut self, now: Moment) {
        let has_pending = self.core.pending() > 0 || !self.mail.records.is_empty();
        let is_news = self.surveyed.had_pending && !has_pending;
        if !is_news && now < self.surveyed.next {
            return;
        }
        let began = clock::now();
        let mut waiting = [0; RetryTier::ALL.len()];
        if self.core.waiting() > 0 {
            for pending in self.core.pending_records() {
                if let Activity::Waiting(wait) = pending.activity {
                    waiting[RetryTier::from(wait).index()] += 1;
                }
            }
        }
        for (tier, records) in RetryTier::ALL.iter().zip(waiting) {
            self.metrics.set_waiting_for_retry(*tier, records);
        }
        let held_up = self.core.held_up();
        self.progress
            .held_up
            .store(held_up.records as u64, Ordering::Relaxed);
        self.progress
            .not_due
            .store(held_up.not_due as u64, Ordering::Relaxed);
        self.progress
            .not_due_bytes
            .store(held_up.not_due_bytes as u64, Ordering::Relaxed);
        let workable = self
            .core
            .oldest_workable()
            .map(|held| &held.record)
            .or(self.mail.records.front());
        let workable = workable.and_then(Record::timestamp_millis);
        self.progress
            .workable_timestamp_millis
            .store(workable.unwrap_or(i64::MIN), Ordering::Relaxed);
        self.surveyed = Surveyed {
            next: next_walk(now, began, SURVEY_EVERY),
            had_pending: has_pending,
        };
    }
}
