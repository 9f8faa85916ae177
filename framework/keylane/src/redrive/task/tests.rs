//! What only rare answers of the brokers show, on an embedded broker.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};

use super::lock::{self, Lock};
use super::{Ended, RedriveTask};
use crate::producer::raw::OutgoingRecord;
use crate::producer::transactions::TransactionError;
use crate::redrive::RedriveTaskError;
use crate::redrive::ops::{OpsTopic, TaskState};
use crate::{NewTask, TaskProducer};

const PATIENCE: Duration = Duration::from_secs(60);

/// A dead-letter topic with 20 letters, and their retry topic.
async fn scene() -> EmbeddedBroker {
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
    for topic in ["dead", "retry", "billing-keylane-ops"] {
        broker.create_topic(topic, 1).unwrap();
    }
    let letter = |number: i64| {
        NewTask::new(number.to_string())
            .key("k")
            .header("keylane-origin-topic", "tasks")
            .header("keylane-origin-partition", "0")
            .header("keylane-origin-offset", number.to_string())
            .header("keylane-group", "billing")
            .header("keylane-reason", "exhausted")
            .header("keylane-retry-topic", "retry")
    };
    let producer = TaskProducer::builder("dead")
        .bootstrap_servers(broker.bootstrap_servers())
        .application_id("test")
        .start()
        .await
        .unwrap();
    let written = producer.enqueue_all((0..20).map(letter)).await;
    assert!(written.iter().all(Result::is_ok));
    producer.close(PATIENCE).await.unwrap();
    broker
}

fn task(broker: &EmbeddedBroker) -> RedriveTask {
    RedriveTask::of("dead")
        .bootstrap_servers(broker.bootstrap_servers())
        .patience(PATIENCE)
        .window(5)
}

/// The values of the copies, in their order.
fn copies(broker: &EmbeddedBroker) -> Vec<String> {
    use crate::kafka::SeekReader;
    use crate::kafka::config::reader_config;
    let config = reader_config(broker.bootstrap_servers(), &Default::default()).unwrap();
    let mut reader = SeekReader::open(&config, "retry", [0]).unwrap();
    let (first, end) = reader.ends(0, PATIENCE).unwrap();
    reader.seek(0, first).unwrap();
    let mut copies = Vec::new();
    let take = |record: crate::record::Record| {
        let value = record.value().unwrap_or_default();
        copies.push(String::from_utf8_lossy(value).into_owned());
    };
    reader.read_until(end, PATIENCE, take).unwrap();
    copies
}

/// What became of a transaction whose commit has no answer.
#[derive(Clone, Copy, Debug)]
enum Became {
    Committed,
    Aborted,
}

/// Gives no answer to the third transaction. The first ones are the task's, and copies.
struct Unanswered {
    lock: Box<dyn Lock>,
    became: Became,
    /// How many copies each transaction had.
    transactions: Arc<Mutex<Vec<usize>>>,
}

impl Unanswered {
    fn write_by(
        &self,
        records: &[&OutgoingRecord],
        write: impl Fn() -> Result<(), TransactionError>,
    ) -> Result<(), TransactionError> {
        let copies = records.iter().filter(|it| &*it.topic == "retry").count();
        let number = {
            let mut transactions = self.transactions.lock().unwrap();
            transactions.push(copies);
            transactions.len()
        };
        if number != 3 || matches!(self.became, Became::Committed) {
            write()?;
        }
        match number {
            3 => Err(TransactionError::Unanswered("no answer".to_owned())),
            _ => Ok(()),
        }
    }
}

impl Lock for Unanswered {
    fn serve(&self) {
        self.lock.serve();
    }

    fn write(&self, records: &[&OutgoingRecord]) -> Result<(), TransactionError> {
        self.write_by(records, || self.lock.write(records))
    }

    fn write_in_time(&self, records: &[&OutgoingRecord]) -> Result<(), TransactionError> {
        self.write_by(records, || self.lock.write_in_time(records))
    }
}

/// The task begins, and its second transaction of copies has no answer.
async fn run_unanswered(
    broker: &EmbeddedBroker,
    became: Became,
) -> (Result<Ended, RedriveTaskError>, Vec<usize>) {
    let transactions = Arc::<Mutex<Vec<usize>>>::default();
    let of_lock = transactions.clone();
    let mut task = task(broker).id("first");
    task.take_lock = Box::new(move |connection, id| {
        Ok(Box::new(Unanswered {
            lock: lock::take(connection, id)?,
            became,
            transactions: of_lock.clone(),
        }))
    });
    let ended = task.run().await;
    let transactions = transactions.lock().unwrap().clone();
    (ended, transactions)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_commit_without_an_answer_nothing_is_written_and_a_resumed_run_repeats_nothing() {
    for became in [Became::Committed, Became::Aborted] {
        let broker = scene().await;
        let (ended, transactions) = run_unanswered(&broker, became).await;
        let error = ended.unwrap_err().to_string();
        assert!(
            error.contains("the last transaction may be committed") && error.ends_with("resume it"),
            "{error}"
        );
        assert_eq!(
            transactions.len(),
            3,
            "{became:?}: nothing is written after it"
        );
        // A slow machine makes smaller transactions.
        let committed = match became {
            Became::Committed => 3,
            Became::Aborted => 2,
        };
        let copied: usize = transactions[..committed].iter().sum();
        assert_eq!(copies(&broker).len(), copied, "{became:?}");
        assert!(transactions[1] > 0 && transactions[2] > 0);

        let ops = OpsTopic::of("billing").bootstrap_servers(broker.bootstrap_servers());
        let state = ops.read().await.unwrap();
        let task_then = state.task("first").unwrap();
        assert_eq!(task_then.record.state, TaskState::Running);
        let resumed = RedriveTask::of("dead")
            .bootstrap_servers(broker.bootstrap_servers())
            .patience(PATIENCE)
            .group("billing");
        let ended = resumed.resume("first").await.unwrap();
        assert_eq!(
            (ended.state, ended.progress.copied()),
            (TaskState::Done, 20)
        );
        let all: Vec<_> = (0..20).map(|it| it.to_string()).collect();
        assert_eq!(copies(&broker), all, "{became:?}: each once, in order");
    }
}

/// Its records are not taken within their time, and an abort has no answer before it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_goes_on_after_its_broker_was_away_for_longer_than_its_records_may_take() {
    let broker = Arc::new(scene().await);
    let (away, once) = (broker.clone(), AtomicUsize::new(0));
    let task = task(&broker).id("first").kafka("message.timeout.ms", "500");
    let task = task.kafka("reconnect.backoff.max.ms", "100");
    let task = task.on_progress(move |it| {
        if it.done > 0 && once.fetch_add(1, Ordering::Relaxed) == 0 {
            away.cluster().broker_down(-1).unwrap();
            let away = away.clone();
            std::thread::spawn(move || {
                // How long it is away.
                std::thread::sleep(Duration::from_secs(1));
                away.cluster().broker_up(-1).unwrap();
            });
        }
    });
    let ended = task.run().await.unwrap();
    assert_eq!(
        (ended.state, ended.progress.copied()),
        (TaskState::Done, 20)
    );
    // The embedded broker aborts nothing: what was aborted is there, too.
    let copies: std::collections::BTreeSet<u32> = (copies(&broker).iter())
        .map(|it| it.parse().unwrap())
        .collect();
    assert_eq!(copies, (0..20).collect());
}
