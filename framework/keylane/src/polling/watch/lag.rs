//! How far behind the log's end each partition is.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use keylane_core::{Behind, Moment, PausedBy, Position, Rest, WithheldNews};

use super::paused_by::Common;
use crate::Watchdog;
use crate::kafka::Cached;
use crate::polling::partitions::Assigned;
use crate::status::{Control, OldestRecord, PartitionStatus};

/// Measures from what the client knows, without asking a broker.
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
        let cached_end = range.end;
        // The client's figure is frozen while a partition is paused; the side client's is then the
        // newer one.
        let end = cached_end.max(partition.end_offset);
        if let Some(end) =
            end.filter(|_| !partition.told_log_end && partition.knows_log_end(cached_end))
        {
            partition.told_log_end = true;
            partition.inbox.order(|orders| orders.log_end = Some(end));
        }
        partition.look_for_an_answer(cached_end);
        let paused_by_user = partition.is_at_rest();
        let (pending, progress) = (partition.pending_records(), &partition.progress);
        let watermark = progress.watermark.load(Ordering::Relaxed);
        let lag = lag_records(end, watermark);
        let oldest = progress.oldest_timestamp_millis.load(Ordering::Relaxed);
        if let Some(lag) = lag {
            partition
                .lag_metrics
                .set_records(lag, progress.held_up.load(Ordering::Relaxed));
        }
        // Of a partition that was assigned a moment ago it is not known.
        let all_settled =
            pending == 0 && !partition.fetch_paused && partition.knows_log_end(cached_end);
        let behind = partition.look_for_withheld(all_settled, cached_end);
        let lag_age = lag_age(lag, oldest, all_settled, behind);
        if let Some(age) = lag_age {
            partition.lag_metrics.set_seconds(age);
        }
        let progress = &partition.progress;
        let workable = progress.workable_timestamp_millis.load(Ordering::Relaxed);
        if let Some(age) = workable_age(
            lag_age,
            workable,
            partition.fetch_paused || behind.is_some(),
        ) {
            partition.lag_metrics.set_workable_seconds(age);
        }
        if let Some(next) = partition.log.next() {
            partition.read_metrics.set_delivered(next.get() - 1);
        }
        partition
            .read_metrics
            .set_paused(partition.fetch_paused, Instant::now());
        partition.read_metrics.set_paused_by_user(paused_by_user);
        let paused_by = partition.paused_by(common);
        partition
            .read_metrics
            .set_paused_by_not_due(paused_by == Some(PausedBy::NotDue));
        partition.report_not_due(paused_by);
        let stuck = Stuck::look(partition, watchdog);
        let blocked_for = stuck.blocked_for.unwrap_or_default();
        partition.read_metrics.set_stuck(
            stuck.stalled_for.is_some(),
            stuck.slow_attempts,
            blocked_for,
        );
        let isolated = partition.progress.isolated.load(Ordering::Relaxed);
        partition.read_metrics.set_isolated(isolated);
        let progress = &partition.progress;
        control.set_hot_keys(&partition.topic, partition.partition, progress.hot_keys());
        control.set_partition(PartitionStatus {
            topic: partition.topic.clone(),
            partition: partition.partition,
            watermark,
            pending,
            running: progress.running.load(Ordering::Relaxed),
            waiting: progress.waiting.load(Ordering::Relaxed),
            parked: progress.parked.load(Ordering::Relaxed),
            settled_ahead: progress.settled_ahead.load(Ordering::Relaxed),
            not_due: progress.not_due.load(Ordering::Relaxed),
            paused: partition.fetch_paused,
            paused_by,
            paused_by_user,
            lag_records: lag,
            withheld_records: behind.map_or(0, Behind::offsets),
            oldest: progress.oldest().map(oldest_record),
            slow_attempts: stuck.slow_attempts,
            stalled_for: stuck.stalled_for,
            blocked_for: stuck.blocked_for,
            isolated,
        });
        partition.read_metrics.touch();
        partition.lag_metrics.touch();
    }
}

impl Assigned {
    pub(crate) fn now(&self) -> Moment {
        Moment::new(self.opened_at.elapsed())
    }

    /// Looks whether an open transaction keeps records from being read.
    fn look_for_withheld(&mut self, all_settled: bool, end: Option<i64>) -> Option<Behind> {
        let rest = self.expected().zip(end).filter(|_| all_settled);
        let rest = rest.map(|(next, end)| Rest {
            next: Position::new(next),
            end: Position::new(end),
        });
        let now = self.now();
        let (topic, partition) = (&self.topic, self.partition);
        match self.withheld.look(rest, now) {
            Some(WithheldNews::Begun(behind)) => tracing::warn!(
                %topic, partition, last_stable_offset = behind.last_stable.get(), end = behind.end.get(),
                lasting = ?behind.lasting,
                "records cannot be read: a transaction is open in front of them; they come when its producer ends it"
            ),
            Some(WithheldNews::Ended) => {
                tracing::info!(%topic, partition, "no transaction keeps records from being read now");
            }
            None => {}
        }
        let behind = self.withheld.behind(now);
        self.lag_metrics
            .set_behind_transaction(behind.map_or(0, Behind::offsets));
        behind
    }
}

/// Work that does not get on: what the owner says, and what is seen where it is blocked.
struct Stuck {
    slow_attempts: u64,
    stalled_for: Option<Duration>,
    blocked_for: Option<Duration>,
}

impl Stuck {
    fn look(partition: &mut Assigned, watchdog: &Watchdog) -> Self {
        let blocked = partition.look_for_silence(watchdog);
        let blocked_for = blocked.map(|blocked| blocked.lasting);
        let told = Duration::from_millis(partition.progress.stalled_millis.load(Ordering::Relaxed));
        let stalled_for = blocked_for
            .filter(|&lasting| lasting >= watchdog.stalled_after)
            .max(Some(told));
        let by_its_attempt = blocked.is_some_and(|blocked| blocked.by_its_attempt);
        Self {
            slow_attempts: partition.progress.slow_attempts.load(Ordering::Relaxed)
                + u64::from(by_its_attempt),
            stalled_for: stalled_for.filter(|stalled| !stalled.is_zero()),
            blocked_for,
        }
    }
}

fn oldest_record(oldest: crate::runtime::OldestRecord) -> OldestRecord {
    OldestRecord {
        offset: oldest.offset,
        key_hash: oldest.key_hash,
        age: oldest.since.elapsed(),
        attempts: oldest.attempts,
        state: oldest.state,
    }
}

/// What lies between the watermark and the log's end; a negative watermark is none.
///
/// The end may lie below: the log was cut, or the end is from before what was read last. All that
/// is known to be there is settled then, so it is no lag, and no figure of before may stay.
fn lag_records(end: Option<i64>, watermark: i64) -> Option<u64> {
    let (end, watermark) = (u64::try_from(end?).ok()?, u64::try_from(watermark).ok()?);
    Some(end.saturating_sub(watermark))
}

/// The age of the oldest unsettled record; nothing behind is no lag.
fn lag_age(
    lag: Option<u64>,
    oldest_timestamp_millis: i64,
    all_settled: bool,
    behind: Option<Behind>,
) -> Option<Duration> {
    if let Some(behind) = behind {
        return Some(behind.lasting);
    }
    // With everything settled and nothing held back, what the end is ahead by is on its way here,
    // or no record at all: the marker at the end of a transaction counts as an offset.
    if lag == Some(0) || all_settled {
        return Some(Duration::ZERO);
    }
    age(oldest_timestamp_millis)
}

/// The same of what nothing but time holds up. What is not read, for a pause or an open
/// transaction, is no such thing: where what is held up fills the partition, all that is behind
/// waits for it.
fn workable_age(
    lag_age: Option<Duration>,
    oldest_timestamp_millis: i64,
    not_read: bool,
) -> Option<Duration> {
    let lag_age = lag_age?;
    match age(oldest_timestamp_millis) {
        Some(age) => Some(age.min(lag_age)),
        None if not_read => Some(lag_age),
        None => Some(Duration::ZERO),
    }
}

/// `i64::MIN` is none.
fn age(timestamp_millis: i64) -> Option<Duration> {
    if timestamp_millis == i64::MIN {
        return None;
    }
    let now = i64::try_from(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()?
            .as_millis(),
    )
    .ok()?;
    Some(Duration::from_millis(
        u64::try_from(now.saturating_sub(timestamp_millis)).unwrap_or(0),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log was cut below the watermark, or its end is known from before.
    #[test]
    fn an_end_below_the_watermark_is_no_lag() {
        assert_eq!(lag_records(Some(7), 5), Some(2));
        assert_eq!(lag_records(Some(5), 5), Some(0));
        assert_eq!(lag_records(Some(5), 500), Some(0));
        assert_eq!(lag_records(Some(0), i64::MAX), Some(0));
        assert_eq!(lag_records(Some(i64::MAX), 0), Some(i64::MAX as u64));
        for (end, watermark) in [(None, 5), (Some(5), -1), (Some(-1), 5)] {
            assert_eq!(lag_records(end, watermark), None, "not known");
        }
        assert_eq!(
            lag_age(Some(0), i64::MIN, false, None),
            Some(Duration::ZERO)
        );
    }

    #[test]
    fn what_an_open_transaction_withholds_is_lag_in_seconds() {
        let (last_stable, end, lasting) = (
            Position::new(5),
            Position::new(1_010),
            Duration::from_secs(25),
        );
        let behind = Some(Behind {
            last_stable,
            end,
            lasting,
        });
        assert_eq!(lag_age(Some(1_005), i64::MIN, true, behind), Some(lasting));
        assert_eq!(
            lag_age(Some(1), i64::MIN, true, None),
            Some(Duration::ZERO),
            "a marker"
        );
        assert_eq!(workable_age(Some(lasting), i64::MIN, true), Some(lasting));
    }

    #[test]
    fn what_is_held_up_is_no_workable_lag_unless_reading_waits_for_it() {
        let (hour, none) = (Some(Duration::from_secs(3600)), i64::MIN);
        assert_eq!(workable_age(hour, none, false), Some(Duration::ZERO));
        assert_eq!(workable_age(hour, none, true), hour);
        // A record of the year 2001 runs; it is not older than the lag.
        assert_eq!(workable_age(hour, 1_000_000_000_000, false), hour);
        assert_eq!(
            workable_age(Some(Duration::ZERO), 1_000_000_000_000, true),
            Some(Duration::ZERO)
        );
        assert_eq!(workable_age(None, 1_000_000_000_000, false), None);
    }
}
