//! Sorts messages into batches per partition.

use std::collections::HashMap;

use keylane_core::member::fingerprint;

use super::assigned::Assigned;
use crate::dead_letter::Intake;
use crate::kafka::{Cached, NativeMessage};
use crate::record::{Arena, Record};

/// Sorts one read's messages into the batches of their partitions.
///
/// Messages of one partition come in runs, so most are sorted by looking at the one before.
#[derive(Default)]
pub(crate) struct Batching {
    /// Where a partition stands in the table, by librdkafka's topic object. Emptied whenever the
    /// table changes.
    places: HashMap<(usize, i32), usize>,
    last: Option<((usize, i32), usize)>,
    /// Where the bytes go.
    arena: Arena,
    intake: Intake,
}

impl Batching {
    pub(crate) fn new(intake: Intake) -> Self {
        Self {
            intake,
            ..Self::default()
        }
    }

    pub(crate) fn table_changed(&mut self) {
        self.places.clear();
        self.last = None;
    }

    /// Copies one message into its batch. The message may be freed afterwards.
    pub(crate) fn take(
        &mut self,
        cached: Cached<'_>,
        table: &mut [Assigned],
        message: &NativeMessage<'_>,
    ) {
        #[cfg(test)]
        crate::support::panics::planted::step("batching", message.topic());
        let Some(place) = self.place(table, message) else {
            // Left over from an assignment that has ended: librdkafka drops those itself, and the
            // next owner gets it.
            tracing::warn!(
                topic = message.topic(),
                partition = message.partition(),
                offset = message.offset(),
                "a record of a partition that is not assigned was left out"
            );
            return;
        };
        let partition = &mut table[place];
        if partition.log.is_recreated() || partition.beginning.is_some() {
            // Read again from where the new epoch begins.
            return;
        }
        let offset = message.offset();
        let (key, value, timestamp) = (message.key(), message.value(), message.timestamp_millis());
        // Of the bytes as read: what is unwrapped later changes no record's identity.
        let print = fingerprint(timestamp, key, value);
        if !partition.takes(cached, offset, print) {
            return;
        }
        partition.note_leader(message.leader_epoch(), offset);
        let headers = self
            .intake
            .read(message.headers(), value, partition.is_retry_topic);
        let record = Record::new(&mut self.arena, offset, timestamp, key, value, headers);
        partition.batch_bytes += record.size() as u64;
        partition.batch.push(record);
    }

    fn place(&mut self, table: &[Assigned], message: &NativeMessage<'_>) -> Option<usize> {
        let id = (message.topic_id(), message.partition());
        if let Some((_, place)) = self.last.filter(|(last, _)| *last == id) {
            return Some(place);
        }
        let place = match self.places.get(&id) {
            Some(place) => *place,
            None => {
                let topic = message.topic();
                let place = table
                    .iter()
                    .position(|p| p.partition == id.1 && &*p.topic == topic)?;
                self.places.insert(id, place);
                place
            }
        };
        self.last = Some((id, place));
        Some(place)
    }
}
