//! The router without a network and without Kafka.

mod described;
mod probes;
mod requests;

use std::sync::{Arc, RwLock};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Request, StatusCode};
use keylane_core::{FailedAttempt, Failure, Moment, OutageGuard, Place};
use serde_json::Value;
use tower::ServiceExt;

use super::access::{Hosts, Token};
use super::routes::{Shared, router};
use crate::status::{Control, guard_after_attempts};
use crate::{
    HotKey, HotKeys, KeyHash, OldestRecord, OutageKind, PartitionStatus, PausedBy, Position,
    RecordState, Snapshot, State, SubscriptionHandle, TroubleKind, TroublePlace,
};

const TOKEN: &str = "open-sesame";

/// The guard of a subscription in which so many keys failed.
fn guard_after(failure: Failure, keys: u64) -> OutageGuard {
    guard_after_attempts((0..keys).map(|_| failure.into()))
}

/// Everything fails, and so one place is out as well.
fn two_outages() -> OutageGuard {
    let place = Some(Place::new(0));
    guard_after_attempts((0..9).map(|_| FailedAttempt {
        place,
        ..Failure::Retryable.into()
    }))
}

/// A subscription that nobody runs: its state is what the test says.
fn subscription(name: &str) -> (Arc<Control>, SubscriptionHandle) {
    let control = Arc::new(
        Control::new(Duration::from_secs(30))
            .of_group("group")
            .named(name),
    );
    (control.clone(), SubscriptionHandle::of(control))
}

/// One that runs, with everything there is to tell.
fn troubled(name: &str) -> (Arc<Control>, SubscriptionHandle) {
    let guard = guard_after(Failure::Retryable, 9);
    let control = Control::new(Duration::from_secs(30))
        .of_group("group")
        .named(name)
        .guarded_by(guard);
    let control = Arc::new(control);
    let handle = SubscriptionHandle::of(control.clone());
    control.set_assigned(true);
    control.set_state(State::Running);
    control.troubles.note(
        TroubleKind::Connection,
        TroublePlace::Cluster,
        "all brokers are down",
    );
    control.set_partition(partition(0, 10));
    control.set_partition(partition(1, 20));
    control.set_partition(PartitionStatus {
        oldest: None,
        ..PartitionStatus::new("tasks", 2)
    });
    control.set_hot_keys(&"tasks".into(), 0, Arc::new(hot_keys(0)));
    (control, handle)
}

fn partition(number: i32, age_seconds: u64) -> PartitionStatus {
    let oldest = OldestRecord {
        offset: 40 + i64::from(number),
        key_hash: Some(KeyHash::of(b"vehicle-4711")),
        age: Duration::from_secs(age_seconds),
        attempts: 3,
        state: RecordState::Running,
    };
    PartitionStatus {
        snapshot: snapshot(|it| {
            it.watermark = Some(Position::new(oldest.offset));
            it.pending = 5;
            it.stalled_for = Some(Duration::from_secs(age_seconds));
        }),
        lag_records: Some(7),
        lag_age: Some(Duration::from_secs(age_seconds)),
        workable_lag_age: Some(Duration::ZERO),
        delivered_offset: Some(oldest.offset),
        oldest: Some(oldest),
        blocked_for: Some(Duration::from_secs(age_seconds)),
        ..PartitionStatus::new("tasks", number)
    }
}

fn snapshot(set: impl FnOnce(&mut Snapshot)) -> Snapshot {
    let mut snapshot = Snapshot::default();
    set(&mut snapshot);
    snapshot
}

fn hot_keys(partition: i32) -> HotKeys {
    fn hot<A: Copy>(partition: i32, key: &'static str, amount: A) -> HotKey<A> {
        HotKey {
            topic: "tasks".into(),
            partition,
            key_hash: KeyHash::of(key.as_bytes()),
            key: Some(key.into()),
            amount,
            at_most: amount,
            share: 0.5,
        }
    }
    let seconds = |seconds| Duration::from_secs(seconds);
    HotKeys {
        by_records: vec![
            hot(partition, "vehicle-4711", 9),
            hot(partition, "vehicle-1", 3),
        ],
        by_time: vec![hot(partition, "vehicle-2", seconds(5))],
        by_waiting: vec![hot(partition, "vehicle-3", seconds(7))],
    }
}

fn shared(subscriptions: Vec<SubscriptionHandle>, token: Option<&str>) -> Arc<Shared> {
    Arc::new(Shared {
        subscriptions: RwLock::new(subscriptions),
        token: token.map(|token| Token::new(token.to_owned())),
        hosts: Hosts {
            checked: true,
            allowed: Vec::new(),
        },
        polling_limit: Duration::from_secs(30),
        #[cfg(feature = "prometheus")]
        metrics: None,
    })
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {:?}", self.text))
    }

    fn content_type(&self) -> &str {
        self.headers[CONTENT_TYPE].to_str().unwrap()
    }
}

async fn ask(shared: &Arc<Shared>, request: Request<Body>) -> Answer {
    let response = router(shared.clone()).oneshot(request).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    Answer {
        status,
        headers,
        text: String::from_utf8(body.to_vec()).unwrap(),
    }
}

fn request(method: &str, path: &str) -> axum::http::request::Builder {
    Request::builder()
        .method(method)
        .uri(path)
        .header("Host", "localhost:8081")
}

async fn get(shared: &Arc<Shared>, path: &str) -> Answer {
    ask(shared, request("GET", path).body(Body::empty()).unwrap()).await
}

async fn post(shared: &Arc<Shared>, path: &str) -> Answer {
    let request = request("POST", path).header("Authorization", format!("Bearer {TOKEN}"));
    ask(shared, request.body(Body::empty()).unwrap()).await
}
