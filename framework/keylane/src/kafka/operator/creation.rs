//! Creating the topic that steers a group.

use std::thread;
use std::time::{Duration, Instant};

use rdkafka::admin::{NewTopic, TopicReplication};
use rdkafka::error::RDKafkaErrorCode as Code;

use super::check_up::block_on;
use super::{Operator, OperatorError};
use crate::kafka::topics::TopicCreation;

/// Between two looks for a topic that was just created.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

impl Operator {
    /// Creates a compacted topic with one partition, unless there is a topic of that name.
    /// `replication_factor`: -1 is the brokers' default.
    ///
    /// # Errors
    /// Where the brokers do not answer, or refuse.
    pub fn create_compacted(
        &self,
        topic: &str,
        replication_factor: i32,
    ) -> Result<TopicCreation, OperatorError> {
        let doing = format!("create topic {topic}");
        let answers = self.administer(doing.clone(), |admin, options| {
            let replication = TopicReplication::Fixed(replication_factor);
            let topic = NewTopic::new(topic, 1, replication).set("cleanup.policy", "compact");
            block_on(admin.create_topics(&[topic], options))
        })?;
        match answers.into_iter().next() {
            Some(Ok(_)) => {
                self.wait_until_listed(topic);
                Ok(TopicCreation::Created)
            }
            Some(Err((_, Code::TopicAlreadyExists))) => Ok(TopicCreation::AlreadyExists),
            Some(Err((_, code))) => Err(OperatorError::refused(doing, code)),
            None => Err(OperatorError::Failed {
                doing,
                reason: "the answer does not name it".to_owned(),
            }),
        }
    }

    /// Brokers learn of a new topic from the controller, a moment later. The next command, or a
    /// member that starts, would not find it.
    fn wait_until_listed(&self, topic: &str) {
        let deadline = Instant::now() + self.patience;
        while self.topic(topic).is_err() && Instant::now() < deadline {
            thread::sleep(LOOK_AGAIN);
        }
    }
}
