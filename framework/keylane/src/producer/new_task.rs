//! A task to enqueue.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::Serialize;

use super::enqueue_error::ReturnedTask;
use super::outgoing::{OutgoingRecord, Unwritten};
use super::{EnqueueError, MessageIds, TaskFormat};
use crate::Headers;
use crate::dead_letter::EDITED_FROM;
use crate::record::{
    Record, TASK_METADATA, TRACE_PARENT, TRACE_STATE, TaskMetadata, TraceParent, legacy_task,
    message_id, trace_state,
};
use crate::support::error_text;

/// A task to enqueue with a [`TaskProducer`](crate::TaskProducer): a payload, and how it is to be
/// handled.
///
/// # Examples
/// ```
/// use std::time::{Duration, SystemTime};
/// use keylane::NewTask;
///
/// # #[derive(serde::Serialize)] struct Reminder { text: String }
/// // For a topic of reminders: a delayed task holds up its key, and fills the limits of its partition.
/// let task = NewTask::json(&Reminder { text: "your ticket ends soon".into() })?
///     .key("reminder-of-ticket-4711")
///     .header("gate", "north")
///     .not_before(SystemTime::now() + Duration::from_secs(600));
/// # Ok::<(), keylane::error::EnqueueError>(())
/// ```
#[derive(Clone, Debug)]
pub struct NewTask {
    pub(super) topic: Option<String>,
    pub(super) value: Option<Bytes>,
    pub(super) key: Option<Bytes>,
    pub(super) headers: Headers,
    pub(super) partition: Option<i32>,
    pub(super) not_before: Option<SystemTime>,
    pub(super) metadata: Metadata,
}

/// Decaton's metadata of a task.
#[derive(Clone, Debug)]
pub(crate) enum Metadata {
    /// It names this producer.
    Own,
    /// Of a record that is written again, as it was; without it too, where it had none.
    Kept(Option<TaskMetadata>),
}

impl Metadata {
    /// Whether the task's record has metadata.
    fn is_written(&self, not_before: Option<SystemTime>) -> bool {
        !matches!(self, Self::Kept(None)) || not_before.is_some()
    }
}

/// The fields of a task that its record does not keep.
#[derive(Debug)]
pub(super) struct Rest {
    format: TaskFormat,
    topic: Option<String>,
    /// How many of its first headers are the task's own.
    headers: usize,
    not_before: Option<SystemTime>,
    metadata: Metadata,
}

impl Rest {
    /// The task as it was given. Headers were only added, after its own.
    pub(super) fn given(self, mut task: NewTask) -> NewTask {
        task.topic = self.topic;
        task.headers.truncate(self.headers);
        task.not_before = self.not_before;
        task.metadata = self.metadata;
        task
    }

    /// The error with the task that this record was made from.
    pub(super) fn error(self, unwritten: Unwritten) -> EnqueueError {
        let Unwritten { record, error } = unwritten;
        let value = record.value.map(|value| match self.format {
            TaskFormat::Legacy if self.metadata.is_written(self.not_before) => {
                legacy_task::unwrap(&value).map_or(value.clone(), |(_, task)| value.slice(task))
            }
            TaskFormat::Legacy | TaskFormat::Header => value,
        });
        let task = NewTask {
            topic: None,
            value,
            key: record.key,
            headers: record.headers,
            partition: record.partition,
            not_before: None,
            metadata: Metadata::Own,
        };
        EnqueueError::from(error).of(self.given(task))
    }
}

/// What a producer writes with every task.
#[derive(Debug)]
pub(crate) struct TaskSource {
    pub(crate) application_id: String,
    pub(crate) instance_id: String,
    pub(crate) format: TaskFormat,
    pub(crate) message_ids: MessageIds,
}

impl NewTask {
    /// A task whose value is exactly these bytes.
    pub fn new(value: impl Into<Bytes>) -> Self {
        Self::of(Some(value.into()))
    }

    /// A task whose value is the payload as JSON; read it with [`Json`](crate::Json).
    ///
    /// # Errors
    /// [`EnqueueError::Encode`] where the payload cannot be written as JSON (a map with keys that
    /// are not text, for example).
    pub fn json<T: Serialize + ?Sized>(payload: &T) -> Result<Self, EnqueueError> {
        let value = serde_json::to_vec(payload).map_err(|error| EnqueueError::Encode {
            source: Box::new(error),
        })?;
        Ok(Self::new(value))
    }

    /// A task without a value. On a compacted topic it deletes its key, so give it one. Decaton's
    /// processors log and drop such a task.
    ///
    /// # Examples
    /// ```
    /// use keylane::NewTask;
    ///
    /// let forget = NewTask::tombstone().key("B-KL 42");
    /// # let _ = forget;
    /// ```
    pub fn tombstone() -> Self {
        Self::of(None)
    }

    fn of(value: Option<Bytes>) -> Self {
        Self {
            topic: None,
            value,
            key: None,
            headers: Headers::new(),
            partition: None,
            not_before: None,
            metadata: Metadata::Own,
        }
    }

    /// A record that is written again to this topic, where it need not be the producer's first.
    pub(crate) fn again(
        topic: &str,
        record: &Record,
        headers: Headers,
        metadata: Option<TaskMetadata>,
    ) -> Self {
        Self {
            topic: Some(topic.to_owned()),
            key: record.key_bytes(),
            headers,
            metadata: Metadata::Kept(metadata),
            ..Self::of(record.value_as_read())
        }
    }

    /// Another value, and the SHA-256 of the one that was there in the header
    /// `keylane-edited-from`; for what [`from_dead_letter`](Self::from_dead_letter) gives.
    ///
    /// # Examples
    /// ```
    /// use keylane::NewTask;
    ///
    /// let mended = NewTask::new("4,50").key("B-KL 42").edited("4.50");
    /// # let _ = mended;
    /// ```
    #[must_use]
    pub fn edited(mut self, value: impl Into<Bytes>) -> Self {
        let before = self.value.replace(value.into()).unwrap_or_default();
        let digest = hmac_sha256::Hash::hash(&before);
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        self.headers.remove(EDITED_FROM);
        self.headers.push(EDITED_FROM, digest);
        self
    }

    /// The topic to write to, one of the producer's. Default: its first one.
    ///
    /// Tasks of one key are in order in a topic. There is no order between topics.
    ///
    /// # Examples
    /// ```
    /// use keylane::{NewTask, TaskProducer};
    ///
    /// let producer = TaskProducer::builder("parking-events")
    ///     .topic("reminders")
    ///     .application_id("car-park")
    ///     .build()?;
    /// let answer = producer.enqueue(NewTask::new("pay").key("B-KL 42").topic("reminders"));
    /// # drop(answer);
    /// # Ok::<(), keylane::error::TaskProducerError>(())
    /// ```
    #[must_use]
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topic = Some(topic.into());
        self
    }

    /// The key: tasks of one key go to one partition and are processed in order, one at a time.
    /// Default: none, which means any partition and no order.
    ///
    /// Any bytes: Decaton's processors read them too, from version 5 on. Its own client writes keys
    /// of printable ASCII only.
    #[must_use]
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(Bytes::from(key.into()));
        self
    }

    /// Adds a header of your own. Names may repeat. `dt_meta` is not yours: enqueuing such a task
    /// fails.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.headers.push(name, value);
        self
    }

    /// Adds headers of your own, with null values where they have them. A message id among them is
    /// left out: this task is another one. Give it by [`message_id`](Self::message_id) where it is
    /// not.
    ///
    /// # Examples
    /// ```
    /// use keylane::{Headers, NewTask};
    ///
    /// let headers: Headers = [("tenant", "a")].into_iter().collect();
    /// let task = NewTask::new("event").key("B-KL 42").headers(&headers);
    /// # let _ = task;
    /// ```
    #[must_use]
    pub fn headers(mut self, headers: &Headers) -> Self {
        let others = headers
            .iter()
            .filter(|(name, _)| *name != message_id::HEADER);
        for (name, value) in others {
            match value {
                Some(value) => self.headers.push(name, value.clone()),
                None => self.headers.push_null(name),
            }
        }
        self
    }

    /// Puts the task into this trace: it becomes its only header `traceparent`. What vendors add
    /// goes into `tracestate`, by [`header`](Self::header).
    ///
    /// With the feature `otel` the producer does that by itself for a task that has no
    /// `traceparent`; see [`trace`](crate::trace).
    #[must_use]
    pub fn trace_parent(mut self, parent: TraceParent) -> Self {
        self.headers.remove(TRACE_PARENT);
        self.headers.push(TRACE_PARENT, parent.to_string());
        self
    }

    /// Puts the task into the trace that these headers name, for example those of the task that is
    /// being processed. It takes over `traceparent` and `tracestate`, and neither where the first
    /// cannot be read. Of headers with `b3` alone it makes a `traceparent`; see
    /// [`TraceParent::read`].
    ///
    /// # Examples
    /// ```
    /// use keylane::{NewTask, Task};
    ///
    /// fn follow_up(task: &Task<String>) -> NewTask {
    ///     NewTask::new("follow-up").trace_of(task.headers())
    /// }
    /// # let _ = follow_up(&keylane::testing::TestTask::new(String::new()).build());
    /// ```
    #[must_use]
    pub fn trace_of(mut self, headers: &Headers) -> Self {
        let Some(parent) = TraceParent::read(headers) else {
            return self;
        };
        self = self.trace_parent(parent);
        self.headers.remove(TRACE_STATE);
        if let Some(state) = trace_state(headers) {
            self.headers.push(TRACE_STATE, state.clone());
        }
        self
    }

    /// Names the task: a reader recognises by this id that it has the task already, whatever topic
    /// and offset it is read at; see [`Task::message_id`](crate::Task::message_id). It is the
    /// header `keylane-message-id`, and stays through retries, dead letter and redrive.
    ///
    /// Default: a UUIDv7, which the producer makes at the enqueue unless its
    /// [`message_ids`](crate::producer::TaskProducerConfig::message_ids) say otherwise. A task that
    /// an [`EnqueueError`] gives back keeps it, so enqueuing it again makes a copy that can be
    /// recognised.
    ///
    /// At least one byte and at most 255: else enqueuing fails. Give an id of your own where the
    /// task may be made twice, for example from the row of a table.
    ///
    /// # Examples
    /// ```
    /// use keylane::NewTask;
    ///
    /// let task = NewTask::new("paid").key("B-KL 42").message_id("payment-4711");
    /// # let _ = task;
    /// ```
    #[must_use]
    pub fn message_id(mut self, id: impl Into<String>) -> Self {
        self.headers.remove(message_id::HEADER);
        self.headers.push(message_id::HEADER, id.into());
        self
    }

    /// The task's message id, made now where it has none. So it can be written down before the
    /// enqueue, and clones of the task are copies of it: each clone of a task without an id gets
    /// its own.
    ///
    /// # Examples
    /// ```
    /// use keylane::NewTask;
    ///
    /// let mut task = NewTask::new("paid").key("B-KL 42");
    /// let id = task.ensure_message_id().to_owned();
    /// assert_eq!(task.clone().ensure_message_id(), id);
    /// ```
    pub fn ensure_message_id(&mut self) -> &str {
        self.make_message_id(SystemTime::now());
        self.headers
            .last_str(message_id::HEADER)
            .unwrap_or_default()
    }

    fn make_message_id(&mut self, now: SystemTime) {
        if !self.headers.contains(message_id::HEADER) {
            let id = message_id::generate(now);
            self.headers.push(message_id::HEADER, id);
        }
    }

    /// Gives a new task its message id, where the producer makes ids. A record that is written
    /// again is the same message, with its id or without one.
    pub(crate) fn name_message(&mut self, source: &TaskSource, now: SystemTime) {
        if source.message_ids == MessageIds::Generated && matches!(self.metadata, Metadata::Own) {
            self.make_message_id(now);
        }
    }

    /// Not to be processed before this time, to the millisecond. Default: at once.
    ///
    /// A time in the past is at once.
    ///
    /// # What it costs
    /// The consumer reads the task and keeps it in memory until it is due.
    ///
    /// * Later tasks of its key wait with it, because order is kept. A reminder under the key of a
    ///   vehicle holds up the events of that vehicle until the reminder is due.
    /// * It counts as pending. Once [`pause_at_records`](crate::config::Limits::pause_at_records)
    ///   such tasks are in a partition (10,000 unless set), nothing more is read of that partition
    ///   until they are due, whatever its key.
    /// * The commit waits for it. At most [`settled_ahead`](crate::config::Limits::settled_ahead)
    ///   later records of the partition are settled meanwhile (100,000 unless set), then the
    ///   partition pauses as well.
    ///
    /// So write delayed tasks to a topic of their own, under keys of their own, and not many more
    /// than the limits hold. A partition that is not read for this reason shows it:
    /// [`PausedBy::NotDue`](crate::status::PausedBy::NotDue), the health reason
    /// `paused_by_not_due`, a warning in the log, and the metric `keylane_paused_by_not_due`.
    #[must_use]
    pub fn not_before(mut self, time: SystemTime) -> Self {
        self.not_before = Some(time);
        self
    }

    /// The partition to write to. Default: chosen by the key.
    ///
    /// Tasks of one key are in order only if they all go to one partition.
    #[must_use]
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// The topic that it names.
    pub(crate) fn named_topic(&self) -> Option<&str> {
        self.topic.as_deref()
    }

    /// The topic that the task goes to: the one that it names, or the first one.
    ///
    /// # Errors
    /// [`EnqueueError::UnknownTopic`] where it names one that is not among these.
    pub(crate) fn topic_among(&self, topics: &[Arc<str>]) -> Result<Arc<str>, EnqueueError> {
        let found = match &self.topic {
            None => topics.first(),
            Some(named) => topics.iter().find(|topic| ***topic == **named),
        };
        found.cloned().ok_or_else(|| EnqueueError::UnknownTopic {
            topic: error_text::text(self.topic.as_deref().unwrap_or_default()).into(),
            task: ReturnedTask::default(),
        })
    }

    /// The record that is written for it at this time.
    pub(crate) fn into_record(
        self,
        topic: Arc<str>,
        source: &TaskSource,
        now: SystemTime,
    ) -> OutgoingRecord {
        let timestamp_millis = millis_rounded_up(now);
        let scheduled_time_millis = self.scheduled_time_millis();
        let metadata = match &self.metadata {
            Metadata::Kept(Some(metadata)) => Some(metadata.clone()),
            kept if !kept.is_written(self.not_before) => None,
            Metadata::Kept(None) | Metadata::Own => Some(TaskMetadata {
                timestamp_millis,
                source_application_id: source.application_id.clone(),
                source_instance_id: source.instance_id.clone(),
                ..TaskMetadata::default()
            }),
        };
        let Self {
            topic: _,
            mut value,
            key,
            mut headers,
            partition,
            not_before: _,
            metadata: _,
        } = self;
        // A record that never had metadata may be in the wrapper as it is.
        let wraps = source.format == TaskFormat::Legacy && metadata.is_some();
        if let Some(metadata) = metadata {
            let metadata = TaskMetadata {
                retry_count: 0,
                scheduled_time_millis,
                ..metadata
            };
            headers.push(TASK_METADATA, metadata.encode());
        }
        if let Some(task) = value.as_mut().filter(|_| wraps) {
            *task = legacy_task::wrap(&mut headers, task);
        }
        OutgoingRecord {
            topic,
            partition,
            key,
            value,
            headers,
            timestamp_millis: Some(timestamp_millis),
        }
    }

    /// Takes out what its record does not have. To be called before any header is added.
    pub(super) fn take_rest(&mut self, format: TaskFormat) -> Rest {
        Rest {
            format,
            topic: self.topic.take(),
            headers: self.headers.len(),
            not_before: self.not_before,
            metadata: self.metadata.clone(),
        }
    }

    /// Checks that need no broker.
    pub(crate) fn validate(&self) -> Result<(), EnqueueError> {
        if let Some(partition) = self.partition.filter(|partition| *partition < 0) {
            return Err(EnqueueError::Invalid {
                reason: format!("partition {partition} is negative"),
                task: ReturnedTask::default(),
            });
        }
        self.check_message_id()?;
        for (name, _) in self.headers.iter() {
            if name == TASK_METADATA {
                let reason =
                    "the header dt_meta is written by the producer; use another name".to_owned();
                return Err(EnqueueError::Invalid {
                    reason,
                    task: ReturnedTask::default(),
                });
            }
            // Clients in C read names up to the first NUL: two names would become one.
            if name.is_empty() || name.contains('\0') {
                let shown = error_text::text(format_args!("{name:?}"));
                return Err(EnqueueError::Invalid {
                    reason: format!("{shown} cannot be the name of a header"),
                    task: ReturnedTask::default(),
                });
            }
        }
        Ok(())
    }

    /// What is written again may have had any header of that name.
    fn check_message_id(&self) -> Result<(), EnqueueError> {
        if !self.headers.contains(message_id::HEADER) || matches!(self.metadata, Metadata::Kept(_))
        {
            return Ok(());
        }
        let id = self.headers.last_str(message_id::HEADER);
        let checked = id
            .ok_or("the message id is no text")
            .and_then(message_id::check);
        checked.map_err(|reason| EnqueueError::Invalid {
            reason: reason.to_owned(),
            task: ReturnedTask::default(),
        })
    }

    pub(super) fn scheduled_time_millis(&self) -> i64 {
        self.not_before.map_or(0, millis_rounded_up)
    }
}

/// Rounded up: "not before" must hold in milliseconds too. What lies before the epoch is 0.
pub(super) fn millis_rounded_up(time: SystemTime) -> i64 {
    let Ok(since) = time.duration_since(UNIX_EPOCH) else {
        return 0;
    };
    i64::try_from(since.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use super::*;

    #[test]
    fn not_before_is_never_early() {
        assert_eq!(
            millis_rounded_up(UNIX_EPOCH + Duration::from_nanos(1_000_001)),
            2
        );
        assert_eq!(millis_rounded_up(UNIX_EPOCH + Duration::from_millis(2)), 2);
        assert_eq!(millis_rounded_up(UNIX_EPOCH - Duration::from_secs(1)), 0);
        assert_eq!(NewTask::tombstone().scheduled_time_millis(), 0);
    }

    #[test]
    fn what_cannot_be_json_is_an_encode_error() {
        let payload = HashMap::from([((1, 2), 3)]);
        assert!(matches!(
            NewTask::json(&payload),
            Err(EnqueueError::Encode { .. })
        ));
    }

    /// Point 16.
    #[test]
    fn what_an_error_says_of_a_task_is_bounded() {
        struct AtLength;
        impl serde::Serialize for AtLength {
            fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(serde::ser::Error::custom("x".repeat(20 << 20)))
            }
        }
        let encode = NewTask::json(&AtLength).unwrap_err().to_string();
        let name = NewTask::new("x")
            .header("\0".repeat(1 << 20), "x")
            .validate()
            .unwrap_err()
            .to_string();
        for text in [encode, name] {
            assert!(error_text::tests::is_bounded(&text), "{} bytes", text.len());
        }
    }

    #[test]
    fn a_task_takes_over_a_trace_whole_and_only_one_that_can_be_read() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let other = "00-4bf92f3577b34da6a3ce929d0e0e4736-1111111111111111-00";
        let traced: Headers = [("a", "1"), (TRACE_PARENT, parent), (TRACE_STATE, "v=1")]
            .into_iter()
            .collect();
        let expected: Headers = [(TRACE_PARENT, parent), (TRACE_STATE, "v=1")]
            .into_iter()
            .collect();
        let task = NewTask::new("x")
            .header(TRACE_STATE, "w=2")
            .trace_parent(other.parse().unwrap())
            .trace_of(&traced);
        assert_eq!(task.headers, expected);

        let damaged: Headers = [(TRACE_PARENT, "00-ab"), (TRACE_STATE, "w=2")]
            .into_iter()
            .collect();
        assert_eq!(task.trace_of(&damaged).headers, expected);

        let of_brave: Headers = [
            ("b3", "a3ce929d0e0e4736-00f067aa0ba902b7-1"),
            (TRACE_STATE, "v=1"),
        ]
        .into_iter()
        .collect();
        let parent = "00-0000000000000000a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let expected: Headers = [(TRACE_PARENT, parent)].into_iter().collect();
        assert_eq!(NewTask::new("x").trace_of(&of_brave).headers, expected);
    }

    #[test]
    fn the_legacy_format_has_the_same_metadata_around_the_value_and_a_tombstone_stays_one() {
        let record = |task: NewTask, format| {
            let source = TaskSource {
                application_id: "car-park".to_owned(),
                instance_id: "gate-1".to_owned(),
                format,
                message_ids: MessageIds::OnlyGiven,
            };
            let task = task
                .header("own", "1")
                .not_before(UNIX_EPOCH + Duration::from_secs(9));
            task.into_record("t".into(), &source, UNIX_EPOCH + Duration::from_secs(5))
        };
        let new = record(NewTask::new("pay"), TaskFormat::Header);
        let legacy = record(NewTask::new("pay"), TaskFormat::Legacy);
        let value = legacy.value.unwrap();
        let (metadata, task) = legacy_task::unwrap(&value).unwrap();
        assert_eq!(&value[task], b"pay");
        assert_eq!(new.headers.last("dt_meta"), Some(&metadata.encode()));
        assert_eq!(legacy.headers, [("own", "1")].into_iter().collect());

        let [new, legacy] = [TaskFormat::Header, TaskFormat::Legacy]
            .map(|format| record(NewTask::tombstone(), format));
        assert_eq!((legacy.value, legacy.headers), (None, new.headers));
    }

    #[test]
    fn every_new_task_has_an_id_of_its_own_unless_it_is_given_one_or_the_producer_makes_none() {
        let id = |mut task: NewTask, format, message_ids| {
            let source = TaskSource {
                application_id: "car-park".to_owned(),
                instance_id: "gate-1".to_owned(),
                format,
                message_ids,
            };
            task.name_message(&source, UNIX_EPOCH);
            let record = task.into_record("t".into(), &source, UNIX_EPOCH);
            message_id::read(&record.headers).map(str::to_owned)
        };
        for format in [TaskFormat::Header, TaskFormat::Legacy] {
            let template = NewTask::new("x");
            let made = |task| id(task, format, MessageIds::Generated);
            let (one, other) = (
                made(template.clone()).unwrap(),
                made(template.clone()).unwrap(),
            );
            assert_ne!(one, other, "clones of a task without an id are other tasks");
            assert_eq!(id(template.clone(), format, MessageIds::OnlyGiven), None);

            for message_ids in [MessageIds::Generated, MessageIds::OnlyGiven] {
                let given = template.clone().message_id("a").message_id("order-7");
                assert_eq!(id(given, format, message_ids).as_deref(), Some("order-7"));
            }
            let mut named = template;
            let known = named.ensure_message_id().to_owned();
            assert_eq!(made(named.clone()), Some(known.clone()));
            assert_eq!(made(named), Some(known));
        }
    }

    #[test]
    fn headers_of_another_task_do_not_make_it_the_same_message() {
        let other: Headers = [("a", "1"), (message_id::HEADER, "other")]
            .into_iter()
            .collect();
        assert_eq!(
            NewTask::new("x").headers(&other).headers,
            [("a", "1")].into_iter().collect()
        );
        let task = NewTask::new("x").message_id("own").headers(&other);
        assert_eq!(message_id::read(&task.headers), Some("own"));
    }

    #[test]
    fn what_no_broker_would_take_is_invalid() {
        for task in [
            NewTask::new("x").partition(-1),
            NewTask::new("x").header("dt_meta", "mine"),
            NewTask::new("x").header("", "x"),
            NewTask::new("x").header("a\0b", "x"),
            NewTask::new("x").message_id(""),
            NewTask::new("x").message_id("i".repeat(256)),
            NewTask::new("x").header("keylane-message-id", &[0xff][..]),
        ] {
            assert!(
                matches!(task.validate(), Err(EnqueueError::Invalid { .. })),
                "{task:?}"
            );
        }
        let mut headers = Headers::new();
        headers.push_null("n");
        assert!(
            NewTask::new("x")
                .headers(&headers)
                .header("n", "1")
                .partition(0)
                .validate()
                .is_ok()
        );
    }
}
