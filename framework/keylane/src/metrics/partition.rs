//! The series of one partition, cached for as long as it is assigned.
//!
//! Each series has one owner, so they come in three parts: what the owner of the partition knows,
//! what the thread that reads it knows, and the lag, which needs both.

use std::time::{Duration, Instant};

use keylane_core::{Reason, RecordState};

use super::labels::{
    AttemptResult, LabelValue, LaneState, Outcome, RetryPlace, RetryTier, UnreadableMetadata,
};
use super::names;
use super::series::{CounterSeries, GaugeSeries, HistogramSeries, Scope, SecondsSeries, Touch};

/// Whose series they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MetricLabels<'a> {
    pub(crate) subscription: &'a str,
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
}

impl MetricLabels<'_> {
    /// Of series that all partitions of the subscription add to: by partition they would be too
    /// many.
    fn subscription_scope(&self) -> Scope {
        Scope::new([("subscription", self.subscription.to_owned())])
    }

    fn scope(&self) -> Scope {
        Scope::new([
            ("subscription", self.subscription.to_owned()),
            ("topic", self.topic.to_owned()),
            ("partition", self.partition.to_string()),
        ])
    }
}

/// What the owner of a partition counts and measures.
///
/// What happens for each record is buffered here, at the cost of an addition, and told to the
/// recorder by [`flush`](Self::flush): once per turn, and on drop. What is rare goes out at once.
///
/// Drop the metrics of an assignment before making those of the next one: dropping sets the gauges
/// to 0.
#[derive(Debug)]
pub(crate) struct PartitionMetrics {
    settled: Vec<CounterSeries>,
    attempts: Vec<CounterSeries>,
    attempt_duration: HistogramSeries,
    attempt_timeout_seconds: SecondsSeries,
    queue_wait: HistogramSeries,
    delivery_latency: HistogramSeries,
    retry_wait: Vec<HistogramSeries>,
    due_lateness: HistogramSeries,
    starved_seconds: SecondsSeries,

    retries: Vec<CounterSeries>,
    dead_letters: Vec<CounterSeries>,
    outage_holds: CounterSeries,
    poison_suspicions: CounterSeries,
    repeated_deliveries: CounterSeries,
    commit_metadata_truncated: CounterSeries,
    commit_metadata_unreadable: Vec<CounterSeries>,
    /// Cuts that only the owner sees; the thread that reads counts the others in the same series.
    log_cuts: CounterSeries,

    watermark_offset: GaugeSeries,
    watermark_age: GaugeSeries,
    watermark_attempts: GaugeSeries,
    watermark_state: Vec<GaugeSeries>,
    settled_ahead: GaugeSeries,
    pending_records: GaugeSeries,
    pending_bytes: GaugeSeries,
    running_attempts: GaugeSeries,
    waiting_for_retry: Vec<GaugeSeries>,
    parked: GaugeSeries,
    lanes: Vec<GaugeSeries>,
}

impl PartitionMetrics {
    pub(crate) fn new(labels: &MetricLabels<'_>) -> Self {
        let scope = labels.scope();
        Self {
            settled: scope.counters::<Outcome>(&names::SETTLED),
            attempts: scope.counters::<AttemptResult>(&names::ATTEMPTS),
            attempt_duration: scope.histogram(&names::ATTEMPT_DURATION),
            attempt_timeout_seconds: scope.seconds(&names::ATTEMPT_TIMEOUT_SECONDS),
            queue_wait: scope.histogram(&names::QUEUE_WAIT),
            delivery_latency: scope.histogram(&names::DELIVERY_LATENCY),
            retry_wait: labels
                .subscription_scope()
                .histograms::<RetryTier>(&names::RETRY_WAIT),
            due_lateness: labels.subscription_scope().histogram(&names::DUE_LATENESS),
            starved_seconds: scope.seconds(&names::STARVED_SECONDS),
            retries: scope.counters::<RetryPlace>(&names::RETRIES),
            dead_letters: scope.counters::<Reason>(&names::DEAD_LETTERS),
            outage_holds: scope.counter(&names::OUTAGE_HOLDS),
            poison_suspicions: scope.counter(&names::POISON_SUSPICIONS),
            repeated_deliveries: scope.counter(&names::REPEATED_DELIVERIES),
            commit_metadata_truncated: scope.counter(&names::COMMIT_METADATA_TRUNCATED),
            commit_metadata_unreadable: scope
                .counters::<UnreadableMetadata>(&names::COMMIT_METADATA_UNREADABLE),
            log_cuts: scope.counter(&names::LOG_CUTS),
            watermark_offset: scope.gauge(&names::WATERMARK_OFFSET),
            watermark_age: scope.gauge(&names::WATERMARK_AGE),
            watermark_attempts: scope.gauge(&names::WATERMARK_ATTEMPTS),
            watermark_state: scope.gauges::<RecordState>(&names::WATERMARK_STATE),
            settled_ahead: scope.gauge(&names::SETTLED_AHEAD),
            pending_records: scope.gauge(&names::PENDING_RECORDS),
            pending_bytes: scope.gauge(&names::PENDING_BYTES),
            running_attempts: scope.gauge(&names::RUNNING_ATTEMPTS),
            waiting_for_retry: scope.gauges::<RetryTier>(&names::WAITING_FOR_RETRY),
            parked: scope.gauge(&names::PARKED),
            lanes: scope.gauges::<LaneState>(&names::LANES),
        }
    }

    // For each record: buffered until the next flush.

    #[inline]
    pub(crate) fn settled(&mut self, outcome: Outcome, records: u64) {
        self.settled[outcome.index()].buffer(records);
    }

    /// A record that could not be decoded was no call of the processor, so it has no duration to
    /// observe.
    #[inline]
    pub(crate) fn attempt(&mut self, result: AttemptResult, duration: Duration) {
        self.attempts[result.index()].buffer(1);
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

    /// A record begins to wait so long.
    #[inline]
    pub(crate) fn retry_wait(&mut self, tier: RetryTier, delay: Duration) {
        self.retry_wait[tier.index()].buffer(delay);
    }

    /// Tells the recorder what is buffered.
    pub(crate) fn flush(&mut self) {
        self.attempts.iter_mut().for_each(CounterSeries::flush);
        self.attempt_duration.flush();
        self.queue_wait.flush();
        self.delivery_latency.flush();
        self.due_lateness.flush();
        self.retry_wait.iter_mut().for_each(HistogramSeries::flush);
        // Last: a scrape in between shows no settlement without its attempt.
        self.settled.iter_mut().for_each(CounterSeries::flush);
    }

    // Rare: told at once.

    pub(crate) fn retried(&mut self, place: RetryPlace, records: u64) {
        self.retries[place.index()].add(records);
    }

    /// Counted when the write is acknowledged.
    pub(crate) fn dead_lettered(&mut self, reason: Reason, records: u64) {
        self.dead_letters[reason.index()].add(records);
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

    /// Nothing was pending for so long.
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
        self.commit_metadata_unreadable[reason.index()].add(1);
    }

    // Levels: a comparison if nothing changed.

    /// The lowest unsettled offset, and how long ago that record was delivered (0 if nothing is
    /// pending).
    pub(crate) fn set_watermark(&mut self, offset: i64, age: Duration) {
        self.watermark_offset.set(offset as f64);
        self.watermark_age.set(age.as_secs_f64());
    }

    /// The oldest unsettled record; `None` where there is none.
    pub(crate) fn set_oldest(&mut self, attempts: u32, state: Option<RecordState>) {
        self.watermark_attempts.set(f64::from(attempts));
        for (series, each) in self.watermark_state.iter_mut().zip(RecordState::ALL) {
            series.set(f64::from(u8::from(state == Some(*each))));
        }
    }

    pub(crate) fn set_settled_ahead(&mut self, records: usize) {
        self.settled_ahead.set(records as f64);
    }

    pub(crate) fn set_pending(&mut self, records: usize, bytes: usize) {
        self.pending_records.set(records as f64);
        self.pending_bytes.set(bytes as f64);
    }

    pub(crate) fn set_running(&mut self, attempts: usize) {
        self.running_attempts.set(attempts as f64);
    }

    pub(crate) fn set_waiting_for_retry(&mut self, tier: RetryTier, records: usize) {
        self.waiting_for_retry[tier.index()].set(records as f64);
    }

    pub(crate) fn set_parked(&mut self, records: usize) {
        self.parked.set(records as f64);
    }

    pub(crate) fn set_lanes(&mut self, state: LaneState, lanes: usize) {
        self.lanes[state.index()].set(lanes as f64);
    }

    /// Keeps quiet series alive in a recorder with an idle time-out, and finds a recorder that was
    /// installed late. About every ten seconds; some tens of microseconds.
    pub(crate) fn touch(&mut self) {
        self.flush();
        let counters = [
            &mut self.settled,
            &mut self.attempts,
            &mut self.retries,
            &mut self.dead_letters,
            &mut self.commit_metadata_unreadable,
        ];
        counters.into_iter().for_each(Touch::touch);
        let others: [&mut dyn Touch; 23] = [
            &mut self.attempt_duration,
            &mut self.attempt_timeout_seconds,
            &mut self.queue_wait,
            &mut self.delivery_latency,
            &mut self.retry_wait,
            &mut self.due_lateness,
            &mut self.starved_seconds,
            &mut self.outage_holds,
            &mut self.poison_suspicions,
            &mut self.repeated_deliveries,
            &mut self.commit_metadata_truncated,
            &mut self.log_cuts,
            &mut self.watermark_offset,
            &mut self.watermark_age,
            &mut self.watermark_attempts,
            &mut self.watermark_state,
            &mut self.settled_ahead,
            &mut self.pending_records,
            &mut self.pending_bytes,
            &mut self.running_attempts,
            &mut self.waiting_for_retry,
            &mut self.parked,
            &mut self.lanes,
        ];
        others.into_iter().for_each(Touch::touch);
    }
}

impl Drop for PartitionMetrics {
    fn drop(&mut self) {
        self.flush();
    }
}

/// How far a partition is behind. Whoever knows both the watermark and the end of the partition
/// owns it.
#[derive(Debug)]
pub(crate) struct LagMetrics {
    records: GaugeSeries,
    workable: GaugeSeries,
    seconds: GaugeSeries,
    workable_seconds: GaugeSeries,
    behind_transaction: GaugeSeries,
}

impl LagMetrics {
    pub(crate) fn new(labels: &MetricLabels<'_>) -> Self {
        let scope = labels.scope();
        Self {
            records: scope.gauge(&names::OFFSET_LAG),
            workable: scope.gauge(&names::WORKABLE_LAG),
            seconds: scope.gauge(&names::LAG_SECONDS),
            workable_seconds: scope.gauge(&names::WORKABLE_LAG_SECONDS),
            behind_transaction: scope.gauge(&names::TRANSACTION_LAG),
        }
    }

    /// `records` from the watermark to the end of the partition; `held_up` of them are parked or
    /// wait for a moment, or are behind such.
    pub(crate) fn set_records(&mut self, records: u64, held_up: u64) {
        self.records.set(records as f64);
        self.workable.set(records.saturating_sub(held_up) as f64);
    }

    /// The age of the record at the watermark by its own timestamp; 0 if all is settled.
    pub(crate) fn set_seconds(&mut self, age: Duration) {
        self.seconds.set(age.as_secs_f64());
    }

    /// Offsets that cannot be read because a transaction is open.
    pub(crate) fn set_behind_transaction(&mut self, offsets: u64) {
        self.behind_transaction.set(offsets as f64);
    }

    /// The same of the oldest record that nothing but time holds up.
    pub(crate) fn set_workable_seconds(&mut self, age: Duration) {
        self.workable_seconds.set(age.as_secs_f64());
    }

    pub(crate) fn touch(&mut self) {
        self.records.touch();
        self.workable.touch();
        self.seconds.touch();
        self.workable_seconds.touch();
        self.behind_transaction.touch();
    }
}

/// What the thread that reads a partition knows.
#[derive(Debug)]
pub(crate) struct ReadMetrics {
    delivered: CounterSeries,
    delivered_offset: GaugeSeries,
    handed_back: CounterSeries,
    stalled: GaugeSeries,
    slow_attempts: GaugeSeries,
    blocked: GaugeSeries,
    isolated: GaugeSeries,
    topic_recreations: CounterSeries,
    log_cuts: CounterSeries,
    passed_over: CounterSeries,
    paused: GaugeSeries,
    paused_by_user: GaugeSeries,
    paused_by_not_due: GaugeSeries,
    paused_seconds: SecondsSeries,
    paused_since: Option<Instant>,
}

impl ReadMetrics {
    pub(crate) fn new(labels: &MetricLabels<'_>) -> Self {
        let scope = labels.scope();
        Self {
            delivered: scope.counter(&names::DELIVERED),
            delivered_offset: scope.gauge(&names::DELIVERED_OFFSET),
            handed_back: scope.counter(&names::HANDED_BACK),
            stalled: scope.gauge(&names::STALLED),
            slow_attempts: scope.gauge(&names::SLOW_ATTEMPTS),
            blocked: scope.gauge(&names::BLOCKED),
            isolated: scope.gauge(&names::ISOLATED),
            topic_recreations: scope.counter(&names::TOPIC_RECREATIONS),
            log_cuts: scope.counter(&names::LOG_CUTS),
            passed_over: scope.counter(&names::PASSED_OVER),
            paused: scope.gauge(&names::PAUSED),
            paused_by_user: scope.gauge(&names::PAUSED_BY_USER),
            paused_by_not_due: scope.gauge(&names::PAUSED_BY_NOT_DUE),
            paused_seconds: scope.seconds(&names::PAUSED_SECONDS),
            paused_since: None,
        }
    }

    /// Records are handed to the owner: once for each batch.
    pub(crate) fn delivered(&mut self, records: u64) {
        self.delivered.add(records);
    }

    pub(crate) fn set_delivered(&mut self, offset: i64) {
        self.delivered_offset.set(offset as f64);
    }

    /// Records given back unsettled with the partition.
    pub(crate) fn handed_back(&mut self, records: u64) {
        self.handed_back.add(records);
    }

    /// Work that does not get on, also where the owner cannot tell it.
    pub(crate) fn set_stuck(
        &mut self,
        is_stalled: bool,
        slow_attempts: u64,
        blocked_for: Duration,
    ) {
        self.stalled.set(f64::from(u8::from(is_stalled)));
        self.slow_attempts.set(slow_attempts as f64);
        self.blocked.set(blocked_for.as_secs_f64());
    }

    pub(crate) fn set_isolated(&mut self, is_isolated: bool) {
        self.isolated.set(f64::from(u8::from(is_isolated)));
    }

    /// Read from the beginning: the topic is another one.
    pub(crate) fn topic_made_anew(&mut self) {
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

    /// Call it at every change, and now and then during a pause: the time since the last call is
    /// added up.
    pub(crate) fn set_paused(&mut self, paused: bool, now: Instant) {
        if let Some(since) = self.paused_since {
            self.paused_seconds
                .add(now.saturating_duration_since(since));
        }
        self.paused_since = paused.then_some(now);
        self.paused.set(f64::from(u8::from(paused)));
    }

    pub(crate) fn set_paused_by_user(&mut self, paused: bool) {
        self.paused_by_user.set(f64::from(u8::from(paused)));
    }

    pub(crate) fn set_paused_by_not_due(&mut self, paused: bool) {
        self.paused_by_not_due.set(f64::from(u8::from(paused)));
    }

    pub(crate) fn touch(&mut self) {
        self.delivered.touch();
        self.delivered_offset.touch();
        self.handed_back.touch();
        self.stalled.touch();
        self.slow_attempts.touch();
        self.blocked.touch();
        self.isolated.touch();
        self.topic_recreations.touch();
        self.log_cuts.touch();
        self.passed_over.touch();
        self.paused.touch();
        self.paused_by_user.touch();
        self.paused_by_not_due.touch();
        self.paused_seconds.touch();
    }
}
