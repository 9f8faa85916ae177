//! Writing refused records again, one by one.
//!
//! A broker refuses a whole batch where one record of it is invalid, or where all together are
//! larger than the topic allows. librdkafka neither splits such a batch nor names the invalid
//! record. (Seen with Apache Kafka 4.2: with a record without a key on a compacted topic, the rest
//! of its batch is refused too.) So a refused record is written once more by a second client that
//! never batches. Only what is refused alone is refused for good.

use std::sync::Arc;

use tokio::sync::OnceCell;

use super::client::{Client, OnPanic};
use super::outgoing::{Acknowledged, OutgoingRecord};
use super::pending::{NotAdmitted, Pending};
use super::write_error::{WriteError, WriteFailure};
use crate::kafka::config::ClientSettings;

/// The client that never batches; started when it is first needed, which is never for most
/// producers.
pub(super) struct Alone {
    config: ClientSettings,
    pending: Arc<Pending>,
    on_panic: OnPanic,
    client: OnceCell<Arc<Client>>,
}

impl Alone {
    pub(super) fn new(
        mut config: ClientSettings,
        pending: Arc<Pending>,
        on_panic: OnPanic,
    ) -> Self {
        config.set("batch.num.messages", "1");
        Self {
            config,
            pending,
            on_panic,
            client: OnceCell::new(),
        }
    }

    /// Writes a record that was refused in a batch.
    ///
    /// # Errors
    /// The broker's answer to this record alone. Where no broker can be reached, the record may be
    /// a valid one of a refused batch, and the error is a transient one.
    pub(super) async fn write(&self, record: &OutgoingRecord) -> Result<Acknowledged, WriteError> {
        let fail = |failure| Err(WriteError::new(record.topic.clone(), failure));
        let Ok(client) = self.client.get_or_try_init(|| self.start()).await else {
            return fail(WriteFailure::RefusedInBatch);
        };
        match client.queue(record) {
            Ok(answer) => answer
                .await
                .unwrap_or_else(|_| fail(WriteFailure::Abandoned)),
            Err(WriteError {
                failure: WriteFailure::NotAdmitted(NotAdmitted::Closed),
                ..
            }) => fail(WriteFailure::RefusedInBatch),
            Err(error) => Err(error),
        }
    }

    pub(super) fn purge(&self) {
        if let Some(client) = self.client.get() {
            client.purge();
        }
    }

    /// Creating a client reads certificates and starts threads: not on a runtime thread.
    async fn start(&self) -> Result<Arc<Client>, ()> {
        let (config, pending, on_panic) = (
            self.config.clone(),
            self.pending.clone(),
            self.on_panic.clone(),
        );
        match tokio::task::spawn_blocking(move || Client::start(config, pending, on_panic)).await {
            Ok(Ok(client)) => Ok(client),
            Ok(Err(error)) => {
                tracing::error!(%error, "cannot start the client that writes refused records alone");
                Err(())
            }
            Err(_) => Err(()),
        }
    }
}
