//! The polling thread's part in its group: rebalances, and whether it still is a member.

use std::time::Instant;

use keylane_core::{Look, Reset};

use super::handover::Handover;
use crate::kafka::{GroupEvent, Sign, healthy};
use crate::metrics::{DrainResult, PollSection, Rebalance};
use crate::polling::failures::made_anew;
use crate::polling::thread::PollLoop;
use crate::status::SubscriptionError;

impl PollLoop {
    /// Takes part in rebalances.
    pub(crate) fn look_after_group(&mut self) {
        let events = self.client.take_events();
        if events.is_empty() && self.handover.is_none() {
            return;
        }
        let began = Instant::now();
        for event in events {
            self.group_event(event);
        }
        self.advance_handover();
        self.poll_metrics
            .section(PollSection::Rebalance, began.elapsed());
    }

    fn group_event(&mut self, event: GroupEvent) {
        self.intake.table_changed();
        match event {
            GroupEvent::Assigned {
                partitions,
                membership,
            } => {
                // Before the new ones are opened: those that stay wait already.
                self.wake_fetchers();
                self.asked.hurry();
                self.assignment.membership = membership.map(Into::into);
                self.control.set_assigned(true);
                self.metrics.rebalance(Rebalance::Assign);
                self.control.troubles.forget_unreadable();
                let topics: Vec<_> = partitions.iter().map(|new| new.topic.as_str()).collect();
                healthy(&self.control, Sign::Assignment(&topics));
                for mut new in partitions {
                    if new.left.is_some() && self.settings.reset == Reset::Error {
                        return self.control.fail(made_anew(&new.topic));
                    }
                    new.log = new.log.or_else(|| self.identities.known(&new.topic));
                    self.assignment.open(new, self.was_paused);
                }
                // Known at once: what is not cannot be paused.
                self.tell_partitions();
                if self.draining {
                    // Assigned while shutting down: nothing of it starts.
                    self.order_drain(
                        self.control
                            .shutdown_deadline()
                            .unwrap_or_else(Instant::now),
                    );
                }
            }
            GroupEvent::Revoked {
                partitions,
                lost,
                answered,
            } => {
                let event = if lost {
                    Rebalance::Lost
                } else {
                    Rebalance::Revoke
                };
                self.metrics.rebalance(event);
                if self.client.is_eager() {
                    self.control.set_assigned(false);
                }
                if answered {
                    if lost {
                        tell_of_loss(partitions.len());
                    }
                    for (topic, partition) in &partitions {
                        self.assignment.close_now(topic, *partition);
                    }
                    // Of a topic that was deleted only its own partitions are lost. Before they are
                    // gone from the status: to have nothing and be assigned means something else.
                    if lost && self.assignment.partitions.is_empty() {
                        self.control.set_assigned(false);
                    }
                    for (topic, partition) in &partitions {
                        self.control
                            .remove_partition(&self.settings.intern(topic), *partition);
                    }
                } else if let Some(handover) = &mut self.handover {
                    handover.join(&self.client, &mut self.assignment, partitions);
                } else {
                    let deadline = Instant::now() + self.settings.drain_timeout;
                    self.handover = Some(Handover::begin(
                        &self.client,
                        &mut self.assignment,
                        partitions,
                        deadline,
                    ));
                }
            }
            GroupEvent::Failed(error) => self.control.fail(SubscriptionError::Fatal(error)),
        }
        self.show_state();
    }

    fn advance_handover(&mut self) {
        let Some(mut handover) = self.handover.take() else {
            return;
        };
        #[cfg(test)]
        crate::support::panics::planted::step("hand-over", &self.settings.subscription);
        if let Some(deadline) = self.control.shutdown_deadline() {
            handover.hurry(&mut self.assignment, deadline);
        }
        if !handover.is_ready(&self.client, &mut self.assignment, &mut self.commits) {
            self.handover = Some(handover);
            return;
        }
        let finished = handover.finish(&self.client, &mut self.assignment, &mut self.commits);
        self.wake_fetchers();
        self.intake.table_changed();
        for (topic, partition) in &finished.partitions {
            self.control
                .remove_partition(&self.settings.intern(topic), *partition);
        }
        self.metrics.drained(finished.result, finished.took);
        self.metrics
            .set_assigned_partitions(self.assignment.partitions.len());
        if finished.result == DrainResult::Lost {
            tell_of_loss(finished.partitions.len());
            // Of what is left, if anything, the client tells next.
            if self.assignment.partitions.is_empty() {
                self.metrics.rebalance(Rebalance::Lost);
                self.control.set_assigned(false);
            }
        }
        tracing::info!(took = ?finished.took, handed_back = finished.handed_back, dropped = finished.dropped, "partitions given back");
        if let Some(error) = finished.error {
            self.control
                .fail(SubscriptionError::Fatal(error.to_string()));
        }
        self.show_state();
    }

    /// After the answer to a rebalance: those that stay read on at once.
    pub(crate) fn wake_fetchers(&self) {
        if !self.draining {
            let reading = self
                .assignment
                .partitions
                .iter()
                .filter(|partition| !partition.fetch_paused);
            self.client
                .wake(reading.map(|partition| (&*partition.topic, partition.partition)));
        }
    }

    /// Where the broker assigns, a member that gets nothing hears of no rebalance, neither at first
    /// nor after it has lost what it had: that it has an epoch has to do. One that was thrown out
    /// has none until it is a member again.
    pub(crate) fn look_at_membership(&mut self) {
        if self.control.is_assigned() || !self.settings.broker_assigns {
            return;
        }
        let membership = self.client.membership();
        let epoch = membership
            .as_deref()
            .and_then(|it| it.split_once('/')?.0.parse::<i32>().ok());
        if epoch.is_some_and(|epoch| epoch > 0) {
            self.control.set_assigned(true);
            self.show_state();
        }
    }

    /// Where the process has stood still nothing starts until the group has answered for this
    /// member.
    pub(crate) fn look_after_lease(&mut self) {
        match self.client.lease().look() {
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
                self.client.lease().confirm();
                tracing::info!(
                    "the group has confirmed the membership, or taken it away; going on"
                );
            }
            Look::GaveUp => {
                self.commits.forget_proof();
                tracing::warn!(
                    "the group does not confirm the membership (the brokers are away?); going on without"
                );
            }
        }
        for partition in &self.assignment.partitions {
            partition.inbox.order(|orders| orders.confirmed += 1);
        }
    }
}

fn tell_of_loss(partitions: usize) {
    tracing::warn!(
        partitions,
        "the group has given this member's partitions away; what runs there is dropped"
    );
}
