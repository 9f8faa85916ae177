//! Waits until the broker has the commits of all that was done.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::measure::{Failure, Job, Run, Sample};

const PATIENCE: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(20);
const REQUEST: Duration = Duration::from_secs(5);

/// Adds to a complete sample when everything was committed; to be called while the consumer still
/// runs. `between` is called again and again: a consumer that commits in its poll loop polls there.
pub(super) fn note(
    job: &Job,
    run: &Run,
    sample: &mut Sample,
    mut between: impl FnMut(),
) -> Result<(), Failure> {
    if !sample.complete || job.needed < job.records {
        return Ok(());
    }
    let asked: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &job.bootstrap_servers)
        .set("group.id", &job.group)
        .create()?;
    let mut list = TopicPartitionList::new();
    list.add_partition_range(&job.topic, 0, job.partitions - 1);
    let all = i64::try_from(job.records + job.primers)?;
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let committed = asked.committed_offsets(list.clone(), REQUEST)?;
        let sum: i64 = committed
            .elements()
            .iter()
            .map(|element| match element.offset() {
                Offset::Offset(offset) => offset,
                _ => 0,
            })
            .sum();
        // Every topic is new: its offsets start at 0.
        if sum >= all {
            sample.committed_seconds = Some(run.since_first().as_secs_f64());
            return Ok(());
        }
        between();
        std::thread::sleep(PAUSE);
    }
    Ok(())
}
