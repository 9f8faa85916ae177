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
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use keylane_core::member::CommitPoint;
    use keylane_core::{Position, Reset};
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

    use super::*;
    use crate::config::{Limits, Watchdog};
    use crate::dead_letter::Intake;
    use crate::kafka::NewPartition;
    use crate::polling::settings::PollSettings;
    use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};

    const PATIENCE: Duration = Duration::from_secs(30);

    /// A member whose partition 0 is to be given back, after its owner has ended at offset 5. It
    /// has another, which stays.
    struct Member {
        hand_over: HandOver,
        commits: Commits,
        assignment: Assignment,
        client: Client,
    }

    impl Member {
        fn new(broker: &EmbeddedBroker, drain_timeout: Duration) -> Self {
            let client = Client::for_tests(
                broker,
                &[
                    ("enable.auto.offset.store", "false"),
                    // The client gives a commit up after this, and is not to come before us.
                    ("session.timeout.ms", "300000"),
                ],
            );
            let mut assignment = Assignment::new(Arc::new(settings()), Box::new(drop));
            assignment.open(new_partition(0), false);
            assignment.open(new_partition(1), false);
            end_owner(&assignment, 0);
            let commits = Commits::new(Duration::from_millis(10));
            let mut member = Self {
                hand_over: HandOver::new(),
                commits,
                assignment,
                client,
            };
            member.revoke(0, Revoked::Asked, drain_timeout);
            member
        }

        fn revoke(&mut self, partition: i32, revoked: Revoked, drain_timeout: Duration) {
            let places = vec![TopicPartition::new("tasks", partition)];
            self.hand_over
                .revoke(&self.client, places, revoked, drain_timeout);
        }

        /// One pass, with what was given back.
        fn pass(&mut self) -> Option<Answer> {
            self.client.read(Duration::from_millis(2), |_, _| ());
            loop {
                let news = self.hand_over.advance(
                    &self.client,
                    &mut self.assignment,
                    &mut self.commits,
                )?;
                if let News::GivenBack(answer, _) = news {
                    return Some(answer);
                }
            }
        }

        fn given_back(&mut self) -> Option<Answer> {
            let deadline = Instant::now() + PATIENCE;
            while Instant::now() < deadline {
                if let Some(answer) = self.pass() {
                    return Some(answer);
                }
            }
            None
        }

        fn committed(&self, partition: i32) -> Option<i64> {
            self.client.committed_offset("tasks", partition)
        }
    }

    fn settings() -> PollSettings {
        PollSettings {
            subscription: "subscription".into(),
            topics: vec!["tasks".into()],
            retry_topic: None,
            dead_letter_topic: None,
            intake: Intake::default(),
            limits: Limits::default(),
            commit_every: Duration::from_millis(10),
            drain_timeout: PATIENCE,
            watchdog: Watchdog::default(),
            reset: Reset::Earliest,
            broker_assigns: false,
        }
    }

    /// The owner reports offset 5, and ends.
    fn end_owner(assignment: &Assignment, place: usize) {
        let progress = &assignment.partitions[place].progress;
        progress.set_commit_point(CommitPoint {
            position: Position::new(5),
            leader_epoch: None,
            metadata: String::new(),
            mark: None,
            running: false,
        });
        progress.ended.store(true, Ordering::Release);
    }

    fn new_partition(partition: i32) -> NewPartition {
        let topic = "tasks".to_owned();
        NewPartition {
            topic,
            partition,
            committed: None,
            log: None,
            left: None,
            stale_end: None,
            beginning: None,
        }
    }

    fn broker() -> EmbeddedBroker {
        let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).expect("it starts");
        broker
            .create_topic("tasks", 2)
            .expect("there is no such topic");
        broker
    }

    #[test]
    fn a_partition_is_given_back_when_the_broker_has_its_last_commit_also_at_the_second_try() {
        let broker = broker();
        // One for the commit that is not awaited.
        let refusals = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_STALE_MEMBER_EPOCH; 2];
        broker
            .cluster()
            .request_errors(RDKafkaApiKey::OffsetCommit, &refusals);
        let mut member = Member::new(&broker, PATIENCE);
        assert!(member.given_back().is_some());
        assert_eq!(member.committed(0), Some(5));
    }

    #[test]
    fn without_a_coordinator_a_partition_is_given_back_all_the_same() {
        let broker = broker();
        broker.cluster().broker_down(1).unwrap();
        let mut member = Member::new(&broker, Duration::ZERO);
        let (at_once, in_time) = (member.pass(), member.given_back());
        // Before anything can fail: closing would wait for the commits.
        broker.cluster().broker_up(1).unwrap();
        assert_eq!(at_once, None, "there is no answer yet");
        assert!(in_time.is_some());
    }

    /// The client requests one answer for each, and one answer ends its wait for both: the first
    /// must not be lost.
    #[test]
    fn a_second_revoke_before_the_answer_to_the_first_is_answered_together_with_it() {
        let broker = broker();
        let mut member = Member::new(&broker, PATIENCE);
        member.revoke(1, Revoked::Asked, PATIENCE);
        assert_eq!(member.pass(), None, "the second owner has not ended");
        end_owner(&member.assignment, 1);
        let answer = member.given_back().expect("both have ended");
        assert_eq!(answer.places, both());
        assert_eq!(
            (member.committed(0), member.committed(1)),
            (Some(5), Some(5))
        );
        assert!(member.assignment.partitions.is_empty());
    }

    #[test]
    fn what_is_lost_during_a_hand_over_is_not_committed() {
        let broker = broker();
        let mut member = Member::new(&broker, PATIENCE);
        end_owner(&member.assignment, 1);
        member.revoke(1, Revoked::Lost, PATIENCE);
        let answer = member.given_back().expect("the first has ended");
        assert_eq!(answer.places, both());
        assert_eq!((member.committed(0), member.committed(1)), (Some(5), None));
    }

    #[test]
    fn a_shutdown_commits_all_partitions_before_the_client_closes() {
        let broker = broker();
        let mut member = Member::new(&broker, PATIENCE);
        member.hand_over.shut_down(Instant::now() + PATIENCE);
        assert!(member.given_back().is_some());
        assert!(
            !member.hand_over.is_closed(),
            "the second owner has not ended"
        );
        end_owner(&member.assignment, 0);
        let deadline = Instant::now() + PATIENCE;
        while !member.hand_over.is_closed() && Instant::now() < deadline {
            assert_eq!(member.pass(), None);
        }
        assert!(member.hand_over.is_closed());
        assert_eq!(
            (member.committed(0), member.committed(1)),
            (Some(5), Some(5))
        );
    }

    fn both() -> Vec<TopicPartition> {
        let both = [0, 1].map(|partition| TopicPartition::new("tasks", partition));
        both.to_vec()
    }
}
