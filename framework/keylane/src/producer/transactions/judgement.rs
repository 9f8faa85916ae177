//! What follows from the answers to a transaction: it is tried again, or it ends, and why.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::kafka::config::ClientConfigError;
use crate::producer::write_error::{WriteError, WriteErrorKind, WriteFailure};

/// Why a transaction was not committed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TransactionError {
    /// Another producer has taken the transactional id, or the brokers ended a transaction that was
    /// open for too long.
    #[error("another producer has the transactional id, or a transaction was open for too long")]
    Fenced,
    /// The producer cannot go on; another one can.
    #[error("{0}")]
    Lost(String),
    /// These records cannot be written, by their indexes.
    #[error("{}", .0.first().map_or_else(String::new, |(_, error)| error.to_string()))]
    Refused(Vec<(usize, WriteError)>),
    /// A record cannot be written. The brokers refuse others with it, and do not say which it is.
    #[error("{0}")]
    RefusedAmong(WriteError),
    /// The records were not written within the client's time for them. Fewer may be.
    #[error("{0}")]
    Slow(String),
    /// The commit has no answer: the transaction may be committed.
    #[error("{0}; the last transaction may be committed, which a resumed run finds out")]
    Unanswered(String),
    /// The brokers do not answer, or refuse.
    #[error("{0}")]
    Failed(String),
}

impl From<ClientConfigError> for TransactionError {
    fn from(error: ClientConfigError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// What follows from an attempt that failed.
pub(super) enum Attempt {
    Again(String),
    Slow(String),
    Final(TransactionError),
}

/// What the answers say, of which there is at least one.
pub(super) fn judged(unwritten: Vec<(usize, WriteError)>) -> Attempt {
    let code = |error: &WriteError| match error.failure {
        WriteFailure::Kafka { code } => Some(code),
        _ => None,
    };
    // Those of other records of a batch, and of records behind it.
    let is_consequence = |error: &WriteError| {
        matches!(
            code(error),
            Some(Code::InvalidDifferentRecord | Code::PurgeQueue | Code::PurgeInflight)
        )
    };
    let is_refused = |error: &WriteError| error.kind() != WriteErrorKind::Transient;
    let first = unwritten
        .iter()
        .min_by_key(|(index, error)| (!is_refused(error), is_consequence(error), *index));
    let Some((_, first)) = first.cloned() else {
        return Attempt::Again("the client gave no answer".to_owned());
    };
    if !is_refused(&first) {
        return match code(&first) {
            Some(Code::MessageTimedOut) => Attempt::Slow(first.to_string()),
            _ => Attempt::Again(first.to_string()),
        };
    }
    // Then the brokers say which records of a batch are to blame; otherwise all are.
    let names_records =
        (unwritten.iter()).any(|(_, error)| code(error) == Some(Code::InvalidDifferentRecord));
    let mut refused = unwritten;
    refused.retain(|(_, error)| is_refused(error));
    if names_records && refused.len() > 1 {
        refused.retain(|(_, error)| code(error) == Some(Code::InvalidRecord));
    }
    Attempt::Final(
        match names_records && !refused.is_empty() || refused.len() == 1 {
            true => TransactionError::Refused(refused),
            false => TransactionError::RefusedAmong(first),
        },
    )
}

/// The ids of one kind begin alike, up to the first slash.
pub(super) fn advice(code: Code, id: &str) -> String {
    let kind = id.split_once('/').map_or(id, |(kind, _)| kind);
    match code {
        Code::TransactionalIdAuthorizationFailed => format!(
            "; allow this client WRITE and DESCRIBE on transactional ids that begin with {kind}/"
        ),
        _ => String::new(),
    }
}

pub(super) fn is_retriable(error: &KafkaError) -> bool {
    match error {
        KafkaError::Transaction(error) => error.is_retriable(),
        KafkaError::Flush(_) => true,
        _ => false,
    }
}

pub(super) fn is_fenced(code: Code) -> bool {
    matches!(
        code,
        Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_codes(codes: &[(usize, Code)]) -> Attempt {
        let error = |code| {
            WriteError::from_kafka("parking".into(), &KafkaError::MessageProduction(code), 7)
        };
        judged(codes.iter().map(|(at, code)| (*at, error(*code))).collect())
    }

    /// The indexes of those to blame; none where that is not known.
    fn blamed(codes: &[(usize, Code)]) -> Vec<usize> {
        match of_codes(codes) {
            Attempt::Final(TransactionError::Refused(records)) => {
                records.into_iter().map(|(index, _)| index).collect()
            }
            Attempt::Final(TransactionError::RefusedAmong(_)) => Vec::new(),
            _ => panic!("it is refused: {codes:?}"),
        }
    }

    #[test]
    fn the_records_to_blame_are_found_among_answers_that_only_follow_from_them() {
        use Code::{InvalidDifferentRecord as Other, InvalidRecord as Invalid};
        use Code::{MessageSizeTooLarge as Large, MessageTimedOut, PurgeQueue as Purged};
        assert_eq!(
            blamed(&[(0, Other), (1, Other), (2, Invalid), (3, Other)]),
            [2]
        );
        assert_eq!(blamed(&[(0, Other), (1, Invalid), (2, Invalid)]), [1, 2]);
        assert_eq!(
            blamed(&[(0, Purged), (1, MessageTimedOut), (7, Large)]),
            [7]
        );
        assert_eq!(blamed(&[(3, Large), (4, Large), (5, Purged)]), [0; 0]);
        // A broker that does not name records refuses all of the batch.
        assert_eq!(blamed(&[(0, Invalid), (1, Invalid)]), [0; 0]);
        assert_eq!(
            blamed(&[(0, Other), (1, Invalid), (5, Large), (6, Large)]),
            [1]
        );
    }

    #[test]
    fn a_cause_is_told_and_not_what_follows_from_it() {
        let forbidden = Code::TopicAuthorizationFailed;
        let Attempt::Again(reason) = of_codes(&[(0, Code::PurgeQueue), (3, forbidden)]) else {
            panic!("it may pass");
        };
        assert!(reason.contains("allow this client to write"), "{reason}");
        let slow = of_codes(&[(0, Code::PurgeQueue), (3, Code::MessageTimedOut)]);
        assert!(matches!(slow, Attempt::Slow(_)), "fewer may be in time");
    }

    #[test]
    fn a_transactional_id_that_is_not_allowed_names_the_fix() {
        let code = Code::TransactionalIdAuthorizationFailed;
        let advice = advice(code, "keylane-redrive/group/topic");
        assert!(advice.contains("keylane-redrive/"), "{advice}");
    }
}
