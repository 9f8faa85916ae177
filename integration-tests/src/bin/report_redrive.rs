//! What a redrive of a large dead-letter topic costs: time, CPU, memory and copies a second.
//!
//! `report_redrive [--letters 1000000] [--partitions 8] [--rounds 1] [--window 500]`
//!
//! Prints a table on the error output and one line of JSON. Each arm is a process of its own:
//! `filtered` copies the letters of one reason, 1 % of all; `whole` copies all of them.

use std::{
    process::{Command, ExitCode},
    sync::Arc,
    sync::OnceLock,
    time::Instant,
};

use keylane::dead_letter::Filter;
use keylane::redrive::RedriveTask;
use keylane_integration_tests::{
    kafka::{Found, Kafka, Nodes},
    report::{Arguments, cpu_seconds, letters, peak_rss_mib},
};
use serde_json::{Value, json};

const KNOWN: &[&str] = &[
    "letters",
    "partitions",
    "rounds",
    "window",
    // Of a child process.
    "arm",
    "servers",
    "topic",
];
const ARMS: [&str; 2] = ["filtered", "whole"];

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::of_this_process(KNOWN);
    let arm = arguments.value("arm", String::new());
    let done = match arm.is_empty() {
        true => report(&arguments).await,
        false => measure(&arm, &arguments).await,
    };
    match done {
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

async fn report(arguments: &Arguments) -> Result<Value> {
    let count: u64 = arguments.value("letters", 1_000_000);
    let partitions: i32 = arguments.value("partitions", 8);
    let rounds: u64 = arguments.value("rounds", 1);
    let window: u32 = arguments.value("window", 500);
    let kafka = match tokio::task::spawn_blocking(|| Kafka::find(Nodes::One)).await? {
        Found::Running(kafka) => kafka,
        Found::Unavailable(reason) => return Err(reason.into()),
    };
    let [topic, retry] = ["dead-letters", "retry"].map(|it| kafka.unique(it));
    for topic in [&topic, &retry] {
        kafka.create_topic(topic, partitions, 1, &[]).await?;
    }
    let servers = kafka.bootstrap_servers().to_owned();
    tokio::task::block_in_place(|| letters::write(&servers, &topic, partitions, count, &retry))?;
    eprintln!(
        "round | arm      | copies  | seconds | to the first copy | copies/s | CPU seconds | peak RSS MiB"
    );
    let mut measured = Vec::new();
    for round in 0..rounds {
        for arm in ARMS {
            let child = Command::new(std::env::current_exe()?)
                .args(["--arm", arm, "--servers", &servers, "--topic", &topic])
                .args(["--window", &window.to_string()])
                .output()?;
            if !child.status.success() {
                return Err(String::from_utf8_lossy(&child.stderr).into());
            }
            let figures: Value = serde_json::from_slice(&child.stdout)?;
            let figure = |name: &str| figures[name].as_f64().unwrap_or(0.0);
            eprintln!(
                "{round:5} | {arm:8} | {:7} | {:7.2} | {:17.2} | {:8.0} | {:11.2} | {:12.1}",
                figures["copies"],
                figure("seconds"),
                figure("seconds_to_first_copy"),
                figure("copies_per_second"),
                figure("cpu_seconds"),
                figure("peak_rss_mib"),
            );
            measured.push(figures);
        }
    }
    Ok(json!({
        "report": "redrive",
        "optimised": !cfg!(debug_assertions),
        "cores": std::thread::available_parallelism()?.get(),
        "letters": count,
        "partitions": partitions,
        "window": window,
        "measured": measured,
    }))
}

/// One arm, in this process. What an arm before it has copied is copied again.
async fn measure(arm: &str, arguments: &Arguments) -> Result<Value> {
    let topic = arguments.value("topic", String::new());
    let filter: &[&str] = match arm {
        "filtered" => &["reason=fatal"],
        _ => &[],
    };
    let began = Instant::now();
    let first = Arc::<OnceLock<Instant>>::default();
    let of_progress = first.clone();
    let ended = RedriveTask::of(topic)
        .bootstrap_servers(arguments.value("servers", String::new()))
        .group(letters::GROUP)
        .filter(Filter::parse(filter.iter().copied())?)
        .window(arguments.value("window", 500))
        .again()
        .by("the report")
        .on_progress(move |_| {
            of_progress.get_or_init(Instant::now);
        })
        .run()
        .await?;
    let ended_at = Instant::now();
    let first = first.get().copied().unwrap_or(ended_at);
    let copying = (ended_at - first).as_secs_f64();
    let copies = ended.progress.copied();
    Ok(json!({
        "arm": arm,
        "copies": copies,
        "state": ended.state,
        "seconds": (ended_at - began).as_secs_f64(),
        "seconds_to_first_copy": (first - began).as_secs_f64(),
        "copies_per_second": copies as f64 / copying,
        "cpu_seconds": cpu_seconds()?,
        "peak_rss_mib": peak_rss_mib()?,
    }))
}
