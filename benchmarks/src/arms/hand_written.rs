//! What the two hand-written consumers share: a `StreamConsumer`, watermarks, and a task that
//! stores them for the commit.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rdkafka::Message;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::message::OwnedMessage;

use super::watermarks::Watermarks;
use super::{committed, settings};
use crate::measure::{Failure, Job, Observer, Outcome, RETRY_DELAY, Run, Sample, Seen};

const STORE_INTERVAL: Duration = Duration::from_millis(500);

/// What a record's task needs.
#[derive(Clone)]
pub(super) struct Shared {
    observer: &'static Observer,
    watermarks: Arc<Watermarks>,
}

impl Shared {
    /// One record, with its retries.
    pub(super) async fn process(&self, message: OwnedMessage) {
        let seen = Seen::new(
            message.partition(),
            message.offset(),
            message.key(),
            message.payload(),
        );
        let mut attempt = 1;
        while self.observer.attempt(seen.attempt(attempt)).await == Outcome::Failed {
            tokio::time::sleep(RETRY_DELAY).await;
            attempt += 1;
        }
        self.watermarks.end(message.partition(), message.offset());
    }
}

/// Where a record that was read goes.
pub(super) trait HandOn: Send + 'static {
    /// Gives it to its worker, and waits while too many are in flight.
    fn hand_on(&mut self, message: OwnedMessage) -> impl Future<Output = ()> + Send;
}

/// Reads until the run is over.
pub(super) fn run<H: HandOn>(
    job: &Job,
    in_flight: String,
    start: impl FnOnce(Shared) -> H,
) -> Result<Sample, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut run = Run::start(job);
        let consumer: StreamConsumer = settings::tuned(job)
            .set("enable.auto.offset.store", "false")
            .create()?;
        consumer.subscribe(&[&job.topic])?;
        let consumer = Arc::new(consumer);
        let shared = Shared {
            observer: run.observer,
            watermarks: Arc::new(Watermarks::new(job.partitions)),
        };
        let taken = Arc::new(AtomicUsize::new(0));
        let reader = tokio::spawn(read(
            consumer.clone(),
            shared.watermarks.clone(),
            taken.clone(),
            start(shared.clone()),
        ));
        let storer = tokio::spawn(store(consumer, shared.watermarks, job.topic.clone()));
        run.over(job, || taken.load(Ordering::Relaxed)).await;
        let mut sample = run.sample(job, in_flight);
        tokio::task::block_in_place(|| committed::note(job, &run, &mut sample, || {}))?;
        reader.abort();
        storer.abort();
        Ok(sample)
    })
}

async fn read(
    consumer: Arc<StreamConsumer>,
    watermarks: Arc<Watermarks>,
    taken: Arc<AtomicUsize>,
    mut to: impl HandOn,
) {
    loop {
        let message = match consumer.recv().await {
            Ok(message) => message.detach(),
            Err(error) => {
                eprintln!("the consumer failed: {error}");
                continue;
            }
        };
        watermarks.begin(message.partition(), message.offset());
        taken.fetch_add(1, Ordering::Relaxed);
        to.hand_on(message).await;
    }
}

async fn store(consumer: Arc<StreamConsumer>, watermarks: Arc<Watermarks>, topic: String) {
    loop {
        tokio::time::sleep(STORE_INTERVAL).await;
        for (partition, next) in watermarks.moved() {
            // librdkafka adds the one itself.
            if let Err(error) = consumer.store_offset(&topic, partition, next - 1) {
                eprintln!("the offset of partition {partition} could not be stored: {error}");
            }
        }
    }
}
