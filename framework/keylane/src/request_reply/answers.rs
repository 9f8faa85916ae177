//! The thread that reads a requester's partition of answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::RequesterError;
use super::waiting::Waiting;
use crate::kafka::config::ClientSettings;
use crate::kafka::{SeekReader, answer_ranges};
use crate::support::{LogLimit, clock, panics};

/// One read; also how soon the thread ends when nothing needs it any longer.
const POLL: Duration = Duration::from_millis(100);
/// How often it is checked that the log is the one that is read.
const CHECKED_EVERY: Duration = Duration::from_secs(10);
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const AGAIN_AFTER: Duration = Duration::from_secs(1);
const WARNED_EVERY: Duration = Duration::from_secs(30);

/// A partition of answers, from its end on. Its calls block.
pub(super) struct Answers {
    config: ClientSettings,
    topic: Arc<str>,
    pub(super) partition: i32,
    /// `None` while it cannot be read.
    reader: Option<SeekReader>,
    next: i64,
}

impl Answers {
    /// Chooses a partition, and begins to read it at its end.
    pub(super) fn open(
        config: ClientSettings,
        topic: Arc<str>,
        within: Duration,
    ) -> Result<Self, RequesterError> {
        let failed = |reason: String| RequesterError::Answers {
            topic: topic.to_string(),
            reason,
        };
        let ranges = answer_ranges(&config, &topic, within).map_err(|it| failed(it.to_string()))?;
        let Some(range) = fastrand::choice(&ranges) else {
            return Err(failed("it has no partitions".to_owned()));
        };
        let (partition, next) = (range.partition, range.end);
        let reader = reader_at(&config, &topic, partition, next).map_err(failed)?;
        Ok(Self {
            config,
            topic,
            partition,
            reader: Some(reader),
            next,
        })
    }

    /// Reads until it is stopped. Whatever ends it, those who wait get to know it.
    pub(super) fn spawn(self, waiting: Arc<Waiting>, stop: Arc<AtomicBool>) -> Result<(), String> {
        let thread = std::thread::Builder::new().name("keylane-answers".into());
        let spawned = thread.spawn(move || {
            let topic = self.topic.clone();
            if let Err(panic) = panics::caught(|| self.run(&waiting, &stop)) {
                tracing::error!(%topic, %panic, "the thread that reads answers panicked");
            }
            waiting.end();
        });
        spawned.map(drop).map_err(|error| error.to_string())
    }

    fn run(mut self, waiting: &Waiting, stop: &AtomicBool) {
        let (warnings, mut checked) = (LogLimit::every(WARNED_EVERY), Instant::now());
        while !stop.load(Ordering::Acquire) {
            let mut read = self.read(waiting);
            if read.is_ok() && checked.elapsed() >= CHECKED_EVERY {
                checked = Instant::now();
                read = self.check();
            }
            let Err(error) = read else { continue };
            let (topic, partition) = (&*self.topic, self.partition);
            if let Some(left_out) = warnings.due(clock::now()) {
                tracing::warn!(topic, partition, error, left_out, "answers cannot be read");
            }
            self.reader = None;
            std::thread::sleep(AGAIN_AFTER);
        }
    }

    fn read(&mut self, waiting: &Waiting) -> Result<(), String> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            None => {
                let (config, topic) = (&self.config, &*self.topic);
                let reader = reader_at(config, topic, self.partition, self.next)?;
                self.reader.insert(reader)
            }
        };
        reader.read(POLL, |record| waiting.take(record))?;
        self.next = reader.place().map_or(self.next, |(_, next)| next);
        Ok(())
    }

    /// A topic that was re-created, or cut, begins again below what was read.
    fn check(&mut self) -> Result<(), String> {
        let Some(reader) = &self.reader else {
            return Ok(());
        };
        let (first, end) = reader.ends(self.partition, ANSWER_WITHIN)?;
        if end < self.next {
            self.next = first;
            return Err("its log begins again: it was re-created, or cut".to_owned());
        }
        Ok(())
    }
}

fn reader_at(
    config: &ClientSettings,
    topic: &str,
    partition: i32,
    next: i64,
) -> Result<SeekReader, String> {
    let mut reader = SeekReader::open(config, topic, [partition])?;
    reader.seek(partition, next)?;
    Ok(reader)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};

    use super::super::CORRELATION_ID;
    use super::*;
    use crate::kafka::config::reader_config;
    use crate::{NewTask, TaskProducer};

    /// A reader behind the end of a log passes over what is written there.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn answers_of_a_log_that_begins_again_are_read_from_its_beginning() {
        let patience = Duration::from_secs(60);
        let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
        broker.create_topic("answers", 1).unwrap();
        let servers = broker.bootstrap_servers().to_owned();
        let config = reader_config(&servers, &BTreeMap::new()).unwrap();
        let waiting = Arc::new(Waiting::new(10));
        let mut question = waiting.register().unwrap();
        let producer = TaskProducer::builder("answers")
            .bootstrap_servers(&*servers)
            .application_id("test")
            .start()
            .await
            .unwrap();

        let mut answers = tokio::task::spawn_blocking(move || {
            let mut answers = Answers::open(config, "answers".into(), patience).unwrap();
            assert_eq!((answers.partition, answers.next), (0, 0));
            answers.check().unwrap();
            // As if the log had been longer before.
            answers.next = 100;
            answers
        })
        .await
        .unwrap();
        let answer = NewTask::new("yes").header(CORRELATION_ID, question.id());
        producer.enqueue(answer).await.unwrap();
        let read = tokio::task::spawn_blocking(move || {
            assert!(answers.check().unwrap_err().contains("begins again"));
            answers.reader = None;
            let deadline = Instant::now() + patience;
            while waiting.len() > 0 {
                assert!(Instant::now() < deadline, "the answer is not read");
                answers.read(&waiting).unwrap();
            }
            (answers.next, waiting.late())
        });
        assert_eq!(read.await.unwrap(), (1, 0));
        assert_eq!(
            question.answer.try_recv().unwrap().value(),
            Some(&b"yes"[..])
        );
        producer.close(patience).await.unwrap();
    }
}
