//! The commit of partitions that are about to be given back, waited for without blocking.
//!
//! The client commits what is stored together with its answer to a revoke, and when it closes, and
//! tells nobody what became of it. The broker may refuse it: with `group.protocol=consumer` a
//! member whose epoch has moved on meanwhile (KIP-848) has to send it again, and a coordinator that
//! has just moved is not ready for longer than the client tries. Lost, the next owner would repeat
//! what was settled since the commit before, and take this one's mark for a crash.

use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;

use super::marks::TooLarge;
use crate::kafka::trouble::is_passing_at_coordinator;

/// How long after a refusal the next try waits.
const AGAIN: Duration = Duration::from_millis(20);

/// What became of a commit.
pub(crate) type Answer = Result<(), RDKafkaErrorCode>;

/// One for each hand-over, and for the shutdown.
pub(crate) struct LastCommit {
    /// An answer with another name is not taken for its own.
    under_way: Option<u64>,
    again_at: Option<Instant>,
}

impl LastCommit {
    pub(crate) fn new() -> Self {
        Self {
            under_way: None,
            again_at: None,
        }
    }

    /// Whether it was sent by this name, and not answered yet.
    pub(crate) fn is_under_way(&self, id: u64) -> bool {
        self.under_way == Some(id)
    }

    /// Whether the broker has it, or will never take it from this member. `answer` is what has come
    /// for the commit under way. `send` sends what there is to commit, if anything, and names it.
    /// After [`TooLarge`] the next look sends it again.
    pub(crate) fn is_over(
        &mut self,
        answer: Option<Answer>,
        send: impl FnOnce() -> Result<Option<u64>, RDKafkaErrorCode>,
    ) -> Result<bool, TooLarge> {
        if self.under_way.is_some() {
            let Some(answer) = answer else {
                return Ok(false);
            };
            self.under_way = None;
            match answer {
                Ok(()) => return Ok(true),
                Err(RDKafkaErrorCode::OffsetMetadataTooLarge) => return Err(TooLarge),
                Err(error) if is_passing(error) => self.again_at = Some(Instant::now() + AGAIN),
                Err(error) => {
                    tracing::warn!(%error, "the last commit was refused; what was settled since the one before may be repeated");
                    return Ok(true);
                }
            }
        }
        if self.again_at.is_some_and(|again| Instant::now() < again) {
            return Ok(false);
        }
        match send() {
            Ok(None) => return Ok(true),
            Ok(id) => self.under_way = id,
            Err(error) => {
                tracing::warn!(%error, "the last commit could not be sent; what was settled since the one before may be repeated");
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// What a second try may mend. Whoever is no member any more is not among these: its partitions are
/// lost already. A commit that waited behind a join comes with the generation before; what is lost
/// by that is not in the next list.
fn is_passing(error: RDKafkaErrorCode) -> bool {
    is_passing_at_coordinator(error)
        || matches!(
            error,
            RDKafkaErrorCode::RebalanceInProgress | RDKafkaErrorCode::IllegalGeneration
        )
}

#[cfg(test)]
mod tests {
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

    use super::*;
    use crate::kafka::Client;
    use crate::kafka::CommitPoint;
    use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};

    const PATIENCE: Duration = Duration::from_secs(30);

    fn start() -> (EmbeddedBroker, Client) {
        let broker = broker();
        let client = Client::for_tests(&broker, &[]);
        (broker, client)
    }

    fn broker() -> EmbeddedBroker {
        let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).expect("it starts");
        broker
            .create_topic("tasks", 1)
            .expect("there is no such topic");
        broker.remember_requests();
        broker
    }

    /// Looks, and has the number of the try committed, from 1.
    fn is_over(last_commit: &mut LastCommit, client: &Client, tries: &mut i64) -> bool {
        look(last_commit, client, tries).expect("there is no metadata")
    }

    fn look(
        last_commit: &mut LastCommit,
        client: &Client,
        tries: &mut i64,
    ) -> Result<bool, TooLarge> {
        let answer = client
            .commit_answer()
            .filter(|answer| last_commit.is_under_way(answer.id));
        last_commit.is_over(answer.map(|answer| answer.result), || {
            *tries += 1;
            let point = CommitPoint {
                position: *tries,
                leader_epoch: None,
                metadata: String::new(),
                mark: None,
                running: false,
            };
            let id = tries.unsigned_abs();
            client.commit_for_answer(id, [("tasks", 0, &point)].into_iter())?;
            Ok(Some(id))
        })
    }

    fn tries_until_over(last_commit: &mut LastCommit, client: &Client, mut tries: i64) -> i64 {
        let deadline = Instant::now() + PATIENCE;
        while !is_over(last_commit, client, &mut tries) {
            assert!(Instant::now() < deadline, "not over after {tries} tries");
            std::thread::yield_now();
        }
        tries
    }

    fn committed(client: &Client) -> Option<i64> {
        client.committed_offset("tasks", 0)
    }

    #[test]
    fn it_is_sent_once_and_over_when_the_broker_has_it() {
        let (broker, client) = start();
        assert_eq!(tries_until_over(&mut LastCommit::new(), &client, 0), 1);
        assert_eq!(committed(&client), Some(1));
        assert_eq!(broker.requests(RDKafkaApiKey::OffsetCommit), 1);
    }

    #[test]
    fn refused_with_another_epoch_or_in_a_rebalance_it_is_sent_again_as_it_is_by_then() {
        use RDKafkaRespErr::{
            RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION, RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
            RD_KAFKA_RESP_ERR_STALE_MEMBER_EPOCH,
        };
        let (broker, client) = start();
        let refusals = [
            RD_KAFKA_RESP_ERR_STALE_MEMBER_EPOCH,
            RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
            RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION,
            RD_KAFKA_RESP_ERR_STALE_MEMBER_EPOCH,
        ];
        broker
            .cluster()
            .request_errors(RDKafkaApiKey::OffsetCommit, &refusals);
        assert_eq!(tries_until_over(&mut LastCommit::new(), &client, 0), 5);
        assert_eq!(committed(&client), Some(5));
        assert_eq!(broker.requests(RDKafkaApiKey::OffsetCommit), 5);
    }

    #[test]
    fn who_is_no_member_any_more_does_not_try_again() {
        let (broker, client) = start();
        let refusal = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID];
        broker
            .cluster()
            .request_errors(RDKafkaApiKey::OffsetCommit, &refusal);
        assert_eq!(tries_until_over(&mut LastCommit::new(), &client, 0), 1);
        assert_eq!(committed(&client), None);
    }

    #[test]
    fn metadata_that_is_too_large_is_told_and_what_there_is_then_is_sent() {
        let (broker, client) = start();
        let refusal = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE];
        broker
            .cluster()
            .request_errors(RDKafkaApiKey::OffsetCommit, &refusal);
        let (mut last_commit, mut tries, deadline) =
            (LastCommit::new(), 0, Instant::now() + PATIENCE);
        while look(&mut last_commit, &client, &mut tries).is_ok_and(|is_over| !is_over) {
            assert!(Instant::now() < deadline, "no answer");
            std::thread::yield_now();
        }
        assert_eq!(committed(&client), None);
        assert_eq!(tries_until_over(&mut last_commit, &client, tries), 2);
        assert_eq!(committed(&client), Some(2));
    }

    #[test]
    fn silence_is_no_answer_and_no_reason_to_send_it_again() {
        let broker = broker();
        // Before the client can know it: what is sent to a broker that goes away may be answered,
        // with an error.
        broker.cluster().broker_down(1).unwrap();
        let client = Client::for_tests(&broker, &[]);
        let (mut last_commit, mut tries) = (LastCommit::new(), 0);
        let is_silent = (0..1_000).all(|_| !is_over(&mut last_commit, &client, &mut tries));
        // Before anything can fail: without a broker the client takes its time to close.
        broker.cluster().broker_up(1).unwrap();
        assert!(is_silent);
        assert_eq!(tries, 1);
        assert_eq!(tries_until_over(&mut last_commit, &client, tries), 1);
        assert_eq!(committed(&client), Some(1));
    }

    #[test]
    fn with_nothing_to_commit_it_is_over_at_once() {
        let (broker, client) = start();
        assert!(
            LastCommit::new()
                .is_over(None, || Ok(None))
                .expect("nothing is refused")
        );
        assert_eq!(committed(&client), None);
        assert_eq!(broker.requests(RDKafkaApiKey::OffsetCommit), 0);
    }
}
