//! What is done to the topics.

use std::time::{Duration, Instant};

use keylane_integration_tests::kafka::{HarnessError, Kafka, NewRecord};
use tokio::time::sleep;

use super::{Conductor, LOOK};
use crate::{
    evidence::{PROBE, Written, read_written},
    journal::Deed,
    settings::Topics,
};

/// For a changed topic to be known to the leader of a partition.
const TOPIC_CHANGES: Duration = Duration::from_secs(60);

impl Conductor<'_> {
    /// First the topic refuses all writes, so that all it ever held can be read before it is
    /// deleted. What is refused then is parked.
    pub(super) async fn without_dead_letters(
        &self,
        away_ms: u64,
    ) -> Result<Vec<Written>, HarnessError> {
        let dead = &self.topics().dead;
        let what = "dead letters".to_owned();
        self.deeds.note(Deed::Out { what: what.clone() });
        self.refuse_writes(dead).await?;
        self.await_refusals(dead).await?;
        let saved = read_written(self.kafka, dead).await?;
        self.kafka.delete_topic(dead).await?;
        sleep(Duration::from_millis(away_ms)).await;
        create(self.kafka, dead, self.shape).await?;
        self.deeds.note(Deed::Back { what });
        Ok(saved)
    }

    pub(super) async fn without_retries(&self, away_ms: u64) -> Result<(), HarnessError> {
        let retry = &self.topics().retry;
        let what = "retries".to_owned();
        self.deeds.note(Deed::Out { what: what.clone() });
        self.refuse_writes(retry).await?;
        sleep(Duration::from_millis(away_ms)).await;
        self.kafka
            .configure_topic(retry, &configs(self.shape))
            .await?;
        self.deeds.note(Deed::Back { what });
        Ok(())
    }

    async fn refuse_writes(&self, topic: &str) -> Result<(), HarnessError> {
        self.limit_messages(topic, "1").await
    }

    /// Until no partition takes anything. A write that is taken for lack of news would go with the
    /// topic, unread, and the run would prove nothing.
    async fn await_refusals(&self, topic: &str) -> Result<(), HarnessError> {
        for partition in 0..self.shape.0 {
            let began = Instant::now();
            let probe = NewRecord {
                partition: Some(partition),
                ..NewRecord::keyed(PROBE, PROBE)
            };
            while self.kafka.produce(topic, vec![probe.clone()]).await.is_ok() {
                if began.elapsed() >= TOPIC_CHANGES {
                    return Err(HarnessError::Deadline {
                        what: format!(
                            "{topic}[{partition}] refused every write, so that it could be deleted"
                        ),
                        after: TOPIC_CHANGES,
                        last: "a write was taken".to_owned(),
                    });
                }
                sleep(LOOK).await;
            }
        }
        Ok(())
    }

    /// Makes every topic accept writes again. A broker that was away while the topic was deleted
    /// and re-created may still apply the settings of the old one (Apache Kafka 4.2); a change
    /// makes it read them again.
    ///
    /// # Errors
    /// When a topic cannot be configured.
    pub async fn mend_topics(&self) -> Result<(), HarnessError> {
        let Topics { dead, retry, .. } = self.topics();
        for topic in [dead, retry] {
            self.limit_messages(topic, "1000000").await?;
        }
        Ok(())
    }

    async fn limit_messages(&self, topic: &str, bytes: &str) -> Result<(), HarnessError> {
        let configs = [
            configs(self.shape).to_vec(),
            vec![("max.message.bytes", bytes)],
        ]
        .concat();
        self.kafka.configure_topic(topic, &configs).await
    }
}

/// Creates a topic of the run.
///
/// # Errors
/// As [`Kafka::create_topic`].
pub async fn create(kafka: &Kafka, topic: &str, shape: (i32, i32)) -> Result<(), HarnessError> {
    kafka
        .create_topic(topic, shape.0, shape.1, &configs(shape))
        .await
}

/// Records of all topics carry the time at which they were appended, for the checks; and no
/// acknowledged record lies on one broker alone.
fn configs((_, replicas): (i32, i32)) -> [(&'static str, &'static str); 2] {
    [
        ("message.timestamp.type", "LogAppendTime"),
        ("min.insync.replicas", if replicas > 1 { "2" } else { "1" }),
    ]
}
