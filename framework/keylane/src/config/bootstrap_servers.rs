//! The addresses of the brokers.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Brokers to start from: `host:port`, separated by commas (Kafka: `bootstrap.servers`).
///
/// The default is `localhost:9092`. An address with credentials (`user:password@host`) is refused
/// at start-up, and `Debug` does not show it.
///
/// # Examples
/// ```
/// use keylane::config::BootstrapServers;
///
/// let servers = BootstrapServers::from("kafka-1:9092,kafka-2:9092");
/// assert_eq!(servers.as_str(), "kafka-1:9092,kafka-2:9092");
/// assert!(!format!("{:?}", BootstrapServers::from("me:secret@kafka:9092")).contains("secret"));
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootstrapServers(String);

impl BootstrapServers {
    /// The addresses as they were given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for BootstrapServers {
    fn default() -> Self {
        Self("localhost:9092".to_owned())
    }
}

impl<S: Into<String>> From<S> for BootstrapServers {
    fn from(servers: S) -> Self {
        Self(servers.into())
    }
}

impl fmt::Debug for BootstrapServers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = if self.0.contains('@') {
            "(not shown: holds an @)"
        } else {
            &self.0
        };
        fmt::Debug::fmt(shown, f)
    }
}
