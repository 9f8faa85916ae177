//! The metrics of inboxes: names and series.
//!
//! They go to the recorder of the facade [`metrics`], as those of `keylane` do. Each has the label
//! `group`, the consumer group.
//!
#![doc = include_str!("metrics.md")]

use ::metrics::{Counter, Gauge, Unit};
use keylane::metrics::names::MetricKind;

pub use crate::outbox::metrics::MetricDef;
use crate::outbox::metrics::metric;

const FIRST: MetricDef = metric(
    "keylane_inbox_first_total",
    MetricKind::Counter,
    Unit::Count,
    "Records and messages whose effect was to be made. Those whose transaction was rolled back are among them.",
);
const SEEN: MetricDef = metric(
    "keylane_inbox_seen_total",
    MetricKind::Counter,
    Unit::Count,
    "Records and messages whose effect was made before.",
);
const UNPROTECTED: MetricDef = metric(
    "keylane_inbox_unprotected_total",
    MetricKind::Counter,
    Unit::Count,
    "Retries that were taken for the first although an entry of them may have been swept: their first failure is further \
     back than entries are kept, or not known.",
);
const SWEPT: MetricDef = metric(
    "keylane_inbox_swept_total",
    MetricKind::Counter,
    Unit::Count,
    "Entries and messages that this member has deleted because nothing needs them any more.",
);
const ROWS: MetricDef = metric(
    "keylane_inbox_rows",
    MetricKind::Gauge,
    Unit::Count,
    "Entries of the group, up to 1,000,000, as of this member's last sweep. Take the latest of all members.",
);

/// Every metric of an inbox.
pub const ALL: &[MetricDef] = &[FIRST, SEEN, UNPROTECTED, SWEPT, ROWS];

/// Gives the recorder the units and the help texts. [`InboxBuilder::open`](super::InboxBuilder::open)
/// does it.
pub fn describe() {
    for metric in ALL {
        match metric.kind {
            MetricKind::Gauge => ::metrics::describe_gauge!(metric.name, metric.unit, metric.help),
            _ => ::metrics::describe_counter!(metric.name, metric.unit, metric.help),
        }
    }
}

/// The series of one group. What is counted before a recorder is installed is lost.
pub(super) struct Series {
    first: Counter,
    seen: Counter,
    unprotected: Counter,
    swept: Counter,
    rows: Gauge,
}

impl Series {
    pub(super) fn of(group: &str) -> Self {
        describe();
        let counter = |metric: MetricDef| {
            let counter = ::metrics::counter!(metric.name, "group" => group.to_owned());
            // It is there from the beginning: an increase from nothing is no increase.
            counter.increment(0);
            counter
        };
        Self {
            first: counter(FIRST),
            seen: counter(SEEN),
            unprotected: counter(UNPROTECTED),
            swept: counter(SWEPT),
            rows: ::metrics::gauge!(ROWS.name, "group" => group.to_owned()),
        }
    }

    pub(super) fn first(&self) {
        self.first.increment(1);
    }

    pub(super) fn seen(&self) {
        self.seen.increment(1);
    }

    pub(super) fn unprotected(&self) {
        self.unprotected.increment(1);
    }

    pub(super) fn swept(&self, rows: u64) {
        self.swept.increment(rows);
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of rows are far below 2^52"
    )]
    pub(super) fn rows(&self, rows: i64) {
        self.rows.set(rows as f64);
    }
}

impl std::fmt::Debug for Series {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Series").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    #[test]
    fn the_page_is_the_table_in_the_code() {
        let mut page = String::from("| name | type | unit | meaning |\n|---|---|---|---|\n");
        for metric in ALL {
            let (name, kind, help) = (metric.name, metric.kind.as_str(), metric.help);
            writeln!(page, "| `{name}` | {kind} |  | {help} |").unwrap();
        }
        assert_eq!(include_str!("metrics.md"), page);
    }
}
