//! The polling thread's part in its group's rebalances.

use keylane_core::Reset;
use keylane_core::member::hand_over::{Answer, AnsweredBy, Outcome, Revoked};
use keylane_core::member::{Assignor, Standing, TopicPartition};

use super::hand_over::News;
use crate::kafka::{ClientError, GroupEvent, Sign, healthy};
use crate::metrics::{DrainResult, Rebalance};
use crate::polling::failures::recreated;
use crate::polling::member::Member;
use crate::polling::watch::{Identities, publish};
use crate::status::SubscriptionError;

/// Whether this member has an assignment, and what became of its partitions.
#[derive(Default)]
pub(crate) struct Group {
    standing: Standing,
}

impl Group {
    /// Takes part in a rebalance. `logs`: the topics' logs, as far as they are known.
    pub(crate) fn event(&mut self, event: GroupEvent, member: &mut Member, logs: &Identities) {
        match event {
            GroupEvent::Assigned {
                partitions,
                membership,
            } => {
                // Before the new ones are opened: those that stay wait already.
                member.wake_fetchers();
                member.assignment.membership = membership.map(Into::into);
                if let Some(feed) = &member.control.feed {
                    feed.set_membership(member.assignment.membership.clone());
                }
                self.standing.assigned();
                member.metrics.rebalance(Rebalance::Assign);
                member.control.troubles.forget_unreadable();
                let topics: Vec<_> = partitions.iter().map(|new| new.topic.as_str()).collect();
                healthy(&member.control, Sign::Assignment(&topics));
                let names = partitions.iter();
                let places: Vec<_> = names
                    .map(|new| TopicPartition::new(&*new.topic, new.partition))
                    .collect();
                for mut new in partitions {
                    if new.left.is_some() && member.settings.reset == Reset::Error {
                        return member.control.fail(recreated(&new.topic));
                    }
                    new.log = new.log.or_else(|| logs.known(&new.topic));
                    member.assignment.open_assigned(new);
                }
                // Known at once: what is not cannot be paused. Before the standing: a member that
                // is assigned, and shows no partitions, would look idle.
                publish(member);
                self.show_standing(member);
                member.hand_over.assigned(&places);
            }
            GroupEvent::Revoked {
                partitions,
                revoked,
                answered_by,
            } => {
                member.metrics.rebalance(match revoked {
                    Revoked::Lost => Rebalance::Lost,
                    Revoked::Asked => Rebalance::Revoke,
                });
                self.standing.revoked(match member.client.is_eager() {
                    true => Assignor::Eager,
                    false => Assignor::Cooperative,
                });
                self.show_standing(member);
                match answered_by {
                    AnsweredBy::HandOver => {
                        let drain_timeout = member.settings.drain_timeout;
                        member
                            .hand_over
                            .revoke(&member.client, partitions, revoked, drain_timeout);
                    }
                    AnsweredBy::Callback => {
                        for place in &partitions {
                            member.assignment.close_now(&place.topic, place.partition);
                        }
                        match revoked {
                            Revoked::Lost => self.lost(member, &partitions),
                            Revoked::Asked => forget(member, &partitions),
                        }
                    }
                }
            }
            GroupEvent::Failed(error) => member.control.fail(SubscriptionError::Fatal(error)),
        }
        member.show_state();
    }

    /// Goes on with a hand-over, and with a shutdown.
    pub(crate) fn advance(&mut self, member: &mut Member) {
        while let Some(news) =
            member
                .hand_over
                .advance(&member.client, &mut member.assignment, &mut member.commits)
        {
            match news {
                News::AllDrain => {
                    member.show_state();
                    member.update_pauses();
                }
                News::Dropped(places) => self.lost(member, &places),
                News::GivenBack(answer, answered) => self.given_back(member, &answer, answered),
            }
        }
    }

    fn given_back(
        &mut self,
        member: &mut Member,
        answer: &Answer,
        answered: Result<(), ClientError>,
    ) {
        member.wake_fetchers();
        let result = match answer.outcome {
            Outcome::Drained => DrainResult::Drained,
            Outcome::Deadline => DrainResult::Deadline,
            Outcome::Lost => DrainResult::Lost,
        };
        member.metrics.drained(result, answer.took);
        member
            .metrics
            .set_assigned_partitions(member.assignment.partitions.len());
        if !answer.presumed_lost.is_empty() {
            self.lost(member, &answer.presumed_lost);
            // What is left, if anything, the client reports next.
            if member.assignment.partitions.is_empty() {
                member.metrics.rebalance(Rebalance::Lost);
            }
        }
        forget(member, &answer.places);
        let dropped = answer.outcome != Outcome::Drained;
        tracing::info!(took = ?answer.took, handed_back = answer.pending, dropped, "partitions given back");
        let ends = member.is_draining() || member.control.must_end();
        if let Err(error) = answered
            && let Some(error) = of_refused_answer(error.to_string(), ends)
        {
            member.control.fail(error);
        }
        if !member.control.must_end() {
            member.show_state();
        }
    }

    /// The group has given these partitions to others, or their topic is gone.
    fn lost(&mut self, member: &Member, places: &[TopicPartition]) {
        tracing::warn!(
            partitions = places.len(),
            "the group has given this member's partitions away; what runs there is dropped"
        );
        let are_others_left = !member.assignment.partitions.is_empty();
        self.standing.gone(Revoked::Lost, are_others_left);
        // Before they are gone from the status: to have nothing and be assigned means something
        // else.
        self.show_standing(member);
        forget(member, places);
    }

    fn show_standing(&self, member: &Member) {
        member.control.set_assigned(self.standing.is_assigned());
    }

    /// Where the broker assigns, the member's epoch shows whether it has an assignment.
    pub(crate) fn look_at_epoch(&mut self, member: &Member) {
        if self.standing.is_assigned() || !member.settings.broker_assigns {
            return;
        }
        let membership = member.client.membership();
        let epoch = membership
            .as_deref()
            .and_then(|it| it.split_once('/')?.0.parse::<i32>().ok());
        self.standing.has_epoch(epoch.unwrap_or(0));
        if self.standing.is_assigned() {
            self.show_standing(member);
            member.show_state();
        }
    }
}

/// The status no longer shows these partitions.
fn forget(member: &Member, places: &[TopicPartition]) {
    for place in places {
        member
            .control
            .remove_partition(&member.settings.intern(&place.topic), place.partition);
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
