//! Rebalances on the embedded broker: nothing is passed over when partitions come and go.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::common::{self, PATIENCE, eventually};
use keylane::config::Reading;
use keylane::error::{StartError, SubscriptionError};
use keylane::status::{Trouble, TroubleKind};
use keylane::subscription::SubscriptionBuilder;
use keylane::{Json, NewTask, Subscription, Task, TaskError};
use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

type Seen = Arc<Mutex<HashSet<u32>>>;

async fn member(broker: &EmbeddedBroker, reading: Reading, seen: &Seen) -> Subscription {
    let seen = seen.clone();
    builder(broker)
        .reading(reading)
        .start(Json, move |task: Task<u32>| {
            let seen = seen.clone();
            async move {
                seen.lock().unwrap().insert(*task.payload());
                Ok::<(), TaskError>(())
            }
        })
        .await
        .unwrap()
}

fn builder(broker: &EmbeddedBroker) -> SubscriptionBuilder {
    Subscription::builder("group", "tasks")
        .bootstrap_servers(broker.bootstrap_servers())
        .kafka_settings(EmbeddedBroker::client_settings())
}

/// A member whose start waits for its group.
async fn joined(broker: &EmbeddedBroker, within: Duration) -> Result<Subscription, StartError> {
    let processor = |_: Task<u32>| async { Ok::<(), TaskError>(()) };
    let builder = builder(broker).wait_for_membership(within);
    builder.start(Json, processor).await
}

fn owned(member: &Subscription) -> usize {
    member.status().partitions.len()
}

async fn partitions_that_come_back_are_read_from_their_first_record(reading: Reading) {
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
    broker.create_topic("tasks", 4).unwrap();
    let producer = common::producer(broker.bootstrap_servers(), "tasks").await;
    let seen = Seen::default();
    let staying = member(&broker, reading, &seen).await;
    eventually("the first member has all partitions", || {
        owned(&staying) == 4
    })
    .await;
    let mut enqueued = 0;
    for _ in 0..3 {
        let guest = member(&broker, reading, &seen).await;
        eventually("both have their half", || {
            owned(&staying) == 2 && owned(&guest) == 2
        })
        .await;
        guest.handle().pause();
        // Written to all partitions, the paused guest's too: it hands them back with records
        // waiting.
        let tasks = (enqueued..enqueued + 400)
            .map(|i: u32| NewTask::json(&i).unwrap().key(format!("k{i}")));
        for result in producer.enqueue_all(tasks.collect::<Vec<_>>()).await {
            result.unwrap();
        }
        enqueued += 400;
        guest.shutdown().await.unwrap();
        eventually("every record is processed", || {
            seen.lock().unwrap().len() == enqueued as usize
        })
        .await;
    }
    producer.close(PATIENCE).await.unwrap();
    staying.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_that_come_back_are_read_from_their_first_record_in_batches() {
    partitions_that_come_back_are_read_from_their_first_record(Reading::Batched).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_that_come_back_are_read_from_their_first_record_one_by_one() {
    partitions_that_come_back_are_read_from_their_first_record(Reading::Polled).await;
}

/// Members with another assignor leave.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_with_another_assignor_is_trouble_that_states_what_to_set_until_it_is_joined() {
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
    broker.create_topic("tasks", 1).unwrap();
    let refuse = |count| {
        let refusal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_INCONSISTENT_GROUP_PROTOCOL;
        let cluster = broker.cluster();
        cluster.request_errors(RDKafkaApiKey::JoinGroup, &vec![refusal; count]);
    };
    refuse(1_000);
    let member = member(&broker, Reading::Batched, &Seen::default()).await;
    let trouble = || member.status().trouble;
    eventually("it is trouble", || trouble().is_some()).await;
    let trouble = trouble().unwrap();
    assert_eq!(trouble.kind, TroubleKind::GroupProtocol);
    for part in ["group `group`", "partition.assignment.strategy", "range"] {
        assert!(trouble.message.contains(part), "{trouble:?}");
    }
    let cluster = broker.cluster();
    cluster.clear_request_errors(RDKafkaApiKey::JoinGroup);
    eventually("it has joined", || owned(&member) == 1).await;
    eventually("it is no trouble", || member.status().troubles.is_empty()).await;
    member.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_time_out_that_the_brokers_never_accept_ends_run() {
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
    broker.create_topic("tasks", 1).unwrap();
    let refusal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_SESSION_TIMEOUT;
    let cluster = broker.cluster();
    cluster.request_errors(RDKafkaApiKey::JoinGroup, &[refusal]);
    let member = member(&broker, Reading::Batched, &Seen::default()).await;
    let ended = tokio::time::timeout(PATIENCE, member.run()).await;
    let error = ended.expect("it goes on").unwrap_err();
    assert!(
        matches!(error, SubscriptionError::SettingRefused { .. }),
        "{error:?}"
    );
    let text = error.to_string();
    for part in ["session.timeout.ms=", "group.min.session.timeout.ms"] {
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_has_joined_is_not_ended_by_a_refused_session_time_out() {
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
    broker.create_topic("tasks", 1).unwrap();
    let member = joined(&broker, PATIENCE).await.unwrap();
    let cluster = broker.cluster();
    let refusal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_SESSION_TIMEOUT;
    cluster.request_errors(RDKafkaApiKey::JoinGroup, &[refusal; 1_000]);
    // It has to join again.
    let unknown = RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID;
    cluster.request_errors(RDKafkaApiKey::Heartbeat, &[unknown]);
    let is_refused = |trouble: &Trouble| {
        let words = trouble.message.to_lowercase();
        words.contains("session") && words.contains("timeout")
    };
    eventually("the refusal is trouble", || {
        member.status().troubles.iter().any(is_refused)
    })
    .await;
    cluster.clear_request_errors(RDKafkaApiKey::JoinGroup);
    eventually("it has its partition again", || {
        member.status().assigned && owned(&member) == 1
    })
    .await;
    member.shutdown().await.unwrap();
}

/// The second member gets no partition, and has joined.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_waits_for_membership_returns_a_member_of_the_group() {
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
    broker.create_topic("tasks", 1).unwrap();
    let members = [(); 2].map(|()| joined(&broker, PATIENCE));
    for member in futures::future::try_join_all(members).await.unwrap() {
        assert!(member.status().joined);
        member.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_waits_for_membership_ends_with_what_the_group_refuses() {
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
    broker.create_topic("tasks", 1).unwrap();
    let cluster = broker.cluster();
    let refusals = [
        (
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_INCONSISTENT_GROUP_PROTOCOL,
            "group `group`: ",
            "partition.assignment.strategy",
        ),
        (
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_SESSION_TIMEOUT,
            "ended before it joined",
            "session.timeout.ms=",
        ),
    ];
    for (refusal, what, setting) in refusals {
        cluster.request_errors(RDKafkaApiKey::JoinGroup, &[refusal; 1_000]);
        let start = tokio::time::timeout(PATIENCE, joined(&broker, 10 * PATIENCE)).await;
        let error = start.expect("it goes on").unwrap_err().to_string();
        assert!(error.contains(what) && error.contains(setting), "{error}");
        cluster.clear_request_errors(RDKafkaApiKey::JoinGroup);
    }
    let next = joined(&broker, PATIENCE).await.unwrap();
    assert_eq!(owned(&next), 1, "the others have left");
    next.shutdown().await.unwrap();
}

/// The coordinator answers no request to join.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_waits_for_membership_ends_at_its_time_out() {
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
    broker.create_topic("tasks", 1).unwrap();
    let cluster = broker.cluster();
    let refusal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS;
    cluster.request_errors(RDKafkaApiKey::JoinGroup, &[refusal; 10_000]);
    let error = joined(&broker, Duration::from_millis(300)).await.err();
    let error = error.expect("it waits on").to_string();
    assert!(error.contains("not within 300ms: "), "{error}");
    cluster.clear_request_errors(RDKafkaApiKey::JoinGroup);
    let next = joined(&broker, PATIENCE).await.unwrap();
    assert_eq!(owned(&next), 1, "the other one has left");
    next.shutdown().await.unwrap();
}
