//! The owner's loop.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use keylane_core::{
    LeaderEpoch, Mark, Moment, Offset, Partition, Paused, Position, Ruling, Ticket,
};

use super::acts::{act, direct};
use super::attempts::{AttemptOutcome, Attempts, Call, FirstPoll, Pending, PolledIn};
use super::commit_points::CommitPoints;
use super::crash_care::{CrashCare, instance};
use super::delivery::deliver;
use super::epoch::EpochStart;
use super::foreign::Foreign;
use super::inbox::{Finished, Mail};
use super::owned::OwnedPartition;
use super::pending_record::PendingRecord;
use super::place_request::PlaceRequest;
use super::report::{Figures, KeyCounts, outcome_of_dropped, watch};
use super::settling::Settling;
use super::shared::Runtime;
use super::writes::{Writes, settle_written};
use crate::metrics::UnreadableMetadata;
use crate::processing::{EpochGuard, Source};
use crate::record::{KeyHash, Record};
use crate::status::{OwnerFigures, Place};
use crate::support::clock;

/// After this many attempts in a row an owner lets the others of its thread run.
const ATTEMPTS_PER_PASS: usize = 256;
/// At most this many records become pending in a pass. A backlog of thousands at once would not
/// stay in the caches. As long as attempts end as fast as they start, few records are pending at a
/// time.
const RECORDS_PER_PASS: usize = ATTEMPTS_PER_PASS;
/// The same in time, for attempts that compute.
const TIME_PER_PASS: Duration = Duration::from_millis(1);
/// An owner that has nothing to do still makes a pass after this time: the age of what it holds
/// grows while it sleeps, and some recorders drop metrics without updates.
const BUSY_LOOK: Duration = Duration::from_secs(1);
const IDLE_LOOK: Duration = Duration::from_secs(10);

/// An owner: its partition, its mail, and the parts of its work, each with what it keeps.
pub(super) struct Owner {
    owned: OwnedPartition,
    mail: Mail,
    attempts: Attempts,
    settling: Settling,
    writes: Writes,
    commit_points: CommitPoints,
    crash_care: CrashCare,
    place_request: PlaceRequest,
    foreign: Foreign,
    figures: Figures,
    key_counts: KeyCounts,
    /// The number of what the control topic directs.
    directed: u64,
    last_touch: Instant,
    /// Dropped last: by then nothing of the epoch is left.
    _guard: EpochGuard,
}

impl Drop for Owner {
    fn drop(&mut self) {
        let owned = &mut self.owned;
        // Also where the owner itself was dropped, by a panic or with its runtime.
        owned.core.leave_guard(&mut owned.runtime.guard());
        owned.inbox.life().set_over();
        owned.inbox.drop_acts();
        owned.inbox.give_back_permit();
        let source = &owned.source;
        let place = (source.topic.clone(), source.partition);
        owned.runtime.control.acts.leave(&place, owned.core.epoch());
        self.foreign.forget_held(owned);
        self.attempts.abort_all();
        // What waits for it must not wait for ever.
        owned.progress.ended.store(true, Ordering::Release);
    }
}

impl Owner {
    pub(super) fn new(runtime: Arc<Runtime>, start: EpochStart) -> Self {
        let settings = if start.is_retry_topic {
            &runtime.retry_settings
        } else {
            &runtime.origin_settings
        };
        let mut core = Partition::with_evidence(
            settings.clone(),
            start.epoch,
            start.start,
            start.settled,
            instance(),
            start.evidence,
        );
        core.inherit_leader_epoch(start.leader_epoch);
        core.start_under(start.start_under);
        core.name_keys(|pending: &PendingRecord| pending.key_hash().map(KeyHash::get));
        // Before the first pass: how the first records are read depends on the caution.
        start.progress.publish(OwnerFigures {
            snapshot: core.snapshot(),
            ..OwnerFigures::default()
        });
        let life = start.inbox.life().clone();
        let guard = life.enter();
        let foreign = Foreign::new(&runtime, start.is_retry_topic);
        let place = (start.topic.clone(), start.partition);
        let acts = &runtime.control.acts;
        acts.join(place, start.epoch, start.inbox.clone());
        let source = Source {
            topic: start.topic,
            partition: start.partition,
            life,
            log: OnceLock::new(),
            names_logs: runtime.names_logs,
        };
        let owned = OwnedPartition {
            core,
            metrics: start.metrics,
            runtime,
            source: Arc::new(source),
            inbox: start.inbox,
            progress: start.progress,
            released_records: 0,
            released_bytes: 0,
            dead_letter_orders: BTreeMap::new(),
        };
        Self {
            mail: Mail::default(),
            attempts: Attempts::default(),
            settling: Settling::new(),
            writes: Writes::new(start.membership),
            commit_points: CommitPoints::new(&owned),
            crash_care: CrashCare::new(owned.core.is_careful()),
            place_request: PlaceRequest::default(),
            foreign,
            figures: Figures::default(),
            key_counts: KeyCounts::default(),
            directed: 0,
            last_touch: clock::now(),
            _guard: guard,
            owned,
        }
    }

    pub(super) async fn run<F: Future<Output = AttemptOutcome> + Send + 'static>(
        &mut self,
        begin: impl Fn(Call) -> F,
    ) {
        let mut first_poll = FirstPoll::new();
        loop {
            #[cfg(test)]
            crate::support::panics::planted::step("owner", &self.owned.source.topic);
            self.owned.progress.pass();
            self.owned.inbox.take(&mut self.mail);
            let now = self.absorb();
            self.owned.core.tick(now);
            watch(&mut self.owned, &self.attempts, now);
            self.look_after_permit();
            let ready = if self.may_start() {
                self.start_ready(&mut first_poll, &begin)
            } else if self.waits_for_a_trial_alone() {
                Ready::NoPermit
            } else {
                Ready::Nothing
            };
            if !matches!(ready, Ready::NoPlace | Ready::NoPermit) {
                self.place_request.let_go();
            }
            let more = ready == Ready::More || !self.mail.records.is_empty() || self.mail.more_acts;
            self.look_after_permit();
            self.crash_care.report(&mut self.owned);
            self.writes.send_ready(&mut self.owned);
            let orders = self.mail.orders;
            let ends = orders.end || (orders.drain && self.owned.core.is_drained());
            if ends {
                self.owned.core.end();
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
        let now = self.owned.runtime.moment(clock::now());
        let orders = self.mail.orders;
        let paused = orders.pause > 0 || orders.waits_for_predecessors;
        self.owned
            .core
            .set_paused(if paused { Paused::Yes } else { Paused::No });
        if orders.drain || orders.end {
            self.owned.core.drain();
        }
        if orders.shutdown {
            self.owned.core.end();
        }
        self.owned.core.set_log(orders.log);
        if let Some(log) = orders.log.filter(|_| orders.log_is_confirmed) {
            // It is the same one for as long as the epoch lasts.
            self.owned.source.log.get_or_init(|| log);
        }
        self.owned.core.mark_confirmed(Mark::new(orders.marked));
        if let Some(end) = orders.log_end {
            self.owned.core.log_ends_at(Position::new(end));
        }
        if let Some((number, directives)) = self.mail.directives.take() {
            direct(&mut self.owned, directives, now);
            self.directed = number;
        }
        let mut finished = std::mem::take(&mut self.mail.finished);
        for Finished {
            ticket,
            outcome,
            elapsed,
            busy,
        } in finished.drain(..)
        {
            self.attempts.forget(ticket);
            if let Some(busy) = busy {
                self.attempts.observe(busy);
            }
            let outcome =
                outcome.unwrap_or_else(|| outcome_of_dropped(&self.owned, ticket, elapsed));
            self.attempt_ended(ticket, outcome, elapsed, now);
        }
        self.mail.finished = finished;
        let mut written = std::mem::take(&mut self.mail.written);
        for answer in written.drain(..) {
            settle_written(&mut self.owned, answer, now);
        }
        self.mail.written = written;
        for _ in 0..RECORDS_PER_PASS {
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
        for order in std::mem::take(&mut self.mail.acts) {
            act(&mut self.owned, order, now);
        }
        self.foreign.look_after_held(&mut self.owned, now);
        now
    }

    /// Hands one delivered record to the core.
    fn deliver(&mut self, record: Record, now: Moment) {
        match self.foreign.rule(&self.owned, &record, now) {
            Ruling::Process => deliver(&mut self.owned, &mut self.key_counts, record, now),
            ruling => self.foreign.deliver(&mut self.owned, record, ruling, now),
        }
    }

    /// Records from `first` on were written under `epoch`.
    fn read_under(&mut self, epoch: LeaderEpoch, first: i64) {
        // The polling thread has reported a log that was cut below the position.
        let is_ahead = self
            .owned
            .core
            .next_position()
            .is_none_or(|next| next.covers(Offset::new(first)));
        if self.owned.core.read_under(epoch, Offset::new(first)) {
            self.owned
                .metrics
                .commit_metadata_unreadable(UnreadableMetadata::LogCut);
            if is_ahead {
                self.owned.metrics.log_cut();
            }
            tracing::warn!(
                topic = %self.owned.source.topic, partition = self.owned.source.partition, first, leader_epoch = epoch.get(),
                "the log was cut and written again since the commit: the records that it names from here on \
                 are gone; all that exists is processed"
            );
        }
    }

    fn attempt_ended(
        &mut self,
        ticket: Ticket,
        outcome: AttemptOutcome,
        elapsed: Duration,
        now: Moment,
    ) {
        let owned = &mut self.owned;
        owned.metrics.attempt(outcome.label(), elapsed);
        self.key_counts.attempt_ended(owned, ticket, elapsed);
        self.settling.settle_attempt(owned, ticket, outcome, now);
    }

    fn look_after_permit(&mut self) {
        self.crash_care
            .look_after_permit(&mut self.owned, &mut self.mail);
    }

    /// Whether it has asked for a place, and could start something in it but for a trial in the
    /// process. It then keeps its turn, and the place: as soon as the trial is over it has a permit.
    /// Where its own attempts still have one, it has none soon: others go first.
    fn waits_for_a_trial_alone(&mut self) -> bool {
        self.place_request.is_made() && !self.crash_care.has_permit() && self.owned.core.may_start()
    }

    fn may_start(&mut self) -> bool {
        self.crash_care.may_start(&self.owned)
    }

    /// Starts what may start.
    fn start_ready<F: Future<Output = AttemptOutcome> + Send + 'static>(
        &mut self,
        first_poll: &mut FirstPoll<F>,
        begin: &impl Fn(Call) -> F,
    ) -> Ready {
        let pass_began = clock::now();
        // A pass lasts a millisecond or so: one reading of the time of day is enough.
        let wall_millis = clock::unix_millis();
        let mut at = pass_began;
        // What ends at its first poll leaves it to the next one.
        let mut place = None;
        for _ in 0..ATTEMPTS_PER_PASS {
            let owned = &mut self.owned;
            if owned.inbox.is_ended() {
                return Ready::More;
            }
            // At each start: the process may stand still in the middle of a pass too.
            if !owned.runtime.lease.allows(at) {
                return Ready::Nothing;
            }
            let free = match place.take() {
                Some(place) => place,
                None => match self.take_place() {
                    Ok(place) => place,
                    Err(ready) => return ready,
                },
            };
            let owned = &mut self.owned;
            let Some(start) = owned.core.next_start() else {
                return Ready::Nothing;
            };
            let ticket = start.ticket;
            let call = Call {
                record: start.record.record.clone(),
                source: owned.source.clone(),
                attempt: start.attempt,
                began: at,
                failing_for_millis: start.record.failing_for_millis(),
                ends: at + owned.runtime.attempt_timeout,
            };
            if start.attempt == 1 {
                let waited = owned.runtime.moment(at).since(start.waited_since);
                owned.metrics.queue_wait(waited);
                self.key_counts.waited(&owned.runtime, waited, &call.record);
                if let Some(timestamp) = call.record.timestamp_millis() {
                    owned
                        .metrics
                        .delivery_latency(millis_since(timestamp, wall_millis));
                }
            }
            if let Some(due) = call.record.due_millis()
                && call.is_first_here()
            {
                owned.metrics.due_lateness(millis_since(due, wall_millis));
            }
            // What is suspicious may block its thread: without the owner its name would not be taken
            // back, nor its permit given back.
            if owned.core.is_careful() || self.attempts.spawns() {
                let fresh = Pending::fresh(begin(call));
                self.attempts
                    .spawn(owned, fresh, PolledIn::Task, ticket, at, free);
                at = clock::now();
            } else {
                (at, place) = self.start_in_place(first_poll, begin, call, ticket, at, free);
            }
            if at - pass_began > TIME_PER_PASS {
                return Ready::More;
            }
        }
        Ready::More
    }

    /// A place for the next attempt, if there is one to start.
    fn take_place(&mut self) -> Result<Place, Ready> {
        let Some(places) = &self.owned.runtime.control.places else {
            return Ok(Place::UNLIMITED);
        };
        if !self.owned.core.may_start() {
            return Err(Ready::Nothing);
        }
        // A trial keeps the whole process waiting, and attempts that hang may have all places.
        if self.crash_care.is_trial() {
            return Ok(places.try_take().unwrap_or(Place::UNLIMITED));
        }
        self.place_request.take(places).ok_or(Ready::NoPlace)
    }

    /// Polls an attempt here; most end at that, and leave their place. Returns when it was polled.
    fn start_in_place<F: Future<Output = AttemptOutcome> + Send + 'static>(
        &mut self,
        first_poll: &mut FirstPoll<F>,
        begin: &impl Fn(Call) -> F,
        call: Call,
        ticket: Ticket,
        started: Instant,
        place: Place,
    ) -> (Instant, Option<Place>) {
        let owned = &self.owned;
        owned
            .progress
            .set_polled(call.record.offset(), call.attempt);
        let polled = first_poll.poll(begin(call));
        owned.progress.clear_polled();
        let end = clock::now();
        let elapsed = end - started;
        self.attempts.observe(elapsed);
        match polled {
            Ok(outcome) => {
                let now = owned.runtime.moment(end);
                self.attempt_ended(ticket, outcome, elapsed, now);
                (end, Some(place))
            }
            Err(pending) => {
                self.attempts
                    .spawn(owned, pending, PolledIn::Owner, ticket, started, place);
                (end, None)
            }
        }
    }

    /// Waits for mail, a place, the next back-off or due time, or the next commit point, whichever
    /// comes first.
    async fn wait(&mut self) {
        let owned = &self.owned;
        let next_point = self.commit_points.due_at(owned);
        let next_timer = owned
            .core
            .next_deadline()
            .map(|moment| owned.runtime.instant(moment));
        let next_look = clock::now()
            + if owned.core.pending() > 0 {
                BUSY_LOOK
            } else {
                IDLE_LOOK
            };
        let deadline = [next_point, next_timer]
            .into_iter()
            .flatten()
            .fold(next_look, Instant::min);
        let began = clock::now();
        let woken = async {
            tokio::select! {
                biased;
                () = owned.inbox.wait() => {}
                () = self.place_request.granted() => {}
            }
        };
        // Either way the loop looks at everything again.
        let _ = tokio::time::timeout_at(deadline.into(), woken).await;
        if self.owned.core.pending() == 0 {
            self.owned.metrics.starved(clock::elapsed(began));
        }
        if clock::elapsed(self.last_touch) >= IDLE_LOOK {
            self.last_touch = clock::now();
            self.owned.metrics.touch();
        }
    }

    /// Publishes the state of this partition.
    fn report(&mut self, ends: bool) {
        let owned = &mut self.owned;
        let now = owned.runtime.moment(clock::now());
        if owned.core.has_news() {
            owned.core.report_to_guard(&mut owned.runtime.guard(), now);
        }
        let waits = self.place_request.is_waiting();
        self.figures
            .publish(owned, self.mail.records.front(), waits, now);
        // After the figures: a reader of the pause also reads what this pass left running.
        owned.progress.set_pause(self.mail.orders.pause);
        owned.progress.set_directed(self.directed);
        self.key_counts.publish(owned, now);
        let caught_up = owned.core.pending() == 0 && self.mail.records.is_empty();
        self.commit_points.publish(owned, caught_up || ends);
        owned.metrics.flush();
    }

    fn end(&self) {
        let owned = &self.owned;
        let drained = owned.core.is_drained();
        if !drained {
            tracing::warn!(
                topic = %owned.source.topic,
                partition = owned.source.partition,
                running = owned.core.running(),
                "attempts were dropped unfinished: the drain time-out passed; their records will be delivered again"
            );
        }
        let paused_keys = owned.core.own_paused_keys();
        if paused_keys > 0 {
            tracing::info!(
                topic = %owned.source.topic, partition = owned.source.partition, paused_keys,
                "the keys that this member alone has paused are resumed: the partition is given up"
            );
        }
        owned.progress.drained.store(drained, Ordering::Relaxed);
    }
}

/// What a look at the records that are ready has found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ready {
    /// Nothing that may start.
    Nothing,
    /// There may be more, in the next pass.
    More,
    /// One that could start but for a place.
    NoPlace,
    /// One that had requested a place and could start but for a trial.
    NoPermit,
}

/// The time between two wall-clock times; 0 where the second is not later.
fn millis_since(earlier: i64, now: i64) -> Duration {
    Duration::from_millis(u64::try_from(now.saturating_sub(earlier)).unwrap_or(0))
}
