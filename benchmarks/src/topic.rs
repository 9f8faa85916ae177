//! Fills a topic, at once or at a pace.

use std::error::Error;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::ToBytes;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};

use crate::measure::{scatter, unix_micros};
use crate::scenario::{Keys, Scenario};

type Client = ThreadedProducer<DefaultProducerContext>;

const FLUSH: Duration = Duration::from_secs(120);
/// librdkafka sends a request for each partition: with less, a small broker is busier with requests
/// than with records, and what waits in its queue is charged to every arm.
const PACED_LINGER_MILLIS: &str = "5";
/// How often records are sent at a pace; those that are due are sent together.
const TICK: Duration = Duration::from_micros(250);

/// Writes all records of a scenario.
pub(crate) fn fill(
    bootstrap_servers: &str,
    topic: &str,
    scenario: &Scenario,
) -> Result<(), Box<dyn Error>> {
    let producer = client(bootstrap_servers, "20")?;
    let mut records = Records::new(scenario);
    for _ in 0..scenario.records {
        records.send(&producer, topic, 0)?;
    }
    producer.flush(FLUSH)?;
    Ok(())
}

/// Writes one record to each busy partition, which only shows the reader that it reads.
pub(crate) fn prime(
    bootstrap_servers: &str,
    topic: &str,
    scenario: &Scenario,
) -> Result<(), Box<dyn Error>> {
    let producer = client(bootstrap_servers, "0")?;
    for partition in 0..scenario.busy_partitions {
        send(
            &producer,
            BaseRecord::<[u8], _>::to(topic)
                .partition(partition)
                .payload(&[0; 16]),
        )?;
    }
    producer.flush(FLUSH)?;
    Ok(())
}

/// Writes all records of a scenario at its pace, each with the moment it was meant to be sent at.
pub(crate) fn pace(
    bootstrap_servers: &str,
    topic: &str,
    scenario: &Scenario,
    rate: u64,
) -> Result<(), Box<dyn Error>> {
    let producer = client(bootstrap_servers, PACED_LINGER_MILLIS)?;
    let mut records = Records::new(scenario);
    let start = unix_micros() + 10_000;
    let mut sent = 0;
    while sent < scenario.records {
        let intended = start + sent * 1_000_000 / rate;
        if intended > unix_micros() {
            std::thread::sleep(TICK);
            continue;
        }
        records.send(&producer, topic, intended)?;
        sent += 1;
    }
    producer.flush(FLUSH)?;
    Ok(())
}

fn client(bootstrap_servers: &str, linger_millis: &str) -> Result<Client, KafkaError> {
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap_servers)
        .set("linger.ms", linger_millis)
        .set("acks", "all")
        // A broker that falls behind gets larger batches, not more of them.
        .set("max.in.flight.requests.per.connection", "5")
        .create()
}

/// The records of a scenario, one after the other, the same every time.
struct Records {
    keys: Keys,
    partitions: u64,
    value: Vec<u8>,
    zipf: Vec<f64>,
    number: u64,
}

impl Records {
    fn new(scenario: &Scenario) -> Self {
        let zipf = match scenario.keys {
            Keys::Zipf { keys, exponent } => cumulated(keys, exponent),
            _ => Vec::new(),
        };
        let value = vec![b'v'; scenario.value_bytes.max(8)];
        Self {
            keys: scenario.keys,
            partitions: scenario.busy_partitions as u64,
            value,
            zipf,
            number: 0,
        }
    }

    fn send(
        &mut self,
        producer: &Client,
        topic: &str,
        intended_micros: u64,
    ) -> Result<(), KafkaError> {
        let number = self.number;
        self.number += 1;
        let key = match self.keys {
            Keys::Null => None,
            Keys::Uniform(keys) => Some(number % keys),
            Keys::Distinct => Some(number),
            Keys::Zipf { .. } => {
                let dice = scatter(number) as f64 / u64::MAX as f64;
                Some(self.zipf.partition_point(|below| *below < dice) as u64)
            }
        };
        self.value[..8].copy_from_slice(&intended_micros.to_be_bytes());
        // Keys are dealt out evenly, so that the bound of a run follows from the numbers of keys
        // and partitions.
        let partition = (key.unwrap_or(number) % self.partitions) as i32;
        let bytes = key.map(|key| [key.to_be_bytes(), key.to_be_bytes()].concat());
        let record = BaseRecord::to(topic)
            .partition(partition)
            .payload(&self.value);
        match &bytes {
            Some(key) => send(producer, record.key(key)),
            None => send(producer, record),
        }
    }
}

fn send(
    producer: &Client,
    mut record: BaseRecord<'_, impl ToBytes + ?Sized, impl ToBytes + ?Sized>,
) -> Result<(), KafkaError> {
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                std::thread::sleep(Duration::from_millis(2));
            }
            Err((error, _)) => return Err(error),
        }
    }
}

/// How likely each key and those before it are.
fn cumulated(keys: u64, exponent: f64) -> Vec<f64> {
    let weights: Vec<f64> = (1..=keys)
        .map(|rank| (rank as f64).powf(-exponent))
        .collect();
    let total: f64 = weights.iter().sum();
    let mut sum = 0.0;
    weights
        .iter()
        .map(|weight| {
            sum += weight / total;
            sum
        })
        .collect()
}

/// The fraction of the records that the hottest key has.
pub(crate) fn hottest(keys: Keys, records: u64) -> f64 {
    match keys {
        Keys::Null | Keys::Distinct => 1.0 / records as f64,
        Keys::Uniform(keys) => 1.0 / keys as f64,
        Keys::Zipf { keys, exponent } => cumulated(keys, exponent).first().copied().unwrap_or(1.0),
    }
}
