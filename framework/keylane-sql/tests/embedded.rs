//! The whole way without a server: from a transaction of SQLite, by a relay and the embedded broker, to a
//! processor.

#![cfg(feature = "sqlite")]

use std::time::Duration;

use bytes::Bytes;
use keylane::{NewTask, Raw, Subscription, Task, TaskError};
use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};
use keylane_sql::outbox::Outbox;
use tokio::sync::mpsc;

const DEADLINE: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_committed_task_comes_to_its_processor_with_key_headers_and_id() {
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
    broker.create_topic("events", 2).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/outbox.db?mode=rwc", directory.path().display());
    let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
    let outbox = Outbox::sqlite(pool.clone())
        .topic("events")
        .application_id("car-park");
    outbox.migrate().await.unwrap();

    let (seen, mut seeing) = mpsc::channel(100);
    let subscription = Subscription::builder("notifier", "events")
        .bootstrap_servers(broker.bootstrap_servers())
        .kafka_settings(EmbeddedBroker::client_settings())
        .start(Raw, move |task: Task<Bytes>| {
            let seen = seen.clone();
            async move {
                let header = |name| task.headers().last_str(name).unwrap_or_default().to_owned();
                let found = (
                    task.key_str().unwrap_or_default().to_owned(),
                    String::from_utf8_lossy(task.payload()).into_owned(),
                    header("gate"),
                    header("keylane-outbox-id"),
                );
                seen.send(found)
                    .await
                    .map_err(|_| TaskError::fatal("the test has ended"))
            }
        })
        .await
        .unwrap();
    let relay = outbox
        .relay()
        .bootstrap_servers(broker.bootstrap_servers())
        .kafka_settings(EmbeddedBroker::client_settings())
        .start()
        .await
        .unwrap();

    let mut expected = Vec::new();
    for number in 0..20 {
        let mut transaction = pool.begin().await.unwrap();
        let task = NewTask::new(number.to_string())
            .key("B-KL 42")
            .header("gate", "north");
        let id = outbox.enqueue(&mut transaction, task).await.unwrap();
        transaction.commit().await.unwrap();
        outbox.wake();
        expected.push((
            "B-KL 42".to_owned(),
            number.to_string(),
            "north".to_owned(),
            id.to_string(),
        ));
    }
    let mut found = Vec::new();
    let all = async {
        while found.len() < expected.len() {
            found.extend(seeing.recv().await);
        }
    };
    assert!(
        tokio::time::timeout(DEADLINE, all).await.is_ok(),
        "within {DEADLINE:?}"
    );
    // The mock has no transactions that can be aborted, but this one had nothing to abort.
    assert_eq!(found, expected);
    relay.stop().await.unwrap();
    subscription.shutdown().await.unwrap();
}
