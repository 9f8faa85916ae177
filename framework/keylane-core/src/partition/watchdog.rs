//! Stalled work: attempts that run long, and a watermark that stands still while
//! records wait.
//!
//! The watchdog only reports; the retry policy and `blocker.rs` act. A walk over the pending
//! records finds slow attempts. It is due again when the attempt that has run longest among the
//! others could become slow: in a healthy partition once per [`Watchdog::slow_attempt`].

use std::collections::VecDeque;
use std::time::Duration;

use super::pending::State;
use super::{Partition, Ticket};
use crate::offset::{Offset, Position};
use crate::time::Moment;

/// This many attempts are named per [`Watchdog::slow_attempt`]; the others are counted. Where
/// everything hangs, more names would not help.
const NAMED: u32 = 8;
/// Walks are at least this part of [`Watchdog::slow_attempt`] apart, so an attempt may be found
/// that much too late.
const WALKS_PER_THRESHOLD: u32 = 16;

/// When work counts as slow or stalled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watchdog {
    /// An attempt that has run for this long is slow.
    pub slow_attempt: Duration,
    /// A partition whose watermark has not moved for this long while records wait is stalled.
    pub stalled_after: Duration,
}

impl Default for Watchdog {
    fn default() -> Self {
        Self {
            slow_attempt: Duration::from_secs(30),
            stalled_after: Duration::from_secs(60),
        }
    }
}

/// A warning to the operator: once when it begins, and again each time it has lasted twice as long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Alarm {
    /// An attempt is slow, and still runs.
    SlowAttempt {
        /// The attempt's; good for [`Partition::record`].
        ticket: Ticket,
        /// The record's offset.
        offset: Offset,
        /// Which attempt it is, from 1.
        attempt: u32,
        /// How long it has been running.
        running_for: Duration,
    },
    /// More attempts have become slow than are named.
    MoreSlowAttempts {
        /// How many more.
        attempts: usize,
    },
    /// The watermark has not moved; see [`Partition::oldest`] for what it waits for.
    Stalled {
        /// How long the watermark has not moved.
        stalled_for: Duration,
    },
    /// The watermark moves again, after a stall was reported.
    MovesAgain {
        /// How long it had not moved.
        stalled_for: Duration,
    },
}

pub(super) struct Watching {
    look_at: Moment,
    /// Slow attempts; some of them may have ended since.
    slow: Vec<Slow>,
    /// How many are slow and run.
    pub(super) slow_attempts: usize,
    names_left: u32,
    names_since: Moment,
    watermark: Option<Position>,
    moved_at: Moment,
    /// How long a stall has lasted when it is reported next; `None` while it has not been reported.
    stall_reported: Option<Duration>,
    alarms: VecDeque<Alarm>,
}

struct Slow {
    ticket: Ticket,
    report_after: Duration,
}

impl Watching {
    pub(super) fn new() -> Self {
        Self {
            look_at: Moment::ORIGIN,
            slow: Vec::new(),
            slow_attempts: 0,
            names_left: NAMED,
            names_since: Moment::ORIGIN,
            watermark: None,
            moved_at: Moment::ORIGIN,
            stall_reported: None,
            alarms: VecDeque::new(),
        }
    }
}

impl<R> Partition<R> {
    /// Looks for stalled work. To be called about once a second, or more often: mostly
    /// it compares two numbers.
    pub fn watch(&mut self, now: Moment) {
        self.set_now(now);
        self.watch_watermark();
        if self.now >= self.watching.look_at {
            self.watch_attempts();
        }
    }

    /// The next warning. Take all of them after each [`watch`](Self::watch).
    pub fn next_alarm(&mut self) -> Option<Alarm> {
        self.watching.alarms.pop_front()
    }

    /// How many attempts run and were slow at the last [`watch`](Self::watch).
    pub fn slow_attempts(&self) -> usize {
        self.watching.slow_attempts
    }

    /// For how long the watermark has not moved, where that is stalled. What is held up by order is
    /// not: a record that is not due yet, or whose key is paused and does not run, a partition that is
    /// paused or being given up.
    pub fn stalled_for(&self) -> Option<Duration> {
        let has_moved = self.watching.watermark != self.ledger.watermark();
        if has_moved || self.holds_starts() || self.waits_for_operator() {
            return None;
        }
        let oldest = self.pending.get(self.ledger.oldest()?);
        let since = self
            .watching
            .moved_at
            .max(oldest.since)
            .max(oldest.due().unwrap_or(Moment::ORIGIN));
        Some(self.now.since(since))
            .filter(|&stalled| stalled >= self.settings.watchdog.stalled_after)
    }

    fn watch_watermark(&mut self) {
        let watermark = self.ledger.watermark();
        let is_paused = self.paused == super::Paused::Yes || self.waits_for_operator();
        let watching = &mut self.watching;
        let moved = watching.watermark != watermark;
        if moved || self.pending.len() == 0 || is_paused || self.draining {
            let stalled_for = self.now.since(watching.moved_at);
            if watching.stall_reported.take().is_some() && moved {
                watching.alarms.push_back(Alarm::MovesAgain { stalled_for });
            }
            watching.watermark = watermark;
            watching.moved_at = self.now;
            return;
        }
        let Some(stalled_for) = self.stalled_for() else {
            return;
        };
        let watching = &mut self.watching;
        if watching
            .stall_reported
            .is_none_or(|report_after| stalled_for >= report_after)
        {
            watching.stall_reported = Some(stalled_for.saturating_mul(2));
            watching.alarms.push_back(Alarm::Stalled { stalled_for });
        }
    }

    fn watch_attempts(&mut self) {
        let threshold = self.settings.watchdog.slow_attempt;
        let now = self.now;
        if now.since(self.watching.names_since) >= threshold {
            self.watching.names_since = now;
            self.watching.names_left = NAMED;
        }
        let longest_started = if self.running() > 0 {
            self.find_slow_attempts()
        } else {
            None
        };
        let report_next = self.report_slow_attempts();
        let next = longest_started.unwrap_or(now) + threshold;
        let next = report_next.map_or(next, |report| report.min(next));
        self.watching.look_at = next.max(now + threshold / WALKS_PER_THRESHOLD);
    }

    /// Notes attempts that have become slow; returns when the longest of the others started.
    fn find_slow_attempts(&mut self) -> Option<Moment> {
        let (now, threshold, epoch) = (self.now, self.settings.watchdog.slow_attempt, self.epoch);
        let mut longest_started: Option<Moment> = None;
        let Self {
            pending, watching, ..
        } = self;
        for (slot, record) in pending
            .iter_mut()
            .filter(|(_, record)| record.state == State::Running)
        {
            if record.slow {
                continue;
            }
            if now.since(record.started) < threshold {
                longest_started =
                    Some(longest_started.map_or(record.started, |other| other.min(record.started)));
                continue;
            }
            record.slow = true;
            watching.slow_attempts += 1;
            watching.slow.push(Slow {
                ticket: Ticket {
                    slot,
                    serial: record.serial(),
                    epoch,
                },
                report_after: threshold,
            });
        }
        longest_started
    }

    /// Returns when the next one has to be reported again.
    fn report_slow_attempts(&mut self) -> Option<Moment> {
        let mut slow = std::mem::take(&mut self.watching.slow);
        slow.retain(|slow| self.is_current(slow.ticket, State::Running));
        let (mut more, mut next) = (0, None);
        for slow in &mut slow {
            let record = self.pending.get(slow.ticket.slot);
            let running_for = self.now.since(record.started);
            if running_for >= slow.report_after {
                slow.report_after = running_for.saturating_mul(2);
                if self.watching.names_left == 0 {
                    more += 1;
                } else {
                    self.watching.names_left -= 1;
                    let (ticket, offset, attempt) = (slow.ticket, record.offset, record.attempts());
                    self.watching.alarms.push_back(Alarm::SlowAttempt {
                        ticket,
                        offset,
                        attempt,
                        running_for,
                    });
                }
            }
            let again = record.started + slow.report_after;
            next = Some(next.map_or(again, |next: Moment| next.min(again)));
        }
        if more > 0 {
            self.watching
                .alarms
                .push_back(Alarm::MoreSlowAttempts { attempts: more });
        }
        self.watching.slow = slow;
        next
    }

    /// An attempt ends, in whatever way.
    pub(super) fn attempt_ended(&mut self, slot: u32) {
        self.cautious.attempt_ended(slot);
        if std::mem::take(&mut self.pending.get_mut(slot).slow) {
            self.watching.slow_attempts -= 1;
        }
    }
}
