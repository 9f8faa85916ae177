//! The service of the manual's page "An operator's day": it notifies drivers, and its push gateway
//! falls ill when an operator wants to practise.
//!
//! The program `operators-day` runs it in the stack of `docker/compose.yaml`. The test of the page
//! runs it too, and is told of each push.

mod events;
mod gateway;

use std::error::Error;
use std::future::Future;
use std::net::SocketAddr;

use keylane::config::KafkaSettings;
use keylane::topics::{NewTopic, create_topics};
use keylane::{Json, Processor, Subscription, SubscriptionConfig, Task, TaskError, TaskProducer};
use keylane_admin::AdminServer;

pub use events::ParkingEvent;
pub use gateway::{Gateway, LOCKED, Refusal, UNKNOWN};

const PARTITIONS: i32 = 4;

/// What the service needs to know.
#[derive(Debug)]
pub struct Service {
    /// Group, topics, brokers and policies: a settings file.
    pub config: SubscriptionConfig,
    /// Where Prometheus scrapes.
    pub metrics: SocketAddr,
    /// Where members are asked for their figures.
    pub admin: SocketAddr,
    /// What it calls.
    pub gateway: Gateway,
    /// Events written each second, in tens.
    pub rate: u64,
}

/// What became of a push: the record's place, the event, and the gateway's answer.
pub type Told<'a> = (&'a Task<ParkingEvent>, Result<(), &'a Refusal>);

impl Service {
    /// Writes events and notifies drivers of them until `stop`; `told` hears of each push before
    /// its attempt ends.
    ///
    /// Topics that are missing are created, but for the control topic.
    ///
    /// # Errors
    /// Where the service does not start, or ends by itself.
    pub async fn run(
        self,
        told: impl Fn(Told<'_>) + Send + Sync + 'static,
        stop: impl Future,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        keylane::metrics::serve_prometheus(self.metrics)?;
        self.create_topics().await?;
        let producer = TaskProducer::builder(&self.config.topics[0])
            .bootstrap_servers(self.config.bootstrap_servers.clone())
            .application_id("car-park")
            .start()
            .await?;
        let notifier = Notifier {
            gateway: self.gateway,
            told,
        };
        let subscription = Subscription::from_config(self.config)
            .start(Json, notifier)
            .await?;
        let _admin = AdminServer::builder()
            .address(self.admin)
            .subscription(subscription.handle())
            .start()?;
        let rate = self.rate;
        let writing = tokio::spawn(async move { events::write(&producer, rate).await });
        let ended = subscription.run_until(stop).await;
        writing.abort();
        Ok(ended?)
    }

    async fn create_topics(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        let config = &self.config;
        let origin = config.topics.first().ok_or("the settings name no topic")?;
        let mut topics = vec![origin.clone(), format!("{origin}-retry")];
        topics.extend(
            config
                .dead_letter
                .iter()
                .map(|letters| letters.topic.clone()),
        );
        let topics: Vec<_> = topics
            .iter()
            .map(|topic| NewTopic::new(topic, PARTITIONS))
            .collect();
        let servers = &config.bootstrap_servers;
        create_topics(servers.clone(), &KafkaSettings::new(), &topics).await?;
        Ok(())
    }
}

struct Notifier<F> {
    gateway: Gateway,
    told: F,
}

impl<F: Fn(Told<'_>) + Send + Sync + 'static> Processor<ParkingEvent> for Notifier<F> {
    async fn process(&self, task: Task<ParkingEvent>) -> Result<(), TaskError> {
        let answer = self.gateway.push(task.payload()).await;
        (self.told)((&task, answer.as_ref().copied()));
        match answer {
            Ok(()) => Ok(()),
            // Somebody works on that vehicle: it may be free in a moment.
            Err(refusal @ Refusal::Locked { .. }) => Err(TaskError::retryable(refusal)),
            // No retry will help: to the dead-letter topic at once.
            Err(refusal @ Refusal::Unknown { .. }) => Err(TaskError::fatal(refusal)),
        }
    }
}
