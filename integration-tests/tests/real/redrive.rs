//! Redrives: each letter once, in the order of its key, whatever is killed.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    sync::{Arc, mpsc},
    time::{Duration, Instant, SystemTime},
};

use keylane::dead_letter::Filter;
use keylane::redrive::ops::{OnRefused, OpsTopic, TaskState};
use keylane::redrive::{Ended, RedriveTask, RedriveTaskError};
use keylane_integration_tests::{
    kafka::{Kafka, NewRecord, Nodes, StoredRecord},
    kafka_or_skip,
    members::redrive::VARIABLE,
    process::Process,
    wait::{wait_for, wait_until},
};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, Producer};
use tokio::sync::Notify;

const DEADLINE: Duration = Duration::from_secs(120);
const PARTITIONS: i32 = 3;

pub(super) struct Scene {
    pub(super) kafka: &'static Kafka,
    pub(super) dead: String,
    retry: String,
    pub(super) group: String,
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
    pub(super) async fn new(kafka: &'static Kafka) -> Self {
        let [dead, retry, group] = ["dead", "retry", "redriven"].map(|it| kafka.unique(it));
        for topic in [&dead, &retry] {
            kafka.create_topic(topic, PARTITIONS, 1, &[]).await.unwrap();
        }
        let scene = Self {
            kafka,
            dead,
            retry,
            group,
        };
        // A topic that a task creates may not be readable at once.
        let (ops, policy) = (scene.ops(), [("cleanup.policy", "compact")]);
        kafka.create_topic(ops.name(), 1, 1, &policy).await.unwrap();
        scene
    }

    pub(super) async fn write(&self, count: i64, keys: i64, reason: impl Fn(i64) -> &'static str) {
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

    /// A task that is stopped after its first transaction. It does not go on before the stop
    /// arrives.
    async fn stopped(&self, id: &str, window: u32) -> Ended {
        let [stop, passes] = [(); 2].map(|()| Arc::new(Notify::new()));
        let (of_progress, passed) = (stop.clone(), passes.clone());
        let (arrives, arrived) = mpsc::channel::<()>();
        let task = self.task().id(id).window(window).on_progress(move |it| {
            if it.done > 0 {
                of_progress.notify_one();
                let _ = arrived.recv_timeout(DEADLINE);
            }
        });
        let stop = async move {
            stop.notified().await;
            passed.notify_one();
        };
        // It is polled after the run, which has the stop by then.
        let goes_on = async move {
            passes.notified().await;
            drop(arrives);
        };
        let (ended, ()) = tokio::join!(task.stop(stop).run(), goes_on);
        ended.unwrap()
    }

    /// Waits until the operations topic shows this state of a task: a broker answers a commit
    /// before readers see it.
    async fn await_state(&self, id: &str, state: TaskState) {
        wait_for("the task's state is shown", DEADLINE, async || {
            let found = self.ops().read().await.unwrap();
            (found.task(id)?.record.state == state).then_some(())
        })
        .await;
    }

    /// Takes the lock away from the executor that holds it. What that one has committed is shown by
    /// then.
    async fn fence(&self) {
        let id = format!("keylane-redrive/{}/{}", self.group, self.dead);
        let servers = self.kafka.bootstrap_servers().to_owned();
        let fence = move || {
            let producer: BaseProducer = ClientConfig::new()
                .set("bootstrap.servers", servers)
                .set("transactional.id", id)
                .create()
                .unwrap();
            producer.init_transactions(DEADLINE).unwrap();
        };
        tokio::task::spawn_blocking(fence).await.unwrap();
    }

    fn ops(&self) -> OpsTopic {
        OpsTopic::of(&self.group).bootstrap_servers(self.kafka.bootstrap_servers())
    }

    /// The copies that a reader with `read_committed` gets: each once, those of a key in the order of
    /// their origins. Of an origin that is in no other topic its partition is that of all.
    pub(super) async fn check_copies(&self, expected: impl Iterator<Item = i64>) {
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
async fn of_20_000_letters_each_that_matches_is_copied_once_and_in_order() {
    let kafka = kafka_or_skip!(Nodes::One);
    let scene = Scene::new(kafka).await;
    let matches = |number: i64| number.wrapping_mul(7_919) % 100 == 0;
    scene
        .write(20_000, 7, |number| {
            if matches(number) {
                "fatal"
            } else {
                "exhausted"
            }
        })
        .await;
    let filter = || Filter::parse(["reason=fatal"]).unwrap();
    let planned = scene.task().filter(filter()).plan().await.unwrap();
    assert_eq!((planned.matched, planned.turns), (200, 200));
    let began = Instant::now();
    let ended = scene.task().filter(filter()).run().await.unwrap();
    eprintln!("200 of 20,000 letters in {:.1?}", began.elapsed());
    assert_eq!(
        (ended.state, ended.progress.copied()),
        (TaskState::Done, 200)
    );
    let wanted = (0..20_000).filter(|it| matches(*it));
    scene
        .check_copies(wanted.map(|it| it / 10 * 10 + 9 - it % 10))
        .await;
    scene.await_state(&ended.id, TaskState::Done).await;
    let again = scene.task().filter(filter()).run().await.unwrap();
    assert_eq!((again.progress.copied(), again.counts.handled), (0, 200));
}

/// A member that goes on with the task, and what it prints.
struct Member {
    process: Process,
    lines: mpsc::Receiver<String>,
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
        let said = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let (line, lines) = mpsc::channel();
        // It ends with the member's output.
        std::thread::spawn(move || {
            for said in said.map_while(Result::ok) {
                if line.send(said).is_err() {
                    break;
                }
            }
        });
        Self {
            process: Process { child },
            lines,
        }
    }

    /// The next line that it prints; `None` where its output has ended.
    fn line(&self) -> Option<String> {
        match self.lines.recv_timeout(DEADLINE) {
            Ok(line) => Some(line),
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("no line within {DEADLINE:?}"),
        }
    }

    /// What it prints last.
    fn last_line(&self) -> Option<String> {
        std::iter::from_fn(|| self.line()).last()
    }

    /// Kills it at a random moment: after some of its transactions, or while it starts. Returns what it
    /// said last; `None` where its task or the process had ended before.
    fn kill(mut self, transactions: u32, random: &mut Random) -> Option<String> {
        let mut last = None;
        if random.below(4) > 0 {
            let count = 1 + random.below(transactions) as usize;
            last = std::iter::from_fn(|| self.line()).take(count).last();
        } else {
            std::thread::sleep(Duration::from_millis(random.below(1_000).into()));
        }
        // Within a transaction.
        std::thread::sleep(Duration::from_millis(random.below(40).into()));
        match self.process.child.try_wait().unwrap() {
            Some(ended) if ended.success() => None,
            Some(ended) => panic!("it failed after {last:?}: {ended}"),
            None if last.as_deref() == Some(ENDED) => None,
            None => Some(last.unwrap_or_else(|| "starts".to_owned())),
        }
    }
}

/// What a member prints when its task has ended.
const ENDED: &str = "ended Done";

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
        let last = tokio::task::spawn_blocking(move || member.last_line());
        assert_eq!(last.await.unwrap().as_deref(), Some(ENDED));
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
    // A transaction that is too slow is aborted too, without a kill.
    assert!(repeated <= WINDOW * (kills as usize + 10), "{repeated}");
    scene.await_state("killed", TaskState::Done).await;
    let state = scene.ops().read().await.unwrap();
    assert_eq!(
        state.handled(&scene.dead).ranges().count(),
        PARTITIONS as usize
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_executor_fences_the_first_and_nothing_is_copied_twice() {
    let kafka = kafka_or_skip!(Nodes::One);
    let scene = Scene::new(kafka).await;
    // One key: the turns are in the order of the origins. At this rate they take 200 s.
    scene.write(4_000, 1, |_| "exhausted").await;
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

    // The second one stops after some copies of its own.
    let second = loop {
        let stop = Arc::new(Notify::new());
        let (of_progress, begins_at) = (stop.clone(), AtomicU64::new(u64::MAX));
        let task = scene.task().on_progress(move |it| {
            let begins_at = begins_at.fetch_min(it.done, Ordering::Relaxed);
            if it.done.saturating_sub(begins_at) > 20 {
                of_progress.notify_one();
            }
        });
        let task = task.stop(async move { stop.notified().await });
        match task.resume("first").await {
            // It was too slow: the first one waited for it, and has taken the lock again.
            Err(RedriveTaskError::TakenOver) => {}
            ended => break ended.unwrap(),
        }
    };
    let error = first.await.unwrap().unwrap_err();
    // `Transaction`: it does not take the lock again for a second time.
    assert!(
        matches!(
            error,
            RedriveTaskError::TakenOver | RedriveTaskError::Transaction { .. }
        ),
        "{error}"
    );
    assert_eq!(second.state, TaskState::Running);
    // Readers may not see yet what the second one has committed last.
    scene.fence().await;
    scene.check_copies(0..second.progress.done as i64).await;
}

/// As the brokers do where a transaction is open for too long: they give its transactional id another
/// epoch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redrive_whose_lock_was_taken_away_goes_on_where_no_other_one_took_over() {
    let kafka = kafka_or_skip!(Nodes::One);
    let scene = Scene::new(kafka).await;
    scene.write(200, 5, |_| "exhausted").await;
    let copies = Arc::new(Notify::new());
    let of_progress = copies.clone();
    let (fenced, is_fenced) = mpsc::channel::<()>();
    let task = scene.task().id("first").window(20);
    let task = task.on_progress(move |it| {
        if it.done > 0 {
            of_progress.notify_one();
            // The sender is dropped then.
            let _ = is_fenced.recv_timeout(DEADLINE);
        }
    });
    let running = tokio::spawn(task.run());
    copies.notified().await;
    scene.fence().await;
    drop(fenced);
    let ended = running.await.unwrap().unwrap();
    assert_eq!(
        (ended.state, ended.progress.copied()),
        (TaskState::Done, 200)
    );
    scene.check_copies(0..200).await;
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
    // The turns are in the order of the origins.
    scene.check_copies((0..done as i64).chain(250..300)).await;

    // An operations topic that does not exist is created, and is compacted.
    let group = format!("{}-new", scene.group);
    let ops = OpsTopic::of(&group).bootstrap_servers(kafka.bootstrap_servers());
    wait_for("the new topic is readable", DEADLINE, async || {
        let resolved = ops.resolve(&scene.dead, [(0, 1..=1)], "ada", "").await;
        resolved.inspect_err(|error| eprintln!("{error}")).ok()
    })
    .await;
    let servers = kafka.bootstrap_servers().to_owned();
    let settings = move || {
        let (servers, none) = (servers.into(), keylane::config::KafkaSettings::new());
        let operator = keylane::operator::Operator::connect(&servers, &none, "any", DEADLINE);
        operator.unwrap().topic_settings(ops.name()).unwrap()
    };
    let settings = tokio::task::spawn_blocking(settings).await.unwrap();
    assert_eq!(settings["cleanup.policy"], "compact");

    let group = format!("{}-other", scene.group);
    let ops = OpsTopic::of(&group).bootstrap_servers(kafka.bootstrap_servers());
    kafka
        .create_topic(ops.name(), 1, 1, &[("cleanup.policy", "delete")])
        .await
        .unwrap();
    let resolved = ops.resolve(&scene.dead, [(0, 1..=1)], "ada", "").await;
    let error = resolved.unwrap_err().to_string();
    assert!(
        error.contains("--add-config cleanup.policy=compact"),
        "{error}"
    );
}

/// Otherwise they would be in two partitions, which no order is kept between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_grows_between_two_runs_gets_the_copies_of_a_key_in_one_partition() {
    let kafka = kafka_or_skip!(Nodes::One);
    let scene = Scene::new(kafka).await;
    // Of 3 partitions the origin 4 is 1, and of 7 it is 4. The keys of those without an origin move
    // likewise.
    let letters = (0..40).map(|number| {
        let mut letter = letter(number, number % 4, "fatal", &scene.retry, &scene.group);
        letter.partition = Some(0);
        let is_kept = |name: &str| number % 4 < 2 || !name.starts_with("keylane-origin-");
        letter.headers.retain(|(name, _)| is_kept(name));
        for (name, value) in &mut letter.headers {
            if name == "keylane-origin-partition" {
                *value = Some(b"4".into());
            }
        }
        letter
    });
    kafka.produce(&scene.dead, letters.collect()).await.unwrap();
    let stopped = scene.stopped("first", 20).await;
    assert_eq!(stopped.state, TaskState::Running);
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", kafka.bootstrap_servers())
        .create()
        .unwrap();
    let grown = [&NewPartitions::new(&scene.retry, 7)];
    let grown = admin.create_partitions(grown, &AdminOptions::new()).await;
    assert_eq!(grown.unwrap(), [Ok(scene.retry.clone())]);
    wait_for("the target has grown", DEADLINE, async || {
        let ends = kafka.end_offsets(&scene.retry).await.ok()?;
        (ends.len() == 7).then_some(())
    })
    .await;
    let ended = scene.task().resume("first").await.unwrap();
    assert_eq!(
        (ended.state, ended.progress.copied()),
        (TaskState::Done, 40)
    );
    let mut partitions = BTreeMap::<_, BTreeSet<i32>>::new();
    for copy in kafka.read_all(&scene.retry).await.unwrap() {
        let of_key = partitions.entry(copy.key.unwrap()).or_default();
        of_key.insert(copy.partition);
    }
    assert_eq!(partitions.len(), 4);
    assert!(
        partitions.values().all(|it| it.len() == 1),
        "{partitions:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_of_a_topic_that_was_re_created_are_none_that_were_redriven_before() {
    let kafka = kafka_or_skip!(Nodes::One);
    let scene = Scene::new(kafka).await;
    scene.write(20, 1, |_| "exhausted").await;
    let ops = scene.ops();
    let ended = scene.task().max(10).run().await.unwrap();
    assert_eq!(ended.progress.copied(), 10);
    scene.await_state(&ended.id, TaskState::Done).await;
    let resolve = ops.resolve(
        &scene.dead,
        (0..PARTITIONS).map(|it| (it, 15..=19)),
        "ada",
        "",
    );
    resolve.await.unwrap();
    let unfinished = scene.stopped("unfinished", 1).await;
    assert_eq!(unfinished.state, TaskState::Running);
    let expected = 15 + unfinished.progress.done;
    wait_for("what is handled is shown", DEADLINE, async || {
        let planned = scene.task().plan().await.unwrap();
        (planned.handled == expected).then_some(())
    })
    .await;

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

/// The letters of a topic, and of none of their copies the broker says at first what is wrong with it
/// alone.
struct Refusals {
    scene: Scene,
    targets: Vec<String>,
}

impl Refusals {
    const COUNT: i64 = 60;

    /// Letters to these topics by turns.
    async fn new(
        kafka: &'static Kafka,
        targets: &[(&str, (&str, &str))],
        change: impl Fn(i64, &mut NewRecord),
    ) -> Self {
        let scene = Scene::new(kafka).await;
        let mut topics = Vec::new();
        for (name, setting) in targets {
            let topic = kafka.unique(name);
            kafka.create_topic(&topic, 1, 1, &[*setting]).await.unwrap();
            topics.push(topic);
        }
        let letters = (0..Self::COUNT).map(|number| {
            let target = &topics[number as usize % topics.len()];
            let mut letter = letter(number, number, "exhausted", target, &scene.group);
            letter.partition = Some(0);
            change(number, &mut letter);
            letter
        });
        kafka.produce(&scene.dead, letters.collect()).await.unwrap();
        Self {
            scene,
            targets: topics,
        }
    }

    /// The task stops at the first of these letters, and passes over exactly these.
    async fn check(&self, refused: &[i64], task: impl Fn(&Scene) -> RedriveTask) {
        let Self { scene, targets } = self;
        let place = |number: i64| format!("{}-0@{number}", scene.dead);
        let error = task(scene).id("stops").run().await.unwrap_err();
        assert!(
            matches!(&error, RedriveTaskError::Refused { place: it, .. } if *it == place(refused[0])),
            "{error}"
        );
        scene.await_state("stops", TaskState::Failed).await;

        let task = task(scene).on_refused(OnRefused::Skip);
        let ended = task.run().await.unwrap();
        assert_eq!(ended.state, TaskState::Done);
        let examples = ended.refused.examples;
        assert_eq!(examples.len(), refused.len(), "{examples:?}");
        for (example, number) in examples.iter().zip(refused) {
            assert!(example.starts_with(&place(*number)), "{example}");
        }
        let mut copied = BTreeSet::new();
        for topic in targets {
            for copy in scene.kafka.read_all(topic).await.unwrap() {
                assert!(copied.insert(origin(&copy)), "{copy:?}");
            }
        }
        assert_eq!(copied.len() + refused.len(), Self::COUNT as usize);
    }
}

const COMPACTED: (&str, (&str, &str)) = ("compacted", ("cleanup.policy", "compact"));
const SMALL: (&str, (&str, &str)) = ("small", ("max.message.bytes", "30000"));

/// It does not become smaller by compression.
fn large() -> Option<Vec<u8>> {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new();
    Some((0..50_000).map(|at| random.hash_one(at) as u8).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_batch_that_the_broker_refuses_only_the_letters_to_blame_are_passed_over() {
    let kafka = kafka_or_skip!(Nodes::One);
    // Of the others of a batch the broker says that they were in it.
    let invalid = Refusals::new(kafka, &[COMPACTED], |number, letter| {
        if [33, 47].contains(&number) {
            letter.key = None;
        }
    });
    let task = |scene: &Scene| scene.task();
    invalid.await.check(&[33, 47], task).await;
    // The whole batch is refused, and what goes to the other topic is not sent any more.
    let both = Refusals::new(kafka, &[COMPACTED, SMALL], |number, letter| match number {
        31 => letter.value = large(),
        34 => letter.key = None,
        _ => {}
    });
    both.await.check(&[31, 34], task).await;
    // The client itself refuses it, when others are on their way.
    let of_client = Refusals::new(kafka, &[COMPACTED], |number, letter| {
        if number == 30 {
            letter.value = large();
        }
    });
    let limited = |scene: &Scene| scene.task().kafka("message.max.bytes", "40000");
    of_client.await.check(&[30], limited).await;
}
