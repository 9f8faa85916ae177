//! Orders by the control topic: what they stop, and when.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use super::common::{PATIENCE, eventually, producer};
use keylane::config::{Backoff, ControlTopic, KafkaSettings, Limits};
use keylane::control::Commander;
use keylane::error::StartError;
use keylane::record::KeyHash;
use keylane::status::{PausedBy, Trouble, TroubleKind};
use keylane::{Json, NewTask, Retry, Subscription, Task, TaskError};
use keylane_core::control::{ControlKey, Order, PauseScope};
use keylane_core::{Offset, Position};
use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

const CONTROL: &str = "group-keylane-control";

/// The attempts of each partition, over all members.
type Attempts = Arc<Mutex<BTreeMap<i32, usize>>>;

fn of(attempts: &Attempts, partition: i32) -> usize {
    let attempts = attempts.lock().unwrap();
    attempts.get(&partition).copied().unwrap_or(0)
}

fn broker(partitions: i32) -> EmbeddedBroker {
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
    broker.create_topic("tasks", partitions).unwrap();
    broker.create_topic(CONTROL, 1).unwrap();
    broker
}

async fn start(broker: &EmbeddedBroker, attempts: &Attempts) -> Result<Subscription, StartError> {
    start_with(broker, attempts, "6000").await
}

/// The group's only member, which never starts again: the broker takes nearly as long as a session
/// for each rebalance after the first.
async fn start_alone(broker: &EmbeddedBroker, attempts: &Attempts) -> Subscription {
    start_with(broker, attempts, "30000").await.unwrap()
}

async fn start_with(
    broker: &EmbeddedBroker,
    attempts: &Attempts,
    session_ms: &str,
) -> Result<Subscription, StartError> {
    start_within(broker, attempts, session_ms, Limits::default()).await
}

async fn start_within(
    broker: &EmbeddedBroker,
    attempts: &Attempts,
    session_ms: &str,
    limits: Limits,
) -> Result<Subscription, StartError> {
    let attempts = attempts.clone();
    Subscription::builder("group", "tasks")
        .bootstrap_servers(broker.bootstrap_servers())
        .kafka_settings(EmbeddedBroker::client_settings())
        // A member that gets no CPU for a while is not to be thrown out: nothing may come twice.
        .kafka("session.timeout.ms", session_ms)
        .control_topic(ControlTopic::default())
        .commit_interval(Duration::from_millis(50))
        .limits(limits)
        .start(Json, move |task: Task<u32>| {
            *attempts
                .lock()
                .unwrap()
                .entry(task.partition())
                .or_default() += 1;
            async { Ok::<(), TaskError>(()) }
        })
        .await
}

/// Without a look at the topic.
async fn write_blindly(broker: &EmbeddedBroker, key: ControlKey) {
    let control = producer(broker.bootstrap_servers(), CONTROL).await;
    let order = NewTask::new(r#"{"v": 1, "by": "ann"}"#).key(key.to_string());
    assert!(control.enqueue(order).await.is_ok());
    control.close(PATIENCE).await.unwrap();
}

async fn write(broker: &EmbeddedBroker, key: ControlKey, order: Option<Order>) {
    let servers = broker.bootstrap_servers().into();
    let write = move || {
        let kafka = KafkaSettings::new();
        let commander = Commander::connect(&servers, &kafka, "group", None, PATIENCE);
        commander.unwrap().write(&key, order.as_ref()).unwrap();
    };
    tokio::task::spawn_blocking(write).await.unwrap();
}

fn order(why: &str) -> Option<Order> {
    Some(Order {
        by: "ann".to_owned(),
        why: why.to_owned(),
        ..Order::default()
    })
}

fn pause(scope: PauseScope) -> ControlKey {
    ControlKey::Pause(scope)
}

fn partition(number: i32) -> ControlKey {
    pause(PauseScope::Partition("tasks".to_owned(), number))
}

async fn enqueue(broker: &EmbeddedBroker, records: u32, partitions: i32) {
    let producer = producer(broker.bootstrap_servers(), "tasks").await;
    let tasks = (0..records).map(|number| {
        let task = NewTask::json(&number).unwrap().key(number.to_string());
        task.partition(number as i32 % partitions)
    });
    let written = producer.enqueue_all(tasks).await;
    assert!(written.iter().all(Result::is_ok));
    producer.close(PATIENCE).await.unwrap();
}

/// A limit of pending bytes that one [large](enqueue_large) record reaches.
const FEW_BYTES: usize = 2_000;

async fn enqueue_large(broker: &EmbeddedBroker, partition: i32) {
    let producer = producer(broker.bootstrap_servers(), "tasks").await;
    let padded = format!("{}1", " ".repeat(FEW_BYTES));
    let task = NewTask::new(padded).key("large").partition(partition);
    assert!(producer.enqueue(task).await.is_ok());
    producer.close(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_does_not_start_without_its_control_topic_and_says_how_to_create_it() {
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
    broker.create_topic("tasks", 1).unwrap();
    let error = start(&broker, &Attempts::default()).await.unwrap_err();
    let text = error.to_string();
    for part in [
        "control topic `group-keylane-control`",
        "keylane control create group`",
        "--config cleanup.policy=compact",
    ] {
        assert!(text.contains(part), "{text}");
    }
    broker.create_topic(CONTROL, 2).unwrap();
    let text = start(&broker, &Attempts::default()).await.unwrap_err();
    assert!(text.to_string().contains("has 2 partitions"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_paused_before_the_start_is_never_attempted_and_goes_on_when_it_is_resumed() {
    let broker = broker(2);
    enqueue(&broker, 20, 2).await;
    write(&broker, pause(PauseScope::Subscription), order("all")).await;
    let attempts = Attempts::default();
    // The second time, the pause has survived a restart.
    for _ in 0..2 {
        let member = start(&broker, &attempts).await.unwrap();
        let is_paused = || {
            let partitions = member.status().partitions;
            partitions.len() == 2
                && partitions.iter().all(|it| {
                    let pause = it.paused_by_control.as_ref();
                    it.paused_by == Some(PausedBy::Control)
                        && it.paused_by_user
                        && it.lag_records == Some(10)
                        && pause.is_some_and(|it| it.by == "ann" && it.why == "all")
                })
        };
        eventually("both are paused, and their lag is known", is_paused).await;
        assert!(attempts.lock().unwrap().is_empty());
        eventually("the topic was read", || {
            let control = member.status().control;
            control.is_some_and(|it| (it.revision, it.readable) == (1, true))
        })
        .await;
        member.shutdown().await.unwrap();
    }
    let member = start(&broker, &attempts).await.unwrap();
    write(&broker, pause(PauseScope::Subscription), None).await;
    eventually("all are done", || {
        (of(&attempts, 0), of(&attempts, 1)) == (10, 10)
    })
    .await;
    member.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_is_paused_alone_and_until_its_end() {
    let broker = broker(2);
    let attempts = Attempts::default();
    write(&broker, partition(1), order("it is ill")).await;
    let member = start_alone(&broker, &attempts).await;
    enqueue(&broker, 20, 2).await;
    eventually("the other one is done", || of(&attempts, 0) == 10).await;
    let lag = || {
        let partitions = member.status().partitions;
        partitions.get(1).and_then(|it| it.lag_records)
    };
    eventually("its lag is known", || lag() == Some(10)).await;
    // The end of a pause by the handle ends no other.
    member.handle().pause_partition("tasks", 1).unwrap();
    member.handle().resume_partition("tasks", 1).unwrap();
    assert_eq!(of(&attempts, 1), 0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let soon = now.unwrap() + Duration::from_secs(2);
    let ends = order("for a moment").map(|order| Order {
        until_millis: Some(soon.as_millis() as i64),
        ..order
    });
    write(&broker, partition(1), ends).await;
    eventually("the end is shown, or over", || {
        let partitions = member.status().partitions;
        let pause = partitions
            .get(1)
            .and_then(|it| it.paused_by_control.clone());
        pause.is_none_or(|it| it.until.is_some())
    })
    .await;
    eventually("it goes on by itself", || of(&attempts, 1) == 10).await;
    let over = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    assert!(over.unwrap() >= soon, "not before its end");
    member.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_version_is_refused_and_told_and_what_held_before_holds_on() {
    let broker = broker(1);
    let attempts = Attempts::default();
    write(&broker, partition(0), order("it is ill")).await;
    let member = start_alone(&broker, &attempts).await;
    let control = producer(broker.bootstrap_servers(), CONTROL).await;
    let newer = NewTask::new(r#"{"v": 2, "cheerfully": true}"#).key("pause/tasks/0");
    assert!(control.enqueue(newer).await.is_ok());
    let unknown = NewTask::new(r#"{"v": 1}"#).key("pace/tasks/0");
    let unknown = control.enqueue(unknown).await.unwrap();
    let names_both = |message: &str| {
        let parts = ["pause/tasks/0", "version 2"];
        parts.iter().all(|part| message.contains(part))
    };
    eventually("it is reported", || {
        let troubles = member.status().troubles;
        troubles
            .iter()
            .any(|it| it.kind == TroubleKind::ControlTopic && names_both(&it.message))
    })
    .await;
    enqueue(&broker, 5, 1).await;
    eventually("the revision is behind the unknown key", || {
        let status = member.status();
        status
            .control
            .is_some_and(|it| it.revision == unknown.offset + 1 && it.refused == 1)
            && status.partitions.iter().any(|it| it.lag_records == Some(5))
    })
    .await;
    assert_eq!(of(&attempts, 0), 0, "the first pause holds on");
    write(&broker, partition(0), None).await;
    eventually("it was taken back", || of(&attempts, 0) == 5).await;
    member.shutdown().await.unwrap();
    control.close(PATIENCE).await.unwrap();
}

/// Partitions that stay go on under what was last read; those that come wait, and nothing is read of
/// them: what waits would fill the limit of bytes that all have together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_topic_cannot_be_read_no_new_partition_starts() {
    let broker = broker(2);
    let attempts = Attempts::default();
    let few_bytes = Limits::default().pending_bytes(FEW_BYTES);
    let first = start_within(&broker, &attempts, "6000", few_bytes);
    let first = first.await.unwrap();
    let second = start(&broker, &attempts).await.unwrap();
    eventually("each has a partition", || {
        first.status().partitions.len() == 1 && second.status().partitions.len() == 1
    })
    .await;
    let own = first.status().partitions[0].partition;
    enqueue(&broker, 20, 2).await;
    eventually("both are done", || {
        (of(&attempts, 0), of(&attempts, 1)) == (10, 10)
    })
    .await;

    let refusals = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 10_000];
    broker
        .cluster()
        .request_errors(RDKafkaApiKey::ListOffsets, &refusals);
    let is_readable = || first.status().control.is_some_and(|it| it.readable);
    eventually("it is not readable", || !is_readable()).await;
    second.shutdown().await.unwrap();
    let waits = || {
        let partitions = first.status().partitions;
        let mut new = partitions.iter().filter(|it| it.partition != own);
        new.any(|it| it.paused_by == Some(PausedBy::Control) && it.paused_by_control.is_none())
    };
    eventually("the new one waits", waits).await;
    enqueue_large(&broker, 1 - own).await;
    let partition_of = |number: i32| {
        let partitions = first.status().partitions;
        partitions.into_iter().find(|it| it.partition == number)
    };
    eventually(
        "it is not read, or there is something to be seen of it",
        || {
            let new = partition_of(1 - own);
            new.is_some_and(|it| it.paused || it.snapshot.pending == 1)
        },
    )
    .await;
    enqueue(&broker, 20, 2).await;
    eventually("the one that stayed goes on", || of(&attempts, own) == 20).await;
    assert_eq!(of(&attempts, 1 - own), 10);
    let new = partition_of(1 - own).unwrap();
    assert!(new.paused && new.snapshot.pending == 0, "{new:?}");
    // Acknowledged before anything of the new one starts.
    write_blindly(&broker, partition(1 - own)).await;
    eventually("it is reported", || {
        let troubles = first.status().troubles;
        troubles
            .iter()
            .any(|it| it.kind == TroubleKind::ControlTopic)
    })
    .await;
    broker
        .cluster()
        .clear_request_errors(RDKafkaApiKey::ListOffsets);
    eventually("it is paused by what was written meanwhile", || {
        let partitions = first.status().partitions;
        is_readable()
            && partitions.iter().any(|it| {
                it.partition != own && it.paused_by_control.is_some() && it.paused_by_user
            })
    })
    .await;
    assert_eq!(of(&attempts, 1 - own), 10, "it never started");
    write(&broker, partition(1 - own), None).await;
    eventually("it is resumed", || of(&attempts, 1 - own) == 21).await;
    first.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_member_acknowledges_what_it_runs_and_takes_that_back_when_it_leaves() {
    let broker = broker(2);
    let attempts = Attempts::default();
    let servers = broker.bootstrap_servers().into();
    let kafka = KafkaSettings::new();
    let commander = Commander::connect(&servers, &kafka, "group", None, PATIENCE).unwrap();
    let applied = || {
        let found = commander.read().unwrap();
        let tally = found.acks.tally(found.directives.revision(), None, 0);
        assert!(found.acks.iter().all(|(_, ack)| {
            ack.group.as_deref() == Some("group") && ack.revision <= found.directives.revision()
        }));
        (tally.applied.len(), tally.behind.len())
    };
    let first = start(&broker, &attempts).await.unwrap();
    let second = start(&broker, &attempts).await.unwrap();
    eventually("both run what there is", || applied() == (2, 0)).await;
    write(&broker, partition(1), order("it is ill")).await;
    eventually("both run the pause", || {
        applied() == (2, 0) && commander.read().unwrap().directives.revision().get() > 0
    })
    .await;
    second.shutdown().await.unwrap();
    eventually("one is left", || applied() == (1, 0)).await;
    first.shutdown().await.unwrap();
    eventually("none is left", || applied() == (0, 0)).await;
}

/// One that was killed cannot take its acknowledgement back, and one that is live puts its own back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledgements_of_members_that_are_gone_go_and_those_of_live_ones_come_back() {
    let broker = broker(1);
    let control = producer(broker.bootstrap_servers(), CONTROL).await;
    let old = r#"{"v": 1, "revision": 0, "group": "group", "at": "2020-11-30T14:00:00Z"}"#;
    let killed = NewTask::new(old).key("ack/killed");
    assert!(control.enqueue(killed).await.is_ok());
    let member = start_alone(&broker, &Attempts::default()).await;
    let servers = broker.bootstrap_servers().into();
    let kafka = KafkaSettings::new();
    let commander = Commander::connect(&servers, &kafka, "group", None, PATIENCE).unwrap();
    let names = || {
        let found = commander.read().unwrap();
        let names = found.acks.iter().map(|(name, _)| name.to_owned());
        names.collect::<Vec<_>>()
    };
    eventually("the member's alone is left", || {
        let names = names();
        names.len() == 1 && names[0] != "killed"
    })
    .await;
    let own = ControlKey::Ack(names().remove(0));
    commander.write(&own, None).unwrap();
    eventually("the member has written it again", || {
        let found = commander.read().unwrap();
        found.acks.iter().count() == 1
    })
    .await;
    member.shutdown().await.unwrap();
    control.close(PATIENCE).await.unwrap();
}

/// As after a roll back: what held before is compacted away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_that_cannot_be_read_pauses_who_starts_and_is_no_applied_order() {
    let broker = broker(1);
    let attempts = Attempts::default();
    let control = producer(broker.bootstrap_servers(), CONTROL).await;
    let newer = NewTask::new(r#"{"v": 2}"#).key("pause/tasks/0");
    assert!(control.enqueue(newer).await.is_ok());
    enqueue(&broker, 5, 1).await;
    let member = start_alone(&broker, &attempts).await;
    eventually("it is paused", || {
        let partitions = member.status().partitions;
        partitions
            .iter()
            .any(|it| it.paused_by_control.is_some() && it.lag_records == Some(5))
    })
    .await;
    let servers = broker.bootstrap_servers().into();
    let kafka = KafkaSettings::new();
    let commander = Commander::connect(&servers, &kafka, "group", None, PATIENCE).unwrap();
    let counts = || {
        let found = commander.read().unwrap();
        let tally = found.acks.tally(found.directives.revision(), None, 0);
        (tally.applied.len(), tally.refusing.len())
    };
    eventually("the member says that it refuses it", || counts() == (0, 1)).await;
    assert_eq!(of(&attempts, 0), 0);
    write(&broker, partition(0), None).await;
    eventually("it was taken back", || of(&attempts, 0) == 5).await;
    eventually("nothing is refused", || counts() == (1, 0)).await;
    member.shutdown().await.unwrap();
    control.close(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revision_that_cannot_be_acknowledged_is_told() {
    let broker = broker(1);
    let refusal = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED];
    broker
        .cluster()
        .request_errors(RDKafkaApiKey::Produce, &refusal);
    let member = start(&broker, &Attempts::default()).await.unwrap();
    eventually("the trouble names the permission", || {
        let troubles = member.status().troubles;
        troubles
            .iter()
            .any(|it| it.kind == TroubleKind::ControlTopic && it.message.contains("WRITE"))
    })
    .await;
    member.shutdown().await.unwrap();
}

/// A fetch that is answered when it has 10 MB is no reason to see no order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_behind_fetch_settings_that_wait_is_seen_and_another_name_is_in_the_fix() {
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
    broker.create_topic("tasks", 1).unwrap();
    let subscribe = || {
        Subscription::builder("group", "tasks")
            .bootstrap_servers(broker.bootstrap_servers())
            .kafka_settings(EmbeddedBroker::client_settings())
            .kafka("fetch.wait.max.ms", "5000")
            .kafka("fetch.min.bytes", "10000000")
            .control_topic(ControlTopic::named("steering"))
            .start(Json, |_: Task<u32>| async { Ok::<(), TaskError>(()) })
    };
    let text = subscribe().await.unwrap_err().to_string();
    let fix = "`keylane control create group --control-topic steering`";
    assert!(text.contains(fix), "{text}");
    broker.create_topic("steering", 1).unwrap();
    let member = subscribe().await.unwrap();
    // Of another group: told, as each order would hold for both.
    let control = producer(broker.bootstrap_servers(), "steering").await;
    let ack = r#"{"v": 1, "revision": 0, "group": "others", "at": "2026-11-30T14:00:00Z"}"#;
    assert!(
        control
            .enqueue(NewTask::new(ack).key("ack/x"))
            .await
            .is_ok()
    );
    eventually("the other group is reported", || {
        let troubles = member.status().troubles;
        troubles.iter().any(|it| it.message.contains("`others`"))
    })
    .await;
    member.shutdown().await.unwrap();
    control.close(PATIENCE).await.unwrap();
}

/// The numbers whose attempts began, in their order.
type Seen = Arc<Mutex<Vec<u32>>>;

/// One number fails as long as it is tried.
async fn start_seen(broker: &EmbeddedBroker, seen: &Seen, fails: u32) -> Subscription {
    let seen = seen.clone();
    Subscription::builder("group", "tasks")
        .bootstrap_servers(broker.bootstrap_servers())
        .kafka_settings(EmbeddedBroker::client_settings())
        .kafka("session.timeout.ms", "6000")
        .control_topic(ControlTopic::default())
        .commit_interval(Duration::from_millis(50))
        .retry(Retry::forever().backoff(Backoff::fixed(Duration::from_millis(20))))
        .start(Json, move |task: Task<u32>| {
            let number = *task.payload();
            seen.lock().unwrap().push(number);
            async move {
                match number == fails {
                    true => Err(TaskError::retryable("it fails")),
                    false => Ok(()),
                }
            }
        })
        .await
        .unwrap()
}

/// An order that names its record of the first partition.
async fn order_about(broker: &EmbeddedBroker, offset: i64, why: &str) -> Option<Order> {
    let servers = broker.bootstrap_servers().into();
    let read = move || {
        let kafka = KafkaSettings::new();
        let commander = Commander::connect(&servers, &kafka, "group", None, PATIENCE).unwrap();
        let from = [(0, Position::new(offset))];
        let operator = commander.operator();
        let heads = operator.first_records("tasks", &from, |_, _| true);
        heads.unwrap()[&0]
            .as_ref()
            .and_then(|head| head.leader_epoch)
    };
    let leader_epoch = tokio::task::spawn_blocking(read).await.unwrap();
    assert!(leader_epoch.is_some());
    order(why).map(|order| Order {
        leader_epoch,
        ..order
    })
}

fn skip(offset: i64) -> ControlKey {
    ControlKey::Skip {
        topic: "tasks".to_owned(),
        partition: 0,
        offset: Offset::new(offset),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_key_that_is_paused_nothing_starts_and_the_others_go_on() {
    let broker = broker(1);
    let hash = KeyHash::of(b"3").to_string();
    let key = ControlKey::PauseKey {
        topic: "tasks".to_owned(),
        key_hash: u64::from_str_radix(&hash, 16).unwrap(),
    };
    write(&broker, key.clone(), order("a bad vehicle")).await;
    enqueue(&broker, 20, 1).await;
    let seen = Seen::default();
    // The second time, the pause has survived a restart.
    for _ in 0..2 {
        let member = start_seen(&broker, &seen, u32::MAX).await;
        eventually("the others are done", || {
            let seen = seen.lock().unwrap();
            (0..20)
                .filter(|number| *number != 3)
                .all(|it| seen.contains(&it))
        })
        .await;
        eventually("the paused one is there", || {
            member
                .status()
                .partitions
                .iter()
                .any(|it| it.snapshot.pending == 1)
        })
        .await;
        assert!(!seen.lock().unwrap().contains(&3));
        member.shutdown().await.unwrap();
    }
    let member = start_seen(&broker, &seen, u32::MAX).await;
    write(&broker, key, None).await;
    eventually("it goes on", || seen.lock().unwrap().contains(&3)).await;
    member.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_is_skipped_is_not_attempted_and_the_order_goes_when_it_is_committed() {
    let broker = broker(1);
    let producer = producer(broker.bootstrap_servers(), "tasks").await;
    let tasks = (0..6).map(|number| NewTask::json(&number).unwrap().key("one"));
    assert!(producer.enqueue_all(tasks).await.iter().all(Result::is_ok));
    // Offset 1 before any start, offset 4 while it fails. What does not name its record is refused.
    write(&broker, skip(0), order("it has no leader epoch")).await;
    let why = "it is damaged";
    write(&broker, skip(1), order_about(&broker, 1, why).await).await;
    let seen = Seen::default();
    let member = start_seen(&broker, &seen, 4).await;
    let tries = || seen.lock().unwrap().iter().filter(|it| **it == 4).count();
    eventually("one fails again and again", || tries() > 2).await;
    assert!(seen.lock().unwrap().contains(&0), "its skip is vague");
    let is_told = |it: &Trouble| it.message.contains("skip/tasks/0/0");
    eventually("the refusal is reported", || {
        member.status().troubles.iter().any(is_told)
    })
    .await;
    write(&broker, skip(0), None).await;
    assert!(!seen.lock().unwrap().contains(&5), "it waits for its key");
    member.shutdown().await.unwrap();
    let member = start_seen(&broker, &seen, 4).await;
    let before = tries();
    eventually("it fails on", || tries() > before).await;
    let why = "it never succeeds";
    write(&broker, skip(4), order_about(&broker, 4, why).await).await;
    eventually("the next of its key is attempted", || {
        seen.lock().unwrap().contains(&5)
    })
    .await;
    let servers = broker.bootstrap_servers().into();
    let kafka = KafkaSettings::new();
    let commander = Commander::connect(&servers, &kafka, "group", None, PATIENCE).unwrap();
    eventually("both orders are gone", || {
        commander.read().unwrap().directives.orders().count() == 0
    })
    .await;
    let (tried, seen_by_then) = (tries(), seen.lock().unwrap().clone());
    assert!(!seen_by_then.contains(&1), "{seen_by_then:?}");
    member.shutdown().await.unwrap();
    let member = start_seen(&broker, &seen, 4).await;
    let last = NewTask::json(&6).unwrap().key("one");
    assert!(producer.enqueue(last).await.is_ok());
    eventually("what comes later is done", || {
        seen.lock().unwrap().contains(&6)
    })
    .await;
    assert_eq!(tries(), tried, "it was committed before its order went");
    member.shutdown().await.unwrap();
    producer.close(PATIENCE).await.unwrap();
}
