//! The ways a group can share out partitions, for promises that hold in all of them.

use std::time::Duration;

use keylane::Subscription;
use keylane::subscription::SubscriptionBuilder;

use crate::kafka::{Kafka, is_consumer_protocol_spoken, say_skipped};

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

    /// The word for `group.protocol` and the assignor, for tools: `classic`, `range`, `consumer`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cooperative => "classic",
            Self::Range => "range",
            Self::Consumer => "consumer",
        }
    }

    /// Those of `protocols` that the Kafka of the suites supports; skipped ones are printed.
    pub fn spoken<const N: usize>(protocols: [Self; N]) -> impl Iterator<Item = Self> {
        let what = std::thread::current().name().unwrap_or("a test").to_owned();
        protocols
            .into_iter()
            .filter(move |protocol| protocol.or_skip(&what))
    }

    /// Whether the Kafka of the suites supports it; if not, a line about the skipped `what` is
    /// printed.
    pub fn or_skip(self, what: &str) -> bool {
        let spoken = self != Self::Consumer || is_consumer_protocol_spoken();
        if !spoken {
            say_skipped(&format!(
                "{what}: this Kafka does not speak group.protocol=consumer"
            ));
        }
        spoken
    }
}

/// One test for each protocol on which a promise holds.
///
/// ```ignore
/// for_protocols! { rolling_restart:
///     a_rolling_restart_repeats_nothing_cooperative: Cooperative,
///     a_rolling_restart_repeats_nothing_consumer: Consumer,
/// }
/// ```
///
/// calls `rolling_restart(Protocol::Cooperative)` and so on; arguments may follow its name. A
/// protocol that this Kafka does not speak is skipped, which is printed.
#[macro_export]
macro_rules! for_protocols {
    ($body:ident: $($test:ident: $protocol:ident),+ $(,)?) => {
        $($crate::for_protocols! { @ $test, $protocol, $body() })+
    };
    ($body:ident($argument:expr): $($test:ident: $protocol:ident),+ $(,)?) => {
        $($crate::for_protocols! { @ $test, $protocol, $body($argument) })+
    };
    (@ $test:ident, $protocol:ident, $body:ident($($argument:expr)?)) => {
        #[::tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            let protocol = $crate::protocol::Protocol::$protocol;
            if protocol.or_skip(stringify!($test)) {
                $body(protocol $(, $argument)?).await;
            }
        }
    };
}
