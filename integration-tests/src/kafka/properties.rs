//! The `server.properties` of a test broker: small, quick to fail over, and strict about topics.

use std::path::Path;

use super::extras::Extras;

/// Where one node listens.
#[derive(Debug, Clone)]
pub(super) struct Ports {
    pub(super) broker: u16,
    pub(super) controller: u16,
    /// The ports of the extra listeners, in their order.
    pub(super) extra: Vec<u16>,
}

/// The properties of node `index` in a cluster whose nodes listen on `ports`.
pub(super) fn server_properties(
    index: usize,
    ports: &[Ports],
    data: &Path,
    extras: &Extras,
) -> String {
    let Ports {
        broker,
        controller,
        extra,
    } = &ports[index];
    let id = node_id(index);
    let replicas = ports.len();
    let in_sync = if replicas > 1 { 2 } else { 1 };
    let voters: Vec<String> = ports
        .iter()
        .enumerate()
        .map(|(index, ports)| format!("{}@127.0.0.1:{}", node_id(index), ports.controller))
        .collect();
    let join = |part: &dyn Fn(&str, &str, u16) -> String| -> String {
        extras
            .listeners
            .iter()
            .zip(extra)
            .map(|((name, protocol), port)| part(name, protocol, *port))
            .collect()
    };
    // Bound to the address, advertised by the name: a certificate is for a name.
    let listeners = join(&|name, _, port| format!(",{name}://127.0.0.1:{port}"));
    let advertised = join(&|name, _, port| format!(",{name}://localhost:{port}"));
    let protocols = join(&|name, protocol, _| format!(",{name}:{protocol}"));
    let properties: String = extras
        .properties
        .iter()
        .map(|(key, value)| format!("{key}={value}\n"))
        .collect();
    format!(
        "process.roles=broker,controller
node.id={id}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}{listeners}
advertised.listeners=PLAINTEXT://127.0.0.1:{broker}{advertised}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{protocols}
log.dirs={data}
# A test names the topics it needs; a typing error must not create one.
auto.create.topics.enable=false
offsets.topic.replication.factor={replicas}
offsets.topic.num.partitions=4
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor={replicas}
share.coordinator.state.topic.min.isr={in_sync}
share.coordinator.state.topic.num.partitions=4
# Groups form at once. A busy machine throws nobody out; see `Extras::quick_sessions`.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
group.consumer.heartbeat.interval.ms=500
group.consumer.min.heartbeat.interval.ms=100
group.consumer.session.timeout.ms=30000
group.consumer.min.session.timeout.ms=1000
# A killed broker is out after 5 s (default 9 s); less would fence healthy ones on a busy machine.
broker.session.timeout.ms=5000
broker.heartbeat.interval.ms=500
# Small: the cleaner's default buffer alone is 128 MiB.
log.cleaner.dedupe.buffer.size=4194304
# What a topic's retention and its compaction take away goes soon. The defaults are minutes.
log.initial.task.delay.ms=500
log.retention.check.interval.ms=500
log.cleaner.backoff.ms=500
num.network.threads=2
num.io.threads=4
{properties}",
        voters = voters.join(","),
        data = data.display(),
    )
}

/// Kafka counts its nodes from 1 here: the id 0 is easily mistaken for "none".
pub(super) fn node_id(index: usize) -> i32 {
    i32::try_from(index).unwrap_or(i32::MAX - 1) + 1
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Extras, Ports, server_properties};

    const PORTS: [Ports; 3] = [
        Ports {
            broker: 1001,
            controller: 2001,
            extra: Vec::new(),
        },
        Ports {
            broker: 1002,
            controller: 2002,
            extra: Vec::new(),
        },
        Ports {
            broker: 1003,
            controller: 2003,
            extra: Vec::new(),
        },
    ];

    #[test]
    fn a_node_listens_on_its_own_ports_and_knows_all_voters() {
        let text = server_properties(1, &PORTS, Path::new("/data"), &Extras::default());
        assert!(text.contains("node.id=2\n"));
        assert!(
            text.contains("listeners=PLAINTEXT://127.0.0.1:1002,CONTROLLER://127.0.0.1:2002\n")
        );
        assert!(text.contains("voters=1@127.0.0.1:2001,2@127.0.0.1:2002,3@127.0.0.1:2003\n"));
        assert!(text.contains("offsets.topic.replication.factor=3\n"));
        assert!(text.contains("transaction.state.log.min.isr=2\n"));
    }

    #[test]
    fn one_node_replicates_to_nobody() {
        let text = server_properties(0, &PORTS[..1], Path::new("/data"), &Extras::default());
        assert!(text.contains("offsets.topic.replication.factor=1\n"));
        assert!(text.contains("transaction.state.log.min.isr=1\n"));
    }

    #[test]
    fn an_extra_listener_is_bound_advertised_and_has_its_protocol() {
        let extras = Extras::default()
            .listener("TLS", "SSL")
            .property("ssl.client.auth", "required");
        let ports = [Ports {
            broker: 1001,
            controller: 2001,
            extra: vec![3001],
        }];
        let text = server_properties(0, &ports, Path::new("/data"), &extras);
        assert!(text.contains(":2001,TLS://127.0.0.1:3001\n"), "{text}");
        assert!(text.contains(":1001,TLS://localhost:3001\n"), "{text}");
        assert!(text.contains("CONTROLLER:PLAINTEXT,TLS:SSL\n"), "{text}");
        assert!(text.ends_with("ssl.client.auth=required\n"), "{text}");
    }
}
