//! Which offsets a topic has.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};

use super::LetterRange;

const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The offsets between start and end of each of the topic's partitions. `None` where one of them
/// does not answer.
pub(crate) fn ranges<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    topic: &str,
) -> Option<Vec<LetterRange>> {
    let metadata = client.fetch_metadata(Some(topic), ANSWER_WITHIN).ok()?;
    let of_topic = metadata
        .topics()
        .first()
        .filter(|topic| topic.error().is_none())?;
    let partitions = of_topic.partitions().iter();
    partitions
        .map(|partition| range(client, topic, partition.id()))
        .collect()
}

/// How many records they have at most. What compaction removed and the markers of transactions
/// count as well: Kafka reports no closer number.
pub(crate) fn records(ranges: &[LetterRange]) -> u64 {
    let lengths = ranges.iter().map(|it| it.end.saturating_sub(it.first));
    lengths
        .filter_map(|length| u64::try_from(length).ok())
        .sum()
}

fn range<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    topic: &str,
    partition: i32,
) -> Option<LetterRange> {
    match client.fetch_watermarks(topic, partition, ANSWER_WITHIN) {
        Ok((first, end)) => Some(LetterRange::new(partition, first, end)),
        Err(error) => {
            tracing::debug!(topic, partition, %error, "the records in the dead-letter topic cannot be counted");
            None
        }
    }
}
