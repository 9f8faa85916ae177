//! Dead letters as they lie in their topic.

use std::collections::BTreeMap;

use crate::{
    journal::Place,
    kafka::{HarnessError, Kafka, StoredRecord},
};

/// The dead letters of `topic` by where they came from. Records that are no dead letters (probes of
/// a test) are left out.
///
/// # Errors
/// As [`Kafka::read_all`].
pub async fn dead_letters(
    kafka: &Kafka,
    topic: &str,
) -> Result<BTreeMap<Place, Vec<StoredRecord>>, HarnessError> {
    let mut found: BTreeMap<Place, Vec<StoredRecord>> = BTreeMap::new();
    for record in kafka.read_all(topic).await? {
        if let Some(place) = origin(&record) {
            found.entry(place).or_default().push(record);
        }
    }
    Ok(found)
}

/// Where a dead letter, or a record of a retry topic, was read first.
pub fn origin(record: &StoredRecord) -> Option<Place> {
    Some(Place {
        topic: record.header("keylane-origin-topic")?.to_owned(),
        partition: record.header("keylane-origin-partition")?.parse().ok()?,
        offset: record.header("keylane-origin-offset")?.parse().ok()?,
    })
}
