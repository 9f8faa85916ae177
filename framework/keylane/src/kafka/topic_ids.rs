//! Asking the brokers for topic ids, without waiting unless told to.
//!
//! rdkafka has the ids nowhere; librdkafka has them in its admin interface. An inquiry goes to the
//! controller (in KRaft: some broker that is there), creates no topic, needs no right that reading
//! does not need, and its answer comes to a queue of its own. Brokers without topic ids (before
//! Kafka 2.8) answer with null ids, and nothing is known then.

use std::time::Duration;

use keylane_core::LogId;
use rdkafka::bindings::rd_kafka_admin_op_t as Operation;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};

use super::describe::{TopicDescription, describe_topics, descriptions};
use super::replies::{AdminOptions, ReplyQueue};

/// The topics the brokers know, each with its log.
pub(crate) type Logs = Vec<(String, LogId)>;

/// What has become of a question.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Pending,
    /// Nobody was there, or not in time, or willing.
    Refused,
    Logs(Logs),
}

/// A question under way.
pub(crate) struct Inquiry {
    answers: ReplyQueue,
}

impl Inquiry {
    /// Asks for `topics`, which are different ones. An answer follows within `timeout`, if only
    /// that there is none.
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
