//! Counts the letters of a dead-letter topic that are open, by the operations topic of the group.
//!
//! The operations topic is read on from where it was read to, and a client that reads it exists only
//! while there is something new: with nothing new, each count costs three queries.

use std::collections::BTreeMap;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::describe::has_controller;
use super::ops_topic::log_ids_by;
use super::record_count::records;
use super::topics::LastError;
use super::{LetterRange, SeekReader};
use crate::kafka::config::ClientSettings;
use crate::record::Record;

const PARTITION: i32 = 0;
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long one count reads. What is left is left to the next: the same thread measures lag.
const READ_WITHIN: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(100);
/// When the end was last reached longer ago, tombstones may have been removed that were not read.
/// Kafka keeps them for a day, by default.
const COUNTS_FOR: Duration = Duration::from_secs(3_600);

/// Takes in the records of an operations topic, and counts by them.
pub(crate) trait OpenLetters: Send {
    /// What was taken in does not count.
    fn begin_again(&mut self);

    fn take(&mut self, record: &Record);

    /// How many letters of these ranges are open. `log`: the id of the dead-letter topic's log,
    /// where a broker names it.
    ///
    /// # Errors
    /// Why that is not known.
    fn count(&mut self, log: Option<String>, ranges: &[LetterRange]) -> Result<u64, String>;
}

/// How many letters are open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Open {
    Letters(u64),
    /// It is not known, and waiting does not help.
    Unknown,
    /// No broker answers just now, or not all was read yet.
    #[default]
    NoAnswer,
}

/// Why there is no number.
#[derive(Debug)]
enum Miss {
    /// An operator can help.
    Unknown(String),
    NoAnswer(String),
}

/// Follows the operations topic of a group. Its calls block.
pub(crate) struct OpsFollower {
    /// Of a reader.
    config: ClientSettings,
    topic: String,
    letters: Box<dyn OpenLetters>,
    read: Option<WasRead>,
    /// The id of the operations topic's log.
    log: Option<String>,
    /// When its end was last reached.
    complete: Option<Instant>,
    /// No broker listed it at the last query.
    is_missing: bool,
    /// A client that is dropped. One of a topic that was deleted may not come to its end.
    closing: Option<JoinHandle<()>>,
    /// The reason that was logged.
    told: Option<String>,
}

/// An operations topic that is there.
struct Found {
    /// The id of the dead-letter topic's log, where brokers have ids.
    dead_letter_log: Option<String>,
}

/// What was read of the operations topic.
#[derive(Clone, Copy)]
struct WasRead {
    /// Where its log began then.
    first: i64,
    /// Everything before it was read.
    next: i64,
}

impl OpsFollower {
    /// `topic` is the operations topic, `config` that of a client which reads it.
    pub(crate) fn new(
        mut config: ClientSettings,
        topic: String,
        letters: Box<dyn OpenLetters>,
    ) -> Self {
        // A client without it would read the records of a transaction that was aborted.
        config.set("isolation.level", "read_committed");
        Self {
            config,
            topic,
            letters,
            read: None,
            log: None,
            complete: None,
            is_missing: false,
            closing: None,
            told: None,
        }
    }

    /// How many letters of these ranges of a dead-letter topic are open.
    pub(crate) fn count(
        &mut self,
        client: &BaseConsumer<LastError>,
        dead_letter_topic: &str,
        ranges: &[LetterRange],
    ) -> Open {
        if records(ranges) == 0 {
            return Open::Letters(0);
        }
        match self.look(client, dead_letter_topic, ranges) {
            Ok(open) => {
                if self.told.take().is_some() {
                    tracing::info!(topic = self.topic, "open dead letters are counted again");
                }
                Open::Letters(open)
            }
            Err(Miss::Unknown(reason)) => {
                self.tell(reason);
                Open::Unknown
            }
            Err(Miss::NoAnswer(reason)) => {
                tracing::debug!(
                    topic = self.topic,
                    reason,
                    "open dead letters are not counted just now"
                );
                Open::NoAnswer
            }
        }
    }

    /// Once for each reason in a row.
    fn tell(&mut self, reason: String) {
        if self.told.as_ref() != Some(&reason) {
            tracing::info!(
                topic = self.topic,
                "open dead letters cannot be counted, so their metric is absent: {reason}"
            );
            self.told = Some(reason);
        }
    }

    fn look(
        &mut self,
        client: &BaseConsumer<LastError>,
        dead_letter_topic: &str,
        ranges: &[LetterRange],
    ) -> Result<u64, Miss> {
        let log = match self.find(client, dead_letter_topic)? {
            Some(found) => {
                self.read_on(client)?;
                found.dead_letter_log
            }
            None => {
                // One broker that has not heard of it yet is no evidence.
                let was_read = self.read.is_some();
                if was_read && !std::mem::replace(&mut self.is_missing, true) {
                    return Err(Miss::NoAnswer("no broker lists it".to_owned()));
                }
                self.begin_again();
                None
            }
        };
        let counted = self.letters.count(log, ranges);
        counted.map_err(Miss::Unknown)
    }

    /// `None` where there is no operations topic.
    fn find(
        &mut self,
        client: &BaseConsumer<LastError>,
        dead_letter_topic: &str,
    ) -> Result<Option<Found>, Miss> {
        keylane_core::check_topic_name(&self.topic)
            .map_err(|rule| Miss::Unknown(format!("its name can be that of no topic: {rule}")))?;
        let metadata = client
            .fetch_metadata(Some(&self.topic), ANSWER_WITHIN)
            .map_err(no_answer)?;
        let Some(found) = metadata.topics().first() else {
            return Err(Miss::NoAnswer("no broker lists it".to_owned()));
        };
        match found.error().map(Code::from) {
            None => {}
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => return Ok(None),
            Some(Code::TopicAuthorizationFailed) => return Err(forbidden()),
            Some(code) => return Err(Miss::NoAnswer(code.to_string())),
        }
        self.is_missing = false;
        let partitions = found.partitions().len();
        if partitions != 1 {
            return Err(Miss::Unknown(format!(
                "it has {partitions} partitions; create it with 1 partition and cleanup.policy=compact"
            )));
        }
        let mut logs = match has_controller(client, &metadata) {
            true => log_ids_by(client, &[&self.topic, dead_letter_topic], ANSWER_WITHIN)
                .ok_or_else(|| Miss::NoAnswer("no broker names the topics' ids".to_owned()))?,
            false => BTreeMap::new(),
        };
        match (logs.remove(&self.topic), logs.remove(dead_letter_topic)) {
            (Some(of_operations), Some(of_letters)) => {
                if self.log.replace(of_operations.clone()) != Some(of_operations) {
                    self.begin_again();
                }
                Ok(Some(Found {
                    dead_letter_log: Some(of_letters),
                }))
            }
            // Brokers without ids.
            (None, None) if self.log.is_none() => Ok(Some(Found {
                dead_letter_log: None,
            })),
            _ => Err(Miss::NoAnswer("a broker names not all ids".to_owned())),
        }
    }

    fn begin_again(&mut self) {
        if self.read.take().is_some() {
            self.letters.begin_again();
        }
        self.complete = None;
    }

    /// Reads what has come since; an error where that is not all.
    fn read_on(&mut self, client: &BaseConsumer<LastError>) -> Result<(), Miss> {
        let (first, end) = client
            .fetch_watermarks(&self.topic, PARTITION, ANSWER_WITHIN)
            .map_err(no_answer)?;
        let is_other = |read: WasRead| read.first != first || read.next > end;
        let is_old = self.complete.is_some_and(|it| it.elapsed() >= COUNTS_FOR);
        if is_old || self.read.is_some_and(is_other) {
            self.begin_again();
        }
        let next = self.read.map_or(first, |read| read.next);
        if next < end {
            self.read_from(first, next)?;
        }
        self.complete = Some(Instant::now());
        Ok(())
    }

    fn read_from(&mut self, first: i64, next: i64) -> Result<(), Miss> {
        if self.closing.as_ref().is_some_and(|it| !it.is_finished()) {
            let reason = "a client that has read it before does not close";
            return Err(Miss::NoAnswer(reason.to_owned()));
        }
        let mut reader =
            SeekReader::open(&self.config, &self.topic, [PARTITION]).map_err(Miss::NoAnswer)?;
        self.read.get_or_insert(WasRead { first, next });
        let result = self.read_by(&mut reader, next);
        let closing = std::thread::Builder::new().name("keylane-ops-close".to_owned());
        self.closing = closing.spawn(move || drop(reader)).ok();
        result
    }

    fn read_by(&mut self, reader: &mut SeekReader, next: i64) -> Result<(), Miss> {
        let began = Instant::now();
        // The end of what is committed, whatever the other client asks for.
        let (_, end) = reader
            .ends(PARTITION, ANSWER_WITHIN)
            .map_err(Miss::NoAnswer)?;
        if next >= end {
            return Ok(());
        }
        reader.seek(PARTITION, next).map_err(Miss::NoAnswer)?;
        while began.elapsed() < READ_WITHIN {
            let letters = &mut self.letters;
            let result = reader.read(POLL, |record| letters.take(&record));
            let place = reader.place().map_or(next, |(_, place)| place);
            if let Some(read) = &mut self.read {
                read.next = place;
            }
            result.map_err(|reason| match reader.is_forbidden() {
                true => forbidden(),
                false => Miss::NoAnswer(reason),
            })?;
            if place >= end {
                return Ok(());
            }
        }
        Err(Miss::NoAnswer("not all of it was read yet".to_owned()))
    }
}

fn forbidden() -> Miss {
    Miss::Unknown("the cluster's ACLs do not let this client read it; allow READ on it".to_owned())
}

fn no_answer(error: KafkaError) -> Miss {
    match error.rdkafka_error_code() {
        Some(Code::TopicAuthorizationFailed) => forbidden(),
        _ => Miss::NoAnswer(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

    use super::*;
    use crate::kafka::config::{reader_config, side_client_config};
    use crate::{NewTask, TaskProducer};

    const PATIENCE: Duration = Duration::from_secs(60);

    /// Each record closes one letter.
    #[derive(Clone, Default)]
    struct Closed {
        now: u64,
        taken: Arc<AtomicU64>,
    }

    impl OpenLetters for Closed {
        fn begin_again(&mut self) {
            self.now = 0;
        }

        fn take(&mut self, _: &Record) {
            self.now += 1;
            self.taken.fetch_add(1, Ordering::Relaxed);
        }

        fn count(&mut self, _: Option<String>, ranges: &[LetterRange]) -> Result<u64, String> {
            match self.now {
                5 => Err("five is not known".to_owned()),
                closed => Ok(records(ranges) - closed),
            }
        }
    }

    struct Scene {
        broker: EmbeddedBroker,
        client: BaseConsumer<LastError>,
        follower: OpsFollower,
        taken: Arc<AtomicU64>,
    }

    impl Scene {
        fn new(operations: &str) -> Self {
            let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
            broker.create_topic("dead", 1).unwrap();
            let (servers, none) = (broker.bootstrap_servers(), BTreeMap::new());
            let config = side_client_config(servers, &none).unwrap();
            let client = config.create_with_context(LastError::default()).unwrap();
            let closed = Closed::default();
            let taken = closed.taken.clone();
            let reader = reader_config(servers, &none).unwrap();
            let follower = OpsFollower::new(reader, operations.to_owned(), Box::new(closed));
            Self {
                broker,
                client,
                follower,
                taken,
            }
        }

        /// Of `letters` letters; waits for an answer.
        fn open(&mut self, letters: i64) -> Open {
            let ranges = [LetterRange::new(0, 0, letters)];
            let deadline = Instant::now() + PATIENCE;
            loop {
                let open = self.follower.count(&self.client, "dead", &ranges);
                if open != Open::NoAnswer || Instant::now() >= deadline {
                    return open;
                }
            }
        }

        async fn write(&self, records: usize) {
            let producer = TaskProducer::builder("operations")
                .bootstrap_servers(self.broker.bootstrap_servers())
                .application_id("test")
                .start()
                .await
                .unwrap();
            let tasks: Vec<_> = (0..records).map(|_| NewTask::new("x")).collect();
            let written = producer.enqueue_all(tasks).await;
            assert!(written.iter().all(Result::is_ok));
            producer.close(PATIENCE).await.unwrap();
        }

        fn taken(&self) -> u64 {
            self.taken.load(Ordering::Relaxed)
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_operations_topic_is_read_on_from_where_it_was_read_to() {
        let mut scene = Scene::new("operations");
        assert_eq!(scene.open(10), Open::Letters(10), "there is none");
        assert_eq!(scene.follower.read.map(|it| it.next), None);
        scene.broker.create_topic("operations", 1).unwrap();
        scene.write(3).await;
        assert_eq!(scene.open(10), Open::Letters(7));
        assert_eq!(scene.open(11), Open::Letters(8));
        assert_eq!(scene.taken(), 3, "nothing new is not read");
        scene.write(1).await;
        assert_eq!(scene.open(11), Open::Letters(7));
        assert_eq!(scene.taken(), 4, "only what is new is read");

        // It was not read for a time in which tombstones go.
        scene.follower.complete = Instant::now().checked_sub(COUNTS_FOR);
        assert_eq!(scene.open(11), Open::Letters(7));
        assert_eq!(scene.taken(), 8, "all of it is read again");
        // Its beginning was deleted, or another one has its name.
        scene.follower.read.as_mut().unwrap().first = 1;
        assert_eq!(scene.open(11), Open::Letters(7));
        assert_eq!(scene.taken(), 12, "all of it is read again");

        scene.write(1).await;
        assert_eq!(scene.open(11), Open::Unknown);
        assert_eq!(
            scene.follower.told.as_deref(),
            Some("five is not known"),
            "it is reported"
        );
        scene.write(1).await;
        assert_eq!(scene.open(11), Open::Letters(5));
        assert_eq!(scene.follower.told, None);
    }

    #[test]
    fn without_letters_nothing_is_asked_and_a_topic_that_cannot_be_the_one_is_reported() {
        let mut scene = Scene::new("operations");
        scene.broker.create_topic("operations", 2).unwrap();
        assert_eq!(scene.open(0), Open::Letters(0));
        assert_eq!(scene.follower.told, None);
        assert_eq!(scene.open(1), Open::Unknown);
        let told = scene.follower.told.clone().unwrap();
        assert!(told.contains("2 partitions"), "{told}");
        let mut scene = Scene::new("a group/keylane-ops");
        assert_eq!(scene.open(1), Open::Unknown);
    }
    /// As a broker with ACLs answers: to the query for the topic, and to the fetch.
    #[test]
    fn a_topic_that_may_not_be_read_is_no_number_and_the_permission_is_named() {
        let forbidden = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
        let none = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
        let broker: MockCluster<'_, DefaultProducerContext> = MockCluster::new(1).unwrap();
        broker.create_topic("operations", 1, 1).unwrap();
        let servers = broker.bootstrap_servers();
        let config = side_client_config(&servers, &BTreeMap::new()).unwrap();
        let client = config.create_with_context(LastError::default()).unwrap();
        let writer: BaseProducer = config.create().unwrap();
        let record = BaseRecord::<(), str>::to("operations").payload("x");
        writer.send(record).unwrap();
        writer.flush(PATIENCE).unwrap();
        let reader = reader_config(&servers, &BTreeMap::new()).unwrap();
        let letters = Box::new(Closed::default());
        let mut follower = OpsFollower::new(reader, "operations".to_owned(), letters);
        let mut open = || {
            let deadline = Instant::now() + PATIENCE;
            loop {
                let ranges = [LetterRange::new(0, 0, 3)];
                let open = follower.count(&client, "dead", &ranges);
                if open != Open::NoAnswer || Instant::now() >= deadline {
                    return (open, follower.told.clone());
                }
            }
        };
        let check = |(open, told): (Open, Option<String>)| {
            assert_eq!(open, Open::Unknown);
            assert!(told.is_some_and(|it| it.contains("allow READ")));
        };
        broker.topic_error("operations", forbidden).unwrap();
        check(open());
        broker.topic_error("operations", none).unwrap();
        broker.request_errors(RDKafkaApiKey::Fetch, &[forbidden; 20]);
        check(open());
        broker.clear_request_errors(RDKafkaApiKey::Fetch);
        assert_eq!(open(), (Open::Letters(2), None));
    }
}
