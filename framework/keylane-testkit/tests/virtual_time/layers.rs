//! Layers around the processor, by the public interface alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keylane::config::{Backoff, Exhausted, FailureReason};
use keylane::layers::{Failover, Layer, Next, Timeout, Validate};
use keylane::{Json, NewTask, Processor, Retry, Success, Task, TaskError};
use keylane_testkit::{AttemptResult, Outcome, TestSubscription};

use super::{MINUTE, exactly, results, task};

const SECOND: Duration = Duration::from_secs(1);

type Log = Arc<Mutex<Vec<String>>>;

/// Notes when it is entered and left.
struct Noted(&'static str, Log);

impl Noted {
    fn note(&self, what: &str) {
        self.1.lock().unwrap().push(format!("{what} {}", self.0));
    }
}

impl<T: Send + 'static> Layer<T> for Noted {
    async fn around(&self, task: Task<T>, next: impl Next<T>) -> Result<Success, TaskError> {
        self.note("into");
        let answer = next.run(task).await;
        self.note("out of");
        answer
    }
}

/// What a layer can do wrong.
#[derive(Clone, Copy, PartialEq)]
enum Does {
    Panic,
    PanicAfterwards,
    Fail,
    Hang,
}

/// Does it with the odd numbers, once.
struct Misbehaves(Does);

impl Layer<u64> for Misbehaves {
    async fn around(&self, task: Task<u64>, next: impl Next<u64>) -> Result<Success, TaskError> {
        let is_meant = task.payload() % 2 == 1 && task.attempt() == 1;
        match self.0 {
            Does::Panic if is_meant => panic!("the layer's"),
            Does::Fail if is_meant => Err(TaskError::retryable("the layer's")),
            Does::Hang if is_meant => std::future::pending().await,
            _ => {
                let answer = next.run(task).await;
                assert!(
                    !(self.0 == Does::PanicAfterwards && is_meant),
                    "the layer's"
                );
                answer
            }
        }
    }
}

async fn done(_: Task<u64>) -> Result<(), TaskError> {
    Ok(())
}

fn hangs(_: Task<u64>) -> std::future::Pending<Result<(), TaskError>> {
    std::future::pending()
}

#[tokio::test]
async fn the_first_layer_is_the_outermost_and_the_last_one_put_around_by_hand() {
    let expected = [
        "into a", "into b", "into c", "work", "out of c", "out of b", "out of a",
    ];
    for by_hand in [false, true] {
        let log = Log::default();
        let noted = |name| Noted(name, log.clone());
        let work = {
            let log = log.clone();
            move |_: Task<u64>| {
                log.lock().unwrap().push("work".to_owned());
                async { Ok::<(), TaskError>(()) }
            }
        };
        let outcome = if by_hand {
            let work = work.layered(noted("c")).layered(noted("b"));
            let work = work.layered(noted("a"));
            TestSubscription::new(Json, work).run(task(7)).await
        } else {
            TestSubscription::new(Json, work)
                .layer(noted("a"))
                .layer(noted("b"))
                .layer(noted("c"))
                .run(task(7))
                .await
        };
        assert_eq!(outcome, Outcome::Done { attempts: 1 });
        assert_eq!(*log.lock().unwrap(), expected);
    }
}

#[tokio::test]
async fn what_a_layer_does_wrong_is_a_failure_of_its_record_alone_and_counts_as_the_processors() {
    let cases = [
        (Does::Panic, AttemptResult::Panic, "the layer's"),
        (Does::PanicAfterwards, AttemptResult::Panic, "the layer's"),
        (Does::Fail, AttemptResult::Error, "the layer's"),
        (
            Does::Hang,
            AttemptResult::Timeout,
            "the attempt took longer than 5s",
        ),
    ];
    for (does, result, text) in cases {
        let handle = TestSubscription::new(Json, done)
            .layer(Misbehaves(does))
            .attempt_timeout(5 * SECOND)
            .start();
        let (odd, even) = (handle.write(task(7)), handle.write(task(8)));
        handle.idle().await.unwrap();
        assert_eq!(handle.outcome(&odd), Outcome::Done { attempts: 2 });
        assert_eq!(handle.outcome(&even), Outcome::Done { attempts: 1 });
        let attempts = handle.attempts(&odd);
        assert_eq!(results(&attempts), [result, AttemptResult::Ok]);
        let said = attempts[0].text.as_deref().unwrap();
        assert!(said.contains(text), "{said}");
    }
}

#[tokio::test]
async fn the_time_out_of_a_layer_has_the_reason_and_the_policy_of_a_time_out() {
    let retry = Retry::in_place(1).on(FailureReason::Timeout, Exhausted::DeadLetter);
    let handle = TestSubscription::new(Json, hangs)
        .layer(Timeout::of(2 * SECOND))
        .retry(retry)
        .start();
    let written = handle.write(task(7));
    handle.idle().await.unwrap();
    let attempts = handle.attempts(&written);
    assert_eq!(results(&attempts), [AttemptResult::Timeout; 2]);
    assert_eq!(attempts[0].text.as_deref(), Some("no answer within 2s"));
    let letter = &handle.dead_letters()[0].headers;
    assert_eq!(letter.last_str("keylane-reason"), Some("timeout"));
    assert_eq!(letter.last_str("keylane-error-class"), Some("timeout"));
}

#[tokio::test]
async fn a_time_out_inside_of_a_fail_over_leaves_it_the_rest_of_the_attempt() {
    let outcome = TestSubscription::new(Json, hangs)
        .layer(Failover::to(done))
        .layer(Timeout::of(2 * SECOND))
        .attempt_timeout(5 * SECOND)
        .retry(Retry::in_place(1))
        .run(task(7))
        .await;
    assert_eq!(outcome, Outcome::Done { attempts: 1 });

    // Without it the attempt's own time-out ends both.
    let outcome = TestSubscription::new(Json, hangs)
        .layer(Failover::to(done))
        .attempt_timeout(5 * SECOND)
        .retry(Retry::in_place(1))
        .run(task(7))
        .await;
    assert_eq!(outcome, Outcome::DeadLettered { attempts: 2 });
}

async fn away(_: Task<u64>) -> Result<(), TaskError> {
    Err(TaskError::unavailable("connection refused").at("push gateway"))
}

/// What is unavailable burns no attempt of the policy, and counts as one here.
#[tokio::test]
async fn a_fail_over_waits_for_as_many_attempts_or_as_long_as_it_is_told() {
    let run = |failover: Failover<u64, _>| {
        let handle = TestSubscription::new(Json, away)
            .layer(failover)
            .retry(Retry::in_place(1).backoff(exactly(MINUTE, MINUTE)))
            .start();
        let written = handle.write(task(7));
        async move {
            handle.idle().await.unwrap();
            results(&handle.attempts(&written))
        }
    };
    let (error, ok) = (AttemptResult::Error, AttemptResult::Ok);
    assert_eq!(run(Failover::to(done)).await, [ok]);
    assert_eq!(run(Failover::to(done).after(3)).await, [error, error, ok]);
    // Attempts are at 0, 1, 2, … minutes.
    let long = Failover::to(done).after_failing_for(2 * MINUTE);
    assert_eq!(run(long).await, [error, error, ok]);
    let longer = Failover::to(done).after_failing_for(4 * MINUTE).after(2);
    assert_eq!(run(longer).await, [error, error, error, error, ok]);
}

#[tokio::test]
async fn how_long_a_record_fails_is_known_after_the_retry_topic_too() {
    let seen = Arc::<Mutex<Vec<Option<Duration>>>>::default();
    let work = {
        let seen = seen.clone();
        move |task: Task<u64>| {
            seen.lock().unwrap().push(task.failing_for());
            async { Err::<(), _>(TaskError::retryable("not yet")) }
        }
    };
    let retry = Retry::in_place(1)
        .backoff(exactly(MINUTE, MINUTE))
        .then_topic()
        .topic_rounds(1)
        .topic_backoff(Backoff::fixed(10 * MINUTE));
    let outcome = TestSubscription::new(Json, work)
        .retry(retry)
        .run(task(7))
        .await;
    assert_eq!(outcome, Outcome::DeadLettered { attempts: 4 });
    let minutes: Vec<_> = (seen.lock().unwrap().iter())
        .map(|since| since.map(|since| since.as_secs_f64() / 60.0))
        .map(|minutes| minutes.map(f64::round))
        .collect();
    assert_eq!(minutes, [None, Some(1.0), Some(11.0), Some(12.0)]);
}

/// The fail-over takes its time, and the key waits for it.
#[tokio::test]
async fn records_of_a_key_stay_in_order_through_layers_and_their_fail_overs() {
    let log = Arc::<Mutex<HashMap<String, Vec<(u64, &'static str)>>>>::default();
    let note = |what: &'static str| {
        let log = log.clone();
        move |task: &Task<u64>| {
            let key = task.key_str().unwrap().to_owned();
            let mut log = log.lock().unwrap();
            log.entry(key).or_default().push((*task.payload(), what));
        }
    };
    let push = {
        let note = note("push");
        move |task: Task<u64>| {
            note(&task);
            async move {
                tokio::time::sleep(Duration::from_millis(task.payload() % 7)).await;
                match task.payload() % 3 {
                    0 => Err(TaskError::retryable("refused")),
                    _ => Ok(()),
                }
            }
        }
    };
    let sms = {
        let (begun, ended) = (note("sms"), note("sent"));
        move |task: Task<u64>| {
            begun(&task);
            let ended = ended.clone();
            async move {
                tokio::time::sleep(SECOND).await;
                ended(&task);
                Ok::<(), TaskError>(())
            }
        }
    };
    let handle = TestSubscription::new(Json, push)
        .layer(Failover::to(sms))
        .layer(Timeout::of(MINUTE))
        .start();
    for number in 0..200 {
        handle.write(task(number).key(format!("k{}", number % 8)).partition(0));
    }
    handle.idle().await.unwrap();
    for (key, seen) in log.lock().unwrap().iter() {
        let number: u64 = key[1..].parse().unwrap();
        let of_key = (0..200).filter(|it| it % 8 == number);
        let expected: Vec<_> = of_key
            .flat_map(|it| match it % 3 {
                0 => vec![(it, "push"), (it, "sms"), (it, "sent")],
                _ => vec![(it, "push")],
            })
            .collect();
        assert_eq!(*seen, expected, "{key}");
    }
    assert_eq!(log.lock().unwrap().len(), 8);
}

#[tokio::test]
async fn a_refused_payload_is_a_dead_letter_at_once_or_is_skipped() {
    let odd = |number: &u64| match number % 2 {
        0 => Ok(()),
        _ => Err(format!("{number} is odd")),
    };
    let outcome = TestSubscription::new(Json, done).layer(Validate::with(odd));
    assert_eq!(
        outcome.run(task(7)).await,
        Outcome::DeadLettered { attempts: 1 }
    );
    let outcome = TestSubscription::new(Json, done).layer(Validate::with(odd).or_skip());
    assert_eq!(outcome.run(task(7)).await, Outcome::Skipped { attempts: 1 });
    let outcome = TestSubscription::new(Json, done).layer(Validate::with(odd));
    assert_eq!(outcome.run(task(8)).await, Outcome::Done { attempts: 1 });
}

/// A layer with what it knows about tasks that were done, as one with a table would be.
struct Dedup(Mutex<Vec<String>>);

impl<T: Send + 'static> Layer<T> for Dedup {
    async fn around(&self, task: Task<T>, next: impl Next<T>) -> Result<Success, TaskError> {
        let Some(id) = task.message_id().map(str::to_owned) else {
            return next.run(task).await;
        };
        if self.0.lock().unwrap().contains(&id) {
            return Ok(Success::skipped("it was done before"));
        }
        let answer = next.run(task).await?;
        self.0.lock().unwrap().push(id);
        Ok(answer)
    }
}

#[tokio::test]
async fn a_layer_answers_by_itself_for_a_task_that_was_enqueued_twice() {
    let fails_once = |task: Task<u64>| async move {
        match task.attempt() {
            1 => Err(TaskError::retryable("not yet")),
            _ => Ok(()),
        }
    };
    let handle = TestSubscription::new(Json, fails_once)
        .layer(Dedup(Mutex::default()))
        .start();
    let mut event = NewTask::json(&7).unwrap().key("k");
    event.ensure_message_id();
    let (first, again) = (handle.write(event.clone()), handle.write(event));
    let other = handle.write(task(7).key("k"));
    handle.idle().await.unwrap();
    assert_eq!(handle.outcome(&first), Outcome::Done { attempts: 2 });
    assert_eq!(handle.outcome(&again), Outcome::Skipped { attempts: 1 });
    assert_eq!(handle.outcome(&other), Outcome::Done { attempts: 2 });
}
