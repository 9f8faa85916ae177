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
    /// It may: also where an operator has to mend something first (a missing topic, a missing
    /// permission).
    ///
    /// The record may have been written all the same, where the answer was lost: trying again may
    /// duplicate it.
    Transient,
    /// The client or the broker will never accept this record.
    Refused,
    /// The client or the broker finds the record larger than a limit allows. A smaller one would be
    /// taken.
    TooLarge,
}

/// Which limit a record is too large for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SizeLimit {
    /// keylane's default, or the user's own.
    #[error(
        "the client's message.max.bytes ({bytes}) refuses it; raise that in the kafka settings"
    )]
    Client { bytes: usize },
    /// The broker's answer is the same for both.
    #[error(
        "the topic's max.message.bytes refuses it (where the topic sets none: the broker's message.max.bytes); \
         raise that, it counts the batch as it is written, with headers and compressed"
    )]
    Topic,
    #[error("the topic's segment.bytes refuses it; raise that")]
    Segment,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WriteFailure {
    #[error("{0}")]
    NotAdmitted(NotAdmitted),
    #[error("the record is too large ({bytes} bytes of key, value and headers): {limit}")]
    TooLarge { bytes: usize, limit: SizeLimit },
    #[error("the topic name holds a NUL character")]
    TopicName,
    #[error("partition {0} is not a partition number")]
    NegativePartition(i32),
    #[error("{}{code}", explanation(*code))]
    Kafka { code: RDKafkaErrorCode },
    #[error("the producer was dropped before the broker answered")]
    Abandoned,
    #[error("the broker refused the batch it was in, and it could not be written alone")]
    RefusedInBatch,
    #[error("the broker considered the record a duplicate, and did not return its offset")]
    WithoutOffset,
}

impl WriteError {
    pub(super) fn new(topic: Arc<str>, failure: WriteFailure) -> Self {
        Self { topic, failure }
    }

    /// From a broker's answer, or librdkafka's where the broker gave none; `bytes` is the size of
    /// the record.
    pub(super) fn from_kafka(topic: Arc<str>, error: &KafkaError, bytes: usize) -> Self {
        let failure = match error {
            KafkaError::Nul(_) => WriteFailure::TopicName,
            error => match error.rdkafka_error_code() {
                Some(
                    RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize,
                ) => WriteFailure::TooLarge {
                    bytes,
                    limit: SizeLimit::Topic,
                },
                Some(RDKafkaErrorCode::MessageBatchTooLarge) => WriteFailure::TooLarge {
                    bytes,
                    limit: SizeLimit::Segment,
                },
                code => WriteFailure::Kafka {
                    code: code.unwrap_or(RDKafkaErrorCode::Unknown),
                },
            },
        };
        Self { topic, failure }
    }

    /// The same where the client refused the record without sending it; its limit is `limit_bytes`.
    pub(super) fn from_client(
        topic: Arc<str>,
        error: &KafkaError,
        bytes: usize,
        limit_bytes: usize,
    ) -> Self {
        let mut error = Self::from_kafka(topic, error, bytes);
        if let WriteFailure::TooLarge { limit, .. } = &mut error.failure {
            *limit = SizeLimit::Client { bytes: limit_bytes };
        }
        error
    }

    /// Whether it is certain that nothing was written: the broker says so, or nothing was sent.
    pub(crate) fn is_refusal(&self) -> bool {
        match &self.failure {
            WriteFailure::Kafka { code } => {
                let may_be_written = [
                    RDKafkaErrorCode::RequestTimedOut,
                    RDKafkaErrorCode::NotEnoughReplicasAfterAppend,
                ];
                *code as i32 > 0 && !may_be_written.contains(code)
            }
            WriteFailure::Abandoned | WriteFailure::WithoutOffset => false,
            _ => true,
        }
    }

    pub(crate) fn kind(&self) -> WriteErrorKind {
        match &self.failure {
            WriteFailure::TooLarge { .. } => WriteErrorKind::TooLarge,
            WriteFailure::TopicName | WriteFailure::NegativePartition(_) => WriteErrorKind::Refused,
            WriteFailure::NotAdmitted(_)
            | WriteFailure::Abandoned
            | WriteFailure::RefusedInBatch
            | WriteFailure::WithoutOffset => WriteErrorKind::Transient,
            WriteFailure::Kafka { code } => kind_of(*code),
        }
    }
}

/// What only depends on the record is refused for good. All else may pass, or can be mended from
/// outside.
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
        RDKafkaErrorCode::UnknownPartition => {
            "the partition does not exist; check the topic's partition count: "
        }
        RDKafkaErrorCode::TopicAuthorizationFailed => {
            "not authorised; allow this client to write to the topic: "
        }
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
        RDKafkaErrorCode::InvalidRecord => {
            "the broker finds the record invalid (a compacted topic demands a key): "
        }
        _ => "",
    }
}

impl std::fmt::Display for NotAdmitted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Closed => f.write_str("the producer is closed"),
            Self::Broken => {
                f.write_str("the producer's thread has panicked; start another producer")
            }
            Self::TooManyRecords { limit } => write!(f, "{limit} records are pending, the limit"),
            Self::TooManyBytes { limit } => {
                write!(f, "the limit of {limit} pending bytes is reached")
            }
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
    fn an_answer_after_which_the_record_may_be_there_is_no_refusal() {
        for code in [
            RDKafkaErrorCode::RequestTimedOut,
            RDKafkaErrorCode::NotEnoughReplicasAfterAppend,
        ] {
            assert!(!error(code).is_refusal(), "{code}");
        }
        assert!(error(RDKafkaErrorCode::NotEnoughReplicas).is_refusal());
    }

    #[test]
    fn only_what_depends_on_the_record_is_refused_for_good() {
        for code in [
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
        assert!(
            text.contains("topic parking") && text.contains("allow this client"),
            "{text}"
        );
    }

    /// Point 9: only the limit that refused the record helps where it is raised.
    #[test]
    fn what_is_too_large_names_the_limit_that_refused_it() {
        let too_large = RDKafkaErrorCode::MessageSizeTooLarge;
        let text = error(too_large).to_string();
        assert!(
            text.contains("7 bytes") && text.contains("the topic's max.message.bytes"),
            "{text}"
        );
        let text = error(RDKafkaErrorCode::MessageBatchTooLarge).to_string();
        assert!(text.contains("segment.bytes"), "{text}");
        let client = KafkaError::MessageProduction(too_large);
        let error = WriteError::from_client("parking".into(), &client, 7, 5);
        assert_eq!(error.kind(), WriteErrorKind::TooLarge);
        let text = error.to_string();
        assert!(
            text.contains("the client's message.max.bytes (5)")
                && !text.contains("max.message.bytes"),
            "{text}"
        );
    }
}
