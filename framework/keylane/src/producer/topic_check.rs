//! Whether the brokers answer and the topic is there.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientConfig, ClientContext};

use super::TaskProducerError;
use crate::client_config::creation_error;

/// Asks for the topic's metadata, on a thread for blocking work.
///
/// Asked with a consumer: a producer's own request could create the topic.
///
/// # Errors
/// See [`TaskProducerError`].
pub(super) async fn check(
    config: ClientConfig,
    bootstrap_servers: &str,
    topic: &str,
    within: Duration,
) -> Result<(), TaskProducerError> {
    let topic = topic.to_owned();
    let bootstrap_servers = bootstrap_servers.to_owned();
    let unreachable = move |reason| TaskProducerError::Unreachable { bootstrap_servers, within, reason };
    let asked = tokio::task::spawn_blocking(move || ask(&config, &topic, within, unreachable)).await;
    asked.unwrap_or_else(|error| {
        Err(TaskProducerError::TopicUnusable { topic: String::new(), reason: format!("the check failed: {error}") })
    })
}

fn ask(
    config: &ClientConfig,
    topic: &str,
    within: Duration,
    unreachable: impl FnOnce(String) -> TaskProducerError,
) -> Result<(), TaskProducerError> {
    let last_words = LastWords::default();
    let client: BaseConsumer<LastWords> = config.create_with_context(last_words.clone()).map_err(creation_error)?;
    let metadata = match client.fetch_metadata(Some(topic), within) {
        Ok(metadata) => metadata,
        Err(error) => {
            // Why connecting failed is told by events only, and those need a poll each.
            for _ in 0..EVENTS_AT_MOST {
                let _ = client.poll(Duration::ZERO);
            }
            return Err(unreachable(last_words.take().unwrap_or_else(|| error.to_string())));
        }
    };
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
        return Err(TaskProducerError::MissingTopic { topic: topic.to_owned() });
    };
    match found.error().map(RDKafkaErrorCode::from) {
        // A leader is being elected: the topic is there, and writes wait for it.
        None | Some(RDKafkaErrorCode::LeaderNotAvailable) => Ok(()),
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
            Err(TaskProducerError::MissingTopic { topic: topic.to_owned() })
        }
        Some(code) => Err(TaskProducerError::TopicUnusable { topic: topic.to_owned(), reason: code.to_string() }),
    }
}

/// Events that are looked through for a reason.
const EVENTS_AT_MOST: usize = 100;

/// Keeps the most telling thing the client said.
#[derive(Clone, Default)]
struct LastWords(Arc<Mutex<Option<String>>>);

impl LastWords {
    fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ConsumerContext for LastWords {}

impl ClientContext for LastWords {
    fn error(&self, error: KafkaError, reason: &str) {
        let mut words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // "all brokers down" follows every reason, and says less.
        let says_less = matches!(error, KafkaError::Global(RDKafkaErrorCode::AllBrokersDown));
        if words.is_none() || !says_less {
            *words = Some(reason.to_owned());
        }
    }

    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, "topic check: {message}");
    }
}
