//! A client without a context of ours, for tests of requests through it.

use std::time::Duration;

use keylane_embedded_broker::EmbeddedBroker;
use rdkafka::ClientConfig;
use rdkafka::consumer::BaseConsumer;

pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn client(broker: &EmbeddedBroker) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap_servers())
        .create()
        .expect("the settings are right")
}
