//! `max_in_flight`: one pool of places for all partitions.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keylane::{Json, NewTask, Retry, Task, TaskError};
use keylane_testkit::{Outcome, TestSubscription};
use tokio::sync::{Barrier, Notify};

use super::{exactly, task};

const SECOND: Duration = Duration::from_secs(1);

/// Counts the attempts that run.
#[derive(Default)]
struct Attempts {
    now: AtomicUsize,
    most: AtomicUsize,
}

struct Runs(Arc<Attempts>);

impl Attempts {
    fn begin(self: &Arc<Self>) -> Runs {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        Runs(self.clone())
    }

    fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

impl Drop for Runs {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Task `number` of a partition, one of ten keys there.
fn of(partition: i32, number: u64) -> NewTask {
    let key = format!("{partition}-{}", number % 10);
    task(number).partition(partition).key(key)
}

/// Ends in as many ways as there are, by its number and its attempt.
async fn ends_somehow(number: u64, attempt: u32) -> Result<(), TaskError> {
    match (number % 7, attempt) {
        (0, 1) => std::future::pending().await,
        (1, 1) => panic!("the processor has a bug"),
        (2, 1) => {
            tokio::time::sleep(SECOND).await;
            panic!("the processor has a bug")
        }
        (3, 1 | 2) => Err(TaskError::retryable("not yet")),
        (4 | 5, _) => Ok(()),
        _ => {
            tokio::time::sleep(SECOND / 10).await;
            Ok(())
        }
    }
}

#[tokio::test]
async fn attempts_of_all_partitions_share_the_places_however_they_end_and_keys_keep_their_order() {
    for places in [1, 3] {
        let running = Arc::new(Attempts::default());
        let last: Arc<Mutex<HashMap<Vec<u8>, u64>>> = Arc::default();
        let (begun, at_once) = (running.clone(), Arc::new(Barrier::new(places)));
        let keys = last.clone();
        let handle = TestSubscription::new(Json, move |task: Task<u64>| {
            let runs = begun.begin();
            let (keys, at_once) = (keys.clone(), at_once.clone());
            async move {
                let _runs = runs;
                if *task.payload() == u64::MAX {
                    at_once.wait().await;
                    return Ok(());
                }
                let key = task.key().unwrap().to_vec();
                let last = keys.lock().unwrap().insert(key, *task.payload());
                assert!(last.is_none_or(|last| last <= *task.payload()));
                ends_somehow(*task.payload(), task.attempt()).await
            }
        })
        .retry(Retry::in_place(3).backoff(exactly(SECOND, SECOND)))
        .attempt_timeout(5 * SECOND)
        .configure(|config| config.limits.max_in_flight = Some(places))
        .start();
        let written: Vec<_> = (0..280)
            .map(|number| handle.write(of((number % 4) as i32, number)))
            .collect();
        handle.idle().await.unwrap();
        for task in &written {
            let outcome = handle.outcome(task);
            assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
        }
        assert_eq!(running.most(), places);
        // All places are free again: as many attempts wait for each other.
        for partition in 0..places {
            handle.write(task(u64::MAX).partition(partition as i32));
        }
        handle.idle().await.unwrap();
        assert_eq!(running.most(), places);
    }
}

#[tokio::test]
async fn the_retry_topic_shares_the_places_and_what_waits_for_a_retry_has_none() {
    let running = Arc::new(Attempts::default());
    let begun = running.clone();
    let handle = TestSubscription::new(Json, move |task: Task<u64>| {
        let runs = begun.begin();
        async move {
            let _runs = runs;
            tokio::time::sleep(SECOND).await;
            match task.attempt() {
                1..=2 => Err(TaskError::retryable("not yet")),
                _ => Ok(()),
            }
        }
    })
    .retry(
        Retry::in_place(1)
            .backoff(exactly(60 * SECOND, 60 * SECOND))
            .then_topic()
            .topic_backoff(exactly(600 * SECOND, 600 * SECOND)),
    )
    .configure(|config| config.limits.max_in_flight = Some(2))
    .start();
    let written: Vec<_> = (0..40)
        .map(|number| {
            task(number)
                .partition((number % 4) as i32)
                .key(number.to_string())
        })
        .map(|task| handle.write(task))
        .collect();
    handle.idle().await.unwrap();
    for task in &written {
        assert_eq!(handle.outcome(task), Outcome::Done { attempts: 3 });
    }
    assert_eq!((running.most(), handle.retries().len()), (2, 40));
    // Two at a time, each for a second of the test's time: none waited for another's back-off.
    let first = written.iter().map(|task| handle.attempts(task)[0].clone());
    assert!(first.map(|attempt| attempt.ended_after).max() < Some(61 * SECOND));
}

#[tokio::test]
async fn beside_a_stuck_key_all_other_records_are_done_its_partitions_too() {
    const PARTITIONS: i32 = 8;
    const STUCK: u64 = u64::MAX;
    let running = Arc::new(Attempts::default());
    let in_its_partition = Arc::new(Attempts::default());
    let (end, done) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let processor = {
        let (running, in_its_partition) = (running.clone(), in_its_partition.clone());
        let (end, done) = (end.clone(), done.clone());
        move |task: Task<u64>| {
            let runs = running.begin();
            let beside = (task.partition() == 0).then(|| in_its_partition.begin());
            let (end, done) = (end.clone(), done.clone());
            async move {
                let _runs = (runs, beside);
                if *task.payload() == STUCK {
                    end.notified().await;
                } else {
                    tokio::time::sleep(SECOND / 100).await;
                    done.fetch_add(1, Ordering::SeqCst);
                }
                Ok::<(), TaskError>(())
            }
        }
    };
    let handle = TestSubscription::new(Json, processor)
        .attempt_timeout(3_600 * SECOND)
        .configure(|config| config.limits.max_in_flight = Some(16))
        .start();
    let stuck = handle.write(task(STUCK).key("stuck"));
    let others = 100 * PARTITIONS as usize;
    for number in 0..others as i32 {
        let key = number.to_string();
        handle.write(task(7).partition(number % PARTITIONS).key(key));
    }
    while done.load(Ordering::SeqCst) < others {
        tokio::time::sleep(SECOND / 100).await;
    }
    assert_eq!(handle.outcome(&stuck), Outcome::Pending { attempts: 0 });
    assert_eq!(running.most(), 16);
    assert!(
        in_its_partition.most() > 2,
        "the places are shared, not divided"
    );
    end.notify_one();
    handle.idle().await.unwrap();
}

/// Partitions are given up with attempts that run and others that wait for a place; their next
/// owners share the places with what has not ended.
#[tokio::test]
async fn a_revoked_partition_keeps_the_places_of_what_it_finishes_and_no_other() {
    for is_lost in [false, true] {
        let running = Arc::new(Attempts::default());
        let (begun, at_once) = (running.clone(), Arc::new(Barrier::new(2)));
        let handle = TestSubscription::new(Json, move |task: Task<u64>| {
            let runs = begun.begin();
            let at_once = at_once.clone();
            async move {
                let _runs = runs;
                match task.payload() {
                    0 => tokio::time::sleep(10 * SECOND).await,
                    _ => {
                        at_once.wait().await;
                    }
                }
                Ok::<(), TaskError>(())
            }
        })
        .configure(|config| config.limits.max_in_flight = Some(2))
        .idle_timeout(60 * SECOND)
        .start();
        let before: Vec<_> = (0..8)
            .map(|number| handle.write(of(number % 4, 0)))
            .collect();
        tokio::time::sleep(SECOND).await;
        match is_lost {
            true => handle.lose(),
            false => handle.revoke(60 * SECOND),
        }
        let after = [1, 2].map(|partition| handle.write(of(partition, 1)));
        // What was given up with those partitions is not repeated here.
        let _ = handle.idle().await;
        for task in &after {
            assert_eq!(handle.outcome(task), Outcome::Done { attempts: 1 });
        }
        let finished = before.iter().map(|task| handle.outcome(task));
        let finished = finished.filter(|it| matches!(it, Outcome::Done { .. }));
        assert_eq!(finished.count(), if is_lost { 0 } else { 2 });
        assert_eq!(running.most(), 2, "lost: {is_lost}");
    }
}

/// While a record waits for a place, its last failure is still the latest word on its key.
#[tokio::test]
async fn an_outage_is_recognised_although_each_key_waits_long_for_its_place() {
    const ATTEMPT: Duration = Duration::from_secs(300);
    let handle = TestSubscription::new(Json, move |_: Task<u64>| async move {
        tokio::time::sleep(ATTEMPT).await;
        Err::<(), _>(TaskError::retryable("down"))
    })
    .retry(Retry::in_place(2).backoff(exactly(SECOND, SECOND)))
    .attempt_timeout(ATTEMPT + SECOND)
    // All keys are out of retries by then.
    .idle_timeout(20 * ATTEMPT)
    .configure(|config| config.limits.max_in_flight = Some(1))
    .start();
    for number in 0..6 {
        let key = number.to_string();
        handle.write(task(number).partition((number % 4) as i32).key(key));
    }
    assert!(handle.idle().await.is_err());
    assert!(handle.outage().is_some());
    assert_eq!(handle.dead_letters().len(), 0);
}
