//! From the client's complaints to the subscription's state, metrics and logs.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::client_error::ClientError;
use super::trouble_place::place_of;
use crate::kafka::topics::is_tls_alert;
use crate::metrics::{CommitFailure, ConsumerError, SubscriptionMetrics};
use crate::status::{Control, TroubleKind, TroublePlace};

/// librdkafka 2.12.1 reports "Invalid response size … (0..…): increase receive.message.max.bytes".
const RECEIVE_LIMIT: &str = "increase receive.message.max.bytes";

/// Notes a complaint of the client, with its words for the place.
pub(crate) fn note(
    control: &Control,
    metrics: &SubscriptionMetrics,
    code: Option<Code>,
    reason: &str,
) {
    let kind = match code.map_or(TroubleKind::Other, kind_of) {
        TroubleKind::Connection if is_tls_alert(reason) => TroubleKind::Authentication,
        kind => kind,
    };
    metrics.consumer_error(label(kind));
    let advice = advice(control, code) + too_large(reason).unwrap_or_default();
    control.troubles.note(
        kind,
        place_of(kind, code, reason),
        &(reason.to_owned() + &advice),
    );
    control.wake();
}

/// What an operator has to do where an answer is larger than the client takes. The client's words
/// name the option, and no topic: the batches of several partitions come in one answer.
fn too_large(reason: &str) -> Option<&'static str> {
    reason.contains(RECEIVE_LIMIT).then_some(
        ": a batch of records is larger, and what this broker leads is not read; restart with a limit above \
         max.message.bytes of the topics",
    )
}

/// Notes a commit that failed, with the first topic it failed for.
pub(crate) fn note_commit(control: &Control, error: &KafkaError, topic: Option<&str>) {
    let code = error.rdkafka_error_code();
    let kind = code
        .map(kind_of)
        .filter(|kind| *kind != TroubleKind::Other)
        .unwrap_or(TroubleKind::Commit);
    let place = match (kind, topic) {
        (TroubleKind::Authorization, Some(topic))
            if code != Some(Code::GroupAuthorizationFailed) =>
        {
            TroublePlace::Topic(topic.to_owned())
        }
        (TroubleKind::MissingTopic, Some(topic)) => TroublePlace::Topic(topic.to_owned()),
        (TroubleKind::Authorization | TroubleKind::Membership, _) => TroublePlace::Group,
        // It takes the commits, whatever comes back.
        _ => TroublePlace::Coordinator,
    };
    let message = match topic {
        Some(topic) => format!("cannot commit offsets of topic `{topic}`: {error}"),
        None => format!("cannot commit offsets: {error}"),
    };
    control
        .troubles
        .note(kind, place, &(message + &advice(control, code)));
}

/// Notes that the committed offsets cannot be read: partitions wait for them.
pub(crate) fn note_committed(
    control: &Control,
    metrics: &SubscriptionMetrics,
    error: &ClientError,
) {
    let code = error.code();
    let kind = code.map_or(TroubleKind::Other, kind_of);
    metrics.consumer_error(label(kind));
    let is_refused = matches!(kind, TroubleKind::Authorization | TroubleKind::Membership);
    let place = if is_refused {
        TroublePlace::Group
    } else {
        TroublePlace::Coordinator
    };
    let message = format!("cannot read the committed offsets, which partitions wait for: {error}");
    control
        .troubles
        .note(kind, place, &(message + &advice(control, code)));
}

/// Notes that a partition delivered an error instead of a record.
pub(crate) fn note_unreadable(
    control: &Control,
    metrics: &SubscriptionMetrics,
    code: Code,
    topic: &str,
    partition: i32,
) {
    let kind = kind_of(code);
    metrics.consumer_error(label(kind));
    if kind == TroubleKind::Authorization {
        control.troubles.unreadable(topic, partition);
    }
    let message = format!("cannot read topic `{topic}`, partition {partition}: {code}");
    let place = TroublePlace::Topic(topic.to_owned());
    control
        .troubles
        .note(kind, place, &(message + &advice(control, Some(code))));
}

/// Notes that a topic is gone, by the brokers' answer.
pub(crate) fn note_missing(control: &Control, metrics: &SubscriptionMetrics, topic: &str) {
    metrics.consumer_error(ConsumerError::Other);
    let message = format!("the topic {topic} is gone; it is read again when it is re-created");
    control.troubles.note(
        TroubleKind::MissingTopic,
        TroublePlace::Topic(topic.to_owned()),
        &message,
    );
}

/// What an operator has to grant, for what an ACL forbids, or to set, for a group that refuses.
pub(crate) fn advice(control: &Control, code: Option<Code>) -> String {
    match code {
        Some(Code::GroupAuthorizationFailed) => {
            format!(
                "; grant this client READ on consumer group `{}`",
                control.group()
            )
        }
        Some(Code::TopicAuthorizationFailed) => "; grant this client READ on the topic".to_owned(),
        Some(Code::InconsistentGroupProtocol) => {
            format!(
                "; the other members of consumer group `{}` have no assignor in common with this one: set the client \
                 setting partition.assignment.strategy to theirs (range, for Java clients before 3.0) until they have left",
                control.group()
            )
        }
        _ => String::new(),
    }
}

pub(crate) fn commit_failure(code: Option<Code>) -> CommitFailure {
    match code.map_or(TroubleKind::Other, kind_of) {
        TroubleKind::Connection => CommitFailure::Transport,
        TroubleKind::Authentication | TroubleKind::Authorization => CommitFailure::Auth,
        _ => CommitFailure::Other,
    }
}

/// Whether another try may find the coordinator where it has moved to, or the member in its new
/// epoch. Fencing errors are not retried: the partitions are already lost.
pub(crate) fn is_passing_at_coordinator(code: Code) -> bool {
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
pub(crate) fn is_missing_topic(code: Code) -> bool {
    kind_of(code) == TroubleKind::MissingTopic
}

fn label(kind: TroubleKind) -> ConsumerError {
    match kind {
        TroubleKind::Connection => ConsumerError::Transport,
        TroubleKind::Authentication | TroubleKind::Authorization => ConsumerError::Auth,
        _ => ConsumerError::Other,
    }
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
        | Code::WaitingForCoordinator
        | Code::NotCoordinator => TroubleKind::Connection,
        Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL => {
            TroubleKind::Authentication
        }
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed => TroubleKind::Authorization,
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
            TroubleKind::MissingTopic
        }
        Code::InconsistentGroupProtocol => TroubleKind::GroupProtocol,
        Code::PollExceeded
        | Code::UnknownMemberId
        | Code::IllegalGeneration
        | Code::FencedInstanceId
        | Code::Fenced => TroubleKind::Membership,
        _ => TroubleKind::Other,
    }
}
