//! The series of one partition, cached for as long as it is assigned.
//!
//! Each series has one writer, so they come in two parts: those that the partition's owner writes,
//! and those that the polling thread writes, which include the lag.
//!
//! A gauge of a figure is a line in `shown`, and a line in [`names`](super::names).

use std::time::{Duration, Instant};

use keylane_core::{PausedBy, Reason, RecordState, RetryTier, Settlement};

use super::labels::{AttemptResult, LaneState, RetryPlace, UnreadableMetadata};
use super::series::{
    CounterSeries, Each, GaugeSeries, HistogramSeries, LastingSeries, Scope, SecondsSeries,
};
use super::table::series;
use crate::status::{OwnerFigures, PartitionStatus};

/// Whose series they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MetricLabels<'a> {
    pub(crate) subscription: &'a str,
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
}

impl MetricLabels<'_> {
    fn scope(&self) -> Scope {
        Scope::new([
            ("subscription", self.subscription.to_owned()),
            ("topic", self.topic.to_owned()),
            ("partition", self.partition.to_string()),
        ])
    }
}

series! {
    /// What the owner of a partition counts and measures.
    ///
    /// What happens for each record is buffered here, at the cost of an addition.
    /// [`flush`](Self::flush) writes it to the recorder: once per pass of the owner, and on drop.
    /// What is rare is written at once.
    ///
    /// Drop the metrics of an assignment before making those of the next one: dropping sets the
    /// gauges to 0.
    pub(crate) struct PartitionMetrics;
    direct {
        attempt_timeout_seconds: SecondsSeries = ATTEMPT_TIMEOUT_SECONDS,
        starved_seconds: SecondsSeries = STARVED_SECONDS,
        retries: Each<RetryPlace, CounterSeries> = RETRIES,
        dead_letters: Each<Reason, CounterSeries> = DEAD_LETTERS,
        outage_holds: CounterSeries = OUTAGE_HOLDS,
        poison_suspicions: CounterSeries = POISON_SUSPICIONS,
        repeated_deliveries: CounterSeries = REPEATED_DELIVERIES,
        commit_metadata_truncated: CounterSeries = COMMIT_METADATA_TRUNCATED,
        commit_metadata_unreadable: Each<UnreadableMetadata, CounterSeries> =
            COMMIT_METADATA_UNREADABLE,
        /// Cuts that only the owner finds; the polling thread counts the others in the same series.
        log_cuts: CounterSeries = LOG_CUTS,
    }
    buffered {
        attempts: Each<AttemptResult, CounterSeries> = ATTEMPTS,
        attempt_duration: HistogramSeries = ATTEMPT_DURATION,
        queue_wait: HistogramSeries = QUEUE_WAIT,
        delivery_latency: HistogramSeries = DELIVERY_LATENCY,
        due_lateness: HistogramSeries = DUE_LATENESS,
        retry_wait: Each<RetryTier, HistogramSeries> = RETRY_WAIT,
        /// Last: a scrape in between shows no settlement without its attempt.
        settled: Each<Settlement, CounterSeries> = SETTLED,
    }
    shown from (figures: &OwnerFigures) {
        watermark_offset: GaugeSeries = WATERMARK_OFFSET => figures.snapshot.watermark,
        watermark_age: GaugeSeries = WATERMARK_AGE => figures.watermark_age,
        watermark_attempts: GaugeSeries = WATERMARK_ATTEMPTS =>
            figures.oldest.as_ref().map_or(0, |oldest| oldest.attempts),
        watermark_state: Each<RecordState, GaugeSeries> = WATERMARK_STATE =>
            |state| figures.oldest.as_ref().is_some_and(|oldest| oldest.state == state),
        settled_ahead: GaugeSeries = SETTLED_AHEAD => figures.snapshot.settled_ahead,
        pending_records: GaugeSeries = PENDING_RECORDS => figures.snapshot.pending,
        pending_bytes: GaugeSeries = PENDING_BYTES => figures.snapshot.pending_bytes,
        running_attempts: GaugeSeries = RUNNING_ATTEMPTS => figures.snapshot.running,
        waiting_for_retry: Each<RetryTier, GaugeSeries> = WAITING_FOR_RETRY =>
            |tier| figures.snapshot.waiting_for.get(tier),
        parked: GaugeSeries = PARKED => figures.snapshot.parked,
        lanes: Each<LaneState, GaugeSeries> = LANES => |state| match state {
            LaneState::Busy => figures.snapshot.running,
            LaneState::Waiting => figures.snapshot.waiting_lanes,
            LaneState::Parked => figures.snapshot.parked,
            LaneState::Paused => figures.snapshot.paused_keys,
        },
    }
}

impl PartitionMetrics {
    pub(crate) fn new(labels: &MetricLabels<'_>) -> Self {
        Self::in_scope(&labels.scope())
    }

    // For each record: buffered until the next flush.

    #[inline]
    pub(crate) fn settled(&mut self, outcome: Settlement, records: u64) {
        self.settled[outcome].buffer(records);
    }

    /// A record that could not be decoded was no call of the processor, so it has no duration to
    /// observe.
    #[inline]
    pub(crate) fn attempt(&mut self, result: AttemptResult, duration: Duration) {
        self.attempts[result].buffer(1);
        match result {
            AttemptResult::Undecodable => return,
            AttemptResult::Timeout => self.attempt_timeout_seconds.add(duration),
            _ => {}
        }
        self.attempt_duration.buffer(duration);
    }

    /// From the delivery of a record to its first start.
    #[inline]
    pub(crate) fn queue_wait(&mut self, wait: Duration) {
        self.queue_wait.buffer(wait);
    }

    /// From the record's own timestamp to its first start; 0 where the producer's clock is ahead.
    /// Not called for a record without a timestamp.
    #[inline]
    pub(crate) fn delivery_latency(&mut self, latency: Duration) {
        self.delivery_latency.buffer(latency);
    }

    /// From the moment a record was due to its first start since; 0 where it was not late.
    #[inline]
    pub(crate) fn due_lateness(&mut self, lateness: Duration) {
        self.due_lateness.buffer(lateness);
    }

    /// A record begins to wait for `delay`.
    #[inline]
    pub(crate) fn retry_wait(&mut self, tier: RetryTier, delay: Duration) {
        self.retry_wait[tier].buffer(delay);
    }

    // Rare: written at once.

    pub(crate) fn retried(&mut self, place: RetryPlace, records: u64) {
        self.retries[place].add(records);
    }

    /// Counted when the write is acknowledged.
    pub(crate) fn dead_lettered(&mut self, reason: Reason, records: u64) {
        self.dead_letters[reason].add(records);
    }

    pub(crate) fn held(&mut self, records: u64) {
        self.outage_holds.add(records);
    }

    pub(crate) fn poison_suspected(&mut self, records: u64) {
        self.poison_suspicions.add(records);
    }

    pub(crate) fn repeated_deliveries(&mut self, records: u64) {
        self.repeated_deliveries.add(records);
    }

    /// Nothing was pending for `time`.
    pub(crate) fn starved(&mut self, time: Duration) {
        self.starved_seconds.add(time);
    }

    pub(crate) fn commit_metadata_truncated(&mut self) {
        self.commit_metadata_truncated.add(1);
    }

    /// A map names offsets of a log that was cut.
    pub(crate) fn log_cut(&mut self) {
        self.log_cuts.add(1);
    }

    pub(crate) fn commit_metadata_unreadable(&mut self, reason: UnreadableMetadata) {
        self.commit_metadata_unreadable[reason].add(1);
    }
}

series! {
    /// The series of a partition that the polling thread writes, lag included.
    pub(crate) struct ReadMetrics;
    direct {
        delivered: CounterSeries = DELIVERED,
        handed_back: CounterSeries = HANDED_BACK,
        topic_recreations: CounterSeries = TOPIC_RECREATIONS,
        log_cuts: CounterSeries = LOG_CUTS,
        passed_over: CounterSeries = PASSED_OVER,
        paused: GaugeSeries = PAUSED,
        paused_seconds: LastingSeries = PAUSED_SECONDS,
    }
    shown from (status: &PartitionStatus) {
        delivered_offset: GaugeSeries = DELIVERED_OFFSET => status.delivered_offset,
        lag_records: GaugeSeries = OFFSET_LAG => status.lag_records,
        workable_lag_records: GaugeSeries = WORKABLE_LAG =>
            status.lag_records.map(|lag| lag.saturating_sub(status.snapshot.held_up)),
        lag_seconds: GaugeSeries = LAG_SECONDS => status.lag_age,
        workable_lag_seconds: GaugeSeries = WORKABLE_LAG_SECONDS => status.workable_lag_age,
        behind_transaction: GaugeSeries = TRANSACTION_LAG => status.withheld_records,
        stalled: GaugeSeries = STALLED => status.snapshot.stalled_for.is_some(),
        slow_attempts: GaugeSeries = SLOW_ATTEMPTS => status.snapshot.slow_attempts,
        blocked: GaugeSeries = BLOCKED => status.blocked_for.unwrap_or_default(),
        isolated: GaugeSeries = ISOLATED => status.snapshot.isolated,
        paused_by_user: GaugeSeries = PAUSED_BY_USER => status.paused_by_user,
        paused_by_not_due: GaugeSeries = PAUSED_BY_NOT_DUE =>
            status.paused_by == Some(PausedBy::NotDue),
    }
}

impl ReadMetrics {
    pub(crate) fn new(labels: &MetricLabels<'_>) -> Self {
        Self::in_scope(&labels.scope())
    }

    /// Records are handed to the owner: once for each batch.
    pub(crate) fn delivered(&mut self, records: u64) {
        self.delivered.add(records);
    }

    /// Records given back unsettled with the partition.
    pub(crate) fn handed_back(&mut self, records: u64) {
        self.handed_back.add(records);
    }

    /// Read from the beginning: the topic is another one.
    pub(crate) fn topic_recreated(&mut self) {
        self.topic_recreations.add(1);
    }

    /// The log went back.
    pub(crate) fn log_cut(&mut self) {
        self.log_cuts.add(1);
    }

    /// Deleted before they were read.
    pub(crate) fn passed_over(&mut self, offsets: u64) {
        self.passed_over.add(offsets);
    }

    /// To be called at every change, and now and then during a pause.
    pub(crate) fn set_paused(&mut self, paused: bool, now: Instant) {
        self.paused_seconds.set(paused, now);
        self.paused.set(f64::from(u8::from(paused)));
    }
}
