//! Why a record was not written, and whether trying again can help.

use std::sync::Arc;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::pending::NotAdmitted;

/// A write without an acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot write to topic {topic}: {failure}")]
pub(crate) struct WriteError {
    pub(crate) topic: Arc<str>,
    pub(crate) failure: WriteFailure,
}

/// Whether a write can ever succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteErrorKind {
    /// It may: also where an operator has to mend something first (a missing topic, a missing permission).
    ///
    /// The record may have been written all the same, where the answer was lost: trying again may duplicate it.
    Transient,
    /// The client or the broker will never accept this record.
    Refused,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WriteFailure {
    #[error("{0}")]
    NotAdmitted(NotAdmitted),
    #[error("the record is too large ({bytes} bytes of key, value and headers); {}", TOO_LARGE_FIX)]
    TooLarge { bytes: usize },
    #[error("the topic name holds a NUL character")]
    TopicName,
    #[error("partition {0} is not a partition number")]
    NegativePartition(i32),
    #[error("{}{code}", explanation(*code))]
    Kafka { code: RDKafkaErrorCode },
    #[error("the producer was dropped before the broker answered")]
    Abandoned,
    #[error("the broker takes the record for one that it has already, and does not say where that is")]
    WithoutOffset,
}

const TOO_LARGE_FIX: &str =
    "raise message.max.bytes of the client and max.message.bytes of the topic, or write smaller records";

impl WriteError {
    pub(super) fn new(topic: Arc<str>, failure: WriteFailure) -> Self {
        Self { topic, failure }
    }

    /// From librdkafka's error; `bytes` is the size of the record.
    pub(super) fn from_kafka(topic: Arc<str>, error: &KafkaError, bytes: usize) -> Self {
        let failure = match error {
            KafkaError::Nul(_) => WriteFailure::TopicName,
            error => match error.rdkafka_error_code() {
                Some(
                    RDKafkaErrorCode::MessageSizeTooLarge
                    | RDKafkaErrorCode::InvalidMessageSize
                    | RDKafkaErrorCode::MessageBatchTooLarge,
                ) => WriteFailure::TooLarge { bytes },
                code => WriteFailure::Kafka { code: code.unwrap_or(RDKafkaErrorCode::Unknown) },
            },
        };
        Self { topic, failure }
    }

    pub(crate) fn kind(&self) -> WriteErrorKind {
        match &self.failure {
            WriteFailure::TooLarge { .. } | WriteFailure::TopicName | WriteFailure::NegativePartition(_) => {
                WriteErrorKind::Refused
            }
            WriteFailure::NotAdmitted(_) | WriteFailure::Abandoned | WriteFailure::WithoutOffset => {
                WriteErrorKind::Transient
            }
            WriteFailure::Kafka { code } => kind_of(*code),
        }
    }
}

/// What only depends on the record is refused for good. All else may pass, or can be mended from outside.
fn kind_of(code: RDKafkaErrorCode) -> WriteErrorKind {
    match code {
        RDKafkaErrorCode::InvalidRecord
        | RDKafkaErrorCode::InvalidTimestamp
        | RDKafkaErrorCode::PolicyViolation
        | RDKafkaErrorCode::UnsupportedForMessageFormat
        | RDKafkaErrorCode::InvalidTopic
        | RDKafkaErrorCode::InvalidArgument => WriteErrorKind::Refused,
        _ => WriteErrorKind::Transient,
    }
}

/// What librdkafka's short text leaves unsaid, for the cases an operator has to mend.
fn explanation(code: RDKafkaErrorCode) -> &'static str {
    match code {
        RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => {
            "the topic does not exist; create it: "
        }
        RDKafkaErrorCode::UnknownPartition => "the partition does not exist; check the topic's partition count: ",
        RDKafkaErrorCode::TopicAuthorizationFailed => "not authorised; allow this client to write to the topic: ",
        RDKafkaErrorCode::ClusterAuthorizationFailed => {
            "not authorised; allow this client idempotent writes on the cluster: "
        }
        RDKafkaErrorCode::SaslAuthenticationFailed | RDKafkaErrorCode::Authentication => {
            "authentication failed; check the credentials: "
        }
        RDKafkaErrorCode::MessageTimedOut => {
            "no acknowledgement within message.timeout.ms (brokers unreachable or overloaded): "
        }
        RDKafkaErrorCode::NotEnoughReplicas | RDKafkaErrorCode::NotEnoughReplicasAfterAppend => {
            "too few replicas are in sync (min.insync.replicas): "
        }
        RDKafkaErrorCode::Fatal => "the client hit a fatal error and is being replaced: ",
        RDKafkaErrorCode::PurgeQueue => "the producer was closed before the record was sent: ",
        RDKafkaErrorCode::PurgeInflight => "the producer was closed before the broker answered: ",
        RDKafkaErrorCode::InvalidRecord => "the broker finds the record invalid (a compacted topic demands a key): ",
        _ => "",
    }
}

impl std::fmt::Display for NotAdmitted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Closed => f.write_str("the producer is closed"),
            Self::Broken => f.write_str("the producer's thread has panicked; start another producer"),
            Self::TooManyRecords { limit } => write!(f, "{limit} records are pending, the limit"),
            Self::TooManyBytes { limit } => write!(f, "the limit of {limit} pending bytes is reached"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: RDKafkaErrorCode) -> WriteError {
        WriteError::from_kafka("parking".into(), &KafkaError::MessageProduction(code), 7)
    }

    #[test]
    fn only_what_depends_on_the_record_is_refused_for_good() {
        for code in [
            RDKafkaErrorCode::MessageSizeTooLarge,
            RDKafkaErrorCode::InvalidRecord,
            RDKafkaErrorCode::PolicyViolation,
            RDKafkaErrorCode::InvalidTimestamp,
        ] {
            assert_eq!(error(code).kind(), WriteErrorKind::Refused, "{code:?}");
        }
        for code in [
            RDKafkaErrorCode::UnknownTopicOrPartition,
            RDKafkaErrorCode::UnknownPartition,
            RDKafkaErrorCode::TopicAuthorizationFailed,
            RDKafkaErrorCode::MessageTimedOut,
            RDKafkaErrorCode::QueueFull,
            RDKafkaErrorCode::Fatal,
            RDKafkaErrorCode::PurgeInflight,
            // Another record of the batch was invalid, not this one.
            RDKafkaErrorCode::InvalidDifferentRecord,
        ] {
            assert_eq!(error(code).kind(), WriteErrorKind::Transient, "{code:?}");
        }
    }

    #[test]
    fn the_message_names_topic_cause_and_fix() {
        let text = error(RDKafkaErrorCode::TopicAuthorizationFailed).to_string();
        assert!(text.contains("topic parking") && text.contains("allow this client"), "{text}");
        let text = error(RDKafkaErrorCode::MessageSizeTooLarge).to_string();
        assert!(text.contains("7 bytes") && text.contains("message.max.bytes"), "{text}");
    }
}
