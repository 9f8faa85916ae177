//! What can go wrong for an operator.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::kafka::config::ClientConfigError;
use crate::kafka::topics::LastError;

/// A query or a commit that failed. No text of it holds a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OperatorError {
    /// A client setting cannot be used.
    #[error(transparent)]
    Settings(#[from] ClientConfigError),
    /// The group has members, and only those commit then.
    #[error("group {group} has live members: stop them first")]
    LiveMembers {
        /// The group.
        group: String,
    },
    /// The brokers take less metadata with a commit than was given.
    #[error("the brokers refuse {bytes} bytes of commit metadata (offset.metadata.max.bytes)")]
    MetadataTooLarge {
        /// The longest text that was given.
        bytes: usize,
    },
    /// The brokers do not answer, or refuse.
    #[error("cannot {doing}: {reason}")]
    Failed {
        /// What failed.
        doing: String,
        /// The client's or the broker's reason.
        reason: String,
    },
    /// A change was sent, and no answer has come.
    #[error("{doing}: no answer ({reason}), so it is unknown whether it was carried out")]
    Unanswered {
        /// What was sent.
        doing: String,
        /// The client's reason.
        reason: String,
    },
}

impl OperatorError {
    pub(super) fn refused(doing: String, code: Code) -> Self {
        let reason = code.to_string();
        Self::Failed { doing, reason }
    }

    /// With the reason why the client cannot connect, where that is the cause.
    pub(super) fn of(doing: String, error: &KafkaError, last: &LastError) -> Self {
        let code = error.rdkafka_error_code();
        let is_without_answer = matches!(
            code,
            None | Some(
                Code::OperationTimedOut
                    | Code::BrokerTransportFailure
                    | Code::AllBrokersDown
                    | Code::WaitingForCoordinator
            )
        );
        let reason = match (last.text().filter(|_| is_without_answer), code) {
            (Some(reason), _) => format!("no broker answers: {reason}"),
            (None, Some(code)) => code.to_string(),
            (None, None) => error.to_string(),
        };
        Self::Failed { doing, reason }
    }
}

/// Whether a code is a broker's word that nothing was done; the client's own are below zero.
pub(super) fn is_refusal(code: Code) -> bool {
    code as i32 > 0 && code != Code::RequestTimedOut
}

/// A coordinator's answer to a commit of one that is no member, while the group has members.
pub(super) fn is_of_members(code: Code) -> bool {
    matches!(
        code,
        Code::UnknownMemberId
            | Code::IllegalGeneration
            | Code::RebalanceInProgress
            | Code::FencedMemberEpoch
            | Code::StaleMemberEpoch
    )
}
