//! A subscription without Kafka: the owners as they are, fed from memory.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use super::LocalEvent;
use super::runtime::local_runtime;
use super::topics::Topics;
use crate::error::{ConfigError, EnqueueError, SubscriptionError};
use crate::producer::{MessageIds, TaskFormat, TaskSource};
use crate::record::Origin;
use crate::runtime::{self, Work};
use crate::status::{Control, OutageStatus};
use crate::support::clock;
use crate::trace::AttemptSpans;
use crate::{Decode, NewTask, Processor, SubscriptionConfig, Success};

/// A subscription without Kafka: its records come from memory, and so do its retry and dead-letter
/// topics. What decides about them, and what runs the attempts, is what runs with Kafka.
///
/// Most tests are shorter with `TestSubscription` of the crate `keylane-testkit`, which stands on
/// this: it waits for outcomes, and collects them.
///
/// The time is the tokio runtime's: with that paused (`tokio::time::pause`), back-offs and time-outs
/// take no time. keylane's own time of day, by which a retry is due, moves along;
/// `SystemTime::now()` in a processor does not. What is not simulated is listed at
/// `TestSubscription`.
///
/// # Examples
/// ```
/// use std::sync::mpsc::channel;
///
/// use keylane::testing::{LocalEvent, LocalSubscription, Outcome};
/// use keylane::{Json, NewTask, SubscriptionConfig, Task, TaskError};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (events, seen) = channel();
/// let config = SubscriptionConfig::new("parking-notifier", "parking-events");
/// let process = |_: Task<u32>| async { Ok::<(), TaskError>(()) };
/// let local = LocalSubscription::start(config, Json, process, move |event| drop(events.send(event)))?;
/// local.write(NewTask::json(&7)?.key("vehicle-7"))?;
/// loop {
///     match seen.try_recv() {
///         Ok(LocalEvent::Ended { outcome, .. }) => break assert_eq!(outcome, Outcome::Done { attempts: 1 }),
///         Ok(_) => {}
///         Err(_) => tokio::task::yield_now().await,
///     }
/// }
/// # Ok(()) }
/// ```
pub struct LocalSubscription {
    topics: Arc<Topics>,
}

impl LocalSubscription {
    /// Starts it on the tokio runtime of the caller. The settings of the consumer itself, of topics
    /// and brokers, are not used. `events` is called in the middle of the work, and must not wait.
    ///
    /// # Errors
    /// Settings that no subscription takes.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[track_caller]
    pub fn start<T, O, D, P>(
        config: SubscriptionConfig,
        decoder: D,
        processor: P,
        events: impl Fn(LocalEvent) + Send + Sync + 'static,
    ) -> Result<Self, ConfigError>
    where
        T: Send + 'static,
        O: Into<Success> + 'static,
        D: Decode<T>,
        P: Processor<T, O>,
    {
        config.validate()?;
        clock::follow_runtime();
        let tokio = tokio::runtime::Handle::current();
        let config = Arc::new(config);
        let control = Arc::new(
            Control::new(config.shutdown_timeout)
                .of_group(&config.group)
                .named(config.label())
                .guarded_by(config.outage_guard())
                .limited_to(config.limits.max_in_flight),
        );
        let work = Arc::new(Work {
            decoder,
            processor,
            spans: AttemptSpans::new(&config),
        });
        let origin_topics = config.topics.iter().map(|it| it.as_str().into()).collect();
        let retry_topic = config.retry_topic().map(Arc::from);
        let topics = Arc::new_cyclic(|topics: &Weak<Topics>| {
            let runtime = Arc::new(local_runtime(&config, &control, topics.clone()));
            let open = move |opening| {
                runtime::open::<T, O, D, P>(&tokio, runtime.clone(), work.clone(), opening);
            };
            Topics {
                config,
                origin_topics,
                retry_topic,
                control,
                state: Mutex::default(),
                open: Box::new(open),
                events: Box::new(events),
            }
        });
        Ok(Self { topics })
    }

    /// Appends a task to the first origin topic, or to the one that it [names](NewTask::topic), and
    /// hands it over. Returns where it is.
    ///
    /// # Errors
    /// The partition is negative, the task names a topic that is not read, or a header is named
    /// `dt_meta`, has no name, or one with NUL. The size is not checked.
    pub fn write(&self, mut task: NewTask) -> Result<Origin, EnqueueError> {
        let topic = task.topic_among(&self.topics.origin_topics);
        let topic = match topic.and_then(|topic| task.validate().map(|()| topic)) {
            Ok(topic) => topic,
            Err(error) => return Err(error.of(task)),
        };
        let source = TaskSource {
            application_id: "test".to_owned(),
            instance_id: "test".to_owned(),
            format: TaskFormat::Header,
            message_ids: MessageIds::Generated,
        };
        let now = clock::wall();
        task.name_message(&source, now);
        let record = task.into_record(topic, &source, now);
        Ok(self.topics.append(record))
    }

    /// The error that has ended the subscription. Records that are written later are not read.
    pub fn stopped(&self) -> Option<SubscriptionError> {
        self.topics.stopped()
    }

    /// The outages that go on, as
    /// [`SubscriptionStatus::outage`](crate::status::SubscriptionStatus::outage).
    pub fn outage(&self) -> Option<OutageStatus> {
        self.topics.control.outages.status(false)
    }

    /// As [`SubscriptionHandle::release_held`](crate::SubscriptionHandle::release_held).
    pub fn release_held(&self) {
        self.topics.control.outages.release();
    }

    /// Starts no attempt until [`resume`](Self::resume).
    pub fn pause(&self) {
        self.topics.set_paused(true);
    }

    /// Ends a [`pause`](Self::pause).
    pub fn resume(&self) {
        self.topics.set_paused(false);
    }

    /// Takes the partitions away, as a rebalance does: no attempt starts, and those that run have
    /// this long to finish. Records that are left stay unsettled; tasks that are written later have
    /// a new owner.
    pub fn revoke(&self, within: Duration) {
        self.topics.revoke(within);
    }

    /// Takes the partitions away at once, as when the member was fenced: what runs is dropped.
    pub fn lose(&self) {
        self.topics.lose();
    }
}

impl std::fmt::Debug for LocalSubscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalSubscription").finish_non_exhaustive()
    }
}

impl Drop for LocalSubscription {
    fn drop(&mut self) {
        self.lose();
    }
}
