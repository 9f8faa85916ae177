//! Vehicles enter and leave a car park.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use keylane::{NewTask, TaskProducer};
use serde::{Deserialize, Serialize};

/// The keys.
const VEHICLES: u64 = 120;

/// A vehicle at a gate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ParkingEvent {
    /// The number plate, which is the record's key.
    pub vehicle: String,
    /// Higher than that of every earlier event, also of those before a restart.
    pub number: u64,
}

/// Writes so many events each second, the vehicles in turn.
pub(crate) async fn write(producer: &TaskProducer, rate: u32) {
    let start = SystemTime::now().duration_since(UNIX_EPOCH);
    // Fewer than a thousand a second, so a later start is beyond all numbers of this one.
    let first = start.unwrap_or_default().as_millis() as u64;
    let mut tick = tokio::time::interval(Duration::from_secs(1) / rate.clamp(1, 900));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for number in first.. {
        tick.tick().await;
        let vehicle = format!("B-KL {}", number % VEHICLES + 1);
        let event = ParkingEvent { vehicle, number };
        let task = serde_json::to_vec(&event).map(|value| NewTask::new(value).key(event.vehicle));
        // What the brokers do not take is repeated by the client, and given up with a log line.
        if let Ok(task) = task {
            let _ = producer.enqueue(task).await;
        }
    }
}
