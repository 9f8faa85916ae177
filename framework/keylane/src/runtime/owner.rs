//! The owner's loop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use keylane_core::member::CommitPoint;
use keylane_core::{
    Caution, Epoch, Evidence, LeaderEpoch, Mark, Moment, Offset, Partition, Paused, Position,
    SettledMap, Ticket,
};
use tokio::task::AbortHandle;

use super::attempts::{
    AttemptOutcome, Call, FirstPoll, Pending, PolledIn, SpawnPolicy, attempt, run_spawned,
};
use super::crash_care::{Busy, TurnPermit, instance};
use super::epoch;
use super::figures::Figures;
use super::foreign::Foreign;
use super::guarded::{self, guarded};
use super::hot_keys::KeyCounts;
use super::inbox::{Finished, Inbox, Mail};
use super::progress::Progress;
use super::shared::{OwnersWork, Runtime, Work};
use crate::dead_letter::FailureHistory;
use crate::metrics::{PartitionMetrics, UnreadableMetadata};
use crate::processing::{EpochGuard, EpochLife, Source};
use crate::status::OwnerFigures;
use crate::support::LogLimit;
use crate::support::clock;
use crate::{Decode, Processor, Record};

/// After so many attempts in a row an owner lets the others of its thread have a turn.
const ATTEMPTS_PER_TURN: usize = 256;
/// So many records a turn become pending. What a backlog of thousands would touch at once does not
/// stay in the caches: as long as attempts end as fast as they start, few records are pending at a
/// time.
const RECORDS_PER_TURN: usize = ATTEMPTS_PER_TURN;
/// The same in time, for attempts that compute.
const TIME_PER_TURN: Duration = Duration::from_millis(1);
/// An owner that has nothing to do looks up so often all the same: the age of what it holds grows
/// while it sleeps, and metrics that nobody touches fade away.
const BUSY_LOOK: Duration = Duration::from_secs(1);
const IDLE_LOOK: Duration = Duration::from_secs(10);

/// A failed attempt of a partition is a warning so often at most; the others are at debug level. In
/// an outage there are thousands.
const FAILED_ATTEMPTS_EVERY: Duration = Duration::from_secs(30);

/// What an owner starts from.
pub(crate) struct Opening {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    pub(crate) epoch: Epoch,
    pub(crate) is_retry_topic: bool,
    /// The committed position, where there is one.
    pub(crate) start: Option<Position>,
    /// The leader epoch that was committed with it.
    pub(crate) start_under: Option<LeaderEpoch>,
    /// What earlier owners settled above it.
    pub(crate) settled: SettledMap,
    /// The highest leader epoch that they had read of what that names.
    pub(crate) leader_epoch: Option<LeaderEpoch>,
    /// How they ended, as [`Evidence::at_start`] sees it.
    pub(crate) evidence: Evidence,
    pub(crate) metrics: PartitionMetrics,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) progress: Arc<Progress>,
    /// The assignment, as dead letters name it.
    pub(crate) membership: Option<Arc<str>>,
    /// Earlier epochs of this partition in this process, whose attempts may not have ended yet.
    pub(crate) predecessors: Vec<Arc<EpochLife>>,
}

/// Spawns the owner of one partition for one epoch.
pub(crate) fn open<T: Send + 'static, D: Decode<T>, P: Processor<T>>(
    tokio: &tokio::runtime::Handle,
    runtime: Arc<Runtime>,
    work: Arc<Work<D, P>>,
    mut opening: Opening,
) {
    let predecessors = std::mem::take(&mut opening.predecessors);
    let (control, place) = (
        runtime.control.clone(),
        (opening.topic.clone(), opening.partition),
    );
    if !predecessors.is_empty() {
        let wait = epoch::wait(
            predecessors,
            place.0.clone(),
            place.1,
            opening.inbox.clone(),
        );
        guarded::spawn(tokio, control.clone(), place.clone(), wait);
    }
    // In a box: a future that takes it by value would have room for it twice.
    let mut owner = Box::new(Owner::new(runtime, opening));
    let work = Arc::new(OwnersWork(work));
    let begin = move |call| attempt::<T, D, P>(work.clone(), call);
    tokio.spawn(async move {
        // The owner is dropped after the error is told: to have ended without an order is an error
        // of its own.
        guarded(
            &control,
            || format!("the owner of {}-{}", place.0, place.1),
            owner.run(begin),
        )
        .await;
    });
}

/// A record while it is pending.
pub(super) struct Held {
    pub(super) record: Record,
    /// Present once an attempt has failed.
    pub(super) failure: Option<Box<FailureHistory>>,
}

pub(super) struct Owner {
    pub(super) runtime: Arc<Runtime>,
    pub(super) topic: Arc<str>,
    pub(super) partition_id: i32,
    pub(super) core: Partition<Held>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) progress: Arc<Progress>,
    pub(super) metrics: PartitionMetrics,
    pub(super) mail: Mail,
    /// Held while what is suspicious runs; asked for before.
    pub(super) turn: Option<TurnPermit>,
    pub(super) asked_for_turn: bool,
    /// Held while a healthy partition runs something.
    pub(super) busy: Option<Busy>,
    pub(super) waits_for_trial: bool,
    /// What the logs say.
    pub(super) told_caution: Caution,
    pub(super) told_suspect: Option<Offset>,
    last_mark: Option<Mark>,
    policy: SpawnPolicy,
    /// Tasks of attempts in flight, by slot: what is dropped when the epoch ends.
    tasks: Vec<Option<AbortHandle>>,
    /// What tasks say of where they come from.
    source: Arc<Source>,
    pub(super) membership: Option<Arc<str>>,
    pub(super) released_records: u64,
    pub(super) released_bytes: u64,
    last_point: Option<CommitPoint>,
    last_point_state: PointState,
    last_point_at: Instant,
    last_touch: Instant,
    pub(super) figures: Figures,
    pub(super) key_counts: KeyCounts,
    /// In the log.
    pub(super) failed_attempts: LogLimit,
    pub(super) foreign: Foreign,
    _guard: EpochGuard,
}

/// What a commit point says, as far as it takes to see a change: the watermark, the settled-ahead
/// count, the evidence.
type PointState = (Option<Position>, usize, u64);

impl Drop for Owner {
    fn drop(&mut self) {
        // Also where the owner itself was dropped, by a panic or with its runtime.
        let runtime = self.runtime.clone();
        self.core.leave_guard(&mut runtime.guard());
        self.inbox.life().set_over();
        self.inbox.give_back_turn();
        self.forget_held();
        for task in self.tasks.drain(..).flatten() {
            task.abort();
        }
        // Whoever waits for it must not wait for ever.
        self.progress
            .ended
            .store(true, std::sync::atomic::Ordering::Release);
    }
}

impl Owner {
    fn new(runtime: Arc<Runtime>, opening: Opening) -> Self {
        let settings = if opening.is_retry_topic {
            &runtime.retry_settings
        } else {
            &runtime.origin_settings
        };
        let mut core = Partition::with_evidence(
            settings.clone(),
            opening.epoch,
            opening.start,
            opening.settled,
            instance(),
            opening.evidence,
        );
        core.inherit_leader_epoch(opening.leader_epoch);
        core.start_under(opening.start_under);
        let last_point_state = point_state(&core);
        let told_caution = core.caution();
        // Before the first turn: how the first records are read depends on the caution.
        opening.progress.publish(OwnerFigures {
            snapshot: core.snapshot(),
            ..OwnerFigures::default()
        });
        let life = opening.inbox.life().clone();
        Self {
            _guard: life.enter(),
            source: Arc::new(Source {
                topic: opening.topic.clone(),
                partition: opening.partition,
                life,
            }),
            membership: opening.membership,
            topic: opening.topic,
            partition_id: opening.partition,
            core,
            inbox: opening.inbox,
            progress: opening.progress,
            metrics: opening.metrics,
            mail: Mail::default(),
            turn: None,
            asked_for_turn: false,
            busy: None,
            waits_for_trial: false,
            told_caution,
            told_suspect: None,
            last_mark: None,
            policy: SpawnPolicy::default(),
            tasks: Vec::new(),
            released_records: 0,
            released_bytes: 0,
            last_point: None,
            last_point_state,
            last_point_at: clock::now(),
            last_touch: clock::now(),
            figures: Figures::default(),
            key_counts: KeyCounts::default(),
            failed_attempts: LogLimit::every(FAILED_ATTEMPTS_EVERY),
            foreign: Foreign::new(&runtime, opening.is_retry_topic),
            runtime,
        }
    }

    async fn run<F: Future<Output = AttemptOutcome> + Send + 'static>(
        &mut self,
        begin: impl Fn(Call) -> F,
    ) {
        let mut place = FirstPoll::new();
        loop {
            #[cfg(test)]
            crate::support::panics::planted::step("owner", &self.topic);
            self.progress.turn();
            self.inbox.clone().take(&mut self.mail);
            let now = self.absorb();
            self.core.tick(now);
            self.watch(now);
            self.look_after_turn();
            let more = (self.may_start() && self.start_ready(&mut place, &begin))
                || !self.mail.records.is_empty();
            self.look_after_turn();
            self.look_after_quiet();
            self.report_caution();
            self.publish_ready();
            let ends = self.mail.orders.end || (self.mail.orders.drain && self.core.is_drained());
            if ends {
                self.core.end();
            }
            self.report(ends);
            if ends {
                return self.end();
            }
            if more {
                tokio::task::yield_now().await;
            } else {
                self.wait().await;
            }
        }
    }

    /// Takes in everything that has arrived.
    fn absorb(&mut self) -> Moment {
        let now = self.runtime.moment(clock::now());
        let orders = self.mail.orders;
        let paused = orders.pause > 0 || orders.waits_for_predecessors;
        self.core
            .set_paused(if paused { Paused::Yes } else { Paused::No });
        if orders.drain || orders.end {
            self.core.drain();
        }
        if orders.shutdown {
            self.core.end();
        }
        self.core.set_log(orders.log);
        self.core.mark_confirmed(Mark::new(orders.marked));
        if let Some(end) = orders.log_end {
            self.core.log_ends_at(Position::new(end));
        }
        let mut finished = std::mem::take(&mut self.mail.finished);
        for Finished {
            ticket,
            outcome,
            elapsed,
            busy,
        } in finished.drain(..)
        {
            self.forget_task(ticket);
            if let Some(busy) = busy {
                self.policy.observe(busy);
            }
            let outcome = outcome.unwrap_or_else(|| self.outcome_of_dropped(ticket, elapsed));
            self.metrics.attempt(outcome.label(), elapsed);
            self.count_attempt(ticket, elapsed);
            self.settle_attempt(ticket, outcome, now);
        }
        self.mail.finished = finished;
        let mut written = std::mem::take(&mut self.mail.written);
        for answer in written.drain(..) {
            self.settle_written(answer, now);
        }
        self.mail.written = written;
        for _ in 0..RECORDS_PER_TURN {
            let Some(record) = self.mail.records.pop_front() else {
                break;
            };
            while let Some(&(first, epoch)) = self
                .mail
                .leaders
                .front()
                .filter(|(first, _)| *first <= record.offset())
            {
                self.mail.leaders.pop_front();
                self.read_under(epoch, first);
            }
            self.deliver(record, now);
        }
        self.look_after_held(now);
        now
    }

    /// From this record on another leader's epoch holds.
    fn read_under(&mut self, epoch: LeaderEpoch, first: i64) {
        // Of one that was cut below the position the polling thread has told.
        let is_ahead = self
            .core
            .next_position()
            .is_none_or(|next| next.covers(Offset::new(first)));
        if self.core.read_under(epoch, Offset::new(first)) {
            self.metrics
                .commit_metadata_unreadable(UnreadableMetadata::LogCut);
            if is_ahead {
                self.metrics.log_cut();
            }
            tracing::warn!(
                topic = %self.topic, partition = self.partition_id, first, leader_epoch = epoch.get(),
                "the log was cut and written anew since the commit: what that says about offsets from here on is about \
                 records that are gone; all that is there is processed"
            );
        }
    }

    /// Starts what may start; `true` if there may be more.
    fn start_ready<F: Future<Output = AttemptOutcome> + Send + 'static>(
        &mut self,
        place: &mut FirstPoll<F>,
        begin: &impl Fn(Call) -> F,
    ) -> bool {
        let turn_began = clock::now();
        // A turn lasts a millisecond or so: one look at the wall clock is enough.
        let wall_millis = clock::unix_millis();
        let mut clock = turn_began;
        for _ in 0..ATTEMPTS_PER_TURN {
            if self.inbox.is_ended() {
                return true;
            }
            // At each start: the process may stand still in the middle of a turn too.
            if !self.runtime.lease.allows(clock) {
                return false;
            }
            let Some(start) = self.core.next_start() else {
                return false;
            };
            let ticket = start.ticket;
            let call = Call {
                record: start.record.record.clone(),
                source: self.source.clone(),
                attempt: start.attempt,
                ends: clock + self.runtime.attempt_timeout,
            };
            if start.attempt == 1 {
                let waited = self.runtime.moment(clock).since(start.waited_since);
                self.metrics.queue_wait(waited);
                self.key_counts.waited(&self.runtime, waited, &call.record);
                if let Some(timestamp) = call.record.timestamp_millis() {
                    self.metrics
                        .delivery_latency(millis_since(timestamp, wall_millis));
                }
            }
            if let Some(due) = call.record.due_millis()
                && call.is_first_here()
            {
                self.metrics.due_lateness(millis_since(due, wall_millis));
            }
            // What is suspicious may block its thread: without the owner neither its mark nor its
            // turn would be given back.
            if self.turn.is_some() || self.policy.spawns() {
                self.start_spawned(Pending::fresh(begin(call)), PolledIn::Task, ticket, clock);
                clock = clock::now();
            } else {
                clock = self.start_in_place(place, begin, call, ticket, clock);
            }
            if clock - turn_began > TIME_PER_TURN {
                return true;
            }
        }
        true
    }

    /// Polls an attempt here; most end at that. Returns when it was polled.
    fn start_in_place<F: Future<Output = AttemptOutcome> + Send + 'static>(
        &mut self,
        place: &mut FirstPoll<F>,
        begin: &impl Fn(Call) -> F,
        call: Call,
        ticket: Ticket,
        started: Instant,
    ) -> Instant {
        self.progress.set_polled(call.record.offset(), call.attempt);
        let polled = place.poll(begin(call));
        self.progress.clear_polled();
        let end = clock::now();
        let elapsed = end - started;
        self.policy.observe(elapsed);
        match polled {
            Ok(outcome) => {
                self.metrics.attempt(outcome.label(), elapsed);
                self.count_attempt(ticket, elapsed);
                self.settle_attempt(ticket, outcome, self.runtime.moment(end));
            }
            Err(pending) => self.start_spawned(pending, PolledIn::Owner, ticket, started),
        }
        end
    }

    fn start_spawned<F: Future<Output = AttemptOutcome> + Send + 'static>(
        &mut self,
        attempt: Pending<F>,
        polled_in: PolledIn,
        ticket: Ticket,
        started: Instant,
    ) {
        let timeout = self.runtime.attempt_timeout;
        let guard = self.source.life.enter();
        let task = tokio::spawn(run_spawned(
            attempt,
            polled_in,
            ticket,
            started,
            timeout,
            self.inbox.clone(),
            guard,
        ));
        let slot = ticket.slot() as usize;
        if self.tasks.len() <= slot {
            self.tasks.resize_with(slot + 1, || None);
        }
        self.tasks[slot] = Some(task.abort_handle());
    }

    /// Has the future of an attempt dropped, as soon as it is not being polled.
    pub(super) fn abort(&self, ticket: Ticket) {
        if let Some(Some(task)) = self.tasks.get(ticket.slot() as usize) {
            task.abort();
        }
    }

    fn forget_task(&mut self, ticket: Ticket) {
        if let Some(task) = self.tasks.get_mut(ticket.slot() as usize) {
            *task = None;
        }
    }

    /// Waits for mail, the next back-off or due time, or the next commit point, whichever comes
    /// first.
    async fn wait(&mut self) {
        let next_point = self.point_is_due_at();
        let next_timer = self
            .core
            .next_deadline()
            .map(|moment| self.runtime.instant(moment));
        let next_look = clock::now()
            + if self.core.pending() > 0 {
                BUSY_LOOK
            } else {
                IDLE_LOOK
            };
        let deadline = [next_point, next_timer]
            .into_iter()
            .flatten()
            .fold(next_look, Instant::min);
        let began = clock::now();
        // Either way the loop looks at everything again.
        let _ = tokio::time::timeout_at(deadline.into(), self.inbox.wait()).await;
        if self.core.pending() == 0 {
            self.metrics.starved(clock::elapsed(began));
        }
        if clock::elapsed(self.last_touch) >= IDLE_LOOK {
            self.last_touch = clock::now();
            self.metrics.touch();
        }
    }

    fn point_is_due_at(&self) -> Option<Instant> {
        let changed = self.last_point_state != point_state(&self.core);
        changed.then(|| self.last_point_at + self.runtime.commit_interval / 2)
    }

    /// Publishes what others need to know of this partition.
    fn report(&mut self, ends: bool) {
        let now = self.runtime.moment(clock::now());
        if self.core.has_news() {
            let runtime = self.runtime.clone();
            self.core.tell_guard(&mut runtime.guard(), now);
        }
        self.publish_figures(now);
        let caught_up = self.core.pending() == 0 && self.mail.records.is_empty();
        let due = self
            .point_is_due_at()
            .is_some_and(|at| caught_up || ends || clock::now() >= at);
        let mark = self.core.wanted_mark();
        let new_mark = mark.is_some() && mark != self.last_mark;
        let withdrawn =
            self.last_point.as_ref().is_some_and(|point| point.running) && !self.core.is_marked();
        if due || new_mark || withdrawn {
            self.last_mark = mark;
            self.make_commit_point();
        }
        self.metrics.flush();
    }

    /// The map is built at most twice a commit interval: half of it here and half in the client
    /// keep what a crash repeats within one interval. With nothing pending there is no map to
    /// build, so an idle partition reports at once.
    fn make_commit_point(&mut self) {
        self.last_point_state = point_state(&self.core);
        self.last_point_at = clock::now();
        let metadata = self.core.commit_metadata(keylane_core::MAX_METADATA_BYTES);
        if metadata.truncated {
            self.metrics.commit_metadata_truncated();
        }
        let Some(watermark) = self.core.watermark() else {
            return;
        };
        let point = CommitPoint {
            position: watermark,
            leader_epoch: self.core.position_epoch(),
            metadata: metadata.text,
            mark: self.core.wanted_mark(),
            running: self.core.is_marked(),
        };
        if self.last_point.as_ref() != Some(&point) {
            if let Some(observer) = &self.runtime.observer {
                observer.committable(&self.topic, self.partition_id, &point);
            }
            self.last_point = Some(point.clone());
            self.progress.set_commit_point(point);
        }
    }

    fn end(&self) {
        let drained = self.core.is_drained();
        if !drained {
            tracing::warn!(
                topic = %self.topic,
                partition = self.partition_id,
                running = self.core.running(),
                "attempts were dropped unfinished: the drain time-out passed; their records will be delivered again"
            );
        }
        self.progress
            .drained
            .store(drained, std::sync::atomic::Ordering::Relaxed);
    }
}

/// From one wall-clock time to another; 0 where it is not after it.
fn millis_since(earlier: i64, now: i64) -> Duration {
    Duration::from_millis(u64::try_from(now.saturating_sub(earlier)).unwrap_or(0))
}

fn point_state(core: &Partition<Held>) -> PointState {
    (
        core.watermark(),
        core.settled_ahead(),
        core.evidence_version(),
    )
}
