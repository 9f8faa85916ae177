//! A consumer loop as everybody writes it first: no key order beyond the partition's, one record at
//! a time.

use std::time::Duration;

use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::{Copy, committed, settings};
use crate::measure::{Failure, Job, Outcome, RETRY_DELAY, Run, Sample, Seen};

pub(super) enum Settings {
    Default,
    Tuned,
}

pub(super) fn run(job: &Job, settings: Settings, copy: Copy) -> Result<Sample, Failure> {
    let config = match settings {
        Settings::Default => settings::default(job),
        Settings::Tuned => settings::tuned(job),
    };
    let run = Run::start(job);
    let consumer: BaseConsumer = config.create()?;
    consumer.subscribe(&[&job.topic])?;
    let mut until_look = 0;
    while !run.observer.is_over() {
        if until_look == 0 {
            run.observer.look_at_clock();
            until_look = super::batch::RECORDS_PER_LOOK;
        }
        until_look -= 1;
        let Some(message) = consumer.poll(Duration::from_millis(100)) else {
            continue;
        };
        let message = message?;
        copy.of(message.key(), message.payload());
        let seen = Seen::new(
            message.partition(),
            message.offset(),
            message.key(),
            message.payload(),
        );
        process(&run, seen);
    }
    let mut sample = run.sample(job, "1");
    committed::note(job, &run, &mut sample, || {
        drop(consumer.poll(Duration::ZERO))
    })?;
    Ok(sample)
}

/// One record, with its retries.
pub(super) fn process(run: &Run, seen: Seen) {
    let mut attempt = 1;
    while run.observer.attempt_blocking(seen.attempt(attempt)) == Outcome::Failed {
        std::thread::sleep(RETRY_DELAY);
        attempt += 1;
    }
}
