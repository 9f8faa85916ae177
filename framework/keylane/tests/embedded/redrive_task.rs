//! Redrives as tasks. The embedded broker has no transactions: what is in an aborted one is seen.
//! What only transactions can show is tested on a real Kafka.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use super::common::{self, PATIENCE};
use bytes::Bytes;
use keylane::config::{Backoff, Exhausted, FailureReason};
use keylane::dead_letter::{Filter, StoredLetter};
use keylane::redrive::ops::{OnRefused, OpsTopic, TaskState};
use keylane::redrive::{Canary, Edit, Ended, MergePatch, Redrive, RedriveTask, RedriveTaskError};
use keylane::{DeadLetter, NewTask, Raw, Retry, Subscription, Task, TaskError};
use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

const PARTITIONS: i32 = 2;
const OPS: &str = "billing-keylane-ops";

/// A dead-letter topic of a group, with its retry topic.
struct Scene {
    broker: EmbeddedBroker,
}

/// A copy on the retry topic: its value, and headers as text.
#[derive(Debug)]
struct Copied {
    partition: i32,
    value: String,
    headers: Vec<(String, String)>,
}

impl Copied {
    fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(it, _)| it == name);
        found.map(|(_, value)| &**value)
    }
}

fn letter(number: i64, partition: i32) -> NewTask {
    NewTask::new(format!("{{\"number\":{number}}}"))
        .key(format!("key-{}", number % 3))
        .partition(partition)
        .header("keylane-origin-topic", "tasks")
        .header("keylane-origin-partition", "1")
        .header("keylane-origin-offset", number.to_string())
        .header("keylane-group", "billing")
        .header("keylane-reason", "exhausted")
        .header("keylane-error", format!("order {number} refused"))
        .header("keylane-retry-topic", "tasks-retry")
}

impl Scene {
    async fn with(letters: impl IntoIterator<Item = NewTask>) -> Self {
        let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
        for topic in ["dead", "tasks-retry"] {
            broker.create_topic(topic, PARTITIONS).unwrap();
        }
        broker.create_topic(OPS, 1).unwrap();
        let scene = Self { broker };
        scene.write(letters).await;
        scene
    }

    async fn write(&self, letters: impl IntoIterator<Item = NewTask>) {
        let producer = common::producer(self.broker.bootstrap_servers(), "dead").await;
        let letters: Vec<_> = letters.into_iter().collect();
        let written = producer.enqueue_all(letters).await;
        assert!(written.iter().all(Result::is_ok));
        producer.close(PATIENCE).await.unwrap();
    }

    /// A record of the operations topic.
    async fn say(&self, key: &str, value: &str) {
        let producer = common::producer(self.broker.bootstrap_servers(), OPS).await;
        let record = NewTask::new(value.to_owned()).key(key.to_owned());
        producer.enqueue(record).await.unwrap();
        producer.close(PATIENCE).await.unwrap();
    }

    fn task(&self) -> RedriveTask {
        RedriveTask::of("dead")
            .bootstrap_servers(self.broker.bootstrap_servers())
            .patience(PATIENCE)
            .by("ada")
    }

    fn ops(&self) -> OpsTopic {
        OpsTopic::of("billing").bootstrap_servers(self.broker.bootstrap_servers())
    }

    /// What is on the retry topic, by partition and offset.
    async fn copies(&self) -> Vec<Copied> {
        let servers = self.broker.bootstrap_servers().to_owned();
        let read = move || {
            let consumer: BaseConsumer = ClientConfig::new()
                .set("bootstrap.servers", servers)
                .set("group.id", "reader")
                .set("enable.auto.commit", "false")
                .set("enable.partition.eof", "true")
                .create()
                .unwrap();
            let mut list = TopicPartitionList::new();
            for partition in 0..PARTITIONS {
                list.add_partition_offset("tasks-retry", partition, Offset::Beginning)
                    .unwrap();
            }
            consumer.assign(&list).unwrap();
            let (mut copies, mut ends) = (Vec::new(), 0);
            while ends < PARTITIONS {
                match consumer.poll(PATIENCE).expect("the end is not reached") {
                    Err(KafkaError::PartitionEOF(_)) => ends += 1,
                    Err(error) => panic!("{error}"),
                    Ok(message) => {
                        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                        let headers = message.headers().map_or_else(Vec::new, |headers| {
                            let all = headers.iter();
                            all.map(|it| (it.key.to_owned(), text(it.value.unwrap_or_default())))
                                .collect()
                        });
                        copies.push(Copied {
                            partition: message.partition(),
                            value: text(message.payload().unwrap_or_default()),
                            headers,
                        });
                    }
                }
            }
            copies
        };
        tokio::task::spawn_blocking(read).await.unwrap()
    }

    async fn values(&self) -> Vec<String> {
        self.copies().await.into_iter().map(|it| it.value).collect()
    }
}

fn numbers(numbers: impl IntoIterator<Item = i64>) -> Vec<String> {
    let value = |number| format!("{{\"number\":{number}}}");
    numbers.into_iter().map(value).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_matches_is_copied_once_in_the_order_of_its_keys_and_recorded() {
    // Given up in another order than they were written, in two partitions.
    let mut letters: Vec<_> = (0..60)
        .rev()
        .map(|it| letter(it, (it % 2) as i32))
        .collect();
    letters.push(letter(100, 0).header("keylane-reason", "fatal"));
    letters.push(letter(101, 0).header("keylane-redrive-count", "3"));
    letters.push(NewTask::new("no letter").partition(0));
    let scene = Scene::with(letters).await;
    let filter = || Filter::parse(["reason=exhausted"]).unwrap();

    let planned = scene.task().filter(filter()).plan().await.unwrap();
    assert_eq!(
        (planned.matched, planned.turns, planned.handled),
        (61, 60, 0)
    );
    assert_eq!(planned.refused["too-often"].count, 1);
    assert!(planned.refused["too-often"].examples[0].contains("dead-0@"));
    assert_eq!(
        (planned.group.as_str(), planned.not_letters),
        ("billing", 1)
    );
    assert_eq!(planned.targets["tasks-retry"], 60);
    assert_eq!(
        planned.fingerprints[0].0.text(),
        "exhausted: order <n> refused"
    );
    assert!(!planned.for_every_group && planned.unfinished.is_none());
    assert!(scene.copies().await.is_empty(), "nothing is written");

    let seen = Arc::<Mutex<Vec<u64>>>::default();
    let of_progress = seen.clone();
    let ended = scene
        .task()
        .filter(filter())
        .id("first")
        .window(7)
        .on_progress(move |it| of_progress.lock().unwrap().push(it.done))
        .run()
        .await
        .unwrap();
    assert_eq!(
        (ended.state, ended.progress.copied()),
        (TaskState::Done, 60)
    );
    assert_eq!((ended.counts.guard, ended.counts.refused), (1, 0));
    let steps = seen.lock().unwrap().clone();
    assert!(
        steps
            .windows(2)
            .all(|it| it[0] <= it[1] && it[1] <= it[0] + 7),
        "{steps:?}"
    );

    let copies = scene.copies().await;
    assert_eq!(copies.len(), 60);
    for key in 0..3 {
        let of_key = copies.iter().filter(|it| {
            let origin: i64 = it.header("keylane-origin-offset").unwrap().parse().unwrap();
            origin % 3 == key
        });
        let values: Vec<_> = of_key.map(|it| it.value.clone()).collect();
        assert_eq!(values, numbers((0..60).filter(|it| it % 3 == key)));
    }
    assert!(copies.iter().all(|it| it.partition == 1), "the origin's");
    let id = copies[0].header("keylane-redrive-id").unwrap();
    assert!(id.starts_with("first/dead/"), "{id}");

    let state = scene.ops().read().await.unwrap();
    let task = state.task("first").unwrap();
    assert_eq!(
        (&*task.record.who, task.record.state),
        ("ada", TaskState::Done)
    );
    assert_eq!(task.record.filter, "reason=exhausted");
    assert_eq!(task.progress.map(|it| it.done), Some(60));
    let handled = state.handled("dead");
    assert!(handled.contains(0, 0) && handled.contains(1, 29));
    assert_eq!(handled.ranges().count(), 2, "{handled:?}");

    // The same again finds nothing that is open; one letter more is copied alone.
    scene.write([letter(200, 1)]).await;
    let again = scene.task().filter(filter()).run().await.unwrap();
    assert_eq!((again.counts.handled, again.progress.copied()), (60, 1));
    let all = scene
        .task()
        .filter(filter())
        .again()
        .max(5)
        .run()
        .await
        .unwrap();
    assert_eq!((all.counts.turns, all.progress.copied()), (61, 5));
    assert_eq!(scene.copies().await.len(), 66);
}

/// A task that is stopped after its first transaction. It does not go on before the stop arrives.
async fn stopped(task: RedriveTask) -> Ended {
    let [stop, passes] = [(); 2].map(|()| Arc::new(tokio::sync::Notify::new()));
    let (of_progress, passed) = (stop.clone(), passes.clone());
    let (arrives, arrived) = mpsc::channel::<()>();
    let task = task.on_progress(move |it| {
        if it.done > 0 {
            of_progress.notify_one();
            let _ = arrived.recv_timeout(PATIENCE);
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_was_stopped_is_resumed_and_another_one_is_refused_until_it_takes_over() {
    let scene = Scene::with((0..20).map(|it| letter(it, 0))).await;
    let first = stopped(scene.task().id("first").window(3)).await;
    assert_eq!(first.state, TaskState::Running);
    assert!((1..20).contains(&first.progress.done), "{first:?}");

    let error = scene.task().id("second").run().await.unwrap_err();
    let unfinished = RedriveTaskError::Unfinished {
        id: "first".to_owned(),
        who: "ada".to_owned(),
    };
    assert_eq!(error, unfinished);
    let planned = scene.task().plan().await.unwrap();
    assert_eq!(planned.unfinished.as_deref(), Some("first"));
    let resume = |id: &'static str| scene.task().by("bob").group("billing").resume(id);
    let error = resume("unheard-of").await.unwrap_err();
    assert!(
        matches!(error, RedriveTaskError::NoSuchTask { .. }),
        "{error}"
    );

    let ended = resume("first").await.unwrap();
    assert_eq!(
        (ended.state, ended.progress.copied()),
        (TaskState::Done, 20)
    );
    let state = scene.ops().read().await.unwrap();
    let resumes = &state.task("first").unwrap().record.resumes;
    let who: Vec<_> = resumes.iter().map(|it| &*it.who).collect();
    assert_eq!(who, ["bob"]);
    assert_eq!(scene.values().await, numbers(0..20), "each once, in order");
    let error = resume("first").await.unwrap_err();
    assert!(
        matches!(error, RedriveTaskError::AlreadyEnded { .. }),
        "{error}"
    );
    let error = scene.task().id("first").run().await.unwrap_err();
    assert!(matches!(error, RedriveTaskError::IdTaken { .. }), "{error}");

    scene.write((20..40).map(|it| letter(it, 0))).await;
    stopped(scene.task().id("third").window(3)).await;
    let fourth = scene.task().id("fourth").take_over().run().await.unwrap();
    assert_eq!(fourth.state, TaskState::Done);
    assert_eq!(
        scene.values().await,
        numbers(0..40),
        "what the third copied is left out"
    );
    let state = scene.ops().read().await.unwrap();
    let third = state.task("third").unwrap().record;
    assert_eq!(third.state, TaskState::Failed);
    assert!(
        third.reason.as_deref().unwrap().contains("fourth"),
        "{third:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_is_cancelled_by_the_operations_topic_and_letters_are_resolved_there() {
    let scene = Scene::with((0..10_000).map(|it| letter(it, 0))).await;
    let begun = Arc::new(AtomicBool::new(false));
    let of_progress = begun.clone();
    let task = scene.task().id("long").rate(10);
    let task = task.on_progress(move |it| of_progress.store(it.done > 0, Ordering::Relaxed));
    let running = tokio::spawn(task.run());
    common::eventually("it copies", || begun.load(Ordering::Relaxed)).await;
    scene
        .ops()
        .cancel("long", "grace", "wrong filter")
        .await
        .unwrap();
    let ended = running.await.unwrap().unwrap();
    assert_eq!(ended.state, TaskState::Cancelled);
    assert_eq!(ended.reason.as_deref(), Some("by grace: wrong filter"));
    assert!(ended.progress.done < 10_000);
    let error = scene.ops().cancel("long", "grace", "").await.unwrap_err();
    assert!(
        matches!(error, RedriveTaskError::AlreadyEnded { .. }),
        "{error}"
    );

    let ops = scene.ops();
    let resolve = ops.resolve(
        "dead",
        [(0, 5100..=5199), (0, 5300..=5300)],
        "ada",
        "refunded",
    );
    resolve.await.unwrap();
    scene
        .ops()
        .unresolve("dead", [(0, 5150..=5159)], "ada", "not these")
        .await
        .unwrap();
    let handled = scene.ops().read().await.unwrap().handled("dead");
    let in_it =
        [99, 100, 149, 150, 159, 160, 199, 200, 300].map(|it| handled.contains(0, 5000 + it));
    assert_eq!(
        in_it,
        [false, true, true, false, false, true, true, false, true]
    );
    let planned = scene.task().plan().await.unwrap();
    assert_eq!(planned.handled, ended.progress.done + 91);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_to_end_counts_though_its_process_is_gone_or_it_cannot_be_read() {
    let scene = Scene::with((0..2_000).map(|it| letter(it, 0))).await;
    let first = stopped(scene.task().id("first").rate(4)).await;
    assert_eq!(first.state, TaskState::Running);
    scene.ops().cancel("first", "grace", "no").await.unwrap();
    let second = stopped(scene.task().id("second").rate(4)).await;
    assert_eq!(second.state, TaskState::Running, "it has begun");
    let state = scene.ops().read().await.unwrap();
    let first = state.task("first").unwrap().record;
    assert_eq!(first.state, TaskState::Cancelled);
    assert_eq!(first.reason.as_deref(), Some("by grace: no"));

    let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
    let task = scene.task().group("billing").on_progress(move |_| {
        let _ = begun.send(());
    });
    let running = tokio::spawn(task.resume("second"));
    begins.recv().await.unwrap();
    scene.say("task/second/cancel", r#"{"v":2}"#).await;
    let ended = running.await.unwrap().unwrap();
    assert_eq!(ended.state, TaskState::Cancelled);
    assert!(ended.reason.unwrap().starts_with("by unknown"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_are_not_copied_while_it_is_not_known_which_were_copied_before() {
    let scene = Scene::with((0..5).map(|it| letter(it, 0))).await;
    let ended = scene.task().id("first").max(3).run().await.unwrap();
    assert_eq!(ended.progress.copied(), 3);
    scene.say("task/first/order/0", "\u{1}damaged").await;
    for error in [
        scene.task().plan().await.unwrap_err(),
        scene.task().run().await.unwrap_err(),
    ] {
        assert!(
            matches!(&error, RedriveTaskError::HandledUnknown { reason, .. } if reason.contains("first")),
            "{error}"
        );
    }
    assert_eq!(scene.copies().await.len(), 3);
    let ended = scene.task().again().run().await.unwrap();
    assert_eq!(ended.progress.copied(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_no_copy_needs_may_be_gone() {
    let old = letter(0, 0).header("keylane-retry-topic", "old-retry");
    let scene = Scene::with([old, letter(1, 0)]).await;
    let error = scene.task().run().await.unwrap_err();
    assert!(error.to_string().contains("old-retry"), "{error}");
    let ops = scene.ops();
    ops.resolve("dead", [(0, 0..=0)], "ada", "it is old")
        .await
        .unwrap();
    let planned = scene.task().plan().await.unwrap();
    let targets: Vec<_> = planned.targets.into_iter().collect();
    assert_eq!(targets, [("tasks-retry".to_owned(), 1)]);
    let ended = scene.task().run().await.unwrap();
    assert_eq!((ended.counts.handled, ended.progress.copied()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_has_all_its_copies_may_be_gone_when_a_task_is_resumed() {
    let old = (0..5).map(|it| letter(it, 0).header("keylane-retry-topic", "old-retry"));
    let scene = Scene::with(old.chain((5..10).map(|it| letter(it, 0)))).await;
    scene.broker.create_topic("old-retry", 1).unwrap();
    let stopped = stopped(scene.task().id("first").window(5)).await;
    assert_eq!(
        (stopped.state, stopped.progress.done),
        (TaskState::Running, 5)
    );
    let answers = |topic: &str, error| scene.broker.cluster().topic_error(topic, error).unwrap();
    let missing = RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    answers("old-retry", missing);
    answers("tasks-retry", missing);
    let resume = || scene.task().group("billing").resume("first");
    let error = resume().await.unwrap_err().to_string();
    assert!(error.contains("tasks-retry cannot be used"), "{error}");
    answers("tasks-retry", RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR);
    let ended = resume().await.unwrap();
    assert_eq!(
        (ended.state, ended.progress.copied()),
        (TaskState::Done, 10)
    );
    assert_eq!(scene.values().await, numbers(5..10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_targets_and_ids_that_do_not_fit_are_errors_that_name_the_fix() {
    let other = |name: &'static str| letter(1, 0).header("keylane-group", name);
    let scene = Scene::with([letter(0, 0), other("shipping")]).await;
    let error = scene.task().plan().await.unwrap_err();
    let groups = vec!["billing".to_owned(), "shipping".to_owned()];
    assert_eq!(error, RedriveTaskError::SeveralGroups { groups });
    let planned = scene.task().group("billing").plan().await.unwrap();
    assert_eq!((planned.matched, planned.of_other_groups), (1, 1));

    let to = |topic: &str| Redrive::default().to_topic(topic);
    let task = || scene.task().group("billing");
    let error = task().redrive(to("nowhere")).run().await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("nowhere cannot be used: it does not exist"),
        "{error}"
    );
    let state = scene.ops().read().await.unwrap();
    assert_eq!(state.tasks().count(), 0, "nothing was begun");

    let none = Filter::parse(["reason=unheard-of"]).unwrap();
    let error = scene.task().filter(none.clone()).run().await.unwrap_err();
    assert_eq!(error, RedriveTaskError::NoGroup);
    let ended = task().filter(none).run().await.unwrap();
    assert_eq!((ended.state, ended.progress.turns), (TaskState::Done, 0));
    let state = scene.ops().read().await.unwrap();
    assert_eq!(state.tasks().count(), 0, "one without letters leaves none");
    for own in ["dead", OPS] {
        for error in [
            task().redrive(to(own)).plan().await.unwrap_err(),
            task().redrive(to(own)).run().await.unwrap_err(),
        ] {
            assert!(error.to_string().contains("name another one"), "{error}");
        }
    }
    let planned = task().redrive(to("tasks-retry")).plan().await.unwrap();
    assert!(planned.for_every_group);

    let error = task().ops_topic("no topic").plan().await.unwrap_err();
    assert!(error.to_string().contains("name another one"), "{error}");
    scene
        .say("task/later", r#"{"v":2,"how":"unheard of"}"#)
        .await;
    for error in [
        task().plan().await.unwrap_err(),
        task().run().await.unwrap_err(),
    ] {
        let text = "has records of a newer version of keylane, such as task/later";
        assert!(error.to_string().contains(text), "{error}");
    }
    assert!(scene.copies().await.is_empty());
}

/// Refuses every fifth letter.
struct Picky;

impl Edit for Picky {
    fn text(&self) -> String {
        "picky".to_owned()
    }

    fn edit(&mut self, letter: &StoredLetter) -> Result<Option<Bytes>, String> {
        match letter.offset() % 5 {
            3 => Err("it is the third".to_owned()),
            4 => Ok(None),
            _ => Ok(Some(Bytes::from_static(b"{}"))),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_changes_copies_and_one_that_fails_ends_the_task_or_is_passed_over() {
    let scene = Scene::with((0..10).map(|it| letter(it, 0))).await;
    let error = scene
        .task()
        .id("stops")
        .edit(Picky)
        .run()
        .await
        .unwrap_err();
    let RedriveTaskError::Refused { place, reason, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(
        (&**place, &**reason),
        ("dead-0@3", "the edit failed: it is the third")
    );
    assert_eq!(scene.copies().await.len(), 3, "those before it");
    let state = scene.ops().read().await.unwrap();
    assert_eq!(state.task("stops").unwrap().record.state, TaskState::Failed);

    let task = scene
        .task()
        .id("skips")
        .edit(Picky)
        .on_refused(OnRefused::Skip);
    let ended = task.run().await.unwrap();
    assert_eq!((ended.progress.copied(), ended.progress.refused), (5, 2));
    assert_eq!(
        ended.refused.examples[1],
        "dead-0@8: the edit failed: it is the third"
    );
    let copies = scene.copies().await;
    let edited = copies.iter().filter(|it| it.value == "{}");
    assert!(
        edited
            .clone()
            .all(|it| it.header("keylane-edited-from").unwrap().len() == 64)
    );
    assert_eq!((edited.count(), copies.len()), (6, 8));
    let handled = scene.ops().read().await.unwrap().handled("dead");
    assert!(
        !handled.contains(0, 3) && handled.contains(0, 4),
        "what was passed over is open"
    );

    let patch = MergePatch::parse(r#"{"mended":true}"#).unwrap();
    let ended = scene.task().edit(patch).run().await.unwrap();
    assert_eq!(ended.progress.copied(), 2);
    let last = scene.copies().await.pop().unwrap();
    assert_eq!(last.value, r#"{"number":8,"mended":true}"#);
}

/// Refuses all letters but the last ones, with very long reasons.
struct Verbose;

impl Edit for Verbose {
    fn text(&self) -> String {
        "verbose".to_owned()
    }

    fn edit(&mut self, letter: &StoredLetter) -> Result<Option<Bytes>, String> {
        match letter.offset() {
            1_500.. => Ok(None),
            _ => Err("no".repeat(10_000)),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_number_of_neighbours_is_passed_over_and_what_is_stored_of_a_reason_is_bounded() {
    let scene = Scene::with((0..1_510).map(|it| letter(it, 0))).await;
    let task = || scene.task().edit(Verbose);
    let error = task().id("stops").run().await.unwrap_err();
    assert!(error.to_string().len() < 5_000, "{error}");
    let state = scene.ops().read().await.unwrap();
    let reason = state.task("stops").unwrap().record.reason.clone().unwrap();
    assert!(reason.len() < 5_000, "{}", reason.len());
    let ended = task().on_refused(OnRefused::Skip).run().await.unwrap();
    assert_eq!(
        (ended.progress.copied(), ended.progress.refused),
        (10, 1_500)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_the_client_refuses_is_found_among_its_batch() {
    let scene = Scene::with((0..30).map(|it| letter(it, 0))).await;
    let large = letter(30, 0).header("filler", vec![b'x'; 20_000]);
    scene.write([large]).await;
    scene.write((31..40).map(|it| letter(it, 0))).await;
    let task = || scene.task().kafka("message.max.bytes", "10000");
    let error = task().id("stops").run().await.unwrap_err();
    assert!(
        matches!(&error, RedriveTaskError::Refused { place, .. } if place == "dead-0@30"),
        "{error}"
    );
    let ended = task().on_refused(OnRefused::Skip).run().await.unwrap();
    assert_eq!((ended.progress.refused, ended.progress.copied()), (1, 9));
}

/// The group that gave the letters up, mended for most of them.
async fn mended(
    scene: &Scene,
    fails: impl Fn(&str) -> bool + Clone + Send + Sync + 'static,
) -> Subscription {
    scene.broker.create_topic("tasks", PARTITIONS).unwrap();
    let retry = Retry::none()
        .then_topic()
        .topic_rounds(1)
        .topic_backoff(Backoff::fixed(Duration::from_millis(20)))
        // Some always fail, which looks like an outage.
        .on(FailureReason::Exhausted, Exhausted::DeadLetter);
    let process = move |task: Task<Bytes>| {
        let fails = fails(std::str::from_utf8(task.payload()).unwrap());
        async move {
            match fails {
                true => Err(TaskError::retryable("still broken")),
                false => Ok(()),
            }
        }
    };
    Subscription::builder("billing", "tasks")
        .bootstrap_servers(scene.broker.bootstrap_servers())
        .kafka_settings(EmbeddedBroker::client_settings())
        .kafka("session.timeout.ms", "6000")
        .commit_interval(Duration::from_millis(50))
        .retry(retry)
        .dead_letter(DeadLetter::topic("dead"))
        .start(Raw, process)
        .await
        .unwrap()
}

const CANARY: Canary = Canary {
    copies: 10,
    percent: 80,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_others_follow_a_canary_that_succeeds_and_wait_until_it_is_known() {
    let scene = Scene::with((0..30).map(|it| letter(it, 0))).await;
    let waits = Arc::new(AtomicBool::new(false));
    let of_progress = waits.clone();
    // Those that are passed over show nothing: others take their place.
    let task = scene.task().edit(Picky).on_refused(OnRefused::Skip);
    let task = task.id("first").canary(CANARY);
    let task = task.on_progress(move |it| of_progress.store(it.awaits_canary, Ordering::Relaxed));
    let running = tokio::spawn(task.run());
    common::eventually("it waits", || waits.load(Ordering::Relaxed)).await;
    assert_eq!(scene.copies().await.len(), 10, "no member processes them");
    // The group's coordinator is lost for some looks.
    let lost = RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE;
    scene.broker.remember_requests();
    let cluster = scene.broker.cluster();
    cluster.request_errors(RDKafkaApiKey::OffsetFetch, &[lost; 3]);
    common::eventually("it has looked", || {
        scene.broker.requests(RDKafkaApiKey::OffsetFetch) >= 3
    })
    .await;

    // Two of the first ten fail again.
    let group = mended(&scene, |value| {
        value.contains(":4}") || value.contains(":9}")
    })
    .await;
    let ended = running.await.unwrap().unwrap();
    assert_eq!(
        (ended.state, ended.progress.copied()),
        (TaskState::Done, 24)
    );
    group.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_of_which_too_many_fail_again_ends_the_task() {
    let scene = Scene::with((0..30).map(|it| letter(it, 0))).await;
    let group = mended(&scene, |value| {
        [":1}", ":4}", ":9}"].iter().any(|it| value.ends_with(it))
    })
    .await;
    let ended = scene.task().id("first").canary(CANARY).run().await.unwrap();
    assert_eq!(
        (ended.state, ended.progress.copied()),
        (TaskState::CanaryFailed, 10)
    );
    let reason = ended.reason.unwrap();
    assert!(reason.contains("3 failed"), "{reason}");
    let state = scene.ops().read().await.unwrap();
    assert_eq!(
        state.task("first").unwrap().record.state,
        TaskState::CanaryFailed
    );
    // What was not copied is open, and so are the new letters.
    let planned = scene.task().plan().await.unwrap();
    assert_eq!((planned.turns, planned.handled), (23, 10));
    group.shutdown().await.unwrap();
}
