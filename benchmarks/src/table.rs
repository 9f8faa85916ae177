//! Medians and spread of all arms of a scenario.

use std::fmt::Write;

use crate::compare::{Comparison, Samples};
use crate::measure::{Sample, Work};
use crate::scenario::Scenario;
use crate::topic;

pub(crate) fn render(comparison: &Comparison) -> String {
    let Comparison { scenario, arms } = comparison;
    let mut table = format!(
        "### {}\n{}; {} records.\n\n",
        scenario.name, scenario.about, scenario.records
    );
    let columns: Vec<Column> = COLUMNS
        .into_iter()
        .filter(|column| column.is_used(comparison))
        .collect();
    let names: Vec<&str> = columns.iter().map(|column| column.name).collect();
    // Writing to a string cannot fail.
    let _ = writeln!(
        table,
        "| arm | {} |\n|---|{}",
        names.join(" | "),
        "---|".repeat(columns.len())
    );
    for samples in arms.iter().filter(|samples| !samples.samples.is_empty()) {
        let cells: Vec<String> = columns
            .iter()
            .map(|column| (column.cell)(scenario, samples))
            .collect();
        let _ = writeln!(table, "| {} | {} |", samples.arm.name(), cells.join(" | "));
    }
    table
}

/// A column; its cells are empty where an arm has no value, and it is left out where no arm has
/// one.
struct Column {
    name: &'static str,
    cell: fn(&Scenario, &Samples) -> String,
}

impl Column {
    fn is_used(&self, comparison: &Comparison) -> bool {
        comparison.arms.iter().any(|samples| {
            !samples.samples.is_empty() && !(self.cell)(&comparison.scenario, samples).is_empty()
        })
    }
}

const COLUMNS: [Column; 14] = [
    Column {
        name: "records/s: median (min – max)",
        cell: rate,
    },
    Column {
        name: "of the bound",
        cell: |scenario, it| of_bound(scenario, it).map(percent).unwrap_or_default(),
    },
    Column {
        name: "p50 ms",
        cell: |_, it| latency(it, |sample| sample.latency.map(|latency| latency.p50)),
    },
    Column {
        name: "p99 ms",
        cell: |_, it| latency(it, |sample| sample.latency.map(|latency| latency.p99)),
    },
    Column {
        name: "p99.9 ms",
        cell: |_, it| latency(it, |sample| sample.latency.map(|latency| latency.p999)),
    },
    Column {
        name: "CPU µs/record",
        cell: |_, it| {
            format!(
                "{:.2}",
                median(it, |sample| Some(sample.cpu_micros)).unwrap_or(0.0)
            )
        },
    },
    Column {
        name: "peak MiB",
        cell: |_, it| {
            format!(
                "{:.0}",
                median(it, |sample| Some(sample.peak_mib)).unwrap_or(0.0)
            )
        },
    },
    Column {
        name: "MiB while pending",
        cell: |_, it| {
            median(it, |sample| sample.pending_mib)
                .map(whole)
                .unwrap_or_default()
        },
    },
    Column {
        name: "threads",
        cell: |_, it| {
            median(it, |sample| Some(sample.threads as f64))
                .map(whole)
                .unwrap_or_default()
        },
    },
    Column {
        name: "all committed after s",
        cell: |_, it| {
            median(it, |sample| sample.committed_seconds)
                .map(|it| format!("{it:.2}"))
                .unwrap_or_default()
        },
    },
    Column {
        name: "duplicates",
        cell: |_, it| most(it, |sample| sample.duplicates),
    },
    Column {
        name: "order violations",
        cell: |_, it| most(it, |sample| sample.order_violations),
    },
    Column {
        name: "overlaps",
        cell: |_, it| most(it, |sample| sample.overlaps),
    },
    Column {
        name: "in flight",
        cell: |_, it| {
            it.samples
                .first()
                .map(|sample| sample.in_flight.clone())
                .unwrap_or_default()
        },
    },
];

fn rate(_: &Scenario, samples: &Samples) -> String {
    let (median, low, high) = spread(samples, |sample| Some(sample.rate)).unwrap_or_default();
    let cut = if samples.samples.iter().all(|sample| sample.complete) {
        ""
    } else {
        ", cut off"
    };
    format!("{median:.0} ({low:.0} – {high:.0}){cut}")
}

fn percent(fraction: f64) -> String {
    format!("{:.1} %", fraction * 100.0)
}

fn whole(number: f64) -> String {
    format!("{number:.0}")
}

fn latency(samples: &Samples, of: fn(&Sample) -> Option<f64>) -> String {
    median(samples, of)
        .map(|millis| format!("{millis:.2}"))
        .unwrap_or_default()
}

/// The worst round; nothing where all is well.
fn most(samples: &Samples, of: fn(&Sample) -> u64) -> String {
    samples
        .samples
        .iter()
        .map(of)
        .max()
        .unwrap_or(0)
        .to_string()
}

/// The rate as a fraction of what the limit, the keys and the measured time of an attempt allow.
pub(crate) fn of_bound(scenario: &Scenario, samples: &Samples) -> Option<f64> {
    // Where attempts of very different lengths are mixed, their mean does not show what is
    // possible.
    if scenario.paced.is_some() || !matches!(scenario.work, Work::Wait { .. }) {
        return None;
    }
    let fractions = samples.samples.iter().filter_map(|sample| {
        // A cut-off run did not reach its end, where the hottest key would show.
        let attempt = sample.attempt_micros.filter(|_| sample.complete)? / 1e6;
        let keys = match scenario.keys.count(scenario.records) {
            0 => usize::MAX,
            keys => keys as usize,
        };
        let (per_partition, total) = samples.in_flight;
        let busy = scenario.busy_partitions as usize;
        let in_flight = per_partition.saturating_mul(busy).min(total).min(keys) as f64;
        let by_limit = in_flight / attempt;
        let by_hottest = 1.0 / (topic::hottest(scenario.keys, scenario.records) * attempt);
        Some(sample.rate / by_limit.min(by_hottest))
    });
    middle(fractions.collect())
}

pub(crate) fn median(samples: &Samples, of: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
    middle(samples.samples.iter().filter_map(of).collect())
}

fn middle(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Median, least and most.
fn spread(samples: &Samples, of: impl Fn(&Sample) -> Option<f64>) -> Option<(f64, f64, f64)> {
    let values: Vec<f64> = samples.samples.iter().filter_map(of).collect();
    let low = values.iter().copied().reduce(f64::min)?;
    let high = values.iter().copied().reduce(f64::max)?;
    Some((middle(values)?, low, high))
}
