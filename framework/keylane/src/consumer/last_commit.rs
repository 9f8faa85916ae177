//! The commit of partitions that are about to be given back, waited for without blocking.
//!
//! The client commits what is stored together with its answer to a revoke, and tells nobody what became of it. The broker may
//! refuse it: with `group.protocol=consumer` a member whose epoch has moved on meanwhile (KIP-848) has to send it again. Lost, the
//! next owner would repeat what was settled since the commit before, and take this one's mark for a crash.

use std::time::{Duration, Instant};

use rdkafka::consumer::BaseConsumer;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{TopicPartitionList, error::KafkaResult};

use super::commit_queue::CommitQueue;
use super::context::Context;

/// How long after a refusal the next try waits.
const AGAIN: Duration = Duration::from_millis(20);

pub(super) struct LastCommit {
    /// One for each hand-over: an answer that was not waited for is not taken for that of the next.
    queue: CommitQueue,
    under_way: bool,
    again_at: Option<Instant>,
}

impl LastCommit {
    pub(super) fn new(consumer: &BaseConsumer<Context>) -> Self {
        Self { queue: CommitQueue::new(consumer), under_way: false, again_at: None }
    }

    /// Whether the broker has it, or will never take it from this member. `list` is what to commit, if anything.
    pub(super) fn is_over(
        &mut self,
        consumer: &BaseConsumer<Context>,
        list: impl FnOnce() -> KafkaResult<Option<TopicPartitionList>>,
    ) -> bool {
        if self.under_way {
            let Some(answer) = self.queue.answer() else { return false };
            self.under_way = false;
            match answer {
                Ok(()) => return true,
                Err(error) if is_passing(error) => self.again_at = Some(Instant::now() + AGAIN),
                Err(error) => {
                    tracing::warn!(%error, "the commit before a hand-over was refused; its records may be repeated");
                    return true;
                }
            }
        }
        if self.again_at.is_some_and(|again| Instant::now() < again) {
            return false;
        }
        let sent = match list() {
            Ok(None) => return true,
            Ok(Some(list)) => self.queue.send(consumer, &list),
            Err(error) => Err(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::InvalidArgument)),
        };
        match sent {
            Ok(()) => self.under_way = true,
            Err(error) => {
                tracing::warn!(%error, "the commit before a hand-over could not be sent; its records may be repeated");
                return true;
            }
        }
        false
    }
}

/// What a second try may mend. Whoever is no member any more is not among these: its partitions are lost already.
fn is_passing(error: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{
        BrokerTransportFailure, CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator,
        RebalanceInProgress, RequestTimedOut, StaleMemberEpoch,
    };
    matches!(
        error,
        StaleMemberEpoch
            | RebalanceInProgress
            | NotCoordinator
            | CoordinatorNotAvailable
            | CoordinatorLoadInProgress
            | RequestTimedOut
            | BrokerTransportFailure
    )
}
