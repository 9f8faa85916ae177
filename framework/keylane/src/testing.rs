//! Tasks for unit tests of a processor, without a broker.

use std::sync::Arc;

use crate::record::{Arena, RecordHeaders};
use crate::{Headers, Record, Task};

/// Describes a task to hand to a processor under test.
///
/// # Examples
/// ```
/// use keylane::testing::TestTask;
/// use keylane::{Processor, Task, TaskError};
///
/// struct Doubler;
///
/// impl Processor<u32> for Doubler {
///     async fn process(&self, task: Task<u32>) -> Result<(), TaskError> {
///         task.payload().checked_mul(2).map(drop).ok_or_else(|| TaskError::fatal("too large"))
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// assert!(Doubler.process(TestTask::new(21).key("k").build()).await.is_ok());
/// assert!(Doubler.process(TestTask::new(u32::MAX).attempt(2).build()).await.is_err());
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a description is not a task until `build`"]
pub struct TestTask<T> {
    payload: T,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Headers,
    topic: Arc<str>,
    partition: i32,
    offset: i64,
    timestamp_millis: Option<i64>,
    attempt: u32,
}

impl<T> TestTask<T> {
    /// A first attempt at offset 0 of partition 0 of the topic `test`, without key, headers and timestamp, and with an empty
    /// value: the payload is what the decoder would have made of it.
    pub fn new(payload: T) -> Self {
        Self {
            payload,
            key: None,
            value: Some(Vec::new()),
            headers: Headers::new(),
            topic: "test".into(),
            partition: 0,
            offset: 0,
            timestamp_millis: None,
            attempt: 1,
        }
    }

    /// The key.
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The raw value; `None` makes a tombstone.
    pub fn value(mut self, value: Option<Vec<u8>>) -> Self {
        self.value = value;
        self
    }

    /// The headers. A `dt_meta` among them is read as it would be from Kafka.
    pub fn headers(mut self, headers: Headers) -> Self {
        self.headers = headers;
        self
    }

    /// Where the record stands.
    pub fn at(mut self, topic: &str, partition: i32, offset: i64) -> Self {
        (self.topic, self.partition, self.offset) = (topic.into(), partition, offset);
        self
    }

    /// The record's timestamp, in milliseconds since the Unix epoch.
    pub fn timestamp_millis(mut self, millis: i64) -> Self {
        self.timestamp_millis = Some(millis);
        self
    }

    /// Which attempt it is, from 1.
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }

    /// The task.
    pub fn build(self) -> Task<T> {
        let headers = (!self.headers.is_empty()).then(|| RecordHeaders::read(self.headers, false));
        let record =
            Record::new(&mut Arena::default(), self.offset, self.timestamp_millis, self.key.as_deref(), self.value.as_deref(), headers);
        Task { payload: self.payload, record, topic: self.topic, partition: self.partition, attempt: self.attempt }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_as_described() {
        let headers = [("a", "1")].into_iter().collect();
        let task = TestTask::new(7).key("k").headers(headers).at("t", 3, 9).timestamp_millis(5).attempt(2).build();
        assert_eq!((task.key(), task.headers().last_str("a")), (Some(&b"k"[..]), Some("1")));
        assert_eq!((task.topic(), task.partition(), task.offset()), ("t", 3, 9));
        assert_eq!((task.timestamp_millis(), task.attempt(), *task.payload()), (Some(5), 2, 7));
        assert!(TestTask::new(()).value(None).build().is_tombstone());
    }
}
