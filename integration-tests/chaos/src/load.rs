//! The producer: idempotent, `acks=all`, and it remembers what was acknowledged when.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use fastrand::Rng;
use rdkafka::{
    ClientConfig,
    producer::{FutureProducer, FutureRecord, Producer, future_producer::DeliveryFuture},
};
use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, task::JoinHandle};

use crate::{
    clock::{Nanos, now},
    fate::{Fate, Value},
};

const TICK: Duration = Duration::from_millis(10);
/// Records on their way; beyond it the producer waits for the brokers.
const IN_FLIGHT: usize = 50_000;
/// One key in this many records is null.
const NULL_KEYS: u64 = 20;
/// A few keys get more than their share.
const HOT_KEYS: u64 = 3;

/// A record that the brokers have acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// The record's number.
    pub id: u64,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// When.
    pub at: Nanos,
}

/// What is written.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// The brokers.
    pub bootstrap_servers: String,
    /// The topic.
    pub topic: String,
    /// The seed of keys and fates.
    pub seed: u64,
    /// Records a second.
    pub rate: u64,
    /// Different keys.
    pub keys: u64,
    /// When a record is written that ends its process, in milliseconds from the first one on.
    pub aborts_ms: Vec<u64>,
    /// Every record works at once, and the producer goes on where the log was cut, which an
    /// idempotent one does not.
    pub all_work: bool,
}

/// A producer at work.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Vec<Acknowledged>>>,
    /// Until it was stopped.
    running: Option<(JoinHandle<usize>, JoinHandle<usize>)>,
}

/// What a producer did.
#[derive(Debug, Default)]
pub struct Written {
    /// Acknowledged by the brokers.
    pub acknowledged: Vec<Acknowledged>,
    /// Given up by the client, which may lie in the log all the same.
    pub refused: usize,
}

impl Load {
    /// Starts to write.
    ///
    /// # Errors
    /// When no client can be made.
    pub fn start(recipe: Recipe) -> Result<Self, rdkafka::error::KafkaError> {
        let producer: FutureProducer = ClientConfig::new()
            .set("bootstrap.servers", &recipe.bootstrap_servers)
            .set("client.id", "keylane-chaos-load")
            .set(
                "enable.idempotence",
                if recipe.all_work { "false" } else { "true" },
            )
            .set("acks", "all")
            .set("linger.ms", "5")
            // Outlasts every outage of the schedule.
            .set("message.timeout.ms", "180000")
            .set("reconnect.backoff.max.ms", "1000")
            .create()?;
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let (sent, deliveries) = mpsc::channel(IN_FLIGHT);
        let collector = tokio::spawn(collect(deliveries, Arc::clone(&acknowledged)));
        let writer = tokio::spawn(write(producer, recipe, Arc::clone(&stop), sent));
        Ok(Self {
            stop,
            acknowledged,
            running: Some((writer, collector)),
        })
    }

    /// Ends the writing and waits for the brokers' last word. Nothing is returned the second time.
    pub async fn stop(&mut self) -> Option<Written> {
        let (writer, collector) = self.running.take()?;
        self.stop.store(true, Ordering::Relaxed);
        let refused = writer.await.unwrap_or(1) + collector.await.unwrap_or(1);
        let acknowledged = std::mem::take(
            &mut *self
                .acknowledged
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        Some(Written {
            acknowledged,
            refused,
        })
    }
}

async fn write(
    producer: FutureProducer,
    recipe: Recipe,
    stop: Arc<AtomicBool>,
    sent: mpsc::Sender<(u64, DeliveryFuture)>,
) -> usize {
    // Another stream than the schedule's.
    let mut rng = Rng::with_seed(recipe.seed ^ 0x10ad);
    let (began, mut next, mut refused) = (Instant::now(), 0_u64, 0);
    let mut aborts = recipe.aborts_ms.iter().peekable();
    let mut ticks = tokio::time::interval(TICK);
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        while next < elapsed_ms * recipe.rate / 1_000 {
            let fate = match aborts.next_if(|&&at_ms| at_ms <= elapsed_ms) {
                Some(_) => Fate::Aborts,
                None if recipe.all_work => Fate::Works(1),
                None => Fate::draw(&mut rng),
            };
            let key = key(&mut rng, recipe.keys);
            let value = Value { id: next, fate }.to_string();
            let mut record: FutureRecord<'_, str, str> =
                FutureRecord::to(&recipe.topic).payload(&value);
            record.key = key.as_deref();
            match producer.send_result(record) {
                Ok(delivery) => {
                    if sent.send((next, delivery)).await.is_err() {
                        return refused;
                    }
                }
                Err(_) => refused += 1,
            }
            next += 1;
        }
    }
    let flushed =
        tokio::task::spawn_blocking(move || producer.flush(Duration::from_secs(180))).await;
    refused + usize::from(!matches!(flushed, Ok(Ok(()))))
}

fn key(rng: &mut Rng, keys: u64) -> Option<String> {
    match rng.u64(0..100) {
        chance if chance < 100 / NULL_KEYS => None,
        chance if chance < 20 => Some(format!("hot-{}", rng.u64(0..HOT_KEYS))),
        _ => Some(format!("key-{}", rng.u64(0..keys.max(1)))),
    }
}

async fn collect(
    mut deliveries: mpsc::Receiver<(u64, DeliveryFuture)>,
    acknowledged: Arc<Mutex<Vec<Acknowledged>>>,
) -> usize {
    let mut refused = 0;
    while let Some((id, delivery)) = deliveries.recv().await {
        match delivery.await {
            Ok(Ok(place)) => {
                let Ok(mut list) = acknowledged.lock() else {
                    return refused;
                };
                list.push(Acknowledged {
                    id,
                    partition: place.partition,
                    offset: place.offset,
                    at: now(),
                });
            }
            Ok(Err(_)) | Err(_) => refused += 1,
        }
    }
    refused
}
