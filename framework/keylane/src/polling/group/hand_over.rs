//! Carries out what the core orders for a hand-over and for the shutdown (guarantee G8).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use keylane_core::Moment;
use keylane_core::member::TopicPartition;
use keylane_core::member::hand_over::{
    Answer, HandOver as Rules, Order, Outcome, Owner, Revoked, Seen, Unanswered, is_among,
};

use crate::kafka::{Client, ClientError};
use crate::polling::commits::Commits;
use crate::polling::partitions::{Assigned, Assignment};

/// The hand-over and the shutdown of one member. See [`keylane_core::member::hand_over`].
pub(crate) struct HandOver {
    rules: Rules,
    last_commit: Option<OrderedCommit>,
    /// Moments count from here.
    origin: Instant,
}

/// The last commit that was ordered, and of which partitions.
struct OrderedCommit {
    places: Vec<TopicPartition>,
    is_over: bool,
}

/// What the rest of the polling thread has to do with an order that was carried out.
pub(crate) enum News {
    /// All partitions drain.
    AllDrain,
    /// These are others' already, and their epochs are over.
    Dropped(Vec<TopicPartition>),
    /// A revoke was answered.
    GivenBack(Answer, Result<(), ClientError>),
}

impl HandOver {
    pub(crate) fn new() -> Self {
        Self {
            rules: Rules::default(),
            last_commit: None,
            origin: Instant::now(),
        }
    }

    /// Whether a revoke waits for its answer.
    pub(crate) fn is_under_way(&self) -> bool {
        self.rules.is_under_way()
    }

    pub(crate) fn is_shutting_down(&self) -> bool {
        self.rules.is_shutting_down()
    }

    /// Whether nothing is left to do but to close the client.
    pub(crate) fn is_closed(&self) -> bool {
        self.rules.is_closed()
    }

    /// The answer to this revoke is owed.
    pub(crate) fn revoke(
        &mut self,
        client: &Client,
        places: Vec<TopicPartition>,
        revoked: Revoked,
        drain_timeout: Duration,
    ) {
        let is_looked_up = client.is_looking_up(&places);
        let now = self.now();
        self.rules
            .revoke(places, revoked, is_looked_up, now + drain_timeout, now);
    }

    pub(crate) fn assigned(&mut self, places: &[TopicPartition]) {
        self.rules.assigned(places);
    }

    pub(crate) fn shut_down(&mut self, deadline: Instant) {
        self.rules.shut_down(self.moment(deadline));
    }

    pub(crate) fn fail(&mut self) {
        self.rules.fail();
    }

    /// Does what is due, up to the next thing that concerns others. `None` where nothing more is.
    pub(crate) fn advance(
        &mut self,
        client: &Client,
        assignment: &mut Assignment,
        commits: &mut Commits,
    ) -> Option<News> {
        loop {
            let seen = Seen {
                now: self.now(),
                lost: client.has_lost_assignment(),
                last_commit_is_over: self.is_last_commit_over(client, assignment, commits),
                owners: &assignment.partitions,
            };
            match self.rules.next(&seen)? {
                Order::Drain { places, deadline } => {
                    let deadline = self.instant(deadline);
                    for_each(assignment, &places, |assigned| {
                        assigned.revoking = true;
                        assigned.inbox.drain(deadline);
                    });
                }
                Order::DrainAll { places, deadline } => {
                    let deadline = self.instant(deadline);
                    for_each(assignment, &places, |assigned| {
                        assigned.inbox.order(|orders| orders.shutdown = true);
                        assigned.inbox.drain(deadline);
                    });
                    return Some(News::AllDrain);
                }
                Order::End { places } => {
                    for_each(assignment, &places, |assigned| assigned.inbox.end());
                }
                Order::Drop { places } => {
                    close(assignment, &places);
                    return Some(News::Dropped(places));
                }
                Order::TakeLast { places } => {
                    let is_last = |assigned: &Assigned| is_among(&places, assigned);
                    commits.take_last(&mut assignment.partitions, is_last);
                }
                Order::CommitLast { places } => {
                    commits.begin_last();
                    self.last_commit = Some(OrderedCommit {
                        places,
                        is_over: false,
                    });
                }
                Order::Answer(answer) => {
                    self.last_commit = None;
                    let is_last = |assigned: &Assigned| {
                        answer.outcome != Outcome::Lost && is_among(&answer.places, assigned)
                    };
                    commits.end_last(client, &mut assignment.partitions, is_last);
                    close(assignment, &answer.places);
                    let answered = client.answer_revoke(&answer.places);
                    return Some(News::GivenBack(answer, answered));
                }
                Order::Close => {
                    commits.end_last(client, &mut assignment.partitions, |_| true);
                    return None;
                }
                Order::ReportRunningOwners { places } => report_running_owners(&places),
                Order::ReportUnanswered(whose) => report_unanswered(whose),
            }
        }
    }

    fn is_last_commit_over(
        &mut self,
        client: &Client,
        assignment: &mut Assignment,
        commits: &mut Commits,
    ) -> bool {
        let Some(last) = &mut self.last_commit else {
            return false;
        };
        let is_last = |assigned: &Assigned| is_among(&last.places, assigned);
        last.is_over =
            last.is_over || commits.is_last_over(client, &mut assignment.partitions, is_last);
        last.is_over
    }

    fn now(&self) -> Moment {
        self.moment(Instant::now())
    }

    fn moment(&self, instant: Instant) -> Moment {
        Moment::new(instant.saturating_duration_since(self.origin))
    }

    fn instant(&self, moment: Moment) -> Instant {
        self.origin + moment.since_origin()
    }
}

impl Owner for Assigned {
    fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    fn partition(&self) -> i32 {
        self.partition
    }

    fn has_ended(&self) -> bool {
        self.has_ended()
    }

    fn has_drained(&self) -> bool {
        self.progress.drained.load(Ordering::Relaxed)
    }

    fn pending(&self) -> u64 {
        self.pending_records()
    }
}

fn for_each(
    assignment: &mut Assignment,
    places: &[TopicPartition],
    mut act: impl FnMut(&mut Assigned),
) {
    for place in places {
        if let Some(assigned) = assignment.find(&place.topic, place.partition) {
            act(assigned);
        }
    }
}

/// Ends the epochs. What they leave unsettled goes to the next owners.
fn close(assignment: &mut Assignment, places: &[TopicPartition]) {
    for place in places {
        if let Some(mut closed) = assignment.close_now(&place.topic, place.partition) {
            let pending = closed.pending_records();
            closed.read_metrics.handed_back(pending);
        }
    }
}

fn report_running_owners(places: &[TopicPartition]) {
    let partitions: Vec<_> = places.iter().map(ToString::to_string).collect();
    tracing::warn!(
        ?partitions,
        "owners do not end (is their thread blocked?); given up with what they reported last"
    );
}

fn report_unanswered(whose: Unanswered) {
    match whose {
        Unanswered::HandOver => tracing::warn!(
            "the coordinator does not answer the commit before a hand-over; records may be repeated"
        ),
        Unanswered::Shutdown => tracing::warn!(
            "the coordinator does not answer the last commit of a shutdown; records may be repeated"
        ),
    }
}

#[cfg(test)]
mod tests;
