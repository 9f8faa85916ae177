//! Giving partitions back: drain, commit the final offsets, unassign (guarantee G8).

use std::time::{Duration, Instant};

use super::drain::{Drain, drain};
use crate::kafka::{Client, ClientError};
use crate::metrics::DrainResult;
use crate::polling::commits::{Commits, LastCommit};
use crate::polling::partitions::{Assigned, Assignment};

/// How long at least the broker's word on the last commit is waited for; it usually comes within
/// milliseconds. With the coordinator away the partitions are given up without.
const COMMIT_PATIENCE: Duration = Duration::from_secs(1);
/// And at most, where the drain deadline leaves the time: while a revoke is unanswered the client
/// does not tell that the group has taken away what stays.
const LONGEST_COMMIT_PATIENCE: Duration = Duration::from_secs(5);

/// The revokes that were reported and not answered yet. The client delivers nothing and commits
/// nothing by itself until they are. Usually one: a second comes when a topic is deleted meanwhile.
pub(crate) struct Handover {
    partitions: Vec<(String, i32)>,
    began: Instant,
    deadline: Instant,
    /// Not answered before.
    not_before: Instant,
    /// The group has taken everything away meanwhile.
    lost: bool,
    /// Once the owners have ended.
    last_commit: Option<LastCommit>,
}

impl Handover {
    pub(crate) fn begin(
        client: &Client,
        assignment: &mut Assignment,
        partitions: Vec<(String, i32)>,
        deadline: Instant,
    ) -> Self {
        revoke(assignment, &partitions, deadline);
        let began = Instant::now();
        let not_before = not_before(client, &partitions);
        Self {
            partitions,
            began,
            deadline,
            not_before,
            lost: false,
            last_commit: None,
        }
    }

    /// Another revoke before the answer to the first. One answer is for both, by the first
    /// deadline: the client waits for no second one.
    pub(crate) fn join(
        &mut self,
        client: &Client,
        assignment: &mut Assignment,
        partitions: Vec<(String, i32)>,
    ) {
        revoke(assignment, &partitions, self.deadline);
        self.not_before = self.not_before.max(not_before(client, &partitions));
        let news = partitions
            .into_iter()
            .filter(|place| !self.partitions.contains(place))
            .collect::<Vec<_>>();
        self.partitions.extend(news);
        // What it was about does not cover the new ones.
        self.last_commit = None;
    }

    /// Brings the deadline forward.
    pub(crate) fn hurry(&mut self, assignment: &mut Assignment, deadline: Instant) {
        if deadline >= self.deadline {
            return;
        }
        self.deadline = deadline;
        for (topic, partition) in &self.partitions {
            if let Some(assigned) = assignment.find(topic, *partition) {
                assigned.inbox.drain(deadline);
            }
        }
    }

    /// Whether the revoke can be answered: the owners have ended, and the broker has their last
    /// commit.
    pub(crate) fn is_ready(
        &mut self,
        client: &Client,
        assignment: &mut Assignment,
        commits: &mut Commits,
    ) -> bool {
        if Instant::now() < self.not_before {
            return false;
        }
        // There is nothing to wait for then, and nothing that could be committed.
        self.lost |= client.has_lost_assignment();
        if self.lost {
            return true;
        }
        if self.last_commit.is_none() {
            if !self.has_drained(assignment) {
                return false;
            }
            self.store_last_points(client, assignment, commits);
        }
        let places = &self.partitions;
        let last_commit = self.last_commit.get_or_insert_with(LastCommit::new);
        let gives_back = |assigned: &Assigned| is_one_of(places, assigned);
        if commits.is_last_over(last_commit, client, &mut assignment.partitions, gives_back) {
            return true;
        }
        let since = last_commit.since();
        let until = self
            .deadline
            .clamp(since + COMMIT_PATIENCE, since + LONGEST_COMMIT_PATIENCE);
        let gave_up = Instant::now() >= until;
        if gave_up {
            tracing::warn!(
                "the coordinator does not answer the commit before a hand-over; records may be repeated"
            );
        }
        gave_up
    }

    /// Whether the owners have ended, or would not.
    fn has_drained(&self, assignment: &Assignment) -> bool {
        let owners = assignment
            .partitions
            .iter()
            .filter(|assigned| is_one_of(&self.partitions, assigned));
        let state = drain(owners.clone(), self.deadline);
        if state == Drain::GivenUp {
            let running = owners.filter(|assigned| !assigned.has_ended());
            let partitions: Vec<_> = running
                .map(|assigned| (&*assigned.topic, assigned.partition))
                .collect();
            tracing::warn!(
                ?partitions,
                "owners do not end (is their thread blocked?); given up with what they reported last"
            );
        }
        state != Drain::Runs
    }

    fn store_last_points(
        &self,
        client: &Client,
        assignment: &mut Assignment,
        commits: &mut Commits,
    ) {
        let gives_back = |assigned: &Assigned| is_one_of(&self.partitions, assigned);
        commits.store_last(client, &mut assignment.partitions, true, gives_back);
    }

    /// Answers the revoke. What the owners have said since the last commit is stored, and the
    /// client commits it with the answer.
    pub(crate) fn finish(
        self,
        client: &Client,
        assignment: &mut Assignment,
        commits: &mut Commits,
    ) -> Finished {
        self.store_last_points(client, assignment, commits);
        let took = self.began.elapsed();
        let (mut handed_back, mut dropped) = (0, false);
        for (topic, partition) in &self.partitions {
            if let Some(mut assigned) = assignment.close_now(topic, *partition) {
                let pending = assigned.pending_records();
                assigned.read_metrics.handed_back(pending);
                handed_back += pending;
                dropped |= !assigned
                    .progress
                    .drained
                    .load(std::sync::atomic::Ordering::Relaxed);
            }
        }
        let answer = client.answer_revoke(&self.partitions);
        let result = match (self.lost, dropped) {
            (true, _) => DrainResult::Lost,
            (false, true) => DrainResult::Deadline,
            (false, false) => DrainResult::Drained,
        };
        Finished {
            partitions: self.partitions,
            took,
            handed_back,
            dropped,
            result,
            error: answer.err(),
        }
    }
}

fn not_before(client: &Client, partitions: &[(String, i32)]) -> Instant {
    Instant::now() + client.wait_before_answer(partitions)
}

fn revoke(assignment: &mut Assignment, partitions: &[(String, i32)], deadline: Instant) {
    for (topic, partition) in partitions {
        if let Some(assigned) = assignment.find(topic, *partition) {
            assigned.revoking = true;
            assigned.inbox.drain(deadline);
        }
    }
}

fn is_one_of(places: &[(String, i32)], assigned: &Assigned) -> bool {
    places
        .iter()
        .any(|(topic, partition)| assigned.partition == *partition && *assigned.topic == **topic)
}

pub(crate) struct Finished {
    /// What was given back.
    pub(crate) partitions: Vec<(String, i32)>,
    pub(crate) took: Duration,
    /// Records delivered, not settled, and left to the next owner.
    pub(crate) handed_back: u64,
    /// Attempts had to be dropped.
    pub(crate) dropped: bool,
    pub(crate) result: DrainResult,
    pub(crate) error: Option<ClientError>,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use keylane_core::Reset;
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

    use super::*;
    use crate::kafka::CommitPoint;
    use crate::kafka::NewPartition;
    use crate::polling::settings::PollSettings;
    use crate::{Limits, Watchdog};
    use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};

    const PATIENCE: Duration = Duration::from_secs(30);

    /// A member whose partition 0 is to be given back, after its owner has ended at offset 5. It
    /// has another, which stays.
    struct Member {
        handover: Handover,
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
            let commits = Commits::new();
            let deadline = Instant::now() + drain_timeout;
            let handover = Handover::begin(
                &client,
                &mut assignment,
                vec![("tasks".into(), 0)],
                deadline,
            );
            Self {
                handover,
                commits,
                assignment,
                client,
            }
        }

        fn is_ready(&mut self) -> bool {
            self.handover
                .is_ready(&self.client, &mut self.assignment, &mut self.commits)
        }

        fn is_ready_in_time(&mut self) -> bool {
            let deadline = Instant::now() + PATIENCE;
            while !self.is_ready() {
                if Instant::now() >= deadline {
                    return false;
                }
                self.client.read(Duration::from_millis(2), |_, _| ());
            }
            true
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
            limits: Limits::default(),
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
            position: 5,
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
        // One for the commit that nobody waits for.
        let refusals = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_STALE_MEMBER_EPOCH; 2];
        broker
            .cluster()
            .request_errors(RDKafkaApiKey::OffsetCommit, &refusals);
        let mut member = Member::new(&broker, PATIENCE);
        assert!(member.is_ready_in_time());
        assert_eq!(member.committed(0), Some(5));
    }

    #[test]
    fn without_a_coordinator_a_partition_is_given_back_all_the_same() {
        let broker = broker();
        broker.cluster().broker_down(1).unwrap();
        let mut member = Member::new(&broker, Duration::ZERO);
        let (at_once, in_time) = (member.is_ready(), member.is_ready_in_time());
        // Before anything can fail: closing would wait for the commits.
        broker.cluster().broker_up(1).unwrap();
        assert!(!at_once, "nobody has answered");
        assert!(in_time);
    }

    /// The client asks once for each, and one answer ends its wait for both: the first must not be
    /// forgotten.
    #[test]
    fn a_second_revoke_before_the_answer_to_the_first_is_answered_together_with_it() {
        let broker = broker();
        let mut member = Member::new(&broker, PATIENCE);
        member.handover.join(
            &member.client,
            &mut member.assignment,
            vec![("tasks".into(), 1)],
        );
        assert!(!member.is_ready(), "the second owner has not ended");
        end_owner(&member.assignment, 1);
        assert!(member.is_ready_in_time());
        assert_eq!(
            (member.committed(0), member.committed(1)),
            (Some(5), Some(5))
        );
        let Member {
            handover,
            mut commits,
            mut assignment,
            client,
        } = member;
        let given_back = handover
            .finish(&client, &mut assignment, &mut commits)
            .partitions;
        assert_eq!(
            given_back,
            [("tasks".to_owned(), 0), ("tasks".to_owned(), 1)]
        );
        assert!(assignment.partitions.is_empty());
    }

    /// Giving up before would repeat records although there is time left to commit them.
    #[test]
    fn the_last_commit_is_waited_for_until_the_drain_deadline() {
        let broker = broker();
        broker.cluster().broker_down(1).unwrap();
        let mut member = Member::new(&broker, PATIENCE);
        let mut is_ready = member.is_ready();
        // What counts is that all of this is over.
        let long = Instant::now() + COMMIT_PATIENCE * 2;
        while !is_ready && Instant::now() < long {
            member.client.read(Duration::from_millis(2), |_, _| ());
            is_ready = member.is_ready();
        }
        broker.cluster().broker_up(1).unwrap();
        assert!(!is_ready, "nobody has answered");
        assert!(member.is_ready_in_time());
        assert_eq!(member.committed(0), Some(5));
    }
}
