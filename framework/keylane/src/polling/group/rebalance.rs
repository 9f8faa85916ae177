//! The polling thread's part in its group: rebalances, and whether it still is a member.

use std::time::Instant;

use keylane_core::member::hand_over::{Answer, AnsweredBy, Outcome, Revoked};
use keylane_core::member::{Assignor, TopicPartition};
use keylane_core::{Look, Reset};

use super::hand_over::News;
use crate::kafka::{ClientError, GroupEvent, Sign, healthy};
use crate::metrics::{DrainResult, PollSection, Rebalance};
use crate::polling::failures::recreated;
use crate::polling::thread::PollLoop;
use crate::status::SubscriptionError;

impl PollLoop {
    /// Takes part in rebalances.
    pub(crate) fn look_after_group(&mut self) {
        let events = self.client.take_events();
        if events.is_empty() && !self.hand_over.is_under_way() {
            return;
        }
        let began = Instant::now();
        for event in events {
            self.group_event(event);
        }
        #[cfg(test)]
        if self.hand_over.is_under_way() {
            crate::support::panics::planted::step("hand-over", &self.settings.subscription);
        }
        self.advance_hand_over();
        self.poll_metrics
            .section(PollSection::Rebalance, began.elapsed());
    }

    fn group_event(&mut self, event: GroupEvent) {
        match event {
            GroupEvent::Assigned {
                partitions,
                membership,
            } => {
                // Before the new ones are opened: those that stay wait already.
                self.wake_fetchers();
                self.asked.hurry();
                self.assignment.membership = membership.map(Into::into);
                self.standing.assigned();
                self.show_standing();
                self.metrics.rebalance(Rebalance::Assign);
                self.control.troubles.forget_unreadable();
                let topics: Vec<_> = partitions.iter().map(|new| new.topic.as_str()).collect();
                healthy(&self.control, Sign::Assignment(&topics));
                let names = partitions.iter();
                let places: Vec<_> = names
                    .map(|new| TopicPartition::new(&*new.topic, new.partition))
                    .collect();
                for mut new in partitions {
                    if new.left.is_some() && self.settings.reset == Reset::Error {
                        return self.control.fail(recreated(&new.topic));
                    }
                    new.log = new.log.or_else(|| self.identities.known(&new.topic));
                    self.assignment.open_assigned(new);
                }
                // Known at once: what is not cannot be paused.
                self.publish_partitions();
                self.hand_over.assigned(&places);
            }
            GroupEvent::Revoked {
                partitions,
                revoked,
                answered_by,
            } => {
                self.metrics.rebalance(match revoked {
                    Revoked::Lost => Rebalance::Lost,
                    Revoked::Asked => Rebalance::Revoke,
                });
                self.standing.revoked(match self.client.is_eager() {
                    true => Assignor::Eager,
                    false => Assignor::Cooperative,
                });
                self.show_standing();
                match answered_by {
                    AnsweredBy::HandOver => {
                        let drain_timeout = self.settings.drain_timeout;
                        self.hand_over
                            .revoke(&self.client, partitions, revoked, drain_timeout);
                    }
                    AnsweredBy::Callback => {
                        for place in &partitions {
                            self.assignment.close_now(&place.topic, place.partition);
                        }
                        match revoked {
                            Revoked::Lost => self.lost(&partitions),
                            Revoked::Asked => self.forget(&partitions),
                        }
                    }
                }
            }
            GroupEvent::Failed(error) => self.control.fail(SubscriptionError::Fatal(error)),
        }
        self.show_state();
    }

    /// Goes on with a hand-over, and with a shutdown.
    pub(crate) fn advance_hand_over(&mut self) {
        while let Some(news) =
            self.hand_over
                .advance(&self.client, &mut self.assignment, &mut self.commits)
        {
            match news {
                News::AllDrain => {
                    self.show_state();
                    self.assignment.update_pauses(&self.client, true);
                }
                News::Dropped(places) => self.lost(&places),
                News::GivenBack(answer, answered) => self.given_back(&answer, answered),
            }
        }
    }

    fn given_back(&mut self, answer: &Answer, answered: Result<(), ClientError>) {
        self.wake_fetchers();
        let result = match answer.outcome {
            Outcome::Drained => DrainResult::Drained,
            Outcome::Deadline => DrainResult::Deadline,
            Outcome::Lost => DrainResult::Lost,
        };
        self.metrics.drained(result, answer.took);
        self.metrics
            .set_assigned_partitions(self.assignment.partitions.len());
        if !answer.presumed_lost.is_empty() {
            self.lost(&answer.presumed_lost);
            // What is left, if anything, the client reports next.
            if self.assignment.partitions.is_empty() {
                self.metrics.rebalance(Rebalance::Lost);
            }
        }
        self.forget(&answer.places);
        let dropped = answer.outcome != Outcome::Drained;
        tracing::info!(took = ?answer.took, handed_back = answer.pending, dropped, "partitions given back");
        let ends = self.is_draining() || self.control.must_end();
        if let Err(error) = answered
            && let Some(error) = of_refused_answer(error.to_string(), ends)
        {
            self.control.fail(error);
        }
        if !self.control.must_end() {
            self.show_state();
        }
    }

    /// The group has given these partitions to others, or their topic is gone.
    fn lost(&mut self, places: &[TopicPartition]) {
        tracing::warn!(
            partitions = places.len(),
            "the group has given this member's partitions away; what runs there is dropped"
        );
        let are_others_left = !self.assignment.partitions.is_empty();
        self.standing.gone(Revoked::Lost, are_others_left);
        // Before they are gone from the status: to have nothing and be assigned means something
        // else.
        self.show_standing();
        self.forget(places);
    }

    /// The status no longer shows these partitions.
    fn forget(&self, places: &[TopicPartition]) {
        for place in places {
            self.control
                .remove_partition(&self.settings.intern(&place.topic), place.partition);
        }
    }

    /// After the answer to a rebalance: those that stay read on at once.
    pub(crate) fn wake_fetchers(&self) {
        if !self.is_draining() {
            self.assignment.wake_fetchers(&self.client);
        }
    }

    fn show_standing(&self) {
        self.control.set_assigned(self.standing.is_assigned());
    }

    /// Where the broker assigns, the member's epoch shows whether it has an assignment.
    pub(crate) fn look_at_membership(&mut self) {
        if self.standing.is_assigned() || !self.settings.broker_assigns {
            return;
        }
        let membership = self.client.membership();
        let epoch = membership
            .as_deref()
            .and_then(|it| it.split_once('/')?.0.parse::<i32>().ok());
        self.standing.has_epoch(epoch.unwrap_or(0));
        if self.standing.is_assigned() {
            self.show_standing();
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

/// The client refused the answer to a revoke. That is the end, where it is not near anyway: the
/// client answers by itself as it closes.
fn of_refused_answer(error: String, ends: bool) -> Option<SubscriptionError> {
    if ends {
        tracing::warn!(%error, "the client refused the answer to a revoke; it closes all the same");
        return None;
    }
    Some(SubscriptionError::Fatal(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_the_client_refuses_fails_no_subscription_that_ends_anyway() {
        let refused = |ends| of_refused_answer("erroneous state".to_owned(), ends);
        assert!(refused(true).is_none());
        assert!(matches!(refused(false), Some(SubscriptionError::Fatal(_))));
    }
}
