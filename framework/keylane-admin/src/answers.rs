//! The answers, as JSON. `openapi.json` describes them, and a test compares the two.

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use keylane::status::{
    ControlStatus, InFlight, OldestRecord, OutageStatus, PartitionStatus, Snapshot, State,
    SubscriptionStatus, Trouble,
};
use serde::Serialize;

use crate::served::Served;

/// An answer in JSON.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    // Our own structs, with text for keys: nothing that serde_json could refuse.
    let text = serde_json::to_string(value).unwrap_or_default();
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[derive(Serialize)]
pub(crate) struct SubscriptionList {
    pub(crate) subscriptions: Vec<SubscriptionSummary>,
}

#[derive(Serialize)]
pub(crate) struct SubscriptionSummary {
    name: String,
    group: String,
    state: State,
    joined: bool,
    assigned: bool,
    polled_seconds_ago: f64,
    outage: Option<OutageStatus>,
    in_flight: Option<InFlight>,
    control: Option<ControlStatus>,
    trouble: Option<Trouble>,
    troubles: Vec<Trouble>,
    assigned_partitions: usize,
    /// Over all partitions; unknown where it is for one of them.
    lag_records: Option<u64>,
    pending: u64,
    running: u64,
    waiting: u64,
    parked: u64,
}

#[derive(Serialize)]
pub(crate) struct SubscriptionDetail {
    #[serde(flatten)]
    summary: SubscriptionSummary,
    partitions: Vec<PartitionStatus>,
}

#[derive(Serialize)]
pub(crate) struct OldestList {
    records: Vec<OldestOfPartition>,
}

#[derive(Serialize)]
struct OldestOfPartition {
    topic: String,
    partition: i32,
    #[serde(flatten)]
    record: OldestRecord,
}

/// What was requested of a subscription, or of one of its partitions.
#[derive(Serialize)]
pub(crate) struct Requested<'a> {
    pub(crate) action: &'static str,
    pub(crate) subscription: &'a str,
    pub(crate) topic: Option<&'a str>,
    pub(crate) partition: Option<i32>,
}

impl SubscriptionSummary {
    pub(crate) fn of(handle: &dyn Served) -> Self {
        Self::new(handle, handle.status()).0
    }

    /// And the partitions that it sums up.
    fn new(handle: &dyn Served, status: SubscriptionStatus) -> (Self, Vec<PartitionStatus>) {
        let partitions = status.partitions;
        let sum = |figure: fn(&Snapshot) -> u64| -> u64 {
            let snapshots = partitions.iter().map(|partition| &partition.snapshot);
            snapshots.map(figure).sum()
        };
        let lag_of_each = partitions.iter().map(|partition| partition.lag_records);
        let summary = Self {
            name: handle.name().to_owned(),
            group: handle.group().to_owned(),
            state: status.state,
            joined: status.joined,
            assigned: status.assigned,
            polled_seconds_ago: status.polled_ago.as_secs_f64(),
            outage: status.outage,
            in_flight: status.in_flight,
            control: status.control,
            trouble: status.trouble,
            troubles: status.troubles,
            assigned_partitions: partitions.len(),
            lag_records: lag_of_each.sum(),
            pending: sum(|snapshot| snapshot.pending),
            running: sum(|snapshot| snapshot.running),
            waiting: sum(|snapshot| snapshot.waiting),
            parked: sum(|snapshot| snapshot.parked),
        };
        (summary, partitions)
    }
}

impl SubscriptionDetail {
    pub(crate) fn of(handle: &dyn Served) -> Self {
        let (summary, partitions) = SubscriptionSummary::new(handle, handle.status());
        Self {
            summary,
            partitions,
        }
    }
}

impl OldestList {
    /// The longest waiting first.
    pub(crate) fn of(status: SubscriptionStatus, limit: usize) -> Self {
        let of_each = status.partitions.into_iter().filter_map(|partition| {
            Some(OldestOfPartition {
                topic: partition.topic.to_string(),
                partition: partition.partition,
                record: partition.oldest?,
            })
        });
        let mut records: Vec<_> = of_each.collect();
        records.sort_by_key(|oldest| std::cmp::Reverse(oldest.record.age));
        records.truncate(limit);
        Self { records }
    }
}
