//! The values of single series: atomics, so that any handle may write while a scrape reads.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ::metrics::{CounterFn, GaugeFn, HistogramFn};

use crate::metrics::histogram_buffer::answer_takes_counts;

#[derive(Debug, Default)]
pub(super) struct CounterCell(AtomicU64);

impl CounterCell {
    pub(super) fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl CounterFn for CounterCell {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.0.fetch_max(value, Relaxed);
    }
}

#[derive(Debug, Default)]
pub(super) struct GaugeCell(AtomicF64);

impl GaugeCell {
    pub(super) fn value(&self) -> f64 {
        self.0.load()
    }
}

impl GaugeFn for GaugeCell {
    fn increment(&self, value: f64) {
        self.0.add(value);
    }

    fn decrement(&self, value: f64) {
        self.0.add(-value);
    }

    fn set(&self, value: f64) {
        self.0.0.store(value.to_bits(), Relaxed);
    }
}

/// A histogram of fixed size, whatever is recorded. A count is one step.
#[derive(Debug)]
pub(super) struct HistogramCell {
    bounds: &'static [f64],
    /// One for each bound and one above; not cumulative.
    counts: Box<[AtomicU64]>,
    sum: AtomicF64,
}

impl HistogramCell {
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self {
            bounds,
            counts,
            sum: AtomicF64::default(),
        }
    }

    /// `_count` is what the buckets add up to, so a scrape in the middle of a write is consistent
    /// in itself.
    pub(super) fn render(&self, text: &mut String, name: &str, labels: &str) {
        let separator = if labels.is_empty() { "" } else { "," };
        let mut cumulative = 0;
        for (index, count) in self.counts.iter().enumerate() {
            cumulative += count.load(Relaxed);
            // Writing to a string cannot fail.
            let _ = match self.bounds.get(index) {
                Some(bound) => {
                    writeln!(
                        text,
                        "{name}_bucket{{{labels}{separator}le=\"{bound}\"}} {cumulative}"
                    )
                }
                None => writeln!(
                    text,
                    "{name}_bucket{{{labels}{separator}le=\"+Inf\"}} {cumulative}"
                ),
            };
        }
        line(text, name, "_sum", labels, self.sum.load());
        line(text, name, "_count", labels, cumulative);
    }
}

impl HistogramFn for HistogramCell {
    fn record(&self, value: f64) {
        self.record_many(value, 1);
    }

    fn record_many(&self, value: f64, count: usize) {
        if count == 0 {
            return answer_takes_counts();
        }
        let index = self.bounds.partition_point(|bound| *bound < value);
        self.counts[index].fetch_add(count as u64, Relaxed);
        self.sum.add(value * count as f64);
    }
}

#[derive(Debug, Default)]
struct AtomicF64(AtomicU64);

impl AtomicF64 {
    fn load(&self) -> f64 {
        f64::from_bits(self.0.load(Relaxed))
    }

    fn add(&self, value: f64) {
        // Always `Some`, so this cannot fail.
        let _ = self.0.fetch_update(Relaxed, Relaxed, |bits| {
            Some((f64::from_bits(bits) + value).to_bits())
        });
    }
}

/// One line: `name_suffix{labels} value`.
pub(super) fn line(
    text: &mut String,
    name: &str,
    suffix: &str,
    labels: &str,
    value: impl std::fmt::Display,
) {
    text.push_str(name);
    text.push_str(suffix);
    if !labels.is_empty() {
        text.push('{');
        text.push_str(labels);
        text.push('}');
    }
    let _ = writeln!(text, " {value}");
}
