//! The dead letters of a running subscription.

use crate::redrive::RedriveTask;
use crate::redrive::connection::Connection;
use crate::redrive::ops::OpsTopic;
use crate::{SubscriptionConfig, SubscriptionHandle};

/// Where the dead letters of a subscription are, and how its brokers are reached.
#[derive(Debug, Default)]
pub(crate) struct DeadLetterAccess {
    pub(crate) connection: Connection,
    pub(crate) topic: Option<String>,
}

impl DeadLetterAccess {
    pub(crate) fn of(config: &SubscriptionConfig) -> Self {
        let connection = Connection {
            bootstrap_servers: config.bootstrap_servers.clone(),
            kafka: config.kafka.clone(),
            ..Connection::default()
        };
        let topic = config.dead_letter.as_ref().map(|it| it.topic.clone());
        Self { connection, topic }
    }
}

/// # Dead letters
impl SubscriptionHandle {
    /// The dead-letter topic; `None` where the subscription has none.
    pub fn dead_letter_topic(&self) -> Option<&str> {
        self.dead_letters.topic.as_deref()
    }

    /// A redrive of the dead letters of this topic that the group gave up, with the brokers and the
    /// Kafka settings of the subscription. It has clients and a thread of its own, and goes on when the
    /// subscription ends.
    ///
    /// # Examples
    /// ```no_run
    /// use keylane::SubscriptionHandle;
    /// use keylane::dead_letter::Filter;
    ///
    /// # async fn redrive(handle: SubscriptionHandle) -> Result<(), Box<dyn std::error::Error>> {
    /// let topic = handle.dead_letter_topic().ok_or("it has no dead-letter topic")?;
    /// let filter = Filter::parse(["reason=exhausted"])?;
    /// let ended = handle.redrive(topic).filter(filter).by("night job").run().await?;
    /// println!("{} copies were written", ended.progress.copied());
    /// # Ok(()) }
    /// ```
    pub fn redrive(&self, topic: impl Into<String>) -> RedriveTask {
        let Connection {
            bootstrap_servers,
            kafka,
            ..
        } = &self.dead_letters.connection;
        RedriveTask::of(topic)
            .bootstrap_servers(bootstrap_servers.clone())
            .kafka_settings(kafka.clone())
            .group(self.group())
    }

    /// The operations topic of the group: its redrives, and the letters that were resolved.
    pub fn operations(&self) -> OpsTopic {
        let Connection {
            bootstrap_servers,
            kafka,
            ..
        } = &self.dead_letters.connection;
        OpsTopic::of(self.group())
            .bootstrap_servers(bootstrap_servers.clone())
            .kafka_settings(kafka.clone())
    }
}
