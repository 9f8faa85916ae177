//! How many records lie in a topic.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};

const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The offsets between start and end of the topic's partitions. `None` where one of them does not
/// answer.
///
/// What compaction removed and the markers of transactions count as well: Kafka reports no closer
/// number.
pub(crate) fn count<C: ConsumerContext>(client: &BaseConsumer<C>, topic: &str) -> Option<u64> {
    let metadata = client.fetch_metadata(Some(topic), ANSWER_WITHIN).ok()?;
    let of_topic = metadata
        .topics()
        .first()
        .filter(|topic| topic.error().is_none())?;
    of_topic
        .partitions()
        .iter()
        .map(|partition| records(client, topic, partition.id()))
        .sum()
}

fn records<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    topic: &str,
    partition: i32,
) -> Option<u64> {
    match client.fetch_watermarks(topic, partition, ANSWER_WITHIN) {
        Ok((start, end)) => u64::try_from(end.saturating_sub(start)).ok(),
        Err(error) => {
            tracing::debug!(topic, partition, %error, "the records in the dead-letter topic cannot be counted");
            None
        }
    }
}
