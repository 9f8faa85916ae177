//! Creating topics, for examples, tests and set-up code.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, TopicReplication};
use rdkafka::error::RDKafkaErrorCode;

use super::{Cluster, LastError};
use crate::config::{BootstrapServers, KafkaSettings};
use crate::kafka::config::{creation_error, side_client_config};
use crate::support::error_text::debug_is_display;

/// The wait for the first answer of any broker.
const REACH_TIMEOUT: Duration = Duration::from_secs(10);
/// The wait for the controller to create the topics.
const CREATE_TIMEOUT: Duration = Duration::from_secs(20);
/// In one call: far beyond what an application sets up.
const MOST_TOPICS: usize = 1000;

/// A topic to be created.
///
/// # Examples
/// ```
/// use keylane::topics::NewTopic;
///
/// let topic = NewTopic::new("parking-events", 8).replication_factor(3);
/// assert_eq!(topic.partitions, 8);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewTopic {
    /// Its name: ASCII letters, digits, `.`, `_`, `-`; at most 249 of them.
    pub name: String,
    /// The number of partitions; -1 is the broker's default (`num.partitions`).
    pub partitions: i32,
    /// On how many brokers each record is kept; -1 is the broker's default
    /// (`default.replication.factor`).
    pub replication_factor: i32,
}

impl NewTopic {
    /// A topic with the broker's default replication factor.
    pub fn new(name: impl Into<String>, partitions: i32) -> Self {
        Self {
            name: name.into(),
            partitions,
            replication_factor: -1,
        }
    }

    /// Sets [`replication_factor`](Self#structfield.replication_factor).
    #[must_use]
    pub fn replication_factor(self, replication_factor: i32) -> Self {
        Self {
            replication_factor,
            ..self
        }
    }
}

/// What became of a topic that was to be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TopicCreation {
    /// It is new.
    Created,
    /// It was there before and is left as it was, whatever its number of partitions.
    AlreadyExists,
}

/// Topics could not be created. Those that the error does not name may have been; calling again
/// does no harm. Its `Debug` is its sentence, for a `main` that returns it.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum CreateTopicsError {
    /// A topic that Kafka cannot have; nothing was sent.
    #[error("cannot create topic `{name}`: {rule}")]
    InvalidTopic {
        /// The topic.
        name: String,
        /// What is allowed.
        rule: &'static str,
    },
    /// More topics than a call takes; nothing was sent.
    #[error("cannot create {count} topics in one call: at most 1,000")]
    TooManyTopics {
        /// How many were named.
        count: usize,
    },
    /// The settings are wrong, no broker answered or the cluster refused this client.
    #[error("cannot create topics: {0}")]
    Cluster(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The cluster refused to create these topics.
    #[error("cannot create topics: {}", each(.topics))]
    Refused {
        /// Each topic with the cluster's reason.
        topics: Vec<(String, String)>,
    },
}

debug_is_display!(CreateTopicsError);

fn each(topics: &[(String, String)]) -> String {
    topics
        .iter()
        .map(|(name, reason)| format!("`{name}`: {reason}"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Creates the topics that do not exist yet, and returns for each, in order, whether it was
/// created.
///
/// `kafka` are client settings of librdkafka, such as `security.protocol`; those of a subscription
/// or producer will do. Ends within 40 seconds. An `EmbeddedBroker` creates topics by its own
/// `create_topic`, not by this.
///
/// ```no_run
/// # async fn example() -> Result<(), keylane::topics::CreateTopicsError> {
/// use keylane::topics::{NewTopic, create_topics};
///
/// let topics = [NewTopic::new("parking-events", 8), NewTopic::new("parking-events-dlq", 8)];
/// create_topics("localhost:9092", &Default::default(), &topics).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// If a name is not allowed or named twice, if no broker answers within ten seconds or the cluster
/// refuses the client (both with librdkafka's reason), or if a topic cannot be created.
///
/// # Cancellation
/// A caller that stops waiting does not stop the creation.
///
/// # Panics
/// Outside a tokio runtime.
pub async fn create_topics(
    bootstrap_servers: impl Into<BootstrapServers>,
    kafka: &KafkaSettings,
    topics: &[NewTopic],
) -> Result<Vec<(String, TopicCreation)>, CreateTopicsError> {
    check(topics)?;
    let config = side_client_config(bootstrap_servers.into().as_str(), kafka.as_map())
        .map_err(|error| CreateTopicsError::Cluster(error.into()))?;
    let topics = topics.to_vec();
    // librdkafka connects and closes synchronously.
    let created = tokio::task::spawn_blocking(move || create(&config, &topics));
    created
        .await
        .unwrap_or_else(|error| Err(CreateTopicsError::Cluster(error.into())))
}

fn check(topics: &[NewTopic]) -> Result<(), CreateTopicsError> {
    let invalid = |topic: &NewTopic, rule| CreateTopicsError::InvalidTopic {
        name: topic.name.clone(),
        rule,
    };
    if topics.len() > MOST_TOPICS {
        return Err(CreateTopicsError::TooManyTopics {
            count: topics.len(),
        });
    }
    let mut names = BTreeSet::new();
    for topic in topics {
        keylane_core::check_topic_name(&topic.name).map_err(|rule| invalid(topic, rule))?;
        if !names.insert(&topic.name) {
            return Err(invalid(topic, "it is named twice: name it once"));
        }
        if topic.partitions != -1 && !(1..=100_000).contains(&topic.partitions) {
            return Err(invalid(
                topic,
                "a topic has 1 to 100,000 partitions, or -1 for the broker's default",
            ));
        }
        if topic.replication_factor != -1
            && !(1..=i32::from(i16::MAX)).contains(&topic.replication_factor)
        {
            return Err(invalid(
                topic,
                "a replication factor is at least 1, or -1 for the broker's default",
            ));
        }
    }
    Ok(())
}

/// Blocks.
fn create(
    config: &ClientConfig,
    topics: &[NewTopic],
) -> Result<Vec<(String, TopicCreation)>, CreateTopicsError> {
    let Some(first) = topics.first() else {
        return Ok(Vec::new());
    };
    // An admin client does not report why it cannot connect; this one does.
    let cluster = Cluster::new(config).map_err(|error| CreateTopicsError::Cluster(error.into()))?;
    cluster
        .reach(&first.name, REACH_TIMEOUT)
        .map_err(|error| CreateTopicsError::Cluster(error.into()))?;
    drop(cluster);

    let failed = |error: rdkafka::error::KafkaError| CreateTopicsError::Cluster(error.into());
    let admin: AdminClient<LastError> = config
        .create_with_context(LastError::default())
        .map_err(|error| CreateTopicsError::Cluster(creation_error(error).into()))?;
    let requested: Vec<_> = topics
        .iter()
        .map(|topic| {
            let replication = TopicReplication::Fixed(topic.replication_factor);
            rdkafka::admin::NewTopic::new(&topic.name, topic.partitions, replication)
        })
        .collect();
    let options = AdminOptions::new()
        .request_timeout(Some(CREATE_TIMEOUT))
        .operation_timeout(Some(CREATE_TIMEOUT / 2));
    let creation = admin.create_topics(&requested, &options);
    let results = tokio::runtime::Handle::current()
        .block_on(creation)
        .map_err(failed)?;

    let mut refused = Vec::new();
    let mut created = BTreeMap::new();
    for result in results {
        match result {
            Ok(name) => drop(created.insert(name, TopicCreation::Created)),
            Err((name, RDKafkaErrorCode::TopicAlreadyExists)) => {
                created.insert(name, TopicCreation::AlreadyExists);
            }
            Err((name, code)) => refused.push((name, code.to_string())),
        }
    }
    for topic in topics {
        if !created.contains_key(&topic.name)
            && !refused.iter().any(|(name, _)| *name == topic.name)
        {
            refused.push((
                topic.name.clone(),
                "the cluster said nothing about it".to_owned(),
            ));
        }
    }
    if refused.is_empty() {
        let creation = |topic: &NewTopic| Some((topic.name.clone(), *created.get(&topic.name)?));
        Ok(topics.iter().filter_map(creation).collect())
    } else {
        Err(CreateTopicsError::Refused { topics: refused })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refusal(topics: &[NewTopic]) -> String {
        create_topics("127.0.0.1:1", &KafkaSettings::new(), topics)
            .await
            .unwrap_err()
            .to_string()
    }

    #[tokio::test]
    async fn topics_that_kafka_cannot_have_are_named_before_anything_is_sent() {
        let named = |name| NewTopic::new(name, 1);
        assert!(
            refusal(&[named("a b")])
                .await
                .starts_with("cannot create topic `a b`: a topic name consists")
        );
        assert!(
            refusal(&[named("a"), named("a")])
                .await
                .contains("named twice")
        );
        assert!(
            refusal(&[NewTopic::new("a", 0)])
                .await
                .contains("1 to 100,000 partitions")
        );
        let no_replica = NewTopic {
            replication_factor: 0,
            ..named("a")
        };
        assert!(refusal(&[no_replica]).await.contains("replication factor"));
        let many: Vec<_> = (0..1001)
            .map(|number| named("a").name + &number.to_string())
            .map(named_owned)
            .collect();
        assert!(refusal(&many).await.contains("1001 topics"));
        assert_eq!(
            create_topics("127.0.0.1:1", &KafkaSettings::new(), &[])
                .await
                .unwrap(),
            []
        );
    }

    fn named_owned(name: String) -> NewTopic {
        NewTopic::new(name, 1)
    }

    #[tokio::test]
    async fn a_setting_that_librdkafka_refuses_is_named() {
        let kafka = KafkaSettings::from_iter([("security.protocol", "magic")]);
        let error = create_topics("127.0.0.1:1", &kafka, &[NewTopic::new("a", 1)])
            .await
            .unwrap_err();
        assert!(error.to_string().contains("security.protocol"), "{error}");
    }
}
