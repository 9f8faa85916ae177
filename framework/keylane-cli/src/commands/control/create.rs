//! `keylane control create`.

use keylane::control::Commander;
use keylane::topics::TopicCreation;

use super::super::Report;
use crate::failure::Failure;
use crate::output::{Cell, Table};

const COLUMNS: &[&str] = &["topic", "partitions", "cleanup_policy", "created"];

pub(super) fn run(commander: &Commander, replication: Option<i32>) -> Result<Report, Failure> {
    let (operator, topic) = (commander.operator(), commander.topic());
    let created = operator.create_compacted(topic, replication.unwrap_or(-1))?;
    let created = created == TopicCreation::Created;
    // One that was there before may not be fit.
    let (partitions, policy) = match created {
        true => (1, "compact".to_owned()),
        false => {
            let settings = operator.topic_settings(topic)?;
            let policy = settings.get("cleanup.policy").cloned();
            let partitions = operator.topic(topic)?.partitions.len();
            (partitions, policy.unwrap_or_default())
        }
    };
    let mut notes = Vec::new();
    if partitions != 1 {
        notes.push(format!(
            "{topic} has {partitions} partitions, and a control topic needs one: delete it, or name another one"
        ));
    }
    if policy != "compact" {
        notes.push(format!(
            "{topic} loses orders with time: set it by kafka-configs.sh --alter --entity-type topics --entity-name \
             {topic} --add-config cleanup.policy=compact"
        ));
    }
    let has_problems = !notes.is_empty();
    let row = vec![
        Cell::text(topic),
        Cell::count(partitions as u64),
        Cell::text(policy),
        Cell::said(if created { "yes" } else { "it was there" }, created),
    ];
    Ok(Report {
        notes,
        has_problems,
        ..Table::of_one(COLUMNS, row).into()
    })
}
