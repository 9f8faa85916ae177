//! Medians and spread of all arms.

use std::fmt::Write;

use crate::arms::Arm;
use crate::sample::Sample;

pub(crate) fn render(samples: &[(Arm, Vec<Sample>)]) -> String {
    let mut table = String::from(
        "| arm | records/s: median (min – max) | CPU µs/record | peak MiB | threads | in flight |\n|---|---|---|---|---|---|\n",
    );
    for (arm, samples) in samples {
        let (rate, low, high) = spread(samples.iter().map(|sample| sample.rate));
        let (cpu, ..) = spread(samples.iter().map(|sample| sample.cpu_micros));
        let (peak, ..) = spread(samples.iter().map(|sample| sample.peak_mib));
        let (threads, ..) = spread(samples.iter().map(|sample| sample.threads as f64));
        // Writing to a string cannot fail.
        let _ = writeln!(
            table,
            "| {} | {rate:.0} ({low:.0} – {high:.0}) | {cpu:.2} | {peak:.0} | {threads:.0} | {} |",
            arm.name(),
            arm.in_flight()
        );
    }
    table
}

/// Median, least and most.
fn spread(values: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let (Some(low), Some(high)) = (values.first(), values.last()) else { return (0.0, 0.0, 0.0) };
    (values[values.len() / 2], *low, *high)
}
