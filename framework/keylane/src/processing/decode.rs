//! Decodes a record's bytes into the payload of a task.

use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::record::{DecodeError, Record};

/// Turns the value of a record into the payload of a task.
///
/// Runs once per attempt on the tokio runtime, never on the polling thread. A value that cannot be
/// decoded is a fatal failure: the raw bytes go to the dead-letter topic.
///
/// # Examples
/// A decoder of your own, here for text:
/// ```
/// use keylane::error::DecodeError;
/// use keylane::record::Record;
/// use keylane::Decode;
///
/// struct Text;
///
/// impl Decode<String> for Text {
///     fn decode(&self, record: &Record) -> Result<String, DecodeError> {
///         let value = record.value().ok_or_else(|| DecodeError::new("a tombstone has no text"))?;
///         String::from_utf8(value.to_vec()).map_err(DecodeError::new)
///     }
/// }
/// ```
pub trait Decode<T>: Send + Sync + 'static {
    /// Decodes the record's value; a value of `None` is a tombstone.
    ///
    /// # Errors
    /// A value that is not a `T`.
    fn decode(&self, record: &Record) -> Result<T, DecodeError>;
}

/// JSON by serde.
///
/// A tombstone reads as JSON's `null`: a processor that handles tombstones takes a
/// `Task<Option<T>>`. For any other type a tombstone cannot be decoded, so it is dead-lettered
/// rather than passed over.
///
/// # Examples
/// ```
/// use keylane::testing::TestTask;
/// use keylane::{Decode, Json};
///
/// let value = br#"{"vehicle":"B-KL 42"}"#.to_vec();
/// let task = TestTask::new(()).value(Some(value)).build();
/// let event: serde_json::Value = Json.decode(task.record())?;
/// assert_eq!(event["vehicle"], "B-KL 42");
/// # Ok::<(), keylane::error::DecodeError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

impl<T: DeserializeOwned> Decode<T> for Json {
    fn decode(&self, record: &Record) -> Result<T, DecodeError> {
        match record.value() {
            Some(value) => serde_json::from_slice(value).map_err(DecodeError::new),
            None => serde_json::from_slice(b"null").map_err(|_| {
                DecodeError::new(
                    "the record is a tombstone (null value); a processor of Task<Option<T>> receives tombstones",
                )
            }),
        }
    }
}

/// The bytes as they are: `Task<Bytes>`, where a tombstone is empty, or `Task<Option<Bytes>>`,
/// where it is `None`.
///
/// # Examples
/// ```
/// use bytes::Bytes;
/// use keylane::testing::TestTask;
/// use keylane::{Decode, Raw};
///
/// let tombstone = TestTask::new(()).value(None).build();
/// let value: Option<Bytes> = Raw.decode(tombstone.record())?;
/// assert_eq!(value, None);
/// # Ok::<(), keylane::error::DecodeError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Raw;

impl Decode<Bytes> for Raw {
    fn decode(&self, record: &Record) -> Result<Bytes, DecodeError> {
        Ok(record.value_bytes().unwrap_or_default())
    }
}

impl Decode<Option<Bytes>> for Raw {
    fn decode(&self, record: &Record) -> Result<Option<Bytes>, DecodeError> {
        Ok(record.value_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Arena;

    fn json<T: DeserializeOwned>(value: Option<&'static str>) -> Result<T, DecodeError> {
        Json.decode(&Record::new(
            &mut Arena::default(),
            0,
            None,
            None,
            value.map(str::as_bytes),
            None,
        ))
    }

    #[test]
    fn a_tombstone_is_none_where_the_type_allows_it_and_an_error_elsewhere() {
        assert_eq!(json::<Option<u32>>(None).unwrap(), None);
        assert_eq!(json::<Option<u32>>(Some("7")).unwrap(), Some(7));
        assert!(
            json::<u32>(None)
                .unwrap_err()
                .to_string()
                .contains("tombstone")
        );
    }
}
