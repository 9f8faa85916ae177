//! The table, and enqueuing.

use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use keylane::NewTask;
use keylane::producer::outbox::Record;
use keylane_core::outbox::{bucket_of, key_lock};
use sqlx::{Pool, Transaction};
use tokio::sync::watch;
use uuid::Uuid;

use super::error::OutboxError;
use super::relay::RelayBuilder;
use super::row::{NewRow, OutboxId};
use super::store::{Meta, VERSION};
use crate::database::{Database, TableName};

const MOST_BUCKETS: u32 = 256;
/// Above it a task has no place in a table. Kafka's own default limit is 1 MiB.
const MOST_PAYLOAD_BYTES: usize = 64 << 20;

/// A transactional outbox: a table of tasks that are published to Kafka once the transaction that wrote
/// them has committed.
///
/// [`enqueue`](Self::enqueue) writes a task in the caller's own transaction. A [`Relay`](super::Relay),
/// in this process or in others, publishes it and then deletes it. Kafka may be away meanwhile.
///
/// # Examples
/// ```
/// use keylane::NewTask;
/// use keylane_sql::outbox::Outbox;
///
/// # #[cfg(feature = "sqlite")]
/// # async fn leave(pool: sqlx::SqlitePool) -> Result<(), Box<dyn std::error::Error>> {
/// let outbox = Outbox::sqlite(pool.clone()).topic("parking-events");
/// outbox.migrate().await?;
///
/// let mut transaction = pool.begin().await?;
/// sqlx::query("update places set car = null where car = 'B-KL 42'")
///     .execute(&mut *transaction)
///     .await?;
/// let event = serde_json::json!({ "vehicle": "B-KL 42", "left": true });
/// outbox.enqueue(&mut transaction, NewTask::json(&event)?.key("B-KL 42")).await?;
/// transaction.commit().await?;
/// # Ok(()) }
/// ```
///
/// # Order
/// A transaction that began after another one's commit is published after it, for tasks of one key and
/// one topic. Of transactions that overlap, either may be first, unless
/// [`ordered_by_key`](Self::ordered_by_key) is set: then they are published as they committed. Tasks of
/// one transaction are published in the order in which they were enqueued. There is no order between
/// topics, and none for tasks without a key.
///
/// # Delivery
/// At least once. A relay that is killed may have published what it has not deleted yet: at most one
/// transaction of each bucket, [`batch`](super::RelayBuilder::batch) rows. Both records have the same
/// `keylane-outbox-id`, and both are in order.
#[derive(Debug)]
pub struct Outbox<D: Database> {
    pool: Pool<D>,
    settings: Arc<Settings>,
    shared: Arc<Shared>,
}

#[derive(Clone, Debug)]
struct Settings {
    table: TableName,
    topic: Option<String>,
    application_id: String,
    instance_id: String,
    buckets: u32,
    is_ordered: bool,
    notifies: bool,
}

#[derive(Debug, Default)]
struct Shared {
    meta: OnceLock<Meta>,
    /// Relays of this process look at the table when it changes.
    wake: watch::Sender<u64>,
}

impl<D: Database> Clone for Outbox<D> {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            settings: self.settings.clone(),
            shared: self.shared.clone(),
        }
    }
}

#[cfg(feature = "postgres")]
impl Outbox<sqlx::Postgres> {
    /// In the table `keylane_outbox` of a PostgreSQL database, from version 13 on.
    ///
    /// A relay needs three connections of the pool at most, and one of its own for notifications.
    pub fn postgres(pool: sqlx::PgPool) -> Self {
        Self::new(pool)
    }
}

#[cfg(feature = "sqlite")]
impl Outbox<sqlx::Sqlite> {
    /// In the table `keylane_outbox` of an SQLite database.
    ///
    /// SQLite has no notifications. Call [`wake`](Self::wake) after a commit, or tasks wait for the relay's
    /// next [poll](super::RelayBuilder::poll_interval).
    pub fn sqlite(pool: sqlx::SqlitePool) -> Self {
        Self::new(pool)
    }
}

impl<D: Database> Outbox<D> {
    fn new(pool: Pool<D>) -> Self {
        let table = TableName::default_outbox();
        let instance_id = gethostname::gethostname().to_string_lossy().into_owned();
        let settings = Settings {
            topic: None,
            application_id: table.to_string(),
            instance_id,
            buckets: 8,
            is_ordered: false,
            notifies: true,
            table,
        };
        Self {
            pool,
            settings: Arc::new(settings),
            shared: Arc::default(),
        }
    }

    /// Another table than `keylane_outbox`: at most 40 lower-case letters, digits and underscores, with a
    /// schema and a dot before it or without. Tables of further names that begin with it belong to it.
    ///
    /// # Errors
    /// Where it cannot be a name.
    pub fn table(mut self, name: &str) -> Result<Self, OutboxError> {
        let table: TableName = name.parse()?;
        self.shared = Arc::default();
        let settings = Arc::make_mut(&mut self.settings);
        if settings.application_id == settings.table.to_string() {
            settings.application_id = name.to_owned();
        }
        settings.table = table;
        Ok(self)
    }

    /// The topic of tasks that name none. Default: none, and such a task is refused.
    #[must_use]
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.settings).topic = Some(topic.into());
        self
    }

    /// The application that makes the tasks; it travels with each one. Default: the table's name.
    #[must_use]
    pub fn application_id(mut self, id: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.settings).application_id = id.into();
        self
    }

    /// How many buckets [`migrate`](Self::migrate) makes, 1 to 256. Default: 8. Of one bucket one transaction
    /// is published at a time, so it is also the most relays that have work. It is stored in the database
    /// and cannot change while the table has rows.
    #[must_use]
    pub fn buckets(mut self, buckets: u32) -> Self {
        Arc::make_mut(&mut self.settings).buckets = buckets;
        self
    }

    /// Publishes tasks of a key in the order in which their transactions commit, also of transactions
    /// that overlap. Default: off.
    ///
    /// A transaction that enqueues a task with a key takes a lock of that key until it ends
    /// (`pg_advisory_xact_lock`). Another one with the same key waits for it at `enqueue`. Enqueue late in
    /// the transaction, and several keys in one order everywhere: otherwise two transactions can wait for
    /// each other, and PostgreSQL ends one of them. SQLite has one writer at a time, so there it is always
    /// so, without a price.
    #[must_use]
    pub fn ordered_by_key(mut self) -> Self {
        Arc::make_mut(&mut self.settings).is_ordered = true;
        self
    }

    /// Does not send a notification with each transaction. Default: PostgreSQL sends one for each bucket.
    /// Without them tasks wait for the relay's next [poll](super::RelayBuilder::poll_interval).
    ///
    /// PostgreSQL lets one transaction with a notification commit at a time. That costs throughput where
    /// very many small transactions commit at once.
    #[must_use]
    pub fn without_notifications(mut self) -> Self {
        Arc::make_mut(&mut self.settings).notifies = false;
        self
    }

    /// The statements that make the tables, for your own migrations. They may be run again.
    ///
    /// # Errors
    /// [`OutboxError::Invalid`] for the number of buckets.
    pub fn schema(&self) -> Result<String, OutboxError> {
        let buckets = self.settings.buckets;
        if buckets == 0 || buckets > MOST_BUCKETS {
            return Err(OutboxError::Invalid {
                setting: "buckets",
                reason: format!("{buckets} is not between 1 and {MOST_BUCKETS}"),
            });
        }
        Ok(D::schema(self.table_name(), buckets))
    }

    /// Makes the tables where they are missing, all in one transaction. To be called at start.
    ///
    /// # Errors
    /// Where the tables are there with another number of buckets or of a newer version, and where the
    /// database refuses.
    pub async fn migrate(&self) -> Result<(), OutboxError> {
        self.schema()?;
        let wanted = self.settings.buckets;
        let made = D::migrate(&self.pool, self.table_name(), wanted).await;
        made.map_err(|error| self.database(error))?;
        let stored = self.meta().await?.buckets;
        match stored == wanted {
            true => Ok(()),
            false => Err(OutboxError::Buckets {
                table: self.table_name().to_string(),
                stored,
                wanted,
            }),
        }
    }

    /// Writes a task in this transaction. It is published once the transaction has committed, and never
    /// where it is rolled back. Kafka is not needed.
    ///
    /// # Errors
    /// [`OutboxError::Task`] where no topic would take it; [`OutboxError::NotMigrated`]; and what the
    /// database answers, after which the transaction has to be rolled back.
    ///
    /// # Cancellation
    /// Dropping the future may leave the task written or not. Roll the transaction back.
    pub async fn enqueue(
        &self,
        transaction: &mut Transaction<'_, D>,
        task: NewTask,
    ) -> Result<OutboxId, OutboxError> {
        let settings = &*self.settings;
        let record = Record::of(
            task,
            settings.topic.as_deref(),
            &settings.application_id,
            &settings.instance_id,
            SystemTime::now(),
        )?;
        let bytes = record.value.as_ref().map_or(0, |value| value.len());
        if bytes > MOST_PAYLOAD_BYTES {
            return Err(OutboxError::Invalid {
                setting: "task",
                reason: format!(
                    "its value has {bytes} bytes, and the most is {MOST_PAYLOAD_BYTES}"
                ),
            });
        }
        let meta = match self.shared.meta.get() {
            Some(meta) => *meta,
            None => {
                let read = D::meta(&mut **transaction, self.table_name()).await;
                self.known(read)?
            }
        };
        let id = Uuid::now_v7();
        let bucket = match &record.key {
            Some(key) => bucket_of(key, meta.buckets),
            None => bucket_of(id.as_bytes(), meta.buckets),
        };
        // Before the row has its number: the numbers of a key are then in the order of the commits.
        if let (true, Some(key)) = (settings.is_ordered, &record.key) {
            let lock = key_lock(&meta.instance.to_string(), key);
            let locked = D::lock(transaction, lock).await;
            locked.map_err(|error| self.database(error))?;
        }
        let row = NewRow::new(id, bucket, &record);
        let written = D::insert(transaction, self.table_name(), row, settings.notifies).await;
        written.map_err(|error| self.database(error))?;
        Ok(OutboxId(id))
    }

    /// Lets the relays of this process look at the table now. To be called after a commit on SQLite; on
    /// PostgreSQL the commit does it.
    pub fn wake(&self) {
        self.shared
            .wake
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    /// A relay that publishes what is in the table.
    pub fn relay(&self) -> RelayBuilder<D> {
        RelayBuilder::new(self.clone())
    }

    pub(super) fn pool(&self) -> &Pool<D> {
        &self.pool
    }

    pub(super) fn table_name(&self) -> &TableName {
        &self.settings.table
    }

    pub(super) fn wakes(&self) -> watch::Receiver<u64> {
        self.shared.wake.subscribe()
    }

    /// Of the database.
    pub(super) async fn meta(&self) -> Result<Meta, OutboxError> {
        let mut connection = self.pool.acquire().await;
        let read = match &mut connection {
            Ok(connection) => D::meta(&mut **connection, self.table_name()).await,
            Err(_) => Ok(None),
        };
        if let Err(error) = connection {
            return Err(self.database(error));
        }
        self.known(read)
    }

    fn known(&self, read: sqlx::Result<Option<Meta>>) -> Result<Meta, OutboxError> {
        let table = || self.table_name().to_string();
        match read.map_err(|error| self.database(error))? {
            None => Err(OutboxError::NotMigrated { table: table() }),
            Some(meta) if meta.version > VERSION => Err(OutboxError::Newer {
                table: table(),
                version: meta.version,
                known: VERSION,
            }),
            Some(meta) => Ok(*self.shared.meta.get_or_init(|| meta)),
        }
    }

    pub(super) fn database(&self, source: sqlx::Error) -> OutboxError {
        OutboxError::Database {
            table: self.table_name().to_string(),
            source,
        }
    }
}
