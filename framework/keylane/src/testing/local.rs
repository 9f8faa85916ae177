//! A subscription without Kafka: the owners as they are, fed from memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use keylane_core::{Epoch, Evidence, LaneOrder, Position, SettledMap, Settlement};
use rdkafka::ClientConfig;

use super::{LocalEvent, LocalOutcome, LocalRecord};
use crate::config::ConfigError;
use crate::dead_letter::read_headers;
use crate::metrics::{
    AttemptResult, LabelValue, MetricLabels, PartitionMetrics, SubscriptionMetrics,
};
use crate::producer::raw::{Acknowledged, OutgoingRecord};
use crate::producer::{PartitionCount, RecordWriter, TopicTarget};
use crate::record::Arena;
use crate::runtime::{
    self, EpochStart, Inbox, Observed, Observer, Progress, RetryOwnership, Runtime, Work,
};
use crate::status::{Control, SharedLease};
use crate::subscription::{FAILED_WRITES_EVERY, partition_settings};
use crate::support::lock::lock;
use crate::support::{LogLimit, clock};
use crate::trace::AttemptSpans;
use crate::{
    Decode, EnqueueError, NewTask, Origin, OutageStatus, Processor, Record, SubscriptionConfig,
    SubscriptionError,
};
use keylane_core::member::CommitPoint;

/// A subscription without Kafka: its records come from memory, and so do its retry and dead-letter
/// topics. What decides about them, and what runs the attempts, is what runs with Kafka.
///
/// Most tests are shorter with `TestSubscription` of the crate `keylane-testkit`, which stands on
/// this: it waits for outcomes, and collects them.
///
/// The time is the tokio runtime's: with that paused (`tokio::time::pause`), back-offs and time-outs
/// take no time. The time of day, by which a retry is due, moves along.
///
/// Not simulated: a consumer's limits (everything is taken in at once), rebalances but for
/// [`revoke`](Self::revoke), crashes, and writes that fail. Nothing is committed, and there is one
/// partition unless tasks [name](NewTask::partition) others.
///
/// # Examples
/// ```
/// use std::sync::mpsc::channel;
///
/// use keylane::testing::{LocalEvent, LocalOutcome, LocalSubscription};
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
///         Ok(LocalEvent::Settled { outcome, .. }) => break assert_eq!(outcome, LocalOutcome::Done),
///         Ok(_) => {}
///         Err(_) => tokio::task::yield_now().await,
///     }
/// }
/// # Ok(()) }
/// ```
pub struct LocalSubscription {
    shared: Arc<Shared>,
}

struct Shared {
    config: Arc<SubscriptionConfig>,
    topic: Arc<str>,
    retry_topic: Option<Arc<str>>,
    control: Arc<Control>,
    partitions: Mutex<BTreeMap<Place, Partition>>,
    open: Box<dyn Fn(EpochStart) + Send + Sync>,
    events: Box<dyn Fn(LocalEvent) + Send + Sync>,
}

/// Topic and partition.
type Place = (Arc<str>, i32);

struct Partition {
    /// `None` for the dead-letter topic, which nothing reads.
    inbox: Option<Arc<Inbox>>,
    next_offset: i64,
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
    pub fn start<T, D, P>(
        config: SubscriptionConfig,
        decoder: D,
        processor: P,
        events: impl Fn(LocalEvent) + Send + Sync + 'static,
    ) -> Result<Self, ConfigError>
    where
        T: Send + 'static,
        D: Decode<T>,
        P: Processor<T>,
    {
        config.validate()?;
        clock::follow_runtime();
        let tokio = tokio::runtime::Handle::current();
        let config = Arc::new(config);
        let control = Arc::new(
            Control::new(config.shutdown_timeout)
                .of_group(&config.group)
                .named(config.label())
                .guarded_by(config.outage_guard()),
        );
        let work = Arc::new(Work {
            decoder,
            processor,
            spans: AttemptSpans::new(&config),
        });
        let topic = config.topics.first().map_or("", String::as_str).into();
        let retry_topic = config.retry_topic().map(Arc::from);
        let shared = Arc::new_cyclic(|shared: &Weak<Shared>| {
            let runtime = Arc::new(local_runtime(&config, &control, shared.clone()));
            let open = move |opening| {
                runtime::open::<T, D, P>(&tokio, runtime.clone(), work.clone(), opening);
            };
            Shared {
                config,
                topic,
                retry_topic,
                control,
                partitions: Mutex::default(),
                open: Box::new(open),
                events: Box::new(events),
            }
        });
        Ok(Self { shared })
    }

    /// Appends a task to the first origin topic, and hands it over. Returns where it is.
    ///
    /// # Errors
    /// A task that no producer takes.
    pub fn write(&self, task: NewTask) -> Result<Origin, EnqueueError> {
        let topic = self.shared.topic.clone();
        let record = task.into_record(topic.clone(), "test", "test", clock::wall())?;
        let Acknowledged { partition, offset } = self.shared.append(record);
        Ok(Origin {
            topic,
            partition,
            offset,
        })
    }

    /// The outages that go on, as [`SubscriptionStatus::outage`](crate::SubscriptionStatus::outage).
    pub fn outage(&self) -> Option<OutageStatus> {
        self.shared.control.outages.status(false)
    }

    /// As [`SubscriptionHandle::release_held`](crate::SubscriptionHandle::release_held).
    pub fn release_held(&self) {
        self.shared.control.outages.release();
    }

    /// Starts no attempt until [`resume`](Self::resume).
    pub fn pause(&self) {
        self.shared
            .each(|inbox| inbox.order(|orders| orders.pause = 1));
    }

    /// Ends a [`pause`](Self::pause).
    pub fn resume(&self) {
        self.shared
            .each(|inbox| inbox.order(|orders| orders.pause = 0));
    }

    /// Takes the partitions away, as a rebalance does: no attempt starts, and those that run have
    /// this long to finish. Records that are left stay unsettled; tasks that are written later have
    /// a new owner.
    pub fn revoke(&self, within: Duration) {
        self.shared.revoke(within);
    }

    /// Takes the partitions away at once, as when the member was fenced: what runs is dropped.
    pub fn lose(&self) {
        for inbox in self.shared.take_inboxes() {
            inbox.end();
        }
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

impl Shared {
    /// Appends a record, and hands it to the owner where its topic is read.
    fn append(&self, record: OutgoingRecord) -> Acknowledged {
        let partition = record.partition.unwrap_or(0);
        let is_read =
            record.topic == self.topic || self.retry_topic.as_ref() == Some(&record.topic);
        let mut partitions = lock(&self.partitions);
        let place = (record.topic.clone(), partition);
        let there = partitions.entry(place).or_insert(Partition {
            inbox: None,
            next_offset: 0,
        });
        let offset = there.next_offset;
        there.next_offset += 1;
        if is_read {
            let is_retry_topic = record.topic != self.topic;
            let inbox = there
                .inbox
                .get_or_insert_with(|| self.open(&record.topic, partition, offset, is_retry_topic));
            let delivered = delivered(record, offset, is_retry_topic);
            inbox.deliver(&mut vec![delivered], &mut Vec::new());
        }
        Acknowledged { partition, offset }
    }

    fn open(
        &self,
        topic: &Arc<str>,
        partition: i32,
        start: i64,
        is_retry_topic: bool,
    ) -> Arc<Inbox> {
        let inbox = Arc::new(Inbox::new(0, false));
        (self.open)(EpochStart {
            topic: topic.clone(),
            partition,
            epoch: Epoch::new(1),
            is_retry_topic,
            start: Some(Position::new(start)),
            start_under: None,
            settled: SettledMap::new(),
            leader_epoch: None,
            evidence: Evidence::default(),
            metrics: PartitionMetrics::new(&MetricLabels {
                subscription: self.config.label(),
                topic,
                partition,
            }),
            inbox: inbox.clone(),
            progress: Arc::new(Progress::default()),
            membership: None,
            predecessors: Vec::new(),
        });
        inbox
    }

    fn each(&self, order: impl Fn(&Inbox)) {
        let partitions = lock(&self.partitions);
        let inboxes = partitions.values().filter_map(|it| it.inbox.as_deref());
        inboxes.for_each(order);
    }

    fn take_inboxes(&self) -> Vec<Arc<Inbox>> {
        let mut partitions = lock(&self.partitions);
        partitions
            .values_mut()
            .filter_map(|it| it.inbox.take())
            .collect()
    }

    fn revoke(&self, within: Duration) {
        let deadline = clock::now() + within;
        let inboxes = self.take_inboxes();
        inboxes.iter().for_each(|inbox| inbox.drain(deadline));
        tokio::spawn(async move {
            tokio::time::sleep_until(deadline.into()).await;
            inboxes.iter().for_each(|inbox| inbox.end());
        });
    }

    fn written(&self, record: OutgoingRecord) -> Acknowledged {
        let (topic, key, value) = (
            record.topic.clone(),
            record.key.clone(),
            record.value.clone(),
        );
        let headers = record.headers.clone();
        let place = self.append(record);
        (self.events)(LocalEvent::Written(LocalRecord {
            place: Origin {
                topic,
                partition: place.partition,
                offset: place.offset,
            },
            key,
            value,
            headers,
        }));
        place
    }
}

/// As the consumer would have read it.
fn delivered(record: OutgoingRecord, offset: i64, is_retry_topic: bool) -> Record {
    let headers = read_headers(record.headers, is_retry_topic);
    Record::new(
        &mut Arena::default(),
        offset,
        record
            .timestamp_millis
            .or_else(|| Some(clock::unix_millis())),
        record.key.as_deref(),
        record.value.as_deref(),
        Some(headers),
    )
}

impl Observer for Weak<Shared> {
    fn attempted(&self, of: &Observed, result: AttemptResult, text: Option<String>) {
        self.tell(|| LocalEvent::Attempted {
            record: of.record.clone(),
            attempt: of.attempts,
            result: result.as_str(),
            text,
        });
    }

    fn settled(&self, of: Observed, outcome: Settlement) {
        let outcome = match outcome {
            Settlement::Done => LocalOutcome::Done,
            Settlement::Skipped => LocalOutcome::Skipped,
            Settlement::Retried => LocalOutcome::Retried,
            Settlement::DeadLettered => LocalOutcome::DeadLettered,
            // There is no other group.
            Settlement::Foreign => return,
        };
        self.tell(|| LocalEvent::Settled {
            record: of.record,
            attempts: of.attempts,
            outcome,
        });
    }

    fn parked(&self, of: Observed) {
        self.tell(|| LocalEvent::Parked {
            record: of.record,
            attempts: of.attempts,
        });
    }

    fn stopped(&self, of: Observed, error: SubscriptionError) {
        if let Some(shared) = self.upgrade() {
            shared.revoke(shared.config.shutdown_timeout);
        }
        self.tell(|| LocalEvent::Stopped {
            record: of.record,
            attempts: of.attempts,
            error,
        });
    }

    /// Every commit succeeds at once.
    fn committable(&self, topic: &Arc<str>, partition: i32, point: &CommitPoint) {
        let (Some(shared), Some(mark)) = (self.upgrade(), point.mark) else {
            return;
        };
        let inbox = lock(&shared.partitions)
            .get(&(topic.clone(), partition))
            .and_then(|it| it.inbox.clone());
        if let Some(inbox) = inbox {
            inbox.order(|orders| orders.marked = mark.get());
        }
    }
}

trait Tell {
    fn tell(&self, event: impl FnOnce() -> LocalEvent);
}

impl Tell for Weak<Shared> {
    fn tell(&self, event: impl FnOnce() -> LocalEvent) {
        if let Some(shared) = self.upgrade() {
            (shared.events)(event());
        }
    }
}

fn local_runtime(
    config: &Arc<SubscriptionConfig>,
    control: &Arc<Control>,
    shared: Weak<Shared>,
) -> Runtime {
    let target = |name: &str| TopicTarget {
        name: name.into(),
        partitions: PartitionCount::fixed(i32::MAX),
    };
    let retry_topic = config.retry_topic().map(|name| target(&name));
    let dead_letter_topic = config.dead_letter.as_ref().map(|it| target(&it.topic));
    let origin_of_time = control.outages.origin_of_time();
    let ownership = config.retry.topic.as_ref().zip(retry_topic.as_ref());
    let ownership = ownership.map(|(settings, target)| {
        let no_client = ClientConfig::new();
        RetryOwnership::new(
            config,
            settings,
            target,
            no_client,
            control.clone(),
            origin_of_time,
        )
    });
    let writer = shared.clone();
    let write = move |record: OutgoingRecord| match writer.upgrade() {
        Some(shared) => shared.written(record),
        // It was dropped, and its owners are about to end.
        None => Acknowledged {
            partition: 0,
            offset: 0,
        },
    };
    Runtime {
        group: config.group.as_str().into(),
        attempt_timeout: config.attempt_timeout,
        commit_interval: config.commit_interval,
        origin_settings: partition_settings(config, LaneOrder::Offset),
        retry_settings: partition_settings(config, LaneOrder::Due),
        outages: control.outages.clone(),
        plain_keys: config.hot_keys.plain_keys,
        lane_hash: foldhash::fast::RandomState::default(),
        writer: Some(RecordWriter::Memory(Arc::new(write))),
        retry_topic,
        dead_letter_topic,
        side_config: ClientConfig::new(),
        ownership,
        failed_writes: LogLimit::every(FAILED_WRITES_EVERY),
        lease: Arc::new(SharedLease::lasting()),
        control: control.clone(),
        metrics: Arc::new(SubscriptionMetrics::new(config.label())),
        origin_of_time,
        observer: Some(Arc::new(shared)),
    }
}
