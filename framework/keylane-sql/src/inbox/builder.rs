//! The settings of an inbox, and its tables.

use std::sync::Arc;
use std::time::Duration;

use keylane_core::inbox::Times;
use sqlx::Pool;

use super::error::InboxError;
use super::metrics::Series;
use super::store::VERSION;
use super::table::{Inbox, Settings};
use crate::database::{Database, TableName};

/// Describes an [`Inbox`]; made by [`Inbox::postgres`] or [`Inbox::sqlite`].
#[derive(Debug)]
pub struct InboxBuilder<D: Database> {
    pool: Pool<D>,
    group: String,
    table: TableName,
    wait: Duration,
    margin: Duration,
    sweep_every: Duration,
    needs_topic_ids: bool,
}

impl<D: Database> InboxBuilder<D> {
    pub(super) fn new(pool: Pool<D>, group: String) -> Self {
        Self {
            pool,
            group,
            table: TableName::default_inbox(),
            wait: Duration::from_secs(60 * 60),
            margin: Duration::from_secs(5 * 60),
            sweep_every: Duration::from_secs(30),
            needs_topic_ids: true,
        }
    }

    /// Another table than `keylane_inbox`: at most 40 lower-case letters, digits and underscores, with
    /// a schema and a dot before it or without. Tables of further names that begin with it belong to it.
    ///
    /// # Errors
    /// Where it cannot be a name.
    pub fn table(mut self, name: &str) -> Result<Self, InboxError> {
        self.table = name.parse()?;
        Ok(self)
    }

    /// How long an entry is kept at least, and how long the brokers have to have a position above its
    /// record before it is deleted. Default: an hour.
    ///
    /// It has to be longer, by [`margin`](Self::margin), than an attempt may take and than a record may
    /// be retried through the retry topic. [`Inbox::sweep`] refuses a subscription whose policy lasts
    /// longer. The table is as large as what is settled in this time.
    ///
    /// Members of a group use the longest one that any of them was ever given: it is in the table
    /// `keylane_inbox_groups`. Where it is raised, it holds for what is marked from then on.
    #[must_use]
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// What clocks of members and database may differ by, and how long a member may take itself for
    /// one of its group that no longer is. Default: 5 minutes. It must be longer than the session
    /// time-out, by half a minute, and at most half of [`wait`](Self::wait).
    #[must_use]
    pub fn margin(mut self, margin: Duration) -> Self {
        self.margin = margin;
        self
    }

    /// The time between two rounds of [`Inbox::sweep`], of all members together. Default: 30 seconds.
    #[must_use]
    pub fn sweep_every(mut self, interval: Duration) -> Self {
        self.sweep_every = interval;
        self
    }

    /// The brokers have no topic ids (Kafka before 2.8): records are told apart by the topic's name.
    /// Default: [`once`](Inbox::once) waits until the id is known, for seconds at most.
    ///
    /// Where a topic is deleted and re-created, a new record can then pass for an old one, and has **no**
    /// effect: empty the table with the topic.
    #[must_use]
    pub fn without_topic_ids(mut self) -> Self {
        self.needs_topic_ids = false;
        self
    }

    /// The statements that make the tables, for your own migrations. They may be run again.
    pub fn schema(&self) -> String {
        D::inbox_schema(&self.table)
    }

    /// Makes the tables where they are missing, all in one transaction, and opens the inbox.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub async fn migrate(self) -> Result<Inbox<D>, InboxError> {
        let made = D::inbox_migrate(&self.pool, &self.table).await;
        made.map_err(|error| self.failed(error))?;
        self.open().await
    }

    /// Opens the inbox in tables that exist. Writes the group's [`wait`](Self::wait) to the database.
    ///
    /// # Errors
    /// [`InboxError::NotMigrated`], [`InboxError::Newer`]; times that protect nothing; and what the
    /// database answers.
    pub async fn open(self) -> Result<Inbox<D>, InboxError> {
        let times = Times::new(self.wait, self.margin)?;
        let version = D::inbox_version(&self.pool, &self.table).await;
        let table = || self.table.to_string();
        match version.map_err(|error| self.failed(error))? {
            None => return Err(InboxError::NotMigrated { table: table() }),
            Some(version) if version > VERSION => {
                return Err(InboxError::Newer {
                    table: table(),
                    version,
                    known: VERSION,
                });
            }
            Some(_) => {}
        }
        let kept = D::keep_for(&self.pool, &self.table, &self.group, self.wait).await;
        kept.map_err(|error| self.failed(error))?;
        let series = Series::of(&self.group);
        Ok(Inbox {
            pool: self.pool,
            settings: Arc::new(Settings {
                group: self.group,
                table: self.table,
                times,
                sweep_every: self.sweep_every,
                needs_topic_ids: self.needs_topic_ids,
                series,
            }),
        })
    }

    fn failed(&self, source: sqlx::Error) -> InboxError {
        InboxError::Database {
            table: self.table.to_string(),
            source,
        }
    }
}
