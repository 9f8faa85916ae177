//! What is told, as JSON. `openapi.json` describes it, and a test compares the two.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use keylane::status::{
    OldestRecord, OutageStatus, PartitionStatus, PausedBy, SubscriptionStatus, Trouble,
};
use serde::Serialize;

use crate::served::Served;

/// The last second of the year 9999: beyond it the format has no more digits.
const LATEST: Duration = Duration::from_secs(253_402_300_799);

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
    state: &'static str,
    joined: bool,
    assigned: bool,
    polled_seconds_ago: f64,
    outage: Option<OutageAnswer>,
    trouble: Option<TroubleAnswer>,
    troubles: Vec<TroubleAnswer>,
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
    partitions: Vec<PartitionAnswer>,
}

#[derive(Serialize)]
struct OutageAnswer {
    ongoing: Vec<OngoingAnswer>,
    held: u64,
    window_full: bool,
}

#[derive(Serialize)]
struct OngoingAnswer {
    kind: &'static str,
    place: Option<String>,
    class: Option<String>,
    since: String,
}

#[derive(Serialize)]
struct TroubleAnswer {
    kind: &'static str,
    place: String,
    message: String,
    since: String,
}

#[derive(Serialize)]
pub(crate) struct PartitionAnswer {
    topic: String,
    partition: i32,
    watermark: Option<i64>,
    lag_records: Option<u64>,
    withheld_records: u64,
    pending: u64,
    running: u64,
    waiting: u64,
    parked: u64,
    settled_ahead: u64,
    not_due: u64,
    paused: bool,
    paused_by: Option<&'static str>,
    paused_by_user: bool,
    isolated: bool,
    slow_attempts: u64,
    stalled_seconds: Option<f64>,
    blocked_seconds: Option<f64>,
    oldest: Option<Oldest>,
}

#[derive(Serialize)]
struct Oldest {
    offset: i64,
    key_hash: Option<String>,
    age_seconds: f64,
    attempts: u32,
    state: &'static str,
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
    record: Oldest,
}

/// What was asked of a subscription, or of one of its partitions.
#[derive(Serialize)]
pub(crate) struct Requested<'a> {
    pub(crate) action: &'static str,
    pub(crate) subscription: &'a str,
    pub(crate) topic: Option<&'a str>,
    pub(crate) partition: Option<i32>,
}

impl SubscriptionSummary {
    pub(crate) fn of(handle: &dyn Served) -> Self {
        Self::new(handle, &handle.status())
    }

    fn new(handle: &dyn Served, status: &SubscriptionStatus) -> Self {
        let partitions = &status.partitions;
        let sum =
            |figure: fn(&PartitionStatus) -> u64| -> u64 { partitions.iter().map(figure).sum() };
        Self {
            name: handle.name().to_owned(),
            group: handle.group().to_owned(),
            state: status.state.as_str(),
            joined: status.joined,
            assigned: status.assigned,
            polled_seconds_ago: status.polled_ago.as_secs_f64(),
            outage: status.outage.as_ref().map(OutageAnswer::from),
            trouble: status.trouble.as_ref().map(TroubleAnswer::from),
            troubles: status.troubles.iter().map(TroubleAnswer::from).collect(),
            assigned_partitions: partitions.len(),
            lag_records: partitions
                .iter()
                .map(|partition| partition.lag_records)
                .sum(),
            pending: sum(|partition| partition.pending),
            running: sum(|partition| partition.running),
            waiting: sum(|partition| partition.waiting),
            parked: sum(|partition| partition.parked),
        }
    }
}

impl SubscriptionDetail {
    pub(crate) fn of(handle: &dyn Served) -> Self {
        let status = handle.status();
        let partitions = status
            .partitions
            .iter()
            .map(PartitionAnswer::from)
            .collect();
        Self {
            summary: SubscriptionSummary::new(handle, &status),
            partitions,
        }
    }
}

impl OldestList {
    /// The longest waiting first.
    pub(crate) fn of(status: &SubscriptionStatus, limit: usize) -> Self {
        let mut all: Vec<_> = status
            .partitions
            .iter()
            .filter_map(|partition| Some((partition, partition.oldest.as_ref()?)))
            .collect();
        all.sort_by_key(|(_, oldest)| std::cmp::Reverse(oldest.age));
        all.truncate(limit);
        let records = all
            .into_iter()
            .map(|(partition, oldest)| OldestOfPartition {
                topic: partition.topic.to_string(),
                partition: partition.partition,
                record: oldest.into(),
            });
        Self {
            records: records.collect(),
        }
    }
}

impl From<&OutageStatus> for OutageAnswer {
    fn from(status: &OutageStatus) -> Self {
        let ongoing = status.ongoing.iter().map(|outage| OngoingAnswer {
            kind: outage.kind.as_str(),
            place: outage.place.as_deref().map(str::to_owned),
            class: outage.class.as_deref().map(str::to_owned),
            since: time_of_day(outage.since),
        });
        Self {
            ongoing: ongoing.collect(),
            held: status.held,
            window_full: status.window_full,
        }
    }
}

impl From<&Trouble> for TroubleAnswer {
    fn from(trouble: &Trouble) -> Self {
        Self {
            kind: trouble.kind.as_str(),
            place: trouble.place.to_string(),
            message: trouble.message.clone(),
            since: time_of_day(trouble.since),
        }
    }
}

fn time_of_day(time: SystemTime) -> String {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    humantime::format_rfc3339_millis(UNIX_EPOCH + since_epoch.min(LATEST)).to_string()
}

impl From<&PartitionStatus> for PartitionAnswer {
    fn from(status: &PartitionStatus) -> Self {
        Self {
            topic: status.topic.to_string(),
            partition: status.partition,
            watermark: Some(status.watermark).filter(|watermark| *watermark >= 0),
            lag_records: status.lag_records,
            withheld_records: status.withheld_records,
            pending: status.pending,
            running: status.running,
            waiting: status.waiting,
            parked: status.parked,
            settled_ahead: status.settled_ahead,
            not_due: status.not_due,
            paused: status.paused,
            paused_by: status.paused_by.map(PausedBy::as_str),
            paused_by_user: status.paused_by_user,
            isolated: status.isolated,
            slow_attempts: status.slow_attempts,
            stalled_seconds: status.stalled_for.as_ref().map(Duration::as_secs_f64),
            blocked_seconds: status.blocked_for.as_ref().map(Duration::as_secs_f64),
            oldest: status.oldest.as_ref().map(Oldest::from),
        }
    }
}

impl From<&OldestRecord> for Oldest {
    fn from(record: &OldestRecord) -> Self {
        Self {
            offset: record.offset,
            key_hash: record.key_hash.map(|hash| hash.to_string()),
            age_seconds: record.age.as_secs_f64(),
            attempts: record.attempts,
            state: record.state.as_str(),
        }
    }
}
