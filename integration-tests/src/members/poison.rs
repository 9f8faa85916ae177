//! The processes that are started, and killed by what they read.

#![allow(
    clippy::unwrap_used,
    reason = "a member that fails stops, and its test finds it dead"
)]

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use keylane::config::Backoff;
use keylane::{DeadLetter, Raw, Retry, Subscription, Task, TaskError};
use rustix::process::{Resource, Rlimit, Signal, getpid, kill_process, setrlimit};

/// What the variables of a member begin with.
pub const VARIABLE: &str = "KEYLANE_POISON_";

/// Runs until it is terminated, or killed by what it reads.
///
/// # Panics
/// When one of the variables is missing, or the subscription does not start or end well.
pub async fn run() {
    let variable = |name: &str| std::env::var(format!("{VARIABLE}{name}")).ok();
    let needed =
        |name: &str| variable(name).unwrap_or_else(|| panic!("{VARIABLE}{name} is not set"));
    let (servers, topic) = (needed("SERVERS"), needed("TOPIC"));
    let (group, notes) = (needed("GROUP"), needed("NOTES"));
    super::log_to_stderr();
    let mut subscription = Subscription::builder(&group, &topic)
        .bootstrap_servers(servers)
        .concurrency(8)
        .commit_interval(Duration::from_millis(200))
        .startup_timeout(Duration::from_secs(60))
        .shutdown_timeout(Duration::from_secs(if variable("PATIENT").is_some() {
            60
        } else {
            1
        }))
        .kafka("max.poll.interval.ms", "20000")
        .kafka("auto.offset.reset", "earliest");
    if variable("PROTOCOL").is_some() {
        subscription = subscription.kafka("group.protocol", "consumer");
    } else {
        subscription = subscription.kafka("heartbeat.interval.ms", "200");
        subscription = match variable("MEMBER") {
            // Its place is free at once when it starts again: no partition waits for the dead one's
            // session to end.
            Some(name) => subscription
                .instance_id(name)
                .kafka("session.timeout.ms", "20000"),
            None => subscription.kafka("session.timeout.ms", "5000"),
        };
    }
    let quick = Backoff::exponential(Duration::from_millis(20), Duration::from_millis(100));
    subscription = subscription.retry(match variable("RETRIES") {
        Some(_) => Retry::in_place(0).then_topic().backoff(quick),
        None => Retry::in_place(2).backoff(quick),
    });
    if let Some(topic) = variable("DEAD_LETTERS") {
        subscription = subscription.dead_letter(DeadLetter::topic(topic));
    }
    let notes = PathBuf::from(notes);
    note(&notes, "member started");
    let mut terminated =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
    let process = move |task: Task<Bytes>| {
        let notes = notes.clone();
        async move {
            let value =
                String::from_utf8_lossy(task.record().value().unwrap_or_default()).into_owned();
            note(&notes, &format!("start {value}"));
            // Work that waits, so that neighbours are in flight when the process dies.
            tokio::time::sleep(Duration::from_millis(5)).await;
            match value.split_once(':').map_or("", |(kind, _)| kind) {
                "abort" => std::process::abort(),
                "overflow" => drop(overflow(1)),
                "memory" => use_up_memory(),
                "killed" => kill_process(getpid(), Signal::KILL).unwrap(),
                "hang" => std::future::pending().await,
                "fail-then-abort" if task.attempt() > 1 => std::process::abort(),
                "fail-then-abort" => return Err(TaskError::retryable("first this")),
                _ => {}
            }
            note(&notes, &format!("done {value}"));
            Ok::<(), TaskError>(())
        }
    };
    let running = subscription.start(Raw, process).await.unwrap();
    running.run_until(terminated.recv()).await.unwrap();
}

/// Uses up the stack, whatever the optimiser does.
#[allow(unconditional_recursion, reason = "that is the point")]
fn overflow(depth: u64) -> u64 {
    let room = std::hint::black_box([depth; 512]);
    overflow(std::hint::black_box(depth + 1)) + room[(depth % 512) as usize]
}

/// Allocates more memory than it may have, so that the rest of the process fails to allocate too.
fn use_up_memory() {
    let limit = Rlimit {
        current: Some(1 << 20),
        maximum: None,
    };
    setrlimit(Resource::As, limit).unwrap();
    drop(std::hint::black_box(vec![1_u8; 1 << 30]));
}

/// One line, written at once: it holds even if the process ends right after it.
fn note(file: &Path, line: &str) {
    let mut file = File::options()
        .create(true)
        .append(true)
        .open(file)
        .unwrap();
    file.write_all(format!("{line}\n").as_bytes()).unwrap();
}
