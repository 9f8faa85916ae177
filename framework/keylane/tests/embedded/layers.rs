//! Layers given to the builder, on a subscription with a broker.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::common::{self, PATIENCE, eventually};
use keylane::config::Backoff;
use keylane::layers::{Failover, Fields, Layer, Next, Timeout, Validate};
use keylane::{DeadLetter, Json, NewTask, Retry, Subscription, Success, Task, TaskError};
use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};

/// What was done, per key.
type Log = Arc<Mutex<HashMap<String, Vec<(u32, &'static str)>>>>;

fn note(log: &Log, task: &Task<u32>, what: &'static str) {
    let key = task.key_str().unwrap_or_default().to_owned();
    let mut log = log.lock().unwrap();
    log.entry(key).or_default().push((*task.payload(), what));
}

/// Four tasks of four keys, so that their time-outs are over at once.
fn hangs(number: u32) -> bool {
    number % 111 == 3
}

/// Panics once for each task whose number ends in 7.
struct PanicsOnce(Log);

impl Layer<u32> for PanicsOnce {
    async fn around(&self, task: Task<u32>, next: impl Next<u32>) -> Result<Success, TaskError> {
        if task.payload() % 10 == 7 && task.attempt() == 1 {
            note(&self.0, &task, "panic");
            panic!("the layer's");
        }
        next.run(task).await
    }
}

/// A layer's panic, a time-out, a fail-over that takes longer than the work, a refusal: each is of
/// its record, and no later record of its key begins before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn layers_keep_the_order_of_keys_whatever_happens_in_them() {
    const TASKS: u32 = 400;
    const KEYS: u32 = 20;
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
    broker.create_topic("events", 2).unwrap();
    broker.create_topic("dead", 1).unwrap();
    let log = Log::default();
    let push = {
        let log = log.clone();
        move |task: Task<u32>| {
            note(&log, &task, "push");
            async move {
                if hangs(*task.payload()) {
                    std::future::pending::<()>().await;
                }
                tokio::task::yield_now().await;
                Ok::<(), TaskError>(())
            }
        }
    };
    let sms = {
        let log = log.clone();
        move |task: Task<u32>| {
            let log = log.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                note(&log, &task, "sms");
                Ok::<(), TaskError>(())
            }
        }
    };
    let is_known = |number: &u32| match number % 100 {
        99 => Err("an unknown number"),
        _ => Ok(()),
    };
    let quick = Backoff::exponential(Duration::from_millis(1), Duration::from_millis(5));
    let subscription = Subscription::builder("notifier", "events")
        .bootstrap_servers(broker.bootstrap_servers())
        .kafka_settings(EmbeddedBroker::client_settings())
        // A member that gets no CPU for a while is not to be thrown out: nothing may come twice.
        .kafka("session.timeout.ms", "6000")
        .retry(Retry::in_place(5).backoff(quick))
        .dead_letter(DeadLetter::topic("dead"))
        .layer(Fields::default())
        .layer(PanicsOnce(log.clone()))
        .layer(Validate::with(is_known))
        .layer(Failover::to(sms).when(TaskError::is_timeout))
        // Long enough for what does answer, on a machine that is slow.
        .layer(Timeout::of(Duration::from_secs(2)).at("push gateway"))
        .start(Json, push)
        .await
        .unwrap();
    let producer = common::producer(broker.bootstrap_servers(), "events").await;
    let tasks = (0..TASKS).map(|number| {
        let task = NewTask::json(&number).unwrap();
        task.key(format!("k{}", number % KEYS))
    });
    for answer in producer.enqueue_all(tasks).await {
        answer.unwrap();
    }
    let expected = |number: u32| match number % 100 {
        99 => vec![],
        it if it % 10 == 7 => vec![(number, "panic"), (number, "push")],
        _ if hangs(number) => vec![(number, "push"), (number, "sms")],
        _ => vec![(number, "push")],
    };
    let in_all: usize = (0..TASKS).map(|number| expected(number).len()).sum();
    eventually("all tasks are done", || {
        log.lock().unwrap().values().map(Vec::len).sum::<usize>() >= in_all
    })
    .await;
    subscription.shutdown().await.unwrap();
    producer.close(PATIENCE).await.unwrap();

    let log = log.lock().unwrap();
    for key in 0..KEYS {
        let of_key = (0..TASKS).filter(|number| number % KEYS == key);
        let expected: Vec<_> = of_key.flat_map(expected).collect();
        assert_eq!(log[&format!("k{key}")], expected);
    }
}
