//! The librdkafka client of a producer, its thread, and its replacement after a fatal error.
//!
//! Built on `BaseProducer` rather than `FutureProducer`: a failed record is not copied back into an
//! owned message, a full queue is an error instead of a sleep, and the one thread that polls is
//! ours. So this thread finds a fatal error and replaces the client. It also drops the client,
//! whose `Drop` purges and blocks, which must not happen on a runtime thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, Producer, ProducerContext, PurgeConfig};
use tokio::sync::oneshot;

use super::outgoing::Acknowledged;
use super::pending::{Admission, Pending};
use super::write_error::{WriteError, WriteFailure};
use crate::kafka::client_log;
use crate::kafka::config::{ClientConfigError, ClientSettings, creation_error};
use crate::support::lock;
use crate::support::panics;
use crate::support::without_secrets;

/// How long the thread waits for events before it looks for anything else.
const POLL: Duration = Duration::from_millis(100);
/// How long records get to arrive when the producer is dropped without being closed.
const DROP_LINGER: Duration = Duration::from_secs(5);
/// A purge takes milliseconds; this only bounds it.
const GIVE_UP_WITHIN: Duration = Duration::from_secs(10);
/// The least time between two clients: first, and at most, doubling.
const REPLACE_AFTER: Duration = Duration::from_secs(1);
const REPLACE_AFTER_AT_MOST: Duration = Duration::from_secs(30);

pub(super) type Native = BaseProducer<Context>;

/// Shared by the handles of a producer and its thread.
pub(super) struct Client {
    config: ClientSettings,
    /// Only the thread replaces it, so a reader waits for the length of a swap at most.
    native: RwLock<Native>,
    pub(super) pending: Arc<Pending>,
    purge: AtomicBool,
}

impl Client {
    /// Creates the client and starts its thread, which ends when this is the last reference to the
    /// client.
    pub(super) fn start(
        config: ClientSettings,
        pending: Arc<Pending>,
        on_panic: OnPanic,
    ) -> Result<Arc<Self>, ClientConfigError> {
        let native = RwLock::new(create(&config).map_err(creation_error)?);
        let client = Arc::new(Self {
            config,
            native,
            pending,
            purge: AtomicBool::new(false),
        });
        let of_thread = client.clone();
        std::thread::Builder::new()
            .name("keylane-producer".to_owned())
            .spawn(move || serve(&of_thread, &on_panic))
            .map_err(|error| ClientConfigError::Refused {
                reason: format!("cannot start a thread: {error}"),
            })?;
        Ok(client)
    }

    /// The present client. Held for one call, never across an await.
    pub(super) fn native(&self) -> RwLockReadGuard<'_, Native> {
        lock::read(&self.native)
    }

    /// The client's own limit of a record. librdkafka's default where the configuration has none.
    pub(super) fn message_max_bytes(&self) -> usize {
        self.config
            .get("message.max.bytes")
            .and_then(|bytes| bytes.trim().parse().ok())
            .unwrap_or(1_000_000)
    }

    /// Gives up everything pending, soon: each record's future then fails.
    pub(super) fn purge(&self) {
        self.purge.store(true, Ordering::Release);
    }

    fn replace(&self, native: Native) -> Native {
        std::mem::replace(&mut *lock::write(&self.native), native)
    }
}

fn create(config: &ClientSettings) -> Result<Native, KafkaError> {
    Native::from_config_and_context(config, Context)
}

/// What is called with the text of a panic of the thread.
pub(crate) type OnPanic = Arc<dyn Fn(&str) + Send + Sync>;

/// Nothing may wait for an answer that cannot come: after a panic all unanswered records fail, and
/// no more are accepted.
fn serve(client: &Arc<Client>, on_panic: &OnPanic) {
    let Err(text) = panics::caught(|| run(client)) else {
        return;
    };
    tracing::error!(
        panic = text,
        "the producer's thread panicked; what is on its way fails, and nothing more is taken"
    );
    client.pending.break_down();
    on_panic(&text);
    let failed = panics::caught(|| {
        while Arc::strong_count(client) > 1 {
            // Not only once: a record that was admitted before may come to the client after.
            give_up(&client.native());
            client.native().poll(POLL);
        }
        give_up(&client.native());
    });
    if let Err(text) = failed {
        tracing::error!(
            panic = text,
            "the producer's thread panicked again and has ended; some writes may have no answer"
        );
    }
}

fn run(client: &Arc<Client>) {
    let mut backoff = ReplaceBackoff::new();
    while Arc::strong_count(client) > 1 {
        #[cfg(test)]
        panics::planted::step(
            "producer",
            client.config.get("bootstrap.servers").unwrap_or_default(),
        );
        client.native().poll(POLL);
        if client.purge.swap(false, Ordering::AcqRel) {
            client
                .native()
                .purge(PurgeConfig::default().queue().inflight());
        }
        let fatal = client.native().client().fatal_error();
        if let Some((code, reason)) = fatal
            && backoff.is_due()
        {
            tracing::error!(%code, reason, "the producer hit a fatal error and is replaced; pending writes fail");
            match create(&client.config) {
                Ok(native) => give_up(&client.replace(native)),
                Err(error) => {
                    tracing::error!(%error, "cannot replace the producer's client, trying again")
                }
            }
        }
    }
    finish(client);
}

/// The last handle is gone: give the rest time to arrive, then give it up.
fn finish(client: &Client) {
    let abandoned = client.pending.records();
    if abandoned == 0 {
        return;
    }
    if !client.pending.is_closed() {
        tracing::warn!(
            records = abandoned,
            "a producer was dropped without close while records were pending"
        );
    }
    let native = client.native();
    if native.flush(DROP_LINGER).is_err() {
        tracing::warn!(
            records = client.pending.records(),
            "records of a dropped producer are given up"
        );
        give_up(&native);
    }
}

/// Fails what the client still holds. The records come back as events. All of them must be served
/// before the client is dropped. Otherwise their futures would wait without end, and their share of
/// the limits would be lost.
fn give_up(native: &Native) {
    native.purge(PurgeConfig::default().queue().inflight());
    let deadline = Instant::now() + GIVE_UP_WITHIN;
    while native.in_flight_count() > 0 {
        if Instant::now() >= deadline {
            tracing::error!(
                records = native.in_flight_count(),
                "librdkafka does not return its records"
            );
            return;
        }
        native.poll(Duration::from_millis(1));
    }
}

/// Bounds how often a client is replaced: what is fatal at once (a missing permission) would spin
/// otherwise.
struct ReplaceBackoff {
    last: Instant,
    wait: Duration,
}

impl ReplaceBackoff {
    fn new() -> Self {
        Self {
            last: Instant::now(),
            wait: Duration::ZERO,
        }
    }

    fn is_due(&mut self) -> bool {
        let lived = self.last.elapsed();
        if lived < self.wait {
            return false;
        }
        // A client that lived long was well: the next failure is a new story.
        let well = lived > 2 * REPLACE_AFTER_AT_MOST;
        self.wait = if well {
            REPLACE_AFTER
        } else {
            (2 * self.wait).clamp(REPLACE_AFTER, REPLACE_AFTER_AT_MOST)
        };
        self.last = Instant::now();
        true
    }
}

/// What is known of a record on its way.
pub(super) struct InFlight {
    pub(super) answer: oneshot::Sender<Result<Acknowledged, WriteError>>,
    pub(super) topic: Arc<str>,
    pub(super) bytes: usize,
    pub(super) admission: Admission,
}

impl InFlight {
    fn finish(self, result: Result<Acknowledged, WriteError>) {
        // Room first: the receiver of the answer may enqueue at once.
        drop(self.admission);
        // There may be no receiver: the future was dropped.
        let _ = self.answer.send(result);
    }
}

/// Receives librdkafka's events on the polling thread.
pub(super) struct Context;

impl ProducerContext for Context {
    type DeliveryOpaque = Box<InFlight>;

    fn delivery(&self, result: &DeliveryResult<'_>, in_flight: Box<InFlight>) {
        let result = match result {
            Ok(message) => acknowledged(&in_flight.topic, message.partition(), message.offset()),
            Err((error, _)) => Err(WriteError::from_kafka(
                in_flight.topic.clone(),
                error,
                in_flight.bytes,
            )),
        };
        in_flight.finish(result);
    }
}

/// A success without an offset is no success. librdkafka reports one where the broker considers a
/// record a duplicate (`DUPLICATE_SEQUENCE_NUMBER`). The broker is wrong where a topic was deleted
/// and re-created while records were being written: seen with Apache Kafka 4.2, the record is not
/// in the log.
fn acknowledged(topic: &Arc<str>, partition: i32, offset: i64) -> Result<Acknowledged, WriteError> {
    if offset < 0 {
        return Err(WriteError::new(topic.clone(), WriteFailure::WithoutOffset));
    }
    Ok(Acknowledged { partition, offset })
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client_log::log("producer", level, facility, message);
    }

    /// Broker connections come and go; what concerns a record arrives in its answer.
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason = %without_secrets(reason), "producer");
    }
}

#[cfg(test)]
mod tests {
    use super::super::write_error::WriteErrorKind;
    use super::*;

    #[test]
    fn a_success_without_an_offset_is_no_acknowledgement_and_may_be_tried_again() {
        let topic = Arc::from("parking");
        assert_eq!(
            acknowledged(&topic, 3, 0),
            Ok(Acknowledged {
                partition: 3,
                offset: 0
            })
        );
        // librdkafka's value for an unknown offset.
        for unknown in [-1, -1001] {
            let error = acknowledged(&topic, 3, unknown).unwrap_err();
            assert_eq!(error.kind(), WriteErrorKind::Transient);
        }
    }

    #[test]
    fn the_first_replacement_is_immediate_and_the_next_ones_wait() {
        let mut backoff = ReplaceBackoff::new();
        assert!(backoff.is_due());
        assert!(!backoff.is_due());
        assert_eq!(backoff.wait, REPLACE_AFTER);
        for _ in 0..10 {
            backoff.last -= backoff.wait;
            assert!(backoff.is_due());
        }
        assert_eq!(backoff.wait, REPLACE_AFTER_AT_MOST);
        backoff.last -= 3 * REPLACE_AFTER_AT_MOST;
        assert!(backoff.is_due());
        assert_eq!(backoff.wait, REPLACE_AFTER);
    }
}
