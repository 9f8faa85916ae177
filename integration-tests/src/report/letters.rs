//! Many dead letters, to measure what is done with them.

use std::time::Duration;

use rdkafka::{
    ClientConfig,
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
};

const DEADLINE: Duration = Duration::from_secs(300);
/// The group that the letters name.
pub const GROUP: &str = "parking-notifier";

/// Writes letters as keylane writes them: 14 headers, a value of 200 bytes, 50 fingerprints. Every
/// hundredth has the reason `fatal`. They name this retry topic.
///
/// # Errors
/// Where the brokers do not take them.
pub fn write(
    servers: &str,
    topic: &str,
    partitions: i32,
    letters: u64,
    retry_topic: &str,
) -> Result<(), KafkaError> {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("enable.idempotence", "true")
        .set("linger.ms", "20")
        .create()?;
    let value = "v".repeat(200);
    for (number, partition) in (0..letters).zip((0..partitions).cycle()) {
        let key = format!("key-{}", number % 50_000);
        let mut headers = Some(headers(number, partition, retry_topic));
        loop {
            let record = BaseRecord::to(topic).key(&key).payload(&value);
            let record = record.partition(partition);
            let record = match headers.take() {
                Some(headers) => record.headers(headers),
                None => record,
            };
            match producer.send(record) {
                Ok(()) => break,
                Err((error, back)) if is_full(&error) => {
                    headers = back.headers;
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err((error, _)) => return Err(error),
            }
        }
    }
    producer.flush(DEADLINE)
}

fn is_full(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull)
}

fn headers(number: u64, partition: i32, retry_topic: &str) -> OwnedHeaders {
    let gates = ["north", "south", "east", "west", "inner"];
    let gate = gates.iter().cycle().nth((number % 5) as usize);
    let error = format!(
        "gate {} refused order {number} with status 503 (attempt 7)",
        gate.unwrap_or(&"")
    );
    let class = format!("gateway::Error{}", number % 10);
    let (partition, offset) = (partition.to_string(), number.to_string());
    let reason = if number.is_multiple_of(100) {
        "fatal"
    } else {
        "exhausted"
    };
    let all = [
        ("tenant", "a"),
        (
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
        ("keylane-origin-topic", "parking-events"),
        ("keylane-origin-partition", &partition),
        ("keylane-origin-offset", &offset),
        ("keylane-origin-timestamp", "1763698842000"),
        ("keylane-group", GROUP),
        ("keylane-attempts", "7"),
        ("keylane-first-failure", "2026-11-21T04:20:43.017Z"),
        ("keylane-last-failure", "2026-11-21T04:21:40.000Z"),
        ("keylane-reason", reason),
        ("keylane-error-class", &class),
        ("keylane-error", &error),
        ("keylane-retry-topic", retry_topic),
    ];
    let headers = OwnedHeaders::new_with_capacity(all.len());
    all.iter().fold(headers, |headers, (key, value)| {
        headers.insert(Header {
            key,
            value: Some(*value),
        })
    })
}
