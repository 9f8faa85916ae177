//! The series of one subscription, and those of its poll thread.

use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use ::metrics::{Gauge, gauge};

use super::labels::{
    CommitFailure, ConsumerError, DrainResult, LabelValue, OutageKind, PollSection, ProduceFailure,
    ProduceTarget, Rebalance, State,
};
use super::names;
use super::series::{CounterSeries, GaugeSeries, HistogramSeries, KnownGaugeSeries, Scope, Touch};
use crate::support::lock;

/// What the threads and tasks of one subscription count. Everything here is rare, so a lock is
/// cheap enough.
///
/// Two subscriptions of one process need different names: with the same one their counters add up
/// and their gauges overwrite each other.
#[derive(Debug)]
pub(crate) struct SubscriptionMetrics {
    series: RwLock<Series>,
}

#[derive(Debug)]
struct Series {
    commits: CounterSeries,
    commit_failures: Vec<CounterSeries>,
    rebalances: Vec<CounterSeries>,
    assigned_partitions: GaugeSeries,
    drain_duration: Vec<HistogramSeries>,
    produce_failures: Vec<CounterSeries>,
    consumer_errors: Vec<CounterSeries>,
    state: Vec<GaugeSeries>,
    outage: Vec<GaugeSeries>,
    held_records: GaugeSeries,
    dead_letter_topic: KnownGaugeSeries,
    /// Shared by all subscriptions of the process, so the end of one must not set it to 0.
    build_info: Gauge,
}

impl SubscriptionMetrics {
    /// Describes every metric to the recorder, too.
    pub(crate) fn new(subscription: &str) -> Self {
        names::describe();
        let scope = scope(subscription);
        let metrics = Self {
            series: RwLock::new(Series {
                commits: scope.counter(&names::COMMITS),
                commit_failures: scope.counters::<CommitFailure>(&names::COMMIT_FAILURES),
                rebalances: scope.counters::<Rebalance>(&names::REBALANCES),
                assigned_partitions: scope.gauge(&names::ASSIGNED_PARTITIONS),
                drain_duration: scope.histograms::<DrainResult>(&names::DRAIN_DURATION),
                produce_failures: scope
                    .counters_by_two::<ProduceTarget, ProduceFailure>(&names::PRODUCE_FAILURES),
                consumer_errors: scope.counters::<ConsumerError>(&names::CONSUMER_ERRORS),
                state: scope.gauges::<State>(&names::SUBSCRIPTION_STATE),
                outage: scope.gauges::<OutageKind>(&names::OUTAGE),
                held_records: scope.gauge(&names::HELD_RECORDS),
                dead_letter_topic: scope.known_gauge(&names::DEAD_LETTER_TOPIC),
                build_info: build_info(),
            }),
        };
        metrics.set_state(State::Starting);
        metrics
    }

    pub(crate) fn committed(&self) {
        self.read().commits.add(1);
    }

    pub(crate) fn commit_failed(&self, kind: CommitFailure) {
        self.read().commit_failures[kind.index()].add(1);
    }

    pub(crate) fn rebalance(&self, event: Rebalance) {
        self.read().rebalances[event.index()].add(1);
    }

    pub(crate) fn set_assigned_partitions(&self, partitions: usize) {
        self.write().assigned_partitions.set(partitions as f64);
    }

    /// One partition: from the order to give it up until its last attempt had ended, or the
    /// deadline.
    pub(crate) fn drained(&self, result: DrainResult, duration: Duration) {
        let drain_duration = &mut self.write().drain_duration[result.index()];
        drain_duration.buffer(duration);
        drain_duration.flush();
    }

    pub(crate) fn produce_failed(&self, target: ProduceTarget, kind: ProduceFailure) {
        let index = target.index() * ProduceFailure::ALL.len() + kind.index();
        self.read().produce_failures[index].add(1);
    }

    pub(crate) fn consumer_error(&self, kind: ConsumerError) {
        self.read().consumer_errors[kind.index()].add(1);
    }

    pub(crate) fn set_state(&self, state: State) {
        for (index, gauge) in self.write().state.iter_mut().enumerate() {
            gauge.set(f64::from(u8::from(index == state.index())));
        }
    }

    pub(crate) fn set_outages(&self, goes_on: impl Fn(OutageKind) -> bool) {
        for (gauge, kind) in self.write().outage.iter_mut().zip(OutageKind::ALL) {
            gauge.set(f64::from(u8::from(goes_on(*kind))));
        }
    }

    pub(crate) fn set_held_records(&self, held: usize) {
        self.write().held_records.set(held as f64);
    }

    /// `None` while it is unknown.
    pub(crate) fn set_dead_letter_topic_records(&self, records: Option<u64>) {
        self.write()
            .dead_letter_topic
            .set(records.map(|records| records as f64));
    }

    /// See [`PartitionMetrics::touch`](super::PartitionMetrics::touch).
    pub(crate) fn touch(&self) {
        names::describe();
        let series = &mut *self.write();
        let all: [&mut dyn Touch; 11] = [
            &mut series.commits,
            &mut series.commit_failures,
            &mut series.rebalances,
            &mut series.assigned_partitions,
            &mut series.drain_duration,
            &mut series.produce_failures,
            &mut series.consumer_errors,
            &mut series.state,
            &mut series.outage,
            &mut series.held_records,
            &mut series.dead_letter_topic,
        ];
        all.into_iter().for_each(Touch::touch);
        series.build_info = build_info();
    }

    fn read(&self) -> RwLockReadGuard<'_, Series> {
        lock::read(&self.series)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Series> {
        lock::write(&self.series)
    }
}

/// Where the time of the poll thread goes, and when it was last there. The thread owns it; what it
/// measures is buffered until [`flush`](Self::flush).
#[derive(Debug)]
pub(crate) struct PollMetrics {
    sections: Vec<HistogramSeries>,
    last_poll: GaugeSeries,
}

impl PollMetrics {
    pub(crate) fn new(subscription: &str) -> Self {
        let scope = scope(subscription);
        Self {
            sections: scope.histograms::<PollSection>(&names::POLL_DURATION),
            last_poll: scope.gauge(&names::LAST_POLL),
        }
    }

    #[inline]
    pub(crate) fn section(&mut self, section: PollSection, time: Duration) {
        self.sections[section.index()].buffer(time);
    }

    /// A time and not an age: nobody would make an age grow while the thread hangs.
    pub(crate) fn set_last_poll(&mut self, since_unix_epoch: Duration) {
        self.last_poll.set(since_unix_epoch.as_secs_f64());
    }

    /// Once per turn of the loop, or less often.
    pub(crate) fn flush(&mut self) {
        self.sections.iter_mut().for_each(HistogramSeries::flush);
    }

    /// See [`PartitionMetrics::touch`](super::PartitionMetrics::touch).
    pub(crate) fn touch(&mut self) {
        self.sections.touch();
        self.last_poll.touch();
    }
}

impl Drop for PollMetrics {
    fn drop(&mut self) {
        self.flush();
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
