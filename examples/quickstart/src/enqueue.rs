//! Writes the planned events to the topic.

use std::collections::BTreeSet;
use std::time::Duration;

use keylane::{NewTask, TaskProducer};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::dead_letters::EVENT_HEADER;
use crate::plan::{Fate, Plan};
use crate::tally::Tally;

/// Enough to fill the producer's batches, few enough that Ctrl-C takes effect at once.
const BATCH: usize = 500;

/// What the broker said about the first events of the plan, in order.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) answers: Vec<Result<Place, String>>,
}

/// Where the broker put a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) partition: i32,
    /// Negative in the rare case that the broker reports a duplicate without an offset.
    pub(crate) offset: i64,
}

impl Written {
    /// The partitions that were written to.
    pub(crate) fn partitions(&self) -> BTreeSet<i32> {
        self.answers
            .iter()
            .flatten()
            .map(|place| place.partition)
            .collect()
    }
}

/// Enqueues all events, or those until it is stopped or the broker refuses one: at a fixed rate, or
/// as fast as the broker takes them.
pub(crate) async fn enqueue(
    producer: &TaskProducer,
    plan: &Plan,
    rate: Option<u32>,
    tally: &Tally,
    stop: &CancellationToken,
) -> Written {
    let mut written = Written::default();
    let (size, mut turns) = rate.map_or((BATCH, None), paced);
    while written.answers.len() < plan.events().len() && !stop.is_cancelled() {
        if let Some(turns) = &mut turns {
            tokio::select! {
                _ = turns.tick() => {}
                () = stop.cancelled() => break,
            }
        }
        let first = written.answers.len();
        let batch = first..plan.events().len().min(first + size);
        // One answer per task, in the same order. The tasks of a batch are queued in order, so
        // those of one vehicle are.
        for answer in producer
            .enqueue_all(batch.map(|index| task(plan, index)))
            .await
        {
            written.answers.push(match answer {
                Ok(enqueued) => Ok(Place {
                    partition: enqueued.partition,
                    offset: enqueued.offset,
                }),
                Err(error) => Err(error.to_string()),
            });
        }
        let acknowledged = written.answers[first..]
            .iter()
            .filter(|answer| answer.is_ok())
            .count();
        tally.count_enqueued(acknowledged as u64);
        if acknowledged < written.answers.len() - first {
            break;
        }
    }
    written
}

/// About ten batches a second, or as many more as it takes.
fn paced(rate: u32) -> (usize, Option<Interval>) {
    let size = (rate as usize).div_ceil(10).min(BATCH);
    let mut turns = interval(Duration::from_secs_f64(size as f64 / f64::from(rate)));
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    (size, Some(turns))
}

fn task(plan: &Plan, index: usize) -> NewTask {
    let task = match plan.events()[index].fate {
        // What a broken line leaves of an event is no event, so its bytes go out as they are.
        Fate::Undecodable => NewTask::new(plan.value(index)),
        _ => NewTask::json(&plan.event(index)).expect("strings and numbers serialize"),
    };
    task.key(plan.key(index).to_owned())
        .header(EVENT_HEADER, format!("{}/{index}", plan.run()))
}
