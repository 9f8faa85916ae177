//! Queries topic ids from the brokers, without waiting unless requested.
//!
//! rdkafka has no interface for the ids; librdkafka has them in its admin interface. A query goes
//! to the controller (in KRaft: to any available broker). It creates no topic, and needs only the
//! permissions of reading. Its answer comes to a queue of its own. Brokers without topic ids
//! (before Kafka 2.8) answer with null ids, which count as unknown.

use std::time::Duration;

use keylane_core::LogId;
use rdkafka::bindings::rd_kafka_admin_op_t as Operation;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};

use super::describe::{TopicDescription, describe_topics, descriptions};
use super::replies::{AdminOptions, ReplyQueue};

/// The topics that the brokers list, each with its log.
pub(crate) type Logs = Vec<(String, LogId)>;

/// The state of a query.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Pending,
    /// No broker answered, or not in time, or it refused.
    Refused,
    Logs(Logs),
}

/// A query under way.
pub(crate) struct Inquiry {
    answers: ReplyQueue,
}

impl Inquiry {
    /// Queries `topics`, which must be distinct. An answer or a failure follows within `timeout`.
    pub(crate) fn send<C: ConsumerContext>(
        consumer: &BaseConsumer<C>,
        topics: &[&str],
        timeout: Duration,
    ) -> Self {
        let answers = ReplyQueue::new(consumer);
        let options = AdminOptions::new(
            consumer,
            Operation::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
            timeout,
        );
        describe_topics(consumer, topics, &options, &answers);
        Self { answers }
    }

    /// The answer, waited for at most this long. It comes once.
    pub(crate) fn answer(&self, wait: Duration) -> Answer {
        let Some(reply) = self.answers.poll(wait) else {
            return Answer::Pending;
        };
        let Some(topics) = descriptions(&reply) else {
            return Answer::Refused;
        };
        Answer::Logs(topics.filter_map(|topic| log(&topic)).collect())
    }
}

fn log(topic: &TopicDescription<'_>) -> Option<(String, LogId)> {
    if topic.error().is_some() {
        return None;
    }
    let (high, low) = topic.id()?;
    Some((topic.name()?.to_owned(), LogId::of_topic(high, low)?))
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::kafka::plain_client::{PATIENCE, client};
    use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};

    #[test]
    fn a_question_that_cannot_be_answered_ends_without_an_answer_and_one_that_is_dropped_lets_the_client_go()
     {
        let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
        let client = client(&broker);
        drop(broker);
        let asked = Inquiry::send(&client, &["one"], Duration::from_millis(200));
        assert_eq!(asked.answer(PATIENCE), Answer::Refused);
        drop(asked);
        drop(Inquiry::send(&client, &["one"], PATIENCE));
        drop(client);
    }
}
