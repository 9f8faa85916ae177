//! How the clients of a redrive reach the brokers.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::{BootstrapServers, KafkaSettings};
use crate::kafka::config::{ClientConfigError, ClientSettings, reader_config, side_client_config};

#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) bootstrap_servers: BootstrapServers,
    pub(crate) kafka: KafkaSettings,
    /// How long to wait for the brokers.
    pub(crate) patience: Duration,
}

impl Default for Connection {
    fn default() -> Self {
        Self {
            bootstrap_servers: BootstrapServers::default(),
            kafka: KafkaSettings::new(),
            patience: Duration::from_secs(60),
        }
    }
}

impl Connection {
    pub(super) fn servers(&self) -> &str {
        self.bootstrap_servers.as_str()
    }

    pub(super) fn settings(&self) -> &BTreeMap<String, String> {
        self.kafka.as_map()
    }

    /// Of a client that reads a topic.
    pub(super) fn reader(&self) -> Result<ClientSettings, ClientConfigError> {
        reader_config(self.servers(), self.settings())
    }

    /// Of a client that asks about topics.
    pub(super) fn side_client(&self) -> Result<ClientSettings, ClientConfigError> {
        side_client_config(self.servers(), self.settings())
    }
}

/// The setters of a builder that has a field `connection`.
macro_rules! connection_setters {
    () => {
        /// Brokers to start from. Default: `localhost:9092`.
        pub fn bootstrap_servers(
            mut self,
            servers: impl Into<crate::config::BootstrapServers>,
        ) -> Self {
            self.connection.bootstrap_servers = servers.into();
            self
        }

        /// One setting of the Kafka clients, by librdkafka's name.
        pub fn kafka(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
            self.connection.kafka.set(name, value);
            self
        }

        /// Several settings of the Kafka clients, added to those already there.
        pub fn kafka_settings<K: Into<String>, V: Into<String>>(
            mut self,
            settings: impl IntoIterator<Item = (K, V)>,
        ) -> Self {
            self.connection.kafka.extend(settings);
            self
        }

        /// How long to wait for the brokers. Default: 60 s. Use more than 20 s: an open transaction of
        /// another task may take as long.
        pub fn patience(mut self, patience: std::time::Duration) -> Self {
            self.connection.patience = patience;
            self
        }
    };
}

pub(super) use connection_setters;
