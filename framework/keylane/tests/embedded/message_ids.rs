//! The id of a task on its whole way: retry topic, dead letter, redrive.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::common::{PATIENCE, eventually};
use bytes::Bytes;
use keylane::config::{Backoff, Exhausted, FailureReason, LegacyTasks};
use keylane::producer::TaskFormat;
use keylane::subscription::SubscriptionBuilder;
use keylane::{DeadLetter, NewTask, Raw, Retry, Subscription, Task, TaskError, TaskProducer};
use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};

fn subscribe(broker: &EmbeddedBroker, group: &str, topic: &str) -> SubscriptionBuilder {
    Subscription::builder(group, topic)
        .bootstrap_servers(broker.bootstrap_servers())
        .kafka_settings(EmbeddedBroker::client_settings())
        .kafka("session.timeout.ms", "6000")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_keeps_its_id_through_retry_dead_letter_and_redrive() {
    keeps_its_id(TaskFormat::Header).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_does_a_task_in_the_wrapper_of_old_clients() {
    keeps_its_id(TaskFormat::Legacy).await;
}

async fn keeps_its_id(format: TaskFormat) {
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
    for topic in ["tasks", "tasks-retry", "dead"] {
        broker.create_topic(topic, 1).unwrap();
    }
    let producer = TaskProducer::builder("tasks")
        .topic("tasks-retry")
        .bootstrap_servers(broker.bootstrap_servers())
        .application_id("test")
        .format(format)
        .start()
        .await
        .unwrap();

    // Of each call, of the dead letter too: what was read, and from which topic.
    let seen = Arc::<Mutex<Vec<(String, Option<String>)>>>::default();
    let see = {
        let seen = seen.clone();
        move |task: &Task<Bytes>| {
            let id = task.message_id().map(str::to_owned);
            let mut seen = seen.lock().unwrap();
            seen.push((task.topic().to_owned(), id));
            seen.len()
        }
    };
    let worker = {
        let see = see.clone();
        move |task: Task<Bytes>| {
            // The fourth call is the copy of the dead letter.
            let is_last = see(&task) == 4;
            async move {
                assert_eq!(&task.payload()[..], b"pay");
                match is_last {
                    true => Ok(()),
                    false => Err(TaskError::retryable("not yet")),
                }
            }
        }
    };
    let retry = Retry::none()
        .then_topic()
        .topic_rounds(1)
        .topic_backoff(Backoff::fixed(Duration::from_millis(20)))
        // Every record fails, which looks like an outage.
        .on(FailureReason::Exhausted, Exhausted::DeadLetter);
    let worker = subscribe(&broker, "notifier", "tasks")
        .legacy_tasks(LegacyTasks::Read)
        .retry(retry)
        .dead_letter(DeadLetter::topic("dead"))
        .start(Raw, worker)
        .await
        .unwrap();
    let redriver = {
        let producer = producer.clone();
        move |task: Task<Bytes>| {
            let (producer, _) = (producer.clone(), see(&task));
            async move {
                producer.enqueue(NewTask::from_dead_letter(&task)?).await?;
                Ok::<(), TaskError>(())
            }
        }
    };
    let redriver = subscribe(&broker, "redriver", "dead")
        .start(Raw, redriver)
        .await
        .unwrap();

    let mut task = NewTask::new("pay").key("k");
    let id = task.ensure_message_id().to_owned();
    producer.enqueue(task).await.unwrap();
    eventually("the copy of the dead letter is processed", || {
        seen.lock().unwrap().len() == 4
    })
    .await;
    redriver.shutdown().await.unwrap();
    worker.shutdown().await.unwrap();
    producer.close(PATIENCE).await.unwrap();

    let way = ["tasks", "tasks-retry", "dead", "tasks-retry"];
    let expected = way.map(|topic| (topic.to_owned(), Some(id.clone())));
    assert_eq!(*seen.lock().unwrap(), expected);
}
