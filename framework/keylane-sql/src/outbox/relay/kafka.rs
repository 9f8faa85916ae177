//! What a relay needs of Kafka; tests have one in memory.

use std::time::Duration;

use keylane::error::TaskProducerError;
use keylane::producer::outbox::{Connection, PublishError, Publisher, Record, check_topic};

/// A look at a topic ends after this.
const TOPIC_PATIENCE: Duration = Duration::from_secs(10);

/// The cluster. `take` and `publish` block.
pub(super) trait Kafka: Clone + Send + Sync + 'static {
    type Publisher: Send + 'static;

    /// Takes a transactional id from who has it.
    fn take(&self, id: &str, patience: Duration) -> Result<Self::Publisher, PublishError>;

    /// Publishes all, or none.
    fn publish(publisher: &mut Self::Publisher, records: &[Record]) -> Result<(), PublishError>;

    /// Nothing is published at the moment.
    fn serve(publisher: &mut Self::Publisher);

    /// Whether a topic can be written to; otherwise why not.
    fn topic(&self, topic: &str) -> impl Future<Output = Result<(), String>> + Send;
}

#[derive(Clone)]
pub(super) struct Cluster(pub(super) Connection);

impl Kafka for Cluster {
    type Publisher = Publisher;

    fn take(&self, id: &str, patience: Duration) -> Result<Publisher, PublishError> {
        Publisher::take(&self.0, id, patience)
    }

    fn publish(publisher: &mut Publisher, records: &[Record]) -> Result<(), PublishError> {
        publisher.publish(records)
    }

    fn serve(publisher: &mut Publisher) {
        publisher.serve();
    }

    async fn topic(&self, topic: &str) -> Result<(), String> {
        match check_topic(&self.0, topic, TOPIC_PATIENCE).await {
            Ok(()) => Ok(()),
            // Of the cluster, not of this topic: publishing finds it out too.
            Err(TaskProducerError::Unreachable { .. }) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}
