//! Series that live as long as their handles.
//!
//! The facade has no call that removes a series. But keylane drops its handles with the partition,
//! and a handle is an `Arc`: a series whose only owner is the registry has been given up. So no
//! series has to be touched, and none is lost because it was quiet.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use ::metrics::{Counter, Gauge, Histogram, Key};
use metrics_exporter_prometheus::formatting::{sanitize_label_key, sanitize_label_value};

use super::cells::{CounterCell, GaugeCell, HistogramCell, line};
use crate::metrics::names::{ALL, MetricDef, MetricKind};
use crate::support::lock::lock;

/// How long a counter outlives its handles: as far as Prometheus looks back, so that it scrapes the
/// final value.
pub(super) const LINGER: Duration = Duration::from_secs(300);

/// All of keylane's series: a family for each metric of the table.
#[derive(Debug)]
pub(super) struct Registry {
    families: Vec<Family>,
    by_name: HashMap<&'static str, usize>,
}

impl Registry {
    pub(super) fn new() -> Self {
        Self {
            families: ALL
                .iter()
                .map(|def| Family {
                    def,
                    series: Mutex::default(),
                })
                .collect(),
            by_name: ALL
                .iter()
                .enumerate()
                .map(|(index, def)| (def.name, index))
                .collect(),
        }
    }

    pub(super) fn owns(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// The family, or whether the name is taken by one of another kind.
    pub(super) fn family(&self, name: &str, kind: MetricKind) -> Result<&Family, bool> {
        let index = *self.by_name.get(name).ok_or(false)?;
        let family = &self.families[index];
        if family.def.kind == kind {
            Ok(family)
        } else {
            Err(true)
        }
    }

    pub(super) fn render(&self, now: Instant) -> String {
        let mut text = String::new();
        for family in &self.families {
            family.render(now, &mut text);
        }
        text
    }

    pub(super) fn prune(&self, now: Instant) {
        for family in &self.families {
            family.lock().retain(|_, series| !series.has_gone(now));
        }
    }
}

/// One metric and its series, by their labels as they are rendered.
#[derive(Debug)]
pub(super) struct Family {
    def: &'static MetricDef,
    series: Mutex<BTreeMap<String, Series>>,
}

#[derive(Debug)]
struct Series {
    cell: Cell,
    /// When it was first seen without a handle.
    given_up: Option<Instant>,
}

#[derive(Debug)]
enum Cell {
    Counter(Arc<CounterCell>),
    Gauge(Arc<GaugeCell>),
    Histogram(Arc<HistogramCell>),
}

impl Family {
    pub(super) fn counter(&self, key: &Key) -> Counter {
        match &self
            .lock()
            .entry(labels(key))
            .or_insert_with(|| Series::new(self.def))
            .cell
        {
            Cell::Counter(cell) => Counter::from_arc(cell.clone()),
            _ => Counter::noop(),
        }
    }

    pub(super) fn gauge(&self, key: &Key) -> Gauge {
        match &self
            .lock()
            .entry(labels(key))
            .or_insert_with(|| Series::new(self.def))
            .cell
        {
            Cell::Gauge(cell) => Gauge::from_arc(cell.clone()),
            _ => Gauge::noop(),
        }
    }

    pub(super) fn histogram(&self, key: &Key) -> Histogram {
        match &self
            .lock()
            .entry(labels(key))
            .or_insert_with(|| Series::new(self.def))
            .cell
        {
            Cell::Histogram(cell) => Histogram::from_arc(cell.clone()),
            _ => Histogram::noop(),
        }
    }

    fn render(&self, now: Instant, text: &mut String) {
        let mut all = self.lock();
        all.retain(|_, series| !series.has_gone(now));
        if all.is_empty() {
            return;
        }
        let (name, help, kind) = (self.def.name, self.def.help, self.def.kind.as_str());
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, series) in all.iter() {
            match &series.cell {
                Cell::Counter(cell) => line(text, name, "", labels, cell.value()),
                Cell::Gauge(cell) => line(text, name, "", labels, cell.value()),
                Cell::Histogram(cell) => cell.render(text, name, labels),
            }
        }
        text.push('\n');
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Series>> {
        lock(&self.series)
    }
}

impl Series {
    fn new(def: &'static MetricDef) -> Self {
        let cell = match def.kind {
            MetricKind::Counter => Cell::Counter(Arc::default()),
            MetricKind::Gauge => Cell::Gauge(Arc::default()),
            MetricKind::Histogram => Cell::Histogram(Arc::new(HistogramCell::new(def.buckets))),
        };
        Self {
            cell,
            given_up: None,
        }
    }

    /// Called with the family locked, so no handle can be made meanwhile.
    fn has_gone(&mut self, now: Instant) -> bool {
        let handles = match &self.cell {
            Cell::Counter(cell) => Arc::strong_count(cell) - 1,
            Cell::Gauge(cell) => Arc::strong_count(cell) - 1,
            Cell::Histogram(cell) => Arc::strong_count(cell) - 1,
        };
        if handles > 0 {
            self.given_up = None;
            return false;
        }
        let since = *self.given_up.get_or_insert(now);
        // A gauge is removed at once: another member reports the value now.
        matches!(self.cell, Cell::Gauge(_)) || now.saturating_duration_since(since) >= LINGER
    }
}

/// `name="value",name="value"`, as between the braces.
fn labels(key: &Key) -> String {
    let mut text = String::new();
    for label in key.labels() {
        if !text.is_empty() {
            text.push(',');
        }
        let _ = write!(
            text,
            "{}=\"{}\"",
            sanitize_label_key(label.key()),
            sanitize_label_value(label.value())
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::names;

    fn key(def: &MetricDef) -> Key {
        Key::from_parts(def.name, &[("topic", "say \"hi\"\n")])
    }

    fn family<'a>(registry: &'a Registry, def: &MetricDef) -> &'a Family {
        registry.family(def.name, def.kind).unwrap()
    }

    #[test]
    fn a_histogram_is_rendered_with_cumulative_buckets() {
        let registry = Registry::new();
        let histogram =
            family(&registry, &names::POLL_DURATION).histogram(&Key::from_name("ignored"));
        histogram.record_many(0.00001, 3);
        histogram.record(0.05);
        histogram.record(100.0);
        let text = registry.render(Instant::now());
        let lines: Vec<_> = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty())
            .collect();
        assert_eq!(
            lines,
            [
                "keylane_poll_duration_seconds_bucket{le=\"0.00001\"} 3",
                "keylane_poll_duration_seconds_bucket{le=\"0.0001\"} 3",
                "keylane_poll_duration_seconds_bucket{le=\"0.001\"} 3",
                "keylane_poll_duration_seconds_bucket{le=\"0.01\"} 3",
                "keylane_poll_duration_seconds_bucket{le=\"0.1\"} 4",
                "keylane_poll_duration_seconds_bucket{le=\"1\"} 4",
                "keylane_poll_duration_seconds_bucket{le=\"10\"} 4",
                "keylane_poll_duration_seconds_bucket{le=\"+Inf\"} 5",
                "keylane_poll_duration_seconds_sum 100.05003",
                "keylane_poll_duration_seconds_count 5",
            ]
        );
    }

    #[test]
    fn label_values_are_escaped() {
        let registry = Registry::new();
        let _handle = family(&registry, &names::SETTLED).counter(&key(&names::SETTLED));
        assert!(
            registry
                .render(Instant::now())
                .contains(r#"keylane_settled_total{topic="say \"hi\"\n"} 0"#)
        );
    }

    #[test]
    fn a_series_goes_when_its_handles_are_gone_gauges_at_once_counters_after_a_while() {
        let registry = Registry::new();
        let start = Instant::now();
        let counter = family(&registry, &names::SETTLED).counter(&key(&names::SETTLED));
        let gauge = family(&registry, &names::PARKED).gauge(&key(&names::PARKED));
        let histogram = family(&registry, &names::QUEUE_WAIT).histogram(&key(&names::QUEUE_WAIT));
        counter.increment(7);

        // Quiet, but alive.
        assert_eq!(
            registry
                .render(start + 100 * LINGER)
                .matches("# TYPE")
                .count(),
            3
        );

        drop((counter, gauge, histogram));
        let text = registry.render(start + 101 * LINGER);
        assert!(
            text.contains("keylane_settled_total")
                && text.contains("keylane_queue_wait_seconds_count")
        );
        assert!(!text.contains("keylane_parked_records"), "{text}");
        registry.prune(start + 102 * LINGER);
        assert_eq!(registry.render(start + 102 * LINGER), "");
    }

    #[test]
    fn a_partition_that_comes_back_in_time_goes_on_counting() {
        let registry = Registry::new();
        let start = Instant::now();
        family(&registry, &names::SETTLED)
            .counter(&key(&names::SETTLED))
            .increment(7);
        registry.prune(start);
        let counter = family(&registry, &names::SETTLED).counter(&key(&names::SETTLED));
        counter.increment(1);
        assert!(registry.render(start + LINGER).contains("} 8\n"));
        // The first removal is cancelled: the linger starts again.
        drop(counter);
        assert!(registry.render(start + LINGER).contains("} 8\n"));
    }

    #[test]
    fn a_name_of_another_kind_is_refused_and_a_foreign_one_is_not_ours() {
        let registry = Registry::new();
        assert_eq!(
            registry
                .family(names::SETTLED.name, MetricKind::Gauge)
                .err(),
            Some(true)
        );
        assert_eq!(
            registry.family("requests_total", MetricKind::Counter).err(),
            Some(false)
        );
    }
}
