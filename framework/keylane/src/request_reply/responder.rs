//! The side that answers.

use super::{CORRELATION_ID, REPLY_PARTITION, REPLY_TOPIC};
use crate::error::EnqueueError;
use crate::{NewTask, Task, TaskProducer};

/// Answers questions, in the processor of an ordinary subscription.
///
/// # Examples
/// See the [module](crate::request_reply#examples).
#[derive(Clone, Debug)]
pub struct Responder {
    producer: TaskProducer,
}

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answered {
    /// It is on the topic that the question names.
    Sent,
    /// The task is no question: no requester waits for an answer.
    NotAsked,
}

impl Responder {
    /// Answers by this producer, to its topics alone: a question that names another one is not
    /// answered. So a question cannot have keylane write anywhere else.
    pub fn new(producer: TaskProducer) -> Self {
        Self { producer }
    }

    /// Writes the answer to a question, and waits until Kafka has acknowledged it.
    ///
    /// Its topic, its partition and the header `keylane-correlation-id` are set. An answer has no
    /// order with others. A requester takes the first answer to a question, and counts a second one
    /// as late: a processor that is attempted again may answer again.
    ///
    /// # Errors
    /// As [`TaskProducer::enqueue`]; [`EnqueueError::UnknownTopic`] where the producer does not
    /// write to the topic that the question names.
    pub async fn answer<T>(
        &self,
        question: &Task<T>,
        answer: NewTask,
    ) -> Result<Answered, EnqueueError> {
        let headers = question.headers();
        let partition = headers.last_str(REPLY_PARTITION);
        let place = (
            headers.last_str(REPLY_TOPIC),
            partition.and_then(|partition| partition.parse().ok()),
            headers.last(CORRELATION_ID),
        );
        let (Some(topic), Some(partition), Some(id)) = place else {
            return Ok(Answered::NotAsked);
        };
        let answer = answer
            .topic(topic)
            .partition(partition)
            .header(CORRELATION_ID, id.clone());
        self.producer.enqueue(answer).await?;
        Ok(Answered::Sent)
    }
}
