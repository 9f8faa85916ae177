//! librdkafka's mock cluster, owned by a client of its own.

use std::sync::atomic::{AtomicBool, Ordering};

use rdkafka::ClientConfig;
use rdkafka::client::Client;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, DefaultProducerContext, Producer};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::{EmbeddedBrokerError, rebalance_delay};

/// The cluster lives as long as the client that was configured with `test.mock.num.brokers`. Unlike
/// a `MockCluster` the client is `Send` and `Sync`, and a handle on its cluster is to be had for
/// each call.
pub(super) struct Mock {
    owner: BaseProducer,
    /// Writes are refused.
    refuses: AtomicBool,
}

impl std::fmt::Debug for Mock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mock").finish_non_exhaustive()
    }
}

impl Mock {
    pub(super) fn start(brokers: u8) -> Result<Self, EmbeddedBrokerError> {
        let failed = |error: KafkaError| EmbeddedBrokerError::Start {
            reason: error.to_string(),
        };
        let owner: BaseProducer = ClientConfig::new()
            .set("test.mock.num.brokers", brokers.to_string())
            .create()
            .map_err(failed)?;
        rebalance_delay::set_millis(owner.client(), 0);
        Ok(Self {
            owner,
            refuses: AtomicBool::new(false),
        })
    }

    pub(super) fn bootstrap_servers(&self) -> Result<String, EmbeddedBrokerError> {
        let reason = || EmbeddedBrokerError::Start {
            reason: "librdkafka made no mock cluster".to_owned(),
        };
        Ok(self.cluster().ok_or_else(reason)?.bootstrap_servers())
    }

    pub(super) fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        replicas: i32,
    ) -> Result<(), EmbeddedBrokerError> {
        let failed = |reason: String| EmbeddedBrokerError::CreateTopic {
            name: name.to_owned(),
            reason,
        };
        let cluster = self
            .cluster()
            .ok_or_else(|| failed("the cluster is gone".to_owned()))?;
        match cluster.create_topic(name, partitions, replicas) {
            Ok(()) => Ok(()),
            Err(KafkaError::MockCluster(RDKafkaErrorCode::TopicAlreadyExists)) => {
                Err(EmbeddedBrokerError::TopicExists {
                    name: name.to_owned(),
                })
            }
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// Makes writes fail from now on: a hundred thousand batches, more than any client sends that
    /// obeys the refusals.
    ///
    /// It does so once: to renew the refusals, the old ones would have to be removed first, which
    /// lets a write through in between.
    pub(super) fn refuse_writes(&self) {
        const REFUSALS: usize = 100_000;
        if let Some(cluster) = self
            .cluster()
            .filter(|_| !self.refuses.swap(true, Ordering::Relaxed))
        {
            cluster.request_errors(
                RDKafkaApiKey::Produce,
                &vec![RDKafkaRespErr::RD_KAFKA_RESP_ERR_POLICY_VIOLATION; REFUSALS],
            );
        }
    }

    /// Serves the events of the owning client, or its log lines would pile up.
    pub(super) fn serve(&self) {
        self.owner.poll(std::time::Duration::ZERO);
    }

    pub(super) fn cluster(&self) -> Option<MockCluster<'_, DefaultProducerContext>> {
        self.client().mock_cluster()
    }

    pub(super) fn client(&self) -> &Client<DefaultProducerContext> {
        self.owner.client()
    }
}
