//! librdkafka's log lines.

use rdkafka::config::RDKafkaLogLevel as Level;

use crate::support::without_secrets;

/// Writes a line with the target `librdkafka`, so that one filter is for all of them.
///
/// It is one level below librdkafka's own: what matters also arrives as an error, and is logged in
/// keylane's words. `client` is which client it comes from.
pub(crate) fn log(client: &'static str, level: Level, facility: &str, message: &str) {
    let message = &*without_secrets(message);
    match level {
        Level::Emerg | Level::Alert | Level::Critical | Level::Error => {
            tracing::warn!(target: "librdkafka", client, facility, message);
        }
        Level::Warning | Level::Notice => {
            tracing::info!(target: "librdkafka", client, facility, message);
        }
        Level::Info | Level::Debug => {
            tracing::debug!(target: "librdkafka", client, facility, message);
        }
    }
}
