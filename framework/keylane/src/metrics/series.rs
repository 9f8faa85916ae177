//! One series each: a cached handle of the facade, what it still has to tell it, and how it is
//! found again.

use std::sync::Arc;
use std::time::Duration;

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

    pub(super) fn counter(&self, def: &'static MetricDef) -> CounterSeries {
        CounterSeries::new(self.named(def, &[]))
    }

    /// One counter for each value of the label.
    pub(super) fn counters<V: LabelValue>(&self, def: &'static MetricDef) -> Vec<CounterSeries> {
        V::ALL
            .iter()
            .map(|value| CounterSeries::new(self.named(def, &[label(*value)])))
            .collect()
    }

    /// One counter for each pair of label values, the second one running fastest.
    pub(super) fn counters_by_two<V: LabelValue, W: LabelValue>(
        &self,
        def: &'static MetricDef,
    ) -> Vec<CounterSeries> {
        let pairs = V::ALL.iter().flat_map(|value| {
            W::ALL
                .iter()
                .map(move |other| [label(*value), label(*other)])
        });
        pairs
            .map(|pair| CounterSeries::new(self.named(def, &pair)))
            .collect()
    }

    pub(super) fn seconds(&self, def: &'static MetricDef) -> SecondsSeries {
        SecondsSeries {
            counter: self.counter(def),
            carried: Duration::ZERO,
        }
    }

    pub(super) fn gauge(&self, def: &'static MetricDef) -> GaugeSeries {
        GaugeSeries::new(self.named(def, &[]))
    }

    pub(super) fn known_gauge(&self, def: &'static MetricDef) -> KnownGaugeSeries {
        KnownGaugeSeries(self.gauge(def))
    }

    pub(super) fn gauges<V: LabelValue>(&self, def: &'static MetricDef) -> Vec<GaugeSeries> {
        V::ALL
            .iter()
            .map(|value| GaugeSeries::new(self.named(def, &[label(*value)])))
            .collect()
    }

    pub(super) fn histogram(&self, def: &'static MetricDef) -> HistogramSeries {
        HistogramSeries::new(self.named(def, &[]))
    }

    pub(super) fn histograms<V: LabelValue>(
        &self,
        def: &'static MetricDef,
    ) -> Vec<HistogramSeries> {
        V::ALL
            .iter()
            .map(|value| HistogramSeries::new(self.named(def, &[label(*value)])))
            .collect()
    }

    fn named(&self, def: &'static MetricDef, own: &[OwnLabel]) -> Identity {
        Identity {
            def,
            scope: self.clone(),
            own: own.into(),
        }
    }
}

/// Name and value of a label that tells the series of one metric and scope apart.
type OwnLabel = (&'static str, &'static str);

fn label<V: LabelValue>(value: V) -> OwnLabel {
    (V::LABEL.name, value.as_str())
}

/// How a series is found. A partition has some sixty of them, so it holds as little as can be.
#[derive(Debug)]
struct Identity {
    def: &'static MetricDef,
    scope: Scope,
    own: Box<[OwnLabel]>,
}

impl Identity {
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
        self.scope.labels.iter().cloned().chain(own).collect()
    }
}

/// A series that can be kept from looking idle.
pub(super) trait Touch {
    /// Shows the recorder that the series is alive, and finds it again if the recorder has dropped
    /// it (or was installed only after the handle was made).
    fn touch(&mut self);
}

impl<T: Touch> Touch for Vec<T> {
    fn touch(&mut self) {
        self.iter_mut().for_each(Touch::touch);
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
    fn new(identity: Identity) -> Self {
        let handle = identity.counter();
        handle.increment(0);
        Self {
            identity,
            handle,
            buffered: 0,
        }
    }

    pub(super) fn add(&self, count: u64) {
        self.handle.increment(count);
    }

    /// Adds with the next [`flush`](Self::flush); costs one addition.
    #[inline]
    pub(super) fn buffer(&mut self, count: u64) {
        self.buffered += count;
    }

    #[inline]
    pub(super) fn flush(&mut self) {
        if self.buffered > 0 {
            self.handle.increment(std::mem::take(&mut self.buffered));
        }
    }
}

impl Touch for CounterSeries {
    fn touch(&mut self) {
        self.handle = self.identity.counter();
        self.handle.increment(0);
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

impl Touch for SecondsSeries {
    fn touch(&mut self) {
        self.counter.touch();
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
    fn new(identity: Identity) -> Self {
        Self {
            identity,
            set: None,
        }
    }

    /// Costs a comparison when the value is the one it has.
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

impl Touch for GaugeSeries {
    fn touch(&mut self) {
        if let Some((handle, value)) = &mut self.set {
            *handle = self.identity.gauge();
            handle.set(*value);
        }
    }
}

/// The facade cannot remove a series, so the last word to a recorder that keeps it is 0: a
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

impl Touch for KnownGaugeSeries {
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
    fn new(identity: Identity) -> Self {
        let buffer = HistogramBuffer::new(identity.histogram(), identity.def.buckets);
        Self { identity, buffer }
    }

    #[inline]
    pub(super) fn buffer(&mut self, time: Duration) {
        self.buffer.record(time);
    }

    #[inline]
    pub(super) fn flush(&mut self) {
        self.buffer.flush();
    }
}

impl Touch for HistogramSeries {
    fn touch(&mut self) {
        self.buffer.flush();
        self.buffer.set_handle(self.identity.histogram());
    }
}
