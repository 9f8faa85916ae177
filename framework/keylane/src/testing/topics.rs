//! The topics in memory, and the owners that read them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use keylane_core::member::CommitPoint;
use keylane_core::{Epoch, Evidence, Position, SettledMap, Settlement};

use super::{AttemptResult, LocalEvent, LocalRecord, Outcome};
use crate::SubscriptionConfig;
use crate::dead_letter::Intake;
use crate::error::SubscriptionError;
use crate::metrics::{MetricLabels, PartitionMetrics};
use crate::producer::raw::{Acknowledged, OutgoingRecord};
use crate::record::{Arena, Origin, OriginLog, Record};
use crate::runtime::{EpochStart, Inbox, Observed, Observer, Progress};
use crate::status::Control;
use crate::support::clock;
use crate::support::lock::lock;

pub(super) struct Topics {
    pub(super) config: Arc<SubscriptionConfig>,
    pub(super) origin_topics: Vec<Arc<str>>,
    pub(super) retry_topic: Option<Arc<str>>,
    pub(super) control: Arc<Control>,
    pub(super) state: Mutex<State>,
    pub(super) open: Box<dyn Fn(EpochStart) + Send + Sync>,
    pub(super) events: Box<dyn Fn(LocalEvent) + Send + Sync>,
}

#[derive(Default)]
pub(super) struct State {
    partitions: BTreeMap<(Arc<str>, i32), Partition>,
    /// What is opened meanwhile is paused as well.
    is_paused: bool,
    /// `run` would have returned: nothing is opened from then on.
    stopped: Option<SubscriptionError>,
}

#[derive(Default)]
struct Partition {
    /// `None` where nothing reads it: a dead-letter topic, or a partition that was taken away.
    inbox: Option<Arc<Inbox>>,
    next_offset: i64,
}

impl Topics {
    /// Appends a record, and hands it to the owner where its topic is read.
    pub(super) fn append(&self, record: OutgoingRecord) -> Origin {
        let place = (record.topic.clone(), record.partition.unwrap_or(0));
        let is_retry_topic = self.retry_topic.as_ref() == Some(&place.0);
        let mut state = lock(&self.state);
        let (is_paused, has_stopped) = (state.is_paused, state.stopped.is_some());
        let there = state.partitions.entry(place.clone()).or_default();
        let origin = Origin {
            topic: place.0,
            partition: place.1,
            offset: there.next_offset,
            log: OriginLog::default(),
        };
        there.next_offset += 1;
        if (is_retry_topic || self.origin_topics.contains(&origin.topic)) && !has_stopped {
            let inbox = there.inbox.get_or_insert_with(|| {
                let inbox = Arc::new(Inbox::new(u64::from(is_paused), false));
                self.open(&origin, is_retry_topic, inbox.clone());
                inbox
            });
            let intake = Intake::of(&self.config);
            let delivered = delivered(record, intake, origin.offset, is_retry_topic);
            inbox.deliver(&mut vec![delivered], &mut Vec::new());
        }
        origin
    }

    /// Starts the owner of a partition, from a record on.
    fn open(&self, at: &Origin, is_retry_topic: bool, inbox: Arc<Inbox>) {
        (self.open)(EpochStart {
            topic: at.topic.clone(),
            partition: at.partition,
            epoch: Epoch::new(1),
            is_retry_topic,
            start: Some(Position::new(at.offset)),
            start_under: None,
            settled: SettledMap::new(),
            leader_epoch: None,
            evidence: Evidence::default(),
            metrics: PartitionMetrics::new(&MetricLabels {
                subscription: self.config.label(),
                topic: &at.topic,
                partition: at.partition,
            }),
            inbox,
            progress: Arc::new(Progress::default()),
            membership: None,
            predecessors: Vec::new(),
        });
    }

    pub(super) fn set_paused(&self, is_paused: bool) {
        let mut state = lock(&self.state);
        state.is_paused = is_paused;
        for inbox in state.partitions.values().filter_map(|it| it.inbox.as_ref()) {
            inbox.order(|orders| orders.pause = u64::from(is_paused));
        }
    }

    pub(super) fn revoke(&self, within: Duration) {
        let deadline = clock::now() + within;
        let inboxes = self.take_inboxes();
        inboxes.iter().for_each(|inbox| inbox.drain(deadline));
        tokio::spawn(async move {
            tokio::time::sleep_until(deadline.into()).await;
            inboxes.iter().for_each(|inbox| inbox.end());
        });
    }

    pub(super) fn lose(&self) {
        self.take_inboxes().iter().for_each(|inbox| inbox.end());
    }

    fn take_inboxes(&self) -> Vec<Arc<Inbox>> {
        let mut state = lock(&self.state);
        let partitions = state.partitions.values_mut();
        partitions.filter_map(|it| it.inbox.take()).collect()
    }

    pub(super) fn stopped(&self) -> Option<SubscriptionError> {
        lock(&self.state).stopped.clone()
    }

    /// Appends a retry or a dead letter, and reports it.
    pub(super) fn write(&self, record: OutgoingRecord) -> Acknowledged {
        let (key, value) = (record.key.clone(), record.value.clone());
        let headers = record.headers.clone();
        let place = self.append(record);
        let (partition, offset) = (place.partition, place.offset);
        (self.events)(LocalEvent::Written(LocalRecord {
            place,
            key,
            value,
            headers,
        }));
        Acknowledged { partition, offset }
    }
}

/// As the consumer would have read it.
fn delivered(record: OutgoingRecord, intake: Intake, offset: i64, is_retry_topic: bool) -> Record {
    let headers = intake.read(
        Some(record.headers),
        record.value.as_deref(),
        is_retry_topic,
    );
    Record::new(
        &mut Arena::default(),
        offset,
        record
            .timestamp_millis
            .or_else(|| Some(clock::unix_millis())),
        record.key.as_deref(),
        record.value.as_deref(),
        headers,
    )
}

impl Observer for Weak<Topics> {
    fn attempted(&self, of: &Observed, result: AttemptResult, text: Option<String>) {
        report(self, |_| LocalEvent::Attempted {
            record: of.record.clone(),
            attempt: of.attempts,
            result,
            text,
        });
    }

    fn settled(&self, of: Observed, outcome: Settlement) {
        let attempts = of.attempts;
        let outcome = match outcome {
            Settlement::Done => Outcome::Done { attempts },
            Settlement::Skipped | Settlement::SkippedByOperator => Outcome::Skipped { attempts },
            Settlement::DeadLettered => Outcome::DeadLettered { attempts },
            // The first comes back from the retry topic. For the other, there is no other group.
            Settlement::Retried | Settlement::Foreign => return,
        };
        report(self, |_| ended(of, outcome));
    }

    fn parked(&self, of: Observed) {
        let attempts = of.attempts;
        report(self, |_| ended(of, Outcome::Parked { attempts }));
    }

    fn stopped(&self, of: Observed, error: SubscriptionError) {
        let attempts = of.attempts;
        report(self, |topics| {
            lock(&topics.state).stopped.get_or_insert(error);
            topics.revoke(topics.config.shutdown_timeout);
            ended(of, Outcome::Stopped { attempts })
        });
    }

    /// Every commit succeeds at once.
    fn committable(&self, topic: &Arc<str>, partition: i32, point: &CommitPoint) {
        let (Some(topics), Some(mark)) = (self.upgrade(), point.mark) else {
            return;
        };
        let state = lock(&topics.state);
        let there = state.partitions.get(&(topic.clone(), partition));
        if let Some(inbox) = there.and_then(|it| it.inbox.as_ref()) {
            inbox.order(|orders| orders.marked = mark.get());
        }
    }
}

/// Unless the subscription was dropped.
fn report(topics: &Weak<Topics>, event: impl FnOnce(&Topics) -> LocalEvent) {
    if let Some(topics) = topics.upgrade() {
        let event = event(&topics);
        (topics.events)(event);
    }
}

fn ended(of: Observed, outcome: Outcome) -> LocalEvent {
    LocalEvent::Ended {
        record: of.record,
        outcome,
    }
}
