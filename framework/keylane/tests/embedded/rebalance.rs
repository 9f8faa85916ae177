//! Rebalances on the embedded broker: nothing is passed over when partitions come and go.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use super::common::{self, PATIENCE, eventually};
use keylane::config::Reading;
use keylane::error::SubscriptionError;
use keylane::status::TroubleKind;
use keylane::{Json, NewTask, Subscription, Task, TaskError};
use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

type Seen = Arc<Mutex<HashSet<u32>>>;

async fn member(broker: &EmbeddedBroker, reading: Reading, seen: &Seen) -> Subscription {
    let seen = seen.clone();
    Subscription::builder("group", "tasks")
        .bootstrap_servers(broker.bootstrap_servers())
        .kafka_settings(EmbeddedBroker::client_settings())
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
