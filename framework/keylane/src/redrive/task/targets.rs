//! The topics that copies go to: whether they can be used, and how many partitions they have.

use std::collections::BTreeMap;

use crate::kafka::writable_topics;
use crate::redrive::RedriveTaskError;
use crate::redrive::connection::Connection;
use crate::redrive::ops::records::{TargetPartitions, TaskRecord};

/// Copies on these topics would be dead letters, or records of tasks.
pub(super) fn check_targets<'a>(
    targets: impl IntoIterator<Item = &'a String>,
    topic: &str,
    ops_topic: &str,
) -> Result<(), RedriveTaskError> {
    for target in targets {
        let what = match target {
            it if it == topic => "it is the dead-letter topic itself",
            it if it == ops_topic => "it is the operations topic",
            _ => continue,
        };
        return Err(RedriveTaskError::Target {
            topic: target.clone(),
            reason: format!("{what}; name another one"),
        });
    }
    Ok(())
}

/// The number of partitions of each of these topics, which this client has to be allowed to write
/// to. Blocks.
pub(super) fn counts(
    connection: &Connection,
    topics: &[String],
) -> Result<BTreeMap<String, i32>, RedriveTaskError> {
    let config = connection.side_client()?;
    writable_topics(&config, topics, connection.patience)
        .map_err(|(topic, reason)| RedriveTaskError::Target { topic, reason })
}

/// What a task stores of its targets. Those without a turn get no copy.
pub(super) fn at_beginning(
    counts: &BTreeMap<String, i32>,
    last_turns: &BTreeMap<String, u64>,
) -> Vec<TargetPartitions> {
    let target = |(topic, last_turn): (&String, &u64)| {
        let count = *counts.get(topic)?;
        Some(TargetPartitions {
            topic: topic.clone(),
            count,
            last_turn: *last_turn,
        })
    };
    last_turns.iter().filter_map(target).collect()
}

/// The partitions that copies go to, by target, once these turns are done. A target that gets no more
/// copies is not looked at: it may be gone by now.
pub(super) fn left(
    connection: &Connection,
    record: &TaskRecord,
    done: u64,
) -> Result<BTreeMap<String, i32>, RedriveTaskError> {
    if record.partitions.is_empty() {
        // An earlier version began it.
        return counts(connection, &record.targets);
    }
    let left: Vec<_> = (record.partitions.iter())
        .filter(|target| target.last_turn >= done)
        .collect();
    let names: Vec<_> = left.iter().map(|target| target.topic.clone()).collect();
    let there = counts(connection, &names)?;
    left.into_iter().map(|it| kept(it, &there)).collect()
}

/// The number of partitions that the target had at the beginning, where it still has them.
fn kept(
    target: &TargetPartitions,
    there: &BTreeMap<String, i32>,
) -> Result<(String, i32), RedriveTaskError> {
    let (topic, count) = (target.topic.clone(), target.count);
    match there.get(&topic) {
        Some(now) if *now < count => Err(RedriveTaskError::Target {
            reason: format!(
                "it had {count} partitions when the redrive began, and has {now} now, so it was re-created; begin \
                 another redrive by `take_over`"
            ),
            topic,
        }),
        _ => Ok((topic, count)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_goes_on_with_the_partitions_that_it_began_with_where_they_are_there() {
        let target: TargetPartitions = ("retry".to_owned(), 4, 59).into();
        let with = |now| kept(&target, &[("retry".to_owned(), now)].into());
        assert_eq!(with(4), Ok(("retry".to_owned(), 4)));
        assert_eq!(with(9), Ok(("retry".to_owned(), 4)), "it has grown");
        let error = with(3).unwrap_err().to_string();
        assert!(error.contains("had 4 partitions"), "{error}");
    }
}
