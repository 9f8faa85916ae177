//! An in-process Kafka for examples and tests.
//!
//! ```
//! use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};
//!
//! let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default())?;
//! broker.create_topic("parking-events", 8)?;
//! broker.expect_reader("parking-notifier", "parking-events");
//! // ... a subscription and a producer on `broker.bootstrap_servers()` ...
//! assert!(broker.look_for_evictions()?.is_empty());
//! # Ok::<(), keylane_embedded_broker::EmbeddedBrokerError>(())
//! ```
//!
//! It does not depend on keylane, and serves any Kafka client. What it cannot do, and where records
//! are dropped, is described at [`EmbeddedBroker`].

mod error;
mod eviction;
mod guard;
mod mock;
mod options;
mod rebalance_delay;
#[cfg(any(test, feature = "mock-cluster"))]
mod requests;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use error::EmbeddedBrokerError;
pub use eviction::Eviction;
use guard::Guard;
use mock::Mock;
pub use options::{EmbeddedBrokerOptions, EvictionGuard};

use keylane_core::check_topic_name;

/// A Kafka cluster inside this process: librdkafka's mock cluster, which listens on 127.0.0.1 and
/// needs no installation.
///
/// Any Kafka client on this machine can use it under
/// [`bootstrap_servers`](Self::bootstrap_servers); keylane's are quick with it if they take
/// [`client_settings`](Self::client_settings). Producing, consumer groups, commits with metadata
/// and rebalances work as with Apache Kafka.
///
/// # When should I use a real Kafka instead?
/// For every proof of how keylane or your service behaves in production. The mock keeps all data in
/// memory. It has no transactions, authentication, TLS, retention, quotas, offsets by time or
/// static membership. It refuses commits at some moments of a rebalance when Kafka accepts them. It
/// treats the present leader's epoch as that of each commit, so do not move leaders after one.
/// Group members whose lists of assignors differ abort the process.
/// `keylane::topics::create_topics` does not work with it: use
/// [`create_topic`](Self::create_topic).
///
/// # It drops records
/// The mock keeps about 5 MiB (as sent, compressed), or 100,000 batches, per partition. It drops
/// the oldest records beyond that, acknowledged or not yet read, and Kafka's clients get no error.
/// A watcher therefore compares, five times a second, what was dropped with what was committed.
/// Records that were dropped before their readers had committed them are logged at error level, and
/// listed by [`evicted`](Self::evicted). From then on the broker refuses every write with a policy
/// violation (see [`EvictionGuard`]). More partitions, or a producer that waits for its consumers,
/// avoid it.
///
/// Limits of the watcher: readers are named with [`expect_reader`](Self::expect_reader). Every
/// dropped record of a topic without a reader counts as a loss. The watcher misses nothing that was
/// dropped while a reader's commit was behind. Between two looks it cannot distinguish a commit
/// before the loss from one after it, and then reports a loss. So a partition that turns over 5 MiB
/// between two commits does not fit the mock. Readers are assumed to start at offset 0 and to
/// commit forwards only.
///
/// # Stopping
/// Dropping it ends the cluster, and blocks for moments until then. Close subscriptions, consumers
/// and producers first. Without brokers they can neither commit nor leave their group, and closing
/// a consumer then takes its session time-out: 1.5 s with the settings below, 45 s with Kafka's
/// default.
#[derive(Debug)]
pub struct EmbeddedBroker {
    bootstrap_servers: String,
    // Before `mock`: the watcher's clients close while the brokers still answer.
    guard: Option<Guard>,
    mock: Arc<Mock>,
    brokers: u8,
}

impl EmbeddedBroker {
    /// Starts the brokers on free ports of 127.0.0.1; they are ready when this returns.
    ///
    /// # Errors
    /// If `options` ask for no broker or for more than 16, or librdkafka cannot start them.
    pub fn start(options: EmbeddedBrokerOptions) -> Result<Self, EmbeddedBrokerError> {
        let EmbeddedBrokerOptions {
            brokers,
            eviction_guard,
        } = options;
        if !(1..=options::MOST_BROKERS).contains(&brokers) {
            return Err(EmbeddedBrokerError::BrokerCount { brokers });
        }
        let mock = Arc::new(Mock::start(brokers)?);
        let bootstrap_servers = mock.bootstrap_servers()?;
        let guard = Guard::start(&bootstrap_servers, mock.clone(), eviction_guard)?;
        Ok(Self {
            bootstrap_servers,
            guard,
            mock,
            brokers,
        })
    }

    /// The brokers' addresses, for `bootstrap.servers`: `127.0.0.1:40123`, comma-separated.
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }

    /// Creates a topic.
    ///
    /// A topic that is written to before it is created is created with 4 partitions.
    ///
    /// # Errors
    /// If Kafka would not allow the name, if there are no partitions or more than 10,000, or if the
    /// topic exists.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<(), EmbeddedBrokerError> {
        check_topic_name(name).map_err(|rule| EmbeddedBrokerError::TopicName {
            name: name.to_owned(),
            rule,
        })?;
        if !(1..=options::MOST_PARTITIONS).contains(&partitions) {
            return Err(EmbeddedBrokerError::PartitionCount {
                name: name.to_owned(),
                partitions,
            });
        }
        self.mock
            .create_topic(name, partitions, i32::from(self.brokers.min(3)))
    }

    /// Registers a consumer group that reads a topic from its beginning, so that records the group
    /// has committed may be dropped. Call it before records are written. With several groups, a
    /// record may be dropped once all have committed it.
    ///
    /// Without effect under [`EvictionGuard::Off`].
    pub fn expect_reader(&self, group: &str, topic: &str) {
        if let Some(guard) = &self.guard {
            guard.expect_reader(group, topic);
        }
    }

    /// The losses found until now, one entry for each partition and group. Returns at once; see
    /// [`look_for_evictions`](Self::look_for_evictions) for the final list.
    pub fn evicted(&self) -> Vec<Eviction> {
        self.guard.as_ref().map(Guard::evicted).unwrap_or_default()
    }

    /// Looks for losses now and returns all that were found. Blocks for a few milliseconds, a few
    /// seconds at most.
    ///
    /// The last line of a test or of an example's report: an empty list means that nothing was
    /// dropped unread.
    ///
    /// # Errors
    /// If brokers that are not stopped do not answer in time, or if the guard is off.
    pub fn look_for_evictions(&self) -> Result<Vec<Eviction>, EmbeddedBrokerError> {
        let guard = self.guard.as_ref().ok_or(EmbeddedBrokerError::GuardOff)?;
        guard.look()?;
        Ok(guard.evicted())
    }

    /// Settings for consumers of this broker, measured against it: a rebalance takes half a second
    /// instead of half a minute, and a record arrives within 5 ms instead of 400 ms.
    ///
    /// | Kafka property | here | default | why |
    /// |---|---|---|---|
    /// | `session.timeout.ms` | 1500 | 45000 | the mock ends each later rebalance one second before it |
    /// | `heartbeat.interval.ms` | 100 | 3000 | a heartbeat's answer announces a rebalance |
    /// | `fetch.wait.max.ms` | 10 | 500 | new records do not wake a waiting fetch of the mock |
    ///
    /// Not for a real cluster. With `group.protocol=consumer` leave the first two out: librdkafka
    /// refuses them.
    ///
    /// # Examples
    /// ```
    /// use keylane_embedded_broker::EmbeddedBroker;
    ///
    /// // subscription.kafka_settings(EmbeddedBroker::client_settings())
    /// assert_eq!(EmbeddedBroker::client_settings()["fetch.wait.max.ms"], "10");
    /// ```
    pub fn client_settings() -> BTreeMap<String, String> {
        settings(&[
            ("session.timeout.ms", "1500"),
            ("heartbeat.interval.ms", "100"),
            ("fetch.wait.max.ms", "10"),
        ])
    }

    /// Settings for producers to this broker.
    ///
    /// | Kafka property | here | default | why |
    /// |---|---|---|---|
    /// | `message.max.bytes` | 1000000 | 104792064 | two batches of more than 5 MiB together make the mock lose the first |
    /// | `linger.ms` | 5 | 5 | each batch costs the mock's reader a round trip: do not send records singly |
    pub fn producer_settings() -> BTreeMap<String, String> {
        settings(&[("message.max.bytes", "1000000"), ("linger.ms", "5")])
    }

    /// The cluster itself, to be disturbed: brokers that go, answers that are errors.
    ///
    /// Its type is rdkafka's, so a new version of rdkafka is a breaking change of this method.
    ///
    /// # Panics
    /// Not as long as this exists: the cluster lives as long.
    #[cfg(any(test, feature = "mock-cluster"))]
    pub fn cluster(
        &self,
    ) -> rdkafka::mocking::MockCluster<'_, rdkafka::producer::DefaultProducerContext> {
        self.mock
            .cluster()
            .expect("the cluster lives as long as this")
    }

    /// Starts recording requests.
    #[cfg(any(test, feature = "mock-cluster"))]
    pub fn remember_requests(&self) {
        requests::remember(self.mock.client());
    }

    /// How many requests of a kind have come since [`remember_requests`](Self::remember_requests).
    #[cfg(any(test, feature = "mock-cluster"))]
    pub fn requests(&self, kind: rdkafka::types::RDKafkaApiKey) -> usize {
        requests::count(self.mock.client(), kind)
    }
}

fn settings(settings: &[(&str, &str)]) -> BTreeMap<String, String> {
    settings
        .iter()
        .map(|&(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests;
