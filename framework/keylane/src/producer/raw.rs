//! Writing records as they are: for the retry and dead-letter topics, and under the enqueue helper.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::alone::Alone;
use super::client::Client;
pub(crate) use super::client::OnPanic;
use super::outgoing::Unwritten;
pub(crate) use super::outgoing::{Acknowledged, OutgoingRecord};
use super::pending::Pending;
pub(crate) use super::pending::PendingLimits;
use super::write_error::{WriteError, WriteErrorKind, WriteFailure};
use crate::kafka::config::{ClientConfigError, ProducerSettings, producer_config};

/// One idempotent producer with `acks=all`, bounded in memory. Cheap to clone; all clones share the
/// client.
///
/// When the last clone is dropped, what is pending gets five seconds more on the producer's thread
/// and is then given up.
#[derive(Clone)]
pub(crate) struct RawProducer {
    client: Arc<Client>,
    alone: Arc<Alone>,
}

impl RawProducer {
    /// Starts a producer. Does not wait for a connection. After a panic of its thread, which
    /// `on_panic` gets, all writes fail.
    ///
    /// # Errors
    /// Settings that cannot be used.
    pub(crate) fn start(
        bootstrap_servers: &str,
        kafka: &BTreeMap<String, String>,
        limits: PendingLimits,
        on_panic: OnPanic,
    ) -> Result<Self, ClientConfigError> {
        // The limits are kept by `Pending`, exactly and with the headers counted. librdkafka's own
        // limits are set higher. It counts a record until a whole batch of answers is handed over,
        // and would always refuse a record that `Pending` admits alone.
        let settings = ProducerSettings {
            bootstrap_servers,
            max_records: limits.records.saturating_mul(2),
            max_bytes: limits
                .bytes
                .saturating_mul(2)
                .saturating_add(LARGEST_RECORD),
        };
        let config = producer_config(&settings, kafka)?;
        let pending = Arc::new(Pending::new(limits));
        let alone = Arc::new(Alone::new(
            config.clone(),
            pending.clone(),
            on_panic.clone(),
        ));
        Ok(Self {
            client: Client::start(config, pending, on_panic)?,
            alone,
        })
    }

    /// Queues a record at the call, in call order, and returns the future of its acknowledgement.
    ///
    /// A record refused in a batch is written once more alone, behind what was queued since. Only
    /// then is it [refused](WriteErrorKind::Refused) for good, or [too
    /// large](WriteErrorKind::TooLarge). Only an awaited future does that.
    ///
    /// Never blocks and never waits for room. Dropping the future does not recall the record. The
    /// future ends: with the broker's answer, after `message.timeout.ms`, or when the producer is
    /// closed or dropped.
    pub(crate) fn send(
        &self,
        record: OutgoingRecord,
    ) -> impl Future<Output = Result<Acknowledged, WriteError>> + Send + 'static + use<> {
        let queued = self.queue(record);
        async move {
            let answer = async { queued?.await };
            answer.await.map_err(|unwritten| unwritten.error)
        }
    }

    /// Queues a record, or fails at once. An error has the record.
    pub(super) fn queue(
        &self,
        record: OutgoingRecord,
    ) -> Result<
        impl Future<Output = Result<Acknowledged, Box<Unwritten>>> + Send + 'static + use<>,
        Box<Unwritten>,
    > {
        let answer = match self.client.queue(&record) {
            Ok(answer) => answer,
            Err(error) => return Err(Box::new(Unwritten { record, error })),
        };
        // Weak: a future must not keep a dropped producer running.
        let alone = Arc::downgrade(&self.alone);
        Ok(async move {
            let abandoned = || {
                Err(WriteError::new(
                    record.topic.clone(),
                    WriteFailure::Abandoned,
                ))
            };
            let written = match answer.await.unwrap_or_else(|_| abandoned()) {
                Err(refused) if refused.kind() != WriteErrorKind::Transient => {
                    match alone.upgrade() {
                        Some(alone) => alone.write(&record).await,
                        None => abandoned(),
                    }
                }
                answer => answer,
            };
            written.map_err(|error| Box::new(Unwritten { record, error }))
        })
    }

    /// Waits until one more record would be taken, or the producer is closed.
    pub(super) async fn room(&self) {
        self.client.pending.room().await;
    }

    /// The number of records without an answer yet.
    pub(crate) fn pending(&self) -> usize {
        self.client.pending.records()
    }

    /// Waits until every record queued before the call has an answer, good or bad.
    ///
    /// # Errors
    /// The number of records still without one when the time was up.
    pub(crate) async fn flush(&self, within: Duration) -> Result<(), usize> {
        self.client.pending.flush(within).await
    }

    /// Accepts no more records, waits for the rest, and then gives up what is left: each such
    /// record's future ends with an error that leaves its fate open.
    ///
    /// # Errors
    /// The number of records given up.
    pub(crate) async fn close(&self, within: Duration) -> Result<(), usize> {
        self.client.pending.close();
        let flushed = self.flush(within).await;
        if flushed.is_err() {
            self.client.purge();
            self.alone.purge();
            // The purge is the thread's next act; a bound all the same.
            let _ = self.flush(PURGED_WITHIN).await;
        }
        flushed
    }

    #[cfg(test)]
    pub(super) fn fatal_error(&self) -> Option<String> {
        use rdkafka::producer::Producer;
        self.client
            .native()
            .client()
            .fatal_error()
            .map(|(_, reason)| reason)
    }
}

/// The most that `message.max.bytes` can be set to.
const LARGEST_RECORD: usize = 1_000_000_000;
const PURGED_WITHIN: Duration = Duration::from_secs(5);

impl std::fmt::Debug for RawProducer {
    /// Without the configuration, which may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawProducer")
            .field("pending", &self.pending())
            .finish_non_exhaustive()
    }
}
