//! Vehicles enter and leave a car park.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use keylane::{NewTask, TaskProducer};
use serde::{Deserialize, Serialize};

/// The keys.
const VEHICLES: u64 = 180;

/// A vehicle at a gate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ParkingEvent {
    /// The number plate, which is the record's key.
    pub vehicle: String,
    /// Higher than that of every earlier event, also of those before a restart.
    pub number: u64,
}

/// How often they are written.
const BATCHES_A_SECOND: u64 = 10;

/// Writes so many events each second, the vehicles in turn.
pub(crate) async fn write(producer: &TaskProducer, rate: u64) {
    let start = SystemTime::now().duration_since(UNIX_EPOCH);
    // Fewer than a thousand a second, so a later start is beyond all numbers of this one.
    let mut next = start.unwrap_or_default().as_millis() as u64;
    let mut tick = tokio::time::interval(Duration::from_secs(1) / BATCHES_A_SECOND as u32);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let batch = next..next + (rate / BATCHES_A_SECOND).max(1);
        next = batch.end;
        // What the brokers do not take is repeated by the client, and given up with a log line.
        let _ = producer.enqueue_all(batch.filter_map(task)).await;
    }
}

fn task(number: u64) -> Option<NewTask> {
    let vehicle = format!("B-KL {}", number % VEHICLES + 1);
    let event = ParkingEvent { vehicle, number };
    let value = serde_json::to_vec(&event).ok()?;
    Some(NewTask::new(value).key(event.vehicle))
}
