//! Rows of the table.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use keylane::producer::outbox::Record;
use keylane_core::outbox::Bucket;
use uuid::Uuid;

use super::headers;
use super::store::RowName;

/// The header that has the id of the row.
pub(super) const ID_HEADER: &str = "keylane-outbox-id";

/// What names a row, and the record that is published for it: a UUID of version 7. It is in the record's
/// header `keylane-outbox-id`. Where a record is published twice, both have the same.
///
/// # Examples
/// ```
/// use keylane_sql::outbox::OutboxId;
///
/// let id: OutboxId = "01980000-0000-7000-8000-000000000000".parse()?;
/// assert_eq!(id.to_string(), "01980000-0000-7000-8000-000000000000");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OutboxId(pub(super) Uuid);

/// The text is not an id of a row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not the id of a row: 32 hexadecimal digits in groups of 8-4-4-4-12")]
pub struct OutboxIdError {
    text: String,
}

impl fmt::Display for OutboxId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl FromStr for OutboxId {
    type Err = OutboxIdError;

    fn from_str(text: &str) -> Result<Self, OutboxIdError> {
        Uuid::try_parse(text).map(Self).map_err(|_| OutboxIdError {
            text: text.chars().take(100).collect(),
        })
    }
}

/// A row to write.
#[derive(Debug)]
pub struct NewRow {
    pub(super) id: Uuid,
    pub(super) bucket: Bucket,
    pub(super) topic: String,
    pub(super) key: Option<Vec<u8>>,
    pub(super) payload: Option<Vec<u8>>,
    pub(super) headers: String,
    pub(super) partition: Option<i32>,
}

impl NewRow {
    pub(super) fn new(id: Uuid, bucket: Bucket, record: &Record) -> Self {
        Self {
            id,
            bucket,
            topic: record.topic.to_string(),
            key: record.key.as_ref().map(|key| key.to_vec()),
            payload: record.value.as_ref().map(|value| value.to_vec()),
            headers: headers::to_text(&record.headers),
            partition: record.partition,
        }
    }
}

/// A row as it is read.
#[derive(Debug)]
pub struct StoredRow {
    pub(super) seq: i64,
    pub(super) id: Uuid,
    pub(super) topic: String,
    pub(super) key: Option<Vec<u8>>,
    pub(super) payload: Option<Vec<u8>>,
    pub(super) headers: String,
    pub(super) partition: Option<i32>,
    /// By the database's clock, when it was read.
    pub(super) age: Duration,
    pub(super) read_at: Instant,
}

impl StoredRow {
    pub(super) fn name(&self) -> RowName {
        RowName {
            seq: self.seq,
            id: self.id,
        }
    }

    /// The record to publish.
    ///
    /// # Errors
    /// Why no record can be made of it, however often that is tried.
    pub(super) fn record(&mut self) -> Result<Record, String> {
        if let Err(reason) = keylane_core::check_topic_name(&self.topic) {
            return Err(format!("topic {:?}: {reason}", self.topic));
        }
        if let Some(partition) = self.partition.filter(|it| *it < 0) {
            return Err(format!("partition {partition} is negative"));
        }
        let mut headers = headers::from_text(&self.headers)?;
        if let Some((name, _)) = headers
            .iter()
            .find(|(name, _)| name.is_empty() || name.contains('\0'))
        {
            return Err(format!("{name:?} cannot be the name of a header"));
        }
        headers.remove(ID_HEADER);
        headers.push(ID_HEADER, self.id.to_string());
        Ok(Record {
            topic: self.topic.as_str().into(),
            partition: self.partition,
            key: self.key.take().map(Into::into),
            value: self.payload.take().map(Into::into),
            headers,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(topic: &str, headers: &str, partition: Option<i32>) -> StoredRow {
        StoredRow {
            seq: 1,
            id: Uuid::from_u128(7),
            topic: topic.to_owned(),
            key: Some(b"k".to_vec()),
            payload: None,
            headers: headers.to_owned(),
            partition,
            age: Duration::ZERO,
            read_at: Instant::now(),
        }
    }

    #[test]
    fn a_record_has_the_id_of_its_row_once() {
        let mut row = row("t", r#"[["keylane-outbox-id","other"],["a","1"]]"#, None);
        let record = row.record().unwrap();
        let id = "00000000-0000-0000-0000-000000000007";
        let expected = [("a", "1"), (ID_HEADER, id)].into_iter().collect();
        assert_eq!(record.headers, expected);
        assert_eq!((record.key.unwrap(), record.value), ("k".into(), None));
    }

    #[test]
    fn a_row_of_which_no_record_can_be_made_says_why() {
        for (mut row, why) in [
            (row("a b", "[]", None), "topic"),
            (row("t", "no", None), "headers"),
            (row("t", "[[\"\",\"\"]]", None), "header"),
            (row("t", "[]", Some(-2)), "partition -2"),
        ] {
            let reason = row.record().unwrap_err();
            assert!(reason.contains(why), "{reason}");
        }
    }
}
