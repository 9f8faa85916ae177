//! Publishing what is in an outbox: see [`Relay`].

mod bucket;
mod kafka;
mod running;
mod settings;
#[cfg(all(test, feature = "sqlite"))]
mod tests;
mod topics;

use std::time::Duration;

use keylane::config::BootstrapServers;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::kafka::Cluster;
use self::running::Running;
use self::settings::Settings;
pub use self::settings::Unsendable;
use super::error::OutboxError;
use super::table::Outbox;
use crate::database::Database;

/// How long the end of a relay waits for what is being published. Longer than a transaction is tried.
const STOP_WITHIN: Duration = Duration::from_secs(45);

/// Sets up a [`Relay`]; made by [`Outbox::relay`].
///
/// # Examples
/// ```no_run
/// use keylane_sql::outbox::Outbox;
///
/// # #[cfg(feature = "sqlite")]
/// # async fn publish(outbox: Outbox<sqlx::Sqlite>) -> Result<(), Box<dyn std::error::Error>> {
/// let relay = outbox.relay().bootstrap_servers("localhost:9092").start().await?;
/// relay.run_until(async { drop(tokio::signal::ctrl_c().await) }).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `start`"]
pub struct RelayBuilder<D: Database> {
    outbox: Outbox<D>,
    settings: Settings,
}

/// Why a relay did not start, or has ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// The outbox cannot be used.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// A part of it has panicked, which is a defect of keylane; the log has the place. Its leases expire,
    /// and other relays go on.
    #[error(
        "the relay of the outbox {table} has panicked; start another one, and report it: {panic}"
    )]
    Panicked {
        /// The table.
        table: String,
        /// What the panic says.
        panic: String,
    },
    /// What was being published did not end in time. Its rows may be published again.
    #[error(
        "the relay of the outbox {table} did not end within {waited:?}; its leases expire by themselves"
    )]
    StopTimedOut {
        /// The table.
        table: String,
        /// How long it was waited for.
        waited: Duration,
    },
}

impl<D: Database> RelayBuilder<D> {
    pub(super) fn new(outbox: Outbox<D>) -> Self {
        Self {
            outbox,
            settings: Settings::default(),
        }
    }

    /// Brokers to start from. Default: `localhost:9092`.
    pub fn bootstrap_servers(mut self, servers: impl Into<BootstrapServers>) -> Self {
        self.settings.connection.bootstrap_servers = servers.into();
        self
    }

    /// One setting of the Kafka clients, by librdkafka's name.
    pub fn kafka(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.connection.kafka.set(name, value);
        self
    }

    /// Several settings of the Kafka clients, added to those already there.
    pub fn kafka_settings<K: Into<String>, V: Into<String>>(
        mut self,
        settings: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        self.settings.connection.kafka.extend(settings);
        self
    }

    /// The rows of a transaction, at most: 1 to 10,000. Default: 500. It is also what a relay that is killed
    /// may repeat, for each bucket that it held.
    pub fn batch(mut self, rows: u32) -> Self {
        self.settings.batch = rows;
        self
    }

    /// The bytes of a transaction's keys, values and headers, at most. One row may be larger. Default: 8 MiB.
    /// A relay holds as much in memory for each of its buckets, twice while it is sent.
    pub fn batch_bytes(mut self, bytes: u64) -> Self {
        self.settings.batch_bytes = bytes;
        self
    }

    /// How long a bucket stays with a relay that no longer answers, 1 s to 10 min. Default: 15 s. Leases are
    /// renewed three times as often. Order and loss do not depend on it: a relay that has lost a bucket
    /// cannot publish its rows.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.settings.lease = lease;
        self
    }

    /// How soon rows are seen without a notification, 10 ms to 10 min. Default: 1 s. Each bucket costs one
    /// query as often.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.settings.poll_interval = interval;
        self
    }

    /// Keeps rows that were published for this long (`sent_at` is set), and deletes them then. Default: they
    /// are deleted at once.
    pub fn keep_sent(mut self, keep: Duration) -> Self {
        self.settings.keep_sent = Some(keep);
        self
    }

    /// What becomes of later rows of a key once one of its rows cannot be sent. Default:
    /// [`Unsendable::HoldKey`].
    pub fn unsendable(mut self, unsendable: Unsendable) -> Self {
        self.settings.unsendable = unsendable;
        self
    }

    /// Starts it in the current tokio runtime. Kafka need not answer yet; the database has to.
    ///
    /// # Errors
    /// Settings out of their range, and a table that cannot be used.
    pub async fn start(self) -> Result<Relay, RelayError> {
        let cluster = Cluster(self.settings.connection.clone());
        self.start_on(cluster).await
    }

    async fn start_on(self, kafka: impl kafka::Kafka) -> Result<Relay, RelayError> {
        if let Some((setting, reason)) = self.settings.invalid() {
            return Err(OutboxError::Invalid { setting, reason }.into());
        }
        let meta = self.outbox.meta().await?;
        let table = self.outbox.table_name().to_string();
        let stop = CancellationToken::new();
        let running = Running::new(self.outbox, meta, kafka, self.settings, stop.clone());
        let task = tokio::spawn(running.run());
        Ok(Relay { table, stop, task })
    }
}

/// Publishes the rows of an outbox, until it is stopped. Several may run at once, in this process and in
/// others: each has its share of the buckets.
///
/// # Delivery
/// At least once. The rows of a bucket are published in transactions of one transactional id,
/// `keylane-outbox/<table>/<instance>/<bucket>`. Who takes the bucket takes the id too: a relay that was
/// stopped for longer than its lease cannot publish any more. Consumers should read with
/// `isolation.level=read_committed`, which is the default of keylane and of librdkafka.
///
/// # Permissions
/// It needs WRITE and DESCRIBE on the topics, and on transactional ids that begin with
/// `keylane-outbox/`.
///
/// # Stopping
/// [`run_until`](Self::run_until) and [`stop`](Self::stop) end what is being published and give up the
/// buckets at once. Dropping it does the same without waiting.
#[derive(Debug)]
pub struct Relay {
    table: String,
    stop: CancellationToken,
    task: JoinHandle<Result<(), String>>,
}

impl Relay {
    /// Runs until this future ends, and stops then. It returns earlier only with an error.
    ///
    /// # Errors
    /// See [`RelayError`].
    pub async fn run_until(mut self, until: impl Future) -> Result<(), RelayError> {
        tokio::select! {
            ended = &mut self.task => {
                let table = std::mem::take(&mut self.table);
                ended_of(table, ended)
            }
            _ = until => self.stop().await,
        }
    }

    /// Ends what is being published, deletes its rows, and gives up the buckets.
    ///
    /// # Errors
    /// See [`RelayError`].
    pub async fn stop(mut self) -> Result<(), RelayError> {
        self.stop.cancel();
        let table = std::mem::take(&mut self.table);
        match tokio::time::timeout(STOP_WITHIN, &mut self.task).await {
            Ok(ended) => ended_of(table, ended),
            Err(_) => Err(RelayError::StopTimedOut {
                table,
                waited: STOP_WITHIN,
            }),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn ended_of(
    table: String,
    ended: Result<Result<(), String>, tokio::task::JoinError>,
) -> Result<(), RelayError> {
    match ended {
        Ok(Ok(())) => Ok(()),
        Ok(Err(panic)) => Err(RelayError::Panicked { table, panic }),
        Err(error) => Err(RelayError::Panicked {
            table,
            panic: error.to_string(),
        }),
    }
}
