//! What `keylane dlq stats` costs beside a bare consumer loop over the same topic: time, CPU and
//! memory.
//!
//! `report_dead_letter_stats [--letters 1000000] [--partitions 8] [--rounds 3] [--by fingerprint]`
//!
//! Prints a table on the error output and one line of JSON. Each arm is a process of its own, and
//! the arms take turns. `bare` polls rdkafka's `BaseConsumer` and looks at no record; `headers` reads
//! the headers of each record besides; `stats` is the command.

use std::{
    collections::BTreeMap,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use keylane_cli::{Progress, Surroundings};
use keylane_integration_tests::{
    kafka::{Found, Kafka, Nodes},
    report::{Arguments, cpu_seconds, letters, peak_rss_mib},
};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::Headers,
};
use serde_json::{Value, json};

const KNOWN: &[&str] = &[
    "letters",
    "partitions",
    "rounds",
    "by",
    // Of a child process.
    "arm",
    "servers",
    "topic",
];
const ARMS: [&str; 3] = ["bare", "headers", "stats"];
const DEADLINE: Duration = Duration::from_secs(300);

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::of_this_process(KNOWN);
    let arm = arguments.value("arm", String::new());
    let done = match arm.is_empty() {
        true => report(&arguments).await,
        false => tokio::task::block_in_place(|| measure(&arm, &arguments)),
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
    let rounds: u64 = arguments.value("rounds", 3);
    let by = arguments.value("by", "fingerprint".to_owned());
    let kafka = match tokio::task::spawn_blocking(|| Kafka::find(Nodes::One)).await? {
        Found::Running(kafka) => kafka,
        Found::Unavailable(reason) => return Err(reason.into()),
    };
    let topic = kafka.unique("dead-letters");
    kafka.create_topic(&topic, partitions, 1, &[]).await?;
    let servers = kafka.bootstrap_servers().to_owned();
    tokio::task::block_in_place(|| {
        letters::write(&servers, &topic, partitions, count, "parking-events-retry")
    })?;
    eprintln!("round | arm     | seconds | CPU seconds | peak RSS MiB");
    let mut measured: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for round in 0..rounds {
        for arm in ARMS {
            let child = Command::new(std::env::current_exe()?)
                .args(["--arm", arm, "--servers", &servers, "--topic", &topic])
                .args(["--by", &by, "--letters", &count.to_string()])
                .output()?;
            if !child.status.success() {
                return Err(String::from_utf8_lossy(&child.stderr).into());
            }
            let figures: Value = serde_json::from_slice(&child.stdout)?;
            eprintln!(
                "{round:5} | {arm:7} | {:7.2} | {:11.2} | {:12.1}",
                figures["seconds"].as_f64().unwrap_or(0.0),
                figures["cpu_seconds"].as_f64().unwrap_or(0.0),
                figures["peak_rss_mib"].as_f64().unwrap_or(0.0),
            );
            measured.entry(arm).or_default().push(figures);
        }
    }
    let best = |arm: &str| {
        let seconds = measured[arm].iter().filter_map(|it| it["seconds"].as_f64());
        seconds.fold(f64::INFINITY, f64::min)
    };
    Ok(json!({
        "report": "dead_letter_stats",
        "optimised": !cfg!(debug_assertions),
        "cores": std::thread::available_parallelism()?.get(),
        "letters": count,
        "partitions": partitions,
        "by": by,
        "rounds": measured,
        "best_stats_by_best_bare": best("stats") / best("bare"),
    }))
}

/// One arm, in this process.
fn measure(arm: &str, arguments: &Arguments) -> Result<Value> {
    let (servers, topic) = (
        arguments.value("servers", String::new()),
        arguments.value("topic", String::new()),
    );
    let by = arguments.value("by", "fingerprint".to_owned());
    let letters: u64 = arguments.value("letters", 0);
    let began = Instant::now();
    let read = match arm {
        "stats" => stats(&servers, &topic, &by)?,
        arm => bare(&servers, &topic, arm == "headers")?,
    };
    let seconds = began.elapsed().as_secs_f64();
    if read != letters {
        return Err(format!("{arm} has read {read} of {letters} letters").into());
    }
    Ok(json!({
        "seconds": seconds,
        "cpu_seconds": cpu_seconds()?,
        "peak_rss_mib": peak_rss_mib()?,
    }))
}

fn stats(servers: &str, topic: &str, by: &str) -> Result<u64> {
    let (mut output, mut messages) = (Vec::new(), Vec::new());
    let surroundings = Surroundings {
        environment: BTreeMap::new(),
        output: &mut output,
        messages: &mut messages,
        ask: None,
        progress: Progress::Hidden,
    };
    let arguments = [
        "keylane",
        "--bootstrap",
        servers,
        "dlq",
        "stats",
        topic,
        "--by",
        by,
        "-o",
        "json",
    ];
    let code = keylane_cli::run(arguments.map(Into::into), surroundings);
    if code != 0 {
        return Err(String::from_utf8_lossy(&messages).into());
    }
    let rows: Vec<Value> = serde_json::from_slice(&output)?;
    Ok(rows.iter().filter_map(|row| row["count"].as_u64()).sum())
}

fn bare(servers: &str, topic: &str, with_headers: bool) -> Result<u64> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("group.id", "bare")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(topic), DEADLINE)?;
    let mut list = TopicPartitionList::new();
    let mut left = 0;
    for partition in metadata.topics().iter().flat_map(|it| it.partitions()) {
        list.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
        left += 1;
    }
    consumer.assign(&list)?;
    let (mut read, deadline) = (0, Instant::now() + DEADLINE);
    let mut header_bytes = 0;
    while left > 0 {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                read += 1;
                if with_headers {
                    let all = message.headers().into_iter().flat_map(|it| it.iter());
                    header_bytes += all.map(|it| it.value.map_or(0, <[u8]>::len)).sum::<usize>();
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) => left -= 1,
            Some(Err(error)) => return Err(error.into()),
            None if Instant::now() > deadline => return Err("nothing arrives".into()),
            None => {}
        }
    }
    std::hint::black_box(header_bytes);
    Ok(read)
}
