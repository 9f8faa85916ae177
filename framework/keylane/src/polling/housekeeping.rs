//! What the polling thread looks after now and then: pauses, commits, the logs behind the topics,
//! lag, and the owners.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::thread::PollLoop;
use super::watch::publish;
use crate::kafka::READ_LIMIT;
use crate::metrics::PollSection;

const SLOW: Duration = Duration::from_secs(1);
/// Some recorders drop metrics without updates.
const TOUCH: Duration = Duration::from_secs(10);

/// When it was done last.
pub(super) struct Housekeeping {
    last: Instant,
    last_slow: Instant,
    last_touch: Instant,
    /// Records since.
    taken: usize,
}

impl Housekeeping {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            last: now,
            last_slow: now,
            last_touch: now,
            taken: 0,
        }
    }

    /// Whether it is due, at most once in this interval if few records come.
    pub(super) fn is_due(&mut self, taken: usize, interval: Duration) -> bool {
        self.taken += taken;
        let is_due = self.taken >= READ_LIMIT || is_due(&mut self.last, interval);
        if is_due {
            self.taken = 0;
            self.last = Instant::now();
        }
        is_due
    }
}

fn is_due(last: &mut Instant, interval: Duration) -> bool {
    let is_due = last.elapsed() >= interval;
    if is_due {
        *last = Instant::now();
    }
    is_due
}

impl PollLoop {
    pub(super) fn housekeeping(&mut self) {
        let member = &mut self.member;
        let paused = member.control.is_paused();
        if paused != member.assignment.paused {
            member.assignment.paused = paused;
            member.show_state();
        }
        if member.assignment.hold(&member.control) {
            // An earlier pause may have been shown: it is over, and this one not in force.
            publish(member);
        }
        let began = Instant::now();
        if !member.hand_over.is_under_way() {
            member.update_pauses();
        }
        let paused_at = Instant::now();
        self.poll_metrics
            .section(PollSection::Pause, paused_at - began);
        member
            .commits
            .send(&member.client, &mut member.assignment.partitions);
        self.poll_metrics
            .section(PollSection::Commit, paused_at.elapsed());
        self.reopen();
        self.beginnings
            .look_after(&mut self.member, &mut self.side_client);
        self.member.watch_owners();
        if is_due(&mut self.housekeeping.last_slow, SLOW) {
            self.slow_housekeeping();
        }
    }

    fn slow_housekeeping(&mut self) {
        let member = &mut self.member;
        self.group.look_at_epoch(member);
        self.identities.look_after(member);
        member.control.troubles.end_due();
        self.side_client.look_after(member);
        member.assignment.report_waiting(&member.control);
        publish(member);
        member
            .metrics
            .set_assigned_partitions(member.assignment.partitions.len());
        let (control, metrics) = (&member.control, &member.metrics);
        let (ongoing, held) = control.outages.report(control.name());
        metrics.set_outages(|kind| ongoing.contains(&kind));
        metrics.set_held_records(held);
        metrics.set_in_flight(control.in_flight());
        let steered = control.feed.as_ref().map(|feed| feed.status());
        let partitions = member.assignment.partitions.iter();
        let paused = partitions.filter(|it| it.steered.pause.is_some()).count();
        metrics.set_control(steered.as_ref(), paused);
        metrics.look_for_a_late_recorder(control.name());
        control
            .given_up
            .report_left_out(control.name(), Instant::now());
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        self.poll_metrics
            .set_last_poll(since_epoch.unwrap_or_default());
        if is_due(&mut self.housekeeping.last_touch, TOUCH) {
            metrics.touch();
            self.poll_metrics.touch();
        }
        self.poll_metrics.flush();
    }
}
