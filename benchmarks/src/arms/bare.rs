//! A consumer loop as everybody writes it first: no key order beyond the partition's, one record at a time.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message};

use super::Job;
use crate::Failure;
use crate::sample::{Sample, Watch};

pub(super) enum Settings {
    Default,
    Tuned,
}

#[derive(PartialEq, Eq)]
pub(super) enum Copy {
    No,
    Yes,
}

pub(super) fn run(job: &Job, settings: Settings, copy: Copy) -> Result<Sample, Failure> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &job.bootstrap_servers)
        .set("group.id", &job.group)
        .set("auto.offset.reset", "earliest")
        .set("partition.assignment.strategy", "cooperative-sticky");
    if matches!(settings, Settings::Tuned) {
        config.set("queued.min.messages", "5000").set("fetch.queue.backoff.ms", "5");
    }
    let mut watch = Watch::start();
    let consumer: BaseConsumer = config.create()?;
    consumer.subscribe(&[&job.topic])?;
    let mut done = 0;
    while done < job.job_records {
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        let message = message?;
        watch.first_record(Instant::now());
        if copy == Copy::Yes {
            let (key, value) = (message.key().unwrap_or_default(), message.payload().unwrap_or_default());
            let mut bytes = Vec::with_capacity(key.len() + value.len());
            bytes.extend_from_slice(key);
            bytes.extend_from_slice(value);
            black_box(Bytes::from(bytes));
        } else {
            black_box(message.payload());
        }
        done += 1;
    }
    Ok(watch.finish(job.job_records))
}
