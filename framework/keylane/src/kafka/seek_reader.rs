//! Reads a topic from any place on, one partition at a time, without a group.

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::{Offset, TopicPartitionList};

use super::assigned::{Assigned, Fetching};
use super::fetcher_wakeup::FetcherWakeup;
use super::letters::{ReaderContext, is_end, is_lasting, reason, record};
use super::native;
use crate::kafka::config::ClientSettings;
use crate::record::{Arena, Record};

/// The most records of one read.
const AT_ONCE: usize = 200;
const POLL: Duration = Duration::from_millis(100);
/// A client has about one a second.
const EVENTS_AT_ONCE: usize = 4;
const SEEK_WITHIN: Duration = Duration::from_secs(10);
const SEEK_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// Its calls block.
///
/// All partitions are assigned once, and those that are not read are paused. An assignment that
/// replaces another one would take away the forwarding of its partitions at a moment that nothing
/// shows.
pub(crate) struct SeekReader {
    // Dropped before the client.
    wakeup: FetcherWakeup,
    assigned: Assigned<ReaderContext>,
    topic: String,
    /// The partition that is read, and the next offset.
    place: Option<(i32, i64)>,
    is_forbidden: bool,
    arena: Arena,
}

impl SeekReader {
    /// Of these partitions. Reads nothing yet.
    pub(crate) fn open(
        config: &ClientSettings,
        topic: &str,
        partitions: impl IntoIterator<Item = i32>,
    ) -> Result<Self, String> {
        let partitions = partitions.into_iter().map(|it| (it, Offset::Beginning));
        let assigned = Assigned::open(config, topic, partitions, Fetching::Paused, AT_ONCE)?;
        Ok(Self {
            wakeup: FetcherWakeup::new(&assigned.client),
            assigned,
            topic: topic.to_owned(),
            place: None,
            is_forbidden: false,
            arena: Arena::default(),
        })
    }

    /// The partition that is read, and the next offset: what is before it was read, or is gone.
    pub(crate) fn place(&self) -> Option<(i32, i64)> {
        self.place
    }

    /// Whether a read has failed because the ACLs do not let this client read.
    pub(crate) fn is_forbidden(&self) -> bool {
        self.is_forbidden
    }

    /// The first offset of a partition, and the end that this client reads to: with
    /// `read_committed` that is where the first open transaction begins.
    pub(crate) fn ends(&self, partition: i32, patience: Duration) -> Result<(i64, i64), String> {
        let ends = self
            .assigned
            .client
            .fetch_watermarks(&self.topic, partition, patience);
        ends.map_err(|error| format!("its end is not known: {error}"))
    }

    /// Goes on at this place.
    pub(crate) fn seek(&mut self, partition: i32, offset: i64) -> Result<(), String> {
        let topic = self.topic.clone();
        let list = |partition| {
            let mut list = TopicPartitionList::new();
            list.add_partition(&topic, partition);
            list
        };
        let before = self.place.take().map(|(partition, _)| partition);
        if let Some(before) = before.filter(|it| *it != partition) {
            let paused = self.assigned.client.pause(&list(before));
            paused.map_err(|error| error.to_string())?;
        }
        let deadline = Instant::now() + SEEK_WITHIN;
        loop {
            let mut to = list(partition);
            to.set_partition_offset(&topic, partition, Offset::Offset(offset))
                .map_err(|error| error.to_string())?;
            let refused = native::seek(&self.assigned.client, &mut to, SEEK_WITHIN);
            let Some(code) = refused.into_iter().flatten().next() else {
                break;
            };
            // Until its fetcher has started.
            if Instant::now() >= deadline {
                return Err(format!("offset {offset} of partition {partition}: {code}"));
            }
            std::thread::sleep(SEEK_AGAIN_AFTER);
        }
        if before != Some(partition) {
            let resumed = self.assigned.client.resume(&list(partition));
            resumed.map_err(|error| error.to_string())?;
            let resumed = [(&*self.topic, partition)].into_iter();
            self.wakeup.wake(&self.assigned.client, resumed);
        }
        self.place = Some((partition, offset));
        Ok(())
    }

    /// Serves the client while nothing is read: its statistics would pile up.
    pub(crate) fn serve(&self) {
        for _ in 0..EVENTS_AT_ONCE {
            // Records are on the queue of our own.
            let _ = self.assigned.client.poll(Duration::ZERO);
        }
    }

    /// Hands out the next records, and moves the place on. There may be none by then.
    pub(crate) fn read(
        &mut self,
        wait: Duration,
        mut take: impl FnMut(Record),
    ) -> Result<(), String> {
        let Self {
            assigned,
            place,
            is_forbidden,
            arena,
            ..
        } = self;
        let Some((partition, next)) = place else {
            return Ok(());
        };
        let read = assigned.read(wait, |message| {
            if message.partition() == *partition && message.offset() >= *next {
                *next = message.offset() + 1;
                take(record(message, arena));
            }
        });
        // The end of the log is an error, with its offset.
        let ends = read.failed_fetches.iter();
        for end in ends.filter(|end| end.partition == *partition) {
            *next = end.offset.max(*next);
        }
        match read.error {
            Some(error) if is_lasting(&error) => {
                *is_forbidden |= error.rdkafka_error_code() == Some(Code::TopicAuthorizationFailed);
                Err(reason(&error))
            }
            Some(error) if !is_end(&error) => {
                tracing::debug!(topic = %self.topic, %error, "cannot be read just now");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Reads up to this offset of the partition.
    ///
    /// # Errors
    /// Also where the brokers give nothing more for as long as `patience`.
    pub(crate) fn read_until(
        &mut self,
        end: i64,
        patience: Duration,
        mut take: impl FnMut(Record),
    ) -> Result<(), String> {
        let mut moved = (
            Instant::now(),
            self.place,
            self.assigned.client.context().progress(),
        );
        while let Some((partition, next)) = self.place.filter(|(_, next)| *next < end) {
            self.read(POLL, &mut take)?;
            let progress = self.assigned.client.context().progress();
            if (self.place, progress) != (moved.1, moved.2) {
                moved = (Instant::now(), self.place, progress);
            } else if moved.0.elapsed() >= patience {
                let reason = self.assigned.client.context().last_error();
                let reason = reason.unwrap_or_else(|| "the brokers gave no reason".to_owned());
                return Err(format!(
                    "nothing arrived within {patience:?} from offset {next} of partition {partition} on, and {end} is \
                     to be reached: {reason}"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};
    use rdkafka::types::RDKafkaApiKey;

    use super::*;
    use crate::kafka::config::reader_config;
    use crate::{NewTask, TaskProducer};

    /// A redrive may wait for hours, and a client has statistics every second.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_reader_that_is_served_takes_its_statistics_and_keeps_its_records() {
        let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
        broker.create_topic("dead", 1).unwrap();
        let producer = TaskProducer::builder("dead")
            .bootstrap_servers(broker.bootstrap_servers())
            .application_id("test")
            .start()
            .await
            .unwrap();
        let tasks: Vec<_> = (0..5).map(|at| NewTask::new(at.to_string())).collect();
        let written = producer.enqueue_all(tasks).await;
        assert!(written.iter().all(Result::is_ok));
        producer.close(Duration::from_secs(60)).await.unwrap();

        let config = reader_config(broker.bootstrap_servers(), &BTreeMap::new()).unwrap();
        let mut reader = SeekReader::open(&config, "dead", [0]).unwrap();
        broker.remember_requests();
        reader.seek(0, 0).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        // Its fetcher would sleep for up to a second.
        while broker.requests(RDKafkaApiKey::ListOffsets) == 0 {
            assert!(Instant::now() < deadline, "the fetcher is not woken");
            std::thread::sleep(SEEK_AGAIN_AFTER);
        }
        // The client fetches ahead, and its statistics say so.
        while reader.assigned.client.context().progress() < 5 {
            assert!(Instant::now() < deadline, "the statistics are not served");
            reader.serve();
            std::thread::sleep(SEEK_AGAIN_AFTER);
        }
        let mut offsets = Vec::new();
        let patience = Duration::from_secs(60);
        let take = |record: Record| offsets.push(record.offset());
        reader.read_until(5, patience, take).unwrap();
        assert_eq!(offsets, [0, 1, 2, 3, 4]);
    }
}
