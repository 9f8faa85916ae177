//! One series each: a cached handle of the facade, its unflushed values, and its name and labels.

use std::marker::PhantomData;
use std::ops::{Index, IndexMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::metrics::{Counter, Gauge, Histogram, Label, counter, gauge, histogram};

use super::histogram_buffer::HistogramBuffer;
use super::labels::LabelValue;
use super::names::{MetricDef, MetricKind};

/// What every series of one partition or subscription has in common.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    labels: Arc<[Label]>,
}

impl Scope {
    pub(super) fn new(labels: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        // Shared text, so that a handle does not copy it.
        Self {
            labels: labels
                .into_iter()
                .map(|(name, value)| Label::new(name, Arc::<str>::from(value)))
                .collect(),
        }
    }

    /// The series of this metric, with those labels of the scope that the metric has.
    pub(super) fn series<S: Series>(&self, def: &'static MetricDef) -> S {
        S::new(Identity {
            def,
            scope: self.clone(),
            own: Box::default(),
        })
    }
}

/// Name and value of a label that distinguishes the series of one metric and scope.
type OwnLabel = (&'static str, &'static str);

/// How a series is found. A partition has some sixty of them, so it holds as little as can be.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    def: &'static MetricDef,
    scope: Scope,
    own: Box<[OwnLabel]>,
}

impl Identity {
    fn with<L: LabelValue>(&self, value: L) -> Self {
        let label = (L::LABEL.name, value.as_str());
        Self {
            own: self.own.iter().copied().chain([label]).collect(),
            ..self.clone()
        }
    }

    fn counter(&self) -> Counter {
        debug_assert_eq!(self.def.kind, MetricKind::Counter);
        counter!(self.def.name, self.labels())
    }

    fn gauge(&self) -> Gauge {
        debug_assert_eq!(self.def.kind, MetricKind::Gauge);
        gauge!(self.def.name, self.labels())
    }

    fn histogram(&self) -> Histogram {
        debug_assert_eq!(self.def.kind, MetricKind::Histogram);
        histogram!(self.def.name, self.labels())
    }

    fn labels(&self) -> Vec<Label> {
        let own = self
            .own
            .iter()
            .map(|(name, value)| Label::from_static_parts(name, value));
        let has = |label: &&Label| self.def.labels.iter().any(|def| def.name == label.key());
        let of_scope = self.scope.labels.iter().filter(has).cloned();
        of_scope.chain(own).collect()
    }
}

/// The series of one metric in one scope.
pub(super) trait Series {
    fn new(identity: Identity) -> Self;

    /// Keeps the series alive in the recorder, and registers it again if the recorder has dropped
    /// it, or was installed after the handle was made.
    fn touch(&mut self);

    /// Gives the recorder what is buffered.
    fn flush(&mut self) {}
}

/// One series for each value of a label.
#[derive(Debug)]
pub(super) struct Each<L, S> {
    series: Box<[S]>,
    label: PhantomData<L>,
}

impl<L, S> Each<L, S> {
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut S> {
        self.series.iter_mut()
    }
}

impl<L: LabelValue, S: Series> Series for Each<L, S> {
    fn new(identity: Identity) -> Self {
        let of_value = |value: &L| S::new(identity.with(*value));
        Self {
            series: L::ALL.iter().map(of_value).collect(),
            label: PhantomData,
        }
    }

    fn touch(&mut self) {
        self.iter_mut().for_each(S::touch);
    }

    #[inline]
    fn flush(&mut self) {
        self.iter_mut().for_each(S::flush);
    }
}

impl<L: LabelValue, S> Index<L> for Each<L, S> {
    type Output = S;

    #[inline]
    fn index(&self, value: L) -> &S {
        &self.series[value.index()]
    }
}

impl<L: LabelValue, S> IndexMut<L> for Each<L, S> {
    #[inline]
    fn index_mut(&mut self, value: L) -> &mut S {
        &mut self.series[value.index()]
    }
}

/// A counter; it exists with 0 from the start, so that the first increase is seen as one.
#[derive(Debug)]
pub(super) struct CounterSeries {
    identity: Identity,
    handle: Counter,
    buffered: u64,
}

impl CounterSeries {
    pub(super) fn add(&self, count: u64) {
        self.handle.increment(count);
    }

    /// Adds with the next [`flush`](Series::flush); costs one addition.
    #[inline]
    pub(super) fn buffer(&mut self, count: u64) {
        self.buffered += count;
    }
}

impl Series for CounterSeries {
    fn new(identity: Identity) -> Self {
        let handle = identity.counter();
        handle.increment(0);
        Self {
            identity,
            handle,
            buffered: 0,
        }
    }

    fn touch(&mut self) {
        self.handle = self.identity.counter();
        self.handle.increment(0);
    }

    #[inline]
    fn flush(&mut self) {
        if self.buffered > 0 {
            self.handle.increment(std::mem::take(&mut self.buffered));
        }
    }
}

/// A counter of whole seconds: the facade's counters know no fractions, so they are carried over.
#[derive(Debug)]
pub(super) struct SecondsSeries {
    counter: CounterSeries,
    carried: Duration,
}

impl SecondsSeries {
    pub(super) fn add(&mut self, time: Duration) {
        self.carried = self.carried.saturating_add(time);
        let whole = self.carried.as_secs();
        if whole > 0 {
            self.counter.add(whole);
            self.carried -= Duration::from_secs(whole);
        }
    }
}

impl Series for SecondsSeries {
    fn new(identity: Identity) -> Self {
        Self {
            counter: CounterSeries::new(identity),
            carried: Duration::ZERO,
        }
    }

    fn touch(&mut self) {
        self.counter.touch();
    }
}

/// A counter of the seconds for which something lasts.
#[derive(Debug)]
pub(super) struct LastingSeries {
    seconds: SecondsSeries,
    since: Option<Instant>,
}

impl LastingSeries {
    /// To be called at every change, and now and then while it lasts: the time since the last call
    /// is added.
    pub(super) fn set(&mut self, lasts: bool, now: Instant) {
        if let Some(since) = self.since {
            self.seconds.add(now.saturating_duration_since(since));
        }
        self.since = lasts.then_some(now);
    }
}

impl Series for LastingSeries {
    fn new(identity: Identity) -> Self {
        Self {
            seconds: SecondsSeries::new(identity),
            since: None,
        }
    }

    fn touch(&mut self) {
        self.seconds.touch();
    }
}

/// A gauge with one owner. It does not exist before its first value: a made-up 0 would read as "no
/// lag".
#[derive(Debug)]
pub(super) struct GaugeSeries {
    identity: Identity,
    set: Option<(Gauge, f64)>,
}

impl GaugeSeries {
    /// Costs a comparison when the value is the one it has.
    #[inline]
    pub(super) fn set(&mut self, value: f64) {
        match &mut self.set {
            Some((_, current)) if *current == value => {}
            Some((handle, current)) => {
                handle.set(value);
                *current = value;
            }
            None => {
                let handle = self.identity.gauge();
                handle.set(value);
                self.set = Some((handle, value));
            }
        }
    }
}

impl Series for GaugeSeries {
    fn new(identity: Identity) -> Self {
        Self {
            identity,
            set: None,
        }
    }

    fn touch(&mut self) {
        if let Some((handle, value)) = &mut self.set {
            *handle = self.identity.gauge();
            handle.set(*value);
        }
    }
}

/// The facade cannot remove a series, so the last value in a recorder that keeps it is 0: a
/// partition that was given up has no lag here.
impl Drop for GaugeSeries {
    fn drop(&mut self) {
        if let Some((handle, _)) = &self.set {
            handle.set(0.0);
        }
    }
}

/// A gauge of what may be unknown. While it is, the series is absent, also at the end: 0 would be a
/// claim. A recorder that keeps it shows no number.
#[derive(Debug)]
pub(super) struct KnownGaugeSeries(GaugeSeries);

impl KnownGaugeSeries {
    pub(super) fn set(&mut self, value: Option<f64>) {
        match (value, self.0.set.take()) {
            (Some(value), current) => {
                self.0.set = current;
                self.0.set(value);
            }
            (None, Some((handle, _))) => handle.set(f64::NAN),
            (None, None) => {}
        }
    }
}

impl Series for KnownGaugeSeries {
    fn new(identity: Identity) -> Self {
        Self(GaugeSeries::new(identity))
    }

    fn touch(&mut self) {
        self.0.touch();
    }
}

impl Drop for KnownGaugeSeries {
    fn drop(&mut self) {
        self.set(None);
    }
}

/// A histogram with one owner, aggregated there.
#[derive(Debug)]
pub(super) struct HistogramSeries {
    identity: Identity,
    buffer: HistogramBuffer,
}

impl HistogramSeries {
    #[inline]
    pub(super) fn buffer(&mut self, time: Duration) {
        self.buffer.record(time);
    }
}

impl Series for HistogramSeries {
    fn new(identity: Identity) -> Self {
        let buffer = HistogramBuffer::new(identity.histogram(), identity.def.buckets);
        Self { identity, buffer }
    }

    fn touch(&mut self) {
        self.buffer.flush();
        self.buffer.set_handle(self.identity.histogram());
    }

    #[inline]
    fn flush(&mut self) {
        self.buffer.flush();
    }
}
