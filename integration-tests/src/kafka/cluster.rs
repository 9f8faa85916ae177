//! The nodes that the harness started, as one thing.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use rdkafka::consumer::{BaseConsumer, Consumer};

use super::{
    artifacts::{self, Artifact},
    client,
    error::HarnessError,
    extras::Extras,
    node::Node,
    ports::free_ports,
    properties::{Ports, node_id, server_properties},
    watchdog::Watchdog,
};

/// Any 22 characters of base64url that make 16 bytes; all clusters of the harness may share one,
/// they never meet.
const CLUSTER_ID: &str = "a2V5bGFuZS1oYXJuZXNzMQ";
/// Three nodes are up in about 11 s on two idle cores; the rest is for busy ones.
const READY_DEADLINE: Duration = Duration::from_secs(120);
/// Another process may take a port between our look at it and the broker's start.
const ATTEMPTS: usize = 3;

/// Running broker processes on this machine. They die with this value, and with this process.
#[derive(Debug)]
pub(super) struct Cluster {
    nodes: Vec<Node>,
    watchdog: Mutex<Watchdog>,
    dir: PathBuf,
    /// The extra listeners of each node, by name.
    extra_ports: Vec<Vec<(String, u16)>>,
}

impl Cluster {
    /// Fetches Kafka if needed, formats and starts `count` nodes, and waits until all of them
    /// answer.
    pub(super) fn start(count: usize, extras: &Extras) -> Result<Self, HarnessError> {
        let libs = artifacts::libs(&artifacts::version(), Artifact::Broker)?;
        let mut attempt = 1;
        loop {
            match Self::start_once(count, &libs, extras) {
                Err(HarnessError::PortTaken { .. }) if attempt < ATTEMPTS => attempt += 1,
                result => return result,
            }
        }
    }

    fn start_once(count: usize, libs: &Path, extras: &Extras) -> Result<Self, HarnessError> {
        let cluster = Self::lay_out(count, libs, extras)?;
        let mut formats = cluster
            .nodes
            .iter()
            .map(|node| node.format(CLUSTER_ID))
            .collect::<Result<Vec<_>, _>>()?;
        for (node, format) in cluster.nodes.iter().zip(&mut formats) {
            node.formatted(format)?;
        }
        for node in &cluster.nodes {
            node.start(&cluster.watchdog)?;
        }
        for node in &cluster.nodes {
            cluster.await_ready(node, count)?;
        }
        Ok(cluster)
    }

    /// Chooses the ports and writes the properties. The watchdog owns the directory from its first
    /// moment.
    fn lay_out(count: usize, libs: &Path, extras: &Extras) -> Result<Self, HarnessError> {
        let each = 2 + extras.listeners.len();
        let free = free_ports(each * count).map_err(HarnessError::io("find free ports"))?;
        let ports: Vec<Ports> = free
            .chunks(each)
            .map(|ports| Ports {
                broker: ports[0],
                controller: ports[1],
                extra: ports[2..].to_vec(),
            })
            .collect();
        let dir = tempfile::Builder::new()
            .prefix("keylane-kafka-")
            .tempdir()
            .map_err(HarnessError::io("create a data directory"))?;
        let watchdog = Watchdog::over(dir.path())?;
        let dir = dir.keep();

        let mut nodes = Vec::with_capacity(count);
        for index in 0..count {
            let home = dir.join(format!("node-{index}"));
            let text = server_properties(index, &ports, &home.join("data"), extras);
            fs::create_dir(&home)
                .and_then(|()| fs::write(home.join("server.properties"), text))
                .map_err(HarnessError::io(format!("write into {}", home.display())))?;
            nodes.push(Node::new(index, ports[index].broker, libs, &home));
        }
        let names = || extras.listeners.iter().map(|(name, _)| name.clone());
        let extra_ports = ports
            .iter()
            .map(|ports| names().zip(ports.extra.iter().copied()).collect())
            .collect();
        Ok(Self {
            nodes,
            watchdog: Mutex::new(watchdog),
            dir,
            extra_ports,
        })
    }

    /// Waits until the node itself answers and lists `expected` brokers, itself among them.
    fn await_ready(&self, node: &Node, expected: usize) -> Result<(), HarnessError> {
        let started = Instant::now();
        loop {
            let last = match ask(node, expected) {
                Ok(()) => return Ok(()),
                Err(last) => last,
            };
            node.check_alive(&self.watchdog)?;
            if started.elapsed() >= READY_DEADLINE {
                let last = format!("{last}; its last log lines:\n{}", node.log_tail());
                let what = format!("node {} was ready", node.index);
                return Err(HarnessError::Deadline {
                    what,
                    after: READY_DEADLINE,
                    last,
                });
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    pub(super) fn bootstrap_servers(&self) -> String {
        let addresses: Vec<String> = self
            .nodes
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.port))
            .collect();
        addresses.join(",")
    }

    /// The addresses of the nodes that are neither down nor suspended.
    pub(super) fn running(&self) -> Vec<String> {
        let running = self.nodes.iter().filter(|node| node.is_running());
        running
            .map(|node| format!("127.0.0.1:{}", node.port))
            .collect()
    }

    /// Where an extra listener is, by the name that it is advertised by.
    pub(super) fn listener(&self, name: &str) -> Option<String> {
        let of_all = self
            .extra_ports
            .iter()
            .flatten()
            .filter(|(of, _)| of == name);
        let addresses: Vec<String> = of_all
            .map(|(_, port)| format!("localhost:{port}"))
            .collect();
        (!addresses.is_empty()).then(|| addresses.join(","))
    }

    pub(super) fn nodes(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn data_dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        self.nodes.iter().filter_map(Node::pid).collect()
    }

    pub(super) fn kill(&self, index: usize) -> Result<(), HarnessError> {
        self.node(index)?.kill(&self.watchdog)
    }

    pub(super) fn stop(&self, index: usize) -> Result<(), HarnessError> {
        self.node(index)?.stop(&self.watchdog)
    }

    pub(super) fn start_node(&self, index: usize) -> Result<(), HarnessError> {
        let node = self.node(index)?;
        node.start(&self.watchdog)?;
        self.await_ready(node, 1)
    }

    pub(super) fn suspend(&self, index: usize) -> Result<(), HarnessError> {
        self.node(index)?.suspend()
    }

    pub(super) fn resume(&self, index: usize) -> Result<(), HarnessError> {
        self.node(index)?.resume()
    }

    fn node(&self, index: usize) -> Result<&Node, HarnessError> {
        self.nodes.get(index).ok_or(HarnessError::NoSuchNode {
            index,
            nodes: self.nodes.len(),
        })
    }
}

impl Drop for Cluster {
    /// The watchdog would do it all; this does it before the drop returns.
    fn drop(&mut self) {
        for node in &self.nodes {
            let _ = node.kill(&self.watchdog);
        }
    }
}

/// A client of its own for each look: one that lives longer gets the other nodes' addresses and
/// queries those.
fn ask(node: &Node, expected: usize) -> Result<(), String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, node.port));
    TcpStream::connect_timeout(&address, Duration::from_secs(1))
        .map_err(|error| format!("{address}: {error}"))?;
    let consumer: BaseConsumer = client::config(&address.to_string())
        .create()
        .map_err(|error| error.to_string())?;
    let metadata = consumer
        .fetch_metadata(None, Duration::from_secs(2))
        .map_err(|error| error.to_string())?;
    let brokers: Vec<i32> = metadata
        .brokers()
        .iter()
        .map(|broker| broker.id())
        .collect();
    if metadata.orig_broker_id() == node_id(node.index)
        && brokers.contains(&node_id(node.index))
        && brokers.len() >= expected
    {
        return Ok(());
    }
    Err(format!(
        "broker {} answered and lists the brokers {brokers:?}",
        metadata.orig_broker_id()
    ))
}
