//! The side that asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::waiting::{Question, Waiting};
use super::{AskError, CORRELATION_ID, REPLY_PARTITION, REPLY_TOPIC, RequesterBuilder};
use crate::error::CloseError;
use crate::record::Record;
use crate::{NewTask, TaskProducer};

/// Asks questions through Kafka and waits for their answers. Cheap to clone; all clones share one
/// producer and one reader.
///
/// Its thread ends when the last clone is dropped, and no question waits any longer.
///
/// See the [module](crate::request_reply) for when not to use it.
///
/// # Examples
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
///
/// use keylane::NewTask;
/// use keylane::request_reply::{AskError, Requester};
///
/// let requester = Requester::builder("parking-questions", "parking-answers")
///     .bootstrap_servers("localhost:9092")
///     .application_id("gate-7")
///     .start()
///     .await?;
/// match requester.ask(NewTask::new("price?").key("B-KL 42")).within(Duration::from_secs(2)).await {
///     Ok(answer) => println!("{:?}", answer.value()),
///     Err(AskError::NoAnswer { .. }) => println!("the tariff service is away"),
///     Err(error) => return Err(error.into()),
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Requester {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    producer: TaskProducer,
    waiting: Arc<Waiting>,
    topic: Arc<str>,
    partition: i32,
    stop: Arc<AtomicBool>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

impl Requester {
    /// Asks by tasks in `questions`, and reads the answers in `answers`. Both topics have to exist.
    pub fn builder(questions: impl Into<String>, answers: impl Into<String>) -> RequesterBuilder {
        RequesterBuilder::new(questions.into(), answers.into())
    }

    pub(super) fn new(
        producer: TaskProducer,
        waiting: Arc<Waiting>,
        topic: Arc<str>,
        partition: i32,
        stop: Arc<AtomicBool>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                producer,
                waiting,
                topic,
                partition,
                stop,
            }),
        }
    }

    /// A question. It is asked when the future of [`Ask::within`] is polled.
    pub fn ask(&self, question: NewTask) -> Ask {
        Ask {
            requester: self.clone(),
            question,
        }
    }

    /// How many questions wait for their answers.
    pub fn waiting(&self) -> usize {
        self.shared.waiting.len()
    }

    /// How many answers came after the time of their question was up, or to one that had an answer
    /// already. If it grows, the time is too short, or the answering side has fallen behind.
    pub fn late_answers(&self) -> u64 {
        self.shared.waiting.late()
    }

    /// Accepts no more questions, and waits until all are acknowledged by Kafka. Answers are still
    /// read, until the last clone is dropped.
    ///
    /// # Errors
    /// As [`TaskProducer::close`].
    pub async fn close(&self, within: Duration) -> Result<(), CloseError> {
        self.shared.producer.close(within).await
    }

    async fn answer_to(&self, question: NewTask, mut place: Question) -> Result<Record, AskError> {
        let Shared {
            producer,
            topic,
            partition,
            ..
        } = &*self.shared;
        let question = question
            .header(REPLY_TOPIC, topic.to_string())
            .header(REPLY_PARTITION, partition.to_string())
            .header(CORRELATION_ID, place.id());
        producer.enqueue(question).await?;
        (&mut place.answer).await.map_err(|_| AskError::Ended)
    }
}

/// A question that is not asked yet.
#[derive(Clone, Debug)]
#[must_use = "a question is not asked until `within` is awaited"]
pub struct Ask {
    requester: Requester,
    question: NewTask,
}

impl Ask {
    /// Asks it, and waits for its answer for this long: the writing of the question included.
    ///
    /// The answer is a record; read it with a [decoder](crate::Decode), such as
    /// [`Json`](crate::Json).
    ///
    /// # Errors
    /// [`AskError`]. After [`NoAnswer`](AskError::NoAnswer) the question may still be processed.
    ///
    /// # Cancellation
    /// Dropping the future recalls no question that was asked: its answer counts as late.
    pub async fn within(self, time: Duration) -> Result<Record, AskError> {
        let place = self.requester.shared.waiting.register()?;
        let answer = self.requester.answer_to(self.question, place);
        let timed = tokio::time::timeout(time, answer).await;
        timed.unwrap_or(Err(AskError::NoAnswer { waited: time }))
    }
}
