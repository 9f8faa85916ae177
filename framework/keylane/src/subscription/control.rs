//! What the handle, the owners and the polling thread tell each other.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use tokio::sync::Notify;

use super::error::SubscriptionError;
use super::hot_keys::HotKeys;
use super::refusals::Refusals;
use super::status::{PartitionStatus, State, SubscriptionStatus, Trouble, TroubleKind};

/// Shared by everything of one subscription. Written rarely; nothing on the way of a record.
#[derive(Debug)]
pub(crate) struct Control {
    shutdown_timeout: Duration,
    /// Ended by an error that leaves nothing to drain for.
    must_end: AtomicBool,
    state: AtomicU8,
    paused: AtomicBool,
    shutdown: Mutex<Option<Instant>>,
    failure: Mutex<Option<SubscriptionError>>,
    trouble: Mutex<Option<Trouble>>,
    pub(crate) refusals: Refusals,
    group: String,
    partitions: DashMap<(Arc<str>, i32), PartitionStatus>,
    hot_keys: DashMap<(Arc<str>, i32), Arc<HotKeys>>,
    storm_guard_closed: AtomicBool,
    ended: AtomicBool,
    changed: Notify,
}

impl Control {
    pub(crate) fn new(shutdown_timeout: Duration) -> Self {
        Self {
            shutdown_timeout,
            must_end: AtomicBool::new(false),
            state: AtomicU8::new(State::Starting as u8),
            paused: AtomicBool::new(false),
            shutdown: Mutex::new(None),
            failure: Mutex::new(None),
            trouble: Mutex::new(None),
            refusals: Refusals::default(),
            group: String::new(),
            partitions: DashMap::new(),
            hot_keys: DashMap::new(),
            storm_guard_closed: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            changed: Notify::new(),
        }
    }

    /// With the name of the consumer group, for messages.
    pub(crate) fn of_group(mut self, group: &str) -> Self {
        group.clone_into(&mut self.group);
        self
    }

    pub(crate) fn group(&self) -> &str {
        &self.group
    }

    /// Ends the subscription with this error, at once. The first error counts.
    pub(crate) fn fail(&self, error: SubscriptionError) {
        self.note_failure(error);
        self.must_end.store(true, Ordering::Release);
    }

    /// Ends the subscription with this error, after the attempts in flight have finished.
    pub(crate) fn stop(&self, error: SubscriptionError) {
        self.note_failure(error);
        self.request_shutdown(Instant::now() + self.shutdown_timeout);
    }

    fn note_failure(&self, error: SubscriptionError) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if failure.is_none() {
            tracing::error!(%error, "the subscription ends");
            *failure = Some(error);
        }
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    pub(crate) fn must_end(&self) -> bool {
        self.must_end.load(Ordering::Acquire)
    }

    /// Asks for a shutdown that drains until `deadline`; a later call can only bring the deadline forward.
    pub(crate) fn request_shutdown(&self, deadline: Instant) {
        let mut shutdown = self.shutdown.lock().unwrap_or_else(PoisonError::into_inner);
        *shutdown = Some(shutdown.map_or(deadline, |earlier| earlier.min(deadline)));
    }

    pub(crate) fn shutdown_deadline(&self) -> Option<Instant> {
        *self.shutdown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    pub(crate) fn set_state(&self, state: State) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    pub(crate) fn state(&self) -> State {
        State::from_u8(self.state.load(Ordering::Relaxed))
    }

    pub(crate) fn set_trouble(&self, trouble: Option<Trouble>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// The trouble there is, or was last.
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether this kind of trouble is what there is at present.
    pub(crate) fn is_in_trouble(&self, kind: TroubleKind) -> bool {
        self.trouble().is_some_and(|trouble| trouble.kind == kind)
    }

    pub(crate) fn set_partition(&self, status: PartitionStatus) {
        self.partitions.insert((status.topic.clone(), status.partition), status);
    }

    pub(crate) fn remove_partition(&self, topic: &Arc<str>, partition: i32) {
        self.partitions.remove(&(topic.clone(), partition));
        self.hot_keys.remove(&(topic.clone(), partition));
    }

    pub(crate) fn set_hot_keys(&self, topic: &Arc<str>, partition: i32, hot_keys: Arc<HotKeys>) {
        self.hot_keys.insert((topic.clone(), partition), hot_keys);
    }

    /// Of all partitions.
    pub(crate) fn hot_keys(&self) -> HotKeys {
        let mut all = HotKeys::default();
        self.hot_keys.iter().for_each(|entry| all.extend(entry.value()));
        all.sorted()
    }

    pub(crate) fn set_storm_guard_closed(&self, is_closed: bool) {
        self.storm_guard_closed.store(is_closed, Ordering::Relaxed);
    }

    pub(crate) fn status(&self) -> SubscriptionStatus {
        let mut partitions: Vec<_> = self.partitions.iter().map(|entry| entry.value().clone()).collect();
        let trouble = self.trouble().or_else(|| self.refusals.write_trouble());
        partitions.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        let storm_guard_closed = self.storm_guard_closed.load(Ordering::Relaxed);
        SubscriptionStatus { state: self.state(), trouble, storm_guard_closed, partitions }
    }

    /// The polling thread has ended.
    pub(crate) fn set_ended(&self) {
        self.ended.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Waits for the end. Cancel-safe, and any number may wait.
    pub(crate) async fn ended(&self) -> Result<(), SubscriptionError> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.ended.load(Ordering::Acquire) {
                let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
                return failure.clone().map_or(Ok(()), Err);
            }
            changed.await;
        }
    }
}
