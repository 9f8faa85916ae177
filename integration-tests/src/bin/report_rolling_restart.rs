//! What a clean rolling restart costs: how long a partition that stays where it is stands still,
//! beside a bare consumer that reads the same load in the same run.
//!
//! `report_rolling_restart [--protocol both|cooperative|consumer] [--rate 2000] [--partitions 12]
//! [--concurrency 16] [--work-ms 4] [--steady 10] [--dwell 5] [--nodes 1|3]`
//!
//! Prints one line of JSON per protocol. Three members of a keylane group and three plain rdkafka
//! consumers read one topic. After `steady` seconds each member of either group is stopped and
//! started again, in turns, with `dwell` seconds between. A gap is the time between two records of
//! a partition that are processed one after the other: *retained* where the same member has
//! processed both, *moved* where another one has. `steady` is the longest gap before the first
//! restart.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::ExitCode,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::Bytes;
use keylane::{Raw, Subscription, Task, TaskError};
use keylane_integration_tests::{
    kafka::{Found, Kafka, Nodes},
    member::spread,
    protocol::Protocol,
    report::{Arguments, OpenLoop, Sent},
    wait::{wait_for, wait_until},
};
use rdkafka::{
    ClientConfig, Message,
    consumer::{BaseConsumer, Consumer},
};
use serde_json::{Value, json};

const KNOWN: &[&str] = &[
    "protocol",
    "rate",
    "partitions",
    "concurrency",
    "work-ms",
    "steady",
    "dwell",
    "nodes",
];
const DEADLINE: Duration = Duration::from_secs(120);
const BARE_DEADLINE: Duration = Duration::from_secs(30);
const SESSION_MS: u32 = 45_000;
/// The default of keylane, for both: what a member learns of a rebalance, it learns with a
/// heartbeat.
const HEARTBEAT_MS: &str = "1000";
const MEMBERS: usize = 3;
const KEYS: u64 = 1_000;

#[derive(Clone, Copy)]
struct Plan {
    rate: u64,
    partitions: i32,
    concurrency: usize,
    work: Duration,
    steady: Duration,
    dwell: Duration,
    nodes: Nodes,
}

/// A record that was processed.
#[derive(Clone, Copy)]
struct Processed {
    partition: i32,
    member: usize,
    number: u64,
    micros: u64,
}

/// What the members of a group have processed, and how many members there have been.
#[derive(Clone)]
struct Log {
    beginning: Instant,
    written: Arc<Mutex<Written>>,
    members: Arc<AtomicUsize>,
}

/// The lines, and the members in them: read while the group is measured, so no search is needed
/// then.
#[derive(Default)]
struct Written {
    lines: Vec<Processed>,
    members: BTreeSet<usize>,
}

impl Log {
    fn new(beginning: Instant) -> Self {
        Self {
            beginning,
            written: Arc::default(),
            members: Arc::default(),
        }
    }

    /// One that writes: a member that is started again is another one.
    fn member(&self) -> usize {
        self.members.fetch_add(1, Ordering::Relaxed)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.beginning.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn processed(&self, member: usize, partition: i32, value: &[u8]) {
        let Some(Sent { number, .. }) = Sent::parse(value) else {
            return;
        };
        let line = Processed {
            partition,
            member,
            number,
            micros: self.now(),
        };
        let mut written = self.written();
        written.lines.push(line);
        written.members.insert(member);
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lines(&self) -> Vec<Processed> {
        self.written().lines.clone()
    }

    fn count(&self) -> usize {
        let numbers: BTreeSet<u64> = self.lines().iter().map(|line| line.number).collect();
        numbers.len()
    }

    fn has(&self, member: usize) -> bool {
        self.written().members.contains(&member)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::of_this_process(KNOWN);
    let plan = Plan {
        rate: arguments.value("rate", 2_000),
        partitions: arguments.value("partitions", 12),
        concurrency: arguments.value("concurrency", 16),
        work: Duration::from_millis(arguments.value("work-ms", 4)),
        steady: Duration::from_secs(arguments.value("steady", 10)),
        dwell: Duration::from_secs(arguments.value("dwell", 5)),
        nodes: if arguments.value("nodes", 1) == 3 {
            Nodes::Three
        } else {
            Nodes::One
        },
    };
    let protocols = match arguments.value("protocol", "both".to_owned()).as_str() {
        "cooperative" => vec![Protocol::Cooperative],
        "consumer" => vec![Protocol::Consumer],
        _ => vec![Protocol::Cooperative, Protocol::Consumer],
    };
    match reports(plan, &protocols).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn reports(plan: Plan, protocols: &[Protocol]) -> Result<(), Box<dyn std::error::Error>> {
    let kafka = match tokio::task::spawn_blocking(move || Kafka::find(plan.nodes)).await? {
        Found::Running(kafka) => kafka,
        Found::Unavailable(reason) => return Err(reason.into()),
    };
    for protocol in protocols {
        println!("{}", report(&kafka, plan, *protocol).await?);
    }
    Ok(())
}

async fn report(
    kafka: &Kafka,
    plan: Plan,
    protocol: Protocol,
) -> Result<Value, Box<dyn std::error::Error>> {
    let (topic, group, bare_group) = (
        kafka.unique("restart"),
        kafka.unique("group"),
        kafka.unique("bare"),
    );
    let replicas = if plan.nodes == Nodes::Three { 3 } else { 1 };
    kafka
        .create_topic(&topic, plan.partitions, replicas, &[])
        .await?;
    let beginning = Instant::now();
    let (ours, theirs) = (Log::new(beginning), Log::new(beginning));
    let start = async || {
        let (log, member) = (ours.clone(), ours.member());
        let processor = move |task: Task<Bytes>| {
            let log = log.clone();
            async move {
                tokio::time::sleep(spread(&task, plan.work)).await;
                log.processed(member, task.partition(), task.payload());
                Ok::<(), TaskError>(())
            }
        };
        let builder = protocol
            .subscribe(kafka, &group, &topic, SESSION_MS)
            .concurrency(plan.concurrency);
        let builder = match protocol {
            Protocol::Consumer => builder,
            _ => builder.kafka("heartbeat.interval.ms", HEARTBEAT_MS),
        };
        Ok::<_, keylane::error::StartError>((member, builder.start(Raw, processor).await?))
    };
    let mut members: Vec<(usize, Subscription)> = Vec::new();
    let mut bare: Vec<Bare> = Vec::new();
    for _ in 0..MEMBERS {
        members.push(start().await?);
        bare.push(Bare::start(kafka, protocol, &bare_group, &topic, &theirs)?);
    }
    let load = OpenLoop::start(
        kafka.bootstrap_servers(),
        &topic,
        plan.rate,
        beginning,
        |number| format!("key-{}", number.wrapping_mul(7_919) % KEYS),
    )?;
    for (log, members) in [
        (
            &ours,
            members
                .iter()
                .map(|(member, _)| *member)
                .collect::<Vec<_>>(),
        ),
        (&theirs, bare.iter().map(|bare| bare.member).collect()),
    ] {
        wait_until("every member works", DEADLINE, || {
            members.iter().all(|member| log.has(*member))
        })
        .await;
    }
    tokio::time::sleep(plan.dwell).await;
    let steady = ours.now();
    tokio::time::sleep(plan.steady).await;
    let first = ours.now();
    for _ in 0..MEMBERS {
        let (_, leaving) = members.remove(0);
        leaving.shutdown().await?;
        let (member, joined) = start().await?;
        members.push((member, joined));
        wait_until("the new member works", DEADLINE, || ours.has(member)).await;
        tokio::time::sleep(plan.dwell).await;

        let leaving = bare.remove(0);
        tokio::task::spawn_blocking(|| leaving.stop()).await?;
        let joined = Bare::start(kafka, protocol, &bare_group, &topic, &theirs)?;
        let member = joined.member;
        bare.push(joined);
        wait_until("the new bare member works", DEADLINE, || theirs.has(member)).await;
        tokio::time::sleep(plan.dwell).await;
    }
    let last = ours.now();
    let written = tokio::task::spawn_blocking(|| load.stop()).await??;
    wait_until("everything is processed", DEADLINE, || {
        ours.count() as u64 >= written
    })
    .await;
    // By its commits, and not for ever: what the bare group may have lost would never come.
    let ends = kafka.end_offsets(&topic).await?;
    let finished = tokio::time::timeout(
        BARE_DEADLINE,
        wait_for(
            "the bare group has committed everything",
            DEADLINE,
            async || {
                let committed = kafka.committed(&bare_group, &topic).await.ok()?;
                committed
                    .iter()
                    .zip(&ends)
                    .all(|(committed, end)| committed.offset.unwrap_or(0) == *end)
                    .then_some(())
            },
        ),
    )
    .await
    .is_ok();
    for (_, member) in members {
        member.shutdown().await?;
    }
    tokio::task::spawn_blocking(|| bare.into_iter().for_each(Bare::stop)).await?;
    let of = |log: &Log| summary(&log.lines(), written, steady, first, last);
    Ok(json!({
        "report": "rolling_restart",
        "optimised": !cfg!(debug_assertions),
        "cores": std::thread::available_parallelism()?.get(),
        "protocol": format!("{protocol:?}"),
        "records_per_second": plan.rate,
        "partitions": plan.partitions,
        "concurrency": plan.concurrency,
        "work_ms_at_most": plan.work.as_millis() as u64,
        "records": written,
        "keylane": of(&ours),
        "bare": of(&theirs),
        "bare_has_committed_everything": finished,
    }))
}

/// What a group did: counts over all, gaps before and during the restarts.
fn summary(lines: &[Processed], written: u64, steady: u64, first: u64, last: u64) -> Value {
    let numbers: BTreeSet<u64> = lines.iter().map(|line| line.number).collect();
    let mut partitions: BTreeMap<i32, Vec<&Processed>> = BTreeMap::new();
    for line in lines {
        partitions.entry(line.partition).or_default().push(line);
    }
    let (mut calm, mut retained, mut moved) = (0, 0, 0);
    for lines in partitions.values_mut() {
        lines.sort_by_key(|line| line.micros);
        for pair in lines.windows(2) {
            let gap = pair[1].micros - pair[0].micros;
            let longest = match (
                pair[0].member == pair[1].member,
                pair[0].micros,
                pair[1].micros,
            ) {
                (_, from, to) if from >= steady && to <= first => &mut calm,
                (true, from, to) if to > first && from < last => &mut retained,
                (false, from, to) if to > first && from < last => &mut moved,
                _ => continue,
            };
            *longest = gap.max(*longest);
        }
    }
    let millis = |micros: u64| micros as f64 / 1_000.0;
    json!({
        "lost": written - numbers.len() as u64,
        "duplicates": lines.len() - numbers.len(),
        "longest_gap_steady_ms": millis(calm),
        "longest_gap_retained_ms": millis(retained),
        "longest_gap_moved_ms": millis(moved),
    })
}

/// A plain consumer as its documentation has it: it polls, and commits what it has polled now and
/// then.
struct Bare {
    member: usize,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Bare {
    fn start(
        kafka: &Kafka,
        protocol: Protocol,
        group: &str,
        topic: &str,
        log: &Log,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", kafka.bootstrap_servers())
            .set("group.id", group)
            .set("auto.offset.reset", "earliest")
            .set("auto.commit.interval.ms", "1000")
            .set("fetch.wait.max.ms", "100");
        match protocol {
            Protocol::Consumer => config.set("group.protocol", "consumer"),
            Protocol::Cooperative | Protocol::Range => config
                .set("partition.assignment.strategy", "cooperative-sticky")
                .set("session.timeout.ms", SESSION_MS.to_string())
                .set("heartbeat.interval.ms", HEARTBEAT_MS),
        };
        let consumer: BaseConsumer = config.create()?;
        consumer.subscribe(&[topic])?;
        let (stop, member, log) = (Arc::new(AtomicBool::new(false)), log.member(), log.clone());
        let stopped = stop.clone();
        let thread = std::thread::Builder::new()
            .name("bare".to_owned())
            .spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
                        log.processed(
                            member,
                            message.partition(),
                            message.payload().unwrap_or_default(),
                        );
                    }
                }
            })?;
        Ok(Self {
            member,
            stop,
            thread,
        })
    }

    /// Stops to poll; the end of the client commits and leaves the group.
    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        if self.thread.join().is_err() {
            eprintln!("a bare consumer panicked");
        }
    }
}
