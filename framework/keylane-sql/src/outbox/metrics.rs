//! The metrics of outboxes: names and series.
//!
//! They go to the recorder of the facade [`metrics`], as those of `keylane` do. Each has the label
//! `outbox`, the table's name.
//!
#![doc = include_str!("metrics.md")]

use std::time::Duration;

use ::metrics::{SharedString, Unit};
use keylane::metrics::names::MetricKind;

use super::store::Figures;
use crate::database::TableName;

/// One metric.
///
/// # Examples
/// ```
/// use keylane_sql::outbox::metrics;
///
/// let unsent = metrics::ALL.iter().find(|metric| metric.name == "keylane_outbox_unsent_rows");
/// assert!(unsent.is_some_and(|metric| !metric.help.is_empty()));
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct MetricDef {
    /// The name as it is exported.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: MetricKind,
    /// The unit.
    pub unit: Unit,
    /// What it means.
    pub help: &'static str,
    /// Upper bounds of a histogram's buckets, ascending, without the infinite one.
    pub buckets: &'static [f64],
}

pub(crate) const fn metric(
    name: &'static str,
    kind: MetricKind,
    unit: Unit,
    help: &'static str,
) -> MetricDef {
    MetricDef {
        name,
        kind,
        unit,
        help,
        buckets: &[],
    }
}

const UNSENT: MetricDef = metric(
    "keylane_outbox_unsent_rows",
    MetricKind::Gauge,
    Unit::Count,
    "Rows that wait to be published, those behind a row that is set aside included; up to 1,000,000 are counted. Every \
     relay exports the same figure: take the maximum.",
);
const OLDEST: MetricDef = metric(
    "keylane_outbox_oldest_unsent_seconds",
    MetricKind::Gauge,
    Unit::Seconds,
    "How long the oldest row that waits has waited, by the database's clock; 0 where none waits. Every relay exports \
     the same figure: take the maximum.",
);
const ASIDE: MetricDef = metric(
    "keylane_outbox_set_aside_rows",
    MetricKind::Gauge,
    Unit::Count,
    "Rows that cannot be sent and are set aside, up to 1,000,000. Every relay exports the same figure: take the maximum.",
);
const SET_ASIDE: MetricDef = metric(
    "keylane_outbox_set_aside_total",
    MetricKind::Counter,
    Unit::Count,
    "Rows that this relay has set aside.",
);
const PUBLISHED: MetricDef = metric(
    "keylane_outbox_published_total",
    MetricKind::Counter,
    Unit::Count,
    "Rows that this relay has published, acknowledged by Kafka.",
);
const REPEATED: MetricDef = metric(
    "keylane_outbox_repeated_total",
    MetricKind::Counter,
    Unit::Count,
    "Rows published once more because the transaction before had no answer. Those after a kill are not among them.",
);
const FENCED: MetricDef = metric(
    "keylane_outbox_fenced_total",
    MetricKind::Counter,
    Unit::Count,
    "Transactions refused because another relay has taken the bucket.",
);
const BUCKETS: MetricDef = metric(
    "keylane_outbox_buckets",
    MetricKind::Gauge,
    Unit::Count,
    "Buckets that this relay holds.",
);
const UNAVAILABLE: MetricDef = metric(
    "keylane_outbox_unavailable_topics",
    MetricKind::Gauge,
    Unit::Count,
    "Topics that cannot be written to: missing, or not allowed. Their rows wait, those of other topics go on.",
);
const PUBLISH: MetricDef = MetricDef {
    buckets: keylane::metrics::OUTBOX_PUBLISH_SECONDS,
    ..metric(
        "keylane_outbox_publish_seconds",
        MetricKind::Histogram,
        Unit::Seconds,
        "From the writing of a row, in its transaction, to Kafka's acknowledgement.",
    )
};

/// Every metric of an outbox.
pub const ALL: &[MetricDef] = &[
    UNSENT,
    OLDEST,
    ASIDE,
    SET_ASIDE,
    PUBLISHED,
    REPEATED,
    FENCED,
    BUCKETS,
    UNAVAILABLE,
    PUBLISH,
];

/// Gives the recorder the units and the help texts. A relay does it when it starts.
pub fn describe() {
    for metric in ALL {
        match metric.kind {
            MetricKind::Counter => {
                ::metrics::describe_counter!(metric.name, metric.unit, metric.help);
            }
            MetricKind::Gauge => ::metrics::describe_gauge!(metric.name, metric.unit, metric.help),
            _ => ::metrics::describe_histogram!(metric.name, metric.unit, metric.help),
        }
    }
}

/// The series of one outbox. A recorder that is installed later gets what comes then.
#[derive(Clone, Debug)]
pub(super) struct Series {
    outbox: SharedString,
}

impl Series {
    pub(super) fn of(table: &TableName) -> Self {
        describe();
        let series = Self {
            outbox: table.to_string().into(),
        };
        // Counters are there from the beginning: an increase from nothing is no increase.
        for metric in ALL {
            if metric.kind == MetricKind::Counter {
                series.count(*metric, 0);
            }
        }
        series
    }

    fn count(&self, metric: MetricDef, by: usize) {
        ::metrics::counter!(metric.name, "outbox" => self.outbox.clone()).increment(by as u64);
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of rows are far below 2^52"
    )]
    fn set(&self, metric: MetricDef, value: i64) {
        ::metrics::gauge!(metric.name, "outbox" => self.outbox.clone()).set(value as f64);
    }

    fn size(&self, metric: MetricDef, value: usize) {
        self.set(metric, i64::try_from(value).unwrap_or(i64::MAX));
    }

    pub(super) fn published(&self, rows: usize) {
        self.count(PUBLISHED, rows);
    }

    pub(super) fn repeated(&self, rows: usize) {
        self.count(REPEATED, rows);
    }

    pub(super) fn fenced(&self) {
        self.count(FENCED, 1);
    }

    pub(super) fn set_aside(&self) {
        self.count(SET_ASIDE, 1);
    }

    pub(super) fn waited(&self, times: impl Iterator<Item = Duration>) {
        let histogram = ::metrics::histogram!(PUBLISH.name, "outbox" => self.outbox.clone());
        times.for_each(|time| histogram.record(time));
    }

    pub(super) fn buckets(&self, buckets: usize) {
        self.size(BUCKETS, buckets);
    }

    pub(super) fn unavailable_topics(&self, topics: usize) {
        self.size(UNAVAILABLE, topics);
    }

    pub(super) fn figures(&self, figures: &Figures) {
        self.set(UNSENT, figures.unsent);
        self.set(ASIDE, figures.set_aside);
        let oldest = figures.oldest_unsent.as_secs_f64();
        ::metrics::gauge!(OLDEST.name, "outbox" => self.outbox.clone()).set(oldest);
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
            let unit = match metric.unit {
                Unit::Seconds => "seconds",
                _ => "",
            };
            let (name, kind, help) = (metric.name, metric.kind.as_str(), metric.help);
            writeln!(page, "| `{name}` | {kind} | {unit} | {help} |").unwrap();
        }
        assert_eq!(include_str!("metrics.md"), page);
    }

    #[test]
    fn names_end_as_their_kind_and_unit_demand() {
        for metric in ALL {
            let is_total = metric.name.ends_with("_total");
            assert_eq!(
                is_total,
                metric.kind == MetricKind::Counter,
                "{}",
                metric.name
            );
            let is_time = metric.name.ends_with("_seconds");
            assert_eq!(is_time, metric.unit == Unit::Seconds, "{}", metric.name);
        }
    }
}
