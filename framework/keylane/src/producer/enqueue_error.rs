//! Why a task was not enqueued, and why a producer did not finish.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use super::new_task::NewTask;
use super::pending::NotAdmitted;
use super::write_error::{WriteError, WriteErrorKind, WriteFailure};
use crate::support::error_text;

/// Why a task has no acknowledgement.
///
/// After [`NotAcknowledged`](Self::NotAcknowledged) the task may or may not be on the topic; after
/// every other one it is not.
///
/// # Examples
/// Wait for room, and pass on everything else:
///
/// ```
/// use keylane::error::EnqueueError;
/// use keylane::producer::Enqueued;
/// use keylane::{NewTask, TaskProducer};
///
/// async fn enqueue(producer: &TaskProducer, mut task: NewTask) -> Result<Enqueued, EnqueueError> {
///     loop {
///         match producer.enqueue(task).await {
///             Err(full @ EnqueueError::Full { .. }) => task = full.into_task()?,
///             answer => return answer,
///         }
///         producer.room().await;
///     }
/// }
/// # let _ = enqueue;
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnqueueError {
    /// A limit of what may be pending is reached. The task was not taken: wait with
    /// [`TaskProducer::room`](crate::TaskProducer::room) and enqueue it again, or raise the limit.
    #[error(
        "cannot enqueue to topic {topic}: the limit of {limit} pending {unit} is reached; wait for room, or raise {setting}"
    )]
    Full {
        /// The topic.
        topic: Arc<str>,
        /// The limit.
        limit: usize,
        /// What it counts: `records` or `bytes`.
        unit: &'static str,
        /// The builder's method that raises it.
        setting: &'static str,
        /// For [`into_task`](Self::into_task).
        task: ReturnedTask,
    },
    /// The task is larger than a limit allows. It was not written.
    #[error(
        "cannot enqueue to topic {topic}: the task is too large with {bytes} bytes of key, value and headers: {limit}"
    )]
    TooLarge {
        /// The topic.
        topic: Arc<str>,
        /// The size of key, value and headers.
        bytes: usize,
        /// Which limit refuses it, and what to raise: the client's `message.max.bytes`, or the
        /// topic's `max.message.bytes` or `segment.bytes`.
        limit: String,
        /// For [`into_task`](Self::into_task).
        task: ReturnedTask,
    },
    /// The payload could not be written as JSON.
    #[error("cannot encode the task's payload as json: {}", error_text::text(.source))]
    Encode {
        /// The encoder's error.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The task itself cannot be written: a negative partition, a header name that is not the
    /// user's.
    #[error("the task is invalid: {reason}")]
    Invalid {
        /// What is wrong.
        reason: String,
        /// For [`into_task`](Self::into_task).
        task: ReturnedTask,
    },
    /// The task names a topic that the producer was not set up for. It was not taken. The producer
    /// writes to the topics of [`TaskProducerConfig::topics`](crate::producer::TaskProducerConfig::topics).
    #[error("cannot enqueue to topic {topic}: it is not among the producer's topics; add it there")]
    UnknownTopic {
        /// The topic that the task names.
        topic: Arc<str>,
        /// For [`into_task`](Self::into_task).
        task: ReturnedTask,
    },
    /// The broker will never accept this task (a policy, a compacted topic that demands a key). It
    /// was not written.
    #[error("topic {topic} refuses the task: {reason}")]
    Refused {
        /// The topic.
        topic: Arc<str>,
        /// The broker's reason.
        reason: String,
        /// For [`into_task`](Self::into_task).
        task: ReturnedTask,
    },
    /// No acknowledgement came. The brokers were unreachable until `message.timeout.ms`, the topic
    /// or a permission is missing, or the producer was closed or dropped first. Or the broker
    /// considered the task a duplicate and did not return its offset. The task **may or may not**
    /// have been written; enqueuing it again may duplicate it.
    #[error("no acknowledgement for a task to topic {topic}: {reason}")]
    NotAcknowledged {
        /// The topic.
        topic: Arc<str>,
        /// Why.
        reason: String,
        /// For [`into_task`](Self::into_task).
        task: ReturnedTask,
    },
    /// The producer's thread has panicked, which is a defect of keylane; the log has the place. The
    /// task was not taken. Start another producer.
    #[error(
        "cannot enqueue to topic {topic}: the producer's thread has panicked; start another producer"
    )]
    Broken {
        /// The topic.
        topic: Arc<str>,
        /// For [`into_task`](Self::into_task).
        task: ReturnedTask,
    },
    /// The producer is closed. The task was not taken.
    #[error("cannot enqueue to topic {topic}: the producer is closed")]
    Closed {
        /// The topic.
        topic: Arc<str>,
        /// For [`into_task`](Self::into_task).
        task: ReturnedTask,
    },
}

/// The task that was not enqueued; see [`EnqueueError::into_task`]. `Debug` does not show it.
#[derive(Default)]
pub struct ReturnedTask(Option<Box<NewTask>>);

impl fmt::Debug for ReturnedTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "task" } else { "none" })
    }
}

impl EnqueueError {
    /// The task, as it was handed to the producer.
    ///
    /// Enqueuing it again after [`NotAcknowledged`](Self::NotAcknowledged) may duplicate it, and it
    /// comes behind what was enqueued since.
    ///
    /// # Examples
    /// ```
    /// use keylane::error::EnqueueError;
    /// use keylane::{NewTask, TaskProducer};
    ///
    /// async fn or_keep(producer: &TaskProducer, task: NewTask, outbox: &mut Vec<NewTask>) {
    ///     if let Err(error) = producer.enqueue(task).await {
    ///         eprintln!("{error}");
    ///         outbox.extend(error.into_task());
    ///     }
    /// }
    /// # let _ = or_keep;
    /// ```
    ///
    /// # Errors
    /// The error itself, where it has no task: [`Encode`](Self::Encode), and one that
    /// [`NewTask::json`] or the caller has made.
    pub fn into_task(mut self) -> Result<NewTask, Self> {
        match self.slot().and_then(|slot| slot.0.take()) {
            Some(task) => Ok(*task),
            None => Err(self),
        }
    }

    /// The same error with the task in it.
    pub(crate) fn of(mut self, task: NewTask) -> Self {
        if let Some(slot) = self.slot() {
            slot.0 = Some(Box::new(task));
        }
        self
    }

    fn slot(&mut self) -> Option<&mut ReturnedTask> {
        match self {
            Self::Full { task, .. }
            | Self::TooLarge { task, .. }
            | Self::Invalid { task, .. }
            | Self::UnknownTopic { task, .. }
            | Self::Refused { task, .. }
            | Self::NotAcknowledged { task, .. }
            | Self::Broken { task, .. }
            | Self::Closed { task, .. } => Some(task),
            Self::Encode { .. } => None,
        }
    }

    /// The error's name in the span of the enqueue.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Full { .. } => "full",
            Self::TooLarge { .. } => "too_large",
            Self::Encode { .. } => "encode",
            Self::Invalid { .. } => "invalid",
            Self::UnknownTopic { .. } => "unknown_topic",
            Self::Refused { .. } => "refused",
            Self::NotAcknowledged { .. } => "not_acknowledged",
            Self::Broken { .. } => "broken",
            Self::Closed { .. } => "closed",
        }
    }
}

impl From<WriteError> for EnqueueError {
    fn from(error: WriteError) -> Self {
        let (kind, task) = (error.kind(), ReturnedTask::default());
        let WriteError { topic, failure } = error;
        match failure {
            WriteFailure::NotAdmitted(NotAdmitted::Closed) => Self::Closed { topic, task },
            WriteFailure::NotAdmitted(NotAdmitted::Broken) => Self::Broken { topic, task },
            WriteFailure::NotAdmitted(NotAdmitted::TooManyRecords { limit }) => Self::Full {
                topic,
                limit,
                unit: "records",
                setting: "max_pending_records",
                task,
            },
            WriteFailure::NotAdmitted(NotAdmitted::TooManyBytes { limit }) => Self::Full {
                topic,
                limit,
                unit: "bytes",
                setting: "max_pending_bytes",
                task,
            },
            WriteFailure::TooLarge { bytes, limit } => Self::TooLarge {
                topic,
                bytes,
                limit: limit.to_string(),
                task,
            },
            failure if kind == WriteErrorKind::Refused => Self::Refused {
                topic,
                reason: failure.to_string(),
                task,
            },
            failure => Self::NotAcknowledged {
                topic,
                reason: failure.to_string(),
                task,
            },
        }
    }
}

/// A flush whose time was up. Nothing is lost by it: the tasks stay on their way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{pending} tasks to {} had no answer when the time for the flush was up",
    .topics.join(", ")
)]
#[non_exhaustive]
pub struct FlushError {
    /// The producer's topics.
    pub topics: Arc<[Arc<str>]>,
    /// The tasks on their way at that moment, later ones included.
    pub pending: usize,
}

/// A close whose time was up before every task was answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{unacknowledged} tasks to {} were not acknowledged before the producer was closed",
    .topics.join(", ")
)]
#[non_exhaustive]
pub struct CloseError {
    /// The producer's topics.
    pub topics: Arc<[Arc<str>]>,
    /// The tasks that were given up. Each one's future ends with [`EnqueueError::NotAcknowledged`].
    pub unacknowledged: usize,
}
