//! keylane's own series in our registry, everybody else's in the exporter's.

use std::sync::Arc;
use std::time::Instant;

use ::metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};

use super::registry::Registry;
use crate::metrics::names::MetricKind;

/// The recorder behind [`serve_prometheus`](super::serve_prometheus), to be served or combined by
/// yourself.
///
/// It keeps keylane's own metrics exactly and at a bounded size. A recorder of the crate
/// `metrics-exporter-prometheus` keeps the other metrics of the process. [`handle`](Self::handle)
/// renders both. Call [`PrometheusHandle::run_upkeep`] every few seconds if the process records
/// histograms of its own.
///
/// # With an exporter of your own
/// Any recorder of the facade works. At high rates its histograms hold a selection of the samples
/// (see [the module](crate::metrics)). Set the buckets of
/// [`names::ALL`](crate::metrics::names::ALL). Set an idle time-out of some minutes too: it removes
/// the series of partitions that were given up.
///
/// # Examples
/// ```
/// use keylane::metrics::PrometheusRecorder;
///
/// let recorder = PrometheusRecorder::builder()
///     .global_label("app", "parking")
///     .buckets("request_seconds", &[0.01, 0.1, 1.0])
///     .build();
/// let handle = recorder.handle();
/// metrics::set_global_recorder(recorder).expect("the first recorder");
/// metrics::counter!("requests_total").increment(1);
/// metrics::histogram!("request_seconds").record(0.05);
/// let text = handle.render();
/// assert!(text.contains("requests_total{app=\"parking\"} 1"));
/// assert!(text.contains("request_seconds_bucket{app=\"parking\",le=\"0.1\"} 1"));
/// ```
#[derive(Debug)]
pub struct PrometheusRecorder {
    registry: Arc<Registry>,
    others: metrics_exporter_prometheus::PrometheusRecorder,
}

/// Configures how a [`PrometheusRecorder`] keeps the metrics that are not keylane's.
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until `build`"]
pub struct PrometheusRecorderBuilder {
    global_labels: Vec<(String, String)>,
    buckets: Vec<(String, Vec<f64>)>,
}

impl PrometheusRecorderBuilder {
    /// Adds a label to each metric that is not keylane's.
    pub fn global_label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.global_labels.push((name.into(), value.into()));
        self
    }

    /// Sets the upper bounds of the buckets of a histogram that is not keylane's, in any order.
    /// Without a finite one, which is the default, it is rendered as a summary.
    pub fn buckets(mut self, metric: impl Into<String>, bounds: &[f64]) -> Self {
        let mut bounds = bounds.to_vec();
        bounds.retain(|bound| bound.is_finite());
        bounds.sort_by(f64::total_cmp);
        bounds.dedup();
        self.buckets.push((metric.into(), bounds));
        self
    }

    /// Builds the recorder and does not install it.
    pub fn build(self) -> PrometheusRecorder {
        let others = self
            .global_labels
            .into_iter()
            .fold(PrometheusBuilder::new(), |others, (name, value)| {
                others.add_global_label(name, value)
            });
        let buckets = self.buckets.into_iter();
        let buckets = buckets.map(|(metric, bounds)| (Matcher::Full(metric), bounds));
        // Of the crate `keylane-sql`, unless the user sets others.
        let of_outbox = Matcher::Prefix("keylane_outbox_".to_owned());
        let of_outbox = (of_outbox, super::super::OUTBOX_PUBLISH_SECONDS.to_vec());
        let mut buckets = std::iter::once(of_outbox)
            .chain(buckets)
            .filter(|(_, bounds)| !bounds.is_empty());
        let others = buckets.try_fold(others, |others, (metric, bounds)| {
            others.set_buckets_for_metric(metric, &bounds)
        });
        // Only an empty list is refused.
        let others = others.unwrap_or_default();
        PrometheusRecorder {
            registry: Arc::new(Registry::new()),
            others: others.build_recorder(),
        }
    }
}

impl PrometheusRecorder {
    /// A builder without global labels and buckets.
    pub fn builder() -> PrometheusRecorderBuilder {
        PrometheusRecorderBuilder::default()
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
