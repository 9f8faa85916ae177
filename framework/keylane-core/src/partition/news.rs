//! A partition's reports to the outage guard.
//!
//! Failures are reported at once, since the guard decides about them. The rest is reported in
//! batches: a record that succeeds costs a count, and a check whether a set is empty.

use std::collections::HashSet;
use std::hash::BuildHasherDefault;
use std::time::Duration;

use super::pending::{PendingRecord, State};
use super::{LaneOrder, Partition};
use crate::failed_attempt::FailedAttempt;
use crate::failure::Failure;
use crate::lanes::HashedAlready;
use crate::outage_guard::{OutageGuard, Report, Source};
use crate::time::Moment;

/// The most failing lanes that are kept: nearly as many as the guard tracks, which is 64 for each
/// of 65 classes. Beyond that all are dropped here, and the guard drops them by itself.
const MOST_FAILING: usize = 4_096;

/// Lanes that are due and wait for a place are reported to the guard once in this time, well within
/// the time for which it keeps them.
const WAITING_EVERY: Duration = Duration::from_secs(15);

#[derive(Default)]
pub(super) struct News {
    /// Given by the guard at the first call.
    source: Option<Source>,
    /// The latest success that is not reported to the guard yet.
    succeeded_at: Option<Moment>,
    /// Lanes of this partition that count as failing in the guard.
    failing: HashSet<u64, BuildHasherDefault<HashedAlready>>,
    /// Lanes that have succeeded: former failing ones, and those that may fail in the origin's
    /// partition.
    cleared: Vec<u64>,
    /// Lanes whose failing record an operator has settled: no success of theirs is to come.
    given_up: Vec<u64>,
    /// How many held records are reported to the guard.
    held: usize,
    /// When to report the lanes that wait.
    next_waiting: Moment,
}

impl News {
    /// A record leaves. A record without a key takes its lane with it, however it was settled.
    pub(super) fn settled<R>(&mut self, record: &PendingRecord<R>) {
        if let (None, Some(source), false) = (record.lane(), self.source, self.failing.is_empty()) {
            self.failing.remove(&source.lane_of(record.offset.get()));
        }
    }
}

impl<R> Partition<R> {
    /// Whether there is something to report to the guard.
    pub fn has_news(&self) -> bool {
        let news = &self.news;
        let is_news = news.succeeded_at.is_some()
            || !news.cleared.is_empty()
            || !news.given_up.is_empty()
            || news.held != self.pending.held();
        is_news || self.reports_waiting()
    }

    fn reports_waiting(&self) -> bool {
        // What comes through a retry topic has failed in another partition.
        let may_be_failing =
            !self.news.failing.is_empty() || self.settings.lane_order == LaneOrder::Due;
        let waits = may_be_failing && !self.ready.is_empty() && !self.holds_starts();
        waits && self.now >= self.news.next_waiting
    }

    /// What has failed last still has, however long its next attempt waits for a place.
    fn report_waiting(&mut self, guard: &mut OutageGuard, source: Source) {
        self.news.next_waiting = self.now + WAITING_EVERY;
        for &slot in &self.ready {
            let record = self.pending.get(slot);
            let lane = record.lane();
            let lane = lane.unwrap_or_else(|| source.lane_of(record.offset.get()));
            // The partition that wrote a retry has reported its lane.
            if record.rounds() > 0 || self.news.failing.contains(&lane) {
                guard.waits(lane, self.now);
            }
        }
    }

    /// Reports to the guard what has happened since the last call. To be called after results were
    /// taken in, about once per pass of the owner, if there [is something](Self::has_news).
    pub fn report_to_guard(&mut self, guard: &mut OutageGuard, now: Moment) {
        self.set_now(now);
        let source = self.source(guard);
        let succeeded_at = self.news.succeeded_at.take();
        if let Some(at) = succeeded_at {
            guard.succeeded(at);
        }
        for lane in self.news.cleared.drain(..) {
            guard.cleared(lane, succeeded_at);
        }
        for lane in self.news.given_up.drain(..) {
            guard.cleared(lane, None);
        }
        if self.reports_waiting() {
            self.report_waiting(guard, source);
        }
        let held = self.pending.held();
        if self.news.held != held {
            self.news.held = held;
            guard.set_held(source, held);
        }
    }

    /// The epoch has ended: the guard drops its state of it.
    pub fn leave_guard(&mut self, guard: &mut OutageGuard) {
        self.report_to_guard(guard, self.now);
        if let Some(source) = self.news.source.take() {
            guard.leave(source);
        }
        self.news = News::default();
    }

    /// How many records wait only because the guard holds them, or because something has been
    /// unavailable to them several times in a row.
    pub fn held_by_guard(&self) -> usize {
        self.pending.held()
    }

    /// The record is done or skipped.
    pub(super) fn note_success(&mut self, slot: u32) {
        self.news.succeeded_at = Some(self.now);
        let lane = self.no_longer_failing(slot);
        self.news.cleared.extend(lane);
    }

    /// An operator has settled the record.
    pub(super) fn note_given_up(&mut self, slot: u32) {
        let record = self.pending.get(slot);
        // Else it is the head of its lane that fails.
        if record.state != State::Queued && record.attempts() > 0 {
            let lane = self.no_longer_failing(slot);
            self.news.given_up.extend(lane);
        }
    }

    /// Its lane, where it may count as failing in the guard.
    fn no_longer_failing(&mut self, slot: u32) -> Option<u64> {
        // The partition that wrote it to the retry topic has reported the failing lane to the
        // guard.
        let by_topic = self.pending.get(slot).rounds() > 0;
        if self.news.failing.is_empty() && !by_topic {
            return None;
        }
        let lane = self.guards_lane(slot)?;
        (self.news.failing.remove(&lane) || by_topic).then_some(lane)
    }

    /// Reports a failed attempt to the guard, and all that was before it. Returns its lane.
    pub(super) fn note_failure(
        &mut self,
        slot: u32,
        attempt: FailedAttempt,
        guard: &mut OutageGuard,
    ) -> u64 {
        self.report_to_guard(guard, self.now);
        let source = self.source(guard);
        let lane = self
            .guards_lane(slot)
            .unwrap_or_else(|| source.lane_of(self.pending.get(slot).offset.get()));
        match attempt.failure {
            Failure::Fatal | Failure::Undecodable => {
                self.news.failing.remove(&lane);
                guard.cleared(lane, None);
            }
            failure => {
                let record = self.pending.get(slot);
                let is_first_hand = record.rounds() == 0;
                // Its first attempt alone: one old record that goes on failing is no sign of what
                // decodes now.
                if failure != Failure::Panicked && is_first_hand && record.attempts_here == 1 {
                    guard.decoded();
                }
                if guard.failed(
                    Report {
                        source,
                        lane,
                        is_first_hand,
                    },
                    attempt,
                    self.now,
                ) {
                    if self.news.failing.len() >= MOST_FAILING {
                        self.news.failing.clear();
                    }
                    self.news.failing.insert(lane);
                }
            }
        }
        lane
    }

    fn source(&mut self, guard: &mut OutageGuard) -> Source {
        *self.news.source.get_or_insert_with(|| guard.join())
    }

    fn guards_lane(&self, slot: u32) -> Option<u64> {
        let record = self.pending.get(slot);
        record
            .lane()
            .or_else(|| Some(self.news.source?.lane_of(record.offset.get())))
    }
}
