//! The bars that keylane is to clear, held against the medians of this run.

use std::fmt::Write;

use crate::arms::Arm;
use crate::compare::{Comparison, Samples};
use crate::measure::{KEY_BYTES, Sample};
use crate::table::{median, of_bound};

pub(crate) fn render(comparisons: &[Comparison]) -> String {
    let mut text = String::from("### Bars\n| what | bar | measured | |\n|---|---|---|---|\n");
    for bar in bars(&Medians(comparisons)) {
        let Some(measured) = bar.measured else {
            continue;
        };
        let reached = match bar.wanted {
            Wanted::AtLeast(wanted) => measured >= wanted,
            Wanted::AtMost(wanted) => measured <= wanted,
        };
        let wanted = match bar.wanted {
            Wanted::AtLeast(wanted) => format!("≥ {wanted}"),
            Wanted::AtMost(wanted) => format!("≤ {wanted}"),
        };
        let verdict = if reached { "reached" } else { "**missed**" };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {wanted} | {measured:.3} | {verdict} |",
            bar.what
        );
    }
    text
}

struct Bar {
    what: &'static str,
    wanted: Wanted,
    /// None where this run has not measured it.
    measured: Option<f64>,
}

enum Wanted {
    AtLeast(f64),
    AtMost(f64),
}

fn bars(medians: &Medians<'_>) -> Vec<Bar> {
    use Arm::{
        BareDefault, BareTuned, BareTunedCopy, Keylane, KeylaneMetrics, ParallelConsumer,
        Ruststream,
    };
    use Wanted::{AtLeast, AtMost};
    let rate = |arm| medians.of("no-op", arm, |sample| Some(sample.rate));
    let cpu = |arm| medians.of("no-op", arm, |sample| Some(sample.cpu_micros));
    let p99 = |scenario, arm| {
        medians.of(scenario, arm, |sample| {
            sample.latency.map(|latency| latency.p99)
        })
    };
    let p99_of_stuck = |scenario| p99(scenario, Keylane);
    let peak = |arm| medians.of("mostly-idle", arm, |sample| Some(sample.peak_mib));
    let cores = |arm| {
        medians.of("compute-200us-one-partition", arm, |sample| {
            Some(sample.rate)
        })
    };
    let idle_kib = difference(peak(Keylane), peak(BareTuned)).map(|mib| mib * 1024.0 / 1_000.0);
    vec![
        Bar {
            what: "no-op rate / tuned bare loop",
            wanted: AtLeast(0.9),
            measured: ratio(rate(Keylane), rate(BareTuned)),
        },
        Bar {
            what: "no-op rate / bare loop with defaults",
            wanted: AtLeast(4.0),
            measured: ratio(rate(Keylane), rate(BareDefault)),
        },
        Bar {
            what: "no-op rate / ruststream",
            wanted: AtLeast(2.0),
            measured: ratio(rate(Keylane), rate(Ruststream)),
        },
        Bar {
            what: "no-op rate / Parallel Consumer",
            wanted: AtLeast(25.0),
            measured: ratio(rate(Keylane), rate(ParallelConsumer)),
        },
        Bar {
            what: "no-op CPU / tuned bare loop that copies",
            wanted: AtMost(1.4),
            measured: ratio(cpu(Keylane), cpu(BareTunedCopy)),
        },
        Bar {
            what: "no-op rate with metrics / without",
            wanted: AtLeast(0.97),
            measured: ratio(rate(KeylaneMetrics), rate(Keylane)),
        },
        Bar {
            what: "10 ms waits: of the bound",
            wanted: AtLeast(0.98),
            measured: medians.of_bound("wait-10ms"),
        },
        Bar {
            what: "100 ms waits, 5,000 in flight: of the bound",
            wanted: AtLeast(0.98),
            measured: medians.of_bound("wait-100ms"),
        },
        Bar {
            what: "Zipf 1.1, 5 ms waits: of the hottest key's bound",
            wanted: AtLeast(0.98),
            measured: medians.of_bound("wait-zipf"),
        },
        Bar {
            what: "p99 of the other keys beside a stuck one / without it",
            wanted: AtMost(1.05),
            measured: ratio(p99_of_stuck("stuck-key"), p99_of_stuck("stuck-key-without")),
        },
        Bar {
            what: "paced 20,000/s: p99 over the bare loop's, ms",
            wanted: AtMost(1.0),
            measured: difference(p99("paced", Keylane), p99("paced", BareTuned)),
        },
        Bar {
            what: "200 µs of CPU on one partition: rate / one core's",
            wanted: AtLeast(1.8),
            measured: ratio(cores(Keylane), cores(BareTuned)),
        },
        Bar {
            what: "bytes per pending record, without key and value",
            wanted: AtMost(200.0),
            measured: medians.pending_bytes(Keylane),
        },
        Bar {
            what: "KiB per idle partition over the bare loop",
            wanted: AtMost(20.0),
            measured: idle_kib,
        },
    ]
}

fn ratio(of: Option<f64>, to: Option<f64>) -> Option<f64> {
    Some(of? / to.filter(|to| *to > 0.0)?)
}

fn difference(of: Option<f64>, to: Option<f64>) -> Option<f64> {
    Some(of? - to?)
}

struct Medians<'a>(&'a [Comparison]);

impl Medians<'_> {
    fn of(&self, scenario: &str, arm: Arm, of: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        median(self.find(scenario, arm)?.1, of)
    }

    fn of_bound(&self, scenario: &str) -> Option<f64> {
        let (comparison, samples) = self.find(scenario, Arm::Keylane)?;
        of_bound(&comparison.scenario, samples)
    }

    /// From the smaller to the larger number of pending records, so that what does not grow with
    /// them is left out. The client's fetch queue, 5,000 records a partition, is among that from
    /// 40,000 on.
    fn pending_bytes(&self, arm: Arm) -> Option<f64> {
        let [few, many] = ["pending-100k", "pending-200k"].map(|scenario| {
            let records = self.find(scenario, arm)?.0.scenario.records;
            Some((
                records as f64,
                self.of(scenario, arm, |sample| sample.pending_mib)?,
            ))
        });
        let ((few, before), (many, after)) = (few?, many?);
        let record_bytes = KEY_BYTES + self.find("pending-200k", arm)?.0.scenario.value_bytes;
        Some((after - before) * 1024.0 * 1024.0 / (many - few) - record_bytes as f64)
    }

    fn find(&self, scenario: &str, arm: Arm) -> Option<(&Comparison, &Samples)> {
        let comparison = self
            .0
            .iter()
            .find(|comparison| comparison.scenario.name == scenario)?;
        Some((
            comparison,
            comparison.arms.iter().find(|samples| samples.arm == arm)?,
        ))
    }
}
