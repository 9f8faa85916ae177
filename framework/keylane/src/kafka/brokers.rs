//! Whether brokers that were away answer again, on a quiet topic too, where no record would show
//! it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};

/// A partition: topic and number.
pub(crate) type Key = (Arc<str>, i32);

/// Those of `brokers` that answer a question about one of the partitions `led`; and those that lead
/// none of them and are there by the word of the others. Waits up to `within` for each question:
/// one per topic, one per broker.
pub(crate) fn answering<C: ClientContext + ConsumerContext>(
    client: &BaseConsumer<C>,
    brokers: &[i32],
    led: &[Key],
    within: Duration,
) -> Vec<i32> {
    let topics: BTreeSet<_> = led.iter().map(|(topic, _)| topic).collect();
    let mut leads: BTreeMap<i32, (&str, i32)> = BTreeMap::new();
    let mut there = BTreeSet::new();
    for topic in topics {
        let Ok(metadata) = client.fetch_metadata(Some(topic), within) else {
            return Vec::new();
        };
        there.extend(metadata.brokers().iter().map(|broker| broker.id()));
        for partition in metadata
            .topics()
            .iter()
            .flat_map(|topic| topic.partitions())
        {
            if led
                .iter()
                .any(|(name, id)| name == topic && *id == partition.id())
            {
                leads.insert(partition.leader(), (topic, partition.id()));
            }
        }
    }
    let answers = |broker: &i32| match leads.get(broker) {
        Some((topic, partition)) => client.fetch_watermarks(topic, *partition, within).is_ok(),
        None => there.contains(broker),
    };
    brokers.iter().copied().filter(answers).collect()
}
