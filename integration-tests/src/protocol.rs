//! The ways a group can share out partitions, for promises that hold in all of them.

use std::time::Duration;

use keylane::{Subscription, SubscriptionBuilder};

use crate::kafka::Kafka;

/// A group protocol with its assignor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// The classic protocol, cooperative-sticky: keylane's default.
    Cooperative,
    /// The classic protocol with an eager assignor: every rebalance takes everything from
    /// everybody.
    Range,
    /// `group.protocol=consumer` (KIP-848): the broker assigns.
    Consumer,
}

impl Protocol {
    /// A subscription to `topic` by this protocol. A classic member that dies is noticed after
    /// `session_ms`; the brokers of the harness give members of the other protocol 30 s, or 5 s
    /// with `Extras::quick_sessions`.
    pub fn subscribe(
        self,
        kafka: &Kafka,
        group: &str,
        topic: &str,
        session_ms: u32,
    ) -> SubscriptionBuilder {
        // Of a machine that has several brokers and members to start.
        let startup = Duration::from_secs(60);
        let builder =
            Subscription::builder(group, topic).bootstrap_servers(kafka.bootstrap_servers());
        let builder = builder.startup_timeout(startup);
        let classic = |builder: SubscriptionBuilder| {
            builder
                .kafka("session.timeout.ms", session_ms.to_string())
                .kafka("heartbeat.interval.ms", "200")
        };
        match self {
            Self::Cooperative => classic(builder),
            Self::Range => classic(builder.kafka("partition.assignment.strategy", "range")),
            Self::Consumer => builder.kafka("group.protocol", "consumer"),
        }
    }
}
