//! A subscription under test, before it runs.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use keylane::config::Outage;
use keylane::error::ConfigError;
use keylane::layers::{Layer, Layers, Stack, UsesProcessor};
use keylane::testing::{LocalSubscription, Outcome};
use keylane::{DeadLetter, Decode, NewTask, Processor, Retry, SubscriptionConfig, Success};

use crate::seen::Seen;
use crate::{TestHandle, time};

/// The time of a test costs nothing, so this is only to end it.
const VIRTUAL_IDLE_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);
const REAL_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// A subscription under test: a decoder, a processor and settings.
///
/// The settings are those of a subscription of the group `test` to the topic `test`, with the
/// dead-letter topic `test-dlq`; [`from_config`](Self::from_config) takes yours.
///
/// [`layer`](Self::layer) puts layers around the processor.
///
/// # Time
/// It passes by itself, and at once, wherever nothing can run: the clock of the test's runtime is
/// paused, as by `#[tokio::test(start_paused = true)]`. [`real_time`](Self::real_time) leaves it.
///
/// # Several tasks that fail
/// They can be an [outage](Self::outage), in which nothing is given up.
///
/// # What is not simulated
#[doc = include_str!("not_simulated.md")]
#[derive(Debug)]
#[must_use = "a subscription under test does nothing until `run` or `start`"]
pub struct TestSubscription<T, D, P, O = (), L = ()> {
    config: SubscriptionConfig,
    decoder: D,
    processor: P,
    layers: L,
    is_real_time: bool,
    idle_timeout: Option<Duration>,
    payload: PhantomData<fn(T) -> O>,
}

impl<T, D, P, O> TestSubscription<T, D, P, O>
where
    T: Send + 'static,
    D: Decode<T>,
    P: Processor<T, O>,
    O: Into<Success> + 'static,
{
    /// A subscription with defaults: see the [type](Self).
    pub fn new(decoder: D, processor: P) -> Self {
        let mut config = SubscriptionConfig::new("test", "test");
        config.dead_letter = Some(DeadLetter::topic("test-dlq"));
        Self::from_config(config, decoder, processor)
    }

    /// A subscription with the settings of your service. Those that are about Kafka are not used.
    ///
    /// # Examples
    /// ```
    /// use keylane::{Json, NewTask, SubscriptionConfig, Task, TaskError};
    /// use keylane_testkit::{Outcome, TestSubscription};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// // As it is deployed.
    /// let config: SubscriptionConfig = serde_json::from_str(
    ///     r#"{ "group": "parking-notifier", "topics": ["parking-events"], "attempt_timeout": "5s",
    ///          "retry": { "in_place": 1 }, "dead_letter": { "topic": "parking-events-dlq" } }"#,
    /// )?;
    /// let hangs = |_: Task<u64>| std::future::pending::<Result<(), TaskError>>();
    /// let outcome = TestSubscription::from_config(config, Json, hangs).run(NewTask::json(&7)?).await;
    /// assert_eq!(outcome, Outcome::DeadLettered { attempts: 2 });
    /// # Ok(()) }
    /// ```
    pub fn from_config(config: SubscriptionConfig, decoder: D, processor: P) -> Self {
        Self {
            config,
            decoder,
            processor,
            layers: (),
            is_real_time: false,
            idle_timeout: None,
            payload: PhantomData,
        }
    }
}

impl<T, D, P, O, L> TestSubscription<T, D, P, O, L>
where
    T: Send + 'static,
    D: Decode<T>,
    P: Processor<T, O>,
    O: Into<Success> + 'static,
    L: Layers<T>,
{
    /// Puts a [layer](keylane::layers) around the processor, inside of those that are there, as
    /// [`SubscriptionBuilder::layer`](keylane::subscription::SubscriptionBuilder::layer) does.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// use keylane::layers::{Failover, Timeout};
    /// use keylane::{Json, NewTask, Task, TaskError};
    /// use keylane_testkit::{Outcome, TestSubscription};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let hangs = |_: Task<u64>| std::future::pending::<Result<(), TaskError>>();
    /// let sms = |_: Task<u64>| async { Ok::<(), TaskError>(()) };
    /// let outcome = TestSubscription::new(Json, hangs)
    ///     .layer(Failover::to(sms))
    ///     .layer(Timeout::of(Duration::from_secs(2)))
    ///     .run(NewTask::json(&7)?)
    ///     .await;
    /// assert_eq!(outcome, Outcome::Done { attempts: 1 });
    /// # Ok(()) }
    /// ```
    pub fn layer<N>(self, layer: N) -> TestSubscription<T, D, P, O, Stack<L, N>>
    where
        N: Layer<T>,
    {
        TestSubscription {
            config: self.config,
            decoder: self.decoder,
            processor: self.processor,
            layers: Stack::new(self.layers, layer),
            is_real_time: self.is_real_time,
            idle_timeout: self.idle_timeout,
            payload: PhantomData,
        }
    }

    /// What happens to failures.
    pub fn retry(self, retry: Retry) -> Self {
        self.configure(|config| config.retry = retry)
    }

    /// How many attempts run at a time in a partition.
    pub fn concurrency(self, attempts: usize) -> Self {
        self.configure(|config| config.concurrency = attempts)
    }

    /// How long an attempt may take.
    pub fn attempt_timeout(self, timeout: Duration) -> Self {
        self.configure(|config| config.attempt_timeout = timeout)
    }

    /// When failures are an outage, in which records are held: by default, when five keys fail and
    /// nothing succeeds. Twenty fatal or undecodable records are a bad deployment, and hold too.
    /// [`TestHandle::idle`] fails then, [`TestHandle::outage`] shows it, and
    /// `Outage::default().lanes(64)` leaves a test room for more.
    pub fn outage(self, outage: Outage) -> Self {
        self.configure(|config| config.outage = outage)
    }

    /// Changes any other setting.
    ///
    /// # Examples
    /// Without a dead-letter topic what is exhausted is retried for ever:
    ///
    /// ```
    /// use keylane::{Json, NewTask, Retry, Task, TaskError};
    /// use keylane_testkit::{Outcome, TestSubscription};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let fails = async |_: Task<u64>| Err::<(), _>(TaskError::retryable("not now"));
    /// let outcome = TestSubscription::new(Json, fails)
    ///     .retry(Retry::in_place(2))
    ///     .configure(|config| config.dead_letter = None)
    ///     .run(NewTask::json(&7)?)
    ///     .await;
    /// assert!(matches!(outcome, Outcome::Pending { attempts } if attempts > 1_000));
    /// # Ok(()) }
    /// ```
    pub fn configure(mut self, change: impl FnOnce(&mut SubscriptionConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// Leaves the clock of the runtime as it is: for a processor that waits for real I/O.
    pub fn real_time(mut self) -> Self {
        self.is_real_time = true;
        self
    }

    /// How long [`TestHandle::idle`] and [`run`](Self::run) wait for tasks that do not settle, in
    /// the time of the test (default: a day; with [`real_time`](Self::real_time), a minute).
    pub fn idle_timeout(mut self, idle_timeout: Duration) -> Self {
        self.idle_timeout = Some(idle_timeout);
        self
    }

    /// Runs one task, and returns what became of it: [`Outcome::Pending`] if it was not settled
    /// within the [`idle_timeout`](Self::idle_timeout).
    ///
    /// # Panics
    /// As [`start`](Self::start) and [`TestHandle::write`].
    #[track_caller]
    pub fn run(self, task: NewTask) -> impl Future<Output = Outcome> {
        let handle = self.start();
        let task = handle.write(task);
        async move {
            // What is left then is pending.
            let _ = handle.idle().await;
            handle.outcome(&task)
        }
    }

    /// Starts it on the test's runtime.
    ///
    /// # Panics
    /// With settings that no subscription takes, outside of a tokio runtime, and, unless in [real
    /// time](Self::real_time), on one with several threads: its clock cannot be paused.
    #[track_caller]
    pub fn start(self) -> TestHandle {
        if !self.is_real_time {
            time::pause();
        }
        let idle_timeout = if self.is_real_time {
            REAL_IDLE_TIMEOUT
        } else {
            VIRTUAL_IDLE_TIMEOUT
        };
        let dead_letter_topic = self.config.dead_letter.as_ref().map(|it| it.topic.clone());
        let retry_topic = self.config.retry_topic();
        let seen = Arc::new(Seen::new());
        let events = seen.clone();
        let starts = Starts {
            config: self.config,
            decoder: self.decoder,
            events,
            payload: PhantomData,
        };
        match self.layers.around(self.processor, starts) {
            Ok(local) => TestHandle {
                local,
                seen,
                retry_topic,
                dead_letter_topic,
                idle_timeout: self.idle_timeout.unwrap_or(idle_timeout),
            },
            Err(error) => panic!("the settings of the subscription under test: {error}"),
        }
    }
}

/// Starts a subscription once its processor is complete.
struct Starts<T, D> {
    config: SubscriptionConfig,
    decoder: D,
    events: Arc<Seen>,
    payload: PhantomData<fn(T)>,
}

impl<T: Send + 'static, D: Decode<T>> UsesProcessor<T> for Starts<T, D> {
    type Output = Result<LocalSubscription, ConfigError>;

    fn take<O, P>(self, processor: P) -> Self::Output
    where
        O: Into<Success> + 'static,
        P: Processor<T, O>,
    {
        let events = self.events;
        LocalSubscription::start(self.config, self.decoder, processor, move |event| {
            events.event(event);
        })
    }
}
