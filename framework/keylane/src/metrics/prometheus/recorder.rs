//! keylane's own series in our registry, everybody else's in the exporter's.

use std::sync::Arc;
use std::time::Instant;

use ::metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::PrometheusBuilder;

use super::registry::Registry;
use crate::metrics::names::MetricKind;

/// A recorder of the `metrics` facade that Prometheus can read.
///
/// Made by [`prometheus_recorder`](super::prometheus_recorder).
#[derive(Debug)]
pub struct PrometheusRecorder {
    registry: Arc<Registry>,
    others: metrics_exporter_prometheus::PrometheusRecorder,
}

impl PrometheusRecorder {
    pub(super) fn new(others: PrometheusBuilder) -> Self {
        Self {
            registry: Arc::new(Registry::new()),
            others: others.build_recorder(),
        }
    }

    /// Reads what the recorder holds, also after the recorder was installed.
    pub fn handle(&self) -> PrometheusHandle {
        PrometheusHandle {
            registry: self.registry.clone(),
            others: self.others.handle(),
        }
    }
}

impl Recorder for PrometheusRecorder {
    // The registry has its help texts from the table.

    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, description: SharedString) {
        if !self.registry.owns(name.as_str()) {
            self.others.describe_counter(name, unit, description);
        }
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, description: SharedString) {
        if !self.registry.owns(name.as_str()) {
            self.others.describe_gauge(name, unit, description);
        }
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, description: SharedString) {
        if !self.registry.owns(name.as_str()) {
            self.others.describe_histogram(name, unit, description);
        }
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        match self.registry.family(key.name(), MetricKind::Counter) {
            Ok(family) => family.counter(key),
            Err(owned) if owned => Counter::noop(),
            Err(_) => self.others.register_counter(key, metadata),
        }
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        match self.registry.family(key.name(), MetricKind::Gauge) {
            Ok(family) => family.gauge(key),
            Err(owned) if owned => Gauge::noop(),
            Err(_) => self.others.register_gauge(key, metadata),
        }
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        match self.registry.family(key.name(), MetricKind::Histogram) {
            Ok(family) => family.histogram(key),
            Err(owned) if owned => Histogram::noop(),
            Err(_) => self.others.register_histogram(key, metadata),
        }
    }
}

/// Renders what a [`PrometheusRecorder`] holds.
#[derive(Clone, Debug)]
pub struct PrometheusHandle {
    registry: Arc<Registry>,
    others: metrics_exporter_prometheus::PrometheusHandle,
}

impl PrometheusHandle {
    /// All metrics in Prometheus' text format (0.0.4).
    pub fn render(&self) -> String {
        let mut text = self.registry.render(Instant::now());
        text.push_str(&self.others.render());
        text
    }

    /// Lets go of the series of partitions long given up, and sorts the samples of the process's
    /// own histograms.
    ///
    /// [`serve_prometheus`](super::serve_prometheus) does so every five seconds.
    pub fn run_upkeep(&self) {
        self.registry.prune(Instant::now());
        self.others.run_upkeep();
    }
}
