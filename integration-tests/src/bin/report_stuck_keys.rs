//! What stuck keys cost the others: the latency of every other key, from the moment at which its
//! record was to be sent, in windows with and without stuck keys by turns.
//!
//! `report_stuck_keys [--seconds 75] [--windows 4] [--rate 2000] [--keys 1000] [--stuck-percent 1]
//! [--partitions 8] [--concurrency 16] [--work-ms 4] [--warm-up 5] [--protocol
//! cooperative|consumer]`
//!
//! Prints a table on the error output and one line of JSON. Every window has a topic and a group of
//! its own; the odd ones are without stuck keys. A stuck key's attempt ends with its window; then
//! everything has to be processed. Both kinds of window count the same keys: those that are never
//! stuck.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use keylane::{Raw, Subscription, Task, TaskError};
use keylane_integration_tests::{
    gate::Gate,
    kafka::{Found, Kafka, Nodes},
    member::spread,
    protocol::Protocol,
    report::{Arguments, OpenLoop, Percentiles, Sent},
    wait::{wait_for, wait_until},
};
use serde_json::{Value, json};

const KNOWN: &[&str] = &[
    "seconds",
    "windows",
    "rate",
    "keys",
    "stuck-percent",
    "partitions",
    "concurrency",
    "work-ms",
    "warm-up",
    "protocol",
];
const DEADLINE: Duration = Duration::from_secs(120);
/// Members stay; only a machine that stands still would lose one.
const SESSION_MS: u32 = 45_000;

#[derive(Clone, Copy)]
struct Plan {
    seconds: u64,
    windows: u64,
    rate: u64,
    keys: u64,
    stuck_percent: u64,
    partitions: i32,
    concurrency: usize,
    work: Duration,
    warm_up: u64,
    protocol: Protocol,
}

/// A record that was processed.
struct Done {
    number: u64,
    key: u64,
    due_micros: u64,
    latency_micros: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::of_this_process(KNOWN);
    let plan = Plan {
        seconds: arguments.value("seconds", 75),
        windows: arguments.value("windows", 4),
        rate: arguments.value("rate", 2_000),
        keys: arguments.value("keys", 1_000),
        stuck_percent: arguments.value("stuck-percent", 1),
        partitions: arguments.value("partitions", 8),
        concurrency: arguments.value("concurrency", 16),
        work: Duration::from_millis(arguments.value("work-ms", 4)),
        warm_up: arguments.value("warm-up", 5),
        protocol: match arguments
            .value("protocol", "cooperative".to_owned())
            .as_str()
        {
            "consumer" => Protocol::Consumer,
            _ => Protocol::Cooperative,
        },
    };
    match report(plan).await {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn report(plan: Plan) -> Result<Value, Box<dyn std::error::Error>> {
    let kafka = match tokio::task::spawn_blocking(|| Kafka::find(Nodes::One)).await? {
        Found::Running(kafka) => kafka,
        Found::Unavailable(reason) => return Err(reason.into()),
    };
    let mut windows = Vec::new();
    let mut lost = 0;
    let mut without = Vec::new();
    let mut with = Vec::new();
    eprintln!("window | stuck keys | records | p50 ms | p99 ms | p99.9 ms | max ms");
    for window in 0..plan.windows {
        let stuck = window % 2 == 1;
        let (written, done) = one_window(&kafka, plan, stuck).await?;
        let numbers: BTreeSet<u64> = done.iter().map(|done| done.number).collect();
        lost += written - numbers.len() as u64;
        let counted: Vec<Done> = done.into_iter().filter(|done| counts(plan, done)).collect();
        let found = Percentiles::of(counted.iter().map(|done| done.latency_micros))
            .ok_or("nothing was processed")?;
        let Percentiles {
            count,
            p50_ms,
            p99_ms,
            p999_ms,
            max_ms,
        } = found;
        eprintln!(
            "{window:6} | {stuck:10} | {count:7} | {p50_ms:6.2} | {p99_ms:6.2} | {p999_ms:8.2} | {max_ms:6.2}"
        );
        windows.push(json!({ "stuck_keys": stuck, "others": found }));
        if stuck {
            with.push(counted)
        } else {
            without.push(counted)
        }
    }
    let ratio_of_keys = ratios(&without, &with);
    let noise_of_keys = match &without[..] {
        [first, second, ..] => ratios(std::slice::from_ref(first), std::slice::from_ref(second)),
        _ => Vec::new(),
    };
    let pooled = |windows: &[Vec<Done>]| {
        Percentiles::of(windows.iter().flatten().map(|done| done.latency_micros))
    };
    let (without, with) = (pooled(&without), pooled(&with));
    let ratio = with
        .zip(without)
        .map(|(with, without)| with.p99_ms / without.p99_ms);
    Ok(json!({
        "report": "stuck_keys",
        "optimised": !cfg!(debug_assertions),
        "cores": std::thread::available_parallelism()?.get(),
        "protocol": format!("{:?}", plan.protocol),
        "seconds_per_window": plan.seconds,
        "records_per_second": plan.rate,
        "keys": plan.keys,
        "stuck_percent": plan.stuck_percent,
        "partitions": plan.partitions,
        "concurrency": plan.concurrency,
        "work_ms_at_most": plan.work.as_millis() as u64,
        "windows": windows,
        "without": without,
        "with": with,
        "p99_ratio": ratio,
        "within_5_percent": ratio.map(|ratio| ratio <= 1.05),
        "p99_ratio_by_key": spread_of(ratio_of_keys),
        "p99_ratio_by_key_of_two_windows_without": spread_of(noise_of_keys),
        "lost": lost,
    }))
}

/// Whether a record is one of those that are compared.
fn counts(plan: Plan, done: &Done) -> bool {
    !is_stuck(plan, done.key) && done.due_micros >= plan.warm_up * 1_000_000
}

fn is_stuck(plan: Plan, key: u64) -> bool {
    key % 100 < plan.stuck_percent
}

/// The keys are random, and the same in each window.
fn key_of(number: u64, keys: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) % keys
}

/// Runs a window; returns how many records were written, and those that were processed.
async fn one_window(
    kafka: &Kafka,
    plan: Plan,
    stuck: bool,
) -> Result<(u64, Vec<Done>), Box<dyn std::error::Error>> {
    let (topic, group) = (kafka.unique("stuck-keys"), kafka.unique("group"));
    kafka.create_topic(&topic, plan.partitions, 1, &[]).await?;
    let done: Arc<Mutex<Vec<Done>>> = Arc::default();
    let gate = Gate::closed();
    let beginning = Instant::now();
    let member = {
        let (done, gate) = (done.clone(), gate.clone());
        let processor = move |task: Task<Bytes>| {
            let (done, gate) = (done.clone(), gate.clone());
            async move {
                let sent = Sent::parse(task.payload())
                    .ok_or_else(|| TaskError::fatal("not a record of the load"))?;
                let key = key_of(sent.number, plan.keys);
                if stuck && is_stuck(plan, key) {
                    gate.passed().await;
                } else {
                    tokio::time::sleep(spread(&task, plan.work)).await;
                }
                let now = u64::try_from(beginning.elapsed().as_micros()).unwrap_or(u64::MAX);
                let latency_micros = now.saturating_sub(sent.due_micros);
                let entry = Done {
                    number: sent.number,
                    key,
                    due_micros: sent.due_micros,
                    latency_micros,
                };
                done.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(entry);
                Ok::<(), TaskError>(())
            }
        };
        let builder = plan.protocol.subscribe(kafka, &group, &topic, SESSION_MS);
        // Stuck is stuck: no time-out comes to help.
        let builder = builder
            .concurrency(plan.concurrency)
            .attempt_timeout(Duration::from_secs(86_400));
        builder.start(Raw, processor).await?
    };
    has_all(&member, plan.partitions).await;
    let began = u64::try_from(beginning.elapsed().as_micros())?;
    let load = OpenLoop::start(
        kafka.bootstrap_servers(),
        &topic,
        plan.rate,
        beginning,
        move |number| format!("key-{}", key_of(number, plan.keys)),
    )?;
    tokio::time::sleep(Duration::from_secs(plan.seconds)).await;
    let written = tokio::task::spawn_blocking(|| load.stop()).await??;
    gate.open();
    let count = || done.lock().unwrap_or_else(PoisonError::into_inner).len() as u64;
    wait_until("everything is processed", DEADLINE, || count() >= written).await;
    let ends = kafka.end_offsets(&topic).await?;
    wait_for("everything is committed", DEADLINE, async || {
        let committed = kafka.committed(&group, &topic).await.ok()?;
        committed
            .iter()
            .zip(&ends)
            .all(|(committed, end)| committed.offset.unwrap_or(0) == *end)
            .then_some(())
    })
    .await;
    member.shutdown().await?;
    let mut done = std::mem::take(&mut *done.lock().unwrap_or_else(PoisonError::into_inner));
    for record in &mut done {
        record.due_micros = record.due_micros.saturating_sub(began);
    }
    Ok((written, done))
}

async fn has_all(member: &Subscription, partitions: i32) {
    let all = || i32::try_from(member.status().partitions.len()) == Ok(partitions);
    wait_until("the partitions are assigned", DEADLINE, all).await;
}

/// For each key, the p99 of the second windows by that of the first.
fn ratios(first: &[Vec<Done>], second: &[Vec<Done>]) -> Vec<f64> {
    let by_key = |windows: &[Vec<Done>]| {
        let mut keys: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for done in windows.iter().flatten() {
            keys.entry(done.key).or_default().push(done.latency_micros);
        }
        keys
    };
    let (first, mut second) = (by_key(first), by_key(second));
    let ratio = |(key, latencies): (u64, Vec<u64>)| {
        let (first, second) = (
            Percentiles::of(latencies)?,
            Percentiles::of(second.remove(&key)?)?,
        );
        Some(second.p99_ms / first.p99_ms)
    };
    first.into_iter().filter_map(ratio).collect()
}

/// The spread of ratios. A key has few records in a window, so single ones are weak evidence.
fn spread_of(mut ratios: Vec<f64>) -> Value {
    ratios.sort_unstable_by(f64::total_cmp);
    let at = |fraction: f64| ratios.get(((ratios.len() as f64 - 1.0) * fraction).round() as usize);
    json!({ "keys": ratios.len(), "p05": at(0.05), "median": at(0.5), "p95": at(0.95), "max": ratios.last() })
}
