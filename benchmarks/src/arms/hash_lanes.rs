//! "Hash lanes": keys hashed to sequential workers. Keeps key order; keys that share a worker wait
//! for each other, and a worker whose queue is full stops the reading.

use std::hash::{BuildHasher, RandomState};

use rdkafka::Message;
use rdkafka::message::OwnedMessage;
use tokio::sync::mpsc::{self, Sender};

use super::hand_written::{self, HandOn, Shared};
use crate::measure::{Failure, Job, Sample};

/// Records that may wait for one worker.
const QUEUE: usize = 128;

pub(super) fn run(job: &Job) -> Result<Sample, Failure> {
    let count = job.lanes.max(1);
    hand_written::run(job, format!("{count} workers"), |shared| {
        let lanes = (0..count).map(|_| lane(shared.clone())).collect();
        Lanes {
            lanes,
            hash: RandomState::new(),
            next: 0,
        }
    })
}

struct Lanes {
    lanes: Vec<Sender<OwnedMessage>>,
    hash: RandomState,
    next: usize,
}

impl HandOn for Lanes {
    async fn hand_on(&mut self, message: OwnedMessage) {
        let lane = match message.key() {
            Some(key) => self.hash.hash_one(key) as usize,
            // Null keys have no order: in turn.
            None => {
                self.next = self.next.wrapping_add(1);
                self.next
            }
        };
        // The workers end with the runtime, after the reader.
        let _ = self.lanes[lane % self.lanes.len()].send(message).await;
    }
}

fn lane(shared: Shared) -> Sender<OwnedMessage> {
    let (sender, mut receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        while let Some(message) = receiver.recv().await {
            shared.process(message).await;
        }
    });
    sender
}
