//! Every metric keylane emits: name, kind, unit, labels, help text and buckets. The only place
//! where they are written.
//!
//! The handles, the descriptions, the buckets of the Prometheus endpoint and the table below come
//! from [`ALL`].
//!
#![doc = include_str!("reference.md")]

use ::metrics::Unit;
use keylane_core::{Reason, RecordState, RetryTier, Settlement};

use super::labels::{
    AttemptResult, CommitFailure, ConsumerError, DrainResult, LabelDef, LabelValue, LaneState,
    PollSection, ProduceFailure, ProduceTarget, Rebalance, RetryPlace, UnreadableMetadata,
};
use crate::status::{OutageKind, State};

/// How a metric behaves.
///
/// # Examples
/// ```
/// use keylane::metrics::names::MetricKind;
///
/// assert_eq!(MetricKind::Counter.as_str(), "counter");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MetricKind {
    /// Only grows, for as long as the process holds the series.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations in buckets.
    Histogram,
}

impl MetricKind {
    /// The word Prometheus has for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric: what its series are called and what they mean.
///
/// # Examples
/// ```
/// use keylane::metrics::names;
///
/// let lag = names::ALL.iter().find(|metric| metric.name == "keylane_lag_seconds");
/// assert!(lag.is_some_and(|metric| !metric.help.is_empty()));
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct MetricDef {
    /// The name as it is exported, unit and `_total` included.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: MetricKind,
    /// The unit; [`Unit::Count`] for plain numbers.
    pub unit: Unit,
    /// The labels, in the order in which they are exported.
    pub labels: &'static [LabelDef],
    /// What the metric means, in a sentence or two.
    pub help: &'static str,
    /// The upper bounds of a histogram's buckets, ascending, without the infinite one; empty for
    /// the other kinds.
    pub buckets: &'static [f64],
}

const SUBSCRIPTION: LabelDef = LabelDef::configured("subscription");
const TOPIC: LabelDef = LabelDef::configured("topic");
const PARTITION: LabelDef = LabelDef::configured("partition");
const VERSION: LabelDef = LabelDef::configured("version");

/// Work and waiting: half a millisecond to five minutes (the default time-out of an attempt).
const WORK_SECONDS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0, 300.0,
];
/// Lateness of a record: five milliseconds to a day, because a backlog is counted in hours.
const LATENESS_SECONDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0,
    3600.0, 21600.0, 86400.0,
];
/// Delays chosen by policy: a tenth of a second to a day.
const RETRY_SECONDS: &[f64] = &[
    0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0,
];
/// Passes of the polling thread: ten microseconds to a second, beyond which something blocks it.
const TURN_SECONDS: &[f64] = &[0.00001, 0.0001, 0.001, 0.01, 0.1, 1.0, 10.0];

macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $id:ident = $name:literal: $kind:ident, $unit:ident, [$($label:expr),*] $(, $buckets:ident)?;)+) => {
        $(
            $(#[doc = $help])+
            pub const $id: MetricDef = MetricDef {
                name: $name,
                kind: MetricKind::$kind,
                unit: Unit::$unit,
                labels: &[$($label),*],
                help: concat!($($help),+).trim_ascii(),
                buckets: metrics!(@buckets $($buckets)?),
            };
        )+

        /// Every metric, in the order of the reference page.
        pub const ALL: &[MetricDef] = &[$($id),+];
    };
    (@buckets) => { &[] };
    (@buckets $buckets:ident) => { $buckets };
}

metrics! {
    // Progress of a partition.
    /// Records between the watermark (the offset a commit may cover) and the end of the partition
    /// on the broker.
    OFFSET_LAG = "keylane_offset_lag_records": Gauge, Count, [SUBSCRIPTION, TOPIC, PARTITION];
    /// Age of the record at the watermark, by its own timestamp; 0 when everything up to the end is
    /// settled. Behind an open transaction, whose records cannot be read yet, it is the time since
    /// nothing could be read.
    LAG_SECONDS = "keylane_lag_seconds": Gauge, Seconds, [SUBSCRIPTION, TOPIC, PARTITION];
    /// Offsets behind the last stable offset, while an open transaction has kept records from being
    /// read for some seconds. They are part of the lag, in records and in seconds. 0 otherwise; the
    /// markers that end transactions do not count.
    TRANSACTION_LAG = "keylane_transaction_lag_records": Gauge, Count, [SUBSCRIPTION, TOPIC, PARTITION];
    /// Lag in records that more concurrency could work off. Records that are parked, wait for a
    /// retry or their due time, or are behind such a record of their key do not count.
    WORKABLE_LAG = "keylane_workable_lag_records": Gauge, Count, [SUBSCRIPTION, TOPIC, PARTITION];
    /// Age of the oldest record that runs or could run, by its own timestamp. Records that are
    /// parked, wait for a retry or their due time, or are behind such a record of their key do not
    /// count.
    WORKABLE_LAG_SECONDS = "keylane_workable_lag_seconds": Gauge, Seconds, [SUBSCRIPTION, TOPIC, PARTITION];
    /// Lowest unsettled offset: what may be committed.
    WATERMARK_OFFSET = "keylane_watermark_offset": Gauge, Count, [SUBSCRIPTION, TOPIC, PARTITION];
    /// Time since the oldest unsettled record was delivered; 0 when nothing is pending. Grows while
    /// a record is stuck.
    WATERMARK_AGE = "keylane_watermark_age_seconds": Gauge, Seconds, [SUBSCRIPTION, TOPIC, PARTITION];
    /// Attempts of the oldest unsettled record so far; 0 when nothing is pending.
    WATERMARK_ATTEMPTS = "keylane_watermark_attempts": Gauge, Count, [SUBSCRIPTION, TOPIC, PARTITION];
    /// 1 for what the oldest unsettled record is doing, 0 for the others, and for all when nothing
    /// is pending.
    WATERMARK_STATE = "keylane_watermark_state": Gauge, Count, [SUBSCRIPTION, TOPIC, PARTITION, RecordState::LABEL];
    /// 1 while the watermark has not moved for `watchdog.stalled_after` though records wait, else
    /// 0.
    STALLED = "keylane_stalled": Gauge, Count, [SUBSCRIPTION, TOPIC, PARTITION];
    /// Attempts that have been running for longer than `watchdog.slow_attempt`.
    SLOW_ATTEMPTS = "keylane_slow_attempts": Gauge, Count, [SUBSCRIPTION, TOPIC, PARTITION];
    /// Time since the partition last ran on the async runtime, although it has work: a processor
    /// blocks its thread. 0 below the thresholds of the watchdog.
    BLOCKED = "keylane_blocked_seconds": Gauge, Seconds, [SUBSCRIPTION, TOPIC, PARTITION];
    /// 1 while records that may have killed the process are tried one by one, after crashes without
    /// progress, else 0.
    ISOLATED = "keylane_isolated": Gauge, Count, [SUBSCRIPTION, TOPIC, PARTITION];
    /// Offset of the last record that was delivered to this member.
    DELIVERED_OFFSET = "keylane_delivered_offset": Gauge, Count, [SUBSCRIPTION, TOPIC, PARTITION];
    /// Settled records above the watermark; they are redelivered if the commit metadata cannot hold
    /// them.
    SETTLED_AHEAD = "keylane_settled_ahead_records": Gauge, Count, [SUBSCRIPTION, TOPIC, PARTITION];

    // What a partition holds.
    /// Records delivered and not settled.
    PENDING_RECORDS = "keylane_pending_records": Gauge, Count, [SUBSCRIPTION, TOPIC, PARTITION];
    /// Bytes of the records delivered and not settled.
    PENDING_BYTES = "keylane_pending_bytes": Gauge, Bytes, [SUBSCRIPTION, TOPIC, PARTITION];
    /// Attempts that run now.
    RUNNING_ATTEMPTS = "keylane_running_attempts": Gauge, Count, [SUBSCRIPTION, TOPIC, PARTITION];
    /// Attempts of all partitions that run now, where `limits.max_in_flight` limits them; those of
    /// partitions that were given up count until they end. Absent without the limit.
    IN_FLIGHT = "keylane_in_flight_attempts": Gauge, Count, [SUBSCRIPTION];
    /// The limit of it: `limits.max_in_flight`. Absent without one.
    MAX_IN_FLIGHT = "keylane_max_in_flight_attempts": Gauge, Count, [SUBSCRIPTION];
    /// Records that wait for a delay or a due time, by what they wait for.
    WAITING_FOR_RETRY = "keylane_waiting_for_retry_records": Gauge, Count, [SUBSCRIPTION, TOPIC, PARTITION, RetryTier::LABEL];
    /// Records held unsettled by policy, without a worker, until an operator acts.
    PARKED = "keylane_parked_records": Gauge, Count, [SUBSCRIPTION, TOPIC, PARTITION];
    /// Lanes (keys with pending records) by what they do.
    LANES = "keylane_lanes": Gauge, Count, [SUBSCRIPTION, TOPIC, PARTITION, LaneState::LABEL];
    /// 1 while reading the partition is paused, by back-pressure or by the user, else 0.
    PAUSED = "keylane_paused": Gauge, Count, [SUBSCRIPTION, TOPIC, PARTITION];
    /// 1 while a pause of the subscription or the partition, by the user or the control topic, is
    /// in force: no attempt starts. Else 0.
    PAUSED_BY_USER = "keylane_paused_by_user": Gauge, Count, [SUBSCRIPTION, TOPIC, PARTITION];
    /// 1 while reading the partition is paused because records that are not due yet fill its
    /// limits, else 0. Nothing behind them is read until they are due.
    PAUSED_BY_NOT_DUE = "keylane_paused_by_not_due": Gauge, Count, [SUBSCRIPTION, TOPIC, PARTITION];
    /// Time for which reading the partition was paused, in whole seconds; fractions are carried
    /// over.
    PAUSED_SECONDS = "keylane_paused_seconds_total": Counter, Seconds, [SUBSCRIPTION, TOPIC, PARTITION];

    /// Time in which no record of the partition was pending, in whole seconds; fractions are
    /// carried over.
    STARVED_SECONDS = "keylane_starved_seconds_total": Counter, Seconds, [SUBSCRIPTION, TOPIC, PARTITION];

    // Work.
    /// Records read and delivered to the partition's owner.
    DELIVERED = "keylane_delivered_total": Counter, Count, [SUBSCRIPTION, TOPIC, PARTITION];
    /// Records settled, by outcome.
    SETTLED = "keylane_settled_total": Counter, Count, [SUBSCRIPTION, TOPIC, PARTITION, Settlement::LABEL];
    /// Attempts, by how they ended.
    ATTEMPTS = "keylane_attempts_total": Counter, Count, [SUBSCRIPTION, TOPIC, PARTITION, AttemptResult::LABEL];
    /// Time an attempt took, whatever its result.
    ATTEMPT_DURATION = "keylane_attempt_duration_seconds": Histogram, Seconds, [SUBSCRIPTION, TOPIC, PARTITION], WORK_SECONDS;
    /// Time from the delivery of a record to its first start.
    QUEUE_WAIT = "keylane_queue_wait_seconds": Histogram, Seconds, [SUBSCRIPTION, TOPIC, PARTITION], WORK_SECONDS;
    /// Time from the record's own timestamp to its first start: how late work begins, the
    /// processor's time excluded.
    DELIVERY_LATENCY = "keylane_delivery_latency_seconds": Histogram, Seconds, [SUBSCRIPTION, TOPIC, PARTITION], LATENESS_SECONDS;
    /// Processor time that was lost to attempts cut off by their time-out, in whole seconds;
    /// fractions are carried over.
    ATTEMPT_TIMEOUT_SECONDS = "keylane_attempt_timeout_seconds_total": Counter, Seconds, [SUBSCRIPTION, TOPIC, PARTITION];

    // Failures.
    /// Retries scheduled, by where the record waits.
    RETRIES = "keylane_retries_total": Counter, Count, [SUBSCRIPTION, TOPIC, PARTITION, RetryPlace::LABEL];
    /// Delays, recorded when they begin, by what is waited for: how often each step of retrying is
    /// reached, and how long it takes.
    RETRY_WAIT = "keylane_retry_wait_seconds": Histogram, Seconds, [SUBSCRIPTION, RetryTier::LABEL], RETRY_SECONDS;
    /// Time from the moment a record was due, by its retry topic or its producer, to its first
    /// start: how late it begins.
    DUE_LATENESS = "keylane_due_lateness_seconds": Histogram, Seconds, [SUBSCRIPTION], LATENESS_SECONDS;
    /// Records written to the dead-letter topic and acknowledged, by reason.
    DEAD_LETTERS = "keylane_dead_letters_total": Counter, Count, [SUBSCRIPTION, TOPIC, PARTITION, Reason::LABEL];
    /// Records in the dead-letter topic, from any writer: end minus start offsets of its
    /// partitions. So what compaction removed and the markers of transactions count as well.
    /// Queried twice a minute; absent while it is unknown.
    DEAD_LETTER_TOPIC = "keylane_dead_letter_topic_records": Gauge, Count, [SUBSCRIPTION];
    /// Letters in the dead-letter topic that were neither written back by a redrive nor resolved,
    /// by what the operations topic of this group says: the metric above less those. An upper
    /// bound, in the same way, and where groups share the topic: letters of other groups count,
    /// whatever became of them. Queried twice a minute; absent while it is unknown, and where the
    /// operations topic cannot be read.
    OPEN_DEAD_LETTERS = "keylane_open_dead_letters": Gauge, Count, [SUBSCRIPTION];
    /// Failures after which a record was held instead of given up, because of an outage. The record
    /// is tried again and may be counted again.
    OUTAGE_HOLDS = "keylane_outage_holds_total": Counter, Count, [SUBSCRIPTION, TOPIC, PARTITION];
    /// 1 while the member suspects an outage of this kind, else 0: records that are out of retries
    /// are held.
    OUTAGE = "keylane_outage": Gauge, Count, [SUBSCRIPTION, OutageKind::LABEL];
    /// Records held because of an outage: out of retries, tried again, and not given up.
    HELD_RECORDS = "keylane_held_records": Gauge, Count, [SUBSCRIPTION];
    /// Records suspected of having killed the process. They are counted again by the next start if
    /// nothing has been committed for the partition by then.
    POISON_SUSPICIONS = "keylane_poison_suspicions_total": Counter, Count, [SUBSCRIPTION, TOPIC, PARTITION];
    /// Failed writes to the retry and the dead-letter topic; the records stay unsettled.
    PRODUCE_FAILURES = "keylane_produce_failures_total": Counter, Count, [SUBSCRIPTION, ProduceTarget::LABEL, ProduceFailure::LABEL];
    /// Records delivered again inside one assignment, and ignored.
    REPEATED_DELIVERIES = "keylane_repeated_deliveries_total": Counter, Count, [SUBSCRIPTION, TOPIC, PARTITION];

    // Commits.
    /// Commits the broker acknowledged.
    COMMITS = "keylane_commits_total": Counter, Count, [SUBSCRIPTION];
    /// Commits that failed.
    COMMIT_FAILURES = "keylane_commit_failures_total": Counter, Count, [SUBSCRIPTION, CommitFailure::LABEL];
    /// Commits whose settled-ahead map did not fit and was cut: a restart would redeliver more.
    COMMIT_METADATA_TRUNCATED = "keylane_commit_metadata_truncated_total": Counter, Count, [SUBSCRIPTION, TOPIC, PARTITION];
    /// Assignments whose commit metadata could not be read and was treated as empty.
    COMMIT_METADATA_UNREADABLE = "keylane_commit_metadata_unreadable_total": Counter, Count, [SUBSCRIPTION, TOPIC, PARTITION, UnreadableMetadata::LABEL];

    // Group membership.
    /// Rebalance events of this member.
    REBALANCES = "keylane_rebalances_total": Counter, Count, [SUBSCRIPTION, Rebalance::LABEL];
    /// Partitions assigned to this member.
    ASSIGNED_PARTITIONS = "keylane_assigned_partitions": Gauge, Count, [SUBSCRIPTION];
    /// Time from the order to give partitions up until their last attempt had ended and their last
    /// commit was answered, or both were given up.
    DRAIN_DURATION = "keylane_drain_duration_seconds": Histogram, Seconds, [SUBSCRIPTION, DrainResult::LABEL], WORK_SECONDS;
    /// Pending records handed back unsettled when their partition was given up; another member gets
    /// them.
    HANDED_BACK = "keylane_handed_back_records_total": Counter, Count, [SUBSCRIPTION, TOPIC, PARTITION];

    /// Epochs begun at the start of the log because the topic was deleted and re-created: what was
    /// committed, or read before, belongs to a topic that is gone.
    TOPIC_RECREATIONS = "keylane_topic_recreations_total": Counter, Count, [SUBSCRIPTION, TOPIC, PARTITION];

    /// Logs that were cut below what was read of them (an unclean election, a lost disk), or went
    /// back otherwise. Counted each time it is found.
    LOG_CUTS = "keylane_log_cuts_total": Counter, Count, [SUBSCRIPTION, TOPIC, PARTITION];

    /// Offsets that reading left out because the log begins behind them. Their records were deleted
    /// before they were read, or `auto.offset.reset=latest` continued at the end. Holes of
    /// compaction and of transactions do not count.
    PASSED_OVER = "keylane_passed_over_records_total": Counter, Count, [SUBSCRIPTION, TOPIC, PARTITION];

    // The consumer.
    /// Time that the polling thread spends in each section of its loop. Its busy share is the sum of
    /// all sections except `wait`, divided by time.
    POLL_DURATION = "keylane_poll_duration_seconds": Histogram, Seconds, [SUBSCRIPTION, PollSection::LABEL], TURN_SECONDS;
    /// When the polling thread last did its housekeeping, which it does each second, in seconds
    /// since the Unix epoch. The age, `time()` minus this, grows while the member does not poll.
    /// Absent, or 0, after its end.
    LAST_POLL = "keylane_last_poll_timestamp_seconds": Gauge, Seconds, [SUBSCRIPTION];
    /// Errors the client reported.
    CONSUMER_ERRORS = "keylane_consumer_errors_total": Counter, Count, [SUBSCRIPTION, ConsumerError::LABEL];
    /// 1 for the state the subscription is in, 0 for the others. A member in a rebalance is
    /// `running`.
    SUBSCRIPTION_STATE = "keylane_subscription_state": Gauge, Count, [SUBSCRIPTION, State::LABEL];
    /// The offset behind the last record of the control topic that this member has taken in. Absent
    /// without a control topic, as are the two below.
    CONTROL_REVISION = "keylane_control_revision": Gauge, Count, [SUBSCRIPTION];
    /// 1 while the control topic can be read. While it is 0, what was last read of it holds, and no
    /// partition that is newly assigned starts.
    CONTROL_READABLE = "keylane_control_readable": Gauge, Count, [SUBSCRIPTION];
    /// Assigned partitions that the control topic pauses.
    CONTROL_PAUSED = "keylane_control_paused_partitions": Gauge, Count, [SUBSCRIPTION];
    /// Always 1; the version is in the label.
    BUILD_INFO = "keylane_build_info": Gauge, Count, [VERSION];
}

/// Registers the kind, the unit and the help text of every metric with the recorder of the process.
///
/// A subscription does so when it starts. For a recorder installed later, call this again.
pub fn describe() {
    for metric in ALL {
        match metric.kind {
            MetricKind::Counter => {
                ::metrics::describe_counter!(metric.name, metric.unit, metric.help)
            }
            MetricKind::Gauge => ::metrics::describe_gauge!(metric.name, metric.unit, metric.help),
            MetricKind::Histogram => {
                ::metrics::describe_histogram!(metric.name, metric.unit, metric.help)
            }
        }
    }
}
