//! Why a call of the client failed.

use std::fmt;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// An error of the client. Its text is the client's.
#[derive(Debug)]
pub(crate) struct ClientError(pub(super) KafkaError);

impl ClientError {
    pub(super) fn code(&self) -> Option<RDKafkaErrorCode> {
        self.0.rdkafka_error_code()
    }

    /// Whether no answer came in time.
    pub(crate) fn is_time_out(&self) -> bool {
        self.code() == Some(RDKafkaErrorCode::OperationTimedOut)
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
