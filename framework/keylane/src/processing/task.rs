//! The argument of a processor.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use keylane_core::LogId;

use super::identity::{FirstFailure, TaskIdentity};
use super::{Cancellation, EpochLife};
use crate::Headers;
use crate::record::{Origin, OriginLog, Record, TaskMetadata, TraceParent, message_id};
use crate::support::clock;

/// One decoded record, with its place and its number of attempts.
///
/// # Examples
/// ```
/// use keylane::testing::TestTask;
/// use keylane::{Task, TaskError};
///
/// async fn notify(task: Task<String>) -> Result<(), TaskError> {
///     println!("{:?} moved: {}, attempt {}", task.key_str(), task.payload(), task.attempt());
///     Ok(())
/// }
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// assert!(notify(TestTask::new("in".to_owned()).key("B-KL 42").build()).await.is_ok());
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Task<T> {
    pub(crate) payload: T,
    pub(crate) record: Record,
    pub(crate) source: Arc<Source>,
    pub(crate) attempt: u32,
    /// When the attempt began: the lease of the membership was good then.
    pub(crate) began: Instant,
    /// How long ago it failed first; 0 where it has not failed. Of a size that fits beside
    /// `attempt`: a task is moved with every attempt.
    pub(crate) failing_for_millis: u32,
    /// When the attempt's time is up.
    pub(crate) ends: Option<Instant>,
}

/// Where a task comes from. All tasks of an epoch share one, so that a record costs no more than a
/// reference count.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    pub(crate) life: Arc<EpochLife>,
    /// The log that the epoch reads, once a broker has confirmed it.
    pub(crate) log: OnceLock<LogId>,
    /// Whether the brokers name logs.
    pub(crate) names_logs: bool,
}

impl Source {
    /// Which log the offset of a record is about that was read here.
    pub(crate) fn log_of(&self, record: &Record) -> OriginLog {
        OriginLog::new(self.log.get().copied(), record.leader_epoch())
    }
}

impl<T> Task<T> {
    /// The decoded value.
    pub fn payload(&self) -> &T {
        &self.payload
    }

    /// The decoded value, taken out.
    pub fn into_payload(self) -> T {
        self.payload
    }

    /// The record as Kafka delivered it.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The record's key. Tasks of one key (and partition) are processed one after another.
    pub fn key(&self) -> Option<&[u8]> {
        self.record.key()
    }

    /// The key as text, where it is UTF-8.
    pub fn key_str(&self) -> Option<&str> {
        self.key().and_then(|key| std::str::from_utf8(key).ok())
    }

    /// Whether the value is null.
    ///
    /// # Examples
    /// ```
    /// use keylane::testing::TestTask;
    ///
    /// assert!(TestTask::new(None::<String>).value(None).build().is_tombstone());
    /// ```
    pub fn is_tombstone(&self) -> bool {
        self.record.value().is_none()
    }

    /// The record's headers.
    pub fn headers(&self) -> &Headers {
        self.record.headers()
    }

    /// The topic this record was read from: an origin topic or the retry topic.
    pub fn topic(&self) -> &str {
        &self.source.topic
    }

    /// The partition this record was read from.
    pub fn partition(&self) -> i32 {
        self.source.partition
    }

    /// The offset this record was read at.
    pub fn offset(&self) -> i64 {
        self.record.offset()
    }

    /// Where the record was first read: the same as topic, partition and offset unless it came
    /// through a retry topic.
    pub fn origin(&self) -> Origin {
        match self.record.origin() {
            Some(origin) => origin.clone(),
            None => Origin {
                topic: self.source.topic.clone(),
                partition: self.partition(),
                offset: self.offset(),
                log: self.source.log_of(&self.record),
            },
        }
    }

    /// What an inbox identifies the record by, and what it judges by whether it can. A part of
    /// keylane that `keylane-sql` shares: no promise of its own.
    #[doc(hidden)]
    pub fn identity(&self) -> TaskIdentity {
        let retry = self.record.retry_state();
        let is_retry = retry.is_some_and(|retry| retry.origin.is_some());
        TaskIdentity {
            origin: self.origin(),
            began: self.began,
            first_failure: match retry.and_then(|retry| retry.first_failure_millis) {
                _ if !is_retry => FirstFailure::Here,
                Some(millis) => {
                    clock::of_unix_millis(millis).map_or(FirstFailure::Unknown, FirstFailure::At)
                }
                None => FirstFailure::Unknown,
            },
            awaits_log: !is_retry && self.source.names_logs && self.source.log.get().is_none(),
        }
    }

    /// The record's timestamp, where it has one; to the millisecond.
    pub fn timestamp(&self) -> Option<SystemTime> {
        self.record.timestamp()
    }

    /// Which attempt this is, from 1, over all retries in place and through the retry topic. After
    /// a restart or a rebalance, attempts in place since the record was last read do not count.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// How long the record has been failing: from its first failed attempt to the begin of this one,
    /// to the millisecond and up to 49 days. `None` where none has failed.
    ///
    /// That includes the time in which it waits for the next attempt, in an outage too. After a
    /// restart or a rebalance, failures in place since the record was last read do not count; what
    /// has failed before its last round through the retry topic does.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// use keylane::testing::TestTask;
    ///
    /// let minute = Duration::from_secs(60);
    /// assert_eq!(TestTask::new(()).build().failing_for(), None);
    /// assert_eq!(TestTask::new(()).attempt(4).failing_for(minute).build().failing_for(), Some(minute));
    /// ```
    pub fn failing_for(&self) -> Option<Duration> {
        let millis = self.failing_for_millis;
        (millis > 0).then(|| Duration::from_millis(millis.into()))
    }

    /// Its time is up by then, or before.
    pub(crate) fn end_by(&mut self, end: Instant) {
        self.ends = Some(self.ends.map_or(end, |ends| ends.min(end)));
    }

    /// Whether this attempt is no longer needed: its time is up, or its partition is no longer this
    /// member's. A processor that awaits need not check it, because its future is dropped then. See
    /// [`Cancellation`] for its use.
    pub fn is_cancelled(&self) -> bool {
        self.cancellation().is_cancelled()
    }

    /// A handle that signals when this attempt is no longer needed, for work that goes on outside
    /// of the processor's future.
    pub fn cancellation(&self) -> Cancellation {
        Cancellation::new(self.source.life.clone(), self.ends)
    }

    /// The task's metadata as written by the producer helper (or a Decaton client) into `dt_meta`.
    pub fn metadata(&self) -> Option<&TaskMetadata> {
        self.record.metadata()
    }

    /// The message id: the same for every copy of the task, whatever topic and offset it is read
    /// at. From the header `keylane-message-id`, which
    /// [`TaskProducer`](crate::TaskProducer) writes; it stays through retries, dead letter and
    /// redrive.
    ///
    /// By it a processor recognises a task that was enqueued twice. `None` where the record has no
    /// such header, or one that is empty, no UTF-8 or longer than 255 bytes.
    ///
    /// # Examples
    /// ```
    /// use keylane::testing::TestTask;
    ///
    /// let task = TestTask::new(()).message_id("order-4711").build();
    /// assert_eq!(task.message_id(), Some("order-4711"));
    /// assert_eq!(TestTask::new(()).build().message_id(), None);
    /// ```
    pub fn message_id(&self) -> Option<&str> {
        message_id::read(self.headers())
    }

    /// The trace that the record belongs to, and the span that made it, from the header
    /// `traceparent`, or `b3` where there is none. It stays the same through the retry topic and for
    /// a dead letter. `None` also where the header cannot be read.
    ///
    /// With the feature `otel` the attempt's span is in that trace already; see
    /// [`trace`](crate::trace).
    ///
    /// # Examples
    /// ```
    /// use keylane::Headers;
    /// use keylane::testing::TestTask;
    ///
    /// let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    /// let headers: Headers = [("traceparent", parent)].into_iter().collect();
    /// let task = TestTask::new(()).headers(headers).build();
    /// assert_eq!(task.trace_parent().map(|parent| parent.to_string()).as_deref(), Some(parent));
    /// ```
    pub fn trace_parent(&self) -> Option<TraceParent> {
        TraceParent::read(self.headers())
    }

    /// The same task with another payload.
    ///
    /// # Examples
    /// ```
    /// use keylane::testing::TestTask;
    ///
    /// let task = TestTask::new("42").key("k").build().map(|text| text.len());
    /// assert_eq!((*task.payload(), task.key_str()), (2, Some("k")));
    /// ```
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Task<U> {
        let Self {
            payload,
            record,
            source,
            attempt,
            began,
            failing_for_millis,
            ends,
        } = self;
        Task {
            payload: f(payload),
            record,
            source,
            attempt,
            began,
            failing_for_millis,
            ends,
        }
    }
}
