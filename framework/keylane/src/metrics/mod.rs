//! keylane's metrics, through the `metrics` facade.
//!
//! Any recorder of the facade works; install it before the subscription starts; a later one
//! misses the metrics of what runs, and a warning says so. With the feature
//! `prometheus`, `serve_prometheus` is all there is to call. Without a recorder nothing is kept, at
//! next to no cost.
//!
//! Every metric is in [`names`]. Labels are bounded: the subscription, the topic, the partition,
//! and small enums; never a key, an offset or an error text. The series belong to the member that
//! holds the partition: gauges of a partition that was given up go away (or to 0, in a recorder
//! that cannot remove them).
//!
//! # Cost
//! Handles are looked up once for each partition. What happens for each record is added up by the
//! partition's owner, and written to the recorder once per pass, histograms as one call for each
//! bucket. keylane's Prometheus recorder takes such a call as it is; other recorders are handed a
//! bounded selection of the samples, so that their histograms have the right shape and mean but at
//! high rates too low a `_count`. Take rates from the counters.

mod histogram_buffer;
pub(crate) mod labels;
mod late_recorder;
pub mod names;
mod partition;
#[cfg(feature = "prometheus")]
mod prometheus;
mod series;
mod series_name;
mod subscription;
mod table;

/// The buckets of the outbox's histogram, of the crate `keylane-sql`: no promise of its own. The time from
/// the writing of a row to Kafka's acknowledgement, with an outage in between.
#[doc(hidden)]
pub const OUTBOX_PUBLISH_SECONDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0,
    3600.0,
];

pub use labels::LabelDef;
#[cfg(feature = "prometheus")]
pub use prometheus::{
    ListenAddress, PrometheusEndpoint, PrometheusError, PrometheusHandle, PrometheusRecorder,
    PrometheusRecorderBuilder, serve_prometheus,
};

pub(crate) use {
    labels::{
        AttemptResult, CommitFailure, ConsumerError, DrainResult, LabelValue, PollSection,
        ProduceFailure, ProduceTarget, Rebalance, RetryPlace, UnreadableMetadata,
    },
    partition::{MetricLabels, PartitionMetrics, ReadMetrics},
    series_name::SeriesName,
    subscription::{PollMetrics, SubscriptionMetrics},
};

#[cfg(test)]
mod tests;
