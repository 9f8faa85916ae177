//! Where retries and dead letters are written.

use std::future::ready;
use std::sync::Arc;

use futures::future::Either;

use super::raw::{Acknowledged, OutgoingRecord, RawProducer};
use super::write_error::WriteError;

/// Writes retries and dead letters.
#[derive(Clone)]
pub(crate) enum RecordWriter {
    Kafka(RawProducer),
    /// Into memory, for a subscription without Kafka.
    Memory(Arc<dyn Fn(OutgoingRecord) -> Acknowledged + Send + Sync>),
}

impl RecordWriter {
    /// See [`RawProducer::send`].
    pub(crate) fn send(
        &self,
        record: OutgoingRecord,
    ) -> impl Future<Output = Result<Acknowledged, WriteError>> + Send + 'static + use<> {
        match self {
            Self::Kafka(producer) => Either::Left(producer.send(record)),
            Self::Memory(write) => Either::Right(ready(Ok(write(record)))),
        }
    }
}
