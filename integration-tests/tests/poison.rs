//! Records that kill their process, with real processes on a real Kafka.
//!
//! The members are this very test binary, started again as [`member`]; each notes what it does in a file, a line at a
//! time, which outlives it. The suites count the starts until everything but the killers is processed.

#![allow(clippy::unwrap_used, reason = "helpers of tests stop the test as the tests do")]

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use bytes::Bytes;
use keylane::{Backoff, DeadLetter, Raw, Retry, Subscription, Task, TaskError};
use keylane_integration_tests::{
    kafka::{Kafka, NewRecord, Nodes, StoredRecord},
    kafka_or_skip,
    wait::wait_for,
};
use rustix::process::{Pid, Signal, getpid, kill_process};

/// For what takes seconds: a start with its rebalance.
const DEADLINE: Duration = Duration::from_secs(60);
/// What the variables of a member begin with.
const VARIABLE: &str = "KEYLANE_POISON_";
/// More would be a failure by itself.
const MOST_STARTS: usize = 9;

/// Not a test of its own: what the started processes run. Without the variables there is nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn member() {
    let variable = |name: &str| std::env::var(format!("{VARIABLE}{name}")).ok();
    let (Some(servers), Some(topic), Some(group), Some(notes)) =
        (variable("SERVERS"), variable("TOPIC"), variable("GROUP"), variable("NOTES"))
    else {
        return;
    };
    let level = tracing_subscriber::EnvFilter::new("keylane=info");
    tracing_subscriber::fmt().with_env_filter(level).with_ansi(false).with_writer(std::io::stderr).init();
    let mut subscription = Subscription::builder(&group, &topic)
        .bootstrap_servers(servers)
        .concurrency(8)
        .commit_interval(Duration::from_millis(200))
        .shutdown_timeout(Duration::from_secs(1))
        // Its place is free at once when it starts again: nobody waits for the dead one's session to end.
        .kafka("group.instance.id", variable("MEMBER").unwrap_or_else(|| "one".into()))
        .kafka("session.timeout.ms", "6000")
        .kafka("max.poll.interval.ms", "20000")
        .kafka("auto.offset.reset", "earliest");
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
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
    let process = move |task: Task<Bytes>| {
        let notes = notes.clone();
        async move {
            let value = String::from_utf8_lossy(task.record().value().unwrap_or_default()).into_owned();
            note(&notes, &format!("start {value}"));
            // Work that waits, so that neighbours are in flight when the process dies.
            tokio::time::sleep(Duration::from_millis(5)).await;
            match value.split_once(':').map_or("", |(kind, _)| kind) {
                "abort" => std::process::abort(),
                "overflow" => drop(overflow(1)),
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

/// One line, written at once: what it says has happened even if the process ends right after it.
fn note(file: &Path, line: &str) {
    let mut file = File::options().create(true).append(true).open(file).unwrap();
    file.write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// A topic with members that come and go.
struct Suite<'a> {
    kafka: &'a Kafka,
    topic: String,
    dead_letters: Option<String>,
    retries: bool,
    directory: tempfile::TempDir,
}

impl<'a> Suite<'a> {
    async fn new(kafka: &'a Kafka, name: &str, partitions: i32) -> Self {
        let topic = kafka.unique(name);
        let dead_letters = format!("{topic}-dead");
        for topic in [&topic, &dead_letters] {
            kafka.create_topic(topic, partitions, 1, &[]).await.unwrap();
        }
        let directory = tempfile::tempdir().unwrap();
        Self { kafka, topic, dead_letters: Some(dead_letters), retries: false, directory }
    }

    async fn with_retry_topic(mut self, partitions: i32) -> Self {
        self.kafka.create_topic(&format!("{}-retry", self.topic), partitions, 1, &[]).await.unwrap();
        self.retries = true;
        self
    }

    async fn write(&self, records: Vec<NewRecord>) {
        self.kafka.produce(&self.topic, records).await.unwrap();
    }

    fn start(&self, member: &str) -> Running {
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["member", "--exact", "--nocapture", "--test-threads=1"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut variables = vec![
            ("SERVERS", self.kafka.bootstrap_servers().to_owned()),
            ("TOPIC", self.topic.clone()),
            ("GROUP", format!("{}-group", self.topic)),
            ("NOTES", self.notes_file().display().to_string()),
            ("MEMBER", member.to_owned()),
        ];
        variables.extend(self.dead_letters.iter().map(|topic| ("DEAD_LETTERS", topic.clone())));
        variables.extend(self.retries.then(|| ("RETRIES", "yes".to_owned())));
        command.envs(variables.into_iter().map(|(name, value)| (format!("{VARIABLE}{name}"), value)));
        Running(command.spawn().unwrap())
    }

    fn notes_file(&self) -> PathBuf {
        self.directory.path().join("notes")
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    fn logged(&self, words: &str) -> bool {
        fs::read_to_string(self.log()).unwrap_or_default().contains(words)
    }

    /// How often each line was noted.
    fn notes(&self) -> BTreeMap<String, usize> {
        let mut notes = BTreeMap::new();
        for line in fs::read_to_string(self.notes_file()).unwrap_or_default().lines() {
            *notes.entry(line.to_owned()).or_default() += 1;
        }
        notes
    }

    fn done(&self) -> usize {
        self.notes().keys().filter(|line| line.starts_with("done ")).count()
    }

    async fn dead(&self) -> Vec<StoredRecord> {
        match &self.dead_letters {
            Some(topic) => self.kafka.read_all(topic).await.unwrap(),
            None => Vec::new(),
        }
    }

    /// Starts members, one after the other, until the last one has lived to see that `is_over`; returns the starts.
    async fn restart_until(&self, is_over: impl Fn(&BTreeMap<String, usize>) -> bool) -> usize {
        let mut took = Vec::new();
        for starts in 1..=MOST_STARTS {
            let began = Instant::now();
            let mut member = self.start("one");
            let died = wait_for("a member dies or its work is over", DEADLINE, async || {
                member.died().map_or_else(|| is_over(&self.notes()).then_some(false), |_| Some(true))
            })
            .await;
            took.push(began.elapsed());
            if !died {
                println!("{}: over by start {starts}; they took {took:?}", self.topic);
                member.terminate().await;
                return starts;
            }
        }
        panic!("not over after {MOST_STARTS} starts; log:\n{}", fs::read_to_string(self.log()).unwrap());
    }

    /// All dead letters are these, with the words of poison. Where another killer strikes before the settlement of one is
    /// committed, it is written again.
    async fn expect_poison(&self, values: &[&str]) {
        let wanted: Vec<_> = values.iter().map(|value| (*value).to_owned()).collect();
        let dead = wait_for("the dead letters are there", DEADLINE, async || {
            let dead = self.dead().await;
            (dead.len() >= wanted.len()).then_some(dead)
        })
        .await;
        let mut found: Vec<_> =
            dead.iter().map(|record| String::from_utf8(record.value.clone().unwrap()).unwrap()).collect();
        found.sort();
        found.dedup();
        assert_eq!(found, wanted);
        for record in &dead {
            assert_eq!(record.header("keylane-reason"), Some("poison"));
            assert!(record.header("keylane-error").unwrap().contains("the process ended 2 times"), "{record:?}");
        }
        assert!(self.logged("poison: the process ended"), "nothing is logged");
    }
}

struct Running(Child);

impl Running {
    fn died(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().unwrap()
    }

    fn signal(&self, signal: Signal) {
        let _ = kill_process(Pid::from_raw(self.0.id().cast_signed()).unwrap(), signal);
    }

    async fn terminate(mut self) {
        self.signal(Signal::TERM);
        let status = wait_for("the member ends", DEADLINE, async || self.died()).await;
        assert!(status.success(), "{status}");
    }

    async fn kill(mut self) {
        self.signal(Signal::KILL);
        wait_for("the member is gone", DEADLINE, async || self.died()).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn record(partition: i32, key: &str, value: String) -> NewRecord {
    NewRecord { partition: Some(partition), ..NewRecord::keyed(key, value) }
}

/// So many records a partition, of ten keys each.
fn healthy(partitions: i32, each: usize) -> Vec<NewRecord> {
    let of = move |partition| {
        (0..each)
            .map(move |id| record(partition, &format!("{partition}-{}", id % 10), format!("good:{partition}-{id}")))
    };
    (0..partitions).flat_map(of).collect()
}

async fn one_killer(name: &str, killer: &str) {
    let kafka = kafka_or_skip!(Nodes::One);
    let suite = Suite::new(kafka, name, 3).await;
    let mut records = healthy(3, 40);
    records.insert(55, record(1, "1-3", killer.to_owned()));
    suite.write(records).await;
    let starts =
        suite.restart_until(|notes| notes.keys().filter(|line| line.starts_with("done ")).count() == 120).await;
    assert!(starts <= 5, "{starts} starts");
    suite.expect_poison(&[killer]).await;
    let ran = suite.notes()[&format!("start {killer}")];
    assert_eq!(ran, starts - 1, "each crash is the killer's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_aborts_is_found_by_the_fifth_start_and_nobody_else_is_blamed() {
    one_killer("abort", "abort:1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_overflows_the_stack_is_found_by_the_fifth_start() {
    one_killer("overflow", "overflow:1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_whose_process_is_killed_from_outside_is_found_by_the_fifth_start() {
    one_killer("killed", "killed:1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killer_that_is_alone_is_out_of_the_way_by_the_fourth_start() {
    let kafka = kafka_or_skip!(Nodes::One);
    let suite = Suite::new(kafka, "alone", 1).await;
    suite.write(vec![record(0, "k", "abort:1".to_owned())]).await;
    let mut starts = 0;
    loop {
        starts += 1;
        assert!(starts <= 4, "{starts} starts; log:\n{}", fs::read_to_string(suite.log()).unwrap());
        let mut member = suite.start("one");
        let over = wait_for("the member dies or the record is settled", DEADLINE, async || {
            if member.died().is_some() { Some(false) } else { (!suite.dead().await.is_empty()).then_some(true) }
        })
        .await;
        if over {
            member.terminate().await;
            break;
        }
    }
    println!("alone: over by start {starts}");
    suite.expect_poison(&["abort:1"]).await;
    assert_eq!(suite.notes()["start abort:1"], 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killers_in_several_partitions_are_found_one_by_one_and_nobody_else_is_blamed() {
    let kafka = kafka_or_skip!(Nodes::One);
    let suite = Suite::new(kafka, "several", 3).await;
    let mut records = healthy(3, 20);
    records.insert(5, record(0, "0-1", "abort:0".to_owned()));
    records.insert(50, record(2, "2-4", "killed:2".to_owned()));
    suite.write(records).await;
    let starts = suite.restart_until(|notes| notes.keys().filter(|line| line.starts_with("done ")).count() == 60).await;
    assert!(starts <= 8, "{starts} starts");
    suite.expect_poison(&["abort:0", "killed:2"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killer_on_the_retry_topic_is_found_too() {
    let kafka = kafka_or_skip!(Nodes::One);
    let suite = Suite::new(kafka, "retried", 2).await.with_retry_topic(2).await;
    let mut records = healthy(2, 20);
    records.insert(30, record(1, "1-4", "fail-then-abort:1".to_owned()));
    suite.write(records).await;
    let starts = suite
        .restart_until(|notes| {
            let done = notes.keys().filter(|line| line.starts_with("done ")).count();
            done == 40 && notes["member started"] > 1 && suite.logged("poison: the process ended")
        })
        .await;
    assert!(starts <= 5, "{starts} starts");
    suite.expect_poison(&["fail-then-abort:1"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_dead_letter_topic_the_killer_is_parked_and_stays_so_over_a_restart() {
    let kafka = kafka_or_skip!(Nodes::One);
    let mut suite = Suite::new(kafka, "parked", 1).await;
    suite.dead_letters = None;
    let mut records = healthy(1, 20);
    records.insert(10, record(0, "alone", "abort:1".to_owned()));
    suite.write(records).await;
    let starts = suite.restart_until(|notes| notes.keys().filter(|line| line.starts_with("done ")).count() == 20).await;
    assert!(starts <= 5, "{starts} starts");
    let ran = suite.notes()["start abort:1"];
    let mut member = suite.start("one");
    suite.write(vec![record(0, "later", "good:later".to_owned())]).await;
    wait_for("the later record is processed", DEADLINE, async || {
        assert_eq!(member.died(), None, "the parked record ran again");
        (suite.done() == 21).then_some(())
    })
    .await;
    member.terminate().await;
    assert_eq!(suite.notes()["start abort:1"], ran);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orderly_restarts_and_unlucky_kills_blame_nobody() {
    let kafka = kafka_or_skip!(Nodes::One);
    let suite = Suite::new(kafka, "ordinary", 2).await;
    let mut written = 0;
    // A record is always in flight, and two kills in a row are part of it.
    for kills in [false, true, false, true, true, false, false] {
        let records = healthy(2, 30).into_iter().enumerate();
        let round = |(id, record): (usize, NewRecord)| NewRecord {
            value: Some(format!("good:{written}-{id}").into()),
            ..record
        };
        suite.write(records.map(round).collect()).await;
        written += 60;
        let member = suite.start("one");
        let at_least = written - 40;
        wait_for("some of it is processed", DEADLINE, async || (suite.done() >= at_least).then_some(())).await;
        if kills {
            member.kill().await;
        } else {
            member.terminate().await;
        }
    }
    assert_eq!(
        suite.restart_until(|notes| notes.keys().filter(|line| line.starts_with("done ")).count() == written).await,
        1
    );
    assert!(suite.dead().await.is_empty());
    assert!(!suite.logged("poison:"));
    // What is left says that nothing runs and nothing is suspected: no metadata but of a map, and there is none.
    let group = format!("{}-group", suite.topic);
    for committed in kafka.committed(&group, &suite.topic).await.unwrap() {
        assert_eq!((committed.offset, committed.metadata.as_str()), (Some(written as i64 / 2), ""));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_hangs_while_its_members_are_deployed_again_and_again_is_not_blamed() {
    let kafka = kafka_or_skip!(Nodes::One);
    let suite = Suite::new(kafka, "deployed", 1).await;
    suite.write(vec![record(0, "k", "hang:1".to_owned())]).await;
    // One kill, and then deployments: the shutdown gives the record up at its deadline.
    for round in 0..4 {
        let member = suite.start("one");
        wait_for("it runs", DEADLINE, async || {
            suite.notes().get("start hang:1").is_some_and(|&runs| runs > round).then_some(())
        })
        .await;
        if round == 0 {
            member.kill().await;
        } else {
            member.terminate().await;
        }
    }
    assert!(suite.dead().await.is_empty() && !suite.logged("poison:") && !suite.logged("one at a time"));
}
