//! What an outbox writes with.
//!
//! A part of keylane that its crate `keylane-sql` shares: no promise of its own. Calls of
//! [`Publisher`] block.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::enqueue_error::ReturnedTask;
use super::new_task::NewTask;
use super::outgoing::OutgoingRecord;
use super::transactions::{TransactionError, Transactions};
use super::{EnqueueError, MessageIds, TaskFormat, TaskProducerError, TaskSource, topic_check};
use crate::Headers;
use crate::config::{BootstrapServers, KafkaSettings};
use crate::kafka::config::side_client_config;

/// The record that is written for a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it goes.
    pub topic: Arc<str>,
    /// The partition, where the task names one.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// The headers, `dt_meta` among them.
    pub headers: Headers,
}

impl Record {
    /// Of a task, which goes to the topic that it names, or else to this one.
    ///
    /// # Errors
    /// A task that no broker would take.
    pub fn of(
        mut task: NewTask,
        topic: Option<&str>,
        application_id: &str,
        instance_id: &str,
        now: SystemTime,
    ) -> Result<Self, EnqueueError> {
        let invalid = |reason: String| EnqueueError::Invalid {
            reason,
            task: ReturnedTask::default(),
        };
        task.validate()?;
        let topic: Arc<str> = match task.named_topic().or(topic) {
            Some(topic) => topic.into(),
            None => return Err(invalid("it names no topic".to_owned())),
        };
        if let Err(reason) = keylane_core::check_topic_name(&topic) {
            return Err(invalid(format!("topic {topic:?}: {reason}")));
        }
        let source = TaskSource {
            application_id: application_id.to_owned(),
            instance_id: instance_id.to_owned(),
            format: TaskFormat::Header,
            message_ids: MessageIds::Generated,
        };
        task.name_message(&source, now);
        let record = task.into_record(topic, &source, now);
        Ok(Self {
            topic: record.topic,
            partition: record.partition,
            key: record.key,
            value: record.value,
            headers: record.headers,
        })
    }

    fn outgoing(&self) -> OutgoingRecord {
        OutgoingRecord {
            topic: self.topic.clone(),
            partition: self.partition,
            key: self.key.clone(),
            value: self.value.clone(),
            headers: self.headers.clone(),
            // A topic may refuse, or soon delete, what is old by its time.
            timestamp_millis: None,
        }
    }
}

/// How the brokers are reached.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// Brokers to start from.
    pub bootstrap_servers: BootstrapServers,
    /// Settings of the client.
    pub kafka: KafkaSettings,
}

/// Why records were not published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishError {
    /// Another publisher has taken the transactional id.
    Fenced,
    /// This publisher cannot go on; another one can. Nothing was published.
    Lost(String),
    /// These records will never be taken, by their indexes. None was published.
    Refused(Vec<(usize, String)>),
    /// One of the records will never be taken. None was published.
    RefusedAmong(String),
    /// They took too long. Fewer may be in time. None was published.
    Slow(String),
    /// There is no answer: all were published, or none. Another publisher is needed.
    Unanswered(String),
    /// The brokers do not answer, or refuse for a reason that may pass. None was published.
    Failed(String),
}

impl From<TransactionError> for PublishError {
    fn from(error: TransactionError) -> Self {
        match error {
            TransactionError::Fenced => Self::Fenced,
            TransactionError::Lost(reason) => Self::Lost(reason),
            TransactionError::Refused(refused) => {
                let text = |(index, error): (usize, super::write_error::WriteError)| {
                    (index, error.to_string())
                };
                Self::Refused(refused.into_iter().map(text).collect())
            }
            TransactionError::RefusedAmong(error) => Self::RefusedAmong(error.to_string()),
            TransactionError::Slow(reason) => Self::Slow(reason),
            TransactionError::Unanswered(reason) => Self::Unanswered(reason),
            TransactionError::Failed(reason) => Self::Failed(reason),
        }
    }
}

/// Writes records in transactions under one transactional id, which it alone has.
pub struct Publisher {
    transactions: Transactions,
}

impl Publisher {
    /// Takes the transactional id from who has it. What that one has left open is aborted.
    ///
    /// # Errors
    /// Settings that cannot be used, and brokers that do not answer or refuse.
    pub fn take(
        connection: &Connection,
        id: &str,
        patience: Duration,
    ) -> Result<Self, PublishError> {
        let (servers, kafka) = (
            connection.bootstrap_servers.as_str(),
            connection.kafka.as_map(),
        );
        let transactions = Transactions::take(servers, kafka, id, patience)?;
        Ok(Self { transactions })
    }

    /// Publishes all of them in this order, or none.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub fn publish(&self, records: &[Record]) -> Result<(), PublishError> {
        let records: Vec<OutgoingRecord> = records.iter().map(Record::outgoing).collect();
        let records: Vec<&OutgoingRecord> = records.iter().collect();
        self.transactions
            .write_in_time(&records)
            .map_err(PublishError::from)
    }

    /// To be called at times while nothing is published.
    pub fn serve(&self) {
        self.transactions.serve();
    }
}

/// Whether the topic exists and may be written to. It is never created.
///
/// # Errors
/// Why not, or why that is not known.
pub async fn check_topic(
    connection: &Connection,
    topic: &str,
    within: Duration,
) -> Result<(), TaskProducerError> {
    let (servers, kafka) = (
        connection.bootstrap_servers.as_str(),
        connection.kafka.as_map(),
    );
    let config = side_client_config(servers, kafka)?;
    topic_check::check(config, vec![topic.to_owned()], within).await
}
