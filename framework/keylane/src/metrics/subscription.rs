//! The series of one subscription, and those of its poll thread.

use std::sync::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use ::metrics::{Gauge, gauge};

use super::labels::{
    CommitFailure, ConsumerError, DrainResult, LabelValue, PollSection, ProduceFailure,
    ProduceTarget, Rebalance,
};
use super::late_recorder::LateRecorder;
use super::names;
use super::series::{
    CounterSeries, Each, GaugeSeries, HistogramSeries, KnownGaugeSeries, Scope, Series,
};
use super::table::{Show, series};
use crate::status::{ControlStatus, InFlight, OutageKind, State};
use crate::support::lock;

/// What the threads and tasks of one subscription count. Everything here is rare, so a lock is
/// cheap enough.
///
/// Each subscription of a process has a name of its own here; see [`SeriesName`](super::SeriesName).
#[derive(Debug)]
pub(crate) struct SubscriptionMetrics {
    series: RwLock<Rare>,
    /// Shared by all subscriptions of the process, so the end of one must not set it to 0.
    build_info: Mutex<Gauge>,
    late_recorder: LateRecorder,
}

series! {
    struct Rare;
    direct {
        commits: CounterSeries = COMMITS,
        commit_failures: Each<CommitFailure, CounterSeries> = COMMIT_FAILURES,
        rebalances: Each<Rebalance, CounterSeries> = REBALANCES,
        assigned_partitions: GaugeSeries = ASSIGNED_PARTITIONS,
        drain_duration: Each<DrainResult, HistogramSeries> = DRAIN_DURATION,
        produce_failures: Each<ProduceTarget, Each<ProduceFailure, CounterSeries>> =
            PRODUCE_FAILURES,
        consumer_errors: Each<ConsumerError, CounterSeries> = CONSUMER_ERRORS,
        state: Each<State, GaugeSeries> = SUBSCRIPTION_STATE,
        outage: Each<OutageKind, GaugeSeries> = OUTAGE,
        held_records: GaugeSeries = HELD_RECORDS,
        in_flight: KnownGaugeSeries = IN_FLIGHT,
        max_in_flight: KnownGaugeSeries = MAX_IN_FLIGHT,
        dead_letter_topic: KnownGaugeSeries = DEAD_LETTER_TOPIC,
        open_dead_letters: KnownGaugeSeries = OPEN_DEAD_LETTERS,
        control_revision: KnownGaugeSeries = CONTROL_REVISION,
        control_readable: KnownGaugeSeries = CONTROL_READABLE,
        control_paused: KnownGaugeSeries = CONTROL_PAUSED,
    }
}

impl SubscriptionMetrics {
    /// Describes every metric to the recorder, too.
    pub(crate) fn new(subscription: &str) -> Self {
        let late_recorder = LateRecorder::new();
        names::describe();
        let metrics = Self {
            late_recorder,
            series: RwLock::new(Rare::in_scope(&scope(subscription))),
            build_info: Mutex::new(build_info()),
        };
        metrics.set_state(State::Starting);
        metrics
    }

    /// Logs once where a recorder was installed after the series were made.
    pub(crate) fn look_for_a_late_recorder(&self, name: &str) {
        self.late_recorder.look(name);
    }

    pub(crate) fn committed(&self) {
        self.read().commits.add(1);
    }

    pub(crate) fn commit_failed(&self, kind: CommitFailure) {
        self.read().commit_failures[kind].add(1);
    }

    pub(crate) fn rebalance(&self, event: Rebalance) {
        self.read().rebalances[event].add(1);
    }

    pub(crate) fn set_assigned_partitions(&self, partitions: usize) {
        self.write().assigned_partitions.set(partitions as f64);
    }

    /// One hand-over: from the order to give partitions up until their last attempt had ended and
    /// their last commit was answered, or both were given up.
    pub(crate) fn drained(&self, result: DrainResult, duration: Duration) {
        let drain_duration = &mut self.write().drain_duration[result];
        drain_duration.buffer(duration);
        drain_duration.flush();
    }

    pub(crate) fn produce_failed(&self, target: ProduceTarget, kind: ProduceFailure) {
        self.read().produce_failures[target][kind].add(1);
    }

    pub(crate) fn consumer_error(&self, kind: ConsumerError) {
        self.read().consumer_errors[kind].add(1);
    }

    pub(crate) fn set_state(&self, state: State) {
        let is_in = |each: State| each.index() == state.index();
        self.write().state.show(is_in);
    }

    pub(crate) fn set_outages(&self, goes_on: impl Fn(OutageKind) -> bool) {
        self.write().outage.show(goes_on);
    }

    pub(crate) fn set_held_records(&self, held: usize) {
        self.write().held_records.set(held as f64);
    }

    /// `None` without a limit.
    pub(crate) fn set_in_flight(&self, in_flight: Option<InFlight>) {
        let mut series = self.write();
        series.in_flight.set(in_flight.map(|it| it.attempts as f64));
        series
            .max_in_flight
            .set(in_flight.map(|it| it.limit as f64));
    }

    /// `None` without a control topic. `paused`: how many partitions it pauses.
    pub(crate) fn set_control(&self, control: Option<&ControlStatus>, paused: usize) {
        let mut series = self.write();
        series
            .control_revision
            .set(control.map(|it| it.revision as f64));
        series
            .control_readable
            .set(control.map(|it| f64::from(u8::from(it.readable))));
        series.control_paused.set(control.map(|_| paused as f64));
    }

    /// `None` while it is unknown.
    pub(crate) fn set_dead_letter_topic_records(&self, records: Option<u64>) {
        self.write()
            .dead_letter_topic
            .set(records.map(|records| records as f64));
    }

    /// `None` while it is unknown.
    pub(crate) fn set_open_dead_letters(&self, letters: Option<u64>) {
        self.write()
            .open_dead_letters
            .set(letters.map(|letters| letters as f64));
    }

    /// See [`PartitionMetrics::touch`](super::PartitionMetrics::touch).
    pub(crate) fn touch(&self) {
        names::describe();
        self.write().touch();
        *lock::lock(&self.build_info) = build_info();
    }

    fn read(&self) -> RwLockReadGuard<'_, Rare> {
        lock::read(&self.series)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Rare> {
        lock::write(&self.series)
    }
}

series! {
    /// Where the time of the poll thread goes, and when it was last there. The thread owns it; what
    /// it measures is buffered until [`flush`](Self::flush): once per pass of the loop, or less
    /// often.
    pub(crate) struct PollMetrics;
    direct {
        last_poll: GaugeSeries = LAST_POLL,
    }
    buffered {
        sections: Each<PollSection, HistogramSeries> = POLL_DURATION,
    }
}

impl PollMetrics {
    pub(crate) fn new(subscription: &str) -> Self {
        Self::in_scope(&scope(subscription))
    }

    #[inline]
    pub(crate) fn section(&mut self, section: PollSection, time: Duration) {
        self.sections[section].buffer(time);
    }

    /// A time and not an age: no thread would make an age grow while this one hangs.
    pub(crate) fn set_last_poll(&mut self, since_unix_epoch: Duration) {
        self.last_poll.set(since_unix_epoch.as_secs_f64());
    }
}

fn scope(subscription: &str) -> Scope {
    Scope::new([("subscription", subscription.to_owned())])
}

fn build_info() -> Gauge {
    let gauge = gauge!(names::BUILD_INFO.name, "version" => env!("CARGO_PKG_VERSION"));
    gauge.set(1.0);
    gauge
}
