//! Where a complaint of the client is about, by its words: it has no field for that.
//!
//! A broker's errors begin with its name, `host:port/id: ` (`ssl://…` in front, `/bootstrap` before
//! the id is known); those of the coordinator's connection begin with `GroupCoordinator`.

use rdkafka::error::RDKafkaErrorCode as Code;

use crate::status::{TroubleKind, TroublePlace};

/// The beginning of the client's messages about subscribed topics that it cannot read.
const TOPIC_PREFIX: &str = "Subscribed topic not available: ";

pub(crate) fn place_of(kind: TroubleKind, code: Option<Code>, reason: &str) -> TroublePlace {
    match kind {
        TroubleKind::Authorization if code == Some(Code::GroupAuthorizationFailed) => {
            TroublePlace::Group
        }
        TroubleKind::Authorization | TroubleKind::MissingTopic => {
            topic(reason).unwrap_or(TroublePlace::Cluster)
        }
        TroubleKind::Membership | TroubleKind::GroupProtocol => TroublePlace::Group,
        TroubleKind::Commit => TroublePlace::Coordinator,
        _ if code.is_some_and(is_about_the_coordinator) => TroublePlace::Coordinator,
        _ => broker(reason).unwrap_or(TroublePlace::Cluster),
    }
}

fn topic(reason: &str) -> Option<TroublePlace> {
    let (topic, _) = reason.strip_prefix(TOPIC_PREFIX)?.split_once(": ")?;
    Some(TroublePlace::Topic(topic.to_owned()))
}

fn broker(reason: &str) -> Option<TroublePlace> {
    let (name, _) = reason.split_once(": ")?;
    if name.starts_with("GroupCoordinator") {
        return Some(TroublePlace::Coordinator);
    }
    let (_, id) = name.rsplit_once('/')?;
    id.parse().ok().map(TroublePlace::Broker)
}

fn is_about_the_coordinator(code: Code) -> bool {
    matches!(
        code,
        Code::CoordinatorNotAvailable
            | Code::CoordinatorLoadInProgress
            | Code::NotCoordinator
            | Code::WaitingForCoordinator
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of librdkafka 2.12.1.
    #[test]
    fn the_place_is_in_the_words() {
        let refused = "Connect to ipv4#127.0.0.1:9092 failed: Connection refused (after 0ms in state CONNECT)";
        for (name, place) in [
            ("127.0.0.1:9092/1", TroublePlace::Broker(1)),
            (
                "sasl_ssl://broker.example:9093/12",
                TroublePlace::Broker(12),
            ),
            ("ssl://[::1]:9093/2", TroublePlace::Broker(2)),
            ("localhost:9092/bootstrap", TroublePlace::Cluster),
            (
                "GroupCoordinator: 127.0.0.1:9092",
                TroublePlace::Coordinator,
            ),
            ("GroupCoordinator/1", TroublePlace::Coordinator),
        ] {
            for kind in [TroubleKind::Connection, TroubleKind::Authentication] {
                let code = Some(Code::BrokerTransportFailure);
                assert_eq!(place_of(kind, code, &format!("{name}: {refused}")), place);
            }
        }
        let place = |kind, code, reason| place_of(kind, Some(code), reason);
        let (connection, missing) = (TroubleKind::Connection, TroubleKind::MissingTopic);
        assert_eq!(
            place(connection, Code::AllBrokersDown, "3/3 brokers are down"),
            TroublePlace::Cluster
        );
        assert_eq!(
            place(connection, Code::NotCoordinator, "127.0.0.1:9092/1: x"),
            TroublePlace::Coordinator
        );
        let gone = "Subscribed topic not available: tasks: Broker: Unknown topic or partition";
        assert_eq!(
            place(missing, Code::UnknownTopicOrPartition, gone),
            TroublePlace::Topic("tasks".into())
        );
        let forbidden = "FindCoordinator response error: Broker: Group authorization failed";
        let code = Code::GroupAuthorizationFailed;
        assert_eq!(
            place(TroubleKind::Authorization, code, forbidden),
            TroublePlace::Group
        );
    }
}
