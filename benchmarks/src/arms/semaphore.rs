//! "Semaphore and spawn": the consumer most often written by hand. It commits only what is
//! finished, and has no key order.

use std::sync::Arc;

use rdkafka::message::OwnedMessage;
use tokio::sync::Semaphore;

use super::hand_written::{self, HandOn, Shared};
use crate::measure::{Failure, Job, Sample};

pub(super) fn run(job: &Job) -> Result<Sample, Failure> {
    let limit = job.in_flight_total;
    hand_written::run(job, format!("{limit} in all"), |shared| Spawning {
        shared,
        permits: Arc::new(Semaphore::new(limit)),
    })
}

struct Spawning {
    shared: Shared,
    permits: Arc<Semaphore>,
}

impl HandOn for Spawning {
    async fn hand_on(&mut self, message: OwnedMessage) {
        // The semaphore is never closed.
        let Ok(permit) = self.permits.clone().acquire_owned().await else {
            return;
        };
        let shared = self.shared.clone();
        tokio::spawn(async move {
            shared.process(message).await;
            drop(permit);
        });
    }
}
