//! Redrives: each letter once, in the order of its key, whatever is killed.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Lines},
    process::{ChildStdout, Command, Stdio},
    sync::Arc,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant, SystemTime},
};

use keylane::dead_letter::Filter;
use keylane::redrive::ops::{OpsTopic, TaskState};
use keylane::redrive::{Ended, RedriveTask, RedriveTaskError};
use keylane_integration_tests::{
    kafka::{Kafka, NewRecord, Nodes, StoredRecord},
    kafka_or_skip,
    members::redrive::VARIABLE,
    process::Process,
    wait::wait_until,
};

const DEADLINE: Duration = Duration::from_secs(120);
const PARTITIONS: i32 = 3;

struct Scene {
    kafka: &'static Kafka,
    dead: String,
    retry: String,
    group: String,
}

/// A dead letter. Those of a key were given up in another order than they were written.
fn letter(number: i64, key: i64, reason: &str, retry: &str, group: &str) -> NewRecord {
    // Backwards in tens: neighbours are swapped.
    let origin = number / 10 * 10 + 9 - number % 10;
    let headers = [
        ("keylane-origin-topic", "tasks"),
        ("keylane-origin-partition", "0"),
        ("keylane-origin-offset", &origin.to_string()),
        ("keylane-group", group),
        ("keylane-reason", reason),
        ("keylane-retry-topic", retry),
    ];
    let headers = headers.map(|(name, value)| (name.to_owned(), Some(value.as_bytes().to_vec())));
    NewRecord {
        headers: headers.to_vec(),
        ..NewRecord::keyed(format!("key-{key}"), origin.to_string())
    }
}

impl Scene {
    async fn new(kafka: &'static Kafka) -> Self {
        let [dead, retry, group] = ["dead", "retry", "redriven"].map(|it| kafka.unique(it));
        for topic in [&dead, &retry] {
            kafka.create_topic(topic, PARTITIONS, 1, &[]).await.unwrap();
        }
        Self {
            kafka,
            dead,
            retry,
            group,
        }
    }

    async fn write(&self, count: i64, keys: i64, reason: impl Fn(i64) -> &'static str) {
        let letter = |number| {
            letter(
                number,
                number % keys,
                reason(number),
                &self.retry,
                &self.group,
            )
        };
        let letters = (0..count).map(letter).collect();
        self.kafka.produce(&self.dead, letters).await.unwrap();
    }

    fn task(&self) -> RedriveTask {
        RedriveTask::of(&self.dead)
            .bootstrap_servers(self.kafka.bootstrap_servers())
            .group(&self.group)
            .by("the test")
    }

    /// A task that is stopped after its first transaction.
    async fn stopped(&self, id: &str, rate: u32) -> Ended {
        let stop = Arc::new(tokio::sync::Notify::new());
        let of_progress = stop.clone();
        let task = self.task().id(id).rate(rate).on_progress(move |it| {
            if it.done > 0 {
                of_progress.notify_one();
            }
        });
        task.stop(async move { stop.notified().await })
            .run()
            .await
            .unwrap()
    }

    fn ops(&self) -> OpsTopic {
        OpsTopic::of(&self.group).bootstrap_servers(self.kafka.bootstrap_servers())
    }

    /// The copies that a reader with `read_committed` gets: each once, those of a key in the order of
    /// their origins. Of an origin that is in no other topic its partition is that of all.
    async fn check_copies(&self, expected: impl Iterator<Item = i64>) {
        let copies = self.kafka.read_all(&self.retry).await.unwrap();
        let mut last_of_key = BTreeMap::<Vec<u8>, i64>::new();
        let mut origins = BTreeSet::new();
        for copy in &copies {
            let origin = origin(copy);
            let key = copy.key.clone().unwrap();
            assert!(origins.insert(origin), "{origin} is there twice");
            let before = last_of_key.insert(key, origin);
            assert!(
                before.is_none_or(|before| before < origin),
                "{before:?}, {origin}"
            );
        }
        assert_eq!(origins, expected.collect());
    }
}

fn origin(copy: &StoredRecord) -> i64 {
    copy.header("keylane-origin-offset")
        .unwrap()
        .parse()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_100_000_letters_each_that_matches_is_copied_once_and_in_order() {
    let kafka = kafka_or_skip!(Nodes::One);
    let scene = Scene::new(kafka).await;
    let matches = |number: i64| number.wrapping_mul(7_919) % 100 == 0;
    scene
        .write(100_000, 7, |number| {
            if matches(number) {
                "fatal"
            } else {
                "exhausted"
            }
        })
        .await;
    let filter = || Filter::parse(["reason=fatal"]).unwrap();
    let planned = scene.task().filter(filter()).plan().await.unwrap();
    assert_eq!((planned.matched, planned.turns), (1_000, 1_000));
    let began = Instant::now();
    let ended = scene.task().filter(filter()).run().await.unwrap();
    eprintln!("1,000 of 100,000 letters in {:.1?}", began.elapsed());
    assert_eq!(
        (ended.state, ended.progress.copied()),
        (TaskState::Done, 1_000)
    );
    let wanted = (0..100_000).filter(|it| matches(*it));
    scene
        .check_copies(wanted.map(|it| it / 10 * 10 + 9 - it % 10))
        .await;
    let again = scene.task().filter(filter()).run().await.unwrap();
    assert_eq!((again.progress.copied(), again.counts.handled), (0, 1_000));
}

/// A member that goes on with the task, and what it prints.
struct Member {
    process: Process,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Member {
    fn start(scene: &Scene, window: usize) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_member"))
            .arg("redrive")
            .env(
                format!("{VARIABLE}SERVERS"),
                scene.kafka.bootstrap_servers(),
            )
            .env(format!("{VARIABLE}TOPIC"), &scene.dead)
            .env(format!("{VARIABLE}GROUP"), &scene.group)
            .env(format!("{VARIABLE}WINDOW"), window.to_string())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.expect("it was built with this test");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Self {
            process: Process { child },
            lines,
        }
    }

    /// Kills it at a random moment: after some of its transactions, or while it starts. Returns what it
    /// said last; `None` where it had ended before.
    fn kill(mut self, transactions: u32, random: &mut Random) -> Option<String> {
        let mut last = None;
        if random.below(4) > 0 {
            let count = 1 + random.below(transactions) as usize;
            last = self.lines.by_ref().take(count).last().map(Result::unwrap);
        } else {
            std::thread::sleep(Duration::from_millis(random.below(1_000).into()));
        }
        // Within a transaction.
        std::thread::sleep(Duration::from_millis(random.below(40).into()));
        match self.process.child.try_wait().unwrap() {
            Some(ended) if ended.success() => None,
            Some(ended) => panic!("it failed after {last:?}: {ended}"),
            None => Some(last.unwrap_or_else(|| "starts".to_owned())),
        }
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: u32) -> u32 {
        self.0 = (self.0)
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32 % end.max(1)
    }
}

/// `KEYLANE_REDRIVE_KILLS` kills instead of 5.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redrive_that_is_killed_again_and_again_loses_and_repeats_nothing() {
    const LETTERS: i64 = 20_000;
    const WINDOW: usize = 100;
    let kafka = kafka_or_skip!(Nodes::One);
    let scene = Scene::new(kafka).await;
    scene.write(LETTERS, 50, |_| "exhausted").await;
    let kills = std::env::var("KEYLANE_REDRIVE_KILLS");
    let kills: u32 = kills.map_or(5, |kills| kills.parse().unwrap());
    // So that there is something left for the last one.
    let transactions = LETTERS as u32 / WINDOW as u32 / (kills + 1);
    let seed = SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
    let (mut random, mut said) = (Random(seed.into()), Vec::new());
    let began = Instant::now();
    for _ in 0..kills {
        let member = Member::start(&scene, WINDOW);
        let killed = tokio::task::spawn_blocking(move || {
            let last = member.kill(transactions, &mut random);
            (random, last)
        });
        let (next, last) = killed.await.unwrap();
        random = next;
        // This machine is faster than the test thinks.
        let Some(last) = last else { break };
        said.push(last);
    }
    assert!(!said.is_empty(), "seed {seed}: it was never killed");
    if said.len() == kills as usize {
        let member = Member::start(&scene, WINDOW);
        let lines = tokio::task::spawn_blocking(move || member.lines.map(Result::unwrap).last());
        assert_eq!(lines.await.unwrap().as_deref(), Some("ended Done"));
    }
    eprintln!(
        "seed {seed}, killed at {said:?}, {:.1?} in all",
        began.elapsed()
    );

    scene.check_copies(0..LETTERS).await;
    let seen = kafka
        .read_all_with(&scene.retry, "read_uncommitted")
        .await
        .unwrap();
    let repeated = seen.len() - LETTERS as usize;
    eprintln!("{repeated} copies of transactions that were aborted");
    assert!(repeated <= WINDOW * kills as usize, "{repeated}");
    let state = scene.ops().read().await.unwrap();
    let task = state.task("killed").unwrap();
    assert_eq!(task.record.state, TaskState::Done);
    assert_eq!(
        state.handled(&scene.dead).ranges().count(),
        PARTITIONS as usize
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_executor_fences_the_first_and_nothing_is_copied_twice() {
    let kafka = kafka_or_skip!(Nodes::One);
    let scene = Scene::new(kafka).await;
    scene.write(500, 5, |_| "exhausted").await;
    let done = Arc::new(AtomicU64::new(0));
    let of_progress = done.clone();
    let first = scene.task().id("first").rate(20);
    let first = first.on_progress(move |it| of_progress.store(it.done, Ordering::Relaxed));
    let first = tokio::spawn(first.run());
    let is_at = |least| {
        let done = &done;
        move || done.load(Ordering::Relaxed) >= least
    };
    wait_until("the first one copies", DEADLINE, is_at(1)).await;

    // One that is refused does not disturb it.
    let error = scene.task().id("second").run().await.unwrap_err();
    assert!(
        matches!(error, RedriveTaskError::Unfinished { .. }),
        "{error}"
    );
    let so_far = done.load(Ordering::Relaxed);
    wait_until("the first one goes on", DEADLINE, is_at(so_far + 1)).await;

    let second = scene.task().resume("first").await.unwrap();
    assert_eq!(
        first.await.unwrap().unwrap_err(),
        RedriveTaskError::TakenOver
    );
    assert_eq!(
        (second.state, second.progress.copied()),
        (TaskState::Done, 500)
    );
    scene.check_copies(0..500).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_that_are_gone_by_the_time_of_a_resumed_run_are_counted() {
    let kafka = kafka_or_skip!(Nodes::One);
    let scene = Scene::new(kafka).await;
    scene.write(300, 1, |_| "exhausted").await;
    let ends = kafka.end_offsets(&scene.dead).await.unwrap();
    let (partition, _) = (0..).zip(&ends).find(|(_, end)| **end == 300).unwrap();
    let stopped = scene.stopped("first", 25).await;
    let done = stopped.progress.done;
    assert!(
        stopped.state == TaskState::Running && done < 250,
        "{stopped:?}"
    );

    kafka
        .delete_records(&scene.dead, partition, 250)
        .await
        .unwrap();
    let ended = scene.task().resume("first").await.unwrap();
    assert_eq!(
        (ended.state, ended.progress.gone),
        (TaskState::Done, 250 - done)
    );
    let there = (0..done as i64).chain(250..300);
    scene
        .check_copies(there.map(|it| it / 10 * 10 + 9 - it % 10))
        .await;

    let servers = kafka.bootstrap_servers().to_owned();
    let ops = scene.ops().name().to_owned();
    let settings = move || {
        let (servers, none) = (servers.into(), keylane::config::KafkaSettings::new());
        let operator = keylane::operator::Operator::connect(&servers, &none, "any", DEADLINE);
        operator.unwrap().topic_settings(&ops).unwrap()
    };
    let settings = tokio::task::spawn_blocking(settings).await.unwrap();
    assert_eq!(settings["cleanup.policy"], "compact");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_of_a_topic_that_was_re_created_are_none_that_were_redriven_before() {
    let kafka = kafka_or_skip!(Nodes::One);
    let scene = Scene::new(kafka).await;
    scene.write(20, 1, |_| "exhausted").await;
    let ops = scene.ops();
    let ended = scene.task().max(10).run().await.unwrap();
    assert_eq!(ended.progress.copied(), 10);
    let resolve = ops.resolve(
        &scene.dead,
        (0..PARTITIONS).map(|it| (it, 15..=19)),
        "ada",
        "",
    );
    resolve.await.unwrap();
    let unfinished = scene.stopped("unfinished", 1).await;
    assert_eq!(unfinished.state, TaskState::Running);
    let handled = scene.task().plan().await.unwrap().handled;
    assert_eq!(handled, 15 + unfinished.progress.done);

    kafka.delete_topic(&scene.dead).await.unwrap();
    kafka
        .create_topic(&scene.dead, PARTITIONS, 1, &[])
        .await
        .unwrap();
    scene.write(20, 1, |_| "exhausted").await;
    let planned = scene.task().plan().await.unwrap();
    assert_eq!((planned.turns, planned.handled), (20, 0));
    let error = scene.task().resume("unfinished").await.unwrap_err();
    assert!(
        matches!(error, RedriveTaskError::OtherLog { .. }),
        "{error}"
    );
    let ended = scene.task().take_over().run().await.unwrap();
    assert_eq!(ended.progress.copied(), 20);
}
