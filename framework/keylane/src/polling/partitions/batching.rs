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
        let record = Record::new(&mut self.arena, offset, timestamp, key, value, headers)
            .under(message.leader_epoch());
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};
    use rdkafka::ClientConfig;
    use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};

    use super::*;
    use crate::SubscriptionConfig;
    use crate::config::LegacyTasks;
    use crate::kafka::Client;
    use crate::record::{TASK_METADATA, TaskMetadata, legacy_task};

    const PATIENCE: Duration = Duration::from_secs(30);

    /// The same task at the same offset and time, in the wrapper of another client: it is another
    /// record, of a log that was cut and written again.
    #[test]
    fn what_is_read_again_in_another_wrapper_is_another_record() {
        let mut config = SubscriptionConfig::new("group", "tasks");
        config.legacy_tasks = LegacyTasks::Read;
        let mut batching = Batching::new(Intake::of(&config));
        let mut table = [Assigned::for_tests("tasks", 1)];
        let mut read = |instance: &str| {
            let (_broker, mut client) = log_of(&wrapped(instance));
            let mut count = 0;
            let deadline = Instant::now() + PATIENCE;
            while count == 0 {
                assert!(Instant::now() < deadline, "nothing is read");
                client.read(Duration::from_millis(50), |message, cached| {
                    batching.take(cached, &mut table, message);
                    count += 1;
                });
            }
            let values: Vec<_> = table[0].batch.iter().map(|it| it.value_bytes()).collect();
            (values, table[0].log.has_changed())
        };
        let once = vec![Some("pay".into())];
        assert_eq!(read("gate-1"), (once.clone(), false));
        assert_eq!(read("gate-1"), (once, false), "the same again");
        assert_eq!(read("gate-10"), (vec![], true));
    }

    fn wrapped(instance: &str) -> bytes::Bytes {
        let metadata = TaskMetadata {
            source_instance_id: instance.to_owned(),
            ..TaskMetadata::default()
        };
        let mut headers = crate::Headers::new();
        headers.push(TASK_METADATA, metadata.encode());
        legacy_task::wrap(&mut headers, b"pay")
    }

    /// A log with one record, and a client that reads it.
    fn log_of(value: &[u8]) -> (EmbeddedBroker, Client) {
        let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).expect("it starts");
        broker.create_topic("tasks", 1).expect("it is new");
        let producer: ThreadedProducer<_> = ClientConfig::new()
            .set("bootstrap.servers", broker.bootstrap_servers())
            .create()
            .expect("the settings are right");
        let record = BaseRecord::<(), _>::to("tasks").payload(value).timestamp(5);
        producer.send(record).expect("there is room");
        producer.flush(PATIENCE).expect("it is written");
        let client = Client::for_tests(&broker, &[]);
        client.read_from_beginning("tasks");
        (broker, client)
    }
}
