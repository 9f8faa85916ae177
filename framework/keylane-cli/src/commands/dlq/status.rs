//! `keylane dlq status`: the redrives of a group.

use keylane::redrive::ops::{TaskState, TaskStatus};
use serde_json::Value;

use super::super::Report;
use super::ops;
use crate::arguments::StatusArguments;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::output::{Cell, Table};

const COLUMNS: &[&str] = &[
    "group",
    "task",
    "topic",
    "state",
    "done",
    "of",
    "gone",
    "refused",
    "by",
    "started",
    "last_progress",
    "ended",
];

const COLUMNS_OF_ONE: &[&str] = &[
    "group",
    "task",
    "topic",
    "state",
    "reason",
    "done",
    "of",
    "gone",
    "refused",
    "matched",
    "handled_before",
    "refused_at_start",
    "filter",
    "targets",
    "window",
    "rate",
    "max",
    "canary",
    "max_count",
    "edit",
    "by",
    "why",
    "host",
    "started",
    "last_progress",
    "ended",
    "cancel",
];

pub(super) fn run(connection: &Connection, arguments: &StatusArguments) -> Result<Report, Failure> {
    let groups = match &arguments.group {
        Some(group) => vec![group.clone()],
        None => ops::groups(connection)?,
    };
    if let (Some(id), [group]) = (&arguments.task, &groups[..]) {
        return one(connection, group, id);
    }
    let mut missing = Vec::new();
    let mut rows = Vec::new();
    for group in &groups {
        let (state, unread) = ops::state(connection, group)?;
        missing.extend(unread);
        rows.extend(
            state
                .tasks()
                .map(|task| (task.record.started, row(&task, COLUMNS))),
        );
    }
    // The last one that was started comes first.
    rows.sort_by(|(one, _), (other, _)| other.cmp(one));
    let mut notes = Vec::new();
    if rows.is_empty() {
        notes.push("note: there is no redrive, and there was none".to_owned());
    }
    let mut table = Table::new(COLUMNS);
    rows.into_iter().for_each(|(_, row)| table.push(row));
    Ok(Report {
        notes,
        missing,
        ..table.into()
    })
}

fn one(connection: &Connection, group: &str, id: &str) -> Result<Report, Failure> {
    let (state, missing) = ops::state(connection, group)?;
    let task = state
        .task(id)
        .ok_or_else(|| Failure::Refused(format!("group {group} has no redrive {id}")))?;
    let table = Table::of_one(COLUMNS_OF_ONE, row(&task, COLUMNS_OF_ONE));
    Ok(Report {
        missing,
        ..table.into()
    })
}

/// Its report, as these columns: the names are those of the report's fields.
fn row(task: &TaskStatus<'_>, columns: &[&str]) -> Vec<Cell> {
    let report = serde_json::to_value(task.report()).unwrap_or_default();
    let is_to_end = task.record.state == TaskState::Running && task.cancel.is_some();
    let cell = |name: &&str| {
        debug_assert!(report.get(*name).is_some(), "a report has no {name}");
        let value = report[*name].clone();
        match (*name, &value) {
            ("state", Value::String(_)) if is_to_end => Cell::said("running, is to end", value),
            ("canary", Value::Object(it)) => {
                let words = format!("{} copies, {} percent", it["copies"], it["percent"]);
                Cell::said(words, value)
            }
            ("cancel", Value::Object(it)) => {
                let text = |name| it.get(name).and_then(Value::as_str).unwrap_or_default();
                Cell::said(format!("by {}: {}", text("by"), text("why")), value)
            }
            ("targets", Value::Array(it)) => {
                let topics: Vec<_> = it.iter().filter_map(Value::as_str).collect();
                Cell::said(topics.join(", "), value)
            }
            _ => Cell::of(value),
        }
    };
    columns.iter().map(cell).collect()
}

pub(super) fn in_a_word(state: TaskState) -> String {
    match serde_json::to_value(state) {
        Ok(Value::String(word)) => word,
        _ => "unknown".to_owned(),
    }
}
