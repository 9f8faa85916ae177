//! What was committed is read although the coordinator does not answer at once.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::common::{PATIENCE, eventually, producer};
use keylane::error::SubscriptionError;
use keylane::status::{PausedBy, Position};
use keylane::{Json, NewTask, Subscription, Task, TaskError, TaskProducer};
use keylane_embedded_broker::EmbeddedBroker;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::mocking::{MockCluster, MockCoordinator};
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::sync::watch;

/// Without the metadata what is settled ahead of a stuck record would be done again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_passing_refusal_of_the_committed_offsets_delivers_nothing_again() {
    refused_at_first(&[RDKafkaRespErr::RD_KAFKA_RESP_ERR_STALE_MEMBER_EPOCH; 2]).await;
}

/// The assignment goes on without an answer. The client gets one by itself, and would begin at the
/// position.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_starts_until_it_is_known_what_is_committed() {
    refused_at_first(&[RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED]).await;
}

/// Also where no other request is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_waits_for_what_is_committed_says_why() {
    let broker = MockCluster::new(1).unwrap();
    broker.create_topic("tasks", 1, 1).unwrap();
    let producer = producer(broker.bootstrap_servers(), "tasks").await;
    assert!(producer.enqueue(NewTask::json(&7).unwrap()).await.is_ok());
    // At the assignment, and with the first question after it.
    let refusals = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED; 2];
    broker.request_errors(RDKafkaApiKey::OffsetFetch, &refusals);
    let seen: Arc<Mutex<Vec<u32>>> = Arc::default();
    let subscription = member(&broker, "earliest", &seen).await;
    let is_told = || {
        let status = subscription.status();
        let waits = status
            .partitions
            .iter()
            .any(|p| p.paused_by == Some(PausedBy::NoPosition));
        waits
            && status
                .troubles
                .iter()
                .any(|trouble| trouble.message.contains("READ on consumer group `group`"))
    };
    eventually("it is reported", is_told).await;
    eventually("it begins when it is known", || {
        *seen.lock().unwrap() == [7]
    })
    .await;
    subscription.shutdown().await.unwrap();
    producer.close(PATIENCE).await.unwrap();
}

/// A member finds one record stuck and the others settled, after these answers.
async fn refused_at_first(refusals: &[RDKafkaRespErr]) {
    let broker = MockCluster::new(1).unwrap();
    broker.create_topic("tasks", 1, 1).unwrap();
    let producer = producer(broker.bootstrap_servers(), "tasks").await;
    let tasks = (0..20).map(|i: u32| NewTask::json(&i).unwrap().key(i.to_string()));
    assert!(producer.enqueue_all(tasks).await.iter().all(Result::is_ok));
    let (release, released) = watch::channel(false);
    let seen: Arc<Mutex<Vec<u32>>> = Arc::default();
    let member = async || {
        let (seen, released) = (seen.clone(), released.clone());
        let builder =
            Subscription::builder("group", "tasks").bootstrap_servers(broker.bootstrap_servers());
        let processor = move |task: Task<u32>| {
            let (seen, mut released) = (seen.clone(), released.clone());
            async move {
                if *task.payload() == 0 {
                    released
                        .wait_for(|released| *released)
                        .await
                        .map_err(TaskError::retryable)?;
                }
                seen.lock().unwrap().push(*task.payload());
                Ok::<(), TaskError>(())
            }
        };
        let builder = builder
            .kafka_settings(EmbeddedBroker::client_settings())
            .shutdown_timeout(Duration::from_secs(1));
        // A mock made by rdkafka lets a group's first member wait for three seconds.
        builder
            .kafka("session.timeout.ms", "10000")
            .start(Json, processor)
            .await
            .unwrap()
    };

    let first = member().await;
    eventually("all but the stuck one are processed", || {
        seen.lock().unwrap().len() == 19
    })
    .await;
    first.shutdown().await.unwrap();

    broker.request_errors(RDKafkaApiKey::OffsetFetch, refusals);
    release.send(true).unwrap();
    let second = member().await;
    eventually("the stuck one is processed", || {
        seen.lock().unwrap().contains(&0)
    })
    .await;
    second.shutdown().await.unwrap();
    let mut seen = seen.lock().unwrap().clone();
    seen.sort_unstable();
    assert_eq!(seen, (0..20).collect::<Vec<_>>(), "each record once");
    producer.close(PATIENCE).await.unwrap();
}

/// A coordinator that has just moved loads the group first. The client sends each commit three
/// times, the one at closing included.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_commits_although_the_coordinator_is_not_ready_for_a_while() {
    // Longer than its minimum wait.
    shutdown_commits(Duration::from_secs(60), 60, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_that_drops_an_attempt_commits_the_others_likewise() {
    shutdown_commits(Duration::from_millis(200), 12, &[0]).await;
}

async fn shutdown_commits(shutdown_timeout: Duration, refusals: usize, stuck: &'static [u32]) {
    let broker = MockCluster::new(1).unwrap();
    broker.create_topic("tasks", 1, 1).unwrap();
    let producer = producer(broker.bootstrap_servers(), "tasks").await;
    let seen: Arc<Mutex<Vec<u32>>> = Arc::default();
    let member = async |stuck: &'static [u32]| {
        let seen = seen.clone();
        let processor = move |task: Task<u32>| {
            let seen = seen.clone();
            async move {
                if stuck.contains(task.payload()) {
                    std::future::pending::<()>().await;
                }
                seen.lock().unwrap().push(*task.payload());
                Ok::<(), TaskError>(())
            }
        };
        let builder =
            Subscription::builder("group", "tasks").bootstrap_servers(broker.bootstrap_servers());
        let builder = builder
            .kafka_settings(EmbeddedBroker::client_settings())
            .shutdown_timeout(shutdown_timeout);
        // Nothing but the shutdown commits what is processed.
        let builder = builder.commit_interval(Duration::from_secs(3_600));
        builder
            .kafka("session.timeout.ms", "10000")
            .start(Json, processor)
            .await
            .unwrap()
    };

    let first = member(stuck).await;
    let done: Vec<u32> = (0..10).filter(|i| !stuck.contains(i)).collect();
    let tasks = (0..10).map(|i: u32| NewTask::json(&i).unwrap().key(i.to_string()));
    assert!(producer.enqueue_all(tasks).await.iter().all(Result::is_ok));
    eventually("all that can be are processed", || {
        seen.lock().unwrap().len() == done.len()
    })
    .await;
    let refusals = vec![RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS; refusals];
    broker.request_errors(RDKafkaApiKey::OffsetCommit, &refusals);
    first.shutdown().await.unwrap();

    let second = member(&[]).await;
    assert!(producer.enqueue(NewTask::json(&10).unwrap()).await.is_ok());
    let is_last =
        |seen: &Vec<u32>| seen.contains(&10) && stuck.iter().all(|stuck| seen.contains(stuck));
    eventually("the rest is processed", || is_last(&seen.lock().unwrap())).await;
    second.shutdown().await.unwrap();
    let mut seen = seen.lock().unwrap().clone();
    seen.sort_unstable();
    assert_eq!(seen, (0..=10).collect::<Vec<_>>(), "each record once");
    producer.close(PATIENCE).await.unwrap();
}

/// A member of a group that begins at the log's end.
async fn at_the_end(
    broker: &MockCluster<'_, DefaultProducerContext>,
    seen: &Arc<Mutex<Vec<u32>>>,
) -> Subscription {
    member(broker, "latest", seen).await
}

async fn member(
    broker: &MockCluster<'_, DefaultProducerContext>,
    reset: &str,
    seen: &Arc<Mutex<Vec<u32>>>,
) -> Subscription {
    let seen = seen.clone();
    let processor = move |task: Task<u32>| {
        seen.lock().unwrap().push(*task.payload());
        async { Ok::<(), TaskError>(()) }
    };
    Subscription::builder("group", "tasks")
        .bootstrap_servers(broker.bootstrap_servers())
        .kafka_settings(EmbeddedBroker::client_settings())
        .kafka("session.timeout.ms", "10000")
        .kafka("auto.offset.reset", reset)
        .start(Json, processor)
        .await
        .unwrap()
}

/// Otherwise the next start would begin at an end that is later, past what was written in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_latest_an_idle_partition_is_read_on_from_where_it_began() {
    let broker = MockCluster::new(1).unwrap();
    broker.create_topic("tasks", 1, 1).unwrap();
    let producer = producer(broker.bootstrap_servers(), "tasks").await;
    let write = async |numbers: std::ops::Range<u32>| {
        let tasks = numbers.map(|i| NewTask::json(&i).unwrap().key(i.to_string()));
        assert!(producer.enqueue_all(tasks).await.iter().all(Result::is_ok));
    };
    let seen: Arc<Mutex<Vec<u32>>> = Arc::default();
    write(0..3).await;

    let first = at_the_end(&broker, &seen).await;
    eventually("the end is known", || {
        first
            .status()
            .partitions
            .iter()
            .any(|p| p.snapshot.watermark == Some(Position::new(3)))
    })
    .await;
    first.shutdown().await.unwrap();
    write(3..8).await;
    let second = at_the_end(&broker, &seen).await;
    eventually("what was written meanwhile is read", || {
        seen.lock().unwrap().len() == 5
    })
    .await;
    second.shutdown().await.unwrap();
    let mut seen = seen.lock().unwrap().clone();
    seen.sort_unstable();
    assert_eq!(seen, (3..8).collect::<Vec<_>>());
    producer.close(PATIENCE).await.unwrap();
}

/// Neither the end nor the commit is to be had at first: nothing is guessed, and nothing starts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_latest_nothing_is_passed_over_although_the_broker_does_not_answer_at_once() {
    let broker = MockCluster::new(1).unwrap();
    broker.create_topic("tasks", 1, 1).unwrap();
    let producer = producer(broker.bootstrap_servers(), "tasks").await;
    let seen: Arc<Mutex<Vec<u32>>> = Arc::default();
    assert!(producer.enqueue(NewTask::json(&0).unwrap()).await.is_ok());
    let refusals = vec![RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS; 20];
    broker.request_errors(RDKafkaApiKey::OffsetCommit, &refusals);
    let refusals = vec![RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 6];
    broker.request_errors(RDKafkaApiKey::ListOffsets, &refusals);

    let first = at_the_end(&broker, &seen).await;
    eventually("the end is known", || {
        first
            .status()
            .partitions
            .iter()
            .any(|p| p.snapshot.watermark == Some(Position::new(1)))
    })
    .await;
    assert!(producer.enqueue(NewTask::json(&1).unwrap()).await.is_ok());
    eventually("what comes behind the end is read", || {
        seen.lock().unwrap().len() == 1
    })
    .await;
    first.shutdown().await.unwrap();
    assert_eq!(*seen.lock().unwrap(), [1]);
    producer.close(PATIENCE).await.unwrap();
}

/// A commit that cannot be read for a while is a commit all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_latest_what_is_committed_counts_although_it_cannot_be_read_at_once() {
    let broker = MockCluster::new(1).unwrap();
    broker.create_topic("tasks", 1, 1).unwrap();
    let producer = producer(broker.bootstrap_servers(), "tasks").await;
    let seen: Arc<Mutex<Vec<u32>>> = Arc::default();
    let first = at_the_end(&broker, &seen).await;
    eventually("the end is known", || {
        first
            .status()
            .partitions
            .iter()
            .any(|p| p.snapshot.watermark == Some(Position::new(0)))
    })
    .await;
    first.shutdown().await.unwrap();
    let tasks = (0..4).map(|i: u32| NewTask::json(&i).unwrap());
    assert!(producer.enqueue_all(tasks).await.iter().all(Result::is_ok));
    // An answer for good, as far as the assignment is concerned.
    let refusals = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED; 2];
    broker.request_errors(RDKafkaApiKey::OffsetFetch, &refusals);
    let second = at_the_end(&broker, &seen).await;
    eventually("what was written meanwhile is read", || {
        seen.lock().unwrap().len() == 4
    })
    .await;
    second.shutdown().await.unwrap();
    producer.close(PATIENCE).await.unwrap();
}

/// Found out after the assignment, it ends the subscription all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_error_a_group_without_a_commit_does_not_begin_by_itself() {
    let broker = MockCluster::new(1).unwrap();
    broker.create_topic("tasks", 1, 1).unwrap();
    let refusal = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED];
    broker.request_errors(RDKafkaApiKey::OffsetFetch, &refusal);
    let subscription = member(&broker, "error", &Arc::default()).await;
    let error = tokio::time::timeout(PATIENCE, subscription.run())
        .await
        .unwrap()
        .unwrap_err();
    assert!(
        matches!(&error, SubscriptionError::OffsetReset(why) if why.contains("tasks-0")),
        "{error}"
    );
}

/// What the client had stored before is not committed once more when it closes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_latest_a_position_found_later_is_still_committed_after_an_idle_shutdown() {
    let broker = MockCluster::new(1).unwrap();
    broker.create_topic("tasks", 1, 1).unwrap();
    // The mock keeps 5 MB as they are sent.
    let producer = TaskProducer::builder("tasks")
        .bootstrap_servers(broker.bootstrap_servers())
        .application_id("test")
        .kafka("compression.type", "none");
    let producer = producer.start().await.unwrap();
    let member: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap_servers())
        .set("group.id", "group")
        .create()
        .unwrap();
    let committed = || {
        let mut partition = TopicPartitionList::new();
        partition.add_partition("tasks", 0);
        member
            .committed_offsets(partition, PATIENCE)
            .unwrap()
            .elements()[0]
            .offset()
    };
    let seen: Arc<Mutex<Vec<u32>>> = Arc::default();
    let subscription = at_the_end(&broker, &seen).await;
    eventually("the end is known", || {
        subscription
            .status()
            .partitions
            .iter()
            .any(|p| p.snapshot.watermark == Some(Position::new(0)))
    })
    .await;
    assert!(
        producer
            .enqueue_all((0..5).map(|i: u32| NewTask::json(&i).unwrap()))
            .await
            .iter()
            .all(Result::is_ok)
    );
    eventually("what is settled is committed", || {
        committed() == Offset::Offset(5)
    })
    .await;

    subscription.handle().pause();
    let is_paused = || {
        subscription
            .status()
            .partitions
            .iter()
            .all(|p| p.paused_by_user)
    };
    eventually("nothing is fetched", is_paused).await;
    let large = (0..10).map(|_| NewTask::json(&"x".repeat(900_000)).unwrap());
    assert!(producer.enqueue_all(large).await.iter().all(Result::is_ok));
    subscription.handle().resume();
    eventually("the new end is committed", || {
        committed() == Offset::Offset(15)
    })
    .await;
    subscription.shutdown().await.unwrap();
    assert_eq!(committed(), Offset::Offset(15));
    // Without keys they are processed in any order.
    let mut seen = std::mem::take(&mut *seen.lock().unwrap());
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 3, 4]);
    producer.close(PATIENCE).await.unwrap();
}

/// Each partition is queried, not only those before the first that cannot be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_latest_a_partition_whose_leader_is_away_keeps_no_other_from_its_position() {
    let broker = MockCluster::new(2).unwrap();
    broker.create_topic("tasks", 2, 1).unwrap();
    broker.partition_leader("tasks", 0, Some(2)).unwrap();
    broker.partition_leader("tasks", 1, Some(1)).unwrap();
    broker
        .coordinator(MockCoordinator::Group("group".into()), 1)
        .unwrap();
    broker.broker_down(2).unwrap();
    let subscription = at_the_end(&broker, &Arc::default()).await;
    let has_position = |partition| {
        subscription
            .status()
            .partitions
            .iter()
            .any(|p| p.partition == partition && p.snapshot.watermark == Some(Position::new(0)))
    };
    eventually("the other has its position", || has_position(1)).await;
    let first = || {
        subscription
            .status()
            .partitions
            .into_iter()
            .find(|p| p.partition == 0)
            .unwrap()
    };
    eventually("the reason is reported", || {
        first().paused_by == Some(PausedBy::NoPosition)
    })
    .await;
    broker.broker_up(2).unwrap();
    eventually("it has one too when its leader is back", || has_position(0)).await;
    subscription.shutdown().await.unwrap();
}

/// It takes connections and does not answer. One question of its leader is waited for, not one for
/// each of its partitions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_latest_many_partitions_of_a_leader_that_is_away_keep_no_other_from_its_position() {
    const AWAY: i32 = 40;
    let broker = MockCluster::new(2).unwrap();
    broker.create_topic("tasks", AWAY + 1, 1).unwrap();
    for partition in 0..AWAY {
        broker
            .partition_leader("tasks", partition, Some(2))
            .unwrap();
    }
    broker.partition_leader("tasks", AWAY, Some(1)).unwrap();
    broker
        .coordinator(MockCoordinator::Group("group".into()), 1)
        .unwrap();
    let slow = Duration::from_secs(20);
    broker.broker_round_trip_time(2, slow).unwrap();
    let subscription = at_the_end(&broker, &Arc::default()).await;
    let with_position = || {
        subscription
            .status()
            .partitions
            .iter()
            .filter(|p| p.snapshot.watermark == Some(Position::new(0)))
            .count()
    };
    eventually("the other has its position", || with_position() == 1).await;
    broker.broker_round_trip_time(2, Duration::ZERO).unwrap();
    eventually("all have one when the leader answers", || {
        with_position() == AWAY as usize + 1
    })
    .await;
    subscription.shutdown().await.unwrap();
}
