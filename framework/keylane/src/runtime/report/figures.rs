//! The owner's figures, as the polling thread, the handle and the metrics see them.

use std::time::{Duration, Instant};

use keylane_core::{Moment, Partition};

use crate::record::Record;
use crate::runtime::owned::OwnedPartition;
use crate::runtime::pending_record::PendingRecord;
use crate::runtime::shared::Runtime;
use crate::status::{Oldest, OwnerFigures};
use crate::support::clock;

/// The oldest record is this old at most, while passes follow one another: its key is hashed for
/// it.
const OLDEST_LOOK: Duration = Duration::from_millis(250);
/// Figures that take a walk over the pending records are this old at most, while passes follow one
/// another and a walk is short.
const SURVEY_EVERY: Duration = Duration::from_millis(500);
/// Walks take one part of this many of the time at most.
const WALKS_PART: u32 = 100;

/// When to walk again after a walk that `began` at `now`.
pub(crate) fn next_walk(now: Moment, began: Instant, every: Duration) -> Moment {
    now + every.max(clock::elapsed(began) * WALKS_PART)
}

/// What is kept from one pass to the next because it is dear to find out.
#[derive(Default)]
pub(crate) struct Figures {
    next_survey: Moment,
    had_pending: bool,
    workable_timestamp_millis: Option<i64>,
    /// And when it was looked at.
    oldest: Option<(Oldest, Instant)>,
}

impl Figures {
    /// Publishes how the partition stands to the polling thread, the handle and the metrics. `next`
    /// is the first record that is not delivered to the core yet.
    pub(crate) fn publish(
        &mut self,
        owned: &mut OwnedPartition,
        next: Option<&Record>,
        waits_for_place: bool,
        now: Moment,
    ) {
        let figures = OwnerFigures {
            waits_for_place,
            ..self.take(&mut owned.core, next, &owned.runtime, now)
        };
        owned.metrics.show(&figures);
        owned
            .progress
            .set_released(owned.released_records, owned.released_bytes);
        owned.progress.publish(figures);
    }

    /// The figures of this pass.
    fn take(
        &mut self,
        core: &mut Partition<PendingRecord>,
        next: Option<&Record>,
        runtime: &Runtime,
        now: Moment,
    ) -> OwnerFigures {
        self.survey(core, next, now);
        self.look_at_oldest(core, runtime);
        let oldest = core.oldest();
        let oldest_record = oldest.as_ref().map(|oldest| &oldest.record.record).or(next);
        OwnerFigures {
            snapshot: core.snapshot(),
            oldest: self.oldest.as_ref().map(|(oldest, _)| oldest.clone()),
            watermark_age: oldest
                .as_ref()
                .map_or(Duration::ZERO, |oldest| now.since(oldest.since)),
            oldest_timestamp_millis: oldest_record.and_then(Record::timestamp_millis),
            workable_timestamp_millis: self.workable_timestamp_millis,
            waits_for_place: false,
        }
    }

    /// Walks over the pending records, if it is time or the last record has gone: the next look may
    /// be seconds away then.
    fn survey(&mut self, core: &mut Partition<PendingRecord>, next: Option<&Record>, now: Moment) {
        let has_pending = core.pending() > 0 || next.is_some();
        let is_news = self.had_pending && !has_pending;
        if !is_news && now < self.next_survey {
            return;
        }
        let began = clock::now();
        core.survey();
        let workable = core.oldest_workable().map(|held| &held.record).or(next);
        self.workable_timestamp_millis = workable.and_then(Record::timestamp_millis);
        self.next_survey = next_walk(now, began, SURVEY_EVERY);
        self.had_pending = has_pending;
    }

    /// Looks at the record the commit waits for.
    fn look_at_oldest(&mut self, core: &Partition<PendingRecord>, runtime: &Runtime) {
        let Some(oldest) = core.oldest() else {
            self.oldest = None;
            return;
        };
        let is_fresh =
            |(_, looked_at): &(Oldest, Instant)| clock::elapsed(*looked_at) < OLDEST_LOOK;
        if self.oldest.as_ref().is_some_and(is_fresh) {
            return;
        }
        let offset = oldest.offset.get();
        let key_hash = match &self.oldest {
            Some((last, _)) if last.offset == offset => last.key_hash,
            _ => oldest.record.key_hash(),
        };
        let oldest = Oldest {
            offset,
            key_hash,
            attempts: oldest.attempts,
            state: oldest.state,
            since: runtime.instant(oldest.since),
            last_error: oldest.record.last_error(),
        };
        self.oldest = Some((oldest, clock::now()));
    }
}
