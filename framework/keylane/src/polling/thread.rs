//! The polling thread.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::failures::panicked;
use super::group::{Group, leave, look_after_lease};
use super::housekeeping::Housekeeping;
use super::member::Member;
use super::partitions::Beginnings;
use super::settings::{OwnerFactory, PollSettings};
use super::watch::{Identities, SideClient};
use crate::kafka::{Client, EndOffsets, GroupEvent};
use crate::metrics::{PollMetrics, PollSection, SubscriptionMetrics};
use crate::status::{Control, State};
use crate::support::panics;

/// How often pauses, commit points and orders are checked: often enough that no work waits for it,
/// seldom enough that a thousand idle partitions cost little. While starts wait for a commit it is
/// [`DRAIN_WAIT`]: the commit is sent, and its answer is taken in, by two of these looks.
const HOUSEKEEPING: Duration = Duration::from_millis(5);
/// The longest wait for a message. Bounds how long an order of the handle waits.
const IDLE_WAIT: Duration = Duration::from_millis(50);
/// The same while owners drain: their end is not signalled, and a drain keeps every partition
/// waiting. The same while the broker's answer is awaited: it is not signalled either.
const DRAIN_WAIT: Duration = Duration::from_millis(2);

/// Everything the polling thread owns.
pub(crate) struct PollLoop {
    pub(super) member: Member,
    pub(super) group: Group,
    pub(super) beginnings: Beginnings,
    pub(super) identities: Identities,
    pub(super) side_client: SideClient,
    pub(super) housekeeping: Housekeeping,
    pub(super) poll_metrics: PollMetrics,
}

impl PollLoop {
    pub(crate) fn new(
        client: Client,
        control: Arc<Control>,
        metrics: Arc<SubscriptionMetrics>,
        settings: PollSettings,
        end_offsets: EndOffsets,
        open: OwnerFactory,
    ) -> Self {
        Self {
            poll_metrics: PollMetrics::new(&settings.subscription),
            side_client: SideClient::new(end_offsets, settings.dead_letter_topic.clone()),
            member: Member::new(client, control, metrics, settings, open),
            group: Group::default(),
            beginnings: Beginnings::default(),
            identities: Identities::default(),
            housekeeping: Housekeeping::new(),
        }
    }

    /// Runs until a shutdown, a failure or a panic, then closes the consumer.
    pub(crate) fn run(mut self) {
        if let Err(text) = panics::caught(|| self.turn()) {
            // Before the consumer closes, which may take its time.
            self.member.control.fail(panicked(&text));
        }
        self.close();
    }

    fn turn(&mut self) {
        while !self.member.control.must_end() {
            if let Some(deadline) = self.member.control.shutdown_deadline() {
                self.member.hand_over.shut_down(deadline);
                self.group.advance(&mut self.member);
                if self.member.hand_over.is_closed() {
                    break;
                }
            }
            self.pass();
        }
    }

    /// One pass: read, hand over, look after everything else.
    fn pass(&mut self) {
        #[cfg(test)]
        if self.member.hand_over.is_under_way() {
            panics::planted::step("pass in a hand-over", &self.member.settings.subscription);
        }
        let member = &mut self.member;
        let awaits_answer = member.commits.are_urgent(&member.assignment.partitions);
        let urgent = member.is_draining() || member.hand_over.is_under_way() || awaits_answer;
        let wait = match self.beginnings.until_next_seek(&member.assignment) {
            _ if urgent => DRAIN_WAIT,
            Some(until) => until.clamp(DRAIN_WAIT, IDLE_WAIT),
            None => IDLE_WAIT,
        };
        let entered = Instant::now();
        member.control.set_polled(entered);
        let troubled = member.control.troubles.any();
        let mut senders = BTreeSet::new();
        let mut read = member.client.read(wait, |message, cached| {
            if troubled {
                senders.insert(message.broker_id());
            }
            member.assignment.take(cached, message);
        });
        let began = Instant::now();
        self.note_reading(began - entered, read.waited);
        // Before a new epoch's start is looked for: that one counts, and of two seeks the last.
        for failed in &read.failed_fetches {
            self.member.assignment.put_back(&self.member.client, failed);
        }
        if read.taken > 0 {
            self.reopen();
            self.member.deliver(senders);
            self.poll_metrics
                .section(PollSection::HandOver, began.elapsed());
        }
        if let Some(failure) = self.member.client.failure(&mut read)
            && self.member.note(failure, &read.failed_fetches)
        {
            self.identities.hurry();
        }
        self.look_after_group();
        look_after_lease(&mut self.member);
        let interval = if awaits_answer {
            DRAIN_WAIT
        } else {
            HOUSEKEEPING
        };
        if self.housekeeping.is_due(read.taken, interval) {
            self.housekeeping();
        }
    }

    /// Where the time of a read went. Rebalances are answered inside the client, in the middle of
    /// it.
    fn note_reading(&mut self, took: Duration, waited: Duration) {
        let rebalance = self.member.client.take_rebalance_time();
        let reading = took.saturating_sub(waited).saturating_sub(rebalance);
        let waited = took.saturating_sub(reading).saturating_sub(rebalance);
        for (section, time) in [
            (PollSection::Wait, waited),
            (PollSection::Read, reading),
            (PollSection::Rebalance, rebalance),
        ] {
            if !time.is_zero() {
                self.poll_metrics.section(section, time);
            }
        }
    }

    /// Takes part in rebalances.
    fn look_after_group(&mut self) {
        let member = &mut self.member;
        let events = member.client.take_events();
        if events.is_empty() && !member.hand_over.is_under_way() {
            return;
        }
        let began = Instant::now();
        for event in events {
            if matches!(event, GroupEvent::Assigned { .. }) {
                self.beginnings.hurry();
            }
            self.group.event(event, member, &self.identities);
        }
        #[cfg(test)]
        if member.hand_over.is_under_way() {
            panics::planted::step("hand-over", &member.settings.subscription);
        }
        self.group.advance(member);
        self.poll_metrics
            .section(PollSection::Rebalance, began.elapsed());
    }

    /// Begins the new epochs of partitions whose logs have changed.
    pub(super) fn reopen(&mut self) {
        if self.member.reopen() {
            self.identities.hurry();
        }
    }

    /// Commits what is settled and leaves the group.
    fn close(mut self) {
        // Also after a panic: what owners have reported is true, whatever happened here.
        if let Err(text) = panics::caught(|| self.give_back()) {
            self.member.control.fail(panicked(&text));
        }
        let member = &self.member;
        let (control, metrics) = (member.control.clone(), member.metrics.clone());
        for partition in &member.assignment.partitions {
            control.remove_partition(&partition.topic, partition.partition);
        }
        let failed = control.has_failed();
        control.given_up.report_all_left_out(control.name());
        // Its thread ends while the group is left.
        if let Some(feed) = &control.feed {
            feed.stop();
        }
        #[cfg(test)]
        let topic = member.settings.topics.first().cloned().unwrap_or_default();
        let left = leave(move || {
            #[cfg(test)]
            panics::planted::step("close", &topic);
            drop(self);
        });
        let state = match left {
            Ok(()) if !failed => State::Stopped,
            Ok(()) => State::Failed,
            Err(error) => {
                control.fail(error);
                State::Failed
            }
        };
        control.set_state(state);
        metrics.set_state(state);
    }

    /// Ends all owners, stores their last points, and answers a revoke that is unanswered. Nothing
    /// of that is left after a shutdown.
    fn give_back(&mut self) {
        self.member.hand_over.fail();
        self.group.advance(&mut self.member);
        while !self.member.hand_over.is_closed() {
            std::thread::sleep(Duration::from_millis(1));
            self.group.advance(&mut self.member);
        }
    }
}
