//! A real Apache Kafka for the suites: found or started, watched, and broken on purpose.
//!
//! Where it comes from: `KAFKA_BOOTSTRAP` names one that runs already; else one is started from
//! Maven artifacts, which takes `java` (17 or newer) and `mvn` on the path, and the network once.
//! `KEYLANE_KAFKA_VERSION` chooses the version.

mod acls;
mod again;
mod artifacts;
mod client;
mod cluster;
mod error;
mod eviction;
mod extras;
mod groups;
mod leaders;
mod metadata;
mod node;
mod offsets;
mod operator;
mod ports;
mod process;
mod properties;
mod records;
mod request;
mod room;
#[cfg(feature = "ssl")]
mod scram;
mod skip;
mod tools;
mod topics;
mod watchdog;

use std::{
    fmt,
    net::TcpStream,
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use rdkafka::{
    admin::AdminClient,
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
};

pub use acls::{Operation, Resource};
pub use again::again;
pub use error::HarnessError;
pub use extras::Extras;
pub use groups::{Group, Member};
pub use offsets::Committed;
pub use ports::free_ports;
pub use records::{NewRecord, StoredRecord};
pub(crate) use skip::say_skipped;
pub use skip::{own, own_with, shared, shared_with};
pub use topics::PartitionState;

use cluster::Cluster;
use room::Place;

/// How many brokers a suite needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nodes {
    /// One broker: enough for everything but the loss of a broker.
    One,
    /// Three brokers, so that one can be lost while topics with three replicas go on.
    Three,
}

impl Nodes {
    fn count(self) -> usize {
        match self {
            Self::One => 1,
            Self::Three => 3,
        }
    }
}

/// What the search for a Kafka came to.
#[derive(Debug)]
pub enum Found {
    /// It answers.
    Running(Kafka),
    /// There is none and none could be started; the text has the reason.
    Unavailable(String),
}

/// A running Kafka and what tests do to it.
///
/// Nodes are counted from 0. Operations that need the broker's process are refused with
/// [`HarnessError::External`] when the Kafka came from `KAFKA_BOOTSTRAP`.
///
/// A Kafka that the harness started ends when this is dropped or when the test process ends, in
/// whatever way.
pub struct Kafka {
    bootstrap_servers: String,
    cluster: Option<Arc<Cluster>>,
    admin: OnceLock<AdminClient<DefaultClientContext>>,
    /// Given back after the brokers have ended: fields are dropped in their order.
    place: Option<Place>,
}

impl Kafka {
    /// The Kafka of `KAFKA_BOOTSTRAP` if that is set and has enough brokers, else one of our own.
    /// Blocks for seconds.
    pub fn find(nodes: Nodes) -> Found {
        Self::find_with(nodes, &Extras::default())
    }

    /// The same; one of our own has more listeners and properties than the plain ones.
    pub fn find_with(nodes: Nodes, extras: &Extras) -> Found {
        match std::env::var("KAFKA_BOOTSTRAP") {
            Ok(servers) if !servers.is_empty() => Self::connect(&servers, nodes),
            _ => Self::start_with(nodes, extras),
        }
    }

    /// A Kafka of our own in any case, for suites that kill brokers. Blocks for seconds.
    pub fn start(nodes: Nodes) -> Found {
        Self::start_with(nodes, &Extras::default())
    }

    /// The same with more listeners and properties than the plain ones.
    pub fn start_with(nodes: Nodes, extras: &Extras) -> Found {
        match Cluster::start(nodes.count(), extras) {
            Ok(cluster) => Found::Running(Self {
                bootstrap_servers: cluster.bootstrap_servers(),
                cluster: Some(Arc::new(cluster)),
                admin: OnceLock::new(),
                place: None,
            }),
            Err(error) => Found::Unavailable(format!("kafka could not be started: {error}")),
        }
    }

    /// The Kafka at `bootstrap_servers`, which the harness does not run.
    pub fn connect(bootstrap_servers: &str, nodes: Nodes) -> Found {
        // The client would wait for a listener.
        let mut addresses = bootstrap_servers.split(',');
        if !addresses.any(|address| TcpStream::connect(address).is_ok()) {
            return Found::Unavailable(format!("nothing listens at {bootstrap_servers}"));
        }
        let brokers = client::config(bootstrap_servers)
            .create()
            .and_then(|consumer: BaseConsumer| consumer.fetch_metadata(None, client::REQUEST))
            .map(|metadata| metadata.brokers().len());
        match brokers {
            Ok(count) if count >= nodes.count() => Found::Running(Self {
                bootstrap_servers: bootstrap_servers.to_owned(),
                cluster: None,
                admin: OnceLock::new(),
                place: None,
            }),
            Ok(count) => {
                let needed = nodes.count();
                Found::Unavailable(format!(
                    "the kafka at {bootstrap_servers} has {count} brokers, {needed} are needed"
                ))
            }
            Err(error) => {
                Found::Unavailable(format!("no kafka answers at {bootstrap_servers}: {error}"))
            }
        }
    }

    /// The addresses of the brokers, all of them, also of those that are down at the moment.
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }

    /// The addresses of an [extra listener](Extras::listener); `None` where there is none of that
    /// name.
    pub fn listener(&self, name: &str) -> Option<String> {
        self.cluster.as_ref()?.listener(name)
    }

    /// The values of `group.protocol` that this Kafka and the client library have in common:
    /// `classic`, and `consumer` (KIP-848) from Kafka 4.0 on. For an external Kafka the version is
    /// that of `KEYLANE_KAFKA_VERSION`.
    pub fn group_protocols(&self) -> &'static [&'static str] {
        if is_consumer_protocol_spoken() {
            &["classic", "consumer"]
        } else {
            &["classic"]
        }
    }

    /// A name for a topic or a group that was not used before, here or in an earlier run.
    pub fn unique(&self, prefix: &str) -> String {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let millis = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| time.as_millis());
        format!(
            "{prefix}-{:x}-{millis:x}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        )
    }

    /// `kill -9` for a node; returns when the process is gone.
    ///
    /// # Errors
    /// On an external Kafka. A node that is down already is no error.
    pub async fn kill_node(&self, index: usize) -> Result<(), HarnessError> {
        self.on_cluster("kill a node", move |cluster| cluster.kill(index))
            .await
    }

    /// Ends a node in an orderly way: it hands over its partitions first. Returns when the process
    /// is gone.
    ///
    /// # Errors
    /// On an external Kafka; when the node does not run; when it does not end within 30 s (it is
    /// killed then), as happens when it has lost the majority of the controllers.
    pub async fn stop_node(&self, index: usize) -> Result<(), HarnessError> {
        self.on_cluster("stop a node", move |cluster| cluster.stop(index))
            .await
    }

    /// Starts a node again, on its old ports and data; returns when it answers.
    ///
    /// Its replicas may still lag then: [`Kafka::partitions`] shows when they are in sync.
    ///
    /// # Errors
    /// On an external Kafka; when the node runs; when it ends at once or does not answer within 2
    /// minutes.
    pub async fn start_node(&self, index: usize) -> Result<(), HarnessError> {
        self.on_cluster("start a node", move |cluster| cluster.start_node(index))
            .await
    }

    /// Freezes a node: its connections stay open and nothing answers on them.
    ///
    /// # Errors
    /// On an external Kafka, and when the node does not run.
    pub async fn suspend_node(&self, index: usize) -> Result<(), HarnessError> {
        self.on_cluster("suspend a node", move |cluster| cluster.suspend(index))
            .await
    }

    /// Ends [`Kafka::suspend_node`].
    ///
    /// # Errors
    /// On an external Kafka, and when the node is not suspended.
    pub async fn continue_node(&self, index: usize) -> Result<(), HarnessError> {
        self.on_cluster("continue a node", move |cluster| cluster.resume(index))
            .await
    }

    /// How many nodes the harness runs; none of an external Kafka.
    pub fn own_nodes(&self) -> usize {
        self.cluster.as_ref().map_or(0, |cluster| cluster.nodes())
    }

    /// Where the harness keeps the brokers' data; `None` for an external Kafka.
    pub fn data_dir(&self) -> Option<&Path> {
        self.cluster.as_ref().map(|cluster| cluster.data_dir())
    }

    /// The process ids of the brokers that the harness runs at the moment.
    pub fn pids(&self) -> Vec<u32> {
        self.cluster
            .as_ref()
            .map_or_else(Vec::new, |cluster| cluster.pids())
    }

    /// The addresses of the brokers that the harness has not stopped.
    fn addresses(&self) -> Vec<String> {
        match &self.cluster {
            Some(cluster) => cluster.running(),
            None => self
                .bootstrap_servers
                .split(',')
                .map(str::to_owned)
                .collect(),
        }
    }

    /// Any node's: requests for the controller are passed on to it.
    fn any_address(&self) -> String {
        self.addresses().into_iter().next().unwrap_or_default()
    }

    async fn on_cluster(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Cluster) -> Result<(), HarnessError> + Send + 'static,
    ) -> Result<(), HarnessError> {
        let cluster = self
            .cluster
            .clone()
            .ok_or(HarnessError::External { doing })?;
        client::blocking(move || work(&cluster)).await
    }
}

/// 3.9 has an early form of KIP-848 that librdkafka no longer supports: members would wait without
/// end.
pub(crate) fn is_consumer_protocol_spoken() -> bool {
    !artifacts::version().starts_with("3.")
}

impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kafka")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}
