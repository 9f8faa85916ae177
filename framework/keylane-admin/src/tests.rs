//! The router without a network and without Kafka.

mod acts;
mod dead_letters;
mod described;
mod mounted;
mod probes;
mod requests;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Request, StatusCode};
use keylane::error::ActError;
use keylane::record::KeyHash;
use keylane::redrive::RedriveTask;
use keylane::redrive::ops::OpsTopic;
use keylane::status::{
    ControlStatus, HotKey, HotKeys, InFlight, OldestRecord, OngoingOutage, OutageKind,
    OutageStatus, PartitionStatus, PausedBy, Position, RecordState, State, SubscriptionStatus,
    Trouble, TroubleKind, TroublePlace,
};
use keylane::subscription::{
    ActTime, KeyOutlook, KeyResumed, OperatorNote, RecordOutlook, RetriedNow,
};
use serde_json::Value;
use tower::ServiceExt;

use crate::access::{Hosts, Token};
use crate::acts::{Act, ActResult, Acting, Tried, Trying};
use crate::redrives::Redrives;
use crate::routes::{Metrics, Shared, alone};
use crate::served::{AllServed, Served};

const TOKEN: &str = "open-sesame";

/// A subscription that does not run: the test sets its state.
#[derive(Debug)]
struct Scripted {
    name: String,
    status: Mutex<SubscriptionStatus>,
    hot_keys: Mutex<HotKeys>,
    asked: Mutex<Asked>,
    /// The brokers of its dead letters, where there are some.
    servers: String,
}

/// The calls it got.
#[derive(Clone, Debug, Default, PartialEq)]
struct Asked {
    paused: bool,
    paused_partitions: BTreeSet<(String, i32)>,
    shutdown: bool,
    acts: Vec<(Act, OperatorNote)>,
}

impl Scripted {
    fn change(&self, change: impl FnOnce(&mut SubscriptionStatus)) {
        change(&mut self.status.lock().unwrap());
    }

    fn set_state(&self, state: State) {
        self.change(|status| status.state = state);
    }

    fn set_partition(&self, partition: PartitionStatus) {
        self.change(|status| {
            let is_it = |there: &PartitionStatus| {
                (&there.topic, there.partition) == (&partition.topic, partition.partition)
            };
            status.partitions.retain(|there| !is_it(there));
            status.partitions.push(partition);
        });
    }

    fn set_trouble(&self, kind: TroubleKind, place: TroublePlace, message: &str) {
        self.change(|status| {
            status.troubles.push(Trouble::new(kind, place, message));
            status.trouble = status.troubles.first().cloned();
        });
    }

    fn asked(&self) -> Asked {
        self.asked.lock().unwrap().clone()
    }

    fn ask(&self, change: impl FnOnce(&mut Asked)) {
        change(&mut self.asked.lock().unwrap());
    }

    fn has(&self, topic: &str, partition: i32) -> bool {
        let status = self.status();
        let mut all = status.partitions.iter();
        all.any(|it| (&*it.topic, it.partition) == (topic, partition))
    }
}

impl Served for Scripted {
    fn name(&self) -> &str {
        &self.name
    }

    fn group(&self) -> &str {
        "group"
    }

    fn state(&self) -> State {
        self.status().state
    }

    fn status(&self) -> SubscriptionStatus {
        self.status.lock().unwrap().clone()
    }

    fn hot_keys(&self) -> HotKeys {
        self.hot_keys.lock().unwrap().clone()
    }

    fn pause(&self) {
        self.ask(|asked| asked.paused = true);
    }

    fn resume(&self) {
        self.ask(|asked| asked.paused = false);
    }

    fn request_shutdown(&self) {
        self.ask(|asked| asked.shutdown = true);
    }

    fn pause_partition(&self, topic: &str, partition: i32) -> bool {
        let place = (topic.to_owned(), partition);
        self.ask(|asked| {
            asked.paused_partitions.insert(place);
        });
        self.has(topic, partition)
    }

    fn resume_partition(&self, topic: &str, partition: i32) -> bool {
        let place = (topic.to_owned(), partition);
        self.ask(|asked| {
            asked.paused_partitions.remove(&place);
        });
        self.has(topic, partition)
    }

    /// The key `slow` and the offset 503 have no answer, too many acts wait for the key `full`, and the
    /// offset 409 has no dead-letter topic.
    fn act(&self, act: Act, note: OperatorNote) -> Acting<'_> {
        self.ask(|asked| asked.acts.push((act.clone(), note)));
        Box::pin(async move {
            match act {
                Act::PauseKey(key) | Act::ResumeKey(key) | Act::RetryNow(key)
                    if key.hash == KeyHash::of(b"slow") =>
                {
                    std::future::pending().await
                }
                Act::PauseKey(key) | Act::ResumeKey(key) | Act::RetryNow(key)
                    if key.hash == KeyHash::of(b"full") =>
                {
                    Err(ActError::TooMany {
                        done: 7,
                        refused: 1,
                    })
                }
                Act::ReleaseHeld => Ok(ActResult::Released(5)),
                Act::PauseKey(_) => Ok(ActResult::Paused),
                Act::ResumeKey(_) => Ok(ActResult::Resumed(KeyResumed::Resumed)),
                Act::RetryNow(_) => Ok(ActResult::Retried(RetriedNow::default())),
                Act::Skip(at) | Act::DeadLetterNow(at) => match at.offset {
                    503 => std::future::pending().await,
                    409 => Err(ActError::NoDeadLetterTopic),
                    _ => Ok(ActResult::At(ActTime::AfterItsAttempt)),
                },
            }
        })
    }

    /// As the act, and one record of the key runs while three wait.
    fn try_act(&self, act: Act) -> Trying<'_> {
        Box::pin(async move {
            let mut of_key = KeyOutlook::default();
            (of_key.pending, of_key.running, of_key.waiting) = (4, 1, 3);
            match act {
                Act::ReleaseHeld => Ok(Tried::Held(5)),
                Act::Skip(at) | Act::DeadLetterNow(at) => {
                    if at.offset == 409 {
                        return Err(ActError::NoDeadLetterTopic);
                    }
                    let mut found = RecordOutlook::new(ActTime::AfterItsAttempt);
                    found.key_hash = Some(KeyHash::of(b"vehicle-4711"));
                    (found.attempts, found.of_key) = (Some(2), of_key);
                    Ok(Tried::Record(found))
                }
                _ => Ok(Tried::Key(of_key)),
            }
        })
    }

    fn dead_letter_topic(&self) -> Option<&str> {
        Some("dead")
    }

    fn redrive(&self, topic: &str) -> RedriveTask {
        let task = RedriveTask::of(topic).group("group");
        task.bootstrap_servers(self.servers.as_str())
    }

    fn operations(&self) -> OpsTopic {
        OpsTopic::of("group").bootstrap_servers(self.servers.as_str())
    }
}

fn subscription(name: &str) -> Arc<Scripted> {
    subscription_at(name, "127.0.0.1:1")
}

fn subscription_at(name: &str, servers: &str) -> Arc<Scripted> {
    Arc::new(Scripted {
        name: name.to_owned(),
        status: Mutex::new(SubscriptionStatus::new(State::Starting)),
        hot_keys: Mutex::default(),
        asked: Mutex::default(),
        servers: servers.to_owned(),
    })
}

fn running(name: &str) -> Arc<Scripted> {
    let running = subscription(name);
    running.change(|status| *status = SubscriptionStatus::new(State::Running));
    running
}

fn outage(kinds: &[OutageKind]) -> OutageStatus {
    let mut outage = OutageStatus::new(kinds.iter().copied().map(OngoingOutage::new));
    outage.held = 5;
    outage
}

/// One that runs, with every field filled.
fn troubled(name: &str) -> Arc<Scripted> {
    let troubled = running(name);
    troubled.change(|status| status.outage = Some(outage(&[OutageKind::Total])));
    troubled.change(|status| status.in_flight = Some(InFlight::new(3, 20)));
    troubled.change(|status| status.control = Some(ControlStatus::new("a-keylane-control", 7)));
    let text = "all brokers are down";
    troubled.set_trouble(TroubleKind::Connection, TroublePlace::Cluster, text);
    troubled.set_partition(stuck(0, 10));
    troubled.set_partition(stuck(1, 20));
    troubled.set_partition(PartitionStatus::new("tasks", 2));
    *troubled.hot_keys.lock().unwrap() = hot_keys(0);
    troubled
}

fn partition(number: i32, change: impl FnOnce(&mut PartitionStatus)) -> PartitionStatus {
    let mut status = PartitionStatus::new("tasks", number);
    change(&mut status);
    status
}

fn stuck(number: i32, age_seconds: u64) -> PartitionStatus {
    let age = Duration::from_secs(age_seconds);
    let mut oldest = OldestRecord::new(40 + i64::from(number), RecordState::Running);
    oldest.key_hash = Some(KeyHash::of(b"vehicle-4711"));
    oldest.age = age;
    oldest.attempts = 3;
    oldest.last_error = Some("status 503".to_owned());
    partition(number, |status| {
        status.snapshot.watermark = Some(Position::new(oldest.offset));
        status.lag_age = Some(age);
        status.workable_lag_age = Some(age);
        status.delivered_offset = Some(oldest.offset);
        status.snapshot.pending = 5;
        status.lag_records = Some(7);
        status.oldest = Some(oldest);
        status.snapshot.stalled_for = Some(age);
        status.blocked_for = Some(age);
    })
}

fn hot_keys(partition: i32) -> HotKeys {
    fn hot<A: Copy>(partition: i32, key: &'static str, amount: A) -> HotKey<A> {
        let mut hot = HotKey::new("tasks", partition, KeyHash::of(key.as_bytes()), amount);
        hot.key = Some(key.into());
        hot.share = 0.5;
        hot
    }
    let seconds = |seconds| Duration::from_secs(seconds);
    let mut all = HotKeys::default();
    all.by_records = vec![
        hot(partition, "vehicle-4711", 9),
        hot(partition, "vehicle-1", 3),
    ];
    all.by_time = vec![hot(partition, "vehicle-2", seconds(5))];
    all.by_waiting = vec![hot(partition, "vehicle-3", seconds(7))];
    all
}

fn shared<const N: usize>(subscriptions: [&Arc<Scripted>; N], token: Option<&str>) -> Arc<Shared> {
    let mut all = AllServed::default();
    for subscription in subscriptions {
        assert!(all.add(subscription.clone()));
    }
    Arc::new(Shared {
        subscriptions: RwLock::new(all),
        token: token.map(|token| Token::new(token.to_owned())),
        hosts: Hosts {
            checked: true,
            allowed: Vec::new(),
        },
        polling_limit: Duration::from_secs(30),
        act_timeout: Duration::from_millis(20),
        metrics: None,
        redrives: Arc::new(Redrives::new(Duration::from_secs(60))),
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
    answer(alone(shared.clone()), request).await
}

async fn answer(router: Router, request: Request<Body>) -> Answer {
    let response = router.oneshot(request).await.unwrap();
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
