//! Fills a topic.

use std::error::Error;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};

pub(crate) fn fill(
    bootstrap_servers: &str,
    topic: &str,
    records: u64,
    keys: u64,
    value_bytes: usize,
) -> Result<(), Box<dyn Error>> {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", bootstrap_servers)
        .set("partitioner", "murmur2_random")
        .set("linger.ms", "20")
        .set("acks", "all")
        .create()?;
    let value = vec![b'v'; value_bytes];
    for number in 0..records {
        let key = format!("key-{:012}", number % keys);
        while let Err((error, _)) = producer.send(BaseRecord::to(topic).key(&key).payload(&value)) {
            if !matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) {
                return Err(error.into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    producer.flush(Duration::from_secs(60))?;
    Ok(())
}
