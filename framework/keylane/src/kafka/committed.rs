//! Reading what was committed: the offsets, and with them what earlier owners settled ahead and how
//! they ended.

use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};

use super::trouble::is_passing_at_coordinator;

/// How long an assignment waits for the committed offsets and their metadata. Without them nothing
/// starts in its partitions, and they are queried again
/// ([`Beginning::unknown`](keylane_core::Beginning::unknown)).
pub(crate) const COMMITTED_TIMEOUT: Duration = Duration::from_secs(10);

/// How long after a refusal the next try waits.
const AGAIN: Duration = Duration::from_millis(50);

/// Queries the committed offsets of the partitions in `list`, again and again for up to
/// `patience`: while a coordinator moves, the client gives up much earlier, on the first
/// time-out of a request. Queries once where `in_a_hurry`.
pub(crate) fn committed<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    list: impl Fn() -> TopicPartitionList,
    patience: Duration,
    in_a_hurry: impl Fn() -> bool,
) -> KafkaResult<TopicPartitionList> {
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match consumer.committed_offsets(list(), left.max(AGAIN)) {
            Err(error)
                if left > AGAIN
                    && !in_a_hurry()
                    && error.rdkafka_error_code().is_some_and(is_passing) =>
            {
                tracing::debug!(%error, "the committed offsets cannot be read yet");
                std::thread::sleep(AGAIN);
            }
            answer => return answer,
        }
    }
}

/// What a second try may mend.
fn is_passing(error: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{AllBrokersDown, UnstableOffsetCommit};
    is_passing_at_coordinator(error) || matches!(error, AllBrokersDown | UnstableOffsetCommit)
}
