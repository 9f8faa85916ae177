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
    fs, io,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use keylane_cli::{Progress, Surroundings};
use keylane_integration_tests::{
    kafka::{Found, Kafka, Nodes},
    report::Arguments,
};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::{Header, Headers, OwnedHeaders},
    producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
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
/// `USER_HZ` of every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

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
    let letters: u64 = arguments.value("letters", 1_000_000);
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
    tokio::task::block_in_place(|| write(&servers, &topic, partitions, letters))?;
    eprintln!("round | arm     | seconds | CPU seconds | peak RSS MiB");
    let mut measured: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for round in 0..rounds {
        for arm in ARMS {
            let child = Command::new(std::env::current_exe()?)
                .args(["--arm", arm, "--servers", &servers, "--topic", &topic])
                .args(["--by", &by, "--letters", &letters.to_string()])
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
        "letters": letters,
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
        "peak_rss_mib": peak_rss_kib()? / 1_024.0,
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

/// Letters as keylane writes them: 13 headers, a value of 200 bytes, 50 fingerprints.
fn write(servers: &str, topic: &str, partitions: i32, letters: u64) -> Result<()> {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("enable.idempotence", "true")
        .set("linger.ms", "20")
        .create()?;
    let value = "v".repeat(200);
    for number in 0..letters {
        let partition = i32::try_from(number % u64::try_from(partitions)?)?;
        let key = format!("key-{}", number % 50_000);
        let mut headers = Some(headers(number, partition));
        loop {
            let record = BaseRecord::to(topic).key(&key).payload(&value);
            let record = record.partition(partition);
            let record = match headers.take() {
                Some(headers) => record.headers(headers),
                None => record,
            };
            match producer.send(record) {
                Ok(()) => break,
                Err((error, back)) if is_full(&error) => {
                    headers = back.headers;
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }
    Ok(producer.flush(DEADLINE)?)
}

fn is_full(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(rdkafka::types::RDKafkaErrorCode::QueueFull)
}

fn headers(number: u64, partition: i32) -> OwnedHeaders {
    let error = format!(
        "gate {} refused order {number} with status 503 (attempt 7)",
        ["north", "south", "east", "west", "inner"][(number % 5) as usize]
    );
    let class = format!("gateway::Error{}", number % 10);
    let (partition, offset) = (partition.to_string(), number.to_string());
    let all = [
        ("tenant", "a"),
        (
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
        ("keylane-origin-topic", "parking-events"),
        ("keylane-origin-partition", &partition),
        ("keylane-origin-offset", &offset),
        ("keylane-origin-timestamp", "1763698842000"),
        ("keylane-group", "parking-notifier"),
        ("keylane-attempts", "7"),
        ("keylane-first-failure", "2026-11-21T04:20:43.017Z"),
        ("keylane-last-failure", "2026-11-21T04:21:40.000Z"),
        ("keylane-reason", "exhausted"),
        ("keylane-error-class", &class),
        ("keylane-error", &error),
    ];
    let headers = OwnedHeaders::new_with_capacity(all.len());
    all.iter().fold(headers, |headers, (key, value)| {
        headers.insert(Header {
            key,
            value: Some(*value),
        })
    })
}

fn cpu_seconds() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name, which may have blanks, ends with the last bracket.
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map(|(_, after)| after.split_whitespace().collect())
        .unwrap_or_default();
    let ticks = [11, 12].map(|at| fields.get(at).and_then(|it| it.parse::<f64>().ok()));
    match ticks {
        [Some(user), Some(system)] => Ok((user + system) / TICKS_PER_SECOND),
        _ => Err(io::Error::other("no CPU time").into()),
    }
}

fn peak_rss_kib() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.ok_or("no peak of memory")?.parse()?)
}
