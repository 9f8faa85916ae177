//! Enqueuing tasks.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::future::join_all;

use super::new_task::{NewTask, Rest, TaskSource};
use super::outgoing::Unwritten;
use super::raw::{Acknowledged, OutgoingRecord, RawProducer};
use super::write_error::{WriteError, WriteFailure};
use super::{CloseError, EnqueueError, FlushError, TaskProducerBuilder, TaskProducerConfig};
use crate::trace::SendSpan;

/// Enqueues tasks to one or more topics and waits for the broker's acknowledgement.
///
/// Idempotent, `acks=all`, bounded in memory. Cheap to clone; all clones share one client.
///
/// Every task carries Decaton's `dt_meta` header, which Decaton's processors read from version 9.0
/// on, as keylane's do. Older ones drop such a task and commit it: for those, set
/// [`TaskFormat::Legacy`](crate::producer::TaskFormat::Legacy).
///
/// # Order
/// Tasks are queued at the call, in call order, whether or not their futures are awaited yet. On a
/// partition they are written in that order. A task that *fails* does not stop those after it, so
/// enqueuing it again puts it behind them.
///
/// A broker refuses a batch as a whole when one task of it is invalid. The others are then written
/// again, one by one, behind what was enqueued since. Only an awaited future does that; otherwise
/// the task stays unwritten.
///
/// # Delivery
/// `Ok` means that the task is on all in-sync replicas. [`EnqueueError::NotAcknowledged`] means
/// that it may or may not be there: enqueuing it again can duplicate it, and not doing so can lose
/// it.
///
/// Dropping the future of an enqueue does **not** recall the task; only its answer is lost.
///
/// # Shutdown
/// [`close`](Self::close) before the process ends. When the last clone is dropped without it, a
/// warning is logged, and pending tasks get five more seconds in the background. What is left then
/// is given up, and its futures fail. A process that ends earlier loses them.
///
/// # Examples
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use keylane::{NewTask, TaskProducer};
/// use std::time::Duration;
///
/// # #[derive(serde::Serialize)] struct Event { vehicle: u32 }
/// let producer = TaskProducer::builder("parking-events")
///     .bootstrap_servers("localhost:9092")
///     .application_id("car-park")
///     .start()
///     .await?;
/// let enqueued = producer.enqueue(NewTask::json(&Event { vehicle: 7 })?.key("vehicle-7")).await?;
/// println!("on partition {} at offset {}", enqueued.partition, enqueued.offset);
/// producer.close(Duration::from_secs(10)).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct TaskProducer {
    shared: Arc<Shared>,
}

struct Shared {
    raw: RawProducer,
    /// At least one.
    topics: Arc<[Arc<str>]>,
    source: TaskSource,
}

/// The broker's acknowledgement of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Enqueued {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The offset there.
    pub offset: i64,
}

impl TaskProducer {
    /// Sets up a producer for a topic. [`TaskProducerBuilder::topic`] adds further ones.
    pub fn builder(topic: impl Into<String>) -> TaskProducerBuilder {
        TaskProducerConfig::new(topic, "").into()
    }

    /// Starts from settings read elsewhere, for example from a configuration file.
    pub fn from_config(config: TaskProducerConfig) -> TaskProducerBuilder {
        config.into()
    }

    pub(super) fn new(raw: RawProducer, topics: Arc<[Arc<str>]>, source: TaskSource) -> Self {
        Self {
            shared: Arc::new(Shared {
                raw,
                topics,
                source,
            }),
        }
    }

    /// Enqueues one task; the future ends with the broker's answer.
    ///
    /// The task is queued by the call itself. The future need not be awaited at once: await many
    /// together to be fast.
    ///
    /// # Errors
    /// See [`EnqueueError`]; [`into_task`](EnqueueError::into_task) gives the task back. A full producer fails at once and does not wait: see
    /// [`room`](Self::room).
    pub fn enqueue(
        &self,
        task: NewTask,
    ) -> impl Future<Output = Result<Enqueued, EnqueueError>> + Send + 'static + use<> {
        let queue = |record| self.shared.raw.queue(record);
        let sent = self.shared.send(task, SystemTime::now(), queue);
        async move { sent?.answer().await }
    }

    /// Enqueues tasks in order and waits for all of them: one result per task, in the same order.
    ///
    /// Each task succeeds or fails by itself, with one exception: when a task finds the producer
    /// full, it and all later valid ones get [`EnqueueError::Full`]. So what did not fit is the end of
    /// the batch, and enqueuing it again keeps the order.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(producer: keylane::TaskProducer) {
    /// use keylane::NewTask;
    ///
    /// let tasks = ["in", "out"].map(|event| NewTask::new(event).key("B-KL 42"));
    /// for answer in producer.enqueue_all(tasks).await {
    ///     if let Err(error) = answer {
    ///         eprintln!("{error}");
    ///     }
    /// }
    /// # }
    /// ```
    ///
    /// # Cancellation
    /// Dropping the future recalls nothing once it was polled; before that, nothing is queued.
    pub async fn enqueue_all(
        &self,
        tasks: impl IntoIterator<Item = NewTask>,
    ) -> Vec<Result<Enqueued, EnqueueError>> {
        let now = SystemTime::now();
        let mut not_admitted: Option<WriteFailure> = None;
        let mut answers = Vec::new();
        for task in tasks {
            let queue = |record: OutgoingRecord| match &not_admitted {
                Some(failure) => {
                    let error = WriteError::new(record.topic.clone(), failure.clone());
                    Err(Box::new(Unwritten { record, error }))
                }
                None => self.shared.raw.queue(record).inspect_err(|unwritten| {
                    let failure = &unwritten.error.failure;
                    if matches!(failure, WriteFailure::NotAdmitted(_)) {
                        not_admitted = Some(failure.clone());
                    }
                }),
            };
            let sent = self.shared.send(task, now, queue);
            answers.push(async move { sent?.answer().await });
        }
        join_all(answers).await
    }

    /// Waits until a task would be taken, or the producer is closed.
    ///
    /// Where several tasks enqueue at once, the room may be gone again. Use a loop of `room` and
    /// `enqueue` to follow the broker's pace.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(producer: keylane::TaskProducer, lines: Vec<String>) {
    /// use futures::stream::{FuturesUnordered, StreamExt};
    ///
    /// let mut answers = FuturesUnordered::new();
    /// for line in lines {
    ///     producer.room().await;
    ///     answers.push(producer.enqueue(keylane::NewTask::new(line)));
    /// }
    /// while let Some(answer) = answers.next().await {
    ///     if let Err(error) = answer {
    ///         eprintln!("{error}");
    ///     }
    /// }
    /// # }
    /// ```
    pub async fn room(&self) {
        self.shared.raw.room().await;
    }

    /// The number of tasks without an answer yet.
    pub fn pending(&self) -> usize {
        self.shared.raw.pending()
    }

    /// The topics that tasks go to. A task that names none goes to the first one.
    pub fn topics(&self) -> impl Iterator<Item = &str> {
        self.shared.topics.iter().map(|topic| &**topic)
    }

    /// Waits until every task enqueued before the call has an answer, good or bad. The futures of
    /// `enqueue` have the answers. Later tasks are not waited for.
    ///
    /// # Errors
    /// [`FlushError`] when the time is up first. The tasks are still being written.
    ///
    /// # Cancellation
    /// Safe.
    pub async fn flush(&self, within: Duration) -> Result<(), FlushError> {
        let flushed = self.shared.raw.flush(within).await;
        flushed.map_err(|pending| FlushError {
            topics: self.shared.topics.clone(),
            pending,
        })
    }

    /// Accepts no more tasks, on any clone, and waits until every task has an answer. A task
    /// without one when the time is up is given up: its future ends with
    /// [`EnqueueError::NotAcknowledged`].
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(producer: keylane::TaskProducer) {
    /// if let Err(error) = producer.close(std::time::Duration::from_secs(10)).await {
    ///     eprintln!("{error}"); // how many tasks have no acknowledgement
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`CloseError`] with the number of tasks that were given up.
    ///
    /// # Cancellation
    /// Dropping the future leaves the producer closed and the tasks on their way; it can be called
    /// again.
    pub async fn close(&self, within: Duration) -> Result<(), CloseError> {
        let closed = self.shared.raw.close(within).await;
        closed.map_err(|unacknowledged| CloseError {
            topics: self.shared.topics.clone(),
            unacknowledged,
        })
    }
}

/// A task on its way.
struct Sent<A> {
    answer: A,
    topic: Arc<str>,
    rest: Rest,
    span: SendSpan,
}

impl<A> Sent<A>
where
    A: Future<Output = Result<Acknowledged, Box<Unwritten>>>,
{
    async fn answer(self) -> Result<Enqueued, EnqueueError> {
        let Self {
            answer,
            topic,
            rest,
            span,
        } = self;
        match answer.await {
            Ok(Acknowledged { partition, offset }) => {
                span.ended(Ok((partition, offset)));
                Ok(Enqueued {
                    topic,
                    partition,
                    offset,
                })
            }
            Err(unwritten) => {
                let error = rest.error(*unwritten);
                span.ended(Err(error.kind()));
                Err(error)
            }
        }
    }
}

impl Shared {
    /// Queues a task. An error has the task as it was given.
    fn send<A>(
        &self,
        mut task: NewTask,
        now: SystemTime,
        queue: impl FnOnce(OutgoingRecord) -> Result<A, Box<Unwritten>>,
    ) -> Result<Sent<A>, EnqueueError> {
        let topic = match task.topic_among(&self.topics) {
            Ok(topic) => topic,
            Err(error) => return Err(error.of(task)),
        };
        // Before the rest is taken: a task that is given back keeps its id.
        task.name_message(&self.source, now);
        let rest = task.take_rest(self.source.format);
        let span = SendSpan::open(&topic, &mut task.headers);
        let error = match task.validate() {
            Ok(()) => match queue(task.into_record(topic.clone(), &self.source, now)) {
                Ok(answer) => {
                    return Ok(Sent {
                        answer,
                        topic,
                        rest,
                        span,
                    });
                }
                Err(unwritten) => rest.error(*unwritten),
            },
            Err(error) => error.of(rest.given(task)),
        };
        span.ended(Err(error.kind()));
        Err(error)
    }
}

impl std::fmt::Debug for TaskProducer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskProducer")
            .field("topics", &self.shared.topics)
            .field("source", &self.shared.source)
            .field("pending", &self.pending())
            .finish_non_exhaustive()
    }
}
