//! The Kafka the example runs on: the embedded broker, or a cluster of yours.

use std::collections::BTreeMap;
use std::error::Error;

use keylane::config::KafkaSettings;
use keylane::topics::{NewTopic, create_topics};
use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions, Eviction};

use crate::args::Args;
use crate::names::Names;

pub(crate) enum Cluster {
    Embedded(EmbeddedBroker),
    Yours { bootstrap_servers: String },
}

impl Cluster {
    /// Starts or reaches the cluster and creates the topics that are missing.
    pub(crate) async fn start(
        args: &Args,
        names: &Names,
    ) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let topics = [&names.events, &names.dead_letters]
            .map(|topic| NewTopic::new(topic, args.partitions as i32));
        if let Some(bootstrap_servers) = &args.bootstrap {
            create_topics(bootstrap_servers, &KafkaSettings::new(), &topics).await?;
            return Ok(Self::Yours {
                bootstrap_servers: bootstrap_servers.clone(),
            });
        }
        let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default())?;
        for topic in &topics {
            broker.create_topic(&topic.name, topic.partitions)?;
        }
        // It drops old records, so it needs the names of their readers.
        broker.expect_reader(&names.group, &names.events);
        broker.expect_reader(&names.audit_group, &names.dead_letters);
        Ok(Self::Embedded(broker))
    }

    pub(crate) fn bootstrap_servers(&self) -> &str {
        match self {
            Self::Embedded(broker) => broker.bootstrap_servers(),
            Self::Yours { bootstrap_servers } => bootstrap_servers,
        }
    }

    /// Client settings for subscriptions. A cluster of yours gets keylane's defaults.
    pub(crate) fn consumer_settings(&self) -> BTreeMap<String, String> {
        match self {
            Self::Embedded(_) => {
                let mut settings = EmbeddedBroker::client_settings();
                // Each group has one member, which no rebalance is quick for, and which a busy
                // machine is not to throw out.
                settings.insert("session.timeout.ms".into(), "6000".into());
                settings
            }
            Self::Yours { .. } => BTreeMap::new(),
        }
    }

    /// Client settings for producers.
    pub(crate) fn producer_settings(&self) -> BTreeMap<String, String> {
        match self {
            Self::Embedded(_) => EmbeddedBroker::producer_settings(),
            Self::Yours { .. } => BTreeMap::new(),
        }
    }

    /// What the embedded broker dropped before it was read, which must be nothing.
    pub(crate) fn dropped_unread(&self) -> Vec<String> {
        let Self::Embedded(broker) = self else {
            return Vec::new();
        };
        match broker.look_for_evictions() {
            Ok(evictions) => evictions.iter().map(dropped).collect(),
            Err(error) => vec![format!(
                "it is not known whether the embedded broker dropped records: {error}"
            )],
        }
    }
}

fn dropped(eviction: &Eviction) -> String {
    let Eviction {
        topic,
        partition,
        first_offset,
        records,
        ..
    } = eviction;
    format!(
        "the embedded broker dropped {records} unread records of {topic}-{partition} from offset {first_offset}"
    )
}
