//! What the handle, the owners and the polling thread share.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use keylane_core::{OutageGuard, PausedBy};
use tokio::sync::Notify;

use super::acts::ActTakers;
use super::control_feed::ControlFeed;
use super::error::SubscriptionError;
use super::given_up::GivenUpLog;
use super::hot_keys::HotKeys;
use super::outage::OutageWatch;
use super::places::{InFlight, Places};
use super::snapshot::{PartitionStatus, State, SubscriptionStatus};
use super::troubles::Troubles;
use crate::SubscriptionConfig;
use crate::support::lock::lock;

/// Topic and partition.
type Place = (Arc<str>, i32);

/// Shared by everything of one subscription. Written rarely; nothing on the way of a record.
#[derive(Debug)]
pub(crate) struct Control {
    shutdown_timeout: Duration,
    /// Ended by an error that leaves nothing to drain for.
    must_end: AtomicBool,
    state: AtomicU8,
    paused: AtomicBool,
    /// What the user paused of the assigned partitions.
    paused_partitions: Mutex<BTreeSet<Place>>,
    /// Looked at by every housekeeping; the set only where this is set.
    any_partition_paused: AtomicBool,
    shutdown: Mutex<Option<Instant>>,
    failure: Mutex<Option<SubscriptionError>>,
    pub(crate) troubles: Troubles,
    pub(crate) given_up: GivenUpLog,
    /// Where operators' acts go.
    pub(crate) acts: ActTakers,
    group: String,
    name: String,
    /// Present where there are brokers.
    pub(crate) config: Option<Arc<SubscriptionConfig>>,
    pub(crate) outages: Arc<OutageWatch>,
    /// Present where the attempts of all partitions together are limited.
    pub(crate) places: Option<Places>,
    /// Present where there is a control topic.
    pub(crate) feed: Option<Arc<ControlFeed>>,
    joined: AtomicBool,
    assigned: AtomicBool,
    began: Instant,
    /// When the polling thread last began a pass, since `began`.
    polled_millis: AtomicU64,
    /// Written by the polling thread, once a second each, and copied by any number of threads that
    /// ask. In shards: the one that polls waits for the copy of a few partitions at most, and not
    /// for that of thousands.
    partitions: DashMap<Place, PartitionStatus>,
    hot_keys: DashMap<Place, Arc<HotKeys>>,
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
            paused_partitions: Mutex::default(),
            any_partition_paused: AtomicBool::new(false),
            shutdown: Mutex::new(None),
            failure: Mutex::new(None),
            troubles: Troubles::default(),
            given_up: GivenUpLog::default(),
            acts: ActTakers::default(),
            group: String::new(),
            name: String::new(),
            config: None,
            outages: Arc::new(OutageWatch::new(OutageGuard::default())),
            places: None,
            feed: None,
            joined: AtomicBool::new(false),
            assigned: AtomicBool::new(false),
            began: Instant::now(),
            polled_millis: AtomicU64::new(0),
            partitions: DashMap::new(),
            hot_keys: DashMap::new(),
            ended: AtomicBool::new(false),
            changed: Notify::new(),
        }
    }

    /// Sets the name of the consumer group, for messages.
    pub(crate) fn of_group(mut self, group: &str) -> Self {
        group.clone_into(&mut self.group);
        self
    }

    /// Sets the name of the subscription in metrics and logs.
    pub(crate) fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Its settings, of a subscription that reads from brokers.
    pub(crate) fn with_brokers(mut self, config: &Arc<SubscriptionConfig>) -> Self {
        self.config = Some(config.clone());
        self
    }

    pub(crate) fn guarded_by(mut self, guard: OutageGuard) -> Self {
        self.outages = Arc::new(OutageWatch::new(guard));
        self
    }

    /// Limits the attempts of all partitions together.
    pub(crate) fn limited_to(mut self, max_in_flight: Option<usize>) -> Self {
        self.places = max_in_flight.map(Places::new);
        self
    }

    /// Steered by this control topic.
    pub(crate) fn steered_by(mut self, topic: Option<String>) -> Self {
        self.feed = topic.map(|topic| Arc::new(ControlFeed::new(&topic)));
        self
    }

    pub(crate) fn group(&self) -> &str {
        &self.group
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
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
        let text = error.to_string();
        let is_first = {
            let mut failure = lock(&self.failure);
            let is_first = failure.is_none();
            failure.get_or_insert(error);
            is_first
        };
        if is_first {
            tracing::error!(error = text, "the subscription ends");
        }
    }

    /// Whether a lock is held that others wait for.
    #[cfg(test)]
    pub(crate) fn is_locked(&self) -> bool {
        self.failure.try_lock().is_err() || self.outages.is_locked()
    }

    pub(crate) fn has_failed(&self) -> bool {
        lock(&self.failure).is_some()
    }

    pub(crate) fn must_end(&self) -> bool {
        self.must_end.load(Ordering::Acquire)
    }

    /// Requests a shutdown that drains until `deadline`; a later call can only bring the deadline
    /// forward.
    pub(crate) fn request_shutdown(&self, deadline: Instant) {
        let mut shutdown = lock(&self.shutdown);
        *shutdown = Some(shutdown.map_or(deadline, |earlier| earlier.min(deadline)));
    }

    pub(crate) fn shutdown_deadline(&self) -> Option<Instant> {
        *lock(&self.shutdown)
    }

    pub(crate) fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// Pauses or resumes one partition; `false` where it is not assigned.
    pub(crate) fn set_partition_paused(&self, topic: &str, partition: i32, paused: bool) -> bool {
        let place = (Arc::from(topic), partition);
        // Under the lock: what is given up meanwhile must not stay paused for its next time here.
        let mut all = self.paused_partitions();
        if !self.partitions.contains_key(&place) {
            return false;
        }
        if paused {
            all.insert(place);
        } else {
            all.remove(&place);
        }
        self.any_partition_paused
            .store(!all.is_empty(), Ordering::Relaxed);
        true
    }

    pub(crate) fn is_partition_paused(&self, topic: &Arc<str>, partition: i32) -> bool {
        self.any_partition_paused.load(Ordering::Relaxed)
            && self
                .paused_partitions()
                .contains(&(topic.clone(), partition))
    }

    fn paused_partitions(&self) -> MutexGuard<'_, BTreeSet<Place>> {
        lock(&self.paused_partitions)
    }

    /// The polling thread begins a pass.
    pub(crate) fn set_polled(&self, now: Instant) {
        let millis = now.saturating_duration_since(self.began).as_millis();
        self.polled_millis
            .store(u64::try_from(millis).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How long ago that was. A shutdown closes the client when its passes are over, so it counts
    /// from its deadline.
    fn polled_ago(&self) -> Duration {
        let polled = self.began + Duration::from_millis(self.polled_millis.load(Ordering::Relaxed));
        let latest = self
            .shutdown_deadline()
            .map_or(polled, |deadline| deadline.max(polled));
        Instant::now().saturating_duration_since(latest)
    }

    /// Whether the group has given an assignment at least once.
    pub(crate) fn has_joined(&self) -> bool {
        self.joined.load(Ordering::Acquire)
    }

    pub(crate) fn is_assigned(&self) -> bool {
        self.assigned.load(Ordering::Relaxed)
    }

    /// The group has given an assignment, which may be empty, or has taken all of it away.
    pub(crate) fn set_assigned(&self, assigned: bool) {
        self.assigned.store(assigned, Ordering::Relaxed);
        // Released: the partitions were shown before.
        if assigned && !self.joined.swap(true, Ordering::Release) {
            self.wake();
        }
    }

    pub(crate) fn set_state(&self, state: State) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    pub(crate) fn state(&self) -> State {
        State::from_u8(self.state.load(Ordering::Relaxed))
    }

    pub(crate) fn set_partition(&self, status: PartitionStatus) {
        self.partitions
            .insert((status.topic.clone(), status.partition), status);
    }

    pub(crate) fn remove_partition(&self, topic: &Arc<str>, partition: i32) {
        let place = (topic.clone(), partition);
        let mut paused = self.paused_partitions();
        self.partitions.remove(&place);
        self.hot_keys.remove(&place);
        if paused.remove(&place) {
            tracing::warn!(
                topic = &**topic,
                partition,
                "a partition that was paused is given up; its next owner, this member too, does not pause it"
            );
        }
        self.any_partition_paused
            .store(!paused.is_empty(), Ordering::Relaxed);
    }

    pub(crate) fn set_hot_keys(&self, topic: &Arc<str>, partition: i32, hot_keys: Arc<HotKeys>) {
        self.hot_keys.insert((topic.clone(), partition), hot_keys);
    }

    /// The hot keys of all partitions.
    pub(crate) fn hot_keys(&self) -> HotKeys {
        let mut all = HotKeys::default();
        self.hot_keys
            .iter()
            .for_each(|entry| all.extend(entry.value()));
        all.sorted()
    }

    pub(crate) fn in_flight(&self) -> Option<InFlight> {
        self.places.as_ref().map(Places::in_flight)
    }

    pub(crate) fn status(&self) -> SubscriptionStatus {
        let mut partitions: Vec<_> = self
            .partitions
            .iter()
            .map(|entry| entry.value().clone())
            .collect();
        partitions.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        let troubles = self.troubles.lasting();
        let takes_in_no_more = partitions
            .iter()
            .any(|partition| partition.paused_by.is_some_and(PausedBy::is_limit));
        SubscriptionStatus {
            state: self.state(),
            joined: self.has_joined(),
            assigned: self.is_assigned(),
            polled_ago: self.polled_ago(),
            outage: self.outages.status(takes_in_no_more),
            in_flight: self.in_flight(),
            control: self.feed.as_ref().map(|feed| feed.status()),
            trouble: troubles.first().cloned(),
            troubles,
            partitions,
        }
    }

    /// The polling thread has ended.
    pub(crate) fn set_ended(&self) {
        self.ended.store(true, Ordering::Release);
        self.wake();
    }

    /// What [`until`](Self::until) waits for may be there: the end, an assignment, a trouble.
    pub(crate) fn wake(&self) {
        self.changed.notify_waiters();
    }

    /// Whether the polling thread has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Waits for the end. Cancel-safe, and any number may wait.
    pub(crate) async fn ended(&self) -> Result<(), SubscriptionError> {
        self.until(Self::has_ended).await;
        let failure = lock(&self.failure);
        failure.clone().map_or(Ok(()), Err)
    }

    /// Waits until the condition holds; looks after each [`wake`](Self::wake). Cancel-safe.
    pub(crate) async fn until(&self, is_so: impl Fn(&Self) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if is_so(self) {
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_paused_only_while_it_is_assigned() {
        let control = Control::new(Duration::ZERO);
        let topic: Arc<str> = "tasks".into();
        assert!(!control.set_partition_paused("tasks", 1, true));
        assert!(!control.is_partition_paused(&topic, 1));

        control.set_partition(PartitionStatus::new("tasks", 1));
        assert!(control.set_partition_paused("tasks", 1, true));
        assert!(control.is_partition_paused(&topic, 1) && !control.is_partition_paused(&topic, 0));
        assert!(control.set_partition_paused("tasks", 1, false));
        assert!(!control.is_partition_paused(&topic, 1));

        control.set_partition_paused("tasks", 1, true);
        control.remove_partition(&topic, 1);
        control.set_partition(PartitionStatus::new("tasks", 1));
        assert!(
            !control.is_partition_paused(&topic, 1),
            "a later assignment begins without old figures"
        );
    }

    #[test]
    fn closing_counts_as_polling_until_the_deadline_of_the_shutdown() {
        let control = Control {
            began: Instant::now() - Duration::from_secs(100),
            ..Control::new(Duration::ZERO)
        };
        assert!(control.status().polled_ago >= Duration::from_secs(100));
        control.request_shutdown(Instant::now() + Duration::from_secs(600));
        assert_eq!(control.status().polled_ago, Duration::ZERO);
    }

    #[test]
    fn who_was_assigned_once_has_joined_also_when_the_assignment_is_lost() {
        let control = Control::new(Duration::ZERO);
        assert!(!control.status().joined);
        control.set_assigned(true);
        control.set_assigned(false);
        assert!(control.status().joined && !control.status().assigned);
    }
}
