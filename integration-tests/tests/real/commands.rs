//! The command line, on a Kafka of these suites.

use std::collections::BTreeMap;

use keylane_integration_tests::{commands, kafka::Kafka};

pub(crate) use commands::TIMEOUT;

/// Runs a command of keylane's without a terminal: its exit code, its output, its messages.
pub(crate) async fn keylane(kafka: &Kafka, arguments: &[&str]) -> (u8, String, String) {
    commands::keylane(kafka.bootstrap_servers(), BTreeMap::new(), arguments).await
}
