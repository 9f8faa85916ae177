//! The polling thread.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use keylane_core::Look;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::assignment::Assignment;
use super::commit_queue::CommitQueue;
use super::commits::Commits;
use super::context::{Context, GroupEvent};
use super::end_offsets::{Answers, EndOffsets, Question};
use super::fetcher_wakeup::FetcherWakeup;
use super::handover::Handover;
use super::identities::Identities;
use super::intake::Intake;
use super::reader::{Misplaced, READ_LIMIT, Reader};
use super::{lag, native, trouble};
use crate::metrics::{DrainResult, PollMetrics, PollSection, Rebalance, SubscriptionMetrics};
use crate::runtime::Opening;
use crate::subscription::{Control, State, SubscriptionError, TroubleKind};
use crate::{Limits, Watchdog};

/// Opens the owner of a partition; hides the types of decoder and processor.
pub(crate) type OwnerFactory = Box<dyn Fn(Opening) + Send>;

/// How often pauses, commit points and orders are looked at: often enough that nobody waits for it, seldom enough that a
/// thousand idle partitions cost little.
const HOUSEKEEPING: Duration = Duration::from_millis(5);
/// The longest wait for a message. Bounds how long an order of the handle waits.
const IDLE_WAIT: Duration = Duration::from_millis(50);
/// The same while owners drain: their end is not signalled, and a drain keeps every partition waiting. And while the broker's
/// word is waited for: it is not signalled either.
const DRAIN_WAIT: Duration = Duration::from_millis(2);
const SLOW_HOUSEKEEPING: Duration = Duration::from_secs(1);
/// Metrics that nobody touches fade away.
const TOUCH: Duration = Duration::from_secs(10);

/// What the loop needs to know of the settings.
pub(crate) struct PollSettings {
    pub(crate) subscription: Arc<str>,
    pub(crate) topics: Vec<Arc<str>>,
    pub(crate) retry_topic: Option<Arc<str>>,
    pub(crate) limits: Limits,
    pub(crate) drain_timeout: Duration,
    pub(crate) watchdog: Watchdog,
    /// `auto.offset.reset=error`.
    pub(crate) reset_is_error: bool,
    /// `group.protocol=consumer`.
    pub(crate) broker_assigns: bool,
}

impl PollSettings {
    /// One shared copy of each topic name.
    pub(super) fn intern(&self, topic: &str) -> Arc<str> {
        let known = self.topics.iter().chain(&self.retry_topic).find(|known| &***known == topic);
        known.cloned().unwrap_or_else(|| topic.into())
    }
}

/// Everything the polling thread owns.
pub(crate) struct PollLoop {
    /// Before the consumer, as `commits`, `handover`, `identities` and `wakeup`: their queues have to go first.
    pub(super) reader: Reader,
    identities: Identities,
    wakeup: FetcherWakeup,
    pub(super) commits: Commits,
    pub(super) handover: Option<Handover>,
    pub(super) consumer: BaseConsumer<Context>,
    pub(super) control: Arc<Control>,
    pub(super) metrics: Arc<SubscriptionMetrics>,
    poll_metrics: PollMetrics,
    settings: Arc<PollSettings>,
    pub(super) assignment: Assignment,
    intake: Intake,
    end_offsets: EndOffsets,
    pub(super) draining: bool,
    pub(super) commit_again_at: Option<Instant>,
    /// The subscription's pause, as the state shows it and new owners are told.
    was_paused: bool,
    last_housekeeping: Instant,
    taken_since_housekeeping: usize,
    last_slow_housekeeping: Instant,
    last_touch: Instant,
}

impl PollLoop {
    pub(crate) fn new(
        (reader, commit_queue, consumer): (Reader, CommitQueue, BaseConsumer<Context>),
        control: Arc<Control>,
        metrics: Arc<SubscriptionMetrics>,
        settings: PollSettings,
        side_config: ClientConfig,
        open: OwnerFactory,
    ) -> Self {
        let settings = Arc::new(settings);
        Self {
            reader,
            identities: Identities::default(),
            wakeup: FetcherWakeup::new(&consumer),
            commits: Commits::new(commit_queue),
            handover: None,
            consumer,
            control,
            assignment: Assignment::new(settings.clone(), open),
            poll_metrics: PollMetrics::new(&settings.subscription),
            metrics,
            settings,
            intake: Intake::default(),
            end_offsets: EndOffsets::new(side_config),
            draining: false,
            commit_again_at: None,
            was_paused: false,
            last_housekeeping: Instant::now(),
            taken_since_housekeeping: 0,
            last_slow_housekeeping: Instant::now(),
            last_touch: Instant::now(),
        }
    }

    /// Runs until a shutdown or a failure, then closes the consumer.
    pub(crate) fn run(mut self) {
        while !self.control.must_end() {
            if self.control.shutdown_deadline().is_some_and(|deadline| self.is_ready_to_close(deadline)) {
                break;
            }
            self.pass();
        }
        self.close();
    }

    /// One pass: read, hand over, look after everything else.
    fn pass(&mut self) {
        let urgent = self.draining || self.handover.is_some() || self.commits.are_urgent(&self.assignment.partitions);
        let wait = if urgent { DRAIN_WAIT } else { IDLE_WAIT };
        let entered = Instant::now();
        self.control.set_polled(entered);
        let (intake, table) = (&mut self.intake, &mut self.assignment.partitions);
        let read = self.reader.read(&self.consumer, wait, |message| intake.take(table, message));
        let began = Instant::now();
        self.note_reading(began - entered, read.waited);
        // Before a new epoch's start is looked for: that one counts, and of two seeks the last.
        for misplaced in &read.misplaced {
            self.assignment.put_back(&self.consumer, misplaced);
        }
        if read.taken > 0 {
            self.reopen_rewound();
            let mut sign = trouble::Sign::Delivery;
            for partition in &mut self.assignment.partitions {
                if !partition.batch.is_empty() && self.control.refusals.readable(&partition.topic, partition.partition)
                {
                    sign = trouble::Sign::Readable;
                }
                partition.hand_over();
            }
            trouble::healthy(&self.control, trouble::Sign::Delivery);
            if sign == trouble::Sign::Readable {
                trouble::healthy(&self.control, sign);
            }
            self.poll_metrics.section(PollSection::HandOver, began.elapsed());
        }
        if let Some(error) = read.error {
            self.note(&error, &read.misplaced);
        }
        self.look_after_group();
        self.look_after_lease();
        self.taken_since_housekeeping += read.taken;
        if self.taken_since_housekeeping >= READ_LIMIT || self.last_housekeeping.elapsed() >= HOUSEKEEPING {
            self.housekeeping();
        }
    }

    /// Where the time of a read went. Rebalances are answered inside the client, in the middle of it.
    fn note_reading(&mut self, took: Duration, waited: Duration) {
        let rebalance = self.consumer.context().take_rebalance_time();
        let reading = took.saturating_sub(waited).saturating_sub(rebalance);
        let waited = took.saturating_sub(reading).saturating_sub(rebalance);
        for (section, time) in
            [(PollSection::Wait, waited), (PollSection::Read, reading), (PollSection::Rebalance, rebalance)]
        {
            if !time.is_zero() {
                self.poll_metrics.section(section, time);
            }
        }
    }

    /// Takes part in rebalances.
    fn look_after_group(&mut self) {
        let events = self.consumer.context().take_events();
        if events.is_empty() && self.handover.is_none() {
            return;
        }
        let began = Instant::now();
        for event in events {
            self.group_event(event);
        }
        self.advance_handover();
        self.poll_metrics.section(PollSection::Rebalance, began.elapsed());
    }

    /// Where the process has stood still nothing starts until the group has answered for this member.
    fn look_after_lease(&mut self) {
        match self.consumer.context().lease().look() {
            Look::Good => return,
            Look::DoubtBegins => {
                tracing::warn!(
                    "the process stood still for a second or more (stopped, suspended, starved of CPU); nothing new \
                     starts until the group confirms that it still is a member"
                );
                self.commits.ask_for_proof();
                return;
            }
            Look::Doubtful if !self.commits.take_proof() => return,
            Look::Doubtful => {
                self.consumer.context().lease().confirm();
                tracing::info!("the group has confirmed the membership, or taken it away; going on");
            }
            Look::GaveUp => {
                self.commits.forget_proof();
                tracing::warn!("the group does not confirm the membership (the brokers are away?); going on without");
            }
        }
        for partition in &self.assignment.partitions {
            partition.inbox.order(|orders| orders.confirmed += 1);
        }
    }

    fn reopen_rewound(&mut self) {
        // An epoch that nobody ordered to drain would be waited for until the deadline. The next owner sees the same.
        if self.draining {
            return;
        }
        match self.assignment.reopen_rewound(&self.consumer, self.was_paused) {
            Ok(false) => {}
            Ok(true) => {
                self.intake.table_changed();
                self.identities.hurry();
            }
            // Reading on would pass over records.
            Err(error) => self.control.fail(SubscriptionError::OffsetReset(error.to_string())),
        }
    }

    fn group_event(&mut self, event: GroupEvent) {
        self.intake.table_changed();
        match event {
            GroupEvent::Assigned { partitions, membership } => {
                // Before the new ones are opened: those that stay wait already.
                self.wake_fetchers();
                self.assignment.membership = membership.map(Into::into);
                self.control.set_assigned(true);
                self.metrics.rebalance(Rebalance::Assign);
                self.control.refusals.forget_unreadable();
                trouble::healthy(&self.control, trouble::Sign::Assignment);
                for mut new in partitions {
                    if new.left.is_some() && self.settings.reset_is_error {
                        return self.control.fail(made_anew(&new.topic));
                    }
                    new.log = new.log.or_else(|| self.identities.known(&new.topic));
                    self.assignment.open(new, self.was_paused);
                }
                if self.draining {
                    // Assigned while shutting down: nothing of it starts.
                    self.order_drain(self.control.shutdown_deadline().unwrap_or_else(Instant::now));
                }
            }
            GroupEvent::Revoked { partitions, lost, answered } => {
                let event = if lost { Rebalance::Lost } else { Rebalance::Revoke };
                self.metrics.rebalance(event);
                if self.consumer.context().is_eager() {
                    self.control.set_assigned(false);
                }
                if answered {
                    if lost {
                        tracing::warn!(
                            partitions = partitions.len(),
                            "the group has given this member's partitions away; what runs there is dropped"
                        );
                    }
                    if let Some(cut_short) = self.handover.take().filter(|_| lost) {
                        self.metrics.drained(DrainResult::Lost, cut_short.lasting());
                    }
                    for (topic, partition) in &partitions {
                        self.assignment.close_now(topic, *partition);
                        self.control.remove_partition(&self.settings.intern(topic), *partition);
                    }
                    // Of a topic that was deleted only its own partitions are lost.
                    if lost && self.assignment.partitions.is_empty() {
                        self.control.set_assigned(false);
                    }
                } else {
                    let deadline = Instant::now() + self.settings.drain_timeout;
                    self.handover = Some(Handover::begin(&mut self.assignment, partitions, deadline));
                }
            }
            GroupEvent::Failed(error) => self.control.fail(SubscriptionError::Fatal(error)),
        }
        self.show_state();
    }

    fn advance_handover(&mut self) {
        let Some(mut handover) = self.handover.take() else { return };
        if let Some(deadline) = self.control.shutdown_deadline() {
            handover.hurry(&mut self.assignment, deadline);
        }
        if !handover.is_ready(&self.consumer, &mut self.assignment, &mut self.commits) {
            self.handover = Some(handover);
            return;
        }
        let finished = handover.finish(&self.consumer, &mut self.assignment, &mut self.commits);
        self.wake_fetchers();
        self.intake.table_changed();
        for (topic, partition) in &finished.partitions {
            self.control.remove_partition(&self.settings.intern(topic), *partition);
        }
        self.metrics
            .drained(if finished.dropped { DrainResult::Deadline } else { DrainResult::Drained }, finished.took);
        self.metrics.set_assigned_partitions(self.assignment.partitions.len());
        tracing::info!(took = ?finished.took, handed_back = finished.handed_back, dropped = finished.dropped, "partitions given back");
        if let Some(error) = finished.error {
            self.control.fail(SubscriptionError::Fatal(error.to_string()));
        }
        self.show_state();
    }

    /// After the answer to a rebalance: those that stay read on at once.
    fn wake_fetchers(&self) {
        if !self.draining {
            let reading = self.assignment.partitions.iter().filter(|partition| !partition.fetch_paused);
            self.wakeup.wake(&self.consumer, reading.map(|partition| (&*partition.topic, partition.partition)));
        }
    }

    fn housekeeping(&mut self) {
        self.last_housekeeping = Instant::now();
        self.taken_since_housekeeping = 0;
        let paused = self.control.is_paused();
        if paused != self.was_paused {
            self.was_paused = paused;
            self.show_state();
        }
        for partition in &mut self.assignment.partitions {
            partition.set_held(paused || self.control.is_partition_paused(&partition.topic, partition.partition));
        }
        let began = Instant::now();
        if self.handover.is_none() {
            let resumed = self.assignment.update_pauses(&self.consumer, self.draining);
            let resumed = resumed.into_iter().map(|place| &self.assignment.partitions[place]);
            self.wakeup.wake(&self.consumer, resumed.map(|partition| (&*partition.topic, partition.partition)));
        }
        let paused_at = Instant::now();
        self.poll_metrics.section(PollSection::Pause, paused_at - began);
        self.commits.store(&self.consumer, &mut self.assignment.partitions, self.handover.is_some());
        self.commits.mark(&self.consumer, &mut self.assignment.partitions);
        self.poll_metrics.section(PollSection::Commit, paused_at.elapsed());
        self.reopen_anew();
        self.watch_owners();
        if self.last_slow_housekeeping.elapsed() >= SLOW_HOUSEKEEPING {
            self.last_slow_housekeeping = Instant::now();
            self.look_at_membership();
            self.look_at_identities();
            self.ask_end_offsets();
            lag::update(&self.consumer, &mut self.assignment.partitions, &self.control, &self.settings.watchdog);
            self.metrics.set_assigned_partitions(self.assignment.partitions.len());
            self.tell_storm_guard();
            self.poll_metrics.set_last_poll(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
            if self.last_touch.elapsed() >= TOUCH {
                self.last_touch = Instant::now();
                self.metrics.touch();
                self.poll_metrics.touch();
            }
            self.poll_metrics.flush();
        }
    }

    fn tell_storm_guard(&self) {
        let is_closed = self.control.storm_guard.lock().unwrap_or_else(PoisonError::into_inner).is_closed();
        self.metrics.set_storm_guard_closed(is_closed);
    }

    /// Where the broker assigns, a member that gets nothing hears of no rebalance, neither at first nor after it has lost what
    /// it had: that it has an epoch has to do. One that was thrown out has none until it is a member again.
    fn look_at_membership(&mut self) {
        if self.control.is_assigned() || !self.settings.broker_assigns {
            return;
        }
        let membership = native::membership(&self.consumer);
        let epoch = membership.as_deref().and_then(|it| it.split_once('/')?.0.parse::<i32>().ok());
        if epoch.is_some_and(|epoch| epoch > 0) {
            self.control.set_assigned(true);
            self.show_state();
        }
    }

    /// Looks whether the topics are still the ones that are read.
    fn look_at_identities(&mut self) {
        let answer = self.identities.take();
        if answer.is_some() {
            self.consumer.context().set_ids_told(true);
        }
        let logs = answer.unwrap_or_default();
        let deadline = Instant::now() + self.settings.drain_timeout;
        if !self.draining && self.assignment.compare_logs(&logs, deadline) && self.settings.reset_is_error {
            let topic = self.assignment.partitions.iter().find(|p| p.anew.is_some()).map(|p| p.topic.clone());
            self.control.fail(made_anew(&topic.unwrap_or_default()));
        }
        let doubtful = self.assignment.partitions.iter().any(|p| p.identity.is_doubtful());
        let topics = self.assignment.partitions.iter().map(|p| &*p.topic);
        self.identities.ask(&self.consumer, topics, doubtful);
    }

    fn reopen_anew(&mut self) {
        if self.draining {
            return;
        }
        match self.assignment.reopen_anew(&self.consumer, self.was_paused) {
            Ok(false) => {}
            Ok(true) => self.intake.table_changed(),
            Err(error) => self.control.fail(SubscriptionError::OffsetReset(error.to_string())),
        }
    }

    /// Keeps lag true for partitions that do not fetch, and looks whether the brokers are back.
    fn ask_end_offsets(&mut self) {
        let Answers { ends, topics } = self.end_offsets.take();
        if !ends.is_empty() || !topics.is_empty() {
            trouble::healthy(&self.control, trouble::Sign::Answer);
        }
        if let Some((missing, _)) = topics.iter().find(|(_, is_there)| !**is_there) {
            let message = format!("the topic {missing} is gone; it is read again when it is made anew");
            trouble::note(&self.control, &self.metrics, Some(RDKafkaErrorCode::UnknownTopic), &message);
        } else if !topics.is_empty() {
            trouble::healthy(&self.control, trouble::Sign::Topics);
        }
        for ((topic, partition), end) in ends {
            if let Some(assigned) = self.assignment.find(&topic, partition) {
                assigned.end_offset = Some(end);
            }
        }
        let mut ask: Vec<_> = (self.assignment.partitions.iter())
            .filter(|p| p.fetch_paused)
            .map(|p| (p.topic.clone(), p.partition))
            .collect();
        // On a quiet topic nothing else would tell that the brokers are back.
        let away = [TroubleKind::Connection, TroubleKind::Authentication];
        if ask.is_empty() && away.iter().any(|kind| self.control.is_in_trouble(*kind)) {
            ask.extend(self.assignment.partitions.first().map(|p| (p.topic.clone(), p.partition)));
        }
        self.end_offsets.ask(Question { ends: ask, topics: self.doubtful_topics() });
    }

    /// Subscribed topics that may be gone: this member has nothing of them (there may just be more members than partitions).
    /// Once one was missing, all: nothing else would tell for certain that it is back.
    fn doubtful_topics(&self) -> Vec<Arc<str>> {
        if !self.control.has_joined() || self.draining || self.handover.is_some() {
            return Vec::new();
        }
        let was_missing = self.control.is_in_trouble(TroubleKind::MissingTopic);
        let subscribed = self.settings.topics.iter().chain(&self.settings.retry_topic);
        let has_none = |topic: &Arc<str>| self.assignment.partitions.iter().all(|p| p.topic != *topic);
        subscribed.filter(|topic| was_missing || has_none(topic)).cloned().collect()
    }

    /// An owner ends only on order. One that ended otherwise has panicked, or was dropped with its runtime, and its partition
    /// would stand still unnoticed.
    fn watch_owners(&self) {
        if self.draining {
            return;
        }
        if let Some(dead) = self.assignment.partitions.iter().find(|p| !p.revoking && p.anew.is_none() && p.has_ended())
        {
            let error = format!(
                "the owner of {}-{} ended: the tokio runtime was shut down before the subscription, or it panicked (see the panic message)",
                dead.topic, dead.partition
            );
            self.control.fail(SubscriptionError::Internal(error));
        }
    }

    /// Errors are either the end or passing trouble.
    fn note(&mut self, error: &KafkaError, places: &[Misplaced]) {
        match error {
            KafkaError::MessageConsumptionFatal(code) => {
                let grant = trouble::grant(&self.control, Some(*code));
                self.control.fail(SubscriptionError::Fatal(error.to_string() + &grant));
            }
            KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset) => {
                self.control.fail(SubscriptionError::OffsetReset(error.to_string()));
            }
            _ => {
                let code = error.rdkafka_error_code();
                if code.is_some_and(trouble::is_missing_topic) {
                    self.identities.hurry();
                }
                match code {
                    Some(code) if !places.is_empty() => {
                        for Misplaced { topic, partition, .. } in places {
                            trouble::note_unreadable(&self.control, &self.metrics, code, topic, *partition);
                        }
                    }
                    code => trouble::note(&self.control, &self.metrics, code, &error.to_string()),
                }
            }
        }
    }

    pub(super) fn show_state(&self) {
        let state = if self.draining {
            State::Draining
        } else if self.handover.is_some() {
            State::Rebalancing
        } else if self.control.is_paused() {
            State::Paused
        } else if self.control.has_joined() {
            State::Running
        } else {
            State::Starting
        };
        self.set_state(state);
    }

    pub(super) fn set_state(&self, state: State) {
        self.control.set_state(state);
        self.metrics.set_state(state.metric());
    }
}

/// With `auto.offset.reset=error` no position is made up, here neither.
fn made_anew(topic: &str) -> SubscriptionError {
    SubscriptionError::OffsetReset(format!(
        "the topic {topic} was deleted and made anew, and what was committed is about the old one; \
         reset the group's offsets to where reading is to go on"
    ))
}
