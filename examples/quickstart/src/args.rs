//! The command line.

use std::net::SocketAddr;

use clap::Parser;
use clap::builder::NonEmptyStringValueParser;

use crate::names::Names;

/// The embedded broker keeps 5 MiB per partition and silently drops what is older. An event takes
/// some 300 bytes there, and keys do not spread evenly over the partitions.
const EMBEDDED_EVENTS_PER_PARTITION: u32 = 10_000;

/// Vehicles enter and leave a car park; keylane turns the events into push notifications.
///
/// Without --bootstrap the example brings its own broker. It exits with 0 if every event that was
/// enqueued is accounted for and the gateway saw the events of every vehicle in order.
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub(crate) struct Args {
    /// Vehicles, which are the keys: events of one vehicle stay in order.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) vehicles: u32,

    /// Events to enqueue.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=5_000_000))]
    pub(crate) events: u32,

    /// Events to enqueue per second; as fast as the broker takes them unless given.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rate: Option<u32>,

    /// Notifications in flight per partition.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    pub(crate) concurrency: u32,

    /// Partitions of the topics, when they are created.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=128))]
    pub(crate) partitions: u32,

    /// Decides all that is random: which vehicle moves, which record is broken, when the gateway is
    /// busy, what panics.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,

    /// Where to serve the metrics for Prometheus. Port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "HOST:PORT")]
    pub(crate) metrics_addr: SocketAddr,

    /// Where to serve health, state and administration. Port 0 picks a free one. With ADMIN_TOKEN
    /// in the environment, requests with that token can pause and shut down.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "HOST:PORT")]
    pub(crate) admin_addr: SocketAddr,

    /// Run on this Kafka cluster instead of the embedded broker. Missing topics are created.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) bootstrap: Option<String>,

    /// The consumer group.
    #[arg(long, default_value = "quickstart", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) group: String,

    /// The topic of the events. Dead letters go to a topic with -dlq behind its name.
    #[arg(long, default_value = "quickstart-events", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) topic: String,

    /// Keep serving metrics, health and state after the report, until Ctrl-C.
    #[arg(long)]
    pub(crate) linger: bool,
}

impl Args {
    pub(crate) fn names(&self) -> Names {
        Names::new(&self.group, &self.topic)
    }

    /// Checks what one option means for another.
    pub(crate) fn validate(&self) -> Result<(), ArgsError> {
        let room = self.partitions * EMBEDDED_EVENTS_PER_PARTITION;
        if self.bootstrap.is_none() && self.events > room {
            return Err(ArgsError::EmbeddedBrokerTooSmall {
                events: self.events,
                partitions: self.partitions,
                room,
            });
        }
        Ok(())
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ArgsError {
    #[error(
        "{events} events do not fit into the embedded broker, which holds about {room} in {partitions} partitions: \
         lower --events, raise --partitions, or use --bootstrap"
    )]
    EmbeddedBrokerTooSmall {
        events: u32,
        partitions: u32,
        room: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, String> {
        let args =
            Args::try_parse_from(line.split_whitespace()).map_err(|error| error.to_string())?;
        args.validate().map_err(|error| error.to_string())?;
        Ok(args)
    }

    #[test]
    fn the_defaults_are_valid() {
        assert!(parse("quickstart").is_ok());
    }

    #[test]
    fn topics_and_groups_follow_from_two_options() {
        let args = parse("quickstart --group g --topic t").unwrap();
        let names = args.names();
        assert_eq!(
            [
                &names.events,
                &names.dead_letters,
                &names.group,
                &names.audit_group
            ],
            ["t", "t-dlq", "g", "g-audit"]
        );
    }

    #[test]
    fn zero_of_anything_is_refused() {
        for option in [
            "--vehicles",
            "--events",
            "--rate",
            "--concurrency",
            "--partitions",
        ] {
            let error = parse(&format!("quickstart {option} 0")).unwrap_err();
            assert!(error.contains(option), "{error}");
        }
    }

    #[test]
    fn more_events_than_the_embedded_broker_holds_need_a_real_cluster() {
        let error = parse("quickstart --events 1000000").unwrap_err();
        assert!(error.contains("--bootstrap"), "{error}");
        assert!(parse("quickstart --events 1000000 --bootstrap localhost:9092").is_ok());
    }
}
