//! The settings of a requester.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::answers::Answers;
use super::waiting::Waiting;
use super::{Requester, RequesterError};
use crate::TaskProducer;
use crate::config::BootstrapServers;
use crate::kafka::config::reader_config;
use crate::producer::TaskProducerBuilder;

const MAX_WAITING: usize = 1_000_000;

/// Puts a [`Requester`] together; made by [`Requester::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `start`"]
pub struct RequesterBuilder {
    /// Of the questions. What the two clients have in common is set here.
    producer: TaskProducerBuilder,
    answers: String,
    max_waiting: usize,
}

impl RequesterBuilder {
    pub(super) fn new(questions: String, answers: String) -> Self {
        Self {
            producer: TaskProducer::builder(questions),
            answers,
            max_waiting: 10_000,
        }
    }

    /// Brokers to start from. Default: `localhost:9092`.
    pub fn bootstrap_servers(mut self, servers: impl Into<BootstrapServers>) -> Self {
        self.producer = self.producer.bootstrap_servers(servers);
        self
    }

    /// The application that asks; it travels with each question. Required.
    pub fn application_id(mut self, id: impl Into<String>) -> Self {
        self.producer = self.producer.application_id(id);
        self
    }

    /// One setting of the Kafka clients: of the producer, of the reader, or of both.
    pub fn kafka(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.producer = self.producer.kafka(name, value);
        self
    }

    /// Several settings of the Kafka clients, added to those already there.
    pub fn kafka_settings<K: Into<String>, V: Into<String>>(
        mut self,
        settings: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        self.producer = self.producer.kafka_settings(settings);
        self
    }

    /// How long start-up waits for the brokers (default 10 s, at most 10 min).
    pub fn startup_timeout(mut self, timeout: Duration) -> Self {
        self.producer = self.producer.startup_timeout(timeout);
        self
    }

    /// The most questions that wait for their answers at a time (default 10,000, at most a
    /// million). Beyond it [`AskError::TooManyWaiting`](super::AskError::TooManyWaiting).
    pub fn max_waiting(mut self, questions: usize) -> Self {
        self.max_waiting = questions;
        self
    }

    /// Starts the producer, and reads one partition of the answer topic from its end on. Ready when
    /// that end is known, so no answer is missed.
    ///
    /// # Errors
    /// Settings that cannot be used, brokers that do not answer, and a topic that is missing or may
    /// not be used.
    ///
    /// # Cancellation
    /// Dropping the future starts nothing.
    pub async fn start(self) -> Result<Requester, RequesterError> {
        if self.max_waiting == 0 || self.max_waiting > MAX_WAITING {
            return Err(RequesterError::Invalid {
                setting: "max_waiting",
                reason: format!("{} is not between 1 and {MAX_WAITING}", self.max_waiting),
            });
        }
        let config = self.producer.config();
        if let Err(reason) = keylane_core::check_topic_name(&self.answers) {
            return Err(RequesterError::Invalid {
                setting: "answers",
                reason: format!("{:?}: {reason}", self.answers),
            });
        }
        let topic: Arc<str> = self.answers.into();
        let reader = reader_config(config.bootstrap_servers.as_str(), config.kafka.as_map())?;
        let patience = config.startup_timeout;
        let producer = self.producer.start().await?;
        let failed = |reason: String| RequesterError::Answers {
            topic: topic.to_string(),
            reason,
        };
        // Its calls block.
        let opened = {
            let topic = topic.clone();
            tokio::task::spawn_blocking(move || Answers::open(reader, topic, patience)).await
        };
        let answers = opened.map_err(|error| failed(error.to_string()))??;
        let (waiting, stop) = (Arc::new(Waiting::new(self.max_waiting)), Arc::default());
        let stopped: Arc<AtomicBool> = Arc::clone(&stop);
        let partition = answers.partition;
        answers.spawn(waiting.clone(), stopped).map_err(failed)?;
        Ok(Requester::new(producer, waiting, topic, partition, stop))
    }
}
