use std::time::Duration;

use keylane_core::Position;
use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

/// A member of a group on a broker that has the topic `tasks`.
struct Member {
    commits: Commits,
    partitions: Vec<Assigned>,
    client: Client,
    broker: EmbeddedBroker,
}

impl Member {
    /// A partition of each of these topics, of which `tasks` is there.
    fn of(topics: &[&str]) -> Self {
        Self::on(broker(), topics)
    }

    fn on(broker: EmbeddedBroker, topics: &[&str]) -> Self {
        let epochs = (1..).zip(topics);
        Self {
            commits: Commits::new(Duration::ZERO),
            partitions: epochs
                .map(|(epoch, topic)| Assigned::for_tests(topic, epoch))
                .collect(),
            client: Client::for_tests(&broker, &[("enable.auto.offset.store", "false")]),
            broker,
        }
    }

    fn refuse(&self, refusals: &[RDKafkaRespErr]) {
        let cluster = self.broker.cluster();
        cluster.request_errors(RDKafkaApiKey::OffsetCommit, refusals);
    }

    fn send_until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
            self.commits.send(&self.client, &mut self.partitions);
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn is_last_over(&mut self) -> bool {
        let partitions = &mut self.partitions;
        self.commits
            .is_last_over(&self.client, partitions, |_| true)
    }

    /// How many tries the last commit took. The position moves on with each.
    fn tries_of_last_commit(&mut self) -> usize {
        self.commits.begin_last();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let tries = self.broker.requests(RDKafkaApiKey::OffsetCommit);
            self.report(0, 1 + i64::try_from(tries).expect("few"));
            if self.is_last_over() {
                return self.broker.requests(RDKafkaApiKey::OffsetCommit);
            }
            assert!(Instant::now() < deadline, "not over after {tries} tries");
            std::thread::yield_now();
        }
    }

    /// Its owner reports its last position.
    fn report(&mut self, row: usize, position: i64) {
        let progress = &self.partitions[row].progress;
        progress.set_commit_point(point(position));
        self.commits.take_last(&mut self.partitions, |_| true);
    }

    /// Its first position waits for an answer.
    fn open(&mut self, row: usize) {
        self.partitions[row].commits.open_at_first_position();
        self.report(row, 3);
    }

    fn committed(&self) -> Option<i64> {
        self.client.committed_offset("tasks", 0)
    }
}

fn broker() -> EmbeddedBroker {
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).expect("it starts");
    broker
        .create_topic("tasks", 1)
        .expect("there is no such topic");
    broker.remember_requests();
    broker
}

fn point(position: i64) -> CommitPoint {
    CommitPoint {
        position: Position::new(position),
        leader_epoch: None,
        metadata: String::new(),
        mark: None,
        running: false,
    }
}

/// Starts wait for it, and the client, which commits nothing meanwhile, would report nothing.
#[test]
fn a_refusal_that_lasts_is_reported() {
    let mut member = Member::of(&["refused"]);
    member.open(0);
    member.send_until("a trouble", |member| {
        !member.client.control().status().troubles.is_empty()
    });
    let troubles = member.client.control().status().troubles;
    assert!(troubles[0].message.contains("cannot commit offsets"));
}

/// The mock refuses commits of topics that it does not have, as a broker those that an ACL forbids.
#[test]
fn a_topic_whose_commits_are_refused_keeps_no_other_from_its_first_position_and_marks() {
    let mut member = Member::of(&["refused", "tasks"]);
    member.open(0);
    member.open(1);
    member.send_until("its first position is taken", |member| {
        !member.partitions[1].commits.is_opening()
    });
    let marked = CommitPoint {
        mark: Some(Mark::new(1)),
        ..point(3)
    };
    member.partitions[1].progress.set_commit_point(marked);
    member.send_until("its mark is taken", |member| {
        member.partitions[1].commits.unconfirmed_mark().is_none()
    });
    assert!(
        member.partitions[0].commits.is_opening(),
        "it is tried again"
    );
}

/// What the client repeats after a while must not take the place of what was committed later: of a
/// topic that the broker does not have yet again, or a coordinator that is not ready.
#[test]
fn a_commit_that_the_client_repeats_does_not_come_after_the_last_one() {
    let mut member = Member::of(&["tasks"]);
    member.refuse(&[RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS]);
    let commits = |member: &Member| member.broker.requests(RDKafkaApiKey::OffsetCommit);
    member.partitions[0].progress.set_commit_point(point(3));
    member.send_until("the first commit is refused", |member| commits(member) == 1);
    member.report(0, 9);
    member.commits.begin_last();
    let deadline = Instant::now() + PATIENCE;
    while !member.is_last_over() && Instant::now() < deadline {
        std::thread::yield_now();
    }
    // The first one's second try, and the last one.
    assert_eq!(commits(&member), 3);
    assert_eq!(member.committed(), Some(9));
}

#[test]
fn the_last_commit_is_sent_once_where_the_broker_takes_it() {
    let mut member = Member::of(&["tasks"]);
    assert_eq!(member.tries_of_last_commit(), 1);
    assert_eq!(member.committed(), Some(1));
}

#[test]
fn a_last_commit_refused_with_another_epoch_or_in_a_rebalance_is_sent_again_as_it_is_by_then() {
    use RDKafkaRespErr::{
        RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION, RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
        RD_KAFKA_RESP_ERR_STALE_MEMBER_EPOCH,
    };
    let mut member = Member::of(&["tasks"]);
    member.refuse(&[
        RD_KAFKA_RESP_ERR_STALE_MEMBER_EPOCH,
        RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
        RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION,
        RD_KAFKA_RESP_ERR_STALE_MEMBER_EPOCH,
    ]);
    assert_eq!(member.tries_of_last_commit(), 5);
    assert!(member.committed() > Some(1));
}

#[test]
fn who_is_no_member_any_longer_does_not_try_its_last_commit_again() {
    let mut member = Member::of(&["tasks"]);
    member.refuse(&[RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID]);
    assert_eq!(member.tries_of_last_commit(), 1);
    assert_eq!(member.committed(), None);
}

#[test]
fn a_last_commit_whose_metadata_is_too_large_is_sent_again_with_less() {
    use RDKafkaRespErr::{
        RD_KAFKA_RESP_ERR_INVALID_COMMIT_OFFSET_SIZE, RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE,
    };
    for refusal in [
        RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE,
        RD_KAFKA_RESP_ERR_INVALID_COMMIT_OFFSET_SIZE,
    ] {
        let mut member = Member::of(&["tasks"]);
        member.refuse(&[refusal]);
        assert_eq!(member.tries_of_last_commit(), 2, "{refusal:?}");
        assert!(member.committed().is_some(), "{refusal:?}");
    }
}

/// No answer comes for what was never sent.
#[test]
fn a_last_commit_that_the_client_refuses_at_the_end_keeps_no_later_one_from_the_broker() {
    let mut member = Member::of(&["tasks"]);
    // No position of any log: the client takes no such list.
    member.report(0, -1);
    member.commits.begin_last();
    let partitions = &mut member.partitions;
    member
        .commits
        .end_last(&member.client, partitions, |_| true);
    member.report(0, 9);
    member.commits.begin_last();
    let deadline = Instant::now() + PATIENCE;
    while !member.is_last_over() && Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert_eq!(member.committed(), Some(9));
}

#[test]
fn silence_is_no_answer_and_no_reason_to_send_the_last_commit_again() {
    let broker = broker();
    // Before the client can know it: what is sent to a broker that goes away may be answered, with
    // an error.
    broker.cluster().broker_down(1).unwrap();
    let mut member = Member::on(broker, &["tasks"]);
    member.report(0, 1);
    member.commits.begin_last();
    let is_silent = (0..1_000).all(|_| !member.is_last_over());
    // Before anything can fail: without a broker the client takes its time to close.
    member.broker.cluster().broker_up(1).unwrap();
    assert!(is_silent);
    let deadline = Instant::now() + PATIENCE;
    while !member.is_last_over() && Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert_eq!(member.committed(), Some(1));
    assert_eq!(member.broker.requests(RDKafkaApiKey::OffsetCommit), 1);
}
