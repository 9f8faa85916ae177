//! The owner's figures, as the polling thread, the handle and the metrics see them.

use std::time::{Duration, Instant};

use keylane_core::{Moment, Partition};

use super::owner::{Held, Owner};
use super::shared::Runtime;
use crate::Record;
use crate::status::{Oldest, OwnerFigures};
use crate::support::clock;

/// The oldest record is this old at most, while turns follow one another: its key is hashed for it.
const OLDEST_LOOK: Duration = Duration::from_millis(250);
/// Figures that take a walk over the pending records are this old at most, while turns follow one
/// another and a walk is short.
const SURVEY_EVERY: Duration = Duration::from_millis(500);
/// Walks take one part of this many of the time at most.
const WALKS_PART: u32 = 100;

/// When to walk again after a walk that `began` at `now`.
pub(super) fn next_walk(now: Moment, began: Instant, every: Duration) -> Moment {
    now + every.max(began.elapsed() * WALKS_PART)
}

/// What is kept from one turn to the next because it is dear to find out.
#[derive(Default)]
pub(super) struct Figures {
    next_survey: Moment,
    had_pending: bool,
    workable_timestamp_millis: Option<i64>,
    /// And when it was looked at.
    oldest: Option<(Oldest, Instant)>,
}

impl Figures {
    /// The figures of this turn. `next` is the first record that is not delivered to the core yet.
    fn take(
        &mut self,
        core: &mut Partition<Held>,
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
            oldest: self.oldest.map(|(oldest, _)| oldest),
            watermark_age: oldest
                .as_ref()
                .map_or(Duration::ZERO, |oldest| now.since(oldest.since)),
            oldest_timestamp_millis: oldest_record.and_then(Record::timestamp_millis),
            workable_timestamp_millis: self.workable_timestamp_millis,
        }
    }

    /// Walks over the pending records, if it is time or the last record has gone: the next look may
    /// be seconds away then.
    fn survey(&mut self, core: &mut Partition<Held>, next: Option<&Record>, now: Moment) {
        let has_pending = core.pending() > 0 || next.is_some();
        let is_news = self.had_pending && !has_pending;
        if !is_news && now < self.next_survey {
            return;
        }
        let began = Instant::now();
        core.survey();
        let workable = core.oldest_workable().map(|held| &held.record).or(next);
        self.workable_timestamp_millis = workable.and_then(Record::timestamp_millis);
        self.next_survey = next_walk(now, began, SURVEY_EVERY);
        self.had_pending = has_pending;
    }

    /// Looks at the record the commit waits for.
    fn look_at_oldest(&mut self, core: &Partition<Held>, runtime: &Runtime) {
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
        };
        self.oldest = Some((oldest, clock::now()));
    }
}

impl Owner {
    /// Publishes how the partition stands to the polling thread, the handle and the metrics.
    pub(super) fn publish_figures(&mut self, now: Moment) {
        let next = self.mail.records.front();
        let figures = self.figures.take(&mut self.core, next, &self.runtime, now);
        self.metrics.show(&figures);
        self.progress
            .set_released(self.released_records, self.released_bytes);
        self.progress.publish(figures);
        self.progress.set_pause(self.mail.orders.pause);
        self.tell_hot_keys(now);
    }
}
