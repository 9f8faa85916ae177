//! Handing a record to librdkafka.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use tokio::sync::oneshot;

use super::client::{Client, InFlight};
use super::outgoing::{Acknowledged, OutgoingRecord};
use super::pending::NotAdmitted;
use super::write_error::{WriteError, WriteFailure};
use crate::Headers;

impl Client {
    /// Queues a copy of a record, or fails at once. The receiver gets the broker's answer.
    pub(super) fn queue(
        &self,
        record: &OutgoingRecord,
    ) -> Result<oneshot::Receiver<Result<Acknowledged, WriteError>>, WriteError> {
        let bytes = record.bytes();
        let fail = |failure| WriteError::new(record.topic.clone(), failure);
        if let Some(partition) = record.partition.filter(|partition| *partition < 0) {
            return Err(fail(WriteFailure::NegativePartition(partition)));
        }
        let admission = self
            .pending
            .admit(bytes)
            .map_err(|reason| fail(WriteFailure::NotAdmitted(reason)))?;
        let (answer, receiver) = oneshot::channel();
        let native_record = BaseRecord {
            topic: &record.topic,
            partition: record.partition,
            payload: record.value.as_deref(),
            key: record.key.as_deref(),
            timestamp: record.timestamp_millis.filter(|millis| *millis > 0),
            headers: native_headers(&record.headers),
            delivery_opaque: Box::new(InFlight {
                answer,
                topic: record.topic.clone(),
                bytes,
                admission,
            }),
        };
        match self.native().send(native_record) {
            Ok(()) => Ok(receiver),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                let limit = self.pending.records();
                Err(fail(WriteFailure::NotAdmitted(
                    NotAdmitted::TooManyRecords { limit },
                )))
            }
            Err((error, _)) => Err(WriteError::from_client(
                record.topic.clone(),
                &error,
                bytes,
                self.message_max_bytes(),
            )),
        }
    }
}

pub(super) fn native_headers(headers: &Headers) -> Option<OwnedHeaders> {
    if headers.is_empty() {
        return None;
    }
    let native = OwnedHeaders::new_with_capacity(headers.len());
    Some(headers.iter().fold(native, |native, (name, value)| {
        native.insert(Header {
            key: name,
            value: value.map(|value| value.as_ref()),
        })
    }))
}
