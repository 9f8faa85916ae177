//! Decaton's guarantee suite, re-created: the protocol of its `ProcessorTestSuite`, and every
//! scenario of its integration tests that has a counterpart here.
//!
//! The protocol (`suite.rs`): three brokers, eight partitions with three replicas, three members of
//! a group, 5,000 tasks of 100 keys (10,000 as in Decaton's own, with
//! `KEYLANE_DECATON_TASKS=10000`). When half are processed, all three members are replaced one
//! after the other, while the other half comes in. Then every offset of the topic, and of the retry
//! topic, has to be committed by the members that are left; every task was processed, the tasks of
//! a key began in order, and no two of them ran at once. Beyond Decaton's guarantees, no task
//! succeeds twice here, no record of a key starts twice unless it had to wait for a retry, and the
//! members' states follow each other as they may.
//!
//! | Decaton's scenario | here |
//! |---|---|
//! | 1 concurrency 16, random 0-10 ms | `sixteen_at_a_time_*` |
//! | 1 processors of partition and thread scope | no counterpart: a processor is one value, shared; what it holds has the scope it needs |
//! | 2 asynchronous completion on 16 threads | `completion_on_a_pool_of_threads`, `completion_by_spawned_tasks` |
//! | 2 the completion is fetched again later | no counterpart: an attempt ends when its future does, there is no completion to fetch |
//! | 3 concurrency 1, 100 pending: no duplicates | `one_at_a_time_with_a_hundred_pending` |
//! | 4 leaked completions and a time-out of 10 ms | `attempts_that_never_end_are_cut_off_and_repeated` |
//! | 5 cooperative-sticky | `sixteen_at_a_time_cooperative` (keylane's default), and beside it `_range` and `_consumer` |
//! | 6 virtual threads | no counterpart: attempts are tokio tasks; `sixteen_at_a_time_on_a_runtime_of_one_thread` is what can differ |
//! | 7 batching | no counterpart: there is no batch processor |
//! | 8 every task retried once, synchronous and asynchronous | `every_task_goes_through_the_retry_topic_once`, `..._by_spawned_tasks`, with the consumer protocol too |
//! | 8 retry out of the time-out's callback | `every_task_that_times_out_goes_through_the_retry_topic` |
//! | 8 slow consumption while retention runs (#101) | `retries_of_old_records_outlive_the_retention_of_the_retry_topic` |
//! | 8 migration of the retry format while running | no counterpart: retries are written in one format; reading Decaton's is in `formats_of_decaton_are_mixed` |
//! | 8 a deserializer that transforms the value | `a_decoder_that_transforms_the_value_sees_the_same_bytes_again` |
//! | 9 arbitrary key and value types, with retry | `keys_and_values_of_any_bytes_go_through_the_retry_topic_unchanged` |
//! | 10 migrations of the protocol | `formats_of_decaton_are_mixed` |
//! | 11 the rate limiter is switched while tasks flow | no counterpart: there is no rate limiter |
//! | 12 concurrency and pending limit are reloaded | settings hold for a subscription's life, so they change by a rolling restart: `settings_change_with_each_restart` |
//! | 13 per-key quota | no counterpart: there are no quotas |
//! | 14 state transitions | in every test here, by the protocol |
//! | 15 trace propagation through consumption and retry | keylane makes no spans; the headers that carry a trace: `the_headers_of_a_trace_go_through_the_retry_topic` |
//! | 16 the registry is empty after close | `a_closed_subscription_leaves_no_gauges_of_partitions` |
//! | 16 stuck partitions are detectable | `three_stuck_partitions_show_as_three_paused_ones` |
//! | 16 counters of processed and failed tasks | `successes_and_failures_are_counted_apart` |
//! | 16 a leak shows in committed and consumed offsets | `a_stuck_record_shows_between_the_watermark_and_what_was_delivered` |

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests stop the test as the tests do"
)]

mod metrics;
mod retry;
mod suite;

use std::{
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use bytes::Bytes;
use keylane::config::{Backoff, Limits};
use keylane::{Retry, Task};
use keylane_integration_tests::{
    kafka::{Extras, Nodes},
    kafka_or_skip,
    member::spread,
    protocol::Protocol,
};
use tokio::sync::oneshot;

use suite::{Order, Start, Suite, run};

/// Random in Decaton; here by chance too, and the same for a task each time.
fn some_work(task: &Task<Bytes>) -> Duration {
    spread(task, Duration::from_millis(10))
}

async fn sleeping(start: Start) -> keylane::Subscription {
    start
        .raw(|task| async move {
            tokio::time::sleep(some_work(&task)).await;
            Ok(())
        })
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_at_a_time_cooperative() {
    let kafka = kafka_or_skip!(Nodes::Three, Extras::patient());
    run(kafka, Suite::default(), sleeping).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_at_a_time_range() {
    let kafka = kafka_or_skip!(Nodes::Three, Extras::patient());
    run(
        kafka,
        Suite {
            protocol: Protocol::Range,
            ..Suite::default()
        },
        sleeping,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_at_a_time_consumer() {
    let kafka = kafka_or_skip!(Nodes::Three, Extras::patient());
    run(
        kafka,
        Suite {
            protocol: Protocol::Consumer,
            ..Suite::default()
        },
        sleeping,
    )
    .await;
}

#[tokio::test(flavor = "current_thread")]
async fn sixteen_at_a_time_on_a_runtime_of_one_thread() {
    let kafka = kafka_or_skip!(Nodes::Three, Extras::patient());
    run(kafka, Suite::default(), sleeping).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn completion_by_spawned_tasks() {
    let kafka = kafka_or_skip!(Nodes::Three, Extras::patient());
    run(kafka, Suite::default(), async |start: Start| {
        start
            .raw(|task| async move {
                tokio::spawn(async move { tokio::time::sleep(some_work(&task)).await })
                    .await
                    .unwrap();
                Ok(())
            })
            .await
    })
    .await;
}

/// Work for a thread of the pool, and where to report its end.
type Job = (Duration, oneshot::Sender<()>);

/// Sixteen threads that are nothing to do with tokio. They end with the last sender.
fn pool() -> mpsc::Sender<Job> {
    let (jobs, todo) = mpsc::channel::<Job>();
    let todo = Arc::new(Mutex::new(todo));
    for _ in 0..16 {
        let todo = todo.clone();
        std::thread::spawn(move || {
            loop {
                let Ok((work, done)) = todo.lock().unwrap().recv() else {
                    return;
                };
                std::thread::sleep(work);
                let _ = done.send(());
            }
        });
    }
    jobs
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn completion_on_a_pool_of_threads() {
    let kafka = kafka_or_skip!(Nodes::Three, Extras::patient());
    let pool = pool();
    run(kafka, Suite::default(), async |start: Start| {
        let pool = pool.clone();
        start
            .raw(move |task| {
                let (done, end) = oneshot::channel();
                pool.send((some_work(&task), done)).unwrap();
                async move {
                    end.await.unwrap();
                    Ok(())
                }
            })
            .await
    })
    .await;
}

fn few_pending(pause_at_records: usize) -> Limits {
    Limits::default()
        .pause_at_records(pause_at_records)
        .resume_at_records(pause_at_records * 7 / 10)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_at_a_time_with_a_hundred_pending() {
    let kafka = kafka_or_skip!(Nodes::Three, Extras::patient());
    let settings = |builder: keylane::subscription::SubscriptionBuilder| {
        builder.concurrency(1).limits(few_pending(100))
    };
    run(
        kafka,
        Suite {
            settings,
            ..Suite::default()
        },
        sleeping,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_that_never_end_are_cut_off_and_repeated() {
    let kafka = kafka_or_skip!(Nodes::Three, Extras::patient());
    let settings = |builder: keylane::subscription::SubscriptionBuilder| {
        let retry = Retry::in_place(1_000).backoff(Backoff::fixed(Duration::from_millis(5)));
        builder
            .concurrency(16)
            .attempt_timeout(Duration::from_millis(10))
            .retry(retry)
    };
    // A record that waits for its retry is handed over, and begins again.
    let suite = Suite {
        tasks: 1_000,
        settings,
        order: Order::WithReplays,
        ..Suite::default()
    };
    run(kafka, suite, async |start: Start| {
        start
            .raw(|task| async move {
                if task.attempt() == 1 && task.offset() % 4 == 0 {
                    std::future::pending::<()>().await;
                }
                Ok(())
            })
            .await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_change_with_each_restart() {
    let kafka = kafka_or_skip!(Nodes::Three, Extras::patient());
    let suite = Suite {
        settings: |builder| builder.concurrency(1).limits(few_pending(10)),
        restarted: |builder, place| {
            let (concurrency, pending) = [(3, 20), (1, 5), (5, 15)][place];
            builder
                .concurrency(concurrency)
                .limits(few_pending(pending))
        },
        ..Suite::default()
    };
    run(kafka, suite, async |start: Start| {
        start
            .raw(|task| async move {
                tokio::time::sleep(spread(&task, Duration::from_millis(2))).await;
                Ok(())
            })
            .await
    })
    .await;
}
