//! Tasks for unit tests of a processor, without a broker.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use keylane_core::LogId;

use crate::dead_letter::Intake;
use crate::processing::{EpochLife, Source};
use crate::record::{Arena, Record, message_id};
use crate::{Headers, Task};

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
    failing_for_millis: u32,
    ends: Option<Instant>,
    life: Arc<EpochLife>,
    began: Option<Instant>,
    log: Option<(u64, i32)>,
    is_retry: bool,
}

/// Takes partitions away from tasks under test; see
/// [`Cancellation`](crate::processing::Cancellation) for what they notice.
///
/// # Examples
/// ```
/// use keylane::testing::{TestAssignment, TestTask};
///
/// let assignment = TestAssignment::new();
/// let task = TestTask::new(21).of(&assignment).build();
/// assert!(!task.is_cancelled());
/// assignment.lose();
/// assert!(task.is_cancelled());
/// ```
#[derive(Clone, Debug, Default)]
pub struct TestAssignment {
    life: Arc<EpochLife>,
}

impl TestAssignment {
    /// One that lasts.
    pub fn new() -> Self {
        Self::default()
    }

    /// A rebalance or a shutdown begins to drain its partitions.
    pub fn drain(&self, deadline: Instant) {
        self.life.set_draining(deadline);
    }

    /// Its partitions are no longer this member's.
    pub fn lose(&self) {
        self.life.set_over();
    }
}

impl<T> TestTask<T> {
    /// A first attempt at offset 0 of partition 0 of the topic `test`, without key, headers and
    /// timestamp, and with an empty value: the payload is what the decoder would have made of it.
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
            failing_for_millis: 0,
            ends: None,
            life: Arc::default(),
            began: None,
            log: None,
            is_retry: false,
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

    /// The headers, in place of those that are set already. A `dt_meta` among them is read as it
    /// would be from Kafka.
    pub fn headers(mut self, headers: Headers) -> Self {
        self.headers = headers;
        self
    }

    /// The message id, after the headers that are set already.
    pub fn message_id(mut self, id: impl Into<String>) -> Self {
        self.headers.push(message_id::HEADER, id.into());
        self
    }

    /// Where the record stands.
    pub fn at(mut self, topic: &str, partition: i32, offset: i64) -> Self {
        (self.topic, self.partition, self.offset) = (topic.into(), partition, offset);
        self
    }

    /// Which log the offset is about: 64 bits of its topic's id, and the record's leader epoch. Without
    /// this it is not known; see [`OriginLog`](crate::record::OriginLog).
    pub fn log(mut self, topic_id: u64, leader_epoch: i32) -> Self {
        self.log = Some((topic_id, leader_epoch));
        self
    }

    /// The record comes from a retry topic: headers such as `keylane-origin-topic` are read.
    ///
    /// # Examples
    /// ```
    /// use keylane::Headers;
    /// use keylane::testing::TestTask;
    ///
    /// let headers: Headers = [
    ///     ("keylane-origin-topic", "parking"),
    ///     ("keylane-origin-partition", "3"),
    ///     ("keylane-origin-offset", "42"),
    /// ]
    /// .into_iter()
    /// .collect();
    /// let task = TestTask::new(()).headers(headers).of_retry_topic().build();
    /// assert_eq!(task.origin().offset, 42);
    /// ```
    pub fn of_retry_topic(mut self) -> Self {
        self.is_retry = true;
        self
    }

    /// When the attempt began. Without this, at [`build`](Self::build).
    pub fn began_at(mut self, time: Instant) -> Self {
        self.began = Some(time);
        self
    }

    /// The record's timestamp, kept to the millisecond. What lies before the Unix epoch is the
    /// epoch.
    pub fn timestamp(mut self, time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.timestamp_millis = Some(i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
        self
    }

    /// Which attempt it is, from 1.
    ///
    /// # Examples
    /// ```
    /// use keylane::testing::TestTask;
    ///
    /// assert_eq!(TestTask::new(()).attempt(3).build().attempt(), 3);
    /// ```
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }

    /// How long the record has been failing; see [`Task::failing_for`]. Without this, it has not.
    pub fn failing_for(mut self, time: Duration) -> Self {
        self.failing_for_millis = u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        self
    }

    /// Whose task it is. Without this, of an assignment that lasts.
    pub fn of(mut self, assignment: &TestAssignment) -> Self {
        self.life = assignment.life.clone();
        self
    }

    /// When the attempt's time is up. Without this, never. Nothing drops the processor's future in
    /// a unit test; this is for code that checks its [`Cancellation`](crate::processing::Cancellation).
    pub fn ends_at(mut self, deadline: Instant) -> Self {
        self.ends = Some(deadline);
        self
    }

    /// The task.
    pub fn build(self) -> Task<T> {
        let headers = (!self.headers.is_empty()).then_some(self.headers);
        let headers = Intake::default().read(headers, self.value.as_deref(), self.is_retry);
        let record = Record::new(
            &mut Arena::default(),
            self.offset,
            self.timestamp_millis,
            self.key.as_deref(),
            self.value.as_deref(),
            headers,
        )
        .under(self.log.map_or(-1, |(_, leader_epoch)| leader_epoch));
        let log = OnceLock::new();
        if let Some((topic_id, _)) = self.log {
            let _ = log.set(LogId::from_bytes(topic_id.to_le_bytes()));
        }
        let source = Arc::new(Source {
            topic: self.topic,
            partition: self.partition,
            life: self.life,
            log,
            names_logs: false,
        });
        Task {
            payload: self.payload,
            record,
            source,
            attempt: self.attempt,
            began: self.began.unwrap_or_else(Instant::now),
            failing_for_millis: self.failing_for_millis,
            ends: self.ends,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_as_described() {
        let headers = [("a", "1")].into_iter().collect();
        let made = UNIX_EPOCH + std::time::Duration::from_millis(5);
        let task = TestTask::new(7)
            .key("k")
            .headers(headers)
            .at("t", 3, 9)
            .timestamp(made)
            .attempt(2)
            .build();
        assert_eq!(
            (task.key(), task.headers().last_str("a")),
            (Some(&b"k"[..]), Some("1"))
        );
        assert_eq!((task.topic(), task.partition(), task.offset()), ("t", 3, 9));
        assert_eq!(
            (task.timestamp(), task.attempt(), *task.payload()),
            (Some(made), 2, 7)
        );
        assert!(TestTask::new(()).value(None).build().is_tombstone());
    }

    #[tokio::test]
    async fn a_task_is_cancelled_with_its_assignment_or_when_its_time_is_up() {
        let (assignment, now) = (TestAssignment::new(), Instant::now());
        let task = TestTask::new(()).of(&assignment).build();
        let late = TestTask::new(()).of(&assignment).ends_at(now).build();
        assert!(late.is_cancelled() && !task.is_cancelled() && !task.cancellation().is_draining());
        late.cancellation().cancelled().await;
        assert_eq!(
            (
                task.cancellation().deadline(),
                late.cancellation().deadline()
            ),
            (None, Some(now))
        );

        assignment.drain(now);
        task.cancellation().draining().await;
        assert!(task.cancellation().is_draining() && !task.is_cancelled());
        assert_eq!(task.cancellation().deadline(), Some(now));

        let elsewhere = tokio::spawn({
            let cancellation = task.cancellation();
            async move { cancellation.cancelled().await }
        });
        assignment.lose();
        elsewhere.await.unwrap();
        assert!(task.map(|()| 1).is_cancelled());
    }
}
