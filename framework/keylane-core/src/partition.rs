//! One partition in one epoch: what is delivered, what may start, what becomes of it, what may be
//! committed.
//!
//! The life of a record:
//!
//! ```text
//!  deliver ─▶ (not due) ─▶ queued in its lane ─▶ ready ─▶ running ─▶ settled
//!                                  its turn ──┘  ▲          │
//!                                                │          ├─▶ waiting (back-off) ─▶ ready
//!                                                            ├─▶ publish queued ─▶ publishing ─▶ settled
//!                                                            │         ▲── waiting ──┘  (too large: fewer headers)
//!                                                            └─▶ parked
//!  deliver ─▶ (of another group) ─▶ held ─▶ settled
//! ```
//! From `ready` to `settled` a record is the head of its lane, and the others of its key wait
//! behind it. Where its key is paused it is `paused` instead of `ready`. What operators order of
//! single records and keys is in `acts.rs`, and what they would do in `dry_runs.rs`.

mod acts;
mod blocker;
mod caution;
mod delivery;
mod directives;
mod dry_runs;
mod news;
mod observe;
mod outcome;
mod outcomes;
mod pending;
mod pending_view;
mod settings;
mod snapshot;
mod ticket;
mod timers;
mod watch;
mod watchdog;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

pub use acts::{ActRefused, ActTime, RetriedNow};
pub use blocker::{Blocker, BlockerPolicy, Blocking, NEARLY_ALL_PERCENT, NEARLY_FULL_PERCENT};
pub use caution::{MARK_PATIENCE, Mark, PoisonFate, Poisoned, SUSPECT_PATIENCE};
pub use delivery::{Delivered, Delivery};
pub use directives::{MOST_OWN_ORDERS, OperatorNote, PartitionDirectives, SkipOrder};
pub use dry_runs::{KeyOutlook, RecordOutlook};
pub use observe::{Oldest, RecordState};
pub use outcome::{
    FailureHeaders, ParkReason, Publish, PublishRequest, PublishResult, Settlement, Success,
    Verdict,
};
pub use pending_view::{Activity, PendingView, Wait};
pub use settings::{LaneOrder, PartitionSettings, Paused};
pub use snapshot::{RetryTier, Snapshot, WaitingFor};
pub use ticket::{Start, Ticket};
pub use watchdog::{Alarm, Watchdog};

use crate::evidence::{Evidence, Instance};
use crate::foreign::Ruling;
use crate::lanes::{Joined, Lanes};
use crate::ledger::{Admission, Ledger};
use crate::log_id::LogId;
use crate::offset::{Epoch, LeaderEpoch, Offset, Position};
use crate::settled_map::SettledMap;
use crate::time::Moment;
use caution::Cautious;
use directives::Directed;
use news::News;
use pending::{Pending, PendingRecord, State};
use snapshot::Surveyed;
use timers::Timers;
use watchdog::Watching;

/// The state of one partition during one assignment to this member.
///
/// Calls take O(1), amortised, and allocate nothing once its tables have grown to the number of
/// pending records, but for what is rare (below); a record that waits costs O(log n). How much is
/// pending is bounded by the caller, who stops delivering ([`Budget`](crate::Budget)). Beyond `R` a
/// pending record takes at most 160 bytes; one that has come through a retry topic, was not due,
/// has failed or is to be written takes an allocation of 128 more.
pub struct Partition<R> {
    settings: Arc<PartitionSettings>,
    epoch: Epoch,
    ledger: Ledger,
    /// The log all this is about, where it is known.
    log: Option<LogId>,
    lanes: Lanes,
    pending: Pending<R>,
    /// Heads of lanes that may start, first come first served, but suspects before all others.
    ready: VecDeque<u32>,
    /// Records to be written to the retry or dead-letter topic.
    publish_queue: VecDeque<u32>,
    timers: Timers,
    cautious: Cautious,
    watching: Watching,
    surveyed: Surveyed,
    news: News,
    next_blocker_look: Moment,
    /// The latest moment that was passed in.
    now: Moment,
    paused: Paused,
    directed: Directed,
    key_name: Option<fn(&R) -> Option<u64>>,
    draining: bool,
    stopped: bool,
}

impl<R> Partition<R> {
    /// A partition that reads on from `start`, what was committed; `None` where nothing was, and
    /// the first delivery decides. `inherited` is the settled-ahead map of that very commit.
    pub fn new(
        settings: Arc<PartitionSettings>,
        epoch: Epoch,
        start: Option<Position>,
        inherited: SettledMap,
    ) -> Self {
        Self::with_evidence(
            settings,
            epoch,
            start,
            inherited,
            Instance::default(),
            Evidence::default(),
        )
    }

    /// As [`new`](Self::new), in process `here` and with the evidence of that commit after
    /// [`Evidence::at_start`].
    pub fn with_evidence(
        settings: Arc<PartitionSettings>,
        epoch: Epoch,
        start: Option<Position>,
        inherited: SettledMap,
        here: Instance,
        evidence: Evidence,
    ) -> Self {
        let mut cautious = Cautious::new(here, evidence, settings.watched_records);
        cautious.watch.starts_at(start);
        Self {
            settings,
            cautious,
            epoch,
            ledger: Ledger::new(start, inherited),
            log: None,
            lanes: Lanes::default(),
            pending: Pending::default(),
            ready: VecDeque::new(),
            publish_queue: VecDeque::new(),
            timers: Timers::default(),
            watching: Watching::new(),
            surveyed: Surveyed::default(),
            news: News::default(),
            next_blocker_look: Moment::ORIGIN,
            now: Moment::ORIGIN,
            paused: Paused::No,
            directed: Directed::default(),
            key_name: None,
            draining: false,
            stopped: false,
        }
    }

    /// Sets the log that this epoch reads; from now on its commits name it. It does not change:
    /// another log is another epoch.
    pub fn set_log(&mut self, log: Option<LogId>) {
        self.log = log;
    }

    /// Sets the leader epoch under which the inherited map was written. To be called before the
    /// first delivery.
    pub fn inherit_leader_epoch(&mut self, epoch: Option<LeaderEpoch>) {
        self.ledger.inherit_leader_epoch(epoch);
    }

    /// Sets the leader epoch that was committed with the start. To be called before the first
    /// delivery.
    pub fn start_under(&mut self, epoch: Option<LeaderEpoch>) {
        self.ledger.start_under(epoch);
    }

    /// Sets the leader epoch of the records to be delivered from `first` on. `true` where the
    /// inherited map is given up: the log was cut below what it names, and written again. Those
    /// offsets are other records, to be processed.
    pub fn read_under(&mut self, epoch: LeaderEpoch, first: Offset) -> bool {
        self.directed.read_under(epoch, first);
        self.ledger.read_under(epoch, first)
    }

    /// Takes in a record, in the order it was read.
    ///
    /// A record of an offset that was delivered in this epoch or settled by a previous owner is
    /// dropped here. An offset below the start, or in a hole that was read over, means that the log
    /// was cut and written again: what was known about offsets from there on is forgotten. Records
    /// still pending from before are finished all the same.
    pub fn deliver(&mut self, delivery: Delivery<R>, now: Moment) -> Delivered {
        self.deliver_ruled(delivery, Ruling::Process, now)
    }

    /// As [`deliver`](Self::deliver), for a record of a retry topic and what is to become of it.
    /// One that is not to be processed never joins a lane: a retry topic keeps no order, and
    /// nothing of another group's waits for anything here.
    pub fn deliver_ruled(
        &mut self,
        delivery: Delivery<R>,
        ruling: Ruling,
        now: Moment,
    ) -> Delivered {
        self.set_now(now);
        let offset = delivery.offset;
        let goes_back = self.ledger.next().is_some_and(|next| !next.covers(offset));
        let pending = &mut self.pending;
        let admission = self.ledger.admit(offset, |slot| pending.forget(slot));
        if admission == Admission::Repeated {
            return Delivered::Repeated;
        }
        if goes_back {
            self.cautious.log_was_cut(offset);
            self.directed.log_was_cut(offset);
        }
        let due = delivery.due.filter(|&due| due > self.now);
        let is_skipped = ruling != Ruling::Settle && self.directed.skip_of(offset).is_some();
        let runs_here = ruling == Ruling::Process && !is_skipped;
        let is_suspicious = admission == Admission::New && due.is_none() && runs_here;
        let watched = self.cautious.watch.delivered(offset, is_suspicious);
        if admission == Admission::AlreadySettled {
            self.cautious.settled(offset);
            self.look_for_progress();
            return Delivered::AlreadySettled;
        }
        let slot = self
            .pending
            .insert(PendingRecord::new(delivery, due, self.now));
        let sequence = self.ledger.push(offset, slot);
        let record = self.pending.get_mut(slot);
        (record.sequence, record.watched) = (sequence, watched);
        // Nor can what is behind it have run before: it was behind it then too.
        record.stuck = due.is_some();
        match (self.settings.lane_order, due) {
            _ if is_skipped => {}
            _ if !runs_here => self.pending.set_state(slot, State::Held),
            (LaneOrder::Due, Some(due)) => self.timers.set(due, slot),
            _ => self.join_lane(slot),
        }
        self.look_for_progress();
        if ruling == Ruling::Settle {
            let _ = self.settle(slot, Settlement::Foreign);
            return Delivered::Foreign;
        }
        if is_skipped {
            let _ = self.settle(slot, Settlement::SkippedByOperator);
            return Delivered::SkippedByOperator;
        }
        Delivered::Queued
    }

    /// The next attempt to start, if one may: a ready lane, a free place, neither paused nor
    /// draining nor stopped, and covered by a mark, and a suspect by a trial (see
    /// [`wanted_mark`](Self::wanted_mark) and [`wants_trial`](Self::wants_trial)).
    pub fn next_start(&mut self) -> Option<Start<'_, R>> {
        let (place, slot) = self.startable()?;
        self.ready.remove(place);
        self.pending.set_state(slot, State::Running);
        self.started(slot);
        let ticket = self.issue_ticket(slot);
        let now = self.now;
        let pending = self.pending.get_mut(slot);
        pending.start(now);
        Some(Start {
            ticket,
            offset: pending.offset,
            attempt: pending.attempts(),
            waited_since: pending.since,
            record: &pending.record,
        })
    }

    /// Whether [`next_start`](Self::next_start) has an attempt: for a caller that needs more for it
    /// than the partition asks for.
    pub fn may_start(&mut self) -> bool {
        self.startable().is_some()
    }

    /// The record to start next, and where it is among those that are ready.
    fn startable(&mut self) -> Option<(usize, u32)> {
        if self.holds_starts() || self.running() >= self.settings.concurrency.max(1) {
            return None;
        }
        let next = self.next_ready()?;
        self.is_covered(next.1).then_some(next)
    }

    /// The next record to write to the retry or dead-letter topic; the caller answers with
    /// [`publish_finished`](Self::publish_finished). Goes on while paused or draining.
    pub fn next_publish(&mut self) -> Option<PublishRequest> {
        let slot = self.publish_queue.pop_front()?;
        self.pending.set_state(slot, State::Publishing);
        let ticket = self.issue_ticket(slot);
        let pending = self.pending.get(slot);
        let (offset, attempts, headers) = (pending.offset, pending.attempts(), pending.headers());
        pending.publish().map(|publish| {
            let retried_for = match publish {
                Publish::Retry { .. } => pending.retried_for(),
                Publish::DeadLetter { .. } => Duration::ZERO,
            };
            PublishRequest {
                ticket,
                offset,
                publish,
                attempts,
                retried_for,
                headers,
            }
        })
    }

    /// When [`tick`](Self::tick) has something to do; `None` where nothing waits, or waiting no
    /// longer matters because the partition drains.
    pub fn next_deadline(&self) -> Option<Moment> {
        if self.draining {
            return None;
        }
        self.timers
            .next()
            .into_iter()
            .chain(self.caution_deadline())
            .min()
    }

    /// Lets time pass: back-offs end, due times come.
    pub fn tick(&mut self, now: Moment) {
        self.set_now(now);
        if self.draining {
            return;
        }
        self.caution_tick();
        while let Some(slot) = self.timers.take_due(self.now) {
            match self.pending.get(slot).state {
                State::NotDue => self.join_lane(slot),
                State::PublishWaiting => self.queue_publish(slot),
                _ => self.make_ready(slot),
            }
        }
    }

    /// Pauses or resumes starts at the user's wish. What runs goes on, and so do writes and timers.
    pub fn set_paused(&mut self, paused: Paused) {
        self.paused = paused;
    }

    /// Starts nothing more, for good: the partition is to be given up. What runs may finish, and a
    /// write that follows from it is still made; whatever else is pending, waiting records
    /// included, is handed back unsettled.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Whether a drain is over: nothing runs and nothing is being written.
    pub fn is_drained(&self) -> bool {
        self.draining && self.running() == 0 && self.publishing() == 0
    }

    fn holds_starts(&self) -> bool {
        self.paused == Paused::Yes || self.draining || self.stopped
    }

    /// Sets the present moment. To be called before [`succeed`](Self::succeed), which takes none.
    pub fn set_now(&mut self, now: Moment) {
        self.now = self.now.max(now);
    }

    fn join_lane(&mut self, slot: u32) {
        let lane = self.pending.get(slot).lane();
        match self.lanes.join(lane, slot) {
            Joined::Head => self.make_head(slot),
            Joined::Behind(ahead) => {
                self.pending.set_state(slot, State::Queued);
                // A pause acquits no suspect, which runs when it ends.
                let is_kept = self.is_suspect(slot) && self.is_key_paused(slot);
                if self.pending.get(ahead).stuck && !is_kept {
                    self.pending.get_mut(slot).stuck = true;
                    self.unwatch(slot);
                }
            }
        }
    }

    /// It is this record's turn in its lane; where it is not due yet, the lane waits with it.
    fn make_head(&mut self, slot: u32) {
        let record = self.pending.get(slot);
        match (record.publish(), record.due()) {
            // It was ordered while the record was behind others.
            (Some(publish), _) => {
                let _ = self.publish(slot, publish);
            }
            (None, Some(due)) if due > self.now => self.wait_until(due, slot, State::Waiting),
            _ => self.make_ready(slot),
        }
    }

    fn make_ready(&mut self, slot: u32) {
        if self.is_key_paused(slot) {
            return self.pause_head(slot);
        }
        if self.condemn(slot) {
            return;
        }
        self.pending.set_state(slot, State::Ready);
        if self.is_suspect(slot) {
            self.ready.insert(self.ready_suspects(), slot);
        } else {
            self.ready.push_back(slot);
        }
    }

    fn queue_publish(&mut self, slot: u32) {
        self.pending.set_state(slot, State::PublishQueued);
        self.publish_queue.push_back(slot);
    }

    /// A record has one timer at most: it is in a waiting state exactly as long as its timer is
    /// set.
    fn wait_until(&mut self, moment: Moment, slot: u32, state: State) {
        debug_assert!(state.is_waiting());
        self.pending.set_state(slot, state);
        self.timers.set(moment, slot);
    }

    fn issue_ticket(&mut self, slot: u32) -> Ticket {
        Ticket {
            slot,
            serial: self.pending.get_mut(slot).next_serial(),
            epoch: self.epoch,
        }
    }
}

#[cfg(test)]
mod tests;
