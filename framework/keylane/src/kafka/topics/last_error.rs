//! Remembers why librdkafka cannot reach the cluster.

use std::sync::Mutex;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::kafka::client_log;
use crate::support::lock::lock;
use crate::support::without_secrets;

/// A client context that keeps the most specific error.
///
/// librdkafka answers a request that found no broker with "timed out" or "transport failure". The
/// cause, such as a wrong password or a refused connection, is only in a callback or a log line.
#[derive(Debug, Default)]
pub(crate) struct LastError {
    worst: Mutex<Option<(Weight, String)>>,
}

/// Whether a broker ended the connection for reasons of TLS, such as a client certificate that is
/// missing or unknown.
///
/// With TLS 1.3 that comes after the client's side of the handshake, so librdkafka takes it for a
/// failure of the network.
pub(crate) fn is_tls_alert(reason: &str) -> bool {
    reason.contains("SSL alert number")
}

/// How much an error explains. A later one replaces an earlier one of the same or a lower weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    /// "1/1 brokers are down": true, and no help.
    Summary,
    /// A log line.
    Log,
    /// "connection refused", "host resolution failed".
    Transport,
    /// Wrong credentials or certificates: trying again does not help.
    Security,
}

impl LastError {
    /// The most specific error until now.
    pub(crate) fn text(&self) -> Option<String> {
        self.lock().as_ref().map(|(_, text)| text.clone())
    }

    /// Whether the cluster, or the client's own TLS set-up, refused us: waiting longer changes
    /// nothing.
    pub(crate) fn refused(&self) -> bool {
        self.lock()
            .as_ref()
            .is_some_and(|(weight, _)| *weight == Weight::Security)
    }

    /// What was is over: the cluster answers.
    pub(crate) fn forget(&self) {
        *self.lock() = None;
    }

    fn note(&self, weight: Weight, text: &str) {
        let mut worst = self.lock();
        if worst.as_ref().is_none_or(|(earlier, _)| *earlier <= weight) {
            *worst = Some((weight, text.to_owned()));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Weight, String)>> {
        lock(&self.worst)
    }
}

impl ClientContext for LastError {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // The caller gets the most specific error, so none of these lines is a warning.
        client_log::log("questions", RDKafkaLogLevel::Debug, facility, message);
        if (level as i32) <= (RDKafkaLogLevel::Error as i32) {
            self.note(Weight::Log, &without_secrets(message));
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let weight = match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => Weight::Summary,
            Some(
                RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::SaslAuthenticationFailed
                | RDKafkaErrorCode::UnsupportedSASLMechanism
                | RDKafkaErrorCode::SSL,
            ) => Weight::Security,
            _ if is_tls_alert(reason) => Weight::Security,
            _ => Weight::Transport,
        };
        self.note(weight, &without_secrets(reason));
    }
}

impl ConsumerContext for LastError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_telling_error_is_kept_and_the_latest_of_its_kind() {
        let last = LastError::default();
        let global = KafkaError::Global;
        assert_eq!(last.text(), None);
        last.error(
            global(RDKafkaErrorCode::AllBrokersDown),
            "1/1 brokers are down",
        );
        last.error(
            global(RDKafkaErrorCode::BrokerTransportFailure),
            "connection refused",
        );
        last.error(
            global(RDKafkaErrorCode::AllBrokersDown),
            "1/1 brokers are down",
        );
        last.log(RDKafkaLogLevel::Error, "FAIL", "some line");
        assert_eq!(last.text().as_deref(), Some("connection refused"));
        last.error(
            global(RDKafkaErrorCode::BrokerTransportFailure),
            "connection reset",
        );
        assert_eq!(last.text().as_deref(), Some("connection reset"));
        assert!(!last.refused());
        let alert = "Receive failed: error:0A000412:SSL routines::sslv3 alert bad certificate: SSL alert number 42";
        last.error(global(RDKafkaErrorCode::BrokerTransportFailure), alert);
        assert!(last.refused());
        last.error(
            global(RDKafkaErrorCode::Authentication),
            "invalid credentials",
        );
        last.error(
            global(RDKafkaErrorCode::BrokerTransportFailure),
            "connection reset",
        );
        assert_eq!(last.text().as_deref(), Some("invalid credentials"));
        assert!(last.refused());
    }
}
