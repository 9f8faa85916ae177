//! One series each: a cached handle of the facade, what it still has to tell it, and how it is found again.

use std::time::Duration;

use ::metrics::{Counter, Gauge, Label, counter, gauge, histogram};

use super::histogram_buffer::HistogramBuffer;
use super::labels::LabelValue;
use super::names::{MetricDef, MetricKind};

/// What every series of one partition or subscription has in common.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    labels: Vec<Label>,
}

impl Scope {
    pub(super) fn new(labels: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        Self { labels: labels.into_iter().map(|(name, value)| Label::new(name, value)).collect() }
    }

    pub(super) fn counter(&self, def: &'static MetricDef) -> CounterSeries {
        CounterSeries::new(self, def, &[])
    }

    /// One counter for each value of the label.
    pub(super) fn counters<V: LabelValue>(&self, def: &'static MetricDef) -> Vec<CounterSeries> {
        V::ALL.iter().map(|value| CounterSeries::new(self, def, &[label(*value)])).collect()
    }

    /// One counter for each pair of label values, the second one running fastest.
    pub(super) fn counters_by_two<V: LabelValue, W: LabelValue>(&self, def: &'static MetricDef) -> Vec<CounterSeries> {
        let pairs = V::ALL.iter().flat_map(|value| W::ALL.iter().map(move |other| [label(*value), label(*other)]));
        pairs.map(|pair| CounterSeries::new(self, def, &pair)).collect()
    }

    pub(super) fn seconds(&self, def: &'static MetricDef) -> SecondsSeries {
        SecondsSeries { counter: self.counter(def), carried: Duration::ZERO }
    }

    pub(super) fn gauge(&self, def: &'static MetricDef) -> GaugeSeries {
        GaugeSeries::new(self, def, None)
    }

    pub(super) fn gauges<V: LabelValue>(&self, def: &'static MetricDef) -> Vec<GaugeSeries> {
        V::ALL.iter().map(|value| GaugeSeries::new(self, def, Some(label(*value)))).collect()
    }

    pub(super) fn histogram(&self, def: &'static MetricDef) -> HistogramSeries {
        HistogramSeries::new(self, def, &[])
    }

    pub(super) fn histograms<V: LabelValue>(&self, def: &'static MetricDef) -> Vec<HistogramSeries> {
        V::ALL.iter().map(|value| HistogramSeries::new(self, def, &[label(*value)])).collect()
    }

    fn with(&self, own: &[Label]) -> Vec<Label> {
        self.labels.iter().chain(own).cloned().collect()
    }
}

fn label<V: LabelValue>(value: V) -> Label {
    Label::from_static_parts(V::LABEL.name, value.as_str())
}

/// A series that can be kept from looking idle.
pub(super) trait Touch {
    /// Shows the recorder that the series is alive, and finds it again if the recorder has dropped it (or was
    /// installed only after the handle was made).
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
    name: &'static str,
    labels: Vec<Label>,
    handle: Counter,
    buffered: u64,
}

impl CounterSeries {
    fn new(scope: &Scope, def: &'static MetricDef, own: &[Label]) -> Self {
        debug_assert_eq!(def.kind, MetricKind::Counter);
        let labels = scope.with(own);
        let handle = counter!(def.name, labels.clone());
        handle.increment(0);
        Self { name: def.name, labels, handle, buffered: 0 }
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
        self.handle = counter!(self.name, self.labels.clone());
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

/// A gauge with one owner. It does not exist before its first value: a made-up 0 would read as "no lag".
#[derive(Debug)]
pub(super) struct GaugeSeries {
    name: &'static str,
    labels: Vec<Label>,
    set: Option<(Gauge, f64)>,
}

impl GaugeSeries {
    fn new(scope: &Scope, def: &'static MetricDef, own: Option<Label>) -> Self {
        debug_assert_eq!(def.kind, MetricKind::Gauge);
        Self { name: def.name, labels: scope.with(own.as_slice()), set: None }
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
                let handle = gauge!(self.name, self.labels.clone());
                handle.set(value);
                self.set = Some((handle, value));
            }
        }
    }
}

impl Touch for GaugeSeries {
    fn touch(&mut self) {
        if let Some((handle, value)) = &mut self.set {
            *handle = gauge!(self.name, self.labels.clone());
            handle.set(*value);
        }
    }
}

/// The facade cannot remove a series, so the last word to a recorder that keeps it is 0: a partition that was given
/// up has no lag here.
impl Drop for GaugeSeries {
    fn drop(&mut self) {
        if let Some((handle, _)) = &self.set {
            handle.set(0.0);
        }
    }
}

/// A histogram with one owner, aggregated there.
#[derive(Debug)]
pub(super) struct HistogramSeries {
    name: &'static str,
    labels: Vec<Label>,
    buffer: HistogramBuffer,
}

impl HistogramSeries {
    fn new(scope: &Scope, def: &'static MetricDef, own: &[Label]) -> Self {
        debug_assert_eq!(def.kind, MetricKind::Histogram);
        let labels = scope.with(own);
        let handle = histogram!(def.name, labels.clone());
        Self { name: def.name, labels, buffer: HistogramBuffer::new(handle, def.buckets) }
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
        self.buffer.set_handle(histogram!(self.name, self.labels.clone()));
    }
}
