//! The status of each partition: the owner's figures, and the polling thread's own.

use std::time::{Duration, Instant};

use keylane_core::{Behind, Snapshot};

use super::lag::{lag_age, lag_records, workable_age};
use super::paused_by::Common;
use crate::config::Watchdog;
use crate::kafka::Cached;
use crate::polling::partitions::Assigned;
use crate::status::{Control, Oldest, PartitionStatus};

/// Measures from the client's own state, without a request to a broker.
pub(crate) fn update(
    cached: Cached<'_>,
    partitions: &mut [Assigned],
    common: &Common,
    control: &Control,
    watchdog: &Watchdog,
) {
    for partition in partitions {
        let range = cached.range(&partition.topic_c, partition.partition);
        partition.look_for_emptied_log(&range);
        partition.send_log_end(range.end);
        partition.look_for_an_answer(range.end);
        let status = partition.status(range.end, common, watchdog);
        partition.report_not_due(status.paused_by, &status.snapshot);
        let paused = (status.paused, Instant::now());
        partition.read_metrics.set_paused(paused.0, paused.1);
        partition.read_metrics.show(&status);
        partition.read_metrics.touch();
        let hot_keys = partition.progress.hot_keys();
        control.set_hot_keys(&partition.topic, partition.partition, hot_keys);
        control.set_partition(status);
    }
}

impl Assigned {
    /// The client's figure is frozen while a partition is paused; the side client's is then the
    /// newer one.
    fn known_end(&self, cached: Option<i64>) -> Option<i64> {
        cached.max(self.end_offset)
    }

    fn send_log_end(&mut self, cached: Option<i64>) {
        if self.sent_log_end || !self.knows_log_end(cached) {
            return;
        }
        if let Some(end) = self.known_end(cached) {
            self.sent_log_end = true;
            self.inbox.order(|orders| orders.log_end = Some(end));
        }
    }

    /// The owner's figures and what is seen from here, together: the only place where they meet.
    fn status(
        &mut self,
        cached: Option<i64>,
        common: &Common,
        watchdog: &Watchdog,
    ) -> PartitionStatus {
        // The pause first: what it left running shows in the figures then.
        let paused_by_user = self.is_at_rest();
        let pending = self.pending_records();
        let figures = self.progress.figures();
        let mut snapshot = figures.snapshot;
        snapshot.pending = pending;
        let blocked_for = self.add_blocked(&mut snapshot, watchdog);
        let lag_records = lag_records(self.known_end(cached), snapshot.watermark);
        // Of a partition that was assigned a moment ago it is not known.
        let all_settled = pending == 0 && !self.fetch_paused && self.knows_log_end(cached);
        let behind = self.look_for_withheld(all_settled, cached);
        let oldest_timestamp = figures.oldest_timestamp_millis;
        let lag_age = lag_age(lag_records, oldest_timestamp, all_settled, behind);
        let is_not_read = self.fetch_paused || behind.is_some();
        PartitionStatus {
            paused: self.fetch_paused,
            paused_by: self.paused_by(common, &figures),
            paused_by_user,
            waits_for_place: figures.waits_for_place,
            delivered_offset: self.log.next().map(|next| next.get() - 1),
            lag_records,
            lag_age,
            workable_lag_age: workable_age(lag_age, figures.workable_timestamp_millis, is_not_read),
            withheld_records: behind.map_or(0, Behind::offsets),
            oldest: figures.oldest.map(Oldest::seen),
            snapshot,
            blocked_for,
            ..PartitionStatus::new(self.topic.clone(), self.partition)
        }
    }

    /// Stalled work, also where the owner is blocked and cannot report it.
    fn add_blocked(&mut self, snapshot: &mut Snapshot, watchdog: &Watchdog) -> Option<Duration> {
        let blocked = self.look_at_owner(watchdog)?;
        let stalled_for = Some(blocked.lasting).filter(|&it| it >= watchdog.stalled_after);
        snapshot.stalled_for = snapshot.stalled_for.max(stalled_for);
        snapshot.slow_attempts += u64::from(blocked.by_its_attempt);
        Some(blocked.lasting)
    }
}
