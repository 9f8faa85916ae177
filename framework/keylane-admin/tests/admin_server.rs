//! Health, state and steering over HTTP, on the embedded broker.
// Clippy allows it in test functions only, not in what they call.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use keylane::config::Watchdog;
use keylane::record::KeyHash;
use keylane::subscription::SubscriptionBuilder;
use keylane::{Json, NewTask, Subscription, Task, TaskError, TaskProducer};
use keylane_admin::AdminServer;
use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};
use serde_json::Value;
use tokio::sync::Semaphore;

#[path = "../../keylane/tests/common/mod.rs"]
mod common;

use common::{PATIENCE, eventually};

const TOKEN: &str = "open-sesame";
const STUCK: u32 = u32::MAX;

/// One request on a connection of its own: status and body.
fn ask(address: SocketAddr, method: &str, path: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

fn get(address: SocketAddr, path: &str) -> (u16, Value) {
    ask(address, "GET", path)
}

fn post(address: SocketAddr, path: &str) {
    let (status, answer) = ask(address, "POST", path);
    assert_eq!(status, 202, "{answer}");
}

/// Startup, live and ready.
fn health(address: SocketAddr) -> (u16, u16, u16) {
    let probe = |name: &str| get(address, &format!("/health/{name}")).0;
    (probe("startup"), probe("live"), probe("ready"))
}

fn has_reason(address: SocketAddr, probe: &str, code: &str) -> bool {
    let (_, health) = get(address, &format!("/health/{probe}"));
    health["reasons"]
        .as_array()
        .unwrap()
        .iter()
        .any(|reason| reason["code"] == code)
}

async fn broker(partitions: i32) -> (EmbeddedBroker, TaskProducer) {
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
    broker.create_topic("tasks", partitions).unwrap();
    let producer = common::producer(broker.bootstrap_servers(), "tasks").await;
    (broker, producer)
}

fn subscribe(broker: &EmbeddedBroker) -> SubscriptionBuilder {
    Subscription::builder("group", "tasks")
        .bootstrap_servers(broker.bootstrap_servers())
        .kafka_settings(EmbeddedBroker::client_settings())
        // A member that gets no CPU for a while is not to be thrown out: nothing may come twice.
        .kafka("session.timeout.ms", "6000")
        .watchdog(
            Watchdog::default()
                .slow_attempt(Duration::from_millis(200))
                .stalled_after(Duration::from_millis(200)),
        )
}

async fn enqueue(producer: &TaskProducer, payload: u32, key: &str) -> i32 {
    producer
        .enqueue(NewTask::json(&payload).unwrap().key(key.to_owned()))
        .await
        .unwrap()
        .partition
}

/// Counts what it has done. A [`STUCK`] record fails once, and then waits for a permit.
#[derive(Clone)]
struct Work {
    done: Arc<AtomicUsize>,
    free: Arc<Semaphore>,
}

impl Work {
    fn new() -> Self {
        Self {
            done: Arc::default(),
            free: Arc::new(Semaphore::new(0)),
        }
    }

    fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    async fn start(&self, subscription: SubscriptionBuilder) -> Subscription {
        let work = self.clone();
        let process = move |task: Task<u32>| {
            let work = work.clone();
            async move {
                if *task.payload() == STUCK {
                    if task.attempt() == 1 {
                        return Err("gateway said 503".into());
                    }
                    work.free.acquire().await?.forget();
                }
                work.done.fetch_add(1, Ordering::Relaxed);
                Ok::<(), TaskError>(())
            }
        };
        subscription.start(Json, process).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_ready_while_it_is_assigned_and_neither_before_nor_after() {
    let (broker, _producer) = broker(1).await;
    let admin = AdminServer::builder().token(TOKEN).start().unwrap();
    let address = admin.local_addr();
    assert!(address.ip().is_loopback());
    assert_eq!(health(address), (503, 200, 503), "before");

    let subscription = Work::new().start(subscribe(&broker)).await;
    admin.add(subscription.handle()).unwrap();
    eventually("it is ready", || health(address) == (200, 200, 200)).await;

    let running = tokio::spawn(subscription.run());
    post(address, "/v1/subscriptions/group/shutdown");
    running.await.unwrap().unwrap();
    assert_eq!(health(address), (200, 200, 503), "after");
    assert_eq!(
        get(address, "/v1/subscriptions/group").1["state"],
        "stopped"
    );

    admin.shutdown().await;
    assert!(TcpStream::connect(address).is_err(), "it listens no longer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_key_is_found_with_two_gets() {
    let (broker, producer) = broker(4).await;
    let stuck = enqueue(&producer, STUCK, "vehicle-4711").await;
    for number in 0..100 {
        enqueue(&producer, number, &format!("vehicle-{number}")).await;
    }
    let work = Work::new();
    let subscription = work.start(subscribe(&broker)).await;
    let admin = AdminServer::builder()
        .subscription(subscription.handle())
        .start()
        .unwrap();
    let address = admin.local_addr();
    eventually("the others are done", || work.done() == 100).await;
    // Not for the partitions that have just waited for their first records.
    let stalled = || -> Vec<i32> {
        let partitions = subscription.status().partitions;
        partitions
            .iter()
            .filter(|it| it.snapshot.stalled_for.is_some())
            .map(|it| it.partition)
            .collect()
    };
    eventually("it is seen", || {
        stalled() == [stuck] && has_reason(address, "ready", "partition_stalled")
    })
    .await;

    let (status, health) = get(address, "/health/ready");
    assert_eq!((status, &health["status"]), (200, &"degraded".into()));
    let reason = health["reasons"]
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["code"] == "partition_stalled")
        .unwrap();
    assert_eq!(
        (&reason["topic"], &reason["partition"]),
        (&"tasks".into(), &stuck.into())
    );
    let (_, oldest) = get(address, "/v1/subscriptions/group/oldest?limit=1");
    let oldest = &oldest["records"][0];
    assert_eq!(
        (&oldest["partition"], &oldest["offset"]),
        (&stuck.into(), &0.into())
    );
    assert_eq!(oldest["key_hash"], KeyHash::of(b"vehicle-4711").to_string());
    assert_eq!(oldest["state"], "running");
    assert_eq!(oldest["last_error"], "gateway said 503");

    work.free.add_permits(1);
    eventually("it passes", || {
        get(address, "/health/ready").1["status"] == "ok"
    })
    .await;
    subscription.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_stops_the_work_and_a_resume_goes_on_with_it() {
    let (broker, producer) = broker(2).await;
    let work = Work::new();
    let subscription = work.start(subscribe(&broker)).await;
    let admin = AdminServer::builder()
        .token(TOKEN)
        .subscription(subscription.handle())
        .start()
        .unwrap();
    let address = admin.local_addr();
    let state = || get(address, "/v1/subscriptions/group").1;
    eventually("it has its partitions", || {
        state()["partitions"].as_array().unwrap().len() == 2
    })
    .await;
    // One key in each partition.
    let (mut keys, mut number) = ([None, None], 0);
    while keys.iter().any(Option::is_none) {
        let key = format!("k{number}");
        let partition = enqueue(&producer, number, &key).await;
        keys[partition as usize] = Some(key);
        number += 1;
    }
    let [first, second] = keys.map(Option::unwrap);
    let mut expected = number as usize;
    eventually("all is done", || work.done() == expected).await;

    let paused = |partition: usize| {
        let partition = &state()["partitions"][partition];
        // Fetching stops at once, the owner in its next turn; no limit is reached.
        [&partition["paused"], &partition["paused_by_user"]].map(|paused| paused == true)
    };
    let is_paused = |partition| paused(partition) == [true; 2];
    let goes_on = |partition| paused(partition) == [false; 2];
    post(address, "/v1/subscriptions/group/pause");
    eventually("both partitions are paused", || {
        is_paused(0) && is_paused(1)
    })
    .await;
    assert_eq!(
        (&state()["state"], health(address).2),
        (&"paused".into(), 200)
    );
    enqueue(&producer, 0, &first).await;
    post(address, "/v1/subscriptions/group/partitions/tasks/0/pause");
    post(address, "/v1/subscriptions/group/resume");
    eventually("only one is paused", || is_paused(0) && goes_on(1)).await;
    assert!(has_reason(address, "ready", "partition_paused"));

    // Behind the one of the paused partition, and done before it.
    enqueue(&producer, 0, &second).await;
    expected += 1;
    eventually("the other partition goes on", || work.done() == expected).await;
    let lag = || state()["partitions"][0]["lag_records"].clone();
    eventually("it lags behind", || lag() == 1).await;
    assert_eq!(work.done(), expected);

    post(address, "/v1/subscriptions/group/partitions/tasks/0/resume");
    expected += 1;
    eventually("the rest is done", || work.done() == expected).await;
    eventually("nothing is paused", || goes_on(0) && goes_on(1)).await;
    subscription.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pause_of_a_partition_ends_when_it_is_given_up() {
    let (broker, producer) = broker(1).await;
    let work = Work::new();
    let first = work.start(subscribe(&broker)).await;
    eventually("it has its partition", || {
        first.status().partitions.len() == 1
    })
    .await;
    assert!(first.handle().pause_partition("tasks", 1).is_err());
    first.handle().pause_partition("tasks", 0).unwrap();
    eventually("it is paused", || {
        first.status().partitions[0].paused_by_user
    })
    .await;
    enqueue(&producer, 0, "k").await;
    first.shutdown().await.unwrap();
    assert_eq!(
        work.done(),
        0,
        "the drain of a paused partition starts nothing"
    );

    let second = work.start(subscribe(&broker)).await;
    eventually("the next owner does it", || work.done() == 1).await;
    second.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_without_partitions_is_ready() {
    let (broker, _producer) = broker(1).await;
    let (first, second) = (
        Work::new().start(subscribe(&broker)).await,
        Work::new().start(subscribe(&broker)).await,
    );
    let admins = [&first, &second].map(|member| {
        AdminServer::builder()
            .subscription(member.handle())
            .start()
            .unwrap()
    });
    let owned = |member: &Subscription| member.status().partitions.len();
    eventually("both are ready, and one has the partition", || {
        owned(&first) + owned(&second) == 1
            && admins
                .iter()
                .all(|admin| health(admin.local_addr()) == (200, 200, 200))
    })
    .await;
    for member in [first, second] {
        member.shutdown().await.unwrap();
    }
}

/// The server has a thread of its own, and so has the polling.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_process_whose_only_worker_is_blocked_is_alive_and_degraded() {
    let (broker, producer) = broker(1).await;
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let subscription = subscribe(&broker)
        .start(Json, move |_: Task<u32>| {
            let _ = released.lock().unwrap().recv_timeout(2 * PATIENCE);
            async { Ok::<(), TaskError>(()) }
        })
        .await
        .unwrap();
    let admin = AdminServer::builder()
        .subscription(subscription.handle())
        .start()
        .unwrap();
    let address = admin.local_addr();
    enqueue(&producer, 0, "k").await;
    // Without the runtime, whose clock stands still with its only worker.
    let deadline = Instant::now() + PATIENCE;
    while !has_reason(address, "live", "owner_blocked") {
        assert!(
            Instant::now() < deadline,
            "not within {PATIENCE:?}: it is seen"
        );
    }
    assert_eq!(health(address), (200, 200, 200));
    release.send(()).unwrap();
    eventually("it passes", || {
        get(address, "/health/live").1["status"] == "ok"
    })
    .await;
    subscription.shutdown().await.unwrap();
}
