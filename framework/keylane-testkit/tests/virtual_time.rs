//! Policies, as a user tests them: without a broker, and in no time.
// Clippy allows it in test functions only, not in what they call.
#![allow(clippy::unwrap_used)]

#[path = "virtual_time/layers.rs"]
mod layers;
#[path = "virtual_time/max_in_flight.rs"]
mod max_in_flight;
#[path = "virtual_time/policies.rs"]
mod policies;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use keylane::config::{Backoff, Exhausted, Outage};
use keylane::error::SubscriptionError;
use keylane::record::Origin;
use keylane::status::OutageKind;
use keylane::{Json, NewTask, Retry, Success, Task, TaskError};
use keylane_testkit::{Attempt, AttemptResult, LocalRecord, Outcome, TestHandle, TestSubscription};

const MINUTE: Duration = Duration::from_secs(60);

fn task(payload: u64) -> NewTask {
    NewTask::json(&payload).unwrap()
}

async fn fails(_: Task<u64>) -> Result<(), TaskError> {
    Err(TaskError::retryable("the gateway is busy"))
}

fn results(attempts: &[Attempt]) -> Vec<AttemptResult> {
    attempts.iter().map(|attempt| attempt.result).collect()
}

fn seconds(attempts: &[Attempt]) -> Vec<u64> {
    let ended = attempts.iter().map(|it| it.ended_after.as_secs_f64());
    ended.map(|seconds| seconds.round() as u64).collect()
}

fn exactly(initial: Duration, max: Duration) -> Backoff {
    Backoff::exponential(initial, max).jitter(0.0)
}

#[tokio::test]
async fn a_quarter_of_an_hour_of_retries_in_place_takes_no_time() {
    let retry = Retry::in_place(4).backoff(exactly(MINUTE, 10 * MINUTE));
    let handle = TestSubscription::new(Json, fails).retry(retry).start();
    let written = handle.write(task(7));
    handle.idle().await.unwrap();
    assert_eq!(
        handle.outcome(&written),
        Outcome::DeadLettered { attempts: 5 }
    );
    let attempts = handle.attempts(&written);
    assert_eq!(seconds(&attempts), [0, 60, 180, 420, 900]);
    assert_eq!(attempts[0].text.as_deref(), Some("the gateway is busy"));
}

#[tokio::test]
async fn retries_by_time_end_when_it_has_passed() {
    let outcome = TestSubscription::new(Json, fails)
        .retry(Retry::for_at_least(15 * MINUTE))
        .run(task(7))
        .await;
    let Outcome::DeadLettered { attempts } = outcome else {
        panic!("{outcome:?}");
    };
    assert!(attempts > 3, "{attempts}");
}

/// Fails so many times at first.
fn fails_until(
    success: u32,
) -> impl Fn(Task<u64>) -> std::future::Ready<Result<(), TaskError>> + Send + Sync + 'static {
    move |task: Task<u64>| {
        std::future::ready(match task.attempt() {
            attempt if attempt < success => Err(TaskError::retryable("not yet")),
            _ => Ok(()),
        })
    }
}

#[tokio::test]
async fn what_goes_through_the_retry_topic_comes_back_when_it_is_due() {
    let retry = Retry::in_place(1)
        .backoff(exactly(MINUTE, MINUTE))
        .then_topic()
        .topic_backoff(exactly(10 * MINUTE, 10 * MINUTE));
    let handle = TestSubscription::new(Json, fails_until(4))
        .retry(retry)
        .start();
    let written = handle.write(task(7).key("vehicle-7").header("gate", "north"));
    handle.idle().await.unwrap();
    assert_eq!(handle.outcome(&written), Outcome::Done { attempts: 4 });
    assert_eq!(seconds(&handle.attempts(&written)), [0, 60, 660, 720]);

    let retries = handle.retries();
    assert_eq!(retries.len(), 1);
    assert_eq!(retries[0].key.as_deref(), Some(&b"vehicle-7"[..]));
    let header = |name| retries[0].headers.last_str(name);
    assert_eq!(header("gate"), Some("north"));
    assert_eq!(header("keylane-group"), Some("test"));
    assert_eq!(header("keylane-error"), Some("not yet"));
}

#[tokio::test]
async fn a_retry_topic_that_is_used_up_ends_in_a_dead_letter() {
    let retry = Retry::in_place(0).then_topic().topic_rounds(3);
    let handle = TestSubscription::new(Json, fails).retry(retry).start();
    let written = handle.write(task(7));
    handle.idle().await.unwrap();
    assert_eq!(
        handle.outcome(&written),
        Outcome::DeadLettered { attempts: 4 }
    );
    assert_eq!(
        (handle.retries().len(), handle.dead_letters().len()),
        (3, 1)
    );
    let letter = &handle.dead_letters()[0];
    assert_eq!(letter.headers.last_str("keylane-attempts"), Some("4"));
    assert_eq!(letter.value.as_deref(), Some(&b"7"[..]));
}

#[tokio::test]
async fn each_origin_topic_is_read_and_named_in_what_is_written() {
    let process = async |task: Task<u64>| match task.topic() {
        "arrivals" => Ok(()),
        _ => Err(TaskError::retryable("busy")),
    };
    let handle = TestSubscription::new(Json, process)
        .retry(
            Retry::in_place(0)
                .then_topic_named("retries")
                .topic_rounds(1),
        )
        .configure(|config| config.topics = vec!["arrivals".into(), "departures".into()])
        .start();
    let arrival = handle.write(task(7));
    let departure = handle.write(task(7).topic("departures"));
    handle.idle().await.unwrap();
    assert_eq!(
        (&*arrival.topic, &*departure.topic),
        ("arrivals", "departures")
    );
    assert_eq!(handle.outcome(&arrival), Outcome::Done { attempts: 1 });
    assert_eq!(
        handle.outcome(&departure),
        Outcome::DeadLettered { attempts: 2 }
    );
    let origin = |record: &LocalRecord| {
        record
            .headers
            .last_str("keylane-origin-topic")
            .map(str::to_owned)
    };
    for written in [handle.retries(), handle.dead_letters()] {
        assert_eq!(
            written.iter().map(origin).collect::<Vec<_>>(),
            [Some("departures".to_owned())]
        );
    }
}

#[tokio::test]
async fn whatever_an_attempt_does_is_its_result() {
    async fn process(task: Task<u64>) -> Result<Success, TaskError> {
        match task.payload() {
            0 => Ok(Success::Done),
            1 => Ok(Success::skipped("a duplicate")),
            2 => Err(TaskError::fatal("no such vehicle")),
            3 => panic!("boom"),
            4 => std::future::pending().await,
            _ => Err(TaskError::retryable("busy")),
        }
    }
    let handle = TestSubscription::new(Json, process)
        .retry(Retry::in_place(0))
        .attempt_timeout(MINUTE)
        .start();
    let given_up = Outcome::DeadLettered { attempts: 1 };
    for (sent, expected, result) in [
        (task(0), Outcome::Done { attempts: 1 }, AttemptResult::Ok),
        (
            task(1),
            Outcome::Skipped { attempts: 1 },
            AttemptResult::Skip,
        ),
        (task(2), given_up, AttemptResult::Fatal),
        (task(3), given_up, AttemptResult::Panic),
        (task(4), given_up, AttemptResult::Timeout),
        (task(5), given_up, AttemptResult::Error),
        (
            NewTask::new("not json"),
            given_up,
            AttemptResult::Undecodable,
        ),
    ] {
        let written = handle.write(sent);
        handle.idle().await.unwrap();
        let attempts = handle.attempts(&written);
        assert_eq!(
            (handle.outcome(&written), results(&attempts)),
            (expected, vec![result])
        );
    }
    assert_eq!(handle.dead_letters().len(), 5);
}

#[tokio::test]
async fn keys_are_in_order_and_no_more_attempts_run_than_may() {
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let order = Arc::new(Mutex::new(Vec::new()));
    let process = {
        let (running, most, order) = (running.clone(), most.clone(), order.clone());
        move |task: Task<u64>| {
            let (running, most, order) = (running.clone(), most.clone(), order.clone());
            async move {
                most.fetch_max(
                    running.fetch_add(1, Ordering::Relaxed) + 1,
                    Ordering::Relaxed,
                );
                // The later ones of a key would overtake the earlier ones.
                tokio::time::sleep(Duration::from_secs(100 - *task.payload())).await;
                running.fetch_sub(1, Ordering::Relaxed);
                order.lock().unwrap().push(*task.payload());
                Ok::<(), TaskError>(())
            }
        }
    };
    let handle = TestSubscription::new(Json, process).concurrency(3).start();
    for number in 0..30 {
        handle.write(task(number).key(format!("key-{}", number % 5)));
    }
    handle.idle().await.unwrap();
    assert_eq!(most.load(Ordering::Relaxed), 3);
    let order = order.lock().unwrap();
    for key in 0..5 {
        let of_key: Vec<_> = order.iter().filter(|number| *number % 5 == key).collect();
        assert!(of_key.is_sorted() && of_key.len() == 6, "{order:?}");
    }
}

#[tokio::test]
async fn what_is_parked_holds_its_key_and_nothing_else() {
    let process = async |task: Task<u64>| match task.payload() {
        0 => Err(TaskError::retryable("never")),
        _ => Ok(()),
    };
    let retry = Retry::in_place(0).exhausted(Exhausted::Park);
    let handle = TestSubscription::new(Json, process)
        .retry(retry)
        .idle_timeout(MINUTE)
        .start();
    let parked = handle.write(task(0).key("a"));
    let behind = handle.write(task(1).key("a"));
    let beside = handle.write(task(1).key("b"));
    let left = handle.idle().await.unwrap_err();
    assert_eq!(left.pending, std::slice::from_ref(&behind));
    assert_eq!(handle.outcome(&parked), Outcome::Parked { attempts: 1 });
    assert_eq!(handle.outcome(&behind), Outcome::Pending { attempts: 0 });
    assert_eq!(handle.outcome(&beside), Outcome::Done { attempts: 1 });
}

#[tokio::test]
async fn a_policy_of_stop_ends_the_subscription_with_its_error() {
    let handle = TestSubscription::new(Json, fails)
        .retry(Retry::in_place(2).exhausted(Exhausted::Stop))
        .start();
    let written = handle.write(task(7));
    handle.idle().await.unwrap();
    assert_eq!(handle.outcome(&written), Outcome::Stopped { attempts: 3 });
    assert!(matches!(
        handle.stopped(),
        Some(SubscriptionError::RetriesExhausted { offset: 0, .. })
    ));
}

fn unavailable_until(back: Duration) -> (TestHandle, tokio::time::Instant) {
    let began = tokio::time::Instant::now();
    let process = move |_: Task<u64>| {
        std::future::ready(match began.elapsed() < back {
            true => Err(TaskError::unavailable("the gateway is away")),
            false => Ok(()),
        })
    };
    let handle = TestSubscription::new(Json, process)
        .retry(Retry::in_place(2).backoff(exactly(Duration::from_secs(1), MINUTE)))
        .start();
    (handle, began)
}

#[tokio::test]
async fn no_attempt_is_burnt_while_the_downstream_is_away() {
    tokio::time::pause();
    let (handle, began) = unavailable_until(120 * MINUTE);
    let all: Vec<_> = (0..10).map(|number| handle.write(task(number))).collect();
    tokio::time::sleep(60 * MINUTE).await;
    let outage = handle.outage().unwrap();
    let kinds: Vec<_> = outage.ongoing.iter().map(|it| it.kind).collect();
    assert_eq!(kinds, [OutageKind::Total], "{outage:?}");

    handle.idle().await.unwrap();
    assert!(began.elapsed() >= 120 * MINUTE);
    let is_done = |task| matches!(handle.outcome(task), Outcome::Done { .. });
    assert!(all.iter().all(is_done));
    assert_eq!(handle.dead_letters().len(), 0);
}

#[tokio::test]
async fn failing_keys_are_an_outage_unless_the_test_leaves_room() {
    for (outage, is_outage) in [
        (Outage::default(), true),
        (Outage::default().lanes(64), false),
    ] {
        let handle = TestSubscription::new(Json, fails)
            .retry(Retry::in_place(2))
            .outage(outage)
            .idle_timeout(60 * MINUTE)
            .start();
        for number in 0..6 {
            handle.write(task(number).key(format!("key-{number}")));
        }
        assert_eq!(handle.idle().await.is_err(), is_outage);
        assert_eq!(handle.outage().is_some(), is_outage);
        let letters = if is_outage { 0 } else { 6 };
        assert_eq!(handle.dead_letters().len(), letters);
    }
}

#[tokio::test]
async fn a_delayed_task_waits_for_its_time() {
    let done = |_: Task<u64>| async { Ok::<(), TaskError>(()) };
    let handle = TestSubscription::new(Json, done).start();
    let at_once = handle.write(task(1).key("a"));
    let later = handle.write(task(2).key("b").not_before(SystemTime::now() + 30 * MINUTE));
    handle.idle().await.unwrap();
    assert_eq!(seconds(&handle.attempts(&at_once)), [0]);
    assert_eq!(seconds(&handle.attempts(&later)), [1_800]);
}

#[tokio::test]
async fn a_revoke_cancels_what_does_not_finish_in_time() {
    let cancelled = Arc::new(AtomicUsize::new(0));
    let process = {
        let cancelled = cancelled.clone();
        move |task: Task<u64>| {
            let cancellation = task.cancellation();
            let cancelled = cancelled.clone();
            // What the attempt started elsewhere.
            tokio::spawn(async move {
                cancellation.cancelled().await;
                cancelled.fetch_add(1, Ordering::Relaxed);
            });
            async move {
                tokio::time::sleep(MINUTE * u32::try_from(*task.payload()).unwrap()).await;
                Ok::<(), TaskError>(())
            }
        }
    };
    let handle = TestSubscription::new(Json, process)
        .attempt_timeout(60 * MINUTE)
        .idle_timeout(20 * MINUTE)
        .start();
    let (quick, slow) = (handle.write(task(1)), handle.write(task(30)));
    tokio::time::sleep(Duration::from_secs(1)).await;
    handle.revoke(5 * MINUTE);
    tokio::time::sleep(2 * MINUTE).await;
    assert_eq!(handle.outcome(&quick), Outcome::Done { attempts: 1 });
    assert_eq!(cancelled.load(Ordering::Relaxed), 0, "it has time");
    let left = handle.idle().await.unwrap_err();
    assert_eq!(left.pending, std::slice::from_ref(&slow));
    assert_eq!(handle.outcome(&slow), Outcome::Pending { attempts: 0 });
    assert_eq!(cancelled.load(Ordering::Relaxed), 2);

    let after = handle.write(task(0));
    tokio::time::sleep(MINUTE).await;
    assert_eq!(
        handle.outcome(&after),
        Outcome::Done { attempts: 1 },
        "by the next owner"
    );
}

#[tokio::test]
async fn a_pause_starts_nothing_until_it_ends() {
    let done = |_: Task<u64>| async { Ok::<(), TaskError>(()) };
    let handle = TestSubscription::new(Json, done).start();
    let first = handle.write(task(1));
    handle.idle().await.unwrap();
    handle.pause();
    let second = handle.write(task(2));
    tokio::time::sleep(MINUTE).await;
    assert_eq!(handle.outcome(&second), Outcome::Pending { attempts: 0 });
    handle.resume();
    handle.idle().await.unwrap();
    assert_eq!(handle.outcome(&second), Outcome::Done { attempts: 1 });
    assert_eq!(handle.outcome(&first), Outcome::Done { attempts: 1 });
}

#[tokio::test]
async fn a_pause_holds_what_comes_to_partitions_that_are_opened_while_it_lasts() {
    let retry = Retry::in_place(0).then_topic();
    let handle = TestSubscription::new(Json, fails_until(2))
        .retry(retry)
        .idle_timeout(10 * MINUTE)
        .start();
    handle.pause();
    let tasks = [handle.write(task(1)), handle.write(task(2).partition(1)), {
        handle.revoke(Duration::ZERO);
        handle.write(task(3))
    }];
    tokio::time::sleep(MINUTE).await;
    let outcomes =
        |tasks: &[Origin]| -> Vec<_> { tasks.iter().map(|task| handle.outcome(task)).collect() };
    assert_eq!(outcomes(&tasks), [Outcome::Pending { attempts: 0 }; 3]);

    let after_the_revoke = &tasks[2..];
    handle.resume();
    handle.idle().await.unwrap_err();
    assert_eq!(outcomes(after_the_revoke), [Outcome::Done { attempts: 2 }]);
}

#[tokio::test]
async fn nothing_is_attempted_once_the_subscription_has_stopped() {
    let handle = TestSubscription::new(Json, fails)
        .retry(Retry::in_place(0).exhausted(Exhausted::Stop))
        .start();
    handle.write(task(7));
    handle.idle().await.unwrap();
    let late = [handle.write(task(8)), handle.write(task(9).partition(1))];
    tokio::time::sleep(MINUTE).await;
    for late in &late {
        assert_eq!(handle.outcome(late), Outcome::Pending { attempts: 0 });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_real_time_several_threads_will_do() {
    let retry = Retry::in_place(1).backoff(exactly(Duration::from_millis(1), MINUTE));
    let outcome = TestSubscription::new(Json, fails)
        .retry(retry)
        .real_time()
        .run(task(7))
        .await;
    assert_eq!(outcome, Outcome::DeadLettered { attempts: 2 });
}

#[tokio::test]
#[should_panic(expected = "concurrency")]
async fn settings_that_no_subscription_takes_fail_the_test() {
    let _ = TestSubscription::new(Json, fails).concurrency(0).start();
}
