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
        let mut assignment = Assignment::new(Arc::new(settings()), None, Box::new(drop));
        assignment.open_assigned(new_partition(0));
        assignment.open_assigned(new_partition(1));
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
            let news =
                self.hand_over
                    .advance(&self.client, &mut self.assignment, &mut self.commits)?;
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
        log_is_confirmed: false,
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
