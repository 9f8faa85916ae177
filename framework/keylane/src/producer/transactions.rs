//! Transactions of one producer, and the lock that its transactional id is.
//!
//! Every call blocks, and polls the client: what is not polled has no answers, and an abort would
//! wait for them until its time-out.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext, PurgeConfig};

use super::outgoing::OutgoingRecord;
use super::queue::native_headers;
use super::write_error::{WriteError, WriteErrorKind};
use crate::kafka::config::{
    ClientConfigError, ClientSettings, ProducerSettings, creation_error, producer_config,
};
use crate::kafka::topics::LastError;
use crate::support::lock::lock;

/// A broker aborts a transaction that is open for longer. Until then it holds up readers with
/// `read_committed`.
const TIMEOUT_MILLIS: u64 = 10_000;
/// Shorter, so that a record that is not taken can still be told.
const WRITE_TIMEOUT_MILLIS: u64 = 8_000;
/// What librdkafka may hold: more than a transaction has.
const MAX_RECORDS: usize = 100_000;
const MAX_BYTES: usize = 1 << 30;
/// One call of the client; between two of them its events are served.
const SLICE: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(2);
/// Between two attempts of a transaction: first, and at most, doubling.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
const AGAIN_AFTER_AT_MOST: Duration = Duration::from_secs(2);

/// A producer that holds a transactional id. Another one that takes the id fences it: its next
/// transaction fails.
pub(crate) struct Transactions {
    producer: BaseProducer<Answers>,
    message_max_bytes: usize,
    patience: Duration,
}

/// Why a transaction was not committed.
#[derive(Debug)]
pub(crate) enum TransactionError {
    /// Another producer has taken the transactional id.
    Fenced,
    /// The record of this index cannot be written, or one of its batch.
    Refused { index: usize, error: WriteError },
    /// The brokers do not answer, or refuse. It may have been committed all the same, where a
    /// commit had no answer.
    Failed(String),
}

impl From<ClientConfigError> for TransactionError {
    fn from(error: ClientConfigError) -> Self {
        Self::Failed(error.to_string())
    }
}

enum Attempt {
    Again(String),
    Final(TransactionError),
}

#[derive(Default)]
struct Answers {
    last_error: LastError,
    /// The records that were not written, by index.
    unwritten: Mutex<BTreeMap<usize, KafkaError>>,
}

impl ClientContext for Answers {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.last_error.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.last_error.error(error, reason);
    }
}

impl ProducerContext for Answers {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        if let Err((error, _)) = result {
            lock(&self.unwritten).insert(index, error.clone());
        }
    }
}

impl Transactions {
    /// Takes the transactional id. What an earlier holder has left open is aborted by then.
    pub(crate) fn take(
        bootstrap_servers: &str,
        kafka: &BTreeMap<String, String>,
        id: &str,
        patience: Duration,
    ) -> Result<Self, TransactionError> {
        let settings = ProducerSettings {
            bootstrap_servers,
            max_records: MAX_RECORDS,
            max_bytes: MAX_BYTES,
        };
        let mut config = producer_config(&settings, kafka)?;
        at_most(&mut config, "message.timeout.ms", WRITE_TIMEOUT_MILLIS);
        if config.get("socket.timeout.ms").is_some() {
            at_most(&mut config, "socket.timeout.ms", TIMEOUT_MILLIS);
        }
        config
            .set("transactional.id", id)
            .set("transaction.timeout.ms", TIMEOUT_MILLIS.to_string())
            // A transaction waits for all its records.
            .set("queue.buffering.max.ms", "1");
        let message_max_bytes = config.get("message.max.bytes");
        let message_max_bytes = message_max_bytes.and_then(|bytes| bytes.trim().parse().ok());
        let producer = BaseProducer::from_config_and_context(&config, Answers::default());
        let taken = Self {
            producer: producer.map_err(creation_error)?,
            message_max_bytes: message_max_bytes.unwrap_or(1_000_000),
            patience,
        };
        let deadline = Instant::now() + patience;
        taken.repeated(deadline, || taken.producer.init_transactions(SLICE))?;
        Ok(taken)
    }

    /// Writes these records in one transaction: all of them, or none. Where it fails for a passing
    /// reason, it is done again.
    pub(crate) fn write(&self, records: &[&OutgoingRecord]) -> Result<(), TransactionError> {
        let (deadline, mut wait) = (Instant::now() + self.patience, AGAIN_AFTER);
        loop {
            let reason = match self.attempt(records) {
                Ok(()) => return Ok(()),
                Err(Attempt::Final(error)) => return Err(error),
                Err(Attempt::Again(reason)) => reason,
            };
            if Instant::now() >= deadline {
                return Err(TransactionError::Failed(reason));
            }
            tracing::warn!(reason, "a transaction was aborted; it is tried again");
            self.producer.poll(wait);
            wait = (2 * wait).min(AGAIN_AFTER_AT_MOST);
        }
    }

    fn attempt(&self, records: &[&OutgoingRecord]) -> Result<(), Attempt> {
        lock(&self.producer.context().unwritten).clear();
        let begun = self.producer.begin_transaction();
        begun.map_err(|error| self.failure(&error))?;
        let written = self.send(records).and_then(|()| {
            let deadline = Instant::now() + self.patience;
            let commit = || self.producer.commit_transaction(SLICE);
            self.repeated(deadline, commit).map_err(Attempt::Final)
        });
        if let Err(Attempt::Final(TransactionError::Fenced)) = written {
            return written;
        }
        written.or_else(|failure| {
            self.abort()?;
            Err(failure)
        })
    }

    fn send(&self, records: &[&OutgoingRecord]) -> Result<(), Attempt> {
        let deadline = Instant::now() + self.patience;
        for (index, record) in records.iter().enumerate() {
            let mut native = BaseRecord {
                topic: &record.topic,
                partition: record.partition,
                payload: record.value.as_deref(),
                key: record.key.as_deref(),
                timestamp: record.timestamp_millis.filter(|millis| *millis > 0),
                headers: native_headers(&record.headers),
                delivery_opaque: index,
            };
            loop {
                let (error, returned) = match self.producer.send(native) {
                    Ok(()) => break,
                    Err(unsent) => unsent,
                };
                let is_full = error.rdkafka_error_code() == Some(Code::QueueFull);
                if !is_full || Instant::now() >= deadline {
                    return Err(self.unwritten(index, record, &error, true));
                }
                native = returned;
                self.producer.poll(POLL);
            }
        }
        self.wait_for_answers();
        let first = lock(&self.producer.context().unwritten).pop_first();
        match first {
            None => Ok(()),
            Some((index, error)) => Err(self.unwritten(index, records[index], &error, false)),
        }
    }

    fn unwritten(
        &self,
        index: usize,
        record: &OutgoingRecord,
        error: &KafkaError,
        is_of_client: bool,
    ) -> Attempt {
        if let Some(fenced) = self.fatal() {
            return Attempt::Final(fenced);
        }
        let (topic, bytes) = (record.topic.clone(), record.bytes());
        let error = match is_of_client {
            true => WriteError::from_client(topic, error, bytes, self.message_max_bytes),
            false => WriteError::from_kafka(topic, error, bytes),
        };
        match error.kind() {
            WriteErrorKind::Transient => Attempt::Again(error.to_string()),
            _ => Attempt::Final(TransactionError::Refused { index, error }),
        }
    }

    /// The wait ends: with its answer, or after `message.timeout.ms`.
    fn wait_for_answers(&self) {
        let deadline = Instant::now() + Duration::from_millis(2 * TIMEOUT_MILLIS);
        while self.producer.in_flight_count() > 0 && Instant::now() < deadline {
            self.producer.poll(POLL);
        }
    }

    fn abort(&self) -> Result<(), Attempt> {
        self.producer.purge(PurgeConfig::default().queue());
        self.wait_for_answers();
        let deadline = Instant::now() + self.patience;
        let abort = || self.producer.abort_transaction(SLICE);
        self.repeated(deadline, abort).map_err(Attempt::Final)
    }

    /// Calls again what may be called again, until the deadline.
    fn repeated(
        &self,
        deadline: Instant,
        call: impl Fn() -> KafkaResult<()>,
    ) -> Result<(), TransactionError> {
        loop {
            let error = match call() {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            self.producer.poll(POLL);
            let is_retriable = match &error {
                KafkaError::Transaction(error) => error.is_retriable(),
                KafkaError::Flush(_) => true,
                _ => false,
            };
            let is_refused = self.producer.context().last_error.refused();
            if !is_retriable || is_refused || Instant::now() >= deadline {
                return Err(match self.failure(&error) {
                    Attempt::Final(error) => error,
                    Attempt::Again(reason) => TransactionError::Failed(reason),
                });
            }
        }
    }

    fn failure(&self, error: &KafkaError) -> Attempt {
        if let Some(fenced) = self.fatal() {
            return Attempt::Final(fenced);
        }
        let KafkaError::Transaction(error) = error else {
            return Attempt::Final(TransactionError::Failed(error.to_string()));
        };
        if is_fenced(error.code()) {
            return Attempt::Final(TransactionError::Fenced);
        }
        let advice = match error.code() {
            Code::TransactionalIdAuthorizationFailed => {
                "; allow this client WRITE and DESCRIBE on transactional ids that begin with keylane-redrive/"
            }
            _ => "",
        };
        let cause = self.producer.context().last_error.text();
        let cause = cause.map(|cause| format!(" ({cause})")).unwrap_or_default();
        let reason = format!("{error}{cause}{advice}");
        match error.txn_requires_abort() || error.is_retriable() {
            true => Attempt::Again(reason),
            false => Attempt::Final(TransactionError::Failed(reason)),
        }
    }

    fn fatal(&self) -> Option<TransactionError> {
        let (code, reason) = self.producer.client().fatal_error()?;
        Some(match is_fenced(code) {
            true => TransactionError::Fenced,
            false => TransactionError::Failed(reason),
        })
    }
}

fn is_fenced(code: Code) -> bool {
    matches!(
        code,
        Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch
    )
}

fn at_most(config: &mut ClientSettings, name: &str, millis: u64) {
    let given = config.get(name).and_then(|it| it.trim().parse().ok());
    let millis = given.map_or(millis, |given: u64| given.min(millis));
    config.set(name, millis.to_string());
}
