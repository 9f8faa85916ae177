//! Which signs of health end which troubles.

use keylane_core::Sign as Says;

use crate::status::{Control, TroubleKind, TroublePlace};

/// Signs of health.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sign<'a> {
    /// The coordinator has taken a commit.
    Commit,
    /// The group has assigned partitions of these topics, perhaps of none.
    Assignment(&'a [&'a str]),
    /// A record has come.
    Delivery,
    /// A record has come from this broker.
    DeliveryFrom(i32),
    /// A fetch of every partition of this topic that could not be read was answered.
    Readable(&'a str),
    /// The last fetch of a partition of this topic was answered.
    Fetched(&'a str),
    /// A broker has answered the side client.
    Answer,
    /// This broker has answered the side client, or it is in the brokers' list and nothing needs
    /// it.
    AnswerOf(i32),
    /// The brokers list this topic.
    Topic(&'a str),
    /// The brokers list all subscribed topics.
    AllTopics,
}

/// Notes a sign of health.
pub(crate) fn healthy(control: &Control, sign: Sign<'_>) {
    control
        .troubles
        .healthy(|kind, place, unreadable| about(sign, kind, place, unreadable));
}

/// What a sign means for a trouble. `unreadable`: partitions there may not be read.
fn about(
    sign: Sign<'_>,
    kind: TroubleKind,
    place: &TroublePlace,
    unreadable: bool,
) -> Option<Says> {
    let (there, near) = (Some(Says::There), Some(Says::Near));
    match (kind, place, sign) {
        // Only a write to the topic shows that writes to it are allowed.
        (_, TroublePlace::WritesTo(_), _) => None,
        // It may have been answered before the complaint, and other partitions may be refused.
        (kind, place, Sign::Fetched(fetched)) => {
            let is_there = match (kind, place) {
                (TroubleKind::Authorization, TroublePlace::Cluster) => !unreadable,
                (TroubleKind::Authorization, TroublePlace::Topic(topic)) => {
                    topic == fetched && !unreadable
                }
                (TroubleKind::Other, TroublePlace::Topic(topic)) => topic == fetched,
                _ => false,
            };
            is_there.then_some(Says::Near)
        }
        // Its partitions have leaders of their own: records of others, or an answer of the group,
        // are weak evidence.
        (
            TroubleKind::Connection | TroubleKind::Authentication | TroubleKind::Other,
            TroublePlace::Topic(_),
            _,
        ) => near,
        // The client requests an answer that it cannot take again and again, between others that it
        // can take.
        (TroubleKind::Other, TroublePlace::Broker(_), _) => near,
        (TroubleKind::Connection | TroubleKind::Authentication, place, sign) => match (place, sign)
        {
            (TroublePlace::Broker(id), Sign::DeliveryFrom(from) | Sign::AnswerOf(from))
                if *id == from =>
            {
                there
            }
            // Others have the same credentials and the same network, but are others.
            (TroublePlace::Broker(_), _) => near,
            (TroublePlace::Coordinator, Sign::Commit | Sign::Assignment(_)) => there,
            (TroublePlace::Coordinator, _) => near,
            _ => there,
        },
        (TroubleKind::Authorization | TroubleKind::GroupProtocol, _, Sign::Assignment(_)) => there,
        // A commit needs permission for the group and all its topics, but is no evidence about a
        // topic without commits.
        (TroubleKind::Authorization, _, Sign::Commit) if !unreadable => there,
        (TroubleKind::Authorization, TroublePlace::Topic(topic), Sign::Readable(readable))
            if topic == readable =>
        {
            there
        }
        (TroubleKind::Authorization, TroublePlace::Cluster, Sign::Readable(_)) if !unreadable => {
            there
        }
        (TroubleKind::MissingTopic, TroublePlace::Topic(topic), Sign::Topic(known))
            if topic == known =>
        {
            there
        }
        (TroubleKind::MissingTopic, TroublePlace::Topic(topic), Sign::Assignment(topics)) => {
            topics.contains(&topic.as_str()).then_some(Says::There)
        }
        (TroubleKind::MissingTopic, _, Sign::AllTopics) => there,
        (TroubleKind::Commit, _, Sign::Commit) => there,
        (
            TroubleKind::Membership | TroubleKind::Other,
            _,
            Sign::Commit | Sign::Delivery | Sign::Assignment(_),
        ) => there,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use TroubleKind::{
        Authentication, Authorization, Commit, Connection, Membership, MissingTopic,
    };
    use TroublePlace::{Broker, Cluster, Coordinator, Group};

    use super::*;

    fn says(sign: Sign<'_>, kind: TroubleKind, place: &TroublePlace) -> Option<Says> {
        about(sign, kind, place, false)
    }

    /// D-C: two of three brokers deliver, and the third is the group's coordinator.
    #[test]
    fn what_another_broker_delivers_says_little_of_one_that_is_away() {
        for kind in [Connection, Authentication] {
            for sign in [
                Sign::Delivery,
                Sign::DeliveryFrom(2),
                Sign::Answer,
                Sign::AnswerOf(2),
                Sign::AllTopics,
            ] {
                assert_eq!(says(sign, kind, &Broker(1)), Some(Says::Near), "{sign:?}");
                assert_eq!(says(sign, kind, &Coordinator), Some(Says::Near), "{sign:?}");
                assert_eq!(says(sign, kind, &Cluster), Some(Says::There), "{sign:?}");
            }
            assert_eq!(
                says(Sign::DeliveryFrom(1), kind, &Broker(1)),
                Some(Says::There)
            );
            assert_eq!(says(Sign::AnswerOf(1), kind, &Broker(1)), Some(Says::There));
            assert_eq!(says(Sign::Commit, kind, &Coordinator), Some(Says::There));
            assert_eq!(says(Sign::Commit, kind, &Broker(1)), Some(Says::Near));
        }
    }

    #[test]
    fn a_topic_is_healthy_by_its_own_signs() {
        let (tasks, other) = (
            TroublePlace::Topic("tasks".into()),
            TroublePlace::Topic("other".into()),
        );
        for (kind, sign) in [
            (MissingTopic, Sign::Topic("tasks")),
            (Authorization, Sign::Readable("tasks")),
        ] {
            assert_eq!(says(sign, kind, &tasks), Some(Says::There));
            assert_eq!(says(sign, kind, &other), None);
            assert_eq!(says(Sign::Delivery, kind, &tasks), None);
        }
        assert_eq!(
            says(Sign::Assignment(&["other"]), MissingTopic, &tasks),
            None
        );
        assert_eq!(
            says(Sign::Assignment(&["other", "tasks"]), MissingTopic, &tasks),
            Some(Says::There)
        );
        assert_eq!(says(Sign::Commit, Authorization, &tasks), Some(Says::There));
        assert_eq!(
            about(Sign::Commit, Authorization, &tasks, true),
            None,
            "it has no commits as long as it is not read"
        );
        assert_eq!(says(Sign::Commit, Authorization, &Group), Some(Says::There));
    }

    /// What the client complains about without naming a partition has no end of its own.
    #[test]
    fn a_fetch_that_was_answered_says_little_and_nothing_beside_one_that_is_refused() {
        let (tasks, sign) = (TroublePlace::Topic("tasks".into()), Sign::Fetched("tasks"));
        for place in [&tasks, &Cluster] {
            assert_eq!(says(sign, Authorization, place), Some(Says::Near));
            assert_eq!(about(sign, Authorization, place, true), None);
        }
        assert_eq!(says(sign, TroubleKind::Other, &tasks), Some(Says::Near));
        for (kind, place) in [
            (Authorization, &Group),
            (Connection, &Cluster),
            (Connection, &tasks),
            (MissingTopic, &tasks),
        ] {
            assert_eq!(says(sign, kind, place), None, "{kind:?} {place}");
        }
        assert_eq!(says(Sign::Fetched("other"), Authorization, &tasks), None);
    }

    #[test]
    fn what_is_wrong_with_a_topic_is_not_over_when_another_delivers() {
        let tasks = TroublePlace::Topic("tasks".into());
        let signs = [
            Sign::Delivery,
            Sign::DeliveryFrom(1),
            Sign::Commit,
            Sign::Answer,
            Sign::Assignment(&["other"]),
        ];
        for kind in [Connection, Authentication, TroubleKind::Other] {
            for sign in signs {
                assert_eq!(
                    says(sign, kind, &tasks),
                    Some(Says::Near),
                    "{kind:?} {sign:?}"
                );
            }
        }
        assert_eq!(
            says(Sign::Delivery, TroubleKind::Other, &Cluster),
            Some(Says::There)
        );
        for sign in [
            Sign::Delivery,
            Sign::DeliveryFrom(1),
            Sign::AnswerOf(1),
            Sign::Commit,
        ] {
            assert_eq!(
                says(sign, TroubleKind::Other, &Broker(1)),
                Some(Says::Near),
                "{sign:?}"
            );
        }
    }

    #[test]
    fn writes_and_commits_are_healthy_by_nothing_else() {
        let writes = TroublePlace::WritesTo("dead".into());
        for sign in [
            Sign::Commit,
            Sign::Delivery,
            Sign::Assignment(&[]),
            Sign::Answer,
            Sign::AllTopics,
        ] {
            assert_eq!(says(sign, Authorization, &writes), None);
            let commit = matches!(sign, Sign::Commit).then_some(Says::There);
            assert_eq!(says(sign, Commit, &Coordinator), commit);
        }
        assert_eq!(says(Sign::Delivery, Membership, &Group), Some(Says::There));
    }
}
