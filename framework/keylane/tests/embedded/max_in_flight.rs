//! `max_in_flight` on several threads, and what is shown of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::common::{PATIENCE, eventually, producer};
use keylane::config::Backoff;
use keylane::status::InFlight;
use keylane::{Json, NewTask, Retry, Subscription, Task, TaskError};
use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};
use tokio::sync::Notify;

const HANGS: u32 = u32::MAX;

#[derive(Default)]
struct Seen {
    now: AtomicUsize,
    most: AtomicUsize,
    done: AtomicUsize,
    release: Notify,
}

/// Counts an attempt until its future is gone.
struct Runs(Arc<Seen>);

impl Runs {
    fn of(seen: &Arc<Seen>) -> Self {
        let now = seen.now.fetch_add(1, Ordering::SeqCst) + 1;
        seen.most.fetch_max(now, Ordering::SeqCst);
        Self(seen.clone())
    }
}

impl Drop for Runs {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn process(runs: Runs, number: u32, attempt: u32) -> Result<(), TaskError> {
    let seen = &runs.0;
    match (number, attempt) {
        (HANGS, _) => seen.release.notified().await,
        // Some fail, with a back-off; some wait; the others end at their first poll.
        (number, 1) if number.is_multiple_of(3) => Err(TaskError::retryable("not yet"))?,
        (number, _) if number.is_multiple_of(2) => tokio::task::yield_now().await,
        _ => {}
    }
    seen.done.fetch_add(1, Ordering::SeqCst);
    Ok(())
}

async fn member(broker: &EmbeddedBroker, places: usize, seen: &Arc<Seen>) -> Subscription {
    let seen = seen.clone();
    let backoff = Backoff::fixed(std::time::Duration::from_millis(10));
    Subscription::builder("group", "tasks")
        .bootstrap_servers(broker.bootstrap_servers())
        .kafka_settings(EmbeddedBroker::client_settings())
        // A member that gets no CPU for a while is not to be thrown out: nothing may come twice.
        .kafka("session.timeout.ms", "6000")
        .retry(Retry::in_place(3).backoff(backoff))
        .max_in_flight(places)
        .start(Json, move |task: Task<u32>| {
            process(Runs::of(&seen), *task.payload(), task.attempt())
        })
        .await
        .unwrap()
}

fn task(number: u32, partition: i32) -> NewTask {
    NewTask::json(&number)
        .unwrap()
        .key(number.to_string())
        .partition(partition)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_more_attempts_than_places_run_at_once_while_partitions_come_and_go() {
    const RECORDS: usize = 4_000;
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
    broker.create_topic("tasks", 4).unwrap();
    let producer = producer(broker.bootstrap_servers(), "tasks").await;
    let (seen, of_guest) = (Arc::new(Seen::default()), Arc::new(Seen::default()));
    let staying = member(&broker, 3, &seen).await;
    let done = || [&seen, &of_guest].map(|it| it.done.load(Ordering::SeqCst));
    let mut written = 0;
    for _ in 0..2 {
        let tasks =
            (written..written + RECORDS / 2).map(|number| task(number as u32, number as i32 % 4));
        written += RECORDS / 2;
        let guest = member(&broker, 2, &of_guest).await;
        assert!(producer.enqueue_all(tasks).await.iter().all(Result::is_ok));
        eventually("both have their half", || {
            staying.status().partitions.len() == 2 && guest.status().partitions.len() == 2
        })
        .await;
        guest.shutdown().await.unwrap();
        eventually("all are done", || done().iter().sum::<usize>() >= written).await;
    }
    assert!(seen.most.load(Ordering::SeqCst) <= 3);
    assert!(of_guest.most.load(Ordering::SeqCst) <= 2);
    eventually("all places are given back", || {
        staying.status().in_flight == Some(InFlight::new(0, 3))
    })
    .await;
    staying.shutdown().await.unwrap();
    producer.close(PATIENCE).await.unwrap();
}

/// A partition that waits for a place and then is paused keeps neither its turn nor the place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_that_wait_for_a_place_are_shown_and_leave_the_queue_when_they_are_paused() {
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
    broker.create_topic("tasks", 3).unwrap();
    let producer = producer(broker.bootstrap_servers(), "tasks").await;
    let seen = Arc::new(Seen::default());
    let member = member(&broker, 1, &seen).await;
    let waiting = || -> Vec<i32> {
        let partitions = member.status().partitions;
        let waiting = partitions.iter().filter(|it| it.waits_for_place);
        waiting.map(|it| it.partition).collect()
    };
    producer.enqueue(task(HANGS, 0)).await.unwrap();
    eventually("it hangs", || {
        member.status().in_flight == Some(InFlight::new(1, 1))
    })
    .await;
    for partition in [1, 2] {
        producer.enqueue(task(1, partition)).await.unwrap();
    }
    eventually("the others wait", || waiting() == [1, 2]).await;
    assert_eq!(seen.now.load(Ordering::SeqCst), 1);

    let handle = member.handle();
    handle.pause_partition("tasks", 1).unwrap();
    eventually("one has left the queue", || waiting() == [2]).await;
    let done = || seen.done.load(Ordering::SeqCst);
    seen.release.notify_one();
    eventually("the other one goes on", || done() == 2).await;
    producer.enqueue(task(5, 2)).await.unwrap();
    eventually("and on", || done() == 3).await;
    handle.resume_partition("tasks", 1).unwrap();
    eventually("all are done", || done() == 4).await;
    assert_eq!(seen.most.load(Ordering::SeqCst), 1);
    member.shutdown().await.unwrap();
    producer.close(PATIENCE).await.unwrap();
}
