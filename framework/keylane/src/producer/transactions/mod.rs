//! Transactions of one producer, and the lock that its transactional id is.
//!
//! Every call blocks, and polls the client: what is not polled has no answers, and an abort would
//! wait for them until its time-out.

mod judgement;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use super::outgoing::OutgoingRecord;
use super::queue::native_headers;
use super::write_error::WriteError;
use crate::kafka::config::{ClientSettings, ProducerSettings, creation_error, producer_config};
use crate::kafka::topics::LastError;
use crate::support::lock::lock;
use judgement::{Attempt, advice, is_fenced, is_retriable, judged};

pub(crate) use judgement::TransactionError;

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
    id: String,
    message_max_bytes: usize,
    patience: Duration,
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
        // The client is not polled between transactions, where they would pile up.
        config.remove("statistics.interval.ms");
        let message_max_bytes = config.get("message.max.bytes");
        let message_max_bytes = message_max_bytes.and_then(|bytes| bytes.trim().parse().ok());
        let producer = BaseProducer::from_config_and_context(&config, Answers::default());
        let taken = Self {
            producer: producer.map_err(creation_error)?,
            id: id.to_owned(),
            message_max_bytes: message_max_bytes.unwrap_or(1_000_000),
            patience,
        };
        let deadline = Instant::now() + patience;
        let is_refused = || taken.producer.context().last_error.refused();
        taken.repeated(deadline, is_refused, || {
            taken.producer.init_transactions(SLICE)
        })?;
        Ok(taken)
    }

    /// To be called while nothing is written.
    pub(crate) fn serve(&self) {
        self.producer.poll(Duration::ZERO);
    }

    /// Writes these records in one transaction: all of them, or none. Where it fails for a passing
    /// reason, it is done again.
    pub(crate) fn write(&self, records: &[&OutgoingRecord]) -> Result<(), TransactionError> {
        self.repeat(records, Attempt::Again)
    }

    /// The same, but without another attempt where it takes too long: the caller writes fewer.
    pub(crate) fn write_in_time(
        &self,
        records: &[&OutgoingRecord],
    ) -> Result<(), TransactionError> {
        self.repeat(records, |reason| {
            Attempt::Final(TransactionError::Slow(reason))
        })
    }

    fn repeat(
        &self,
        records: &[&OutgoingRecord],
        slow: impl Fn(String) -> Attempt,
    ) -> Result<(), TransactionError> {
        let (deadline, mut wait) = (Instant::now() + self.patience, AGAIN_AFTER);
        loop {
            let failed = match self.attempt(records) {
                Ok(()) => {
                    self.producer.context().last_error.forget();
                    return Ok(());
                }
                Err(Attempt::Slow(reason)) => slow(reason),
                Err(other) => other,
            };
            let reason = match failed {
                Attempt::Final(error) => return Err(error),
                Attempt::Again(reason) | Attempt::Slow(reason) => reason,
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
        let failure = match self.send(records).and_then(|()| self.commit()) {
            Ok(()) => return Ok(()),
            // There is nothing to abort, or it may be committed.
            Err(
                failure @ Attempt::Final(
                    TransactionError::Fenced
                    | TransactionError::Lost(_)
                    | TransactionError::Unanswered(_),
                ),
            ) => return Err(failure),
            Err(failure) => failure,
        };
        self.abort()?;
        Err(failure)
    }

    /// After any failure of it the transaction is not repeated.
    fn commit(&self) -> Result<(), Attempt> {
        let deadline = Instant::now() + self.patience;
        loop {
            let error = match self.producer.commit_transaction(SLICE) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            self.producer.poll(POLL);
            if is_retriable(&error) && Instant::now() < deadline {
                continue;
            }
            let requires_abort = match &error {
                KafkaError::Transaction(error) => error.txn_requires_abort(),
                _ => false,
            };
            return Err(Attempt::Final(match self.failure(&error) {
                Attempt::Final(TransactionError::Failed(reason))
                | Attempt::Again(reason)
                | Attempt::Slow(reason) => match requires_abort {
                    true => TransactionError::Failed(reason),
                    // A call of it may still be current, and an abort would only conflict with it.
                    false => TransactionError::Unanswered(reason),
                },
                Attempt::Final(other) => other,
            }));
        }
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
                    let (topic, bytes) = (record.topic.clone(), record.bytes());
                    let limit = self.message_max_bytes;
                    let error = WriteError::from_client(topic, &error, bytes, limit);
                    return Err(self.unwritten(vec![(index, error)]));
                }
                native = returned;
                self.producer.poll(POLL);
            }
        }
        self.wait_for_answers();
        let unwritten = std::mem::take(&mut *lock(&self.producer.context().unwritten));
        if unwritten.is_empty() {
            return Ok(());
        }
        let error = |(index, error): (usize, KafkaError)| {
            let record = records[index];
            let error = WriteError::from_kafka(record.topic.clone(), &error, record.bytes());
            (index, error)
        };
        Err(self.unwritten(unwritten.into_iter().map(error).collect()))
    }

    fn unwritten(&self, unwritten: Vec<(usize, WriteError)>) -> Attempt {
        if let Some(fatal) = self.fatal() {
            return Attempt::Final(fatal);
        }
        match judged(unwritten) {
            Attempt::Again(reason) => Attempt::Again(reason + &self.cause()),
            Attempt::Slow(reason) => Attempt::Slow(reason + &self.cause()),
            refused @ Attempt::Final(_) => refused,
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
        // What is queued is written, to be aborted. A purge would leave a gap in the sequence
        // numbers, and the brokers refuse what comes behind it.
        self.wait_for_answers();
        let deadline = Instant::now() + self.patience;
        let abort = || self.producer.abort_transaction(SLICE);
        let aborted = self.repeated(deadline, || false, abort);
        // The client then has no other transaction before this one's end: another producer has to
        // take the id, which ends it.
        aborted.map_err(|error| {
            Attempt::Final(match error {
                TransactionError::Failed(reason) => TransactionError::Lost(reason),
                other => other,
            })
        })
    }

    /// Calls again what may be called again, until the deadline, or until it is in vain.
    fn repeated(
        &self,
        deadline: Instant,
        is_in_vain: impl Fn() -> bool,
        call: impl Fn() -> KafkaResult<()>,
    ) -> Result<(), TransactionError> {
        loop {
            let error = match call() {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            self.producer.poll(POLL);
            if !is_retriable(&error) || is_in_vain() || Instant::now() >= deadline {
                return Err(match self.failure(&error) {
                    Attempt::Final(error) => error,
                    Attempt::Again(reason) | Attempt::Slow(reason) => {
                        TransactionError::Failed(reason)
                    }
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
        let reason = format!("{error}{}{}", self.cause(), advice(error.code(), &self.id));
        match error.txn_requires_abort() || error.is_retriable() {
            true => Attempt::Again(reason),
            false => Attempt::Final(TransactionError::Failed(reason)),
        }
    }

    /// What the client knows of the brokers, in brackets.
    fn cause(&self) -> String {
        let cause = self.producer.context().last_error.text();
        cause.map(|cause| format!(" ({cause})")).unwrap_or_default()
    }

    fn fatal(&self) -> Option<TransactionError> {
        let (code, reason) = self.producer.client().fatal_error()?;
        Some(match is_fenced(code) {
            true => TransactionError::Fenced,
            false => TransactionError::Lost(reason + &advice(code, &self.id)),
        })
    }
}

fn at_most(config: &mut ClientSettings, name: &str, millis: u64) {
    let given = config.get(name).and_then(|it| it.trim().parse().ok());
    let millis = given.map_or(millis, |given: u64| given.min(millis));
    config.set(name, millis.to_string());
}

#[cfg(test)]
mod tests;
