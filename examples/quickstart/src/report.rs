//! Turns facts into a report and a verdict. Pure: its fields are its only input.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::audit::Outcome;
use crate::plan::Totals;
use crate::scrape::Settled;

/// The most problems of one kind that are listed.
const SHOWN: usize = 5;

/// How the run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Every enqueued event has its result.
    AllDone,
    /// The run was stopped by Ctrl-C.
    Interrupted,
    /// Nothing changed for the whole patience.
    Stalled { after: Duration },
    /// The subscription ended by itself, with this error.
    Failed(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) ended: Ended,
    pub(crate) elapsed: Duration,
    /// What the enqueued events must amount to once all are processed.
    pub(crate) planned: Totals,
    pub(crate) outcome: Outcome,
    /// The counts of keylane's own metrics.
    pub(crate) settled: Settled,
    /// How often the planted bug struck.
    pub(crate) panics: u64,
    /// Requests about events that an earlier run left on the topic.
    pub(crate) requests_of_other_runs: u64,
    /// What else went wrong while the run was wound up.
    pub(crate) faults: Vec<String>,
    pub(crate) metrics: SocketAddr,
}

impl Report {
    pub(crate) fn passed(&self) -> bool {
        self.problems().is_empty()
    }

    fn dead_lettered(&self) -> u64 {
        self.outcome.dead_lettered.values().sum()
    }

    /// Enqueued events with no result, or how many results there are too many.
    fn unprocessed(&self) -> Result<u64, u64> {
        let results = self.outcome.done + self.dead_lettered();
        self.outcome
            .enqueued
            .checked_sub(results)
            .ok_or_else(|| results - self.outcome.enqueued)
    }

    /// All that must not be. None of it means that the run has passed.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::from_iter(self.problem_of_the_end());
        problems.extend(self.problems_of_the_sum());
        if self.ended == Ended::AllDone {
            problems.extend(self.differences_from_the_plan());
        }
        problems.extend(self.difference_from_the_metrics());
        problems.extend(some(&self.outcome.violations));
        problems.extend(some(&self.outcome.faults));
        problems.extend(self.faults.iter().cloned());
        problems
    }

    fn problem_of_the_end(&self) -> Option<String> {
        match &self.ended {
            Ended::AllDone | Ended::Interrupted => None,
            Ended::Stalled { after } => Some(format!(
                "nothing moved for {} s, so the run was ended",
                after.as_secs()
            )),
            Ended::Failed(error) => Some(format!("the subscription ended with an error: {error}")),
        }
    }

    fn problems_of_the_sum(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some((events, error)) = &self.outcome.unacknowledged {
            problems.push(format!(
                "{} events were not acknowledged; the first: {error}",
                grouped(*events)
            ));
        }
        match self.unprocessed() {
            Ok(0) => {}
            Ok(unprocessed) if self.ended == Ended::AllDone => {
                problems.push(format!(
                    "{} enqueued events have vanished",
                    grouped(unprocessed)
                ));
            }
            Ok(_) => {}
            Err(surplus) => {
                problems.push(format!("there are {} results too many", grouped(surplus)))
            }
        }
        problems
    }

    fn differences_from_the_plan(&self) -> Vec<String> {
        let Totals {
            notified,
            undecodable,
            unknown_device,
            always_panics,
            panics,
            busy,
        } = self.planned;
        let outcome = &self.outcome;
        let dead = |reason| outcome.dead_lettered.get(reason).copied().unwrap_or(0);
        let mut pairs = vec![
            ("notifications done", outcome.done, notified),
            (
                "dead letters in all",
                self.dead_lettered(),
                undecodable + unknown_device + always_panics,
            ),
            (
                "dead letters as undecodable",
                dead("undecodable"),
                undecodable,
            ),
            ("dead letters as fatal", dead("fatal"), unknown_device),
            ("dead letters as panic", dead("panic"), always_panics),
        ];
        // A repeated delivery makes further attempts, and those meet trouble again.
        if outcome.duplicates == 0 && outcome.requests.abandoned == 0 {
            pairs.push(("panics", self.panics, panics));
            pairs.push(("answers 503", outcome.requests.busy, busy));
        }
        let differing = pairs.into_iter().filter(|(_, is, planned)| is != planned);
        differing
            .map(|(what, is, planned)| {
                format!("{what}: {}, planned were {}", grouped(is), grouped(planned))
            })
            .collect()
    }

    /// Compares keylane's counts with those of both ends. A record that was delivered again is
    /// counted again, and one of an earlier run is counted too.
    fn difference_from_the_metrics(&self) -> Option<String> {
        let exact = self.outcome.duplicates == 0 && self.requests_of_other_runs == 0;
        let Settled {
            done,
            dead_lettered,
        } = self.settled;
        let far_ends = (self.outcome.done, self.dead_lettered());
        let agrees = match exact {
            true => (done, dead_lettered) == far_ends,
            false => done >= far_ends.0 && dead_lettered >= far_ends.1,
        };
        let (own_done, own_dead) = (grouped(done), grouped(dead_lettered));
        (!agrees).then(|| {
            let (done, dead) = (grouped(far_ends.0), grouped(far_ends.1));
            format!(
                "keylane's metrics count {own_done} done and {own_dead} dead-lettered, \
                 the gateway and the dead-letter topic {done} and {dead}"
            )
        })
    }
}

fn some<T: fmt::Display>(problems: &[T]) -> Vec<String> {
    let mut shown: Vec<_> = problems
        .iter()
        .take(SHOWN)
        .map(ToString::to_string)
        .collect();
    if problems.len() > SHOWN {
        shown.push(format!(
            "… and {} more of this kind",
            grouped((problems.len() - SHOWN) as u64)
        ));
    }
    shown
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = &self.outcome;
        let unprocessed = self.unprocessed().unwrap_or(0);
        writeln!(f, "enqueued           {:>11}", grouped(outcome.enqueued))?;
        writeln!(
            f,
            "  = done           {:>11}   accepted by the push gateway",
            grouped(outcome.done)
        )?;
        writeln!(
            f,
            "  + dead-lettered  {:>11}   {}",
            grouped(self.dead_lettered()),
            self.reasons()
        )?;
        writeln!(f, "  + unprocessed    {:>11}", grouped(unprocessed))?;
        writeln!(f)?;
        writeln!(f, "order       {}", self.order())?;
        writeln!(f, "duplicates  {}", grouped(outcome.duplicates))?;
        writeln!(f, "trouble     {}", self.trouble())?;
        writeln!(f, "throughput  {}", self.throughput())?;
        writeln!(
            f,
            "metrics     http://{}/metrics (while this runs)",
            self.metrics
        )?;
        if self.requests_of_other_runs > 0 {
            writeln!(
                f,
                "leftovers   {} requests for earlier runs",
                grouped(self.requests_of_other_runs)
            )?;
        }
        writeln!(f)?;
        self.write_verdict(f)
    }
}

impl Report {
    fn reasons(&self) -> String {
        let reasons = self
            .outcome
            .dead_lettered
            .iter()
            .map(|(reason, count)| format!("{reason} {}", grouped(*count)));
        reasons.collect::<Vec<_>>().join(", ")
    }

    fn order(&self) -> String {
        let vehicles = grouped(self.outcome.vehicles);
        match self.outcome.violations.len() {
            0 => format!("kept: no overlap, no gap (vehicles checked: {vehicles})"),
            violations => format!(
                "BROKEN, {} times (vehicles checked: {vehicles})",
                grouped(violations as u64)
            ),
        }
    }

    fn trouble(&self) -> String {
        let requests = self.outcome.requests;
        let mut text = format!(
            "{} requests: {} refused for a moment (503), {} for unknown devices (404); {} panics",
            grouped(requests.total()),
            grouped(requests.busy),
            grouped(requests.unknown_device),
            grouped(self.panics),
        );
        if requests.abandoned > 0 {
            text.push_str(&format!(
                "; {} requests cut off",
                grouped(requests.abandoned)
            ));
        }
        text
    }

    fn throughput(&self) -> String {
        let seconds = self.elapsed.as_secs_f64();
        let rate = (self.outcome.done as f64 / seconds.max(0.001)) as u64;
        format!(
            "{} notifications in {seconds:.1} s: {} a second",
            grouped(self.outcome.done),
            grouped(rate)
        )
    }

    fn write_verdict(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seed = self.seed;
        let problems = self.problems();
        match (&self.ended, problems.as_slice()) {
            (Ended::Interrupted, []) => writeln!(f, "PASSED as far as it went (seed {seed})"),
            (_, []) => writeln!(f, "PASSED, all as planned (seed {seed})"),
            (_, problems) => {
                writeln!(f, "FAILED (seed {seed})")?;
                problems
                    .iter()
                    .try_for_each(|problem| writeln!(f, "  - {problem}"))
            }
        }
    }
}

/// A number with a comma between thousands.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let mut text = digits[..first].to_owned();
    for group in digits.as_bytes()[first..].chunks(3) {
        if !text.is_empty() {
            text.push(',');
        }
        text.extend(group.iter().map(|digit| char::from(*digit)));
    }
    text
}

#[cfg(test)]
mod tests;
