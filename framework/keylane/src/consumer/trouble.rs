//! From the client's complaints to the subscription's state, metrics and logs.

use std::time::SystemTime;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::client_config::without_secrets;
use crate::metrics::{CommitFailure, ConsumerError, SubscriptionMetrics};
use crate::subscription::{Control, Trouble, TroubleKind};
use crate::topics::is_tls_alert;

/// Signs that a trouble has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    Commit,
    Delivery,
    /// Every partition that could not be read has delivered a record.
    Readable,
    Assignment,
    /// A broker has answered the side client.
    Answer,
    /// The brokers know all topics that were asked for.
    Topics,
}

/// Notes a complaint. The first of a kind is logged and dated; repetitions only count.
pub(super) fn note(control: &Control, metrics: &SubscriptionMetrics, code: Option<Code>, reason: &str) {
    let kind = match code.map_or(TroubleKind::Other, kind_of) {
        TroubleKind::Connection if is_tls_alert(reason) => TroubleKind::Authentication,
        kind => kind,
    };
    metrics.consumer_error(match kind {
        TroubleKind::Connection => ConsumerError::Transport,
        TroubleKind::Authentication | TroubleKind::Authorization => ConsumerError::Auth,
        _ => ConsumerError::Other,
    });
    set(control, kind, &(reason.to_owned() + &grant(control, code)));
}

/// Notes a commit that failed, with the first topic it failed for.
pub(super) fn note_commit(control: &Control, error: &KafkaError, topic: Option<&str>) {
    let code = error.rdkafka_error_code();
    let kind = code.map(kind_of).filter(|kind| *kind != TroubleKind::Other);
    let message = match topic {
        Some(topic) => format!("cannot commit offsets of topic `{topic}`: {error}"),
        None => format!("cannot commit offsets: {error}"),
    };
    set(control, kind.unwrap_or(TroubleKind::Commit), &(message + &grant(control, code)));
}

/// Notes that a partition delivered an error instead of a record.
pub(super) fn note_unreadable(
    control: &Control,
    metrics: &SubscriptionMetrics,
    code: Code,
    topic: &str,
    partition: i32,
) {
    if kind_of(code) == TroubleKind::Authorization {
        control.refusals.unreadable(topic, partition);
    }
    note(control, metrics, Some(code), &format!("cannot read topic `{topic}`, partition {partition}: {code}"));
}

/// What an operator has to grant, for what an ACL forbids.
pub(super) fn grant(control: &Control, code: Option<Code>) -> String {
    match code {
        Some(Code::GroupAuthorizationFailed) => {
            format!("; grant this client READ on consumer group `{}`", control.group())
        }
        Some(Code::TopicAuthorizationFailed) => "; grant this client READ on the topic".to_owned(),
        _ => String::new(),
    }
}

pub(super) fn commit_failure(code: Option<Code>) -> CommitFailure {
    match code.map_or(TroubleKind::Other, kind_of) {
        TroubleKind::Connection => CommitFailure::Transport,
        TroubleKind::Authentication | TroubleKind::Authorization => CommitFailure::Auth,
        _ => CommitFailure::Other,
    }
}

fn set(control: &Control, kind: TroubleKind, message: &str) {
    let message = &*without_secrets(message);
    let since = match control.trouble() {
        // "All brokers are down" follows every refusal, and says less.
        Some(trouble) if trouble.kind == TroubleKind::Authentication && kind == TroubleKind::Connection => return,
        Some(trouble) if trouble.kind == kind => trouble.since,
        _ => {
            tracing::warn!(kind = kind.as_str(), message, "the kafka client reports trouble; it keeps trying");
            SystemTime::now()
        }
    };
    control.set_trouble(Some(Trouble { kind, message: message.to_owned(), since }));
}

/// Clears the trouble that this sign speaks against.
pub(super) fn healthy(control: &Control, sign: Sign) {
    let Some(trouble) = control.trouble() else { return };
    let passed = match trouble.kind {
        TroubleKind::Commit => sign == Sign::Commit,
        TroubleKind::MissingTopic => matches!(sign, Sign::Assignment | Sign::Topics),
        // A commit needs leave for the group and all its topics, but says nothing of a topic without commits.
        TroubleKind::Authorization => match sign {
            Sign::Assignment | Sign::Readable => true,
            Sign::Commit => !control.refusals.has_unreadable(),
            _ => false,
        },
        TroubleKind::Connection => true,
        // Who asks has the same credentials.
        TroubleKind::Authentication => !matches!(sign, Sign::Topics | Sign::Readable),
        _ => !matches!(sign, Sign::Answer | Sign::Topics | Sign::Readable),
    };
    if passed {
        tracing::info!(kind = trouble.kind.as_str(), "the trouble has passed");
        control.set_trouble(None);
    }
}

/// Whether another try may find the coordinator where it has moved to, or the member in its new epoch. Whoever is no member any
/// more is not among these.
pub(super) fn is_passing_at_coordinator(code: Code) -> bool {
    matches!(
        code,
        Code::StaleMemberEpoch
            | Code::NotCoordinator
            | Code::CoordinatorNotAvailable
            | Code::CoordinatorLoadInProgress
            | Code::WaitingForCoordinator
            | Code::RequestTimedOut
            | Code::OperationTimedOut
            | Code::BrokerTransportFailure
    )
}

/// Whether a topic seems to be gone.
pub(super) fn is_missing_topic(code: Code) -> bool {
    kind_of(code) == TroubleKind::MissingTopic
}

fn kind_of(code: Code) -> TroubleKind {
    match code {
        Code::BrokerTransportFailure
        | Code::AllBrokersDown
        | Code::Resolve
        | Code::OperationTimedOut
        | Code::RequestTimedOut
        | Code::NetworkException
        | Code::LeaderNotAvailable
        | Code::CoordinatorNotAvailable
        | Code::CoordinatorLoadInProgress
        | Code::NotCoordinator => TroubleKind::Connection,
        Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL => TroubleKind::Authentication,
        Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed | Code::ClusterAuthorizationFailed => {
            TroubleKind::Authorization
        }
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => TroubleKind::MissingTopic,
        Code::PollExceeded
        | Code::UnknownMemberId
        | Code::IllegalGeneration
        | Code::FencedInstanceId
        | Code::Fenced => TroubleKind::Membership,
        _ => TroubleKind::Other,
    }
}

/// librdkafka's log lines, one level down: what matters also arrives as an error and is told in our words.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    let message = &*without_secrets(message);
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
            tracing::warn!(target: "librdkafka", facility, message);
        }
        RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice => tracing::info!(target: "librdkafka", facility, message),
        RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, message),
    }
}
