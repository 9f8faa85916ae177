//! The builder: a thin layer over [`SubscriptionConfig`].

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::time::Duration;

use crate::config::{
    Blocker, BootstrapServers, ControlTopic, HotKeySettings, LegacyTasks, Limits, Outage, Reading,
    Tracing, Watchdog,
};
use crate::layers::{Layers, Stack, UsesProcessor};
use crate::{DeadLetter, Decode, Processor, Retry, SubscriptionConfig, Success};

use super::error::StartError;
use super::handle::Subscription;

/// Puts a [`SubscriptionConfig`] together and starts it. Each method sets the field of the same
/// name; its documentation gives the default, the price and the effect.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `start`"]
pub struct SubscriptionBuilder<L = ()> {
    config: SubscriptionConfig,
    /// None is `()`: a subscription without layers has the types that it had before there were any.
    layers: L,
}

impl From<SubscriptionConfig> for SubscriptionBuilder {
    fn from(config: SubscriptionConfig) -> Self {
        let layers = ();
        Self { config, layers }
    }
}

impl Subscription {
    /// Starts describing a subscription of one group to one origin topic, with safe defaults for
    /// the rest.
    ///
    /// # Examples
    /// A complete consumer:
    /// ```no_run
    /// use keylane::{DeadLetter, Json, Retry, Subscription, Task, TaskError};
    /// use std::time::Duration;
    ///
    /// #[derive(serde::Deserialize)]
    /// struct ParkingEvent { vehicle: String }
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let subscription = Subscription::builder("parking-notifier", "parking-events")
    ///     .bootstrap_servers("localhost:9092")
    ///     .retry(Retry::for_at_least(Duration::from_secs(15 * 60)))
    ///     .dead_letter(DeadLetter::topic("parking-events-dlq"))
    ///     .start(Json, |task: Task<ParkingEvent>| async move {
    ///         println!("{}", task.payload().vehicle);
    ///         Ok::<(), TaskError>(())
    ///     })
    ///     .await?;
    /// subscription.run_until(async { tokio::signal::ctrl_c().await.unwrap_or(()) }).await?;
    /// # Ok(()) }
    /// ```
    pub fn builder(group: impl Into<String>, topic: impl Into<String>) -> SubscriptionBuilder {
        SubscriptionConfig::new(group, topic).into()
    }

    /// Starts from settings read elsewhere, for example from a configuration file.
    ///
    /// # Examples
    /// ```
    /// use keylane::{Subscription, SubscriptionConfig};
    ///
    /// let file = r#"{ "group": "parking-notifier", "topics": ["parking-events"] }"#;
    /// let config: SubscriptionConfig = serde_json::from_str(file)?;
    /// let builder = Subscription::from_config(config).concurrency(64);
    /// assert_eq!(builder.config().concurrency, 64);
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub fn from_config(config: SubscriptionConfig) -> SubscriptionBuilder {
        config.into()
    }
}

impl<L> SubscriptionBuilder<L> {
    /// One more origin topic.
    ///
    /// # Examples
    /// ```
    /// use keylane::{Retry, Subscription};
    ///
    /// let builder = Subscription::builder("parking-notifier", "parking-events")
    ///     .topic("gate-events")
    ///     .retry(Retry::default().then_topic_named("parking-notifier-retry"));
    /// assert_eq!(builder.config().topics, ["parking-events", "gate-events"]);
    /// ```
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.config.topics.push(topic.into());
        self
    }

    /// See [`SubscriptionConfig::bootstrap_servers`].
    pub fn bootstrap_servers(mut self, servers: impl Into<BootstrapServers>) -> Self {
        self.config.bootstrap_servers = servers.into();
        self
    }

    /// See [`SubscriptionConfig::name`].
    ///
    /// # Examples
    /// ```
    /// use keylane::Subscription;
    ///
    /// let builder =
    ///     Subscription::builder("parking-notifier-v2", "parking-events").name("parking-notifier");
    /// # let _ = builder;
    /// ```
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.config.name = Some(name.into());
        self
    }

    /// See [`SubscriptionConfig::instance_id`].
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), std::env::VarError> {
    /// # if true { return Ok(()) }
    /// use keylane::Subscription;
    ///
    /// // A pod of a StatefulSet keeps its name, which is its own.
    /// let name = std::env::var("POD_NAME")?;
    /// let builder =
    ///     Subscription::builder("parking-notifier", "parking-events").instance_id(name);
    /// # let _ = builder;
    /// # Ok(()) }
    /// ```
    pub fn instance_id(mut self, id: impl Into<String>) -> Self {
        self.config.instance_id = Some(id.into());
        self
    }

    /// See [`SubscriptionConfig::fetch_linger`].
    ///
    /// # Examples
    /// ```
    /// use keylane::Subscription;
    /// use std::time::Duration;
    ///
    /// let builder = Subscription::builder("parking-notifier", "parking-events")
    ///     .fetch_linger(Duration::from_millis(5));
    /// # let _ = builder;
    /// ```
    pub fn fetch_linger(mut self, linger: Duration) -> Self {
        self.config.fetch_linger = Some(linger);
        self
    }

    /// See [`SubscriptionConfig::concurrency`].
    ///
    /// # Examples
    /// ```
    /// use keylane::Subscription;
    ///
    /// let builder = Subscription::builder("parking-notifier", "parking-events").concurrency(8);
    /// # let _ = builder;
    /// ```
    pub fn concurrency(mut self, attempts: usize) -> Self {
        self.config.concurrency = attempts;
        self
    }

    /// Attempts in flight over all partitions: see
    /// [`Limits::max_in_flight`](Limits#structfield.max_in_flight).
    ///
    /// # Examples
    /// ```
    /// use keylane::Subscription;
    ///
    /// // A pool of 20 connections, whatever the number of partitions.
    /// let builder = Subscription::builder("parking-notifier", "parking-events").max_in_flight(20);
    /// assert_eq!(builder.config().limits.max_in_flight, Some(20));
    ///
    /// // Limits that are silent about it leave it as it is.
    /// let builder = builder.limits(Default::default());
    /// assert_eq!(builder.config().limits.max_in_flight, Some(20));
    /// ```
    pub fn max_in_flight(mut self, attempts: usize) -> Self {
        self.config.limits.max_in_flight = Some(attempts);
        self
    }

    /// See [`SubscriptionConfig::limits`]. A [`max_in_flight`](Self::max_in_flight) that is set
    /// already stays, unless these have another one.
    pub fn limits(mut self, limits: Limits) -> Self {
        let max_in_flight = limits.max_in_flight.or(self.config.limits.max_in_flight);
        self.config.limits = limits;
        self.config.limits.max_in_flight = max_in_flight;
        self
    }

    /// See [`SubscriptionConfig::commit_interval`].
    pub fn commit_interval(mut self, interval: Duration) -> Self {
        self.config.commit_interval = interval;
        self
    }

    /// See [`SubscriptionConfig::attempt_timeout`].
    ///
    /// # Examples
    /// ```
    /// use keylane::Subscription;
    /// use std::time::Duration;
    ///
    /// let builder = Subscription::builder("parking-notifier", "parking-events")
    ///     .attempt_timeout(Duration::from_secs(30))
    ///     .drain_timeout(Duration::from_secs(10))
    ///     .shutdown_timeout(Duration::from_secs(20));
    /// # let _ = builder;
    /// ```
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.config.attempt_timeout = timeout;
        self
    }

    /// See [`SubscriptionConfig::drain_timeout`].
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.config.drain_timeout = timeout;
        self
    }

    /// See [`SubscriptionConfig::shutdown_timeout`].
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.config.shutdown_timeout = timeout;
        self
    }

    /// See [`SubscriptionConfig::startup_timeout`].
    pub fn startup_timeout(mut self, timeout: Duration) -> Self {
        self.config.startup_timeout = timeout;
        self
    }

    /// See [`SubscriptionConfig::wait_for_membership`].
    ///
    /// # Examples
    /// ```
    /// use keylane::Subscription;
    /// use std::time::Duration;
    ///
    /// // `start` fails where a member with another assignor is in the group.
    /// let builder = Subscription::builder("parking-notifier", "parking-events")
    ///     .wait_for_membership(Duration::from_secs(60));
    /// # let _ = builder;
    /// ```
    pub fn wait_for_membership(mut self, timeout: Duration) -> Self {
        self.config.wait_for_membership = Some(timeout);
        self
    }

    /// See [`SubscriptionConfig::reading`].
    pub fn reading(mut self, reading: Reading) -> Self {
        self.config.reading = reading;
        self
    }

    /// See [`SubscriptionConfig::legacy_tasks`].
    pub fn legacy_tasks(mut self, legacy_tasks: LegacyTasks) -> Self {
        self.config.legacy_tasks = legacy_tasks;
        self
    }

    /// See [`SubscriptionConfig::retry`].
    pub fn retry(mut self, retry: Retry) -> Self {
        self.config.retry = retry;
        self
    }

    /// See [`SubscriptionConfig::dead_letter`].
    pub fn dead_letter(mut self, dead_letter: DeadLetter) -> Self {
        self.config.dead_letter = Some(dead_letter);
        self
    }

    /// See [`SubscriptionConfig::control_topic`].
    pub fn control_topic(mut self, topic: ControlTopic) -> Self {
        self.config.control_topic = Some(topic);
        self
    }

    /// See [`SubscriptionConfig::outage`].
    pub fn outage(mut self, outage: Outage) -> Self {
        self.config.outage = outage;
        self
    }

    /// See [`SubscriptionConfig::watchdog`].
    pub fn watchdog(mut self, watchdog: Watchdog) -> Self {
        self.config.watchdog = watchdog;
        self
    }

    /// See [`SubscriptionConfig::blocker`].
    pub fn blocker(mut self, blocker: Blocker) -> Self {
        self.config.blocker = blocker;
        self
    }

    /// See [`SubscriptionConfig::hot_keys`].
    pub fn hot_keys(mut self, hot_keys: HotKeySettings) -> Self {
        self.config.hot_keys = hot_keys;
        self
    }

    /// See [`SubscriptionConfig::tracing`].
    pub fn tracing(mut self, tracing: Tracing) -> Self {
        self.config.tracing = tracing;
        self
    }

    /// One setting of the Kafka client; see [`KafkaSettings`](crate::config::KafkaSettings).
    ///
    /// # Examples
    /// ```
    /// use keylane::Subscription;
    ///
    /// let builder = Subscription::builder("parking-notifier", "parking-events")
    ///     .kafka("group.protocol", "consumer")
    ///     .kafka("fetch.wait.max.ms", "50");
    /// # let _ = builder;
    /// ```
    pub fn kafka(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.config.kafka.set(name, value);
        self
    }

    /// Several settings of the Kafka client, added to those already there.
    pub fn kafka_settings<K: Into<String>, V: Into<String>>(
        mut self,
        settings: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        self.config.kafka.extend(settings);
        self
    }

    /// Puts a [layer](crate::layers) around the processor, inside of those that are there: the first
    /// one is the outermost.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// use keylane::layers::{Failover, Timeout};
    /// use keylane::{Subscription, Task, TaskError};
    ///
    /// async fn sms(task: Task<String>) -> Result<(), TaskError> {
    ///     println!("by SMS: {}", task.payload());
    ///     Ok(())
    /// }
    ///
    /// // Push has two seconds. If it has not answered by then, there is an SMS.
    /// let builder = Subscription::builder("parking-notifier", "parking-events")
    ///     .layer(Failover::to(sms))
    ///     .layer(Timeout::of(Duration::from_secs(2)));
    /// # let _ = builder;
    /// ```
    pub fn layer<N>(self, layer: N) -> SubscriptionBuilder<Stack<L, N>> {
        SubscriptionBuilder {
            config: self.config,
            layers: Stack::new(self.layers, layer),
        }
    }

    /// The settings as they are now.
    pub fn config(&self) -> &SubscriptionConfig {
        &self.config
    }

    /// Checks the settings, the brokers and the topics, then joins the group and starts processing.
    ///
    /// Must be called within a tokio runtime, which then runs the attempts. Dropping the returned
    /// subscription without a shutdown drops the attempts in flight; their records are delivered
    /// again.
    ///
    /// # Errors
    /// One error that names what is wrong and the fix, after at most
    /// [`SubscriptionConfig::startup_timeout`]. With
    /// [`wait_for_membership`](SubscriptionConfig::wait_for_membership) also after that time and up
    /// to 10 s more, in which the member leaves its group.
    ///
    /// # Cancellation
    /// Dropping the future ends the member, as dropping the subscription does.
    // In a box, because its type then does not name the processor: a processor that does not fit is
    // one error of the compiler, not three.
    #[must_use = "a subscription starts when this is awaited"]
    pub fn start<T, O, D, P>(
        self,
        decoder: D,
        processor: P,
    ) -> Pin<Box<dyn Future<Output = Result<Subscription, StartError>> + Send>>
    where
        T: Send + 'static,
        O: Into<Success> + 'static,
        D: Decode<T>,
        P: Processor<T, O>,
        L: Layers<T>,
    {
        let starts = Starts {
            config: self.config,
            decoder,
            payload: PhantomData,
        };
        self.layers.around(processor, starts)
    }
}

type Starting = Pin<Box<dyn Future<Output = Result<Subscription, StartError>> + Send>>;

/// Starts a subscription once its processor is complete.
struct Starts<T, D> {
    config: SubscriptionConfig,
    decoder: D,
    payload: PhantomData<fn(T)>,
}

impl<T: Send + 'static, D: Decode<T>> UsesProcessor<T> for Starts<T, D> {
    type Output = Starting;

    fn take<O, P>(self, processor: P) -> Starting
    where
        O: Into<Success> + 'static,
        P: Processor<T, O>,
    {
        Box::pin(super::start::start(self.config, self.decoder, processor))
    }
}
